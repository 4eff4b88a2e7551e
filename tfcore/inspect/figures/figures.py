"""Pictures: pure functions from arrays and numbers to matplotlib Figures. Needs the extra `plots`.

Figures are made without pyplot: no window, no global state; `figure.savefig(file, format="png")` writes one.
Text that comes from outside (names of classes and runs) is never read as mathematics, and is wrapped where long.

Glossary: n images, H W size of an image, h w size of a map, K kernel size, G groups.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's blue and vermilion: told apart by every kind of colour vision; the line styles do it in grey.
LINES = {
    "train": {"color": "#0072B2", "linestyle": "--"},
    "validation": {"color": "#D55E00", "linestyle": "-"},
}
# Column of a history -> its name in the picture.
METRICS = {"loss": "loss", "accuracy": "accuracy", "top_5_accuracy": "top-5 accuracy"}
CLIPPED = (5, 95)  # percentiles of a column of heat maps: the ends of its colours
RUNS_PER_BAND = 3  # more runs go into a second band below, so that fonts stay large in a page's width


def image_grid(images: np.ndarray, titles: Sequence[str], *, columns: int = 5, title: str = "") -> Figure:
    """Show images in rows of `columns`, each below its title.

    Args:
        images: (n, H, W, 3) uint8, or floats in [0, 1].
        titles: n texts, such as class names.
        columns: images in a row.
        title: a line above all.
    """
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.6 * columns, 1.85 * rows + 0.5), dpi=120, layout="constrained")
    add_headline(figure, title, width=12 * columns)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, image, text in zip(panels, images, titles, strict=False):
        panel.imshow(image, interpolation="nearest")
        panel.set_title(textwrap.fill(text, 17), fontsize=11, parse_math=False)
    return figure


def series_grid(series: np.ndarray, titles: Sequence[str], *, columns: int = 5, title: str = "") -> Figure:
    """Show series (n, T) as lines over their time steps, on common axes, in rows of `columns`, each below its title.

    Arguments as in `image_grid`.
    """
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(2.4 * columns, 1.5 * rows + 0.6), dpi=120, layout="constrained")
    add_headline(figure, title, width=18 * columns)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for panel, values, text in zip(panels, series, titles, strict=False):
        panel.plot(values, linewidth=0.8, color=LINES["train"]["color"])
        panel.set_title(textwrap.fill(text, 26), fontsize=10, parse_math=False)
        panel.tick_params(labelsize=8)
    for panel in panels[len(series) :]:
        panel.set_axis_off()
    return figure


def curves(
    histories: dict[str, list[dict]], *, published: dict[str, list[dict]] | None = None, title: str = ""
) -> Figure:
    """Draw loss, accuracy and, where there is one, top-5 accuracy of several runs side by side on common y axes.

    Args:
        histories: run name -> its rows, each with epoch, loss, accuracy, val_loss and val_accuracy; a run may have
            top_5_accuracy and val_top_5_accuracy, too.
        published: run name -> the rows of a published run, drawn in light colours behind it.
        title: a line above all.
    """
    columns = min(len(histories), RUNS_PER_BAND)
    metrics = {name: [metric for metric in METRICS if metric in history[0]] for name, history in histories.items()}
    in_bands = {(number // columns, metric) for number, own in enumerate(metrics.values()) for metric in own}
    places = sorted(in_bands, key=lambda place: (place[0], list(METRICS).index(place[1])))  # the rows, from above
    rows = len(places)
    figure = Figure(figsize=(3.3 * columns + 1.2, 2.7 * rows + 0.6), dpi=120, layout="constrained")
    add_headline(figure, title, width=28 * columns)
    first: dict[str, Axes] = {}  # the panel whose y axis all others of its metric share
    labelled = set()  # the rows of panels that have a panel with numbers along its y axis
    for number, (name, history) in enumerate(histories.items()):
        band, column = divmod(number, columns)
        for metric in metrics[name]:
            row = places.index((band, metric))
            panel = figure.add_subplot(rows, columns, row * columns + column + 1, sharey=first.get(metric))
            first.setdefault(metric, panel)
            _draw_published(panel, (published or {}).get(name, []), metric)
            _draw_history(panel, history, metric)
            panel.tick_params(labelsize=10, labelleft=row not in labelled)
            if row not in labelled:
                panel.set_ylabel(METRICS[metric], fontsize=12)
                labelled.add(row)
            if metric == metrics[name][0]:
                panel.set_title(textwrap.fill(name, 30), fontsize=12, parse_math=False)
            if metric == metrics[name][-1]:
                panel.set_xlabel("epoch", fontsize=11)
    named = {}
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    named = {label: named[label] for label in sorted(named, key=lambda label: "published" in label)}
    figure.legend(
        named.values(), named.keys(), loc="outside lower center", ncols=min(2 * columns, 4), fontsize=11, frameon=False
    )
    return figure


def _draw_published(panel: Axes, history: list[dict], metric: str) -> None:
    """The published curves, broad and light, so that ours can be seen upon them."""
    if history and metric in history[0]:
        epochs = [row["epoch"] for row in history]
        for label, column in (("train", metric), ("validation", f"val_{metric}")):
            style = {"color": LINES[label]["color"], "linewidth": 4.5, "alpha": 0.3, "solid_capstyle": "butt"}
            panel.plot(epochs, [row[column] for row in history], label=f"published {label}", zorder=1, **style)


def _draw_history(panel: Axes, history: list[dict], metric: str) -> None:
    epochs = [row["epoch"] for row in history]
    for label, column in (("train", metric), ("validation", f"val_{metric}")):
        # Dots show the only point of a run of one epoch; on a long run they would hide the line.
        marker = "o" if len(epochs) <= 30 else None
        panel.plot(epochs, [row[column] for row in history], label=label, marker=marker, markersize=3.5, **LINES[label])
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    panel.grid(color="0.88", linewidth=0.8)
    panel.set_axisbelow(True)
    if metric != "loss":
        best = max(history, key=lambda row: row[f"val_{metric}"])
        text = f"best validation {best[f'val_{metric}']:.4f}, epoch {best['epoch']}"
        panel.set_title(text, fontsize=10, color=LINES["validation"]["color"])


def tap_sums(kernel: np.ndarray) -> np.ndarray:
    """Return the heat map of an involution's kernel: sum over the taps, mean over the groups.

    (n, h, w, K·K, 1, G) -> (n, h, w), float32

    The sum over the taps is what the involution multiplies an evenly coloured neighbourhood by. All groups have
    equally many channels, so that the mean over the groups is the mean of this gain over the channels, whatever G is;
    with one group it is the published picture.
    """
    return kernel.astype(np.float32).sum(axis=(3, 4)).mean(axis=-1)  # (n, h, w, G) -> (n, h, w)


def kernel_heatmaps(images: np.ndarray, maps: Sequence[np.ndarray], *, names: Sequence[str], title: str = "") -> Figure:
    """Show each image beside its heat map of every involution: n rows, 1 + len(maps) columns.

    A colour means the same value down a whole column, as the bar below it says; the columns differ. The values beyond
    the percentiles `CLIPPED` get the end colours: those at an image's border, under the zero padding's influence,
    would else flatten all the rest.

    Args:
        images: (n, H, W, 3) uint8, or floats in [0, 1].
        maps: for each involution (n, h, w), from `tap_sums`; sizes may differ between the involutions.
        names: n texts to the left of the images, such as class names.
        title: a line above all.
    """
    rows, columns = len(images), 1 + len(maps)
    figure = Figure(figsize=(1.7 * columns + 0.4, 1.62 * rows + 1.6), dpi=100, layout="constrained")
    add_headline(figure, title, width=13 * columns)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1.0] * rows + [0.1])  # the last row: colour bars
    for row, (image, name) in enumerate(zip(images, names, strict=True)):
        panel = add_picture(figure, grid[row, 0], image)
        panel.set_ylabel(textwrap.fill(name, 17), fontsize=12, parse_math=False)
        if row == 0:
            panel.set_title("image", fontsize=12)
    for column, heat in enumerate(maps, start=1):
        scale = Normalize(*np.percentile(heat, CLIPPED))
        for row, values in enumerate(heat):
            panel = add_picture(figure, grid[row, column], values, cmap="viridis", norm=scale)
            if row == 0:
                panel.set_title(f"involution {column}\n{heat.shape[1]}×{heat.shape[2]}", fontsize=12)
        bar = figure.colorbar(
            panel.images[0],
            cax=figure.add_subplot(grid[rows, column]),
            orientation="horizontal",
            extend="both",
            ticks=MaxNLocator(2),
            format="{x:.3g}",
        )
        bar.ax.tick_params(labelsize=10)
        bar.set_label("sum over taps", fontsize=11)
    return figure


def add_picture(figure: Figure, place: SubplotSpec, image: np.ndarray, **scale) -> Axes:
    """Add a panel with an image (H, W, 3), or values (h, w) coloured as `scale` says (cmap, norm, alpha)."""
    panel = figure.add_subplot(place, xticks=[], yticks=[])
    panel.imshow(image, interpolation="nearest", **scale)
    return panel


def add_headline(figure: Figure, text: str, *, width: int) -> None:
    """Add the text above all panels, each of its lines wrapped to `width` characters."""
    if text:
        lines = [textwrap.fill(line, width) for line in text.strip().splitlines()]
        figure.suptitle("\n".join(lines), fontsize=13, parse_math=False)
