"""Optimizers as classes: they keep the slots and the learning rate; the formulas stand in `updates.py`."""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfcore.module import Module, update_scope
from tfcore.optimizers import updates
from tfcore.optimizers.config import (
    AdamConfig,
    AdamWConfig,
    LambConfig,
    MuonConfig,
    OptimizerConfig,
    RmsPropConfig,
    SgdConfig,
)

HEADWISE = {"query", "key", "value"}  # attention's projections (D, N, d) to N heads: matrices of D rows, N·d columns


class Optimizer(Module):
    """What all optimizers share: learning rate, step count, slots, clipping and the assignment in place.

    A subclass defines `_update(gradient, theta, *slots, t, alpha) -> (Δθ, *slots)` for one parameter.

    Args:
        variables: the parameters by name; slots bear the same names.
        config: its learning rate is kept in a variable, so that a schedule never retraces a step.
        slots: what is kept for each parameter; each of them becomes an attribute {parameter name: variable}.
    """

    def __init__(self, variables: dict[str, tf.Variable], config: OptimizerConfig, *, slots: tuple[str, ...]):
        super().__init__()
        self._variables = variables  # the model's, not ours: kept out of named_variables
        self.config, self.slots = config, slots
        widest = updates.widest_dtype(variables.values())
        self.learning_rate = tf.Variable(config.learning_rate, dtype=widest, trainable=False, name="learning_rate")
        self.iterations = tf.Variable(0, dtype=tf.int64, trainable=False, name="iterations")
        for slot in slots:
            zeros = {name: tf.zeros_like(variable) for name, variable in variables.items() if self._needs(slot, name)}
            setattr(self, slot, {name: tf.Variable(zero, trainable=False, name=slot) for name, zero in zeros.items()})

    def apply(self, gradients: dict[str, tf.Tensor], *, condition: tf.Tensor | None = None) -> None:
        """Update every variable by its gradient of the same name, in place.

        `condition` () bool: where it is False, variables and slots stay as they are (a step that loss scaling skips).

        Raises:
            ValueError: if the gradients' names are not exactly the variables'.
        """
        if gradients.keys() != self._variables.keys():
            differ = ", ".join(sorted(self._variables.keys() ^ gradients.keys()))
            raise ValueError(
                f"{type(self).__name__}: a gradient for each variable and no other, but these differ: {differ}"
            )
        gradients = {name: tf.cast(gradients[name], variable.dtype) for name, variable in self._variables.items()}
        if self.config.clip_norm is not None:
            gradients, _ = updates.clip_by_global_norm(gradients, self.config.clip_norm)
        t = self.iterations + 1
        for name, variable in self._variables.items():
            slots = [getattr(self, slot)[name] for slot in self.slots if self._needs(slot, name)]
            with update_scope(name):
                alpha = tf.cast(self.learning_rate, variable.dtype)
                delta, *values = self._update(gradients[name], variable, *slots, t=t, alpha=alpha)
                for target, value in zip((variable, *slots), (variable + delta, *values), strict=True):
                    target.assign(value if condition is None else tf.where(condition, value, target))
        self.iterations.assign(t if condition is None else tf.where(condition, t, self.iterations))

    def _needs(self, slot: str, name: str) -> bool:
        """Whether the parameter of a name has this slot: all of them, unless a subclass says otherwise."""
        return True

    def _update(self, *parameter: Any, **step: Any) -> Any:
        raise NotImplementedError


class Adam(Optimizer):
    """Adam (`updates.adam`) for a fixed set of variables; the slots are `m` and `v`."""

    config: AdamConfig

    def __init__(self, variables: dict[str, tf.Variable], config: AdamConfig):
        super().__init__(variables, config, slots=("m", "v"))

    def _update(self, gradient, theta, m, v, **step):
        return updates.adam(gradient, m, v, **step, **self._constants())

    def _constants(self) -> dict[str, float]:
        return {"beta_1": self.config.beta_1, "beta_2": self.config.beta_2, "epsilon": self.config.epsilon}


class AdamW(Adam):
    """AdamW (`updates.adamw`): Adam whose weights shrink by themselves, all of them, biases included as in Keras."""

    config: AdamWConfig

    def __init__(self, variables: dict[str, tf.Variable], config: AdamWConfig):
        super().__init__(variables, config)

    def _update(self, gradient, theta, m, v, **step):
        weight_decay, decay = self.config.weight_decay, self.config.decay
        return updates.adamw(gradient, theta, m, v, **step, **self._constants(), weight_decay=weight_decay, decay=decay)


