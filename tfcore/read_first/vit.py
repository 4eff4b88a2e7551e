"""The vision transformer, whole, in plain TensorFlow: its weights, forward pass, loss and one training step.

A transformer reads a sequence. Here that is the image's patches: 144 squares of 6×6 pixels, each projected to 64
numbers. In each block every patch looks at all patches (attention); then each is worked on by itself (the MLP).

    image → normalize → enlarge → patches + positions → 8 blocks → layer norm → flatten → MLP → dense

Try it: `python tfcore/read_first/vit.py` teaches a small one 64 made-up pictures in some seconds.
Left out: the recipe also mirrors, turns and zooms each image by chance in training (`tfcore/ops/resampling.py`).

Glossary: B images in a batch, H W = 32 their height and width, S = 72 the side to which they are enlarged, P = 6 the
side of a patch, T = 144 patches, D = 64 the width of a patch's numbers, N = 4 heads, d = 64 the width of a head.
Source: Dosovitskiy et al. 2020, arXiv 2010.11929; sizes of "Image classification with Vision Transformer" (Keras).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

Weights = dict[str, tf.Variable]
AdamW = tuple[tf.Variable, Weights, Weights]  # steps done, running means m of each gradient and v of its square
Keep = Callable[[tf.Tensor, float], tf.Tensor] | None  # `random_keep` in training; None in inference: no dropout


class Sizes(NamedTuple):
    """The model's sizes; the defaults are the published ones, of 21,759,012 trained numbers."""

    image: int = 72  # S
    patch: int = 6  # P
    width: int = 64  # D and d
    blocks: int = 8
    heads: int = 4  # N
    mlp: int = 128
    head: tuple[int, ...] = (2048, 1024)
    classes: int = 100
    dropout: float = 0.1
    head_dropout: float = 0.5


