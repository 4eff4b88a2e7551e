"""System 5: one convolution network on CIFAR-10, to be improved by one change at a time.

    python scripts/train.py cnn_cifar10 --data DIR
    python scripts/train.py cnn_cifar10 --data DIR --out runs/dropout --set dropout=0.5
    python scripts/study_cnn.py --data DIR

Published (a Japanese course's chapter on tuning convolution networks), last of 50 epochs: train accuracy 0.911, test
accuracy 0.726. Measured by the first command on CIFAR-10 (JPEG, quality 95), 2 cores of an AMD EPYC with AVX-512, no
GPU: 0.906 and 0.729, the fastest epoch 22.7 s (`results/cnn_cifar10-base`; the process was held up for long in epochs
23 and 42, which its seconds count). The study's other rows: `results/README.md`.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from loops.data.dataset import Sizes
from loops.recipes.recipe import Recipe
from tfcore.layers.mixing import MixingConfig
from tfcore.models.cnn import Cnn, CnnConfig
from tfcore.models.resnet import ResNet, ResNetConfig
from tfcore.ops.losses import l1_penalty, l2_penalty
from tfcore.optimizers.config import AdamConfig, MuonConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CnnRecipe(Recipe):
    """The convolution network with all that the study changes.

    `l1` and `l2` are the factors of the penalties λ Σ |w| and λ Σ w² on the kernels that `penalized` names (conv, dense
    or all).
    """

    model: CnnConfig
    l1: float = 0.0
    l2: float = 0.0
    penalized: str = "conv"

    def __post_init__(self):
        super().__post_init__()
        for name in ("l1", "l2"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, such as 0.01, got {getattr(self, name)}")
        if self.penalized not in ("conv", "dense", "all"):
            raise ValueError(f"penalized must be one of conv, dense, all, got {self.penalized!r}")
        if self.penalized != "conv" and not (self.l1 or self.l2):
            raise ValueError(f"penalized={self.penalized} says which kernels l1 and l2 act on, but both are 0: set one")

    def build_model(self, key: tf.Tensor, sizes: Sizes) -> Cnn:
        size, _, channels = sizes.input_shape
        return Cnn(
            self.model, key=key, image_size=size, channels=channels, classes=sizes.classes, dtype=self.compute_dtype
        )

    def penalty(self, model: Cnn) -> tf.Tensor | None:
        kernels = model.kernels(self.penalized)
        terms = [
            penalty(kernels, factor) for penalty, factor in ((l1_penalty, self.l1), (l2_penalty, self.l2)) if factor
        ]
        return tf.add_n(terms) if terms else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetRecipe(Recipe):
    """A residual network with fewer parameters than the published network."""

    model: ResNetConfig

    def build_model(self, key: tf.Tensor, sizes: Sizes) -> ResNet:
        return ResNet(
            self.model, key=key, in_channels=sizes.input_shape[2], classes=sizes.classes, dtype=self.compute_dtype
        )

    def fit_statistics(self, model: ResNet, inputs: np.ndarray) -> None:
        model.normalization.fit(inputs)


CNN_CIFAR10 = CnnRecipe(
    name="cnn_cifar10",
    dataset="cifar10",
    epochs=50,
    batch_size=1024,
    diagnostics=True,
    model=CnnConfig(),
    optimizer=AdamConfig(),
)
CNN_CIFAR10_BEST = ResNetRecipe(
    name="cnn_cifar10_best",
    dataset="cifar10",
    epochs=100,
    batch_size=128,
    validation=0.1,
    hold_test=True,
    pixel_scale=1.0,
    schedule="cosine",
    warmup_steps=704,  # two epochs
    label_smoothing=0.1,
    average_decay=0.998,
    precision="mixed_bfloat16",  # a fifth less time a step than float32, on an AMD EPYC with bfloat16 instructions
    xla="off",
    model=ResNetConfig(blocks=(3, 3, 4)),
    mixing=MixingConfig(crop_padding=4, mirror=True, cutout=12),
    optimizer=MuonConfig(learning_rate=5e-2, weight_decay=0.01),
)
