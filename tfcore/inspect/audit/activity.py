"""What every layer gives in inference: constant or not, silent ReLUs, saturation, attention rows, numerical range.

Glossary: B batch, T query and S key positions, N heads, C channels (the last axis). Positions are all axes between.

A call is accused of being constant only where its input is not: so the first one that loses the information is named,
and neither what comes after it nor a table of positions, which has no input. What a call's parts are accused of, the
call itself is not.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcore.inspect.graph.attention_weights import weights_of_call
from tfcore.inspect.graph.calls import Call, outputs, watch
from tfcore.layers.attention import Attention, MultiHeadAttention, Projection
from tfcore.layers.dropout import Dropout
from tfcore.module import Module

AXES = ("batch", "positions", "channels")
CONSTANT = 1e-6  # differences up to this share of the largest |x| are rounding (float32 has 1.2e-7)
SATURATED = 0.01  # a sigmoid or tanh is saturated where its derivative is below this share of the largest
EVEN_ENTROPY = 0.99  # a row of attention counts as uniform above this share of log S, the entropy of the even one
ONE_HOT = 0.99  # and as one-hot where one weight is above this
ATTENTION_EXAMPLES = 4  # of a batch, whose weights are looked at: there are N·T·S of them each
LARGEST_HALF = 65504.0  # float16's largest number
SMALLEST_HALF = 2.0**-25  # half of float16's smallest number: below, rounding gives 0


@dataclasses.dataclass
class Activity:
    """What one call of a layer or activation gave over all batches; shares are None where they make no sense.

    Attributes:
        name, path: of the call, see `tfcore.inspect.graph.calls`; kind: the class, or the activation's name.
        shape: of the output, without the batch.
        constant: the axes ("batch", "positions", "channels") along which the output never varied.
        lost: those of them along which the input did vary.
        silent: ReLU: share of the channels that never gave more than 0.
        saturated: sigmoid, tanh: share of the values where the derivative is nearly 0.
        uniform, one_hot: attention: share of rows that are (nearly) so.
        uneven: attention: the largest |S · weight − 1|, 0 for exactly uniform rows.
        largest: the largest |x|; overflow: share of |x| above float16's range; underflow: of the x that are not 0, the
            share that float16 rounds to 0; finite: whether no output is NaN or infinite.
    """

    name: str
    path: str
    kind: str
    shape: tuple[int, ...]
    parents: tuple[str, ...]
    constant: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    silent: float | None = None
    saturated: float | None = None
    uniform: float | None = None
    one_hot: float | None = None
    uneven: float | None = None
    largest: float = 0.0
    overflow: float = 0.0
    underflow: float = 0.0
    finite: bool = True


def measure_activity(model: Module, inputs: Sequence[tf.Tensor]) -> list[Activity]:
    """Return what each call gives in inference, in the order in which the calls begin; inputs: batches (B, ...), B ≥ 2.

    Calls of dropout, which does nothing in inference, are left out.
    """
    found: dict[str, _Sums] = {}

    def handler(call: Call):
        if isinstance(call.callee, Dropout):
            return call.proceed()
        if call.name not in found:  # before it runs, so that a layer stands before its parts
            found[call.name] = _Sums(call)
        result = call.proceed()
        given = outputs(result)
        if given and given[0].dtype.is_floating:
            with call.unwatched():
                found[call.name].add(call, _canonical(given[0], call.callee), len(batch))
        return result

    for batch in inputs:
        with watch(model, handler):
            model(batch, training=False)
    return [sums.result() for sums in found.values() if sums.count]


class _Sums:
    """Running sums of one call over all batches."""

    def __init__(self, call: Call):
        kind = type(call.callee).__name__ if isinstance(call.callee, Module) else call.callee.__name__
        self.activity = Activity(call.name, call.path, kind, (), call.parents)
        self.count = self.overflow = self.underflow = self.not_zero = self.saturated = 0
        self.varies, self.input_varies, self.has_axis = set(), set(), set()
        self.fired: np.bool_ | np.ndarray = np.False_  # (C,) once there is one
        self.rows, self.uniform, self.one_hot, self.uneven = 0, 0, 0, 0.0

    def add(self, call: Call, x: np.ndarray, examples: int) -> None:
        """Add one batch's output (B, ..., C); one without a batch, such as a table of positions, gets a batch of 1."""
        x = x if x.ndim and len(x) in (1, examples) else x[None]
        entry, size = self.activity, np.abs(x)
        entry.shape = x.shape[1:]
        self.count += x.size
        entry.finite &= bool(np.isfinite(x).all())
        entry.largest = max(entry.largest, float(size.max(initial=0.0)))
        self.overflow += int(np.count_nonzero(size > LARGEST_HALF))
        self.not_zero += int(np.count_nonzero(size))
        self.underflow += int(np.count_nonzero((size > 0) & (size <= SMALLEST_HALF)))
        self.has_axis |= _axes(x)
        self.varies |= _varying(x)
        # What has another first axis than the output is the same for all examples: latents, positions.
        for part in outputs([*call.args, *call.kwargs.values()]):
            if part.dtype.is_floating and part.shape.rank > 1 and part.shape[0] == examples:
                self.input_varies |= _varying(_canonical(part, call.callee))
        if entry.kind == "relu":
            self.fired |= (x > 0).any(axis=tuple(range(x.ndim - 1)))  # (C,)
        if entry.kind in ("sigmoid", "tanh"):
            slope = 4 * x * (1 - x) if entry.kind == "sigmoid" else 1 - x * x  # over its largest
            self.saturated += int(np.count_nonzero(slope < SATURATED))
        if isinstance(call.callee, Attention | MultiHeadAttention):
            weights = weights_of_call(call, ATTENTION_EXAMPLES)  # (..., T, S)
            self._add_rows(weights.numpy().astype(np.float64))

    def _add_rows(self, weights: np.ndarray) -> None:
        keys = weights.shape[-1]
        if keys == 1:
            return  # the one row there can be
        entropy = -(weights * np.log(np.maximum(weights, np.finfo(weights.dtype).tiny))).sum(axis=-1)
        self.rows += entropy.size
        self.uniform += int(np.count_nonzero(entropy > EVEN_ENTROPY * math.log(keys)))
        self.one_hot += int(np.count_nonzero(weights.max(axis=-1) > ONE_HOT))
        self.uneven = max(self.uneven, float(np.abs(keys * weights - 1).max()))

    def result(self) -> Activity:
        entry = self.activity
        entry.constant = tuple(axis for axis in AXES if axis in self.has_axis - self.varies)
        entry.lost = tuple(axis for axis in entry.constant if axis in self.input_varies)
        entry.overflow = float(self.overflow / self.count)
        entry.underflow = float(self.underflow / max(self.not_zero, 1))
        if entry.kind == "relu":
            entry.silent = 1.0 - float(np.mean(self.fired))
        if entry.kind in ("sigmoid", "tanh"):
            entry.saturated = float(self.saturated / self.count)
        if self.rows:
            entry.uniform, entry.one_hot = float(self.uniform / self.rows), float(self.one_hot / self.rows)
            entry.uneven = self.uneven
        return entry


