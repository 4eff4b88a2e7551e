"""A profiled step as one HTML page: layer tree, kernel table, roofline, graph of a layer, source lines.

The page needs no network and no server. What a reader can sort and filter lies in it as JSON, once, and is drawn by
the scripts beside this file, which write nothing but text into it; the rest is plain HTML.
"""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

import tfcore
from tfcore.inspect.graph.tracing import TraceReport
from tfcore.inspect.hlo.dataflow import dataflow
from tfcore.inspect.hlo.stages import Stages
from tfcore.inspect.pages import page
from tfcore.inspect.pages.kernel_report import facts, folded_layer, many, mib, reason, scaled, warnings
from tfcore.inspect.pages.memory_data import memory_data
from tfcore.inspect.profile.comparison import Form, comparison_rows
from tfcore.inspect.profile.step_profile import StepProfile
from tfcore.inspect.profile.step_report import StepReport
from tfcore.inspect.profile.timing import Timing

AROUND = 3  # lines of source before and after
GONE = 60  # operations listed as gone
_HERE = Path(__file__).parent
_SCRIPTS = ("kernel_page.js", "kernel_detail.js", "kernel_graph.js", "kernel_memory.js", "kernel_roofline.js")
# Nothing may be loaded, whatever the JSON says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def html_report(profile: StepProfile, title: str, *, forms: Sequence[Form] = (), before: Sequence[str] = ()) -> str:
    """Return the whole page; forms: those of `tfcore.inspect.profile.comparison`, to be set side by side; `before`:
    parts of the page that stand before the kernels.
    """
    parts = [_cards(profile), _definitions(facts(profile))]
    parts += [page.lead(text, bad=True) for text in warnings(profile)]
    if forms:
        header, *rows = comparison_rows(forms)
        parts += [page.heading("Side by side"), page.table(header, rows)]
    parts += before
    parts.append(_EXPLORER)
    if profile.timing is not None:
        parts += _timing(profile, profile.timing)
    if profile.report is not None:
        parts += _before_after(profile.report.before_after) if profile.report.before_after is not None else []
        parts += _compiled(profile, profile.report)
    parts += _tracing(profile.tracing) if profile.tracing is not None else []
    parts.append(f'<script type="application/json" id="data">{_embedded(page_data(profile))}</script>')
    parts += [f"<script>\n{(_HERE / name).read_text(encoding='utf-8')}</script>" for name in _SCRIPTS]
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    head += f"<style>{(_HERE / 'kernel_page.css').read_text(encoding='utf-8')}</style>\n"
    return page.page(title, parts, head=head)


def page_data(profile: StepProfile) -> dict:
    """Return what the page's scripts draw, as JSON takes it: kernels by column, texts and layers by their number."""
    texts = _Numbers()
    entries = profile.to_json()
    numbers = {kernel.name: i for i, kernel in enumerate(profile.kernels)}
    plain = (
        "name",
        "flops",
        "transcendentals",
        "integer_ops",
        "bytes_read",
        "bytes_written",
        "bytes",
        "us",
        "comparisons",
        "bytes_sent",
    )
    columns = {name: [entry[name] for entry in entries] for name in (*plain, "fraction", "runs", "inferred", "counted")}
    for name in ("kind", "layer", "source", "phase", "operation", "bound", "shape", "why_alone", "branch"):
        columns[name] = [texts.of(entry[name] or "") for entry in entries]
    for name in ("operands", "fused"):
        columns[name] = [[texts.of(text) for text in entry[name]] for entry in entries]
    columns["parts"] = [[texts.of(_place(origin)) for origin in kernel.origins] for kernel in profile.kernels]
    columns["again"] = [kernel.flops_again for kernel in profile.kernels]
    edges = [] if profile.report is None else dataflow(profile.report.optimized)
    snippets = {kernel.source: None for kernel in profile.kernels if kernel.source}
    memory = memory_data(profile, texts.of)
    return {
        "columns": columns,
        "memory": memory,
        "texts": texts.texts,
        "edges": [[numbers[a], numbers[b]] for a, b in edges],
        "snippets": {source: found for source in snippets if (found := snippet(source)) is not None},
        "ceilings": profile.ceilings and profile.ceilings.to_json(),
        "timed": profile.timing is not None,
        "counted": profile.report is not None,
    }


