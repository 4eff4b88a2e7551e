"""System 1: an involution network against a convolution network on CIFAR-10.

    python scripts/train.py convnet_cifar10 --data DIR
    python scripts/train.py inn_cifar10 --data DIR --seed 0        (1, 2)

Published ("Involutional neural networks", Keras examples), validation accuracy after 20 epochs: ConvNet 0.7184 (rerun
0.7097), INN 0.4418 (0.4428). Measured by the commands above on CIFAR-10 (JPEG, quality 95), 2 cores of an AMD EPYC
with AVX-512, no GPU, shared with other work: ConvNet 0.7092 (best epoch 0.7285), INN 0.4245, 0.4342 and 0.4658 for
seeds 0, 1, 2 (best epochs 0.4318, 0.4351, 0.4658); the fastest epoch took 18.0 s (before max pooling was TensorFlow's
own) and 3.2 s. The histories lie in `results/`.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from loops.data.dataset import Sizes
from loops.recipes.recipe import Recipe
from tfcore.layers.mixing import MixingConfig
from tfcore.models.cnn import ConvNet, ConvNetConfig
from tfcore.models.inn import Inn, InnConfig
from tfcore.models.metaformer import MetaFormer, MetaFormerConfig
from tfcore.optimizers.config import AdamConfig, MuonConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class InnRecipe(Recipe):
    """The involution network."""

    model: InnConfig

    @property
    def variants(self) -> tuple[tuple[str, ...], ...]:
        return ("formulation=shifted",), ("formulation=patches",), ("formulation=factored",)

    def build_model(self, key: tf.Tensor, sizes: Sizes) -> Inn:
        return Inn(self.model, key=key, classes=sizes.classes, dtype=self.compute_dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNetRecipe(Recipe):
    """The convolution network."""

    model: ConvNetConfig

    def build_model(self, key: tf.Tensor, sizes: Sizes) -> ConvNet:
        return ConvNet(self.model, key=key, classes=sizes.classes, dtype=self.compute_dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaFormerRecipe(Recipe):
    """A small network whose blocks mix positions by involution."""

    model: MetaFormerConfig

    @property
    def variants(self) -> tuple[tuple[str, ...], ...]:
        if self.model.mixer != "involution":
            return ()
        return ("formulation=shifted",), ("formulation=factored",)

    def build_model(self, key: tf.Tensor, sizes: Sizes) -> MetaFormer:
        size, _, channels = sizes.input_shape
        return MetaFormer(
            self.model, key=key, image_size=size, in_channels=channels, classes=sizes.classes, dtype=self.compute_dtype
        )

    def fit_statistics(self, model: MetaFormer, inputs: np.ndarray) -> None:
        model.normalization.fit(inputs)


INN_CIFAR10 = InnRecipe(
    name="inn_cifar10", dataset="cifar10", epochs=20, batch_size=256, model=InnConfig(), optimizer=AdamConfig()
)
CONVNET_CIFAR10 = ConvNetRecipe(
    name="convnet_cifar10", dataset="cifar10", epochs=20, batch_size=256, model=ConvNetConfig(), optimizer=AdamConfig()
)
INN_CIFAR10_BEST = MetaFormerRecipe(
    name="inn_cifar10_best",
    dataset="cifar10",
    epochs=100,
    batch_size=128,
    validation=0.1,
    hold_test=True,
    pixel_scale=1.0,
    schedule="cosine",
    warmup_steps=704,  # two epochs
    average_decay=0.998,
    xla="off",
    model=MetaFormerConfig(),
    mixing=MixingConfig(crop_padding=4, mirror=True),
    optimizer=MuonConfig(learning_rate=2e-2, weight_decay=0.01),
)
