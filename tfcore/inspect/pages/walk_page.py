"""A walk, or several side by side, as one HTML page that needs no network.

The page draws every tensor from its numbers, which lie in it once, compressed; `walk_data.js` reads them,
`walk_explain.js` writes the arithmetic out, `walk_view.js` draws, `walk_page.js` is what a reader touches.
"""

import base64
import dataclasses
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfcore.inspect.pages import page
from tfcore.inspect.pages.walk_report import said
from tfcore.inspect.walk.stops import Place, Rule, Stop, Walk, statistics

LIMIT = 65_536  # numbers of a tensor that are kept
# How the numbers are kept, until the page is small enough: values rounded to five digits or not, how many of a tensor,
# how many of its gradient. No arithmetic is written out of gradients, so they shrink first.
LADDER = (
    (False, LIMIT, LIMIT),
    *((True, LIMIT, LIMIT // n) for n in (1, 4, 8)),
    *((True, LIMIT // n, min(LIMIT // n, LIMIT // 8)) for n in (2, 4, 8, 16, 32, 64)),
)
BYTES = 14_500_000  # of the numbers in a page
WHOLE = 262_144  # numbers of a kernel that is kept whole, so that the arithmetic can be written out
OF_PARAMETERS = 16_384  # numbers of a parameter's gradient that are kept
TOP = 8  # largest products kept of a dense layer whose kernel is not kept whole
_HERE = Path(__file__).parent
_SCRIPTS = ("walk_data.js", "walk_explain.js", "walk_view.js", "walk_page.js")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def walk_html(
    walks: Sequence[tuple[str, Walk]],
    title: str,
    *,
    class_names: Sequence[str] = (),
    times: dict[str, list[tuple[str, str, float]]] | None = None,
) -> str:
    """Return the page of walks (what about, walk) through one model.

    class_names: of the outputs; times: by stop's name the kernels (name, phase, µs) that compute it.

    Raises:
        ValueError: for no walk, or walks with other stops than the first's.
    """
    names = [stop.name for stop in walks[0][1].stops] if walks else []
    if not walks or any([stop.name for stop in walk.stops] != names for _, walk in walks):
        raise ValueError("the walks of a page must be of one model, and stop at the same places")
    data, numbers, note = _smallest(walks)
    data |= {"classes": list(class_names), "times": times or {}, "note": note}
    data["frames"] = [
        {"about": about, "said": said(walk, class_names), "bad": walk.first_nonfinite(), "loss": _finite(walk.loss)}
        for about, walk in walks
    ]
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = [
        (_HERE / "walk_page.html").read_text(encoding="utf-8"),
        f'<script type="application/json" id="data">{text}</script>',
        f'<script type="application/octet-stream" id="numbers">{numbers}</script>',
        *(f"<script>\n{(_HERE / name).read_text(encoding='utf-8')}</script>" for name in _SCRIPTS),
    ]
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    head += f"<style>{(_HERE / 'walk_page.css').read_text(encoding='utf-8')}</style>\n"
    return page.page(title, parts, head=head)


def _smallest(walks: Sequence[tuple[str, Walk]]) -> tuple[dict, str, str]:
    """The first step of the ladder whose numbers fit, and in words what was done to them."""
    for rounded, limit, of_gradients in LADDER:
        data, store = _page_data([walk for _, walk in walks], rounded, limit, of_gradients)
        if len(store.blob) > 1.5 * BYTES and limit > LADDER[-1][1]:  # not worth compressing
            continue
        numbers = base64.b64encode(zlib.compress(bytes(store.blob), 6)).decode()
        if len(numbers) <= BYTES:
            break
    note = "gradients are kept to three digits"
    note += ", values to five" if rounded else ""
    if any(step > 1 for stop in data["stops"] for step in (*stop["every"], *stop["steps"])):
        note += f"; tensors of more than {limit:,} numbers"
        note += f", gradients of more than {of_gradients:,}," if of_gradients < limit else ""
        note += " are thinned: of an axis every 2nd, 4th … place is kept"
    return data, numbers, note


@dataclasses.dataclass
class _Store:
    """All numbers of a page, one after the other; equal ones once."""

    rounded: bool
    blob: bytearray = dataclasses.field(default_factory=bytearray)
    tensors: list[list] = dataclasses.field(default_factory=list)  # offset, count, bytes of a number, factor
    known: dict[bytes, int] = dataclasses.field(default_factory=dict)

    def add(self, array: np.ndarray, *, half: bool = False) -> int:
        """Keep an array; return its number. half: as float16 of what its greatest is 1."""
        factor = 1.0
        array = np.ascontiguousarray(array, np.float32)
        if half:
            finite = np.abs(array[np.isfinite(array)])
            factor = float(finite.max(initial=0.0)) or 1.0
            array = (array / np.float32(factor)).astype(np.float16)
        elif self.rounded:
            bits = array.view(np.uint32)
            array = np.where(np.isfinite(array), (bits + 0x40) & 0xFFFFFF80, bits).astype(np.uint32).view(np.float32)
        raw = array.tobytes()
        key = raw + repr((factor, half)).encode()
        if key not in self.known:
            self.known[key] = len(self.tensors)
            size = array.itemsize
            self.tensors.append([len(self.blob), array.size, size, factor])
            # All first bytes, then all second bytes and so on: they compress better.
            self.blob += np.frombuffer(raw, np.uint8).reshape(-1, size).T.tobytes()
        return self.known[key]


def _page_data(walks: list[Walk], rounded: bool, limit: int, of_gradients: int) -> tuple[dict, _Store]:
    store, places = _Store(rounded), dict[Place, int]()
    numbers = {stop.name: i for i, stop in enumerate(walks[0].stops)}
    stops = [_about(stop, numbers, places, limit, of_gradients) for stop in walks[0].stops]
    frames = [[_numbers(store, walk, stop, limit, of_gradients) for stop in walk.stops] for walk in walks]
    shown = [dataclasses.asdict(place) for place in places]
    return {"stops": stops, "tensors": store.tensors, "values": frames, "places": shown}, store


def _about(stop: Stop, numbers: dict[str, int], places: dict[Place, int], limit: int, of_gradients: int) -> dict:
    """What is the same in every walk."""
    rule = None
    if stop.rule is not None:
        inputs = [numbers[name] for name in stop.rule.inputs]
        rule = {"kind": stop.rule.kind, "inputs": inputs, "settings": stop.rule.settings}
    return {
        "name": stop.name,
        "kind": stop.kind,
        "of": stop.of,
        "formula": stop.formula,
        "axes": stop.axes,
        "shape": list(stop.value.shape),
        "every": thinning(stop.value.shape, stop.axes, limit),
        "steps": thinning(stop.value.shape, stop.axes, of_gradients),
        "rule": rule,
        "note": stop.note,
        "also": stop.also,
        "source": None if stop.source is None else places.setdefault(stop.source, len(places)),
        "call": None if stop.call is None else places.setdefault(stop.call, len(places)),
        "parameters": [
            {"name": name, "shape": list(parameter.value.shape), "every": every, "steps": steps}
            for name, parameter, every, steps in _parameters(stop, limit, of_gradients)
        ],
    }


def _parameters(stop: Stop, limit: int, of_gradients: int) -> Iterator[tuple]:
    """Each parameter with the steps in which its values and its gradient's are kept."""
    for name, parameter in stop.parameters.items():
        shape = parameter.value.shape
        whole = parameter.value.size <= WHOLE
        every = [1] * len(shape) if whole else thinning(shape, "", limit)
        yield name, parameter, every, thinning(shape, "", min(of_gradients, OF_PARAMETERS))


def _numbers(store: _Store, walk: Walk, stop: Stop, limit: int, of_gradients: int) -> dict:
    """A stop's numbers in one walk, by their places in the store."""
    every = thinning(stop.value.shape, stop.axes, limit)
    found = {"value": store.add(taken(stop.value, every)), "about": statistics(stop.value)}
    if stop.gradient is not None:
        steps = thinning(stop.value.shape, stop.axes, of_gradients)
        found |= {"gradient": store.add(taken(stop.gradient, steps), half=True), "back": statistics(stop.gradient)}
    found["parameters"] = [
        [
            store.add(taken(parameter.value, every)),
            None if parameter.gradient is None else store.add(taken(parameter.gradient, steps), half=True),
        ]
        for _, parameter, every, steps in _parameters(stop, limit, of_gradients)
    ]
    if stop.rule is not None:
        found |= _for_arithmetic(store, walk, stop, stop.rule, every)
    return found


def _for_arithmetic(store: _Store, walk: Walk, stop: Stop, rule: Rule, every: list[int]) -> dict:
    """What the arithmetic needs beside the numbers of the stops."""
    if rule.kind == "cross entropy":
        return {"label": walk.label}
    if rule.kind == "softmax":
        scores = walk[rule.inputs[0]].value.astype(np.float64)
        greatest = scores.max(axis=-1, keepdims=True)
        sums = np.log(np.exp(scores - greatest).sum(axis=-1)) + greatest[..., 0]
        return {"extra": {"log_sum": store.add(taken(sums, every[:-1]))}}
    kernel = stop.parameters.get("kernel")
    if rule.kind == "dense" and stop.value.ndim == 1 and kernel is not None and kernel.value.size > WHOLE:
        return {"extra": _largest(store, walk[rule.inputs[0]].value, kernel.value)}
    return {}


def _largest(store: _Store, x: np.ndarray, kernel: np.ndarray) -> dict:
    """Of each unit the largest products: which inputs, their weights, and the sum of all others."""
    products = x[:, None].astype(np.float64) * kernel
    order = np.argsort(-np.abs(products), axis=0)[:TOP].T  # (units, TOP)
    units = np.arange(len(order))[:, None]
    rest = products.sum(axis=0) - products[order, units].sum(axis=1)
    return {"places": store.add(order), "weights": store.add(kernel[order, units]), "rest": store.add(rest)}


def thinning(shape: Sequence[int], axes: str, limit: int) -> list[int]:
    """Return for each axis the step in which it is kept, so that no more than `limit` numbers are.

    Positions are thinned (T, H, W), where there are any; widths, heads and taps are not, nor the keys of
    attention weights: a row of them stays whole.
    """
    steps = [1] * len(shape)

    def left(i: int) -> int:
        return -(-shape[i] // steps[i])

    positions = [i for i, letter in enumerate(axes) if letter in "THW"] or list(range(len(shape)))
    while np.prod([left(i) for i in range(len(shape))], dtype=np.int64) > limit:
        among = [i for i in positions if left(i) > 1] or [i for i in range(len(shape)) if left(i) > 1]
        steps[max(among, key=left)] *= 2
    return steps


def taken(array: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Return every n-th place of each axis."""
    return array[tuple(slice(None, None, step) for step in steps)]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
