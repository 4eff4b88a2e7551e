"""Small data sets and recipes for tests of the loop and the scripts: seconds, not minutes."""

import dataclasses

import numpy as np

from loops.data import sample
from loops.data.dataset import Dataset, Split

# Small enough to be traced in a second; the sizes change no dtype.
TINY = {
    "convnet_cifar10": ["filters=2,3,5", "units=7"],
    "inn_cifar10": ["units=7"],
    "inn_cifar10_best": [
        *("widths=4,6", "blocks=1,2", "mlp_widths=5,7", "kernel_sizes=3,3", "groups=2,3", "bottlenecks=1,2"),
        "hold_test=false",
    ],
    "cnn_cifar10_best": [
        *("widths=4,6", "blocks=1,1"),
        "hold_test=false",
    ],
    "vit_cifar100_best": [
        *("image_size=12", "stem_filters=5", "width=6", "blocks=1", "key_dim=3", "mlp_width=7"),
        "hold_test=false",
    ],
    "vit_cifar100_best_large": [
        *("image_size=12", "width=6", "blocks=1", "heads=2", "key_dim=3", "mlp_width=7"),
        *("xla=off", "batch_size=32", "hold_test=false"),
    ],
    "transformer_series_best": [
        *("kernels=3,5", "stem_filters=3", "filters=5,6", "heads=2", "mlp_width=7"),
        "hold_test=false",
    ],
    "vit_cifar100": ["image_size=12", "width=6", "blocks=1", "heads=2", "mlp_width=5", "head_units=7"],
    "perceiver_cifar100": ["image_size=12", "width=6", "latents=5", "blocks=1", "heads=2"],
    "transformer_forda": ["blocks=1", "key_dim=3", "head_units=7"],
    "transformer_forda_mended": ["width=6", "blocks=1", "heads=2"],
    "mlp_forda": ["head_units=7"],
    "cnn_cifar10": ["filters=2,3,5", "units=7", "batch_norm=after", "activation=prelu", "prelu_axis=all", "l2=0.1"],
}
HALVES = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


def tiny_dataset(train: int = 70, test: int = 23) -> Dataset:
    """The sample set of ten kinds, `shortened`."""
    return shortened(sample.images(10), train, test)


def shortened(whole: Dataset, train: int = 70, test: int = 23) -> Dataset:
    """A set cut short; 70 and 23 leave a smaller last batch for every batch size used in tests."""
    return dataclasses.replace(whole, train=_first(whole.train, train), test=_first(whole.test, test))


def _first(split: Split, count: int) -> Split:
    return Split(np.ascontiguousarray(split.inputs[:count]), split.labels[:count])
