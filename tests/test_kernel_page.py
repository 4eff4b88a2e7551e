"""The kernel report and its page: the numbers they show, which kernel reads which, comparisons, escaping."""

import dataclasses
import html.parser
import json

import pytest
import tensorflow as tf

from tests.support.planted import Planted, jit, line_of
from tests.support.profiled import CEILINGS, kernel, profile, timing
from tfcore.inspect.graph.tracing import Trace, TraceReport, Uncompilable
from tfcore.inspect.hlo import parser as hlo
from tfcore.inspect.hlo.dataflow import dataflow
from tfcore.inspect.pages.kernel_page import html_report, page_data, snippet
from tfcore.inspect.pages.kernel_report import WIDTH, folded_layer, scaled, text_report, warnings
from tfcore.inspect.profile.comparison import Form, comparison_rows, comparison_text, take_turns
from tfcore.inspect.profile.compiler import StepReport, inspect_step
from tfcore.inspect.profile.step_profile import StepProfile

LOOP = """HloModule m, is_scheduled=true

%scale (a: f32[7]) -> f32[7] {
  %a = f32[7]{0} parameter(0)
  ROOT %inner = f32[7]{0} reverse(%a), dimensions={0}
}

%body (state: (s32[], f32[7])) -> (s32[], f32[7]) {
  %state = (s32[], f32[7]{0}) parameter(0)
  %count = s32[] get-tuple-element(%state), index=0
  %value = f32[7]{0} get-tuple-element(%state), index=1
  %next = s32[] copy(%count)
  %turned = f32[7]{0} call(%value), to_apply=%scale
  ROOT %out = (s32[], f32[7]{0}) tuple(%next, %turned)
}

%condition (state.1: (s32[], f32[7])) -> pred[] {
  %state.1 = (s32[], f32[7]{0}) parameter(0)
  %count.1 = s32[] get-tuple-element(%state.1), index=0
  ROOT %less = pred[] is-finite(%count.1)
}

ENTRY %main (x: f32[7]) -> (f32[7], f32[7]) {
  %x = f32[7]{0} parameter(0)
  %zero = s32[] constant(0)
  %begin = f32[7]{0} negate(%x)
  %same = f32[7]{0} bitcast(%begin)
  %into = (s32[], f32[7]{0}) tuple(%zero, %same)
  %loop = (s32[], f32[7]{0}) while(%into), condition=%condition, body=%body
  %result = f32[7]{0} get-tuple-element(%loop), index=1
  %last = f32[7]{0} add(%result, %begin)
  ROOT %both = (f32[7]{0}, f32[7]{0}) tuple(%last, %begin)
}
"""


def test_results_are_followed_through_tuples_calls_and_loops():
    # The value alone reaches the call; the counter comes from the iteration before.
    assert sorted(dataflow(hlo.parse(LOOP))) == [
        ("begin", "inner"),
        ("begin", "last"),
        ("inner", "inner"),
        ("inner", "last"),
        ("next", "less"),
        ("next", "next"),
    ]


@pytest.fixture(scope="module")
def report() -> StepReport:
    return inspect_step(jit(Planted()), tf.ones([5, 7]))


def test_every_reader_of_a_real_step_is_a_kernel(report):
    names = [item.name for item in report.kernels]
    edges = dataflow(report.optimized)
    assert edges and {name for edge in edges for name in edge} <= set(names)
    assert all(names.index(a) < names.index(b) for a, b in edges)  # in the schedule's order
    assert len(set(edges)) == len(edges)


@pytest.fixture(scope="module")
def heavy() -> StepProfile:
    """At the ceilings: 1 µs for the product's 2,000 FLOP, 3 µs for the sum's bytes, 1 µs for the sine's."""
    kernels = [
        kernel("dot.1", opcode="dot", flops=2000, bytes_read=200, bytes_written=100, layer="blocks/0/attention"),
        kernel("sum", flops=500, bytes_read=2000, bytes_written=1000, phase="backward", layer="blocks/1/attention"),
        kernel("sine", bytes_read=600, bytes_written=400, transcendentals=100, layer="head"),
        kernel("never", layer="head"),
    ]
    return profile(kernels, {"dot.1": 2.0, "sum": 4.0, "sine": 94.0})


