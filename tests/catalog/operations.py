"""Entries of `tfcore.ops`: values and gradients beside Keras's or TensorFlow's own operation."""

import functools

import keras
import numpy as np
import tensorflow as tf

from tests.catalog.entry import Case, Entry, random_array
from tfcore.ops import convolution, involution, linear, losses, normalization, patches, pooling

BATCH, HEIGHT, WIDTH, CHANNELS, FILTERS = 2, 11, 7, 5, 3  # a different prime for each, so that no axes can be swapped
WINDOWS = (
    # kernel size, stride, padding
    (1, 1, "SAME"),
    (3, 1, "SAME"),
    (3, 2, "SAME"),
    (2, 3, "SAME"),
    (5, 1, "VALID"),
    (3, 2, "VALID"),
)


def _image(dtype):
    return random_array((BATCH, HEIGHT, WIDTH, CHANNELS), dtype)


def _patches() -> list[Entry]:
    def entry(size, stride, padding):
        def case(dtype):
            def theirs(x):
                flat = tf.image.extract_patches(x, [1, size, size, 1], [1, stride, stride, 1], [1, 1, 1, 1], padding)
                return tf.reshape(flat, [*flat.shape[:3], size * size, CHANNELS])

            def ours(x):
                return patches.extract_patches(x, kernel_size=size, stride=stride, padding=padding)

            return Case(ours, theirs, (_image(dtype),))

        name = f"ops.extract_patches {size}×{size} stride {stride} {padding}"
        return Entry(name, (patches.extract_patches,), case)

    return [entry(*window) for window in WINDOWS]


def _linear() -> Entry:
    def case(dtype):
        kernel, bias = random_array((CHANNELS, FILTERS), dtype, 1), random_array((FILTERS,), dtype, 2)
        return Case(
            linear.linear, lambda x, kernel, bias: keras.ops.matmul(x, kernel) + bias, (_image(dtype), kernel, bias)
        )

    return Entry("ops.linear", (linear.linear,), case)


def _convolutions() -> list[Entry]:
    def entry(size, stride, padding, formulation):
        def case(dtype):
            settings = {"padding": padding, "formulation": formulation}

            def ours(x, kernel):
                return convolution.convolve(x, kernel, stride=stride, **settings)

            def theirs(x, kernel):
                return keras.ops.conv(x, kernel, strides=stride, padding=padding.lower())

            kernel = random_array((size, size, CHANNELS, FILTERS), dtype, seed=1)
            return Case(ours, theirs, (_image(dtype), kernel))

        name = f"ops.convolve[{formulation}] {size}×{size} stride {stride} {padding}"
        return Entry(name, (convolution.convolve, convolution.FORMULATIONS[formulation]), case)

    windows = (*WINDOWS, (1, 2, "SAME"), (1, 3, "VALID"))
    return [entry(*window, formulation) for window in windows for formulation in convolution.FORMULATIONS]


def _depthwise_convolutions() -> list[Entry]:
    def entry(size, stride, padding, formulation):
        def case(dtype):
            settings = {"padding": padding, "formulation": formulation}

            def ours(x, kernel):
                return convolution.convolve_depthwise(x, kernel, stride=stride, **settings)

            def theirs(x, kernel):
                return keras.ops.depthwise_conv(x, kernel, strides=stride, padding=padding.lower())

            kernel = random_array((size, size, CHANNELS, 1), dtype, seed=1)
            return Case(ours, theirs, (_image(dtype), kernel))

        name = f"ops.convolve_depthwise[{formulation}] {size}×{size} stride {stride} {padding}"
        proven = (convolution.convolve_depthwise, convolution.DEPTHWISE_FORMULATIONS[formulation])
        return Entry(name, proven, case)

    return [
        entry(*window, formulation)
        for window in ((3, 1, "SAME"), (3, 2, "SAME"), (5, 1, "VALID"))
        for formulation in convolution.DEPTHWISE_FORMULATIONS
    ]


