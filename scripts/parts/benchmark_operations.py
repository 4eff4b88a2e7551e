"""Single operations over sizes, for benchmark.py --kind: how their cost grows, each formulation beside Keras's layer.

One quantity changes in each sweep, all others are held. Each formulation counts, at each size, at its best of XLA on
and off; one that would need more than LIMIT of memory there is left out.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Callable, Iterable

from parts import benchmark_processes as processes
from tfcore.inspect.profile.ratios import ratios, spread

LIMIT = 2**30  # bytes that a formulation may need at one size; all of them keep theirs until the race ends
TURN = 0.05  # seconds that a contender runs at one size before the next one's turn, one step at least
GROWTH = 3  # the last so many sizes tell how cost grows
WORDS = {"size": "image size", "kernel": "kernel size K", "length": "sequence length T", "batch": "batch size"}
SYMBOLS = {"size": "n", "kernel": "K", "length": "T", "batch": "B"}


@dataclasses.dataclass(frozen=True)
class Kind:
    """An operation: what is timed, its formulations, the values that each quantity takes, and how much memory it needs.

    `held` has the value of each quantity while another one changes, and the layer's other sizes.
    """

    what: str
    formulations: tuple[str, ...]
    sweeps: dict[str, tuple[int, ...]]
    held: dict[str, int]
    numbers: Callable[[str, dict], int]  # formulation, case -> numbers alive at once, roughly what was measured

    def cases(self) -> list[dict[str, int]]:
        """Return the sizes of all sweeps, each once."""
        found = [self.held | {quantity: value} for quantity, values in self.sweeps.items() for value in values]
        return [case for number, case in enumerate(found) if case not in found[:number]]


def _involution_numbers(formulation: str, case: dict) -> int:
    pixels, taps, channels = case["batch"] * case["size"] ** 2, case["kernel"] ** 2, case["channels"]
    if formulation == "factored":
        return 8 * pixels * channels * (channels // 2 + 1)  # one image for each channel of the bottleneck, and one
    images = 6 if formulation == "shifted" else 5 * taps
    return pixels * (images * channels + 5 * taps)


def _attention_numbers(formulation: str, case: dict) -> int:
    keys = min(case["length"], 128) if formulation == "chunked" else case["length"]
    return case["batch"] * case["heads"] * case["length"] * (6 * keys + 10 * case["key_dim"])


def _resampling_numbers(_, case: dict) -> int:
    return 12 * case["batch"] * case["size"] ** 2 * 3


KINDS = {
    "involution": Kind(
        what="forward and gradients of the INN's layer (3 channels, 1 group, reduction 2)",
        formulations=("patches", "shifted", "factored"),
        sweeps={"size": (8, 16, 32, 64, 128), "kernel": (3, 5, 7, 9), "batch": (16, 32, 64, 128, 256)},
        held={"batch": 64, "size": 32, "kernel": 3, "channels": 3},
        numbers=_involution_numbers,
    ),
    "attention": Kind(
        what="forward and gradients of the ViT's layer (width 64, 4 heads of 64)",
        formulations=("direct", "chunked", "folded"),
        sweeps={"length": (64, 128, 256, 512, 1024, 2048, 4096), "batch": (1, 2, 4, 8, 16)},
        held={"batch": 1, "length": 144, "width": 64, "heads": 4, "key_dim": 64},
        numbers=_attention_numbers,
    ),
    "resampling": Kind(
        what="the ViT's augmentation of 32×32 images (nothing to learn, so no gradients)",
        formulations=("chain", "fused"),
        sweeps={"size": (36, 72, 144, 288), "batch": (16, 32, 64, 128, 256)},
        held={"batch": 64, "size": 72, "source": 32},
        numbers=_resampling_numbers,
    ),
}


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to compute an operation: whose, in which formulation, compiled or not, at which sizes."""

    kind: str
    side: str  # ours or keras
    formulation: str
    xla: str
    cases: list[dict[str, int]] = dataclasses.field(hash=False)

    @property
    def label(self) -> str:
        return self.formulation

    def __str__(self) -> str:
        return f"{self.kind}, {self.formulation}, xla {self.xla}"


@dataclasses.dataclass(frozen=True)
class Point:
    """A formulation at one size: XLA's better mode and the milliseconds of its turns; none where it is left out."""

    value: int
    xla: str = ""
    ms: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.ms)


Lines = dict[str, list[Point]]  # label -> its points, by size