def snippet(source: str) -> dict | None:
    """Return {"first": number of the first line, "lines": texts} around 'file.py:line'; None if it cannot be read."""
    file, _, line = source.rpartition(":")
    project = os.path.dirname(os.path.dirname(tfcore.__file__))  # what the compiler's report cut off
    path = next((path for path in (Path(project, file), Path(file)) if path.is_file()), None)
    if path is None:
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    first = max(int(line) - AROUND, 1)
    return {"first": first, "lines": lines[first - 1 : int(line) + AROUND]}


class _Numbers:
    """Texts by number, each once."""

    def __init__(self):
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def of(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return self._numbers[text]


def _embedded(data: dict) -> str:
    """JSON that cannot end the script element in which it stands."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _place(origin) -> str:
    return ", ".join(filter(None, (*dataclasses.astuple(origin)[1:], origin.op_type)))


def _cards(profile: StepProfile) -> str:
    cards = [("kernels" if profile.report else "operations", f"{len(profile.kernels):,}")]
    if profile.report is not None:
        totals = profile.report.totals
        cards += [("floating-point operations", scaled(totals.flops)), ("bytes moved", scaled(totals.bytes))]
        cards += [("peak memory", mib(profile.report.memory.peak_bytes))] if profile.report.memory else []
    if profile.timing is not None:
        us = profile.timing.step_us
        cards.append(("a step", f"{(profile.timing.profiled_us if us is None else us) / 1000:,.3g} ms"))
    if profile.report is not None and profile.report.compile_seconds is not None:
        cards.append(("to compile", f"{profile.report.compile_seconds:.1f} s"))
    cells = (f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in cards)
    return f'<div class="cards">{"".join(cells)}</div>'


def _definitions(pairs: Sequence[tuple[str, str]]) -> str:
    cells = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs)
    return f'<dl class="facts">{"".join(cells)}</dl>'


def _timing(profile: StepProfile, timing: Timing) -> list[str]:
    parts = []
    if profile.ceilings is not None:
        note = f" {profile.note[0].upper()}{profile.note[1:]}." if profile.note else ""
        parts.append(page.paragraph(f"Ceilings of this machine: {profile.ceilings.method}.{note}"))
    if timing.unattributed:
        rows = [[name, f"{us:,.1f}"] for name, us in timing.unattributed]
        title = f"recorded, but of no {'kernel' if profile.report else 'operation'}: {many(len(rows), 'event')}"
        parts.append(page.folded(title, [page.table(["event", "µs a step"], rows)]))
    return parts


def _before_after(stages: Stages) -> list[str]:
    folded = [Counter() for _ in range(4)]
    for counts, stage in zip(folded, (stages.graph, stages.built, stages.optimized, stages.kernels), strict=True):
        for layer, count in stage.items():
            counts[folded_layer(layer)] += count
    order = sorted(set().union(*folded), key=lambda layer: -folded[2][layer])
    header = ["layer", "graph", "HLO as built", "HLO as optimized", "kernels"]
    if not stages.graph:
        folded, header = folded[1:], [header[0], *header[2:]]
    rows = [["all", *(f"{sum(counts.values()):,}" for counts in folded)]]
    rows += [[layer, *(f"{counts[layer]:,}" for counts in folded)] for layer in order]
    parts = [
        page.heading("Before and after the compiler"),
        page.paragraph(
            "Operations of each layer: in TensorFlow's graph, in HLO as built, in HLO as optimized (what two fusions "
            "repeat counts twice), and the kernels in which they run. Layers of one kind stand together. (unknown): "
            "what the compiler says nothing of, such as the rounds of random bits."
        ),
        page.table(header, rows),
    ]
    lost = [
        [gone.op_name, gone.op_type, f"{gone.flops:,}", gone.reason or "simplified or merged", gone.layer, gone.source]
        for gone in stages.gone[:GONE]
    ]
    sorts = Counter(reason(gone.reason) for gone in stages.gone)
    title = f"{len(stages.gone):,} operations disappeared: "
    title += ", ".join(f"{count:,} {name}" for name, count in sorts.most_common())
    header = ["operation", "type", "FLOP as built", "why", "layer", "source"]
    more = [page.paragraph(f"Those with the most work; {len(stages.gone) - GONE:,} more.")] if len(lost) == GONE else []
    return [*parts, page.folded(title, [*more, page.table(header, lost)])]


def _compiled(profile: StepProfile, report: StepReport) -> list[str]:
    alone = Counter(_sort_of_reason(kernel.why_alone) for kernel in profile.kernels)
    title = "why kernels were not fused into their readers"
    parts = [page.folded(title, [page.table(["why", "kernels"], [[w, f"{n:,}"] for w, n in alone.most_common()])])]
    if report.memory is None:
        return parts
    kernels = {kernel.name: kernel for kernel in profile.kernels}
    buffers = [
        [buffer.name, mib(buffer.bytes), *((kernel.layer, kernel.source, kernel.shape) if kernel else ("", "", ""))]
        for buffer in report.memory.largest
        for kernel in [kernels.get(buffer.name)]
    ]
    title = "the largest buffers that live at the peak of memory"
    parts.append(page.folded(title, [page.table(["buffer", "size", "layer", "source", "shape"], buffers)]))
    return parts


def _sort_of_reason(why: str) -> str:
    if why.startswith("read by ") and why.endswith("kernels"):
        return "read by several kernels"
    return why or "not known"


def _tracing(tracing: TraceReport) -> list[str]:
    rows = [
        [str(number), ", ".join(f"{name}: {kind}" for name, kind in trace.signature.items()), "; ".join(trace.changes)]
        for number, trace in enumerate(tracing.traces, 1)
    ]
    title = f"traced {many(tracing.count, 'time')}"
    return [page.folded(title, [page.table(["trace", "signature", "what changed"], rows)])]


_EXPLORER = """
<noscript><p class="lead bad">The tree, the table and the drawings need JavaScript, of this page alone.</p></noscript>
<section class="explorer" aria-label="Kernels by layer">
<nav><h2 id="tree-title">Layers</h2>
<p class="faint keys">Arrow keys move, Enter chooses.</p>
<ul role="tree" id="tree" aria-labelledby="tree-title"></ul></nav>
<div class="kernels"><h2 id="kernels-title">Kernels</h2>
<div class="tools"><label>Phase <select id="phase"></select></label>
<label>Find <input type="search" id="find" placeholder="name, layer, file, operation"></label>
<span id="count" role="status" class="faint"></span></div>
<div class="wide scroll" id="rows" tabindex="0" role="region" aria-labelledby="kernels-title"><table>
<thead><tr id="header"></tr></thead><tbody id="body"></tbody></table>
<button type="button" id="more">Show more rows</button></div></div>
</section>
<section id="detail" aria-live="polite" aria-label="The chosen kernel"></section>
<section><h2 id="graph-title">Graph</h2><p class="faint" id="graph-note"></p>
<div class="wide scroll" id="graph"></div></section>
<section id="memory-section"><h2>Memory over the step</h2><p class="faint" id="memory-note"></p>
<div class="wide" id="memory"></div><div class="wide" id="memory-list" aria-live="polite"></div></section>
<section id="roofline-section"><h2>Roofline</h2><p class="faint" id="roofline-note"></p>
<div class="wide" id="roofline"></div></section>
"""
