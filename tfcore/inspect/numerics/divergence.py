"""Where two computations of one training step part, with float64 as referee: the first divergent tensor, both ways."""

import dataclasses
import inspect
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfcore.inspect.numerics.recording import KINDS, Computation, Record, Values, record
from tfcore.inspect.numerics.referee import FORMATS, Rounding, follow, shaken
from tfcore.module import Module

# A part does many operations, each of which rounds; the measured movement is that of one random rounding of its inputs.
OPERATIONS = 32.0
# One that adds up n numbers rounds n partial sums; their errors add up as √n (Higham and Mary 2019), tails allowed for.
SUMS = 4.0
# Adam's first step divides by 1 − β₂ (0.001), whose float32 rounding is 500 times that of β₂; twice, and a factor over.
UPDATE = 1024.0
AMPLIFIED = 16.0  # from here on a sentence says that a part amplifies
NOISE = 0.25  # a tensor that rounding moves by more of its largest number is rounding itself
DRAWS = 3  # of random rounding, to see that: one may leave a tensor of a single number where it was
PHASES = dict(zip(KINDS, ("output", "gradient of the output", "gradient", "value after the step"), strict=True))


@dataclasses.dataclass(frozen=True)
class Side:
    """What the referee found of one side's tensor; all are shares of the tensor's largest magnitude in float64.

    Attributes:
        error: the distance from the step in float64, from the start.
        own: the part's own error, from the inputs it had; None where it was not computed.
        explained: what its format explains of that.
        amplification: by how much the part enlarges relative changes of its inputs.
    """

    error: float
    own: float
    explained: float
    amplification: float

    @property
    def fault(self) -> bool:
        """Whether the part's own error is more than its format explains; one that is not a number is, too."""
        return not self.own <= self.explained


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of the step: what it is of, both sides against float64, and whether they are equal bit by bit."""

    name: str
    kind: str
    a: Side
    b: Side
    equal: bool
    line: str = ""
    formula: str = ""

    @property
    def quotient(self) -> float | None:
        """The error of b over that of a; None where a has none."""
        return self.b.error / self.a.error if self.a.error else None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One direction's first divergent tensor, None where all of it is bit-equal; and what it means in a sentence."""

    direction: str
    tensor: Tensor | None
    fault: bool
    sentence: str


@dataclasses.dataclass(frozen=True)
class Divergence:
    """All tensors in the order of the step, the verdicts forward and backward, and names that only one side has."""

    formats: tuple[str, str]
    tensors: list[Tensor]
    forward: Verdict
    backward: Verdict
    only: tuple[list[str], list[str]]

    @property
    def fault(self) -> bool:
        """Whether there is more than rounding anywhere."""
        return self.forward.fault or self.backward.fault

    def to_json(self) -> dict:
        """Return all of it as JSON values."""
        rows = [dataclasses.asdict(tensor) | {"quotient": tensor.quotient} for tensor in self.tensors]
        verdicts = {v.direction: dataclasses.asdict(v) for v in (self.forward, self.backward)}
        return {"formats": self.formats, "verdicts": verdicts, "only": self.only, "tensors": rows}


def compare(
    a: Record,
    b: Record,
    referee: Computation,
    *,
    formats: tuple[str, str] = ("float32", "float32"),
    scales: tuple[float, float] = (1.0, 1.0),
    model: Module | None = None,
) -> Divergence:
    """Return where two records of one step part.

    Args:
        referee: the same step in float64, eager, on the same weights, batch and key.
        formats: in which each side computes: float64, float32, bfloat16 or float16.
        scales: each side's loss scale.
        model: whose modules the names are of, for lines and formulas.

    Raises:
        ValueError: for an unknown format, or shapes in which a side and the referee differ.
    """
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")
    exact = record(dataclasses.replace(referee, xla=None))
    zeros = _rounding_alone(exact, [shaken(referee, Rounding("float64", seed=seed)) for seed in range(DRAWS)])
    sides = [
        _Judged(side, exact, zeros, referee, format, scale)
        for side, format, scale in zip((a, b), formats, scales, strict=True)
    ]
    places = _places(model)
    tensors, only = [], ([], [])
    for kind in KINDS:
        left, right = getattr(a, kind), getattr(b, kind)
        for names, mine, other in ((only[0], left, right), (only[1], right, left)):
            names += [f"{PHASES[kind]} of {name}" for name in mine if name not in other]
        for name in getattr(exact, kind):
            if name in left and name in right:
                one, two = (side.judge(kind, name) for side in sides)
                equal = bool(np.array_equal(left[name], right[name], equal_nan=True))
                tensors.append(Tensor(name, kind, one, two, equal, *places(name)))
    forward = [tensor for tensor in tensors if tensor.kind == "forward"]
    backward = [tensor for tensor in tensors if tensor.kind != "forward"]
    return Divergence(
        formats, tensors, _verdict("forward", forward, formats), _verdict("backward", backward, formats), only
    )