def test_times_and_places_join_the_kernels(heavy):
    entries = {entry["name"]: entry for entry in heavy.to_json()}
    assert {name: entry["fraction"] for name, entry in entries.items()} == {
        "dot.1": pytest.approx(1 / 2), "sum": pytest.approx(3 / 4), "sine": pytest.approx(1 / 94), "never": None
    }  # fmt: skip
    assert [entries[name]["bound"] for name in ("dot.1", "sum", "sine", "never")] == [
        "compute", "memory", "other", None
    ]  # fmt: skip
    assert entries["never"]["us"] is None and entries["sum"]["bytes"] == 3000
    assert [item.name for item in heavy.ranked()] == ["sine", "sum", "dot.1", "never"]
    first = heavy.groups(lambda item: folded_layer(item.layer))[1]
    assert (first.name, first.kernels, first.us, first.flops, first.bytes) == ("blocks/*/attention", 2, 6.0, 2500, 3300)


def test_the_text_fits_and_says_the_bounds(heavy):
    text = text_report(heavy, "a step")
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH and len(lines) < 50
    words = " ".join(text.split())
    assert "time other 94% (1 kernel), memory 4% (1 kernel), compute 2% (1 kernel), untimed 0% (1 kernel)" in words
    assert "float32 2 GFLOP/s, memory 1 GB/s; at them the kernels would take 0.005 ms, 5% of their time" in words
    row = next(line.split() for line in lines if " dot.1 " in line)
    assert row[:7] == ["2", "2.0%", "50%", "compute", "2", "k", "300"]


def test_warnings_name_what_is_wrong(heavy):
    assert warnings(heavy) == []
    kernels = [
        kernel("call", counted=False),
        kernel("conv", opcode="convolution", runs=5),
        kernel("loop", runs=None),
        kernel("again", flops=100, flops_again=60, phase="backward"),
        kernel("sort.1", opcode="sort"),
    ]
    us = {"sort.1": 50.0, "conv": 30.0}
    changed = profile(kernels, us, unattributed=(("while.3", 20.0),), profiled_us=200.0, idle_us=100.0)
    report = dataclasses.replace(changed.report, totals=dataclasses.replace(changed.report.totals, flops=100))
    traces = (Trace({"x": "float32[2]"}, ()), Trace({"x": "float32[3]"}, ("x: float32[2] -> float32[3]",)))
    refused = (Uncompilable("p", "Print", "head", "model.py:3", "forward", "return the value"),)
    changed = dataclasses.replace(changed, report=report, tracing=TraceReport(2, traces), refused=refused)
    found = warnings(changed)
    for words in (
        "XLA could not compile Print (model.py:3, head, forward): instead return the value",
        "traced 2 times: x: float32[2] -> float32[3]",
        "uncounted, having no formula: work in 1 kernel (call)",
        "counted once, in loops of unknown length: 1 kernel, such as loop",
        "is a convolution in a loop",
        "60% of the arithmetic is forward work",
        "10% of the step fits no kernel, the most of it while.3 (0.02 ms)",
        "is a sort, which runs on one thread",
        "in 50% of the step nothing of it ran",
    ):
        assert sum(words in text for text in found) == 1, (words, found)
    assert len(found) == 9


def test_source_lines_stand_around_the_planted_one(report):
    source = line_of(Planted, "# planted")
    found = snippet(source)
    assert found["lines"][int(source.split(":")[1]) - found["first"]].endswith("# planted")
    assert len(found["lines"]) == 7
    assert snippet("tests/support/planted.py:1")["first"] == 1
    assert snippet("no/such/file.py:3") is None


