"""The picture of benchmark.py --kind: how the cost of an operation grows, on logarithmic axes. Needs matplotlib."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

from parts.benchmark_operations import KINDS, SYMBOLS, WORDS, Lines, growth, heading
from tfcore.inspect.figures.figures import add_headline
from tfcore.inspect.figures.study_figures import STYLES

KERAS = STYLES[4]  # in every picture, however many formulations there are
APART = 0.062  # of the panel's height: the least distance between two labels


def scaling(kind: str, lines: dict[str, Lines], machine: str) -> Figure:
    """Draw milliseconds over size, a panel for each sweep; filled dots: XLA was faster, hollow ones: without."""
    figure = Figure(figsize=(4.6 * len(lines), 4.4), dpi=120, layout="constrained")
    add_headline(figure, f"{kind}: {KINDS[kind].what}\n{machine}", width=int(46 * len(lines)))
    panels = figure.subplots(1, len(lines), sharey=True, squeeze=False)[0]
    for panel, (quantity, labels) in zip(panels, lines.items(), strict=True):
        _draw(panel, quantity, labels)
        held = heading(kind, quantity).partition(", ")[2]
        panel.set_title(held, fontsize=11)
    panels[0].set_ylabel("ms a step", fontsize=12)
    figure.canvas.draw()  # only now the axes know their limits
    for panel, (quantity, labels) in zip(panels, lines.items(), strict=True):
        _label(panel, quantity, labels)
    note = "dots: filled where XLA was the faster mode, hollow where graph mode was"
    figure.supxlabel(note, fontsize=10, color="0.35")
    return figure


def _draw(panel: Axes, quantity: str, labels: Lines) -> None:
    for number, (label, points) in enumerate(labels.items()):
        style = _style(number, label)
        found = [point for point in points if point.ms]
        medians = [point.median for point in found]
        panel.plot([point.value for point in found], medians, linewidth=1.8, **style)
        for point in found:
            fill = style["color"] if point.xla == "on" else "white"
            panel.plot(point.value, point.median, "o", markersize=5.5, color=style["color"], markerfacecolor=fill)
    values = [point.value for points in labels.values() for point in points if point.ms]
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(min(values) / 1.15, max(values) * (max(values) / min(values)) ** 0.55)  # room for the labels
    sizes = sorted(set(values))
    # Every second one, the largest among them, where all would touch.
    panel.xaxis.set_major_locator(FixedLocator(sizes if len(sizes) <= 6 else sizes[::-2]))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=12))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(WORDS[quantity], fontsize=12)
    panel.tick_params(labelsize=10, labelleft=True)
    panel.grid(color="0.88", linewidth=0.8)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _label(panel: Axes, quantity: str, labels: Lines) -> None:
    """Name each line at its right end, with how it grows; labels that would touch are pushed apart."""
    ends = []
    for number, (label, points) in enumerate(labels.items()):
        last = [point for point in points if point.ms][-1]
        place = panel.transAxes.inverted().transform(panel.transData.transform((last.value, last.median)))
        slope = growth(points)
        grown = "" if slope is None else f" $\\propto {SYMBOLS[quantity]}^{{{slope:.1f}}}$"
        ends.append((float(place[1]), float(place[0]), label + grown, _style(number, label)["color"]))
    heights, right = spaced([end[0] for end in ends]), max(end[1] for end in ends)
    for (height, x, text, colour), placed in zip(ends, heights, strict=True):
        panel.annotate(
            text,
            (x, height),
            (right + 0.045, placed),
            xycoords="axes fraction",
            fontsize=11,
            color=colour,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4},
        )


def _style(number: int, label: str) -> dict:
    return KERAS if label == "Keras" else STYLES[number]


def spaced(heights: list[float]) -> list[float]:
    """Return heights at least APART from each other and inside the panel, in the same order, near where they were."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = [heights[i] for i in order]
    for _ in range(200):
        for i in range(len(placed) - 1):
            short = APART - (placed[i + 1] - placed[i])
            if short > 1e-9:
                placed[i] -= short / 2
                placed[i + 1] += short / 2
        placed = [min(max(height, 0.03), 0.97) for height in placed]
    return [placed[order.index(i)] for i in range(len(heights))]