class Muon(AdamW):
    """Muon (`updates.muon`) for kernels, with AdamW's decay; AdamW for all else. A kernel has the slot `m` alone.

    Which variables are kernels says `MuonConfig`. `kernels`: of each, by name, how many axes are its matrix's rows.
    """

    config: MuonConfig

    def __init__(self, variables: dict[str, tf.Variable], config: MuonConfig):
        self.kernels: dict[str, int] = {}
        for name, variable in variables.items():
            parts, shape = name.split("/"), variable.shape
            rows = 1 if shape.rank == 3 and HEADWISE & set(parts) else shape.rank - 1
            sizes = math.prod(shape[:rows]), math.prod(shape[rows:])
            if parts[-1] == "kernel" and min(sizes) > 1 and not set(parts) & set(config.exclude):
                self.kernels[name] = rows
        self._row_axes = {variables[name].ref(): rows for name, rows in self.kernels.items()}
        super().__init__(variables, config)

    def _needs(self, slot: str, name: str) -> bool:
        return slot == "m" or name not in self.kernels

    def _update(self, gradient, theta, m, v=None, **step):
        if v is not None:
            return super()._update(gradient, theta, m, v, **step)
        config, alpha = self.config, step["alpha"]
        delta, m = updates.muon(
            gradient,
            m,
            alpha=alpha,
            mu=config.momentum,
            iterations=config.ns_steps,
            rms=config.rms,
            row_axes=self._row_axes[theta.ref()],
        )
        return delta - alpha * config.weight_decay * theta, m


class Lamb(Adam):
    """LAMB (`updates.lamb`): Adam's moments, a trust ratio for each variable, the decay inside it."""

    config: LambConfig

    def __init__(self, variables: dict[str, tf.Variable], config: LambConfig):
        super().__init__(variables, config)

    def _update(self, gradient, theta, m, v, **step):
        return updates.lamb(gradient, theta, m, v, **step, **self._constants(), weight_decay=self.config.weight_decay)


class Sgd(Optimizer):
    """Stochastic gradient descent (`updates.sgd`), plain or with momentum (`updates.momentum`, `updates.nesterov`).

    The slot is `velocity`; without momentum there is none.
    """

    config: SgdConfig

    def __init__(self, variables: dict[str, tf.Variable], config: SgdConfig):
        super().__init__(variables, config, slots=("velocity",) if config.momentum else ())

    def _update(self, gradient, theta, *velocity, t, alpha):
        delta = updates.sgd(gradient, alpha=alpha)
        if not velocity:
            return (delta,)
        rule = updates.nesterov if self.config.nesterov else updates.momentum
        return rule(delta, *velocity, mu=self.config.momentum)


class RmsProp(Optimizer):
    """RMSprop (`updates.rmsprop`, `updates.rmsprop_centered`), with or without momentum.

    The slots are `mean_square`, if centered also `mean`, and with momentum also `velocity`.
    """

    config: RmsPropConfig

    def __init__(self, variables: dict[str, tf.Variable], config: RmsPropConfig):
        mean, velocity = ["mean"] if config.centered else [], ["velocity"] if config.momentum else []
        super().__init__(variables, config, slots=("mean_square", *mean, *velocity))

    def _update(self, gradient, theta, *slots, t, alpha):
        config = self.config
        rule, count = (updates.rmsprop_centered, 2) if config.centered else (updates.rmsprop, 1)
        means, velocity = list(slots[:count]), list(slots[count:])
        delta, *means = rule(gradient, *means, alpha=alpha, rho=config.rho, epsilon=config.epsilon)
        if velocity:
            delta, *velocity = updates.momentum(delta, *velocity, mu=config.momentum)
        return (delta, *means, *velocity)


_CLASSES: dict[type[OptimizerConfig], Callable[[dict[str, tf.Variable], Any], Optimizer]] = {
    AdamConfig: Adam,
    AdamWConfig: AdamW,
    MuonConfig: Muon,
    LambConfig: Lamb,
    SgdConfig: Sgd,
    RmsPropConfig: RmsProp,
}


def make_optimizer(variables: dict[str, tf.Variable], config: OptimizerConfig) -> Optimizer:
    """Return the optimizer that a config describes, for these variables."""
    return _CLASSES[type(config)](variables, config)
