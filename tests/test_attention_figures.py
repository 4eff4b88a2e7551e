"""Attention taken apart and drawn: values against plain loops, and that all of it can be read."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.pictures import LONG, check_texts, heat_maps, values_of
from tfcore.inspect.figures import attention_figures
from tfcore.inspect.figures import attention_maps as attention


def _weights(*shape, seed=0):
    """Attention weights: each row sums to 1."""
    scores = np.exp(2 * np.random.default_rng(seed).normal(size=shape))
    return (scores / scores.sum(axis=-1, keepdims=True)).astype(np.float32)


IMAGE = np.random.default_rng(7).integers(0, 256, (12, 12, 3), np.uint8)


# Numbers.


def test_even_shares():
    weights = _weights(2, 3, 16)
    maps = attention.even_shares(weights)
    assert maps.shape == (2, 3, 4, 4) and maps.dtype == np.float64
    for index in np.ndindex(2, 3, 4, 4):
        *front, row, column = index
        assert maps[index] == pytest.approx(float(weights[*front, 4 * row + column]) * 16)
    with pytest.raises(ValueError, match="10 positions do not fill a square"):
        attention.even_shares(_weights(3, 10))


def test_received():
    weights = _weights(2, 3, 5, 7)
    expected = [[[sum(weights[b, n, :, s]) / 5 for s in range(7)] for n in range(3)] for b in range(2)]
    np.testing.assert_allclose(attention.received(weights), expected, rtol=1e-6)


def test_rollout_is_the_sum_over_all_paths():
    maps = [_weights(2, 3, 5, 5, seed=layer) for layer in range(3)]
    for image in range(2):
        mixed = []
        for weights in maps:
            layer = np.zeros((5, 5))
            for t, s in np.ndindex(5, 5):
                layer[t, s] = sum(float(weights[image, head, t, s]) for head in range(3)) / 3 / 2 + (t == s) / 2
            mixed.append(layer)
        expected = np.zeros((5, 5))
        for end, second, first, start in np.ndindex(5, 5, 5, 5):
            expected[end, start] += mixed[2][end, second] * mixed[1][second, first] * mixed[0][first, start]
        np.testing.assert_allclose(attention.rollout(maps)[image], expected, rtol=1e-5)
    rounded = [tf.cast(weights, tf.bfloat16).numpy() for weights in maps]  # its rows do not sum to 1
    np.testing.assert_allclose(attention.rollout(rounded).sum(axis=-1), 1, rtol=1e-12)


def test_distinct_latents():
    maps = [_weights(9, 16, seed=iteration) for iteration in range(2)]
    attentions = [np.concatenate([weights[latent] for weights in maps]).astype(float) for latent in range(9)]
    entropies = [-sum(p * np.log(p) for p in row) for row in attentions]
    expected = [min(range(9), key=lambda latent: entropies[latent])]
    while len(expected) < 4:
        distances = {
            latent: min(sum(abs(attentions[latent] - attentions[other])) for other in expected)
            for latent in range(9)
            if latent not in expected
        }
        expected.append(max(distances, key=distances.get))
    assert attention.distinct_latents(maps, 4) == expected
    assert sorted(attention.distinct_latents(maps, 20)) == list(range(9))
    # 0 and 2 look at the same patch; 3 at all of them.
    peaked = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0.25] * 4])
    assert attention.distinct_latents([peaked], 4) == [0, 1, 3, 2]


def test_cosine_similarities():
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    vectors[3] = 0
    for (i, j), value in np.ndenumerate(attention.cosine_similarities(vectors)):
        a, b = vectors[i].astype(float), vectors[j].astype(float)
        lengths = np.sqrt((a**2).sum() * (b**2).sum())
        assert value == pytest.approx((a * b).sum() / lengths if lengths else 0.0)


# Figures.


@pytest.mark.parametrize(("patch", "block", "gap"), [(2, 3, 1), (6, 1, 1), (12, 1, 2)])
def test_patches_are_the_image_in_pieces(patch, block, gap):
    whole, cut = attention_figures.patches(IMAGE, patch).axes
    np.testing.assert_array_equal(values_of(whole), IMAGE)
    assert cut.get_title() == f"{12 // patch}×{12 // patch} patches of {patch}×{patch}"
    rest = np.array(values_of(cut))
    for row, column in np.ndindex(12 // patch, 12 // patch):
        top, left = (gap + number * (patch * block + gap) for number in (row, column))
        place = np.s_[top : top + patch * block, left : left + patch * block]
        expected = IMAGE[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        np.testing.assert_array_equal(rest[place], expected.repeat(block, axis=0).repeat(block, axis=1))
        rest[place] = 255
    assert (rest == 255).all()  # between the patches


def test_attention_grid_shows_layers_and_heads():
    maps = [_weights(3, 16, 16, seed=layer) for layer in range(4)]
    figure = attention_figures.attention_grid(IMAGE, maps, name="ring")
    np.testing.assert_array_equal(values_of(figure.axes[0]), IMAGE)
    panels = heat_maps(figure)
    for panel, (layer, head) in zip(panels, np.ndindex(4, 3), strict=True):
        np.testing.assert_allclose(values_of(panel, 0), IMAGE.astype(float).sum(axis=2) / 3)
        np.testing.assert_allclose(values_of(panel, 1), 16 * maps[layer][head].mean(axis=0).reshape(4, 4), rtol=1e-5)
        assert panel.images[0].get_extent() == panel.images[1].get_extent()
    assert len({panel.images[1].get_clim() for panel in panels}) == 1
    assert "mean over all query patches" in " ".join(figure.get_suptitle().split())


@pytest.mark.parametrize("count", [1, 3, 7])
def test_rollout_grid(count):
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    maps = [_weights(count, 2, 16, 16, seed=layer) for layer in range(3)]
    names = [f"name {number}" for number in range(count)]
    figure = attention_figures.rollout_grid(images, maps, names=names)
    expected = 16 * attention.rollout(maps).mean(axis=1).reshape(count, 4, 4)
    for panel, values in zip(heat_maps(figure), expected, strict=True):
        np.testing.assert_allclose(values_of(panel, 1), values)
    pictures = [panel for panel in figure.axes if len(panel.images) == 1 and panel.get_title()]
    assert [panel.get_title() for panel in pictures] == names
    for panel, below, image in zip(pictures, heat_maps(figure), images, strict=True):
        np.testing.assert_array_equal(values_of(panel), image)
        place, place_below = panel.get_subplotspec(), below.get_subplotspec()
        assert place_below.rowspan.start == place.rowspan.start + 1 and place_below.colspan == place.colspan


def test_latent_grid_shows_the_mean_and_the_chosen_in_each_iteration():
    maps = [_weights(20, 16, seed=iteration) for iteration in range(3)]
    figure = attention_figures.latent_grid(IMAGE, maps, name="ring")
    chosen = attention.distinct_latents(maps, 8)
    shown = iter(heat_maps(figure))
    for weights in maps:
        for expected in (weights.mean(axis=0), *weights[chosen]):
            np.testing.assert_allclose(values_of(next(shown), 1), 16 * expected.reshape(4, 4), rtol=1e-5)
    assert next(shown, None) is None
    titles = [panel.get_title() for panel in heat_maps(figure)[:9]]
    assert titles == ["mean of all", *(f"latent {latent}" for latent in chosen)]


def test_even_attention_can_be_drawn():
    even = np.full((1, 2, 16, 16), 1 / 16)
    grid = attention_figures.attention_grid(IMAGE, [even[0]])
    low, high = heat_maps(grid)[0].images[1].get_clim()
    assert high / low == pytest.approx(1.01)  # no colours for rounding errors
    for figure in (
        grid,
        attention_figures.rollout_grid(IMAGE[None], [even], names=["a"]),
        attention_figures.position_grid(np.ones((16, 3))),
        attention_figures.position_grid(np.ones((1, 3))),
    ):
        figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("side", "picked", "gap"), [(3, [0, 1, 2], 1), (14, range(14), 1), (32, [0, 4, 9, 13, 18, 22, 27, 31], 2)]
)
def test_position_grid(side, picked, gap):
    vectors = np.random.default_rng(0).normal(size=(side * side, 5))
    figure = attention_figures.position_grid(vectors)
    panel = figure.axes[0]
    whole = values_of(panel)
    assert whole.shape == (len(picked) * (side + gap) + gap,) * 2
    lengths = np.linalg.norm(vectors, axis=1)
    for row, column in np.ndindex(len(picked), len(picked)):
        query = picked[row] * side + picked[column]
        expected = (vectors @ vectors[query] / lengths / lengths[query]).reshape(side, side)
        top, left = gap + row * (side + gap), gap + column * (side + gap)
        np.testing.assert_allclose(whole[top : top + side, left : left + side], expected, atol=1e-12)
    assert np.isnan(whole).sum() == whole.size - (len(picked) * side) ** 2
    assert [label.get_text() for label in panel.get_xticklabels()] == [str(number + 1) for number in picked]
    assert ("8×8 of the 32×32" if side == 32 else f"all {side}×{side}") in figure.get_suptitle()


@pytest.mark.parametrize(
    "figure",
    [
        attention_figures.patches(IMAGE, 6, title=LONG),
        attention_figures.attention_grid(IMAGE, [_weights(4, 16, 16)] * 8, name=LONG, title=LONG),
        attention_figures.attention_grid(IMAGE, [_weights(1, 16, 16)], name="hourglass on antidiagonal", title=LONG),
        attention_figures.rollout_grid(
            np.stack([IMAGE] * 8), [_weights(8, 2, 16, 16)], names=["hourglass on antidiagonal"] * 8, title=LONG
        ),
        attention_figures.rollout_grid(IMAGE[None], [_weights(1, 2, 16, 16)], names=["a"], title=LONG),
        attention_figures.latent_grid(
            IMAGE, [np.eye(300, 1024) * 0.999999 + 1e-9] * 2, name="hourglass on antidiagonal", title=LONG
        ),
        attention_figures.latent_grid(IMAGE, [_weights(1, 16)], name="ring", title=LONG),
        attention_figures.position_grid(_weights(144, 8), title=LONG),
        attention_figures.position_grid(_weights(1024, 8), title=LONG),
    ],
    ids=["patches", "layers", "layer", "images", "image", "latents", "latent", "positions", "subgrid"],
)
def test_no_texts_overlap_or_leave_the_picture(figure):
    assert check_texts(figure) >= 3
