"""What is decided between epochs: best checkpoint, early stopping, the learning rate. Numbers in, decisions out.

The decisions equal those of Keras's callbacks on the same values. That includes three habits of theirs: values are
compared in float32 (two losses that differ in the eighth digit are a tie), a tie is no improvement, and the first
value is the best so far whatever it is, so that nothing is ever better than a NaN in the first epoch.
"""

import dataclasses
import math
from typing import Literal

import numpy as np

Mode = Literal["min", "max"]


def mode_of(metric: str) -> Mode:
    """Return whether less or more of a metric is better: "min" for losses, "max" for accuracies.

    Raises:
        ValueError: for a metric whose name ends neither in 'loss' nor in 'accuracy'.
    """
    if metric.endswith("loss"):
        return "min"
    if metric.endswith("accuracy"):
        return "max"
    raise ValueError(f"a monitored metric's name must end in loss or accuracy, such as val_accuracy, got {metric!r}")


def improves(value: float, best: float | None, *, mode: Mode, min_delta: float = 0.0) -> bool:
    """Return whether `value` is better than `best` (None: there was none yet) by more than `min_delta`, in float32."""
    if best is None:
        return True
    with np.errstate(over="ignore"):  # beyond float32 means infinite
        if mode == "min":
            return bool(np.float32(value + min_delta) < np.float32(best))
        return bool(np.float32(value - min_delta) > np.float32(best))


