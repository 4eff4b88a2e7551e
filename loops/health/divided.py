"""A training step on several devices as one record: each marks its share of a batch; these are put together.

Every marked tensor of a share stands in zeros of the whole batch's shape; the sum over the devices, by which they add
up the gradients anyway, then holds all shares side by side, to the bit.
"""

import contextlib
import dataclasses
from collections.abc import Callable

import tensorflow as tf

from loops.devices.distribution import Devices
from tfcore.context import current_share, for_xla
from tfcore.inspect.numerics.recording import KINDS, Computation, Notes, Record, as_array, kept, no_update

Shapes = dict[str, tuple[int, ...]]


def record_divided(
    computation: Callable[[tf.Tensor, tf.Tensor], Computation], devices: Devices, inputs: tf.Tensor, labels: tf.Tensor
) -> Record:
    """Return what a step on several devices gives; the variables are as before afterwards.

    Args:
        computation: the step on such inputs and labels, those of the batch or of a share of it.
    """
    whole = computation(inputs, labels)
    shapes, dtypes = _traced(whole)

    def compute(inputs: tf.Tensor, labels: tf.Tensor) -> dict:
        notes = Notes()  # one for each device, whose turns alternate
        with for_xla() if whole.xla else contextlib.nullcontext():
            found = notes.step(dataclasses.replace(computation(inputs, labels), update=no_update), notes.watched)
        for kind in KINDS[:2]:
            found[kind] = {name: _spread(x, shapes[name], kind) for name, x in found[kind].items()}
        return found

    def update(found: dict) -> dict:
        whole.update({name: g / tf.cast(whole.scale, g.dtype) for name, g in found["gradients"].items()})
        return found

    step = devices.step(compute, update, lambda *_: None, moved={}, xla=bool(whole.xla))
    with kept(whole.variables):
        found = step(devices.place(inputs.numpy()), labels)
        values = {kind: {name: as_array(x) for name, x in found[kind].items()} for kind in KINDS[:3]}
        after = {name: as_array(variable) for name, variable in whole.variables.items()}
    for kind in KINDS[1:3]:
        values[kind] = {name: value / whole.scale for name, value in values[kind].items()}
    return Record(values["forward"], values["backward"], values["gradients"], after, dtypes)


def _traced(computation: Computation) -> tuple[Shapes, dict[str, str]]:
    """The marked tensors' shapes and dtypes in the whole batch; nothing is computed."""
    notes = Notes()
    trace = tf.function(
        lambda: notes.step(dataclasses.replace(computation, update=no_update), notes.watched), autograph=False
    )
    trace.get_concrete_function()
    return {name: tuple(x.shape) for name, x in notes.forward.items()}, dict(notes.dtypes)


def _spread(x: tf.Tensor, whole: tuple[int, ...], kind: str) -> tf.Tensor:
    """Place a share's tensor in zeros of the whole batch's shape, along the axis of the examples.

    What has no such axis, a table of positions, is the same on all devices, and one of them tells it; its gradients,
    and the parts of the loss, add up.
    """
    share = current_share()
    if share is None:
        return x
    axis = next((i for i, (own, all) in enumerate(zip(x.shape, whole, strict=True)) if own != all), None)
    if axis is None:
        first = kind == "backward" or not whole or share.start == 0
        return x if first else tf.zeros_like(x)
    each = whole[axis] // share.total
    pads = [[0, 0]] * len(whole)
    pads[axis] = [each * share.start, each * (share.total - share.start - share.size)]
    return tf.pad(x, pads)