def _poolings() -> list[Entry]:
    tiled, odd = (BATCH, 10, 6, CHANNELS), (BATCH, HEIGHT, WIDTH, CHANNELS)

    def entry(kind, size, stride, padding, formulation, shape):
        public = getattr(pooling, f"{kind}_pool")
        keras_pool = {"max": keras.ops.max_pool, "average": keras.ops.average_pool}[kind]

        def case(dtype):
            def ours(x):
                return public(x, kernel_size=size, stride=stride, padding=padding, formulation=formulation)

            def theirs(x):
                return keras_pool(x, size, strides=stride, padding=padding.lower())

            rng = np.random.default_rng(0)
            if shape == tiled:
                # Whole numbers from a short range: ties in nearly every window, which the gradient must break alike.
                x = rng.integers(-2, 3, shape)
            else:
                # No ties: TensorFlow's own kernel and XLA break them differently (2×2 SAME on 11×7).
                x = rng.permutation(np.arange(np.prod(shape))).reshape(shape) / 100
            x = x.astype(dtype.as_numpy_dtype)
            return Case(ours, theirs, (x,))

        name = f"ops.{kind}_pool[{formulation}] {size}×{size} stride {stride} {padding} on {shape[1]}×{shape[2]}"
        covers = (public, *filter(None, [getattr(pooling, f"{kind}_pool_{formulation}", None)]))
        return Entry(name, covers, case)

    return [
        entry(kind, *settings)
        for kind in ("max", "average")
        for settings in (
            (2, 2, "VALID", "tiles", tiled),
            (2, 2, "VALID", "tensorflow", tiled),
            (2, 2, "VALID", "auto", odd),
            (2, 2, "SAME", "auto", odd),
            (3, 2, "SAME", "auto", odd),
            (3, 1, "VALID", "auto", odd),
            (2, 2, "VALID", "shifted", tiled),
            (3, 2, "SAME", "shifted", odd),
            (3, 1, "VALID", "shifted", odd),
        )
        if kind == "max" or settings[3] != "shifted"
    ]


