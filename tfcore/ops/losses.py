"""Losses and metrics of classification, one number an example; penalties of weights, one number a model.

Glossary: B examples, classes; labels (B,) integers in 0 .. classes − 1.
"""

import math
from collections.abc import Callable, Iterable

import tensorflow as tf

from tfcore.ops.activations import log_softmax
from tfcore.ops.mixing import blend
from tfcore.precision import statistics_dtype


def cross_entropy_from_logits(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """−log softmax(logits)[label]: (B,), (B, classes) -> (B,)."""
    # One-hot times log-probabilities instead of a gather: its gradient is a subtraction, not a scatter. A where, not a
    # product: 0 · (−∞) would be NaN for a class that has underflowed.
    log_probabilities = log_softmax(logits)  # (B, classes)
    chosen = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)  # (B, classes)
    return -tf.reduce_sum(tf.where(chosen, log_probabilities, 0.0), axis=-1)  # (B,)


def check_label_smoothing(label_smoothing: float) -> None:
    """Raise ValueError unless 0 <= label_smoothing < 1."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be at least 0 and below 1, such as 0.1, got {label_smoothing}")


def targets_of(
    labels: tf.Tensor, classes: int, *, label_smoothing: float = 0.0, shares: tf.Tensor | None = None
) -> tf.Tensor:
    """The distribution over the classes that stands for each label: (B,), shares (B,) -> (B, classes).

        (1 − ε) · q + ε / classes        q = w · onehot(label) + (1 − w) · onehot(partner's label)

    with ε = `label_smoothing` (Szegedy et al. 2016, arXiv 1512.00567, section 7) and the shares w by which examples are
    mixed with their partners (`tfcore.ops.mixing.blend`); without them q is the label's alone.

    Raises:
        ValueError: for a label smoothing outside [0, 1).
    """
    check_label_smoothing(label_smoothing)
    targets = tf.one_hot(labels, classes, dtype=tf.float32 if shares is None else shares.dtype)  # (B, classes)
    if shares is not None:
        targets = blend(targets, shares[:, None])
    return (1.0 - label_smoothing) * targets + label_smoothing / classes


def cross_entropy_of_targets(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """−Σ_k targets[k] · log softmax(logits)[k]: (B, classes), (B, classes) -> (B,).

    A class whose target is 0 adds 0, though its logarithm may be −∞.
    """
    terms = tf.where(targets > 0, tf.cast(targets, logits.dtype) * log_softmax(logits), 0.0)  # (B, classes)
    return -tf.reduce_sum(terms, axis=-1)  # (B,)


def accuracy(labels: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Whether the highest score (the first of equal ones) is the label's: (B,), (B, classes) -> (B,) bool."""
    return tf.argmax(scores, axis=-1, output_type=labels.dtype) == labels


def top_k_accuracy(labels: tf.Tensor, scores: tf.Tensor, *, k: int) -> tf.Tensor:
    """Whether fewer than k classes score higher than the label: (B,), (B, classes) -> (B,) bool.

    Ties count in the label's favour and a score that is not finite never does, both as in `tf.math.in_top_k`.

    Raises:
        ValueError: if k is below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    own = tf.gather(scores, labels, batch_dims=1)[:, None]  # (B, 1)
    higher = tf.math.count_nonzero(scores > own, axis=-1)  # (B,)
    return (higher < k) & tf.reduce_all(tf.math.is_finite(scores), axis=-1)


def l1_penalty(weights: Iterable[tf.Tensor], factor: float) -> tf.Tensor:
    """λ · Σ |w| over all elements of all weights -> (); summed in float32 at least.

    Its gradient ±λ is as strong for a small weight as for a large one, and 0 at 0: it drives weights to zero
    (Tibshirani 1996).

    Raises:
        ValueError: for a factor λ that is negative or not finite, or without a weight.
    """
    return _penalty("l1_penalty", tf.abs, weights, factor)


def l2_penalty(weights: Iterable[tf.Tensor], factor: float) -> tf.Tensor:
    """λ · Σ w² over all elements of all weights -> (); summed in float32 at least.

    Without the 1/2 of the textbooks, as in Keras: its gradient is 2 · λ · w.

    Raises:
        ValueError: for a factor λ that is negative or not finite, or without a weight.
    """
    return _penalty("l2_penalty", tf.square, weights, factor)


def _penalty(name: str, measure: Callable, weights: Iterable[tf.Tensor], factor: float) -> tf.Tensor:
    if not 0 <= factor < math.inf:
        raise ValueError(f"{name}: factor must be at least 0, such as 0.01, got {factor}")
    sums = [tf.reduce_sum(measure(tf.cast(weight, statistics_dtype(weight.dtype)))) for weight in weights]
    if not sums:
        raise ValueError(f"{name}: no weights to sum over")
    return factor * tf.add_n(sums)
