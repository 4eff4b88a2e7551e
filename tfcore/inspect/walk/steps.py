"""Layers step by step: what a layer computes inside, by the plain formulas of `tfcore.ops`, from its recorded input.

The model's own pass may use a formulation that never forms these tensors, or one with a gradient of its own into which
no tape sees. So the layer is computed again here, its output's gradient is handed in, and a tape gives that of each
step. Each function takes the layer, the recorder and the call's arguments, and returns the output.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import tensorflow as tf

from tfcore.inspect.walk.stops import Rule
from tfcore.layers.attention import Attention, MultiHeadAttention, Projection
from tfcore.layers.conv import Conv2D
from tfcore.layers.involution import Involution
from tfcore.layers.normalization import BatchNorm
from tfcore.module import Module
from tfcore.ops.activations import relu, softmax
from tfcore.ops.attention import attend, attention_weights
from tfcore.ops.convolution import convolve
from tfcore.ops.involution import involve
from tfcore.ops.linear import linear
from tfcore.ops.normalization import batch_norm
from tfcore.ops.parameters import add_parameter
from tfcore.ops.pooling import average_pool, global_average_pool, max_pool


class Step(Protocol):
    """Records a tensor under a name inside of the layer and returns it.

    of: the operation, whose docstring is the formula; rule: (kind, tensors it was computed from, settings); module,
    uses: whose parameters it uses, and which of them (all).
    """

    def __call__(
        self,
        name: str,
        tensor: tf.Tensor,
        axes: str,
        of: Callable,
        rule: tuple[str, tuple[tf.Tensor, ...], dict] | None = None,
        module: Module | None = None,
        uses: Sequence[str] | None = None,
    ) -> tf.Tensor: ...

    def cast(self, tensor: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Return a recorded tensor in the layer's compute dtype, under the same name."""


def multi_head_attention(layer, step: Step, x, context=None, *, mask=None, **_) -> tf.Tensor:
    """Queries, keys, values, scores, weights, heads."""
    x = step.cast(x, layer.dtype)
    context = x if context is None else step.cast(context, layer.dtype)
    parts = []
    for name, source in (("query", x), ("key", context), ("value", context)):
        projection: Projection = getattr(layer, name)
        rule = ("projection", (source,), {})
        parts.append(step(name, projection(source), "NTd", linear, rule, projection))
    query, key, value = parts
    heads = _mixed(step, query, key, value, layer.scale, mask, "N")
    return step("output", layer.output(heads), "TD", linear, ("merge", (heads,), {}), layer.output)


def attention(layer, step: Step, query, keys, values, **_) -> tf.Tensor:
    """Scores, weights and their mixture of the values, of one head."""
    query, keys, values = (step.cast(x, layer.dtype) for x in (query, keys, values))
    return _mixed(step, query, keys, values, layer.scale, None, "", layer)


def _mixed(step: Step, query, key, value, scale, mask, heads: str, module=None) -> tf.Tensor:
    factor = tf.cast(scale, query.dtype)
    scores = factor * tf.matmul(query, key, transpose_b=True)  # (B, N, T, S)
    rule = ("score", (query, key), {"scale": float(factor)})
    scores = step("scores", scores, f"{heads}TS", attention_weights, rule, module)
    if mask is None:
        weights = tf.nn.softmax(scores)
    else:
        weights = tf.where(mask, tf.nn.softmax(tf.where(mask, scores, scores.dtype.min)), 0.0)
    weights = step("weights", weights, f"{heads}TS", softmax, ("softmax", (scores,), {}))
    mixed = tf.matmul(weights, value)  # (B, N, T, d)
    return step("heads", mixed, f"{heads}Td", attend, ("mix", (weights, value), {}))


