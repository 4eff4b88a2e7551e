"""What each optimizer can be told: its fields and no other, each default once, as in Keras unless said otherwise."""

import dataclasses
import math
import typing
from typing import ClassVar

from tfcore.config import Config
from tfcore.optimizers.updates import Decay


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Config):
    """What all optimizers have: step size α, and the greatest global norm of the gradients (None: any).

    Raises:
        ValueError: for a learning rate or clip norm that is not a positive number.
    """

    name: ClassVar[str]
    learning_rate: float = 1e-3
    clip_norm: float | None = None

    def __post_init__(self):
        self.check("learning_rate", 0 < self.learning_rate < math.inf, "positive, such as 0.001")
        self.check(
            "clip_norm", self.clip_norm is None or 0 < self.clip_norm < math.inf, "positive, such as 1.0, or None"
        )

    def _check_share(self, field: str, example: float) -> None:
        self.check(field, 0 <= getattr(self, field) < 1, f"at least 0 and below 1, such as {example}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamConfig(OptimizerConfig):
    """β₁, β₂ and ε̂ of `updates.adam`.

    Raises:
        ValueError: for an ε that is not a positive number, or a β outside [0, 1).
    """

    name = "adam"
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    def __post_init__(self):
        super().__post_init__()
        self.check("epsilon", 0 < self.epsilon < math.inf, "positive, such as 1e-07")
        self._check_share("beta_1", 0.9)
        self._check_share("beta_2", 0.999)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamWConfig(AdamConfig):
    """λ of `updates.adamw`, and how it counts: "scaled" by the learning rate (Keras, PyTorch), or "unscaled".

    Unscaled, as in TensorFlow Addons, the same λ is 1 / learning_rate times as strong.

    Raises:
        ValueError: for a λ that is negative or, unscaled, not below 1; for another `decay`.
    """

    name = "adamw"
    weight_decay: float = 0.0
    decay: Decay = "scaled"

    def __post_init__(self):
        super().__post_init__()
        self.check_one_of("decay", typing.get_args(Decay))
        if self.decay == "scaled":
            self.check("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0, such as 0.004")
        else:  # one step multiplies the weights by 1 − λ
            self._check_share("weight_decay", 0.0001)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MuonConfig(AdamWConfig):
    """μ, iterations and `rms` of `updates.muon`, for kernels; the rest is AdamW's, for all else.

    Kernels are the variables of that name, of dense layers, convolutions and attention's projections, with more than
    one row and column, but for what lies in a module of these names: `exclude`. Embeddings, positions, biases and
    classes are left to AdamW (Jordan et al. 2024).

    Raises:
        ValueError: for a μ outside [0, 1), no iteration, an `rms` that is not positive, or decay "unscaled".
    """

    name = "muon"
    momentum: float = 0.95
    ns_steps: int = 5
    rms: float = 0.2
    exclude: tuple[str, ...] = ("logits", "encoder", "latents")

    def __post_init__(self):
        super().__post_init__()
        self._check_share("momentum", 0.95)
        self.check("ns_steps", self.ns_steps >= 1, "at least 1, such as 5")
        self.check("rms", 0 < self.rms < math.inf, "positive, such as 0.2")
        self.check("decay", self.decay == "scaled", "'scaled', as the learning rate stands in both of its rules")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LambConfig(AdamConfig):
    """λ of `updates.lamb`, and its ε, which stands beside the bias-corrected √v̂, unlike Adam's.

    Raises:
        ValueError: for a λ that is negative.
    """

    name = "lamb"
    epsilon: float = 1e-6
    weight_decay: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        self.check("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0, such as 0.0001")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SgdConfig(OptimizerConfig):
    """μ of `updates.momentum`, 0 for none, and whether it takes Nesterov's form (`updates.nesterov`).

    Raises:
        ValueError: for a momentum outside [0, 1), or `nesterov` without momentum.
    """

    name = "sgd"
    learning_rate: float = 1e-2
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self):
        super().__post_init__()
        self._check_share("momentum", 0.9)
        self.check("nesterov", self.momentum > 0 or not self.nesterov, "False without a momentum, such as 0.9")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RmsPropConfig(OptimizerConfig):
    """ρ and ε of `updates.rmsprop`, μ of its momentum.

    `centered`: divide by the gradient's standard deviation, not by the root of its mean square.

    Raises:
        ValueError: for an ε that is not a positive number, or a ρ or momentum outside [0, 1).
    """

    name = "rmsprop"
    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False

    def __post_init__(self):
        super().__post_init__()
        self._check_share("rho", 0.9)
        self._check_share("momentum", 0.9)
        self.check("epsilon", 0 < self.epsilon < math.inf, "positive, such as 1e-07")


CONFIGS: dict[str, type[OptimizerConfig]] = {
    config.name: config for config in (AdamConfig, AdamWConfig, MuonConfig, LambConfig, SgdConfig, RmsPropConfig)
}


def changed_to(name: str, config: OptimizerConfig) -> OptimizerConfig:
    """Return the config of the optimizer `name` with what it has in common with `config`, the rest by default.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in CONFIGS:
        raise ValueError(f"optimizer must be one of {', '.join(CONFIGS)}, got {name!r}")
    if name == config.name:
        return config
    other = CONFIGS[name]
    own = {field.name for field in dataclasses.fields(other)}
    return other(**{field: value for field, value in dataclasses.asdict(config).items() if field in own})


def users_of(field: str) -> list[str]:
    """Return the names of the optimizers that have a field."""
    return [name for name, config in CONFIGS.items() if any(own.name == field for own in dataclasses.fields(config))]