def make_weights(sizes: Sizes) -> Weights:
    """Return fresh weights by name. The names are those of `tfcore.models.vit.VisionTransformer`."""
    weights: Weights = {}
    patches, width, heads = (sizes.image // sizes.patch) ** 2, sizes.width, sizes.heads

    def add_layer(name: str, kernel: tuple[int, ...], bias: tuple[int, ...]) -> None:
        limit = math.sqrt(6 / ((kernel[-2] + kernel[-1]) * math.prod(kernel[:-2])))  # Glorot and Bengio 2010
        weights[f"{name}/kernel"] = tf.Variable(tf.random.uniform(kernel, -limit, limit))
        weights[f"{name}/bias"] = tf.Variable(tf.zeros(bias))

    def add_norm(name: str) -> None:
        weights[f"{name}/gamma"], weights[f"{name}/beta"] = tf.Variable(tf.ones(width)), tf.Variable(tf.zeros(width))

    weights["tokens/normalization/mean"] = tf.Variable(tf.zeros(3), trainable=False)  # both of the train set
    weights["tokens/normalization/variance"] = tf.Variable(tf.ones(3), trainable=False)
    weights["tokens/encoder/position/embeddings"] = tf.Variable(tf.random.uniform([patches, width], -0.05, 0.05))
    add_layer("tokens/encoder/projection", (sizes.patch**2 * 3, width), (width,))
    for i in range(sizes.blocks):
        add_norm(f"blocks/{i}/attention_norm")
        for name in ("query", "key", "value"):
            add_layer(f"blocks/{i}/attention/{name}", (width, heads, width), (heads, width))
        add_layer(f"blocks/{i}/attention/output", (heads, width, width), (width,))
        add_norm(f"blocks/{i}/feed_forward_norm")
        add_layer(f"blocks/{i}/feed_forward/dense/0", (width, sizes.mlp), (sizes.mlp,))
        add_layer(f"blocks/{i}/feed_forward/dense/1", (sizes.mlp, width), (width,))
    add_norm("norm")
    units = (patches * width, *sizes.head)
    for i in range(len(sizes.head)):
        add_layer(f"head/dense/{i}", (units[i], units[i + 1]), (units[i + 1],))
    add_layer("logits", (units[-1], sizes.classes), (sizes.classes,))
    return weights


def model(w: Weights, sizes: Sizes, images: tf.Tensor, keep: Keep = None) -> tf.Tensor:
    """Images (B, H, W, 3) in 0 .. 255 -> logits (B, classes); with `keep` as in training."""
    x = (images - w["tokens/normalization/mean"]) / tf.sqrt(w["tokens/normalization/variance"])  # (B, H, W, 3)
    x = cut(enlarge(x, sizes.image), sizes.patch)  # (B, S, S, 3), then (B, T, P·P·3)
    x = dense(w, "tokens/encoder/projection", x) + w["tokens/encoder/position/embeddings"]  # (B, T, D) + (T, D)
    for i in range(sizes.blocks):
        y = layer_norm(w, f"blocks/{i}/attention_norm", x)  # (B, T, D)
        x += attention(w, f"blocks/{i}/attention", y, sizes.dropout, keep)  # (B, T, D)
        y = layer_norm(w, f"blocks/{i}/feed_forward_norm", x)  # (B, T, D)
        x += mlp(w, f"blocks/{i}/feed_forward", y, 2, sizes.dropout, keep)  # (B, T, D)
    x = layer_norm(w, "norm", x)  # (B, T, D)
    x = dropout(tf.reshape(x, [-1, x.shape[1] * x.shape[2]]), sizes.head_dropout, keep)  # (B, T·D)
    x = mlp(w, "head", x, len(sizes.head), sizes.head_dropout, keep)  # (B, sizes.head[-1])
    return dense(w, "logits", x)  # (B, classes)


def enlarge(images: tf.Tensor, size: int) -> tf.Tensor:
    """Bilinear interpolation: (B, H, H, 3) -> (B, size, size, 3)."""
    old = images.shape[1]
    centres = (tf.range(size, dtype=images.dtype) + 0.5) * (old / size) - 0.5  # (S,), of new pixels, in old ones
    distances = tf.clip_by_value(centres, 0, old - 1)[:, None] - tf.range(old, dtype=images.dtype)  # (S, H)
    share = tf.nn.relu(1 - tf.abs(distances))  # (S, H): a new pixel is made of the two old ones nearest to it
    return tf.einsum("ih,jw,bhwc->bijc", share, share, images)


def cut(images: tf.Tensor, p: int) -> tf.Tensor:
    """Cut images into patches, row by row: (B, S, S, 3) -> (B, T, P·P·3)."""
    side = images.shape[1] // p
    x = tf.reshape(images, [-1, side, p, side, p, 3])
    return tf.reshape(tf.transpose(x, [0, 1, 3, 2, 4, 5]), [-1, side * side, p * p * 3])


def attention(w: Weights, name: str, x: tf.Tensor, rate: float, keep: Keep) -> tf.Tensor:
    """Each patch takes the mean of all patches' values, weighted by how well their keys match its query."""
    query, key, value = (
        tf.einsum("btd,dnh->bnth", x, w[f"{name}/{part}/kernel"]) + w[f"{name}/{part}/bias"][:, None]
        for part in ("query", "key", "value")
    )  # (B, N, T, d) each
    scores = tf.matmul(query, key, transpose_b=True) / math.sqrt(query.shape[-1])  # (B, N, T, T)
    weights = dropout(tf.nn.softmax(scores), rate, keep)  # (B, N, T, T); before dropout, each row adds up to 1
    heads = weights @ value  # (B, N, T, T) · (B, N, T, d) -> (B, N, T, d)
    return tf.einsum("bnth,nhd->btd", heads, w[f"{name}/output/kernel"]) + w[f"{name}/output/bias"]  # (B, T, D)


def mlp(w: Weights, name: str, x: tf.Tensor, layers: int, rate: float, keep: Keep) -> tf.Tensor:
    """Dense → GELU → dropout, once for each layer: (..., inputs) -> (..., units of the last layer)."""
    for i in range(layers):
        x = dense(w, f"{name}/dense/{i}", x)  # (..., units)
        x = dropout(x * (1 + tf.math.erf(x / math.sqrt(2))) / 2, rate, keep)  # (..., units)
    return x


def dense(w: Weights, name: str, x: tf.Tensor) -> tf.Tensor:
    """(..., inputs) -> (..., units)."""
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def layer_norm(w: Weights, name: str, x: tf.Tensor) -> tf.Tensor:
    """Bring the D numbers of each patch to mean 0 and variance 1, then scale by γ and shift by β, which are learned."""
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)  # (B, T, 1), (B, T, 1)
    return (x - mean) / tf.sqrt(variance + 1e-6) * w[f"{name}/gamma"] + w[f"{name}/beta"]


