"""The weights of a model's attention layers, whatever formulation computes them: for pictures and audits."""

import tensorflow as tf

from tfcore.inspect.graph.calls import Call, watch
from tfcore.layers.attention import Attention, MultiHeadAttention
from tfcore.module import Module


def attention_maps(
    model: Module, inputs: tf.Tensor, kind: type[MultiHeadAttention] | type[Attention]
) -> list[tf.Tensor]:
    """Return the weights of each call of an attention layer of a kind, in inference: (B, N, T, S), or (B, T, S).

    `inputs`: what the model is called with; it runs once, eagerly.
    """
    maps = []

    def see(call: Call):
        if isinstance(call.callee, kind):
            maps.append(weights_of_call(call))
        return call.proceed()

    with watch(model, see):
        model(inputs, training=False)
    return maps


def weights_of_call(call: Call, examples: int | None = None) -> tf.Tensor:
    """Return the weights that an attention layer gives the arguments of a call, of the first `examples` (all)."""
    args, kwargs = call.args, call.kwargs
    if isinstance(call.callee, Attention):
        args = args[:2]  # without the values
    chosen = {name: value for name, value in kwargs.items() if name in ("x", "context", "query", "keys", "mask")}
    with call.unwatched():
        return call.callee.weights(
            *(_first(value, examples) for value in args),
            **{name: _first(value, examples) for name, value in chosen.items()},
        )


def _first(value, examples: int | None):
    return value[:examples] if tf.is_tensor(value) else value