def _canonical(x: tf.Tensor, callee: object) -> np.ndarray:
    """The values with channels last: of a Projection's (B, N, T, d), (B, T, N·d), so that heads are no positions."""
    values = x.numpy() if x.dtype.size >= 4 else tf.cast(x, tf.float32).numpy()
    if isinstance(callee, Projection) and values.ndim == 4:
        batch, _, positions, _ = values.shape
        return values.swapaxes(1, 2).reshape(batch, positions, -1)
    return values


def _axes(x: np.ndarray) -> set[str]:
    """The axes along which x (B, ..., C) could vary."""
    positions = math.prod(x.shape[1:-1])
    sizes = {"batch": x.shape[0], "positions": positions, "channels": x.shape[-1] if x.ndim > 1 else 1}
    return {axis for axis, size in sizes.items() if size > 1}


def _varying(x: np.ndarray) -> set[str]:
    """The axes along which x (B, ..., C) varies by more than rounding."""
    noise = CONSTANT * np.abs(x).max(initial=0.0)
    flat = x.reshape(len(x), -1, x.shape[-1])  # (B, positions, C)
    firsts = {"batch": flat[:1], "positions": flat[:, :1], "channels": flat[:, :, :1]}
    # Not <=: a NaN varies.
    return {axis for axis in _axes(x) if not np.abs(flat - firsts[axis]).max(initial=0.0) <= noise}