@dataclasses.dataclass(kw_only=True)
class _Control:
    """Options are a machine's constructor arguments; its other fields are its state."""

    mode: Mode
    best: float | None = dataclasses.field(default=None, init=False)

    def __post_init__(self):
        self._check("mode", self.mode in ("min", "max"), "'min' or 'max'")

    def state(self) -> dict[str, float | int | None]:
        """Return what changes, for a checkpoint's meta. A NaN or infinity stays one: json writes and reads them."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if not field.init}

    def load_state(self, state: dict[str, float | int | None]) -> None:
        """Go on from a `state()`.

        Raises:
            ValueError: if it is another machine's.
        """
        wanted = self.state().keys()
        if state.keys() != wanted:
            raise ValueError(f"{type(self).__name__}: the state must hold {', '.join(wanted)}, got {', '.join(state)}")
        for name, value in state.items():
            setattr(self, name, value)

    def _check(self, field: str, ok: bool, wanted: str) -> None:
        if not ok:
            raise ValueError(f"{type(self).__name__}: {field} must be {wanted}, got {getattr(self, field)!r}")

    def _check_waiting(self, patience: int, min_delta: float) -> None:
        self._check("patience", patience >= 0, "at least 0, such as 3")
        self._check("min_delta", 0 <= min_delta < math.inf, "at least 0, such as 0.0001")


@dataclasses.dataclass(kw_only=True)
class BestCheckpoint(_Control):
    """Which epoch's checkpoint to keep, as Keras's ModelCheckpoint(save_best_only=True).

    Args:
        mode: "min" or "max".

    Raises:
        ValueError: for another mode.
    """

    best_epoch: int = dataclasses.field(default=0, init=False)

    def update(self, value: float, epoch: int) -> bool:
        """Return whether to save: the value after `epoch` (counted as the caller likes) is the best so far."""
        better = improves(value, self.best, mode=self.mode)
        if better:
            self.best, self.best_epoch = value, epoch
        return better


@dataclasses.dataclass(kw_only=True)
class EarlyStopping(_Control):
    """When to stop, as Keras's EarlyStopping; which weights are the best says `BestCheckpoint`.

    Args:
        mode: "min" or "max".
        patience: stop at this many epochs in a row without improvement; 0 means the same as 1.
        min_delta: what a value must be better by.

    Raises:
        ValueError: for another mode, or a negative patience or min_delta.
    """

    patience: int
    min_delta: float = 0.0
    wait: int = dataclasses.field(default=0, init=False)  # epochs since the best

    def __post_init__(self):
        super().__post_init__()
        self._check_waiting(self.patience, self.min_delta)

    def update(self, value: float) -> None:
        """Take the value after one more epoch."""
        if improves(value, self.best, mode=self.mode, min_delta=self.min_delta):
            self.best, self.wait = value, 0
        else:
            self.wait += 1

    @property
    def stopped(self) -> bool:
        """Whether patience is at its end; part of the state, so that a stopped run does not go on when resumed."""
        return self.wait >= max(self.patience, 1)


@dataclasses.dataclass(kw_only=True)
class ReduceOnPlateau(_Control):
    """When to lower the learning rate, as Keras's ReduceLROnPlateau.

    The learning rate itself is the optimizer's, and no part of the state.

    Args:
        mode: "min" or "max".
        factor: what to multiply the learning rate by.
        patience: epochs in a row without improvement before that; 0 means the same as 1.
        min_delta: what a value must be better by.
        cooldown: epochs after a reduction in which no waiting is counted.
        min_lr: the learning rate never goes below.

    Raises:
        ValueError: for another mode, a factor outside (0, 1), or anything negative.
    """

    factor: float
    patience: int
    min_delta: float = 1e-4
    cooldown: int = 0
    min_lr: float = 0.0
    wait: int = dataclasses.field(default=0, init=False)
    cooling: int = dataclasses.field(default=0, init=False)  # epochs of cooldown left

    def __post_init__(self):
        super().__post_init__()
        self._check_waiting(self.patience, self.min_delta)
        self._check("factor", 0 < self.factor < 1, "above 0 and below 1, such as 0.2")
        self._check("cooldown", self.cooldown >= 0, "at least 0, such as 0")
        self._check("min_lr", 0 <= self.min_lr < math.inf, "at least 0, such as 1e-06")

    def update(self, value: float, learning_rate: float) -> float:
        """Return the learning rate for the next epoch, given this epoch's value and learning rate."""
        if self.cooling:
            self.cooling -= 1
        if improves(value, self.best, mode=self.mode, min_delta=self.min_delta):
            self.best, self.wait = value, 0
        elif not self.cooling:
            self.wait += 1
            # In float32, since that is how the optimizer has kept a learning rate that was set to min_lr.
            if self.wait >= self.patience and np.float32(learning_rate) > np.float32(self.min_lr):
                self.wait, self.cooling = 0, self.cooldown
                return max(learning_rate * self.factor, self.min_lr)
        return learning_rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Controls:
    """All that decides between the epochs of a run."""

    best: BestCheckpoint
    stopping: EarlyStopping | None = None
    plateau: ReduceOnPlateau | None = None

    def state(self) -> dict[str, dict]:
        """Return the states of those that are there, by name."""
        return {name: machine.state() for name, machine in self._machines().items()}

    def load_state(self, states: dict[str, dict]) -> None:
        """Go on from a `state()`."""
        for name, machine in self._machines().items():
            machine.load_state(states[name])

    def _machines(self) -> dict[str, _Control]:
        machines = {"best": self.best, "stopping": self.stopping, "plateau": self.plateau}
        return {name: machine for name, machine in machines.items() if machine is not None}


def cosine_with_warmup(step: int, *, learning_rate: float, steps: int, warmup_steps: int = 0) -> float:
    """The learning rate of update `step`, from 0: a line up to `learning_rate`, then half a cosine down to 0.

        s < w:  α·s / w        s ≥ w:  α·(1 + cos(π·(s − w)/(S − w))) / 2        s ≥ S:  0

    with α = `learning_rate`, w = `warmup_steps`, S = `steps` (Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5,
    without restarts). Equals Keras's CosineDecay(0, S − w, warmup_target=α, warmup_steps=w).

    Raises:
        ValueError: for a learning rate that is not positive, or a warm-up that is not shorter than the run.
    """
    for field, value, ok, wanted in (
        ("learning_rate", learning_rate, 0 < learning_rate < math.inf, "positive, such as 0.001"),
        ("warmup_steps", warmup_steps, 0 <= warmup_steps < steps, f"at least 0 and below steps ({steps}), such as 0"),
    ):
        if not ok:
            raise ValueError(f"cosine_with_warmup: {field} must be {wanted}, got {value!r}")
    if step < warmup_steps:
        return learning_rate * step / warmup_steps
    done = min((step - warmup_steps) / (steps - warmup_steps), 1.0)
    return learning_rate * (1.0 + math.cos(math.pi * done)) / 2.0