class _Judged:
    """One side with what the referee finds of it."""

    def __init__(
        self, side: Record, exact: Record, zeros: set[tuple[str, str]], referee: Computation, format: str, scale: float
    ):
        self.side, self.exact, self.zeros, self.format = side, exact, zeros, format
        _check_shapes(side, exact)
        self.own = follow(referee, side)
        self.moved = follow(referee, side, Rounding(format, scale))
        self.scale = scale

    def judge(self, kind: str, name: str) -> Side:
        unit, least = FORMATS[self.format if kind != "after" else _stored(self.format)]
        value, exact = self._of(self.side, kind, name), self._of(self.exact, kind, name)
        own = self._of(self.own, kind, name)
        largest = float(np.abs(own[np.isfinite(own)]).max(initial=0.0))
        movement = _distance(self._of(self.moved, kind, name), own)
        size = max(float(np.abs(exact[np.isfinite(exact)]).max(initial=0.0)), largest)
        if size == 0.0:  # no largest number of its own: against that of its kind, of which it is rounding
            size = (
                max((float(np.abs(x).max(initial=0.0)) for x in getattr(self.exact, kind).values()), default=0) or 1.0
            )
            movement = max(movement, unit * size)
        absolute = least / (self.scale if kind in ("backward", "gradients") else 1.0)
        if (kind, name) in self.zeros:
            movement = max(movement, float(np.abs(exact).max(initial=0.0)) * unit / FORMATS["float64"][0])
        operations = UPDATE if kind == "after" else OPERATIONS + SUMS * math.sqrt(self._terms(kind, name))
        explained = operations * (max(movement, unit * largest) + absolute)
        amplification = movement / (unit * largest) if largest else 0.0
        return Side(_distance(value, exact) / size, _distance(value, own) / size, explained / size, amplification)

    def _terms(self, kind: str, name: str) -> int:
        """How many numbers the part adds up at most: rows of its kernels, and rows of the tensors beside the name.

        A parameter's gradient adds up at least as many as there are outputs for each of its numbers.
        """
        path = name.partition(" #")[0].partition("[")[0]
        around = (path, path.rpartition("/")[0])
        outputs = [self.side.forward[part].shape for part in around if part in self.side.forward]
        sizes = [v.shape for n, v in self.side.after.items() if n.rpartition("/")[0] in around] + outputs
        terms = [math.prod(shape[:-1]) for shape in sizes]
        if kind == "gradients":
            terms += [math.prod(shape) // max(self.side.gradients[name].size, 1) for shape in outputs]
        return max(terms, default=1)

    @staticmethod
    def _of(record: Record, kind: str, name: str) -> np.ndarray:
        return np.asarray(getattr(record, kind)[name], np.float64)


def _rounding_alone(exact: Record, moved: list[Record]) -> set[tuple[str, str]]:
    """Return (kind, name) of what is zero but for rounding: moving the weights by float64's own roundoff changes it.

    Such as the gradient of a bias in front of a batch norm, or of attention's keys. What float64 leaves of it is what
    the order of the operations leaves there, and a format of a larger roundoff leaves as much more.
    """
    return {
        (kind, name)
        for kind in KINDS
        if kind != "after"  # judged from the recorded gradients, whatever these are
        for name, value in getattr(exact, kind).items()
        if max(_distance(getattr(one, kind)[name], value) for one in moved) >= NOISE * np.abs(value).max(initial=0.0)
    }


def _stored(format: str) -> str:
    """The format of weights."""
    return "float64" if format == "float64" else "float32"


def _check_shapes(side: Record, exact: Record) -> None:
    for kind in KINDS:
        theirs: Values = getattr(side, kind)
        for name, value in getattr(exact, kind).items():
            if name in theirs and theirs[name].shape != value.shape:
                raise ValueError(
                    f"{PHASES[kind]} of {name} has shape {theirs[name].shape}, but {value.shape} in float64: "
                    "compare computations of the same structure"
                )


def _distance(x: np.ndarray, y: np.ndarray) -> float:
    """The largest |x − y|; infinities of one sign are equal, and what else is not finite is infinitely far."""
    with np.errstate(invalid="ignore"):
        far = np.abs(x - y)
    far = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, far)
    return float(np.nan_to_num(far, nan=np.inf, posinf=np.inf).max(initial=0.0))


