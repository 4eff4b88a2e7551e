"""What attention weights say, as plain NumPy: who is looked at, through one layer or through all of them.

Glossary: B batch, N heads, T query and S key positions (patches, row by row, `side` along an image's side), L latents,
D width. Everything is computed in float64.
"""

from collections.abc import Sequence

import numpy as np


def even_shares(attention: np.ndarray) -> np.ndarray:
    """Return attention as a map over the image, in multiples of the even share 1/S: (..., S) -> (..., side, side).

    1 is what each position would get if all got the same; the mean of a map is 1, whatever the number of patches.

    Raises:
        ValueError: unless the S positions fill a square.
    """
    *front, positions = attention.shape
    side = square_side(positions)
    return positions * attention.astype(np.float64).reshape(*front, side, side)


def received(weights: np.ndarray) -> np.ndarray:
    """Return what each position receives, the mean over the queries: (..., T, S) -> (..., S); it sums to 1."""
    return weights.astype(np.float64).mean(axis=-2)


def rollout(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Return the attention rollout of a transformer's layers 1 .. l: l times (B, N, T, T) -> (B, T, T).

    A_i = (mean over heads of W_i + I) / 2, its rows divided by their sums; rollout = A_l ··· A_2 A_1: row t says how
    much of each input position position t of the last layer holds, if the residual path carries as much as attention
    (Abnar and Zuidema 2020, arXiv 2005.00928, section 3).
    """
    product = np.eye(maps[0].shape[-1])  # (T, T), which broadcasts
    for weights in maps:
        mixed = (weights.astype(np.float64).mean(axis=1) + np.eye(weights.shape[-1])) / 2  # (B, N, T, T) -> (B, T, T)
        product = mixed / mixed.sum(axis=-1, keepdims=True) @ product  # (B, T, T)
    return product


def distinct_latents(maps: Sequence[np.ndarray], count: int) -> list[int]:
    """Return `count` latents (or all, if fewer) that look at different things: maps of l iterations, each (L, S).

    First the most peaked one, whose attention has the least entropy, mean over the iterations; then, again and again,
    the one that differs most from the nearest of those chosen (farthest-point traversal: Gonzalez 1985). The distance
    of two latents is the total variation ½ Σ|p − q| between their attentions, mean over the iterations. Of equals, the
    first is taken.
    """
    attention = np.stack([weights.astype(np.float64) for weights in maps])  # (l, L, S)
    entropy = -(attention * np.log(np.maximum(attention, np.finfo(np.float64).tiny))).sum(axis=-1).mean(axis=0)  # (L,)
    chosen = [int(entropy.argmin())]
    nearest = np.full(attention.shape[1], np.inf)  # (L,), each latent's distance to the nearest chosen one
    while len(chosen) < min(count, attention.shape[1]):
        distance = np.abs(attention - attention[:, chosen[-1:]]).sum(axis=-1).mean(axis=0) / 2  # (L,)
        nearest = np.minimum(nearest, distance)
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
    return chosen


def cosine_similarities(vectors: np.ndarray) -> np.ndarray:
    """Return the cosine of the angle between every two vectors: (T, D) -> (T, T); a zero vector is like none, 0."""
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)  # (T, 1)
    vectors = vectors / np.where(lengths > 0, lengths, 1.0)
    return vectors @ vectors.T


def square_side(positions: int) -> int:
    """Return the side of a square of so many positions.

    Raises:
        ValueError: if there is none.
    """
    side = round(positions**0.5)
    if side**2 != positions:
        raise ValueError(f"{positions} positions do not fill a square: expected 144 (12·12) or the like")
    return side
