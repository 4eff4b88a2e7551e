"""The involution network, whole, in plain TensorFlow: its weights, forward pass, loss and one training step.

An involution turns a convolution inside out. A convolution has one kernel, which is a weight, and uses it at every
pixel. An involution computes a kernel for each pixel from that pixel's own channels, and uses it there alone.

    image → involution → ReLU → pool → involution → ReLU → pool → involution → ReLU → flatten → dense → ReLU → dense

Try it: `python tfcore/read_first/inn.py` teaches the network 64 made-up pictures in some seconds.

Glossary: B images in a batch, H W their height and width, C = 3 channels, K = 3 the side of a kernel.
Source: Li et al. 2021, arXiv 2103.06255; all sizes are those of "Involutional neural networks" (Keras examples).
Next: `tfcore/ops/involution.py` has the sum below in three formulations, with groups of channels and strides.
"""

import math
from typing import NamedTuple

import tensorflow as tf

IMAGE, CHANNELS, CLASSES = 32, 3, 10  # of CIFAR-10
KERNEL = 3  # K
BOTTLENECK = 1  # numbers to which a pixel's channels are reduced before they become a kernel
UNITS = 64  # of the hidden dense layer

Weights = dict[str, tf.Variable]


# The weights: 13,074 numbers that are trained, and six that batch norm keeps.