def test_the_page_holds_every_kernel_once(report):
    us = {item.name: 7.0 for item in report.kernels}
    whole = StepProfile(report.kernels, report, report.tracing, (), timing(us), CEILINGS)
    data = page_data(whole)
    columns = data["columns"]
    assert {len(column) for column in columns.values()} == {len(report.kernels)}
    for place, item in enumerate(report.kernels):
        assert columns["name"][place] == item.name
        assert data["texts"][columns["layer"][place]] == item.layer
        assert [data["texts"][number] for number in columns["fused"][place]] == list(item.fused_ops)
    assert sum(columns["flops"]) == report.totals.flops
    pairs = [(columns["name"][a], columns["name"][b]) for a, b in data["edges"]]
    assert pairs == dataflow(report.optimized)
    assert line_of(Planted, "# planted") in data["snippets"]


class _Reader(html.parser.HTMLParser):
    """Tags that never close, what is loaded from elsewhere, and the page's JSON."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.loaded, self.data, self._inside = [], [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)
        self.loaded += [value for name, value in attributes if name in ("src", "href")]
        self._inside = ("id", "data") in attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self._inside and self.open[-1:] == ["script"]:
            self.data += data


def test_the_page_is_whole_and_everything_is_escaped():
    evil = '</script><img src=x onerror="alert(1)">'
    bad = profile([kernel(evil, layer=evil, source=evil, fused_ops=(evil,), op_type=evil)], {evil: 3.0})
    forms = [Form(evil, bad.report), Form("other", bad.report)]
    text = html_report(bad, evil, forms=forms)
    read = _Reader(text)
    assert read.open == [] and read.loaded == []
    assert "<img" not in text
    assert json.loads(read.data)["columns"]["name"] == [evil]
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'" in text


def test_graph_mode_and_steps_that_did_not_run_have_pages_and_texts(report):
    still = StepProfile(report.kernels, report, report.tracing, (), None, None)
    assert page_data(still)["timed"] is False and "µs" not in text_report(still, "not run")
    graph = StepProfile((kernel("a/Mul", opcode="Mul"),), None, report.tracing, (), timing({"a/Mul": 5.0}), None)
    (entry,) = graph.to_json()
    assert entry["flops"] is None and entry["bytes"] is None and entry["us"] == 5.0
    assert "leave out --xla off" in text_report(graph, "graph") and "FLOP  " not in text_report(graph, "graph")
    for one in (still, graph):
        assert _Reader(html_report(one, "a page")).open == []


def test_forms_side_by_side(report):
    other = dataclasses.replace(
        report, totals=dataclasses.replace(report.totals, flops=3 * report.totals.flops), kernels=report.kernels[:1]
    )
    rows = comparison_rows([Form("own", report, (10.0, 20.0, 30.0)), Form("other", other, (5.0, 10.0, 45.0))])
    assert rows[0] == ["", "own", "other", "times"]
    found = {name: cells for name, *cells in rows}
    assert found["kernels"] == [str(len(report.kernels)), "1", f"{1 / len(report.kernels):.3g}"]
    assert found["GFLOP"][2] == "3"
    assert found["ms a step, median"] == ["20", "10", "0.5 (0.5 .. 1)"]  # turn by turn
    text = comparison_text([Form("own", report), Form("other", other)], "not run")
    assert text.splitlines()[1].split() == ["own", "other", "times"] and "ms a step" not in text


def test_steps_take_turns():
    calls = []
    times = take_turns([lambda: calls.append("a"), lambda: calls.append("b")], 2)
    assert "".join(calls) == "ababab"  # the first turn does not count
    assert [len(found) for found in times] == [2, 2] and min(times[0]) >= 0
    with pytest.raises(ValueError, match="turns must be at least 1, got 0"):
        take_turns([], 0)


def test_small_words():
    assert [scaled(value) for value in (0, 999, 1000, 999_999, 1.234e6, 5e9)] == [
        "0 ", "999 ", "1 k", "1 M", "1.23 M", "5 G"
    ]  # fmt: skip
    assert folded_layer("blocks/3/feed_forward/dense/1") == "blocks/*/feed_forward/dense/*"
    assert folded_layer("") == "(unknown)" and folded_layer("apply()") == "apply()"
