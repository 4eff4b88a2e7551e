"""Optimizers as classes: they keep the slots and the learning rate; the formulas stand in `updates.py`."""

import math
import typing

import tensorflow as tf

from tfcore.module import Module, update_scope
from tfcore.optimizers import updates


class Optimizer(Module):
    """What all optimizers share: learning rate, step count, slots, clipping and the assignment in place.

    A subclass defines `_update(gradient, theta, *slots, t, alpha) -> (Δθ, *slots)` for one parameter.

    Args:
        variables: the parameters by name; slots bear the same names.
        slots: what is kept for each parameter; each of them becomes an attribute {parameter name: variable}.
        learning_rate: step size α; kept in a variable, so that a schedule never retraces a step.
        clip_norm: greatest global norm of the gradients (`updates.clip_by_global_norm`); None leaves them as they are.

    Raises:
        ValueError: for a learning rate or clip norm that is not a positive number.
    """

    def __init__(
        self,
        variables: dict[str, tf.Variable],
        *,
        slots: tuple[str, ...],
        learning_rate: float,
        clip_norm: float | None,
    ):
        super().__init__()
        self._check("learning_rate", learning_rate, 0 < learning_rate < math.inf, "positive, such as 0.001")
        if clip_norm is not None:
            self._check("clip_norm", clip_norm, 0 < clip_norm < math.inf, "positive, such as 1.0, or None")
        self._variables = variables  # the model's, not ours: kept out of named_variables
        self.slots, self.clip_norm = slots, clip_norm
        widest = updates.widest_dtype(variables.values())
        self.learning_rate = tf.Variable(learning_rate, dtype=widest, trainable=False, name="learning_rate")
        self.iterations = tf.Variable(0, dtype=tf.int64, trainable=False, name="iterations")
        for slot in slots:
            zeros = {name: tf.zeros_like(variable) for name, variable in variables.items()}
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
        if self.clip_norm is not None:
            gradients, _ = updates.clip_by_global_norm(gradients, self.clip_norm)
        t = self.iterations + 1
        for name, variable in self._variables.items():
            slots = [getattr(self, slot)[name] for slot in self.slots]
            with update_scope(name):
                alpha = tf.cast(self.learning_rate, variable.dtype)
                delta, *values = self._update(gradients[name], variable, *slots, t=t, alpha=alpha)
                for target, value in zip((variable, *slots), (variable + delta, *values), strict=True):
                    target.assign(value if condition is None else tf.where(condition, value, target))
        self.iterations.assign(t if condition is None else tf.where(condition, t, self.iterations))

    def _update(self, gradient: tf.Tensor, theta: tf.Variable, *slots: tf.Variable, t: tf.Tensor, alpha: tf.Tensor):
        raise NotImplementedError

    def _check(self, field: str, value: object, ok: bool, wanted: str) -> None:
        if not ok:
            raise ValueError(f"{type(self).__name__}: {field} must be {wanted}, got {value!r}")