def random_keep(shape: tf.Tensor, rate: float) -> tf.Tensor:
    """Return booleans of a shape, each False with probability `rate`: where dropout puts a zero."""
    return tf.random.uniform(shape) >= rate


def dropout(x: tf.Tensor, rate: float, keep: Keep) -> tf.Tensor:
    """In training, put zeros in the place of a share of `rate`, and scale up the rest to make up for it."""
    return x if keep is None else tf.where(keep(tf.shape(x), rate), x / (1 - rate), 0)


def make_adamw(weights: Weights) -> AdamW:
    """Return AdamW's memory before the first step: zeros, for every weight that is trained."""
    m, v = ({name: tf.Variable(tf.zeros_like(w)) for name, w in weights.items() if w.trainable} for _ in range(2))
    return tf.Variable(0, dtype=tf.int64), m, v


def loss_of(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Mean of −log softmax(logits)[label], the cross-entropy: (B, classes), (B,) -> ()."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def training_step(w: Weights, sizes: Sizes, adamw: AdamW, images: tf.Tensor, labels: tf.Tensor, keep: Keep):
    """Improve the weights in place by one batch: (B, H, W, 3), (B,) -> the loss () before the step."""
    trained = {name: weight for name, weight in w.items() if weight.trainable}
    with tf.GradientTape() as tape:
        loss = loss_of(model(w, sizes, images, keep), labels)  # ()
    update(trained, tape.gradient(loss, trained), adamw)
    return loss


def update(weights: Weights, gradients: dict[str, tf.Tensor], adamw: AdamW) -> None:
    """θ ← θ − α_t · m / (√v + ε) − λ · θ for every weight θ (Loshchilov and Hutter 2019, algorithm 2)."""
    alpha, beta_1, beta_2, epsilon, decay = 1e-3, 0.9, 0.999, 1e-7, 1e-4
    steps, means, squares = adamw
    steps.assign_add(1)
    for name, weight in weights.items():
        gradient, m, v, t = gradients[name], means[name], squares[name], tf.cast(steps, weight.dtype)
        m.assign(beta_1 * m + (1 - beta_1) * gradient)
        v.assign(beta_2 * v + (1 - beta_2) * tf.square(gradient))
        seen_1, seen_2 = (1 - tf.constant(beta, t.dtype) ** t for beta in (beta_1, beta_2))  # both started at zero
        weight.assign_sub(alpha * tf.sqrt(seen_2) / seen_1 * m / (tf.sqrt(v) + epsilon) + decay * weight)


def main(steps: int = 100) -> None:
    """Teach a small one 64 made-up pictures and print the loss."""
    tf.random.set_seed(0)
    sizes = Sizes(image=24, width=32, blocks=2, heads=2, mlp=64, head=(64,), classes=10)
    labels = tf.range(64) % 10  # (B,)
    stripes = tf.sin(tf.range(32.0) * tf.cast(labels[:, None] + 1, tf.float32) / 8)  # (B, W)
    images = 64 * (2 + stripes[:, None, :, None] + tf.random.uniform([64, 32, 32, 3], -1, 1))  # (B, H, W, 3)
    weights = make_weights(sizes)
    weights["tokens/normalization/mean"].assign(tf.reduce_mean(images, axis=[0, 1, 2]))
    weights["tokens/normalization/variance"].assign(tf.math.reduce_variance(images, axis=[0, 1, 2]))
    adamw = make_adamw(weights)
    step = tf.function(lambda: training_step(weights, sizes, adamw, images, labels, random_keep))  # traced once
    for number in range(1, steps + 1):
        loss = step()
        if number == 1 or number % 10 == 0:
            print(f"step {number:3}   loss {loss:.3f}")


if __name__ == "__main__":
    main()
