"""Pictures of a study, many runs side by side: pure functions from numbers to matplotlib Figures. Extra `plots`."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from tfcore.inspect.figures.figures import LINES, METRICS, add_headline

# Okabe and Ito's colours, told apart by every kind of colour vision, each with a line style that does it in grey.
STYLES = (
    {"color": "#0072B2", "linestyle": "-"},
    {"color": "#D55E00", "linestyle": "--"},
    {"color": "#009E73", "linestyle": "-."},
    {"color": "#CC79A7", "linestyle": (0, (1, 1))},
    {"color": "#000000", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    {"color": "#56B4E9", "linestyle": (0, (6, 2))},
    {"color": "#E69F00", "linestyle": "-"},
)
GREY = {"color": "0.6", "linestyle": "-", "linewidth": 1.2}
PUBLISHED = {"color": "black", "marker": "D", "markersize": 6, "linestyle": "none", "markerfacecolor": "white"}
CUT = (
    99  # percentile of all values of a loss: the top of its common axis; a first epoch far above would flatten the rest
)
History = list[dict]


class Bar(NamedTuple):
    """A row of the bars: (mean, spread or None) of train and test accuracy, and the published test accuracy or None.

    A row without finished runs has neither, but a `note` that says why.
    """

    name: str
    train: tuple[float, float | None] | None = None
    test: tuple[float, float | None] | None = None
    published: float | None = None
    note: str = ""


def run_curves(
    histories: Sequence[History], *, unseen: str, published: tuple[int, float, float] | None = None, title: str = ""
) -> Figure:
    """Draw accuracy and loss over the epochs of one row's runs, a line for each seed.

    Args:
        histories: the rows of each run, with epoch, loss, accuracy, val_loss and val_accuracy.
        unseen: what the val_ columns are of: "test" or "validation".
        published: epoch, and accuracy and loss on the test split after it.
        title: a line above all.
    """
    figure = Figure(figsize=(9, 3.7), dpi=120, layout="constrained")
    add_headline(figure, title, width=90)
    panels = figure.subplots(1, 2)
    epoch, *values = published or (None, None, None)
    for panel, metric, value in zip(panels, ("accuracy", "loss"), values, strict=True):
        for number, history in enumerate(histories):
            _draw_pair(panel, history, metric, unseen, labelled=number == 0)
        if value is not None:
            panel.plot([epoch], [value], label="published test", clip_on=False, zorder=5, **PUBLISHED)
        _finish(panel)
        panel.set_ylabel(METRICS[metric], fontsize=12)
        panel.set_xlabel("epoch", fontsize=11)
    _legend_below(figure, panels)
    return figure


def all_curves(
    rows: dict[str, Sequence[History]], metric: str, *, unseen: str, reference: str | None = None, title: str = ""
) -> Figure:
    """Draw one metric of all rows: a panel for each row, on common axes, the reference's unseen curve in all others.

    Args:
        rows: row -> histories of its seeds, as in `run_curves`.
        metric: "accuracy" or "loss".
        unseen: what the val_ columns are of: "test" or "validation".
        reference: the row that all others are compared with.
        title: a line above all.
    """
    columns = min(4, len(rows))
    figure, panels = _grid(len(rows), columns, title, size=(2.9, 2.3), sharey=True)
    for panel, (row, histories) in zip(panels, rows.items(), strict=False):
        if reference in rows and row != reference:
            for number, history in enumerate(rows[reference]):
                label = f"{reference}, {unseen}" if number == 0 else None
                points = _points(history, f"val_{metric}")
                panel.plot(*points, label=label, marker=_marker(points[0]), markersize=3.5, **GREY)
        for number, history in enumerate(histories):
            _draw_pair(panel, history, metric, unseen, labelled=number == 0)
        _finish(panel)
        panel.set_title(textwrap.fill(row, 28), fontsize=12, parse_math=False)
    if metric == "loss":
        values = [
            epoch[name] for h in rows.values() for own in h for epoch in own for name in (metric, f"val_{metric}")
        ]
        low, high = min(values), np.percentile(values, CUT)
        panels[0].set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low) + 1e-6)
    _label_edges(panels, len(rows), columns, METRICS[metric])
    _legend_below(figure, panels)
    return figure


def accuracy_bars(bars: Sequence[Bar], *, title: str = "") -> Figure:
    """Draw train and test accuracy of each row as bars with their spreads; a mark for the published."""
    figure = Figure(figsize=(9, 0.52 * len(bars) + 1.7), dpi=120, layout="constrained")
    add_headline(figure, title, width=90)
    panel = figure.subplots()
    height = 0.38
    for place, bar in enumerate(bars):
        if bar.train is None or bar.test is None:
            panel.text(0.01, place, bar.note, fontsize=10, va="center", style="italic", color="0.35", parse_math=False)
            continue
        for offset, values, style in ((-height / 2, bar.train, "train"), (height / 2, bar.test, "validation")):
            colour = LINES[style]["color"]
            light = {"alpha": 0.45} if style == "train" else {}
            mean, spread = values
            panel.barh(place + offset, mean, height, color=colour, **light)
            if spread is not None:
                panel.errorbar(mean, place + offset, xerr=spread, color="black", capsize=3, linewidth=1.2)
        text = f"{bar.test[0]:.3f}" + (f" ± {bar.test[1]:.3f}" if bar.test[1] is not None else "")
        panel.text(1.01, place + height / 2, text, fontsize=11, va="center", color=colour)
        if bar.published is not None:
            panel.plot([bar.published], [place + height / 2], zorder=5, **PUBLISHED)
    panel.set_yticks(range(len(bars)), [bar.name for bar in bars], fontsize=11, parse_math=False)
    panel.set_ylim(len(bars) - 0.4, -0.6)
    panel.set_xlim(0, 1)
    panel.set_xlabel("accuracy", fontsize=11)
    panel.grid(axis="x", color="0.88", linewidth=0.8)
    panel.set_axisbelow(True)
    handles = [
        Patch(color=LINES["train"]["color"], alpha=0.45, label="train"),
        Patch(color=LINES["validation"]["color"], label="test (figures to the right)"),
    ]
    if any(bar.published is not None for bar in bars):
        handles += panel.plot([], [], label="published test", **PUBLISHED)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=11, frameon=False)
    return figure


def activation_functions(x: np.ndarray, curves: dict[str, tuple[np.ndarray, np.ndarray]], *, title: str = "") -> Figure:
    """Draw functions (above) and their derivatives (below) over x: name -> (values, derivatives)."""
    figure = Figure(figsize=(2.5 * len(curves), 5.2), dpi=120, layout="constrained")
    add_headline(figure, title, width=25 * len(curves))
    panels = figure.subplots(2, len(curves), sharex=True, squeeze=False)
    for column, (name, values) in enumerate(curves.items()):
        for row, (panel, line) in enumerate(zip(panels[:, column], values, strict=True)):
            # A jump of the derivative is drawn as a gap, not as a line that the function does not have.
            jumps = np.abs(np.diff(line)) > 0.5
            panel.axhline(0, color="0.75", linewidth=0.8)
            panel.axvline(0, color="0.75", linewidth=0.8)
            panel.plot(x, np.where(np.append(jumps, False), np.nan, line), linewidth=2, color=STYLES[row]["color"])
            panel.tick_params(labelsize=10)
            panel.grid(color="0.92", linewidth=0.8)
            panel.set_axisbelow(True)
            panel.margins(x=0)
            if row:
                panel.set_ylim(-0.05, 1.08)
                panel.set_xlabel("x", fontsize=11)
        panels[0, column].set_title(name, fontsize=12, parse_math=False)
    panels[0, 0].set_ylabel("f(x)", fontsize=12)
    panels[1, 0].set_ylabel("f′(x)", fontsize=12)
    return figure


def line_panels(
    panels: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]],
    *,
    ylabel: str,
    title: str = "",
    log: bool = False,
    sharey: bool = True,
    columns: int = 3,
) -> Figure:
    """Draw named lines over the epochs in named panels; a name has the same colour and style in all of them.

    Args:
        panels: panel -> line -> (epochs, values).
        ylabel: what the values are.
        title: lines above all.
        log: a logarithmic y axis.
        sharey: one y axis for all panels.
        columns: panels in a row, at most.
    """
    columns = min(columns, len(panels))
    figure, axes = _grid(len(panels), columns, title, size=(3.3, 2.7), sharey=sharey)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    for panel, (heading, lines) in zip(axes, panels.items(), strict=False):
        for name, (epochs, values) in lines.items():
            style = STYLES[names.index(name) % len(STYLES)]
            panel.plot(epochs, values, label=name, linewidth=1.6, marker=_marker(epochs), markersize=3.5, **style)
        if log:
            panel.set_yscale("log")
        _finish(panel)
        if log:
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=12))
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set_title(heading, fontsize=12, parse_math=False)
    _label_edges(axes, len(panels), columns, ylabel, every=not sharey)
    _legend_below(figure, axes)
    return figure


def _grid(
    count: int, columns: int, title: str, *, size: tuple[float, float], sharey: bool
) -> tuple[Figure, Sequence[Axes]]:
    rows = -(-count // columns)
    width = max(size[0] * columns + 0.6, 6.0)  # room for the headline and the legend
    figure = Figure(figsize=(width, size[1] * rows + 1.1), dpi=120, layout="constrained")
    add_headline(figure, title, width=int(10.5 * width))
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=sharey).ravel()
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels


def _label_edges(panels: Sequence[Axes], count: int, columns: int, ylabel: str, *, every: bool = False) -> None:
    """Name the y axis at the left edge, and the x axis of the lowest panel of each column."""
    for number, panel in enumerate(panels[:count]):
        if number % columns == 0 or every:
            panel.set_ylabel(ylabel if number % columns == 0 else "", fontsize=11)
        if number + columns >= count:
            panel.set_xlabel("epoch", fontsize=11)
            panel.tick_params(labelbottom=True)


def _points(history: History, column: str) -> tuple[list[int], list[float]]:
    return [epoch["epoch"] for epoch in history], [epoch[column] for epoch in history]


def _marker(epochs: Sequence[int]) -> str | None:
    """Dots where there are few epochs: a run of one epoch would show no line at all."""
    return "o" if len(epochs) <= 15 else None


def _draw_pair(panel: Axes, history: History, metric: str, unseen: str, *, labelled: bool) -> None:
    for label, column, style in (("train", metric, "train"), (unseen, f"val_{metric}", "validation")):
        epochs, values = _points(history, column)
        name = label if labelled else None
        panel.plot(epochs, values, label=name, linewidth=1.6, marker=_marker(epochs), markersize=3.5, **LINES[style])


def _finish(panel: Axes) -> None:
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    panel.tick_params(labelsize=10)
    panel.grid(color="0.88", linewidth=0.8)
    panel.set_axisbelow(True)


def _legend_below(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, each name once."""
    found = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    ncols = min(len(found), int(figure.get_figwidth() / 1.6))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=ncols, fontsize=11, frameon=False)
