"""Attention layers: multi-head attention with its projections, and single-head attention with a learned scale.

Glossary: B batch, T query positions, S key positions, D width, N heads, d head width.
"""

import math
from collections.abc import Iterable

import tensorflow as tf

from tfcore import random
from tfcore.initializers import glorot_uniform
from tfcore.module import Module
from tfcore.ops.attention import FORMULATIONS, attend, attention_weights
from tfcore.ops.attention_folded import attend_folded, multiplications
from tfcore.ops.linear import linear
from tfcore.precision import variable_dtype

# What MultiHeadAttention knows: those of the op, the one that needs the projections, a choice by the sizes, a control.
MULTI_HEAD_FORMULATIONS = (*FORMULATIONS, "folded", "auto", "uniform")


class Projection(Module):
    """One head-wise linear map: (B, T, D) -> (B, N, T, d), or with `merge` back: (B, N, T, d) -> (B, T, D).

    Weights, shaped as Keras's: `kernel` (D, N, d) and `bias` (N, d); with `merge` (N, d, D) and (D,). Glorot-uniform
    with the fans of a convolution kernel, as Keras counts them.
    """

    def __init__(
        self, *, width: int, heads: int, head_width: int, merge: bool, key: tf.Tensor, dtype: tf.DType = tf.float32
    ):
        super().__init__()
        self.merge, self.dtype = merge, dtype
        stored = variable_dtype(dtype)
        kernel, bias = (
            ((heads, head_width, width), [width]) if merge else ((width, heads, head_width), [heads, head_width])
        )
        self.kernel = tf.Variable(glorot_uniform(kernel, key, stored), name="kernel")
        self.bias = tf.Variable(tf.zeros(bias, stored), name="bias")

    def weights(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (kernel, bias) in the compute dtype."""
        return tf.cast(self.kernel, self.dtype), tf.cast(self.bias, self.dtype)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x, kernel = tf.cast(x, self.dtype), tf.cast(self.kernel, self.dtype)
        # The heads side by side: one product, and the bias is added where its gradient sums over leading axes.
        if self.merge:
            heads, head_width, width = kernel.shape
            x = tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [-1, x.shape[2], heads * head_width])  # (B, T, N · d)
            return linear(x, tf.reshape(kernel, [-1, width]), self.bias)  # (B, T, D)
        width, heads, head_width = kernel.shape
        y = linear(x, tf.reshape(kernel, [width, -1]), tf.reshape(self.bias, [-1]))  # (B, T, N · d)
        return tf.transpose(tf.reshape(y, [-1, x.shape[1], heads, head_width]), [0, 2, 1, 3])  # (B, N, T, d)


class MultiHeadAttention(Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2): (B, T, D), (B, S, D') -> (B, T, D).

    Self-attention where no context is given. Weights: `query`, `key`, `value`, `output`, each a `Projection`; names and
    shapes as in keras.layers.MultiHeadAttention (whose output layer is called attention_output).

    Args:
        width: D, of the queries and of the output.
        context_width: D', of what keys and values are made from; D by default.
        heads: N.
        key_dim: d, of queries, keys and values.
        dropout: share of the weights dropped in training.
        site: number of this layer's dropout under a step's key.
        formulation: "direct", "chunked" or "folded", see `tfcore.ops`; "auto" takes, of direct and folded, the one with
            fewer multiplications for the layer's sizes, the numbers of positions and the batch, as
            `tfcore.ops.attention_folded.multiplications` counts them. "uniform" is no formulation of
            attention but its control: every weight 1/S, whatever queries and keys say, which then never learn.

    Raises:
        ValueError: for sizes below 1, a rate outside [0, 1), an unknown formulation.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        key_dim: int,
        context_width: int | None = None,
        dropout: float = 0.0,
        site: int = 0,
        formulation: str = "auto",
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        context_width = width if context_width is None else context_width
        for name, size in (("width", width), ("context_width", context_width), ("heads", heads), ("key_dim", key_dim)):
            if size < 1:
                raise ValueError(f"MultiHeadAttention: {name} must be at least 1, got {size}")
        check_attention(dropout, formulation, MULTI_HEAD_FORMULATIONS)
        self.dropout, self.site, self.formulation, self.dtype = dropout, site, formulation, dtype
        self.scale = 1.0 / math.sqrt(key_dim)
        if formulation == "uniform":
            self.formulation, self.scale = "direct", 0.0  # softmax of equal scores
        sizes = {"heads": heads, "head_width": key_dim, "dtype": dtype}
        self.query = Projection(width=width, merge=False, key=random.fold_in(key, 0), **sizes)
        self.key = Projection(width=context_width, merge=False, key=random.fold_in(key, 1), **sizes)
        self.value = Projection(width=context_width, merge=False, key=random.fold_in(key, 2), **sizes)
        self.output = Projection(width=width, merge=True, key=random.fold_in(key, 3), **sizes)

    def __call__(
        self,
        x: tf.Tensor,
        context: tf.Tensor | None = None,
        *,
        mask: tf.Tensor | None = None,
        training: bool = False,
        key: tf.Tensor | None = None,
    ) -> tf.Tensor:
        context = x if context is None else context
        formulation = self.chosen(x.shape[0], x.shape[1], context.shape[1])
        settings = {"scale": self.scale, "mask": mask, **_dropout(self, training, key)}
        if formulation == "folded":
            projections = {name: getattr(self, name).weights() for name in ("query", "key", "value", "output")}
            return attend_folded(tf.cast(x, self.dtype), tf.cast(context, self.dtype), **projections, **settings)
        heads = attend(self.query(x), self.key(context), self.value(context), formulation=formulation, **settings)
        return self.output(heads)  # (B, N, T, d) -> (B, T, D)

    def chosen(self, batch: int | None, queries: int, keys: int) -> str:
        """Return the formulation for so many examples (None, an open batch, counts as one), queries and keys."""
        if self.formulation != "auto":
            return self.formulation
        width, heads, head_width = self.query.kernel.shape
        counts = multiplications(
            batch=batch or 1,
            queries=queries,
            keys=keys,
            heads=heads,
            head_width=head_width,
            width=width,
            context_width=self.key.kernel.shape[0],
        )
        return min(counts, key=lambda name: counts[name])  # direct, if they are equal

    def weights(self, x: tf.Tensor, context: tf.Tensor | None = None, *, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Return the attention weights (B, N, T, S) of inference, for pictures and audits."""
        context = x if context is None else context
        return attention_weights(self.query(x), self.key(context), scale=self.scale, mask=mask)


class Attention(Module):
    """Single-head attention on given queries, keys and values with one learned scale in place of 1/√d.

    (B, T, d), (B, S, d), (B, S, e) -> (B, T, e). Weight: `scale` (), 1 at the start; as keras.layers.Attention with
    use_scale. Arguments and errors as in `MultiHeadAttention`.
    """

    def __init__(
        self, *, dropout: float = 0.0, site: int = 0, formulation: str = "direct", dtype: tf.DType = tf.float32
    ):
        super().__init__()
        check_attention(dropout, formulation)
        self.dropout, self.site, self.formulation, self.dtype = dropout, site, formulation, dtype
        self.scale = tf.Variable(tf.ones([], variable_dtype(dtype)), name="scale")

    def __call__(
        self,
        query: tf.Tensor,
        keys: tf.Tensor,
        values: tf.Tensor,
        *,
        training: bool = False,
        key: tf.Tensor | None = None,
    ) -> tf.Tensor:
        query, keys, values = (tf.cast(x, self.dtype)[:, None] for x in (query, keys, values))  # (B, 1, T or S, .)
        heads = attend(
            query,
            keys,
            values,
            scale=self.scale,
            formulation=self.formulation,
            **_dropout(self, training, key),
        )  # (B, 1, T, e)
        return heads[:, 0]  # (B, T, e)

    def weights(self, query: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Return the attention weights (B, T, S) of inference, for pictures and audits."""
        query, keys = (tf.cast(x, self.dtype)[:, None] for x in (query, keys))  # (B, 1, T or S, d)
        return attention_weights(query, keys, scale=self.scale)[:, 0]


def check_attention(dropout: float, formulation: str, known: Iterable[str] = FORMULATIONS) -> None:
    """Raise ValueError for a dropout rate outside [0, 1) or an unknown formulation."""
    if not 0 <= dropout < 1:
        raise ValueError(f"attention: dropout must be at least 0 and below 1, got {dropout}")
    if formulation not in known:
        raise ValueError(f"attention: formulation must be one of {', '.join(known)}, got {formulation!r}")


def _dropout(layer: MultiHeadAttention | Attention, training: bool, key: tf.Tensor | None) -> dict:
    """The dropout arguments of `attend` for a layer with a rate and a site."""
    if not training or layer.dropout == 0:
        return {}
    if key is None:
        raise ValueError("attention: training with dropout needs a key, such as tfcore.random.make_key(seed)")
    return {"dropout_rate": layer.dropout, "dropout_key": random.fold_in(key, layer.site)}
