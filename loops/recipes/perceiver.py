"""System 3: a Perceiver on CIFAR-100.

    python scripts/train.py perceiver_cifar100 --data DIR

Published ("Image classification with Perceiver", Keras examples), 45 epochs: test top-1 52.64 %, top-5 80.87 %. Here,
on one NVIDIA H200 in mixed_bfloat16, the first 20 epochs: 44.47 % and 75.41 % on the test split of CIFAR-100 (JPEG,
quality 95), and until there the published curve (`results/perceiver_cifar100`). `results/README.md` has a command for
2 cores, too, of a reduced size.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from loops.data.dataset import Sizes
from loops.recipes.recipe import Recipe
from tfcore.models.perceiver import Perceiver, PerceiverConfig
from tfcore.optimizers.config import LambConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerceiverRecipe(Recipe):
    """The Perceiver."""

    model: PerceiverConfig

    def build_model(self, key: tf.Tensor, sizes: Sizes) -> Perceiver:
        return Perceiver(self.model, key=key, classes=sizes.classes, dtype=self.compute_dtype)

    def fit_statistics(self, model: Perceiver, inputs: np.ndarray) -> None:
        model.tokens.normalization.fit(inputs)


PERCEIVER_CIFAR100 = PerceiverRecipe(
    name="perceiver_cifar100",
    dataset="cifar100",
    epochs=50,
    batch_size=64,
    validation=0.1,
    pixel_scale=1.0,
    top_k=5,
    model=PerceiverConfig(),
    optimizer=LambConfig(weight_decay=1e-4),
    plateau_patience=3,
    stop_patience=15,
    monitor="val_loss",
)
