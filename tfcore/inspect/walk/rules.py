"""How a call's output follows from its input, and which operation's docstring says so."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfcore.inspect.graph.calls import Call
from tfcore.inspect.walk.steps import rule_of
from tfcore.layers.augmentation import Normalization
from tfcore.layers.conv import Conv2D
from tfcore.layers.dense import Dense
from tfcore.layers.embedding import Embedding
from tfcore.layers.normalization import BatchNorm, LayerNorm
from tfcore.layers.patches import Patches
from tfcore.module import Module
from tfcore.ops.activations import prelu
from tfcore.ops.attention import attend
from tfcore.ops.convolution import convolve
from tfcore.ops.involution import involve
from tfcore.ops.linear import linear
from tfcore.ops.normalization import batch_norm, layer_norm
from tfcore.ops.patches import extract_patches
from tfcore.ops.resampling import resize

# The operation whose docstring is a layer's formula; another layer's is the docstring of its class.
OPERATIONS: dict[str, Callable] = {
    "Conv2D": convolve,
    "Dense": linear,
    "LayerNorm": layer_norm,
    "BatchNorm": batch_norm,
    "Involution": involve,
    "MultiHeadAttention": attend,
    "Attention": attend,
    "Patches": extract_patches,
    "PRelu": prelu,
    "Resizing": resize,
}


def rule_of_call(call: Call) -> tuple[str, tuple[tf.Tensor, ...], dict] | None:
    """How the output of a call that has no steps inside follows from its input."""
    callee: Any = call.callee
    inputs = tuple(value for value in call.args if is_recordable(value))
    if isinstance(callee, Dense):
        return "dense", inputs, {}
    if isinstance(callee, Conv2D | BatchNorm):
        return rule_of(callee, inputs)
    if isinstance(callee, LayerNorm):
        return "layer norm", inputs, {"epsilon": callee.epsilon}
    if isinstance(callee, Normalization):
        return "normalization", inputs, {"epsilon": callee.epsilon}
    if isinstance(callee, Patches):
        return "patches", inputs, {"size": callee.patch_size}
    if isinstance(callee, Embedding):
        return "table", (), {}
    if isinstance(callee, Module):
        return None
    slope = call.kwargs.get("slope")  # of a leaky ReLU
    return callee.__name__, inputs, {"slope": slope} if isinstance(slope, float) else {}


def is_recordable(value: object) -> bool:
    """Return whether an argument of a call is a tensor that can be a stop."""
    return isinstance(value, tf.Tensor) and value.dtype.is_floating and value.shape.rank > 0