def involution(layer: Involution, step: Step, x, **_) -> tf.Tensor:
    """The kernel of each pixel, and how it comes about from the pixel itself."""
    x = step.cast(x, layer.dtype)
    source = x
    if layer.stride > 1:
        source = average_pool(x, kernel_size=layer.stride, padding="SAME")  # (B, H', W', C)
        source = step("pooled", source, "HWC", average_pool)
    reduced = layer.reduce(source)
    reduced = step("reduce", reduced, "HWM", convolve, rule_of(layer.reduce, (source,)), layer.reduce)
    if layer.norm is not None:
        norm = rule_of(layer.norm, (reduced,))
        reduced = step("norm", layer.norm(reduced), "HWM", batch_norm, norm, layer.norm)
    hidden = step("activated", relu(reduced), "HWM", relu, ("relu", (reduced,), {}))
    if layer.formulation == "mean":
        hidden = tf.broadcast_to(tf.reduce_mean(hidden, axis=(1, 2), keepdims=True), tf.shape(hidden))
        hidden = step("mean", hidden, "HWM", global_average_pool)
    expanded = layer.expand(hidden)  # (B, H', W', K·K·G)
    rule = rule_of(layer.expand, (hidden,))
    taps = layer.kernel_size**2
    kernel = tf.reshape(expanded, [-1, *expanded.shape[1:3], taps, layer.groups])  # (B, H', W', K·K, G)
    kernel = step("kernel", kernel, "HWKG", convolve, rule, layer.expand)
    geometry: dict[str, Any] = {
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "group_order": layer.group_order,
    }
    output = involve(x, kernel, formulation="patches", **geometry)  # (B, H', W', C)
    return step("output", output, "HWC", involve, ("involution", (x, kernel), geometry))


def convolution(layer: Conv2D, step: Step, x, *, pool: int = 1, **_) -> tf.Tensor:
    """Convolved, pooled; the bias comes last."""
    x, kernel = step.cast(x, layer.dtype), tf.cast(layer.kernel, layer.dtype)
    convolved = convolve(x, kernel, stride=layer.stride, padding=layer.padding, formulation=layer.formulation)
    kind, inputs, settings = rule_of(layer, (x,))
    convolved = step(
        "convolved", convolved, "HWC", convolve, (kind, inputs, settings | {"bias": False}), layer, ["kernel"]
    )
    pooled = max_pool(convolved, kernel_size=pool)  # (B, H'/pool, W'/pool, filters)
    pooled = step("pooled", pooled, "HWC", max_pool, ("max pool", (convolved,), {"size": pool}))
    if layer.bias is None:
        return pooled
    return step(
        "output", add_parameter(pooled, layer.bias), "HWC", add_parameter, ("bias", (pooled,), {}), layer, ["bias"]
    )


EXPANSIONS: dict[type[Module], Callable[..., tf.Tensor]] = {
    MultiHeadAttention: multi_head_attention,
    Attention: attention,
    Involution: involution,
}


def expansion_of(callee: object, kwargs: dict) -> Callable[..., tf.Tensor] | None:
    """Return what computes a call step by step, or None where nothing inside of it has a name."""
    if isinstance(callee, Conv2D):
        return convolution if kwargs.get("pool", 1) > 1 else None
    return EXPANSIONS.get(type(callee))  # type: ignore[arg-type]


def rule_of(callee: Any, inputs: tuple[tf.Tensor, ...]) -> tuple[str, tuple[tf.Tensor, ...], dict]:
    """Return (kind, inputs, settings) of a call of a convolution or a batch normalization."""
    if isinstance(callee, Conv2D):
        size = callee.kernel.shape[0]
        settings = {"kernel_size": size, "stride": callee.stride, "padding": callee.padding}
        return "convolution", inputs, settings | {"bias": callee.bias is not None}
    if isinstance(callee, BatchNorm):
        return "batch norm", inputs, {"epsilon": callee.epsilon}
    raise TypeError(f"no rule of {type(callee).__name__}")


def named(rule: tuple[str, tuple[tf.Tensor, ...], dict] | None, names: dict[int, str]) -> Rule | None:
    """Return a rule with the names of its tensors; None if one of them was not recorded."""
    if rule is None or any(id(tensor) not in names for tensor in rule[1]):
        return None
    return Rule(rule[0], tuple(names[id(tensor)] for tensor in rule[1]), rule[2])
