"""The audit of data as one page: the rules, and the pairs as pictures."""

import base64
from collections.abc import Sequence
from html import escape

import numpy as np
import tensorflow as tf

from loops.data.dataset import Dataset, Split
from loops.data_audit.audit import Audit, verdict
from loops.data_audit.duplicates import Pair
from tfcore.inspect.pages import page

PAIRS = 24  # that are shown of each kind
STYLE = """<style>
.pairs { display: flex; flex-wrap: wrap; gap: .8rem; }
.pairs figure { margin: 0; font-size: .8rem; color: var(--faint); max-width: 17rem; }
.pairs img { width: 64px; height: 64px; image-rendering: pixelated; margin-right: 2px; }
.pairs svg { width: 16rem; max-width: 100%; height: 5rem; }
.pairs polyline { fill: none; stroke-width: 1; vector-effect: non-scaling-stroke; }
.pairs .bad { color: var(--bad); }
</style>
"""


def html(audits: Sequence[tuple[Dataset, Audit]]) -> str:
    """Return the page of one or several sets."""
    parts = [part for dataset, audit in audits for part in _set(dataset, audit)]
    return page.page(f"Audit of data: {', '.join(dataset.name for dataset, _ in audits)}", parts, head=STYLE)


def _set(dataset: Dataset, audit: Audit) -> list[str]:
    found, pairs = audit.shortcuts, audit.duplicates
    rows = [
        [one.feature, "storage" if one.storage else "signal", f"{one.held_out:.3f}", f"{one.test:.3f}", f"{one.p:.3f}"]
        for one in found.found
    ]
    parts = [
        page.heading(audit.source),
        page.lead(verdict(audit), bad=bool(found.leaks)),
        page.paragraph(
            "The best rule of one feature, fitted on one half of train: its accuracy on the other half and on the test "
            f"split. The commonest class gives {found.majority[0]:.3f} and {found.majority[1]:.3f}. p: how often "
            "permuted labels are hit as often, times the number of features."
        ),
        page.table(["feature", "of", "held out", "test", "p"], rows, bad=[one in found.leaks for one in found.found]),
        *(page.paragraph(found.in_words(one)) for one in found.strong),
        *(page.paragraph(finding) for finding in audit.balance.findings()),
    ]
    if audit.scores:
        scores = [[name, f"{value:.4f}"] for name, value in audit.scores.items()]
        parts.append(page.table(["test accuracy of the run", "value"], scores))
    sides = {
        "across": ("Test examples that have a duplicate in train", dataset.test, dataset.train),
        "train": ("Duplicates within train", dataset.train, dataset.train),
        "test": ("Duplicates within test", dataset.test, dataset.test),
    }
    for name, (title, one, other) in sides.items():
        own = getattr(pairs, name)
        differing = [pair for pair in own if not pair.same_label]
        text = f"{title}: {len(own):,} of likeness {pairs.limit} or more, {len(differing):,} of different labels"
        shown = [*differing[: PAIRS // 2], *(pair for pair in own if pair.same_label)][:PAIRS]
        figures = "".join(_pair(pair, one, other, dataset.class_names) for pair in shown)
        parts.append(page.folded(text, [f'<div class="pairs">{figures}</div>']) if own else page.paragraph(text))
    return parts


def _pair(pair: Pair, one: Split, other: Split, names: Sequence[str]) -> str:
    first, second = one.inputs[pair.first], other.inputs[pair.second]
    picture = _images(first, second) if first.ndim == 3 else _series(first[:, 0], second[:, 0], pair.shift)
    labels = f"{names[one.labels[pair.first]]} / {names[other.labels[pair.second]]}"
    how = "exact" if pair.exact else f"{pair.likeness:.4f}"
    how += ", mirrored" if pair.mirrored else f", shifted by {pair.shift}" if pair.shift else ""
    mark = "" if pair.same_label else ' class="bad"'
    where = f"{pair.first:,} / {pair.second:,}"
    return f"<figure>{picture}<figcaption{mark}>{escape(labels)}<br>{where}, {how}</figcaption></figure>"


def _images(*images: np.ndarray) -> str:
    encoded = (base64.b64encode(tf.io.encode_png(image).numpy()).decode() for image in images)
    return "".join(f'<img alt="" src="data:image/png;base64,{content}">' for content in encoded)


def _series(first: np.ndarray, second: np.ndarray, shift: int) -> str:
    rows = (first, np.roll(second, shift))
    low, high = min(map(np.min, rows)), max(map(np.max, rows))
    lines = ""
    for row, colour in zip(rows, ("var(--mark)", "var(--bad)"), strict=True):
        points = " ".join(f"{i},{40 * (high - value) / (high - low + 1e-9):.2f}" for i, value in enumerate(row))
        lines += f'<polyline points="{points}" stroke="{colour}"/>'
    return f'<svg viewBox="0 0 {len(first)} 40" preserveAspectRatio="none">{lines}</svg>'
