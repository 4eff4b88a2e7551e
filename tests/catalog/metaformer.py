"""Entries of the MetaFormer and of its channel network, beside the same networks made of Keras's layers."""

import keras
import numpy as np

from tests.catalog.entry import Case, Entry, random_array
from tests.catalog.models import training_case
from tests.catalog.twins import KerasInvolution, pair_variables
from tests.support.build import build
from tfcore import random
from tfcore.layers.feedforward import ChannelMlp
from tfcore.models.metaformer import MetaFormer, MetaFormerBlock

BATCH, STEPS, SIDE = 5, 10, 12
SIZES = {
    "widths": (6, 10, 10),
    "blocks": (1, 1, 1),
    "mlp_widths": (7, 11, 11),
    "kernel_sizes": (3, 5, 3),
    "groups": (3, 5, 2),
    "bottlenecks": (2, 3, 1),
}


class KerasMetaFormer(keras.Model):
    """Stem, stages of x + mlp(mixer(batch norm x)) with one network for all blocks of equal width, head."""

    def __init__(self, mean, variance, mixer, dtype):
        super().__init__(dtype=dtype)
        self.mean, self.deviation = mean, np.sqrt(variance)
        conv = {"use_bias": False, "padding": "same", "dtype": dtype}
        self.stem = keras.layers.Conv2D(6, 3, **conv)
        self.projection = keras.layers.Conv2D(10, 1, **conv)
        self.pool = keras.layers.AveragePooling2D(2, dtype=dtype)
        self.mlps = {width: self._mlp(width, hidden, dtype) for width, hidden in ((6, 7), (10, 11))}
        self.parts = [self._block(i, mixer, dtype) for i in (0, 1, 2)]
        self.norm = keras.layers.BatchNormalization(dtype=dtype)
        self.mean_pool = keras.layers.GlobalAveragePooling2D(dtype=dtype)
        self.logits = keras.layers.Dense(7, dtype=dtype)

    @staticmethod
    def _mlp(width, hidden, dtype):
        return [
            keras.layers.Dense(hidden, activation="relu", dtype=dtype),
            keras.layers.Dense(width, use_bias=False, dtype=dtype),
        ]

    @staticmethod
    def _block(stage, mixer, dtype):
        norm, size = keras.layers.BatchNormalization(dtype=dtype), SIZES["kernel_sizes"][stage]
        if mixer == "none":
            return [norm]
        if mixer == "depthwise":
            return [norm, keras.layers.DepthwiseConv2D(size, padding="same", dtype=dtype)]
        width, bottleneck = SIZES["widths"][stage], SIZES["bottlenecks"][stage]
        groups = SIZES["groups"][stage]
        return [norm, KerasInvolution(width, bottleneck, groups, size, 1, 1, batch_norm=False, dtype=dtype)]

    def call(self, images, training=False):
        x = self.stem((images - self.mean) / self.deviation)
        for stage, (norm, *mixers) in zip((0, 1, 2), self.parts, strict=True):
            if (stage, x.shape[1]) in ((1, SIDE), (2, SIDE // 2)):
                x = self.pool(x)
                x = self.projection(x) if stage == 1 else x
            y = norm(x, training=training)
            for mixer in mixers:
                y = mixer(y)
                y = y[0] if isinstance(y, tuple) else y
            hidden, output = self.mlps[x.shape[-1]]
            x = x + output(hidden(y))
        return self.logits(self.mean_pool(keras.ops.relu(self.norm(x, training=training))))


def _model(dtype, mixer):
    rng = np.random.default_rng(0)
    images = (255 * rng.random((BATCH * STEPS, SIDE, SIDE, 3))).astype(dtype.as_numpy_dtype)
    labels = rng.integers(0, 7, len(images)).astype(np.int32)
    own = ("groups", "bottlenecks")
    unused = {"involution": (), "depthwise": own, "none": (*own, "kernel_sizes")}[mixer]
    sizes = {name: value for name, value in SIZES.items() if name not in unused}
    model = build(MetaFormer, **sizes, mixer=mixer, key=random.make_key(1), image_size=SIDE, classes=7, dtype=dtype)
    model.normalization.fit(images)
    for i, (path, variable) in enumerate(model.named_trainable_variables().items()):
        if path.endswith(("gamma", "beta", "bias")):  # their starting values would hide a swapped pair
            variable.assign_add(0.1 * random_array(tuple(variable.shape), dtype, seed=10 + i))
    mean, variance = (value.numpy() for value in model.normalization.variables)
    twin = KerasMetaFormer(mean, variance, mixer, dtype.name)
    twin(images[:1])  # builds it
    return training_case(model, twin, images, labels, dtype, steps=STEPS)


def _channel_mlp(dtype):
    layer = ChannelMlp(channels=7, hidden=13, key=random.make_key(3), dtype=dtype)
    layer.hidden.bias.assign(random_array((13,), dtype, seed=1))
    twin = keras.Sequential(
        [
            keras.Input((None, None, 7), dtype=dtype.name),
            keras.layers.Dense(13, activation="relu", dtype=dtype.name),
            keras.layers.Dense(7, use_bias=False, dtype=dtype.name),
        ]
    )
    x = random_array((2, 11, 5, 7), dtype)
    return Case(layer, twin, (x,), list(pair_variables(layer, twin).values()))


ENTRIES = [
    Entry("layers.ChannelMlp", (ChannelMlp,), _channel_mlp),
    *(
        Entry(f"models.MetaFormer {mixer}", (MetaFormer, MetaFormerBlock), lambda d, m=mixer: _model(d, m))
        for mixer in ("involution", "depthwise", "none")
    ),
]
