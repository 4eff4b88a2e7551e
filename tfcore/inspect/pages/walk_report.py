"""A walk as text for the terminal: a line a stop."""

import textwrap
from collections.abc import Sequence

import numpy as np

from tfcore.inspect.columns import aligned
from tfcore.inspect.walk.stops import Walk, statistics

TOP = 5  # classes named


def walk_text(walk: Walk, title: str, class_names: Sequence[str] = ()) -> str:
    """Return the walk as text: what the model said, then every stop with shape, range, mean, zeros and gradient."""
    header = ["stop", "shape", "axes", "least", "greatest", "mean", "zeros", "gradient"]
    rows = [header]
    for stop in walk.stops:
        numbers = statistics(stop.value)
        gradient = "none" if stop.gradient is None else _number(float(np.sqrt(np.mean(np.square(stop.gradient)))))
        shape = "×".join(map(str, stop.value.shape)) or "1"
        measures = [_number(numbers[name]) for name in ("min", "max", "mean")]
        rows.append([stop.name, shape, stop.axes, *measures, f"{100 * numbers['zeros']:.0f} %", gradient])
    lines = aligned(rows, lambda column, _: column >= 3)
    parts = [textwrap.fill(title, 118), said(walk, class_names), *lines, "gradient: RMS of that of the loss"]
    if (first := walk.first_nonfinite()) is not None:
        parts.insert(2, f"the first NaN or infinity stands in {first}")
    return "\n".join(parts) + "\n\n"


def said(walk: Walk, class_names: Sequence[str] = ()) -> str:
    """Return in one line the loss, the label and the likeliest classes, where the stops hold probabilities."""
    text = f"loss {walk.loss:.6g}, label {_class(walk.label, class_names)}"
    stop = next((stop for stop in walk.stops if stop.name == "probabilities"), None)
    if stop is None:
        return text
    best = np.argsort(-np.nan_to_num(stop.value))[:TOP]
    return f"{text}; " + ", ".join(f"{_class(int(i), class_names)} {100 * stop.value[i]:.1f} %" for i in best)


def _class(number: int, class_names: Sequence[str]) -> str:
    return class_names[number] if number < len(class_names) else str(number)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
