"""System 2: a vision transformer on CIFAR-100.

    python scripts/train.py vit_cifar100 --data DIR

Published ("Image classification with Vision Transformer", Keras examples), 100 epochs: test top-1 55.14 % (rerun
54.97), top-5 81.86 % (81.91). The author's AdamW subtracts weight_decay · w each step without multiplying by the
learning rate, hence decay "unscaled". The full training has not been run here; a reduced one (`results/README.md` has
its command, `results/vit_cifar100-reduced` its history) reached 29.51 % top-1 and 60.33 % top-5 on the test split of
CIFAR-100 (JPEG, quality 95) after 25 epochs on 2 cores of an AMD EPYC, no GPU.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from loops.data.dataset import Sizes
from loops.recipes.recipe import Recipe
from tfcore.models.vit import VisionTransformer, VisionTransformerConfig
from tfcore.optimizers.config import AdamWConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class VitRecipe(Recipe):
    """The vision transformer."""

    model: VisionTransformerConfig

    def build_model(self, key: tf.Tensor, sizes: Sizes) -> VisionTransformer:
        return VisionTransformer(self.model, key=key, classes=sizes.classes, dtype=self.compute_dtype)

    def fit_statistics(self, model: VisionTransformer, inputs: np.ndarray) -> None:
        model.tokens.normalization.fit(inputs)


VIT_CIFAR100 = VitRecipe(
    name="vit_cifar100",
    dataset="cifar100",
    epochs=100,
    batch_size=256,
    validation=0.1,
    pixel_scale=1.0,
    top_k=5,
    model=VisionTransformerConfig(),
    optimizer=AdamWConfig(weight_decay=1e-4, decay="unscaled"),
)