def _verdict(direction: str, tensors: list[Tensor], formats: tuple[str, str]) -> Verdict:
    fault = next((tensor for tensor in tensors if tensor.a.fault or tensor.b.fault), None)
    if fault is not None:
        return Verdict(direction, fault, True, _fault_sentence(fault, formats))
    first = next((tensor for tensor in tensors if not tensor.equal), None)
    if first is None:
        return Verdict(direction, None, False, f"{direction}: bit-equal everywhere")
    named = f"{direction}: first different in the {PHASES[first.kind]} of {first.name}"
    kinds = " and ".join(dict.fromkeys(formats))
    sentence = f"{named}: rounding of {kinds}, as expected"
    factors = {t.name: max(_below_noise(t.a, formats[0]), _below_noise(t.b, formats[1])) for t in tensors}
    most = max(factors, key=lambda name: factors[name])
    if factors[most] >= AMPLIFIED:
        sentence += f"; amplified {factors[most]:,.0f} times in {most}: its terms nearly cancel"
    return Verdict(direction, first, False, sentence)


def _below_noise(side: Side, format: str) -> float:
    """The amplification, 0 of a tensor that is zero but for rounding: a bias's gradient before a batch norm."""
    return side.amplification if side.amplification * FORMATS[format][0] < NOISE else 0.0


def _fault_sentence(tensor: Tensor, formats: tuple[str, str]) -> str:
    what = f"the {PHASES[tensor.kind]} of {tensor.name}"
    sides = {"a": tensor.a, "b": tensor.b}
    bad = {label: side for label, side in sides.items() if side.fault}
    label, side = max(bad.items(), key=lambda pair: pair[1].own)
    format = formats["ab".index(label)]
    if not np.isfinite(side.own):
        return f"{label} is not finite in {what}, and float64 is: out of {format}'s range, or a fault"
    much = f"off by {side.own:.2g} of its largest number where {format} explains {side.explained:.2g}"
    if len(bad) == 2:
        return f"a and b both part from float64 in {what}, {label} {much}: a fault that they share"
    return f"{label} parts from float64 in {what}, {much}: a fault"


def _places(model: Module | None) -> Callable[[str], tuple[str, str]]:
    """Return place(name) -> (file:line of the module's call, the first line of what its class says of itself)."""
    modules = {} if model is None else {path or "model": part for path, part in model.named_modules().items()}

    def place(name: str) -> tuple[str, str]:
        path = name.partition(" #")[0].partition("[")[0]
        while path and path not in modules:
            path = path.rpartition("/")[0]  # a variable is its module's
        if path not in modules:
            return "", ""
        kind = type(modules[path])
        call = inspect.unwrap(kind.__call__)
        file = Path(inspect.getsourcefile(kind) or "").name
        return f"{file}:{call.__code__.co_firstlineno}", (inspect.getdoc(kind) or "").partition("\n")[0]

    return place