def make_weights() -> Weights:
    """Return fresh weights by name. The names are those of `tfcore.models.inn.Inn` and of its checkpoints."""
    weights: Weights = {}

    def add_layer(name: str, shape: tuple[int, ...]) -> None:
        limit = math.sqrt(6 / (shape[-2] + shape[-1]))  # Glorot and Bengio 2010: keeps the size of what flows through
        weights[f"{name}/kernel"] = tf.Variable(tf.random.uniform(shape, -limit, limit))
        weights[f"{name}/bias"] = tf.Variable(tf.zeros(shape[-1]))

    for i in range(3):
        add_layer(f"involutions/{i}/reduce", (1, 1, CHANNELS, BOTTLENECK))
        weights[f"involutions/{i}/norm/gamma"] = tf.Variable(tf.ones(BOTTLENECK))
        weights[f"involutions/{i}/norm/beta"] = tf.Variable(tf.zeros(BOTTLENECK))
        weights[f"involutions/{i}/norm/moving_mean"] = tf.Variable(tf.zeros(BOTTLENECK), trainable=False)
        weights[f"involutions/{i}/norm/moving_variance"] = tf.Variable(tf.ones(BOTTLENECK), trainable=False)
        add_layer(f"involutions/{i}/expand", (1, 1, BOTTLENECK, KERNEL * KERNEL))
    add_layer("hidden", ((IMAGE // 4) ** 2 * CHANNELS, UNITS))
    add_layer("logits", (UNITS, CLASSES))
    return weights


# The forward pass: from images to one score for each class.


def model(weights: Weights, images: tf.Tensor, *, training: bool) -> tf.Tensor:
    """Images (B, H, W, C) in [0, 1] -> logits (B, CLASSES)."""
    x = tf.nn.relu(involution(weights, "involutions/0", images, training=training))  # (B, H, W, C)
    x = tf.nn.max_pool2d(x, ksize=2, strides=2, padding="VALID")  # (B, H/2, W/2, C)
    x = tf.nn.relu(involution(weights, "involutions/1", x, training=training))  # (B, H/2, W/2, C)
    x = tf.nn.max_pool2d(x, ksize=2, strides=2, padding="VALID")  # (B, H/4, W/4, C)
    x = tf.nn.relu(involution(weights, "involutions/2", x, training=training))  # (B, H/4, W/4, C)
    x = tf.reshape(x, [-1, (IMAGE // 4) ** 2 * CHANNELS])  # (B, H/4 · W/4 · C)
    x = tf.nn.relu(x @ weights["hidden/kernel"] + weights["hidden/bias"])  # (B, UNITS)
    return x @ weights["logits/kernel"] + weights["logits/bias"]  # (B, CLASSES)


def involution(weights: Weights, name: str, image: tf.Tensor, *, training: bool) -> tf.Tensor:
    """Compute a kernel for each pixel from that pixel, and apply it around that pixel: (B, H, W, C) -> (B, H, W, C)."""
    # A 1×1 convolution is a matrix product at every pixel.
    hidden = image @ weights[f"{name}/reduce/kernel"][0, 0] + weights[f"{name}/reduce/bias"]  # (B, H, W, BOTTLENECK)
    hidden = tf.nn.relu(batch_norm(weights, f"{name}/norm", hidden, training=training))  # (B, H, W, BOTTLENECK)
    kernel = hidden @ weights[f"{name}/expand/kernel"][0, 0] + weights[f"{name}/expand/bias"]  # (B, H, W, K·K)

    # y[i, j] = Σ over u, v of kernel[i, j, u·K + v] · image[i + u − 1, j + v − 1], with zeros around the image. All
    # channels share the kernel.
    _, height, width, _ = image.shape
    edge = KERNEL // 2
    padded = tf.pad(image, [[0, 0], [edge, edge], [edge, edge], [0, 0]])  # (B, H + 2, W + 2, C)
    y = tf.zeros_like(image)  # (B, H, W, C)
    for u in range(KERNEL):
        for v in range(KERNEL):
            neighbour = padded[:, u : u + height, v : v + width, :]  # (B, H, W, C)
            y += kernel[:, :, :, u * KERNEL + v, None] * neighbour  # (B, H, W, 1) · (B, H, W, C)
    return y


def batch_norm(weights: Weights, name: str, x: tf.Tensor, *, training: bool) -> tf.Tensor:
    """Shift and scale each channel to mean 0 and variance 1, then by a learned β and γ: (B, H, W, C) -> same.

    Training takes mean and variance from the batch, and remembers a running average of them; inference uses that.
    """
    moving_mean, moving_variance = weights[f"{name}/moving_mean"], weights[f"{name}/moving_variance"]
    if training:
        mean, variance = tf.nn.moments(x, axes=[0, 1, 2])  # (C,), (C,)
        moving_mean.assign(0.99 * moving_mean + 0.01 * mean)
        moving_variance.assign(0.99 * moving_variance + 0.01 * variance)
    else:
        mean, variance = moving_mean, moving_variance
    return weights[f"{name}/gamma"] * (x - mean) / tf.sqrt(variance + 1e-3) + weights[f"{name}/beta"]


# The loss: how wrong the scores are, as one number.


def loss_of(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Mean of −log softmax(logits)[label], the cross-entropy: (B, CLASSES), (B,) -> ()."""
    highest = tf.reduce_max(logits, axis=1, keepdims=True)  # (B, 1); subtracted, so that no exponential overflows
    log_sum = highest + tf.math.log(tf.reduce_sum(tf.exp(logits - highest), axis=1, keepdims=True))  # (B, 1)
    right = tf.gather(logits - log_sum, labels, batch_dims=1)  # (B,), log-probability of the right class
    return -tf.reduce_mean(right)


# One training step: forward, backward, and each weight moved a little against its gradient.


class Adam(NamedTuple):
    """What Adam remembers between steps: their number, and running means of each gradient and of its square."""

    step: tf.Variable
    m: Weights
    v: Weights


def make_adam(weights: Weights) -> Adam:
    """Return Adam's memory before the first step: zeros."""
    trained = {name: weight for name, weight in weights.items() if weight.trainable}
    m = {name: tf.Variable(tf.zeros_like(weight)) for name, weight in trained.items()}
    v = {name: tf.Variable(tf.zeros_like(weight)) for name, weight in trained.items()}
    return Adam(tf.Variable(0, dtype=tf.int64), m, v)


def training_step(weights: Weights, adam: Adam, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Improve the weights in place by one batch: (B, H, W, C), (B,) -> the loss () before the step."""
    trained = {name: weight for name, weight in weights.items() if weight.trainable}
    with tf.GradientTape() as tape:
        loss = loss_of(model(weights, images, training=True), labels)  # ()
    gradients = tape.gradient(loss, trained)  # by name, each of its weight's shape
    adam_update(trained, gradients, adam)
    return loss


def adam_update(weights: Weights, gradients: dict[str, tf.Tensor], adam: Adam) -> None:
    """θ ← θ − α_t · m / (√v + ε) for every weight θ (Kingma and Ba 2015, section 2)."""
    alpha, beta_1, beta_2, epsilon = 1e-3, 0.9, 0.999, 1e-7
    adam.step.assign_add(1)
    for name, weight in weights.items():
        gradient, m, v = gradients[name], adam.m[name], adam.v[name]
        t = tf.cast(adam.step, weight.dtype)
        m.assign(beta_1 * m + (1 - beta_1) * gradient)
        v.assign(beta_2 * v + (1 - beta_2) * tf.square(gradient))
        # Both means started at zero: after t steps they have seen 1 − βᵗ of what they average.
        seen_1, seen_2 = (1 - tf.constant(beta, t.dtype) ** t for beta in (beta_1, beta_2))
        alpha_t = alpha * tf.sqrt(seen_2) / seen_1
        weight.assign_sub(alpha_t * m / (tf.sqrt(v) + epsilon))


# All of it at work.


def main(steps: int = 200) -> None:
    """Teach 64 made-up pictures, print the loss, which starts near ln 10 = 2.3, and how many pictures it gets right.

    What is right lags behind: inference uses batch norm's running averages, which follow over a hundred steps or so.
    """
    tf.random.set_seed(0)
    labels = tf.range(64) % CLASSES  # (B,)
    stripes = tf.sin(tf.range(IMAGE, dtype=tf.float32) * tf.cast(labels[:, None] + 1, tf.float32) / 8)  # (B, W)
    noise = tf.random.uniform([64, IMAGE, IMAGE, CHANNELS])  # (B, H, W, C)
    images = 0.25 + 0.25 * stripes[:, None, :, None] + 0.5 * noise  # the label's stripes, under noise

    weights = make_weights()
    adam = make_adam(weights)
    compiled_step = tf.function(training_step)  # traced once: the same operations, without Python between them
    for step in range(1, steps + 1):
        loss = compiled_step(weights, adam, images, labels)
        if step == 1 or step % 20 == 0:
            logits = model(weights, images, training=False)  # (B, CLASSES)
            right = tf.reduce_mean(tf.cast(tf.argmax(logits, axis=1, output_type=tf.int32) == labels, tf.float32))
            print(f"step {step:3}   loss {loss:.3f}   right {right:.0%}")


if __name__ == "__main__":
    main()