def _involutions() -> list[Entry]:
    def entry(size, stride, groups, order, formulation):
        channels, height, width = 6, HEIGHT, WIDTH

        def case(dtype):
            rows, columns = -(-height // stride), -(-width // stride)
            x = random_array((BATCH, height, width, channels), dtype)
            kernel = random_array((BATCH, rows, columns, size * size, groups), dtype, seed=1)

            def ours(x, kernel):
                return involution.involve(
                    x, kernel, kernel_size=size, stride=stride, group_order=order, formulation=formulation
                )

            def theirs(x, kernel):
                # Channel by channel: the definition, with nothing of ours in it.
                flat = tf.image.extract_patches(x, [1, size, size, 1], [1, stride, stride, 1], [1, 1, 1, 1], "SAME")
                cut = tf.reshape(flat, [BATCH, rows, columns, size * size, channels])
                outputs = []
                for c in range(channels):
                    group = c % groups if order == "modulo" else c // (channels // groups)
                    outputs.append(tf.reduce_sum(kernel[..., group] * cut[..., c], axis=3))
                return tf.stack(outputs, axis=-1)

            if formulation != "factored":
                return Case(ours, theirs, (x, kernel))

            maps, taps = 5, size * size * groups
            hidden = random_array((BATCH, rows, columns, maps), dtype, seed=2)
            weight, bias = random_array((maps, taps), dtype, seed=3), random_array((taps,), dtype, seed=4)

            def formed(x, hidden, weight, bias):
                kernel = tf.tensordot(hidden, weight, 1) + bias
                return theirs(x, tf.reshape(kernel, [BATCH, rows, columns, size * size, groups]))

            geometry = {"kernel_size": size, "stride": stride, "group_order": order}
            factored = functools.partial(involution.involve_factored, **geometry)
            return Case(factored, formed, (x, hidden, weight, bias))

        name = f"ops.involve[{formulation}] {size}×{size} stride {stride} groups {groups} {order}"
        covered = (involution.involve, involution.FORMULATIONS.get(formulation, involution.involve_factored))
        return Entry(name, covered, case)

    return [
        entry(size, stride, groups, order, formulation)
        for size, stride, groups, order in (
            (1, 1, 1, "modulo"),
            (3, 1, 1, "modulo"),
            (3, 1, 2, "modulo"),
            (3, 2, 3, "modulo"),
            (5, 3, 6, "modulo"),
            (3, 1, 2, "block"),
            (7, 2, 3, "block"),
        )
        for formulation in (*involution.FORMULATIONS, "factored")
    ]


def _normalizations() -> list[Entry]:
    def moments(dtype):
        x = 3 + _image(dtype)
        return Case(normalization.moments, lambda x: tuple(keras.ops.moments(x, axes=[0, 1, 2])), (x,))

    def batch_norm(dtype):
        vectors = [random_array((CHANNELS,), dtype, seed) for seed in range(1, 5)]
        vectors[1] = np.abs(vectors[1])  # the variance

        def ours(x, mean, variance, gamma, beta):
            return normalization.batch_norm(x, mean, variance, gamma, beta, epsilon=1e-3)

        def theirs(x, mean, variance, gamma, beta):
            return keras.ops.batch_normalization(x, mean, variance, -1, offset=beta, scale=gamma, epsilon=1e-3)

        return Case(ours, theirs, (_image(dtype), *vectors))

    def batch_norm_tensorflow(dtype):
        def ours(x, gamma, beta):
            return normalization.batch_norm_tensorflow(x, gamma, beta, epsilon=1e-3)

        def theirs(x, gamma, beta):
            moments = keras.ops.moments(x, axes=[0, 1, 2])
            y = keras.ops.batch_normalization(x, *moments, -1, offset=beta, scale=gamma, epsilon=1e-3)
            return y, *map(tf.stop_gradient, moments)

        vectors = [random_array((CHANNELS,), dtype, seed) for seed in (1, 2)]
        return Case(ours, theirs, (3 + _image(dtype), *vectors))

    def moving_average(dtype):
        def ours(average, value):
            return normalization.moving_average(average, value, 0.99)

        def theirs(average, value):
            return 0.99 * average + 0.01 * value

        return Case(ours, theirs, (random_array((CHANNELS,), dtype), random_array((CHANNELS,), dtype, 1)))

    return [
        Entry("ops.moments", (normalization.moments,), moments),
        Entry("ops.batch_norm", (normalization.batch_norm,), batch_norm),
        Entry("ops.batch_norm_tensorflow", (normalization.batch_norm_tensorflow,), batch_norm_tensorflow),
        Entry("ops.moving_average", (normalization.moving_average,), moving_average),
    ]


def _losses() -> list[Entry]:
    labels = np.random.default_rng(0).integers(0, 7, 11).astype(np.int32)
    keras_loss = keras.losses.sparse_categorical_crossentropy

    def from_logits(dtype):
        def theirs(labels, logits):
            return keras_loss(labels, logits, from_logits=True)

        return Case(losses.cross_entropy_from_logits, theirs, (labels, 30 * random_array((11, 7), dtype)))

    def smoothed(dtype):
        """Labels of examples that are mixed, and smoothed, as targets of Keras's loss."""
        shares = np.random.default_rng(2).random(11).astype(dtype.as_numpy_dtype)

        def ours(logits, shares):
            targets = losses.targets_of(labels, 7, label_smoothing=0.25, shares=shares)
            return losses.cross_entropy_of_targets(targets, logits)

        def theirs(logits, shares):
            hot = tf.one_hot(labels, 7, dtype=dtype)
            mixed = keras.layers.MixUp(dtype=dtype.name).transform_labels(
                hot, {"mix_weight": shares, "permutation_order": tf.range(10, -1, -1)}
            )
            return keras.losses.categorical_crossentropy(mixed, logits, from_logits=True, label_smoothing=0.25)

        return Case(ours, theirs, (random_array((11, 7), dtype), shares))

    def accuracy(dtype):
        theirs = keras.metrics.sparse_categorical_accuracy
        return Case(losses.accuracy, theirs, (labels, _tied_scores(dtype)), differentiable=False)

    def top_k(dtype):
        def ours(labels, scores):
            return losses.top_k_accuracy(labels, scores, k=3)

        def theirs(labels, scores):
            # The operation behind it takes float32 alone; these scores are small whole numbers.
            return keras.metrics.sparse_top_k_categorical_accuracy(labels, tf.cast(scores, tf.float32), k=3)

        return Case(ours, theirs, (labels, _tied_scores(dtype)), differentiable=False)

    def penalty(ours, theirs):
        # Keras keeps the factor of L1 in float32. Its regularizers take one weight at a time.
        factor = 2.0**-7
        shapes = ((3, 3, 5, 7), (11, 5))
        return lambda dtype: Case(
            lambda *weights: ours(weights, factor),
            lambda *weights: tf.add_n([theirs(factor)(weight) for weight in weights]),
            tuple(random_array(shape, dtype, seed) for seed, shape in enumerate(shapes)),
        )

    return [
        Entry("ops.l1_penalty", (losses.l1_penalty,), penalty(losses.l1_penalty, keras.regularizers.L1)),
        Entry("ops.l2_penalty", (losses.l2_penalty,), penalty(losses.l2_penalty, keras.regularizers.L2)),
        Entry("ops.cross_entropy_from_logits", (losses.cross_entropy_from_logits,), from_logits),
        Entry("ops.targets_of", (losses.targets_of, losses.cross_entropy_of_targets), smoothed),
        Entry("ops.accuracy", (losses.accuracy,), accuracy),
        Entry("ops.top_k_accuracy k 3", (losses.top_k_accuracy,), top_k),
    ]


def _tied_scores(dtype) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, (11, 7)).astype(dtype.as_numpy_dtype)


ENTRIES = [
    *_patches(),
    _linear(),
    *_convolutions(),
    *_depthwise_convolutions(),
    *_poolings(),
    *_involutions(),
    *_normalizations(),
    *_losses(),
]
