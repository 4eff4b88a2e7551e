"""Two convolution networks: the one beside system 1's involution network, and the one that system 5 improves."""

import dataclasses

import tensorflow as tf

from tfcore import initializers, random
from tfcore.config import Config
from tfcore.layers.activation import FUNCTIONS, Activation, PRelu
from tfcore.layers.conv import Conv2D
from tfcore.layers.dense import Dense
from tfcore.layers.dropout import Dropout
from tfcore.layers.normalization import BatchNorm
from tfcore.module import Module
from tfcore.ops.activations import relu
from tfcore.ops.pooling import max_pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNetConfig(Config):
    """What a `ConvNet` is made of: the three convolutions' filters, the first dense layer's units.

    Raises:
        ValueError: for other than three `filters`.
    """

    filters: tuple[int, ...] = (32, 64, 64)
    units: int = 64
    formulation: str = "tensorflow"

    def __post_init__(self):
        self.check("filters", len(self.filters) == 3, "three numbers, one for each convolution")


class ConvNet(Module):
    """Images (B, image_size, image_size, in_channels) in [0, 1] -> logits (B, classes).

    Convolution 3×3 → ReLU → max-pool 2, twice; convolution → ReLU; flatten → Dense `units` ReLU → Dense `classes`.
    319,178 parameters in the published size: "Involutional neural networks" (Keras examples).

    Raises:
        ValueError: for an image size that is not a positive multiple of 4, and what `Conv2D` and `Dense` refuse.
    """

    def __init__(
        self,
        config: ConvNetConfig,
        *,
        key: tf.Tensor,
        image_size: int = 32,
        in_channels: int = 3,
        classes: int = 10,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        if image_size < 4 or image_size % 4:
            raise ValueError(f"ConvNet: image_size must be a positive multiple of 4 (two poolings), got {image_size}")
        self.convolutions = [
            Conv2D(
                channels=channels,
                filters=width,
                kernel_size=3,
                formulation=config.formulation,
                key=random.fold_in(key, site),
                dtype=dtype,
            )
            for site, (channels, width) in enumerate(
                zip((in_channels, *config.filters[:2]), config.filters, strict=True)
            )
        ]
        flat = (image_size // 4) ** 2 * config.filters[-1]
        self.hidden = Dense(inputs=flat, units=config.units, key=random.fold_in(key, 3), dtype=dtype)
        self.logits = Dense(inputs=config.units, units=classes, key=random.fold_in(key, 4), dtype=dtype)

    def __call__(self, images: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        del training, key  # the same in training and inference
        x = images
        for convolution, pool in zip(self.convolutions, (2, 2, 1), strict=True):
            # ReLU after the pooling: the same values and gradients, with a quarter of the elements to go through.
            x = relu(convolution(x, pool=pool))  # (B, H/2, W/2, 32), then (B, H/4, W/4, 64) twice
        flat = tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])  # (B, H/4 · W/4 · F)
        return self.logits(relu(self.hidden(flat)))  # (B, classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CnnConfig(Config):
    """What a `Cnn` is made of: the published base, and each option that the study tries.

    Args:
        activation: a name of `tfcore.layers.activation`, or "prelu" with slopes that are learned.
        slope: of "leaky_relu" below zero.
        prelu_axis: "channel" or "all" (`PRelu`), with "prelu" alone.
        dropout: rate in front of the first dense layer.
        batch_norm: "after" convolution and activation, as published, or "before" the activation (Ioffe and Szegedy
            2015), both in front of the pooling; or "none".
        initializer: of all kernels, "glorot_uniform" or "he_uniform".

    Raises:
        ValueError: for no `filters`, an unknown name, a slope without "leaky_relu", a `prelu_axis` without "prelu" or
            the reverse.
    """

    filters: tuple[int, ...] = (32, 64, 128)
    units: int = 128
    activation: str = "relu"
    slope: float = 0.01
    prelu_axis: str | None = None
    dropout: float = 0.0
    batch_norm: str = "none"
    initializer: str = "glorot_uniform"
    formulation: str = "tensorflow"

    def __post_init__(self):
        self.check("filters", len(self.filters) > 0, "a number for each convolution, such as (32, 64, 128)")
        self.check_one_of("activation", (*FUNCTIONS, "prelu"))
        self.check_one_of("batch_norm", ("none", "after", "before"))
        self.check_one_of("initializer", tuple(initializers.BY_NAME))
        self.refuse_unused(self.activation == "leaky_relu", ["slope"], "activation leaky_relu")
        if self.activation == "prelu" and self.prelu_axis is None:
            raise ValueError(
                "Cnn: prelu needs a prelu_axis: 'channel' learns one slope for each channel, 'all' one for each element"
            )
        if self.activation != "prelu" and self.prelu_axis is not None:
            raise ValueError(f"Cnn: prelu_axis says which slopes prelu learns, and {self.activation} learns none")


class Cnn(Module):
    """Images (B, image_size, image_size, channels) in [0, 1] -> logits (B, classes).

    Convolution 3×3 → activation → max-pool 2 for each of `filters`; flatten → dropout → Dense `units` → activation →
    Dense `classes`. 356,810 parameters in the published size ("Improving a CNN's accuracy", a course's chapter on
    tuning convolution networks), where none of the options is on.

    The published network ends in a softmax. Here it is applied where probabilities are wanted: the loss is that of the
    logits, as in Keras, which looks behind a softmax output for its logits.

    Raises:
        ValueError: for an image size that the poolings do not divide, and what the layers refuse.
    """

    def __init__(
        self,
        config: CnnConfig,
        *,
        key: tf.Tensor,
        image_size: int = 32,
        channels: int = 3,
        classes: int = 10,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        filters, units = config.filters, config.units
        shrink = 2 ** len(filters)
        if image_size < shrink or image_size % shrink:
            raise ValueError(
                f"Cnn: image_size must be a positive multiple of {shrink} ({len(filters)} poolings), got {image_size}"
            )
        self.batch_norm = config.batch_norm
        self.pool_first = config.activation == "relu" and config.batch_norm == "none"
        settings = {"initializer": initializers.BY_NAME[config.initializer], "dtype": dtype}

        def make_activation(shape: tuple[int, ...]) -> Activation | PRelu:
            if config.prelu_axis is not None:
                return PRelu(shape=shape, axis=config.prelu_axis, dtype=dtype)
            return Activation(config.activation, slope=config.slope)

        sides = [image_size // 2**i for i in range(len(filters))]
        self.convolutions = [
            Conv2D(
                channels=inputs,
                filters=width,
                kernel_size=3,
                formulation=config.formulation,
                key=random.fold_in(key, site),
                **settings,
            )
            for site, (inputs, width) in enumerate(zip((channels, *filters[:-1]), filters, strict=True))
        ]
        self.activations = [make_activation((side, side, width)) for side, width in zip(sides, filters, strict=True)]
        self.norms = [BatchNorm(channels=width, dtype=dtype) for width in filters if config.batch_norm != "none"]
        self.dropout = Dropout(config.dropout, site=0, dtype=dtype)
        flat = (image_size // shrink) ** 2 * filters[-1]
        self.hidden = Dense(inputs=flat, units=units, key=random.fold_in(key, len(filters)), **settings)
        self.hidden_activation = make_activation((units,))
        self.logits = Dense(inputs=units, units=classes, key=random.fold_in(key, len(filters) + 1), **settings)

    def __call__(self, images: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        x = images
        for i, (convolution, activation) in enumerate(zip(self.convolutions, self.activations, strict=True)):
            if self.pool_first:
                # A maximum of ReLUs is the ReLU of the maximum, gradients too. So it is with any function that never
                # falls, but where rounding makes two outputs equal the gradient would go to another pixel.
                x = activation(convolution(x, pool=2))  # (B, H/2, W/2, F)
                continue
            x = convolution(x)  # (B, H, W, F)
            if self.batch_norm == "before":
                x = self.norms[i](x, training=training)
            x = activation(x)
            if self.batch_norm == "after":
                x = self.norms[i](x, training=training)
            x = max_pool(x, kernel_size=2)  # (B, H/2, W/2, F)
        flat = tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])  # (B, H/2ⁿ · W/2ⁿ · F)
        hidden = self.hidden(self.dropout(flat, training=training, key=key))  # (B, units)
        return self.logits(self.hidden_activation(hidden))  # (B, classes)

    def kernels(self, which: str) -> list[tf.Variable]:
        """Return the kernels of the "conv" layers, the "dense" layers or "all": what a penalty may act on.

        Raises:
            ValueError: for another word.
        """
        layers = {"conv": self.convolutions, "dense": [self.hidden, self.logits]}
        layers["all"] = [*layers["conv"], *layers["dense"]]
        if which not in layers:
            raise ValueError(f"Cnn: kernels must be one of {', '.join(layers)}, got {which!r}")
        return [layer.kernel for layer in layers[which]]