def contenders(kind: str, against: str | None) -> list[Contender]:
    """Return all that run, each with the sizes that fit into LIMIT."""
    operation = KINDS[kind]
    sides = [("ours", formulation) for formulation in operation.formulations]
    if against:
        sides.append(("keras", "Keras"))
    found = []
    for side, formulation in sides:
        cases = [case for case in operation.cases() if memory(kind, formulation, case) <= LIMIT]
        found += [Contender(kind, side, formulation, xla, cases) for xla in ("off", "on")]
    return found


def memory(kind: str, formulation: str, case: dict[str, int]) -> int:
    """Estimate the bytes that a step needs at once, in float32."""
    return 4 * KINDS[kind].numbers(formulation, case)


def race(racers: Iterable[Contender], turns: int) -> tuple[dict[str, Lines], list[str]]:
    """Let all take turns at each size; return quantity -> label -> points, and the labels of which none is compiled."""
    with processes.started(racers) as running:
        times = {(contender, number): [] for contender in running for number in range(len(contender.cases))}
        cases = {key: key[0].cases[key[1]] for key in times}
        order = sorted(times, key=lambda key: sorted(cases[key].items()))  # the same size of all, one after another
        for _ in range(turns):
            for contender, number in order:
                request = {"case": number, "seconds": TURN}
                times[contender, number].append(running[contender].ask(request)["ms"])
        left_off = processes.without_xla(running)
    (kind,) = {contender.kind for contender in running}
    held, lines = KINDS[kind].held, {}
    for quantity, values in KINDS[kind].sweeps.items():
        lines[quantity] = {label: [] for label in dict.fromkeys(contender.label for contender in running)}
        for value in values:
            here = {key[0]: ms for key, ms in times.items() if cases[key] == held | {quantity: value}}
            best = processes.best_modes(here)
            for label, points in lines[quantity].items():
                found = best.get(label)
                points.append(Point(value) if found is None else Point(value, found.xla, tuple(here[found])))
    return lines, left_off


def growth(points: Iterable[Point]) -> float | None:
    """Return the slope of the log-log line through the largest sizes: p where cost grows as size^p."""
    last = [(math.log(point.value), math.log(point.median)) for point in points if point.ms][-GROWTH:]
    if len(last) < 2:
        return None
    return statistics.linear_regression(*zip(*last, strict=True)).slope


def table(kind: str, lines: dict[str, Lines]) -> tuple[str, list[dict]]:
    """Return the printed tables, one for each sweep, and the JSON entries."""
    text, entries = [f"\n{kind}: {KINDS[kind].what}"], []
    for quantity, labels in lines.items():
        width = max(map(len, labels)) + 2
        text.append(f"\n{heading(kind, quantity)}")
        text.append(f"{'':>6}  {'':{width}}{'ms':>10}{'quartiles':>21}  xla  Keras / ours")
        for place, label in itertools.product(range(len(KINDS[kind].sweeps[quantity])), labels):
            point, keras = labels[label][place], labels["Keras"][place] if "Keras" in labels else None
            case = KINDS[kind].held | {quantity: point.value}
            entry = {"kind": kind, "sweep": quantity, **case, "formulation": label}
            line = f"{point.value:>6}  {label:{width}}"
            if not point.ms:
                need = memory(kind, label, case)
                entries.append(entry | {"left_out": f"needs about {need / 2**30:.1f} GiB"})
                text.append(f"{line}{'left out':>10}, needs about {need / 2**30:.1f} GiB")
                continue
            median, low, high = spread(list(point.ms))
            entry |= {"ms": median, "low": low, "high": high, "xla": point.xla, "growth": growth(labels[label])}
            line += f"{median:>10.3f}{f'{low:.3f} .. {high:.3f}':>21}  {point.xla:3}"
            if keras is not None and keras.ms and label != "Keras":
                ratio, low, high = ratios(list(keras.ms), list(point.ms))
                entry |= {"ratio": ratio, "ratio_low": low, "ratio_high": high}
                line += f"  {ratio:.2f} ({low:.2f} .. {high:.2f})"
            entries.append(entry)
            text.append(line.rstrip())
        slopes = {label: growth(points) for label, points in labels.items()}
        grown = ", ".join(f"{label} {slope:.2f}" for label, slope in slopes.items() if slope is not None)
        text.append(f"grows as {SYMBOLS[quantity]}^p at the large end, p: {grown}")
    return "\n".join(text), entries


def heading(kind: str, quantity: str) -> str:
    """Return what changes in a sweep and what is held."""
    others = {name: KINDS[kind].held[name] for name in KINDS[kind].sweeps if name != quantity}
    held = ", ".join(f"{WORDS[name]} {value}" for name, value in others.items())
    return f"{WORDS[quantity]}, at {held}"
