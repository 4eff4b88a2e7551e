"""Pictures of image transformers: patches, attention over the image, positions. As `figures`: arrays in, Figures out.

Attention is shown in multiples of the even share: 1 where a patch gets what all would get if all got the same. The
colours of a picture mean the same in all its panels, as its bar says. They are logarithmic, for a peaked latent gives
one patch a hundred even shares. Attention lies, a little transparent, over the image in grey.

Glossary: n images, H W size of an image, N heads, T patches (`side` along a side), L latents, D width.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.ticker import MaxNLocator

from tfcore.inspect.figures.attention_maps import (
    cosine_similarities,
    distinct_latents,
    even_shares,
    received,
    rollout,
    square_side,
)
from tfcore.inspect.figures.figures import add_headline, add_picture

LEAST = 0.1  # even shares: what gets less has the darkest colour
OPAQUE = 0.7  # of the attention over the image
PAIRS_PER_BAND = 4  # more images go into a second band below
LATENTS = 8
SHOWN_WHOLE = 14  # up to this side, the similarities of all positions are shown; of more, SUBGRID · SUBGRID of them
SUBGRID = 8
SHARE = "attention in multiples\nof the even share"


def patches(image: np.ndarray, patch_size: int, *, title: str = "") -> Figure:
    """Show an image, and beside it the same image cut into its patches.

    Args:
        image: (H, W, 3) uint8, of the size that the model cuts.
        patch_size: divides H and W.
        title: a line above all.
    """
    rows, columns = image.shape[0] // patch_size, image.shape[1] // patch_size
    tiles = image.reshape(rows, patch_size, columns, patch_size, 3).swapaxes(1, 2)  # (rows, columns, P, P, 3)
    # Each pixel as a block of pixels, where a patch has few of them: the gaps between the patches are thin, then.
    blocks = -(-6 // patch_size)
    tiles = tiles.repeat(blocks, axis=2).repeat(blocks, axis=3)
    figure = Figure(figsize=(9.0, 5.3), dpi=120, layout="constrained")
    add_headline(figure, title, width=75)
    grid = figure.add_gridspec(1, 2)
    panel = add_picture(figure, grid[0, 0], image)
    panel.set_title(f"image, {image.shape[0]}×{image.shape[1]}", fontsize=12)
    panel = add_picture(figure, grid[0, 1], _mosaic(tiles, gap=tiles.shape[2] // 6, between=255))
    panel.set_title(f"{rows}×{columns} patches of {patch_size}×{patch_size}", fontsize=12)
    panel.set_frame_on(False)
    return figure


def attention_grid(image: np.ndarray, maps: Sequence[np.ndarray], *, name: str = "", title: str = "") -> Figure:
    """Show what each patch of one image receives, in every layer (rows) and head (columns).

    Received is the mean over all query patches: with no class token, and a head that reads all patches alike, no
    query is more telling than another.

    Args:
        image: (H, W, 3) uint8.
        maps: for each layer the weights (N, T, T).
        name: a text above the image, such as its class.
        title: a line above all.
    """
    shares = [even_shares(received(weights)) for weights in maps]  # layers times (N, side, side)
    heads = max(len(layer) for layer in shares)
    size = (1.35 * max(heads, 2) + 3.1, max(1.36 * len(shares), 2.6) + 1.7)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    text = f"{title}\nattention that each patch receives, mean over all query patches"
    add_headline(figure, text, width=_width(size))
    grid = _grid(figure, len(shares), heads)
    _name(add_picture(figure, grid[: min(2, len(shares)), 0], image), name)
    scale = _scale(list(shares))
    for row, layer in enumerate(shares):
        for column, heat in enumerate(layer):
            panel = _over_image(figure, grid[row, column + 1], image, heat, scale)
            if row == 0:
                panel.set_title(f"head {column + 1}", fontsize=12)
            if column == 0:
                panel.set_ylabel(f"layer {row + 1}", fontsize=12)
    _colour_bar(figure, grid[-1, 1:], scale)
    return figure


def rollout_grid(images: np.ndarray, maps: Sequence[np.ndarray], *, names: Sequence[str], title: str = "") -> Figure:
    """Show images, and below each what its patches receive through all layers: `rollout`, mean over the last layer.

    Args:
        images: (n, H, W, 3) uint8.
        maps: for each layer the weights (n, N, T, T).
        names: n texts above the images, such as their classes.
        title: a line above all.
    """
    shares = even_shares(received(rollout(maps)))  # (n, side, side)
    columns = min(len(images), PAIRS_PER_BAND)
    bands = -(-len(images) // columns)
    size = (2.05 * max(columns, 2) + 0.4, 4.3 * bands + 1.5)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    text = f"{title}\nattention rollout over all {len(maps)} layers, mean over the patches of the last"
    add_headline(figure, text, width=_width(size))
    grid = figure.add_gridspec(2 * bands + 1, columns, height_ratios=[1.0] * 2 * bands + [0.1])
    scale = _scale(list(shares))
    for number, (image, heat, name) in enumerate(zip(images, shares, names, strict=True)):
        band, column = divmod(number, columns)
        _name(add_picture(figure, grid[2 * band, column], image), name)
        _over_image(figure, grid[2 * band + 1, column], image, heat, scale)
    _colour_bar(figure, grid[-1, :], scale)
    return figure


def latent_grid(image: np.ndarray, maps: Sequence[np.ndarray], *, name: str = "", title: str = "") -> Figure:
    """Show where 8 `distinct_latents` look in one image, and the mean over all latents: a row for each iteration.

    Args:
        image: (H, W, 3) uint8.
        maps: for each iteration the cross-attention (L, T).
        name: a text above the image, such as its class.
        title: a line above all.
    """
    latents = distinct_latents(maps, LATENTS)
    means = [even_shares(received(weights)) for weights in maps]  # iterations times (side, side)
    shares = [even_shares(weights[latents]) for weights in maps]  # iterations times (8, side, side)
    size = (1.08 * len(latents) + 3.5, max(1.1 * len(shares), 2.2) + 1.7)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    text = f"cross-attention of {len(latents)} of {len(maps[0])} latents: the most peaked, then the most different"
    add_headline(figure, f"{title}\n{text}", width=_width(size))
    grid = _grid(figure, len(shares), len(latents) + 1)
    _name(add_picture(figure, grid[: min(2, len(shares)), 0], image), name)
    scale = _scale(list(shares))
    for row, (mean, chosen) in enumerate(zip(means, shares, strict=True)):
        for column, heat in enumerate([mean, *chosen], start=1):
            panel = _over_image(figure, grid[row, column], image, heat, scale)
            if row == 0:
                panel.set_title("mean of all" if column == 1 else f"latent {latents[column - 2]}", fontsize=11)
            if column == 1:
                panel.set_ylabel(f"iteration {row + 1}", fontsize=12)
    _colour_bar(figure, grid[-1, 1:], scale)
    return figure


def position_grid(embeddings: np.ndarray, *, title: str = "") -> Figure:
    """Show how alike the learned positions are: at each position a small map of its cosine with all positions.

    As figure 7 (centre) of Dosovitskiy et al. 2020, arXiv 2010.11929; but the ends of the colours are the 99th
    percentile of the cosines' size between different positions, since a short training leaves them small. Of more than
    14×14 positions, 8×8 evenly spaced ones have a map.

    Args:
        embeddings: (T, D), row by row.
        title: a line above all.
    """
    side = square_side(len(embeddings))
    count = side if side <= SHOWN_WHOLE else SUBGRID
    picked = np.linspace(0, side - 1, count).round().astype(int)
    cosines = cosine_similarities(embeddings)  # (T, T)
    others = np.abs(cosines[~np.eye(len(cosines), dtype=bool)])
    limit = max(np.percentile(others, 99), 0.01) if others.size else 1.0
    tiles = cosines.reshape(side, side, side, side)[picked][:, picked]  # (count, count, side, side)
    gap = max(1, side // 12)

    figure = Figure(figsize=(8.2, 7.9), dpi=120, layout="compressed")
    which = "all" if count == side else f"{count}×{count} of the"
    add_headline(figure, f"{title}\nlikeness of {which} {side}×{side} learned positions with all others", width=68)
    panel = figure.add_subplot()
    shown = panel.imshow(
        _mosaic(tiles, gap=gap, between=np.nan), cmap="RdBu_r", norm=Normalize(-limit, limit), interpolation="nearest"
    )
    panel.set_facecolor("0.25")
    middles = np.arange(count) * (side + gap) + gap + (side - 1) / 2
    panel.set_xticks(middles, picked + 1)
    panel.set_yticks(middles, picked + 1)
    panel.tick_params(labelsize=10)
    panel.set_xlabel("column of the patch", fontsize=12)
    panel.set_ylabel("row of the patch", fontsize=12)
    bar = figure.colorbar(shown, ax=panel, extend="both", shrink=0.7, ticks=MaxNLocator(5), format="{x:.3g}")
    bar.ax.tick_params(labelsize=10)
    bar.set_label("cosine similarity", fontsize=12)
    return figure


def _grid(figure: Figure, rows: int, columns: int) -> GridSpec:
    """So many rows and columns of panels, a wider column for the image before and a row for a colour bar below."""
    return figure.add_gridspec(
        rows + 1, columns + 1, width_ratios=[2.0] + [1.0] * columns, height_ratios=[1.0] * rows + [0.1]
    )


def _mosaic(tiles: np.ndarray, *, gap: int, between: float) -> np.ndarray:
    """(rows, columns, h, w, ...) -> (rows · (h + gap) + gap, columns · (w + gap) + gap, ...), tiles in a frame."""
    rows, columns, height, width, *rest = tiles.shape
    whole = np.empty((rows * (height + gap) + gap, columns * (width + gap) + gap, *rest), tiles.dtype)
    whole[:] = between
    for row, column in np.ndindex(rows, columns):
        top, left = row * (height + gap) + gap, column * (width + gap) + gap
        whole[top : top + height, left : left + width] = tiles[row, column]
    return whole


def _over_image(figure: Figure, place: SubplotSpec, image: np.ndarray, heat: np.ndarray, scale: LogNorm) -> Axes:
    """A panel with the map (side, side) over the image (H, W, 3) in grey."""
    height, width, _ = image.shape
    panel = add_picture(figure, place, image.mean(axis=2), cmap="gray", norm=Normalize(0, 255))
    corners = (-0.5, width - 0.5, height - 0.5, -0.5)
    panel.imshow(heat, extent=corners, interpolation="nearest", cmap="viridis", norm=scale, alpha=OPAQUE)
    return panel


def _scale(shares: Sequence[np.ndarray]) -> LogNorm:
    values = np.concatenate([np.ravel(part) for part in shares])
    low, high = max(values.min(), LEAST), values.max()
    return LogNorm(min(low, high / 1.01), high)  # all equal: still a scale


def _colour_bar(figure: Figure, place: SubplotSpec, scale: LogNorm) -> None:
    bar = figure.colorbar(
        ScalarMappable(scale, "viridis"),
        cax=figure.add_subplot(place),
        orientation="horizontal",
        extend="min" if scale.vmin == LEAST else "neither",
        ticks=np.geomspace(scale.vmin, scale.vmax, 5),
        format=lambda value, _: f"{value:.3g}" if value < 1000 else f"{value:,.0f}",
    )
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=10)
    bar.set_label(SHARE, fontsize=11)


def _name(panel: Axes, text: str) -> None:
    panel.set_title(textwrap.fill(text, 20), fontsize=12, parse_math=False)


def _width(size: tuple[float, float]) -> int:
    """How many characters of a headline fit into a figure's size in inches."""
    return int(9.5 * size[0])