class Adam(Optimizer):
    """Adam (`updates.adam`) for a fixed set of variables; defaults as in Keras.

    Args:
        variables, learning_rate, clip_norm: as in `Optimizer`; the slots are `m` and `v`.
        beta_1, beta_2, epsilon: β₁, β₂ and ε̂.

    Raises:
        ValueError: for a learning rate, ε or clip norm that is not a positive number, or a β outside [0, 1).
    """

    def __init__(
        self,
        variables: dict[str, tf.Variable],
        *,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        clip_norm: float | None = None,
    ):
        super().__init__(variables, slots=("m", "v"), learning_rate=learning_rate, clip_norm=clip_norm)
        self._check("epsilon", epsilon, 0 < epsilon < math.inf, "positive, such as 1e-07")
        self._check("beta_1", beta_1, 0 <= beta_1 < 1, "at least 0 and below 1, such as 0.9")
        self._check("beta_2", beta_2, 0 <= beta_2 < 1, "at least 0 and below 1, such as 0.999")
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def _update(self, gradient, theta, m, v, **step):
        return updates.adam(gradient, m, v, **step, **self._constants())

    def _constants(self) -> dict[str, float]:
        return {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


class AdamW(Adam):
    """AdamW (`updates.adamw`): Adam whose weights shrink by themselves, all of them, biases included as in Keras.

    Args:
        weight_decay: λ.
        decay: "scaled" multiplies λ by the learning rate (Keras, PyTorch), "unscaled" does not (TensorFlow Addons);
            the same λ is then 1 / learning_rate times as strong.
        settings: those of `Adam`.

    Raises:
        ValueError: what `Adam` refuses; for a λ that is negative or, unscaled, not below 1; for another `decay`.
    """

    def __init__(
        self, variables: dict[str, tf.Variable], *, weight_decay: float, decay: updates.Decay = "scaled", **settings
    ):
        super().__init__(variables, **settings)
        known = typing.get_args(updates.Decay)
        self._check("decay", decay, decay in known, f"one of {', '.join(known)}")
        if decay == "scaled":
            self._check("weight_decay", weight_decay, 0 <= weight_decay < math.inf, "at least 0, such as 0.004")
        else:  # one step multiplies the weights by 1 − λ
            self._check("weight_decay", weight_decay, 0 <= weight_decay < 1, "at least 0 and below 1, such as 0.0001")
        self.weight_decay, self.decay = weight_decay, decay

    def _update(self, gradient, theta, m, v, **step):
        settings = {**self._constants(), "weight_decay": self.weight_decay, "decay": self.decay}
        return updates.adamw(gradient, theta, m, v, **step, **settings)


class Lamb(Adam):
    """LAMB (`updates.lamb`): Adam's moments, a trust ratio for each variable, the decay inside it.

    Args:
        weight_decay: λ.
        epsilon: ε beside the bias-corrected √v̂, unlike Adam's.
        settings: those of `Adam`.

    Raises:
        ValueError: what `Adam` refuses; for a λ that is negative.
    """

    def __init__(
        self, variables: dict[str, tf.Variable], *, weight_decay: float = 0.0, epsilon: float = 1e-6, **settings
    ):
        super().__init__(variables, epsilon=epsilon, **settings)
        self._check("weight_decay", weight_decay, 0 <= weight_decay < math.inf, "at least 0, such as 0.0001")
        self.weight_decay = weight_decay

    def _update(self, gradient, theta, m, v, **step):
        return updates.lamb(gradient, theta, m, v, **step, **self._constants(), weight_decay=self.weight_decay)


class Sgd(Optimizer):
    """Stochastic gradient descent (`updates.sgd`), plain or with momentum (`updates.momentum`, `updates.nesterov`).

    Args:
        variables, learning_rate, clip_norm: as in `Optimizer`; the slot is `velocity`, without momentum there is none.
        momentum: μ.
        nesterov: Nesterov's form of the momentum.

    Raises:
        ValueError: for a learning rate or clip norm that is not a positive number, a momentum outside [0, 1), or
            `nesterov` without momentum.
    """

    def __init__(
        self,
        variables: dict[str, tf.Variable],
        *,
        learning_rate: float = 1e-2,
        momentum: float = 0.0,
        nesterov: bool = False,
        clip_norm: float | None = None,
    ):
        slots = ("velocity",) if momentum else ()
        super().__init__(variables, slots=slots, learning_rate=learning_rate, clip_norm=clip_norm)
        self._check("momentum", momentum, 0 <= momentum < 1, "at least 0 and below 1, such as 0.9")
        self._check("nesterov", nesterov, momentum or not nesterov, "False without a momentum, such as 0.9")
        self.momentum, self.nesterov = momentum, nesterov

    def _update(self, gradient, theta, *velocity, t, alpha):
        delta = updates.sgd(gradient, alpha=alpha)
        if not velocity:
            return (delta,)
        rule = updates.nesterov if self.nesterov else updates.momentum
        return rule(delta, *velocity, mu=self.momentum)


class RmsProp(Optimizer):
    """RMSprop (`updates.rmsprop`, `updates.rmsprop_centered`), with or without momentum; defaults as in Keras.

    Args:
        variables, learning_rate, clip_norm: as in `Optimizer`; the slots are `mean_square`, if `centered` also `mean`,
            and with momentum also `velocity`.
        rho, epsilon: ρ and ε.
        momentum: μ.
        centered: divide by the gradient's standard deviation, not by the root of its mean square.

    Raises:
        ValueError: for a learning rate, ε or clip norm that is not a positive number, or a ρ or momentum outside
            [0, 1).
    """

    def __init__(
        self,
        variables: dict[str, tf.Variable],
        *,
        learning_rate: float = 1e-3,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        clip_norm: float | None = None,
    ):
        slots = ("mean_square", *(["mean"] if centered else []), *(["velocity"] if momentum else []))
        super().__init__(variables, slots=slots, learning_rate=learning_rate, clip_norm=clip_norm)
        self._check("rho", rho, 0 <= rho < 1, "at least 0 and below 1, such as 0.9")
        self._check("momentum", momentum, 0 <= momentum < 1, "at least 0 and below 1, such as 0.9")
        self._check("epsilon", epsilon, 0 < epsilon < math.inf, "positive, such as 1e-07")
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def _update(self, gradient, theta, *slots, t, alpha):
        rule, count = (updates.rmsprop_centered, 2) if self.centered else (updates.rmsprop, 1)
        means, velocity = slots[:count], slots[count:]
        delta, *means = rule(gradient, *means, alpha=alpha, rho=self.rho, epsilon=self.epsilon)
        if velocity:
            delta, *velocity = updates.momentum(delta, *velocity, mu=self.momentum)
        return (delta, *means, *velocity)
