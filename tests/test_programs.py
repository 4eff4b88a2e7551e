"""Programs that others compiled, from texts, dumps and profiles, alone and side by side."""

import gzip
import json
from pathlib import Path

import pytest

from tests.support.attribution import shares
from tfcore.inspect.pages.difference_page import difference_parts
from tfcore.inspect.pages.kernel_page import html_report, page_data
from tfcore.inspect.pages.kernel_report import text_report
from tfcore.inspect.profile import xplane
from tfcore.inspect.profile.differences import Side, difference_text, kernel_changes, summary_rows
from tfcore.inspect.profile.programs import choose, find_programs, program_profile

DUMPS = Path(__file__).parent / "hlo"
SHARED = Path(__file__).parents[2] / "shared" / "data" / "hlo"
PLAIN = """HloModule m, is_scheduled=true

ENTRY %main (x: f32[5,7]) -> f32[5,7] {
  %x = f32[5,7]{1,0} parameter(0)
  %e = f32[5,7]{1,0} exponential(%x), metadata={op_name="jit(f)/exp"}
  ROOT %r = f32[5,7]{1,0} add(%e, %x), metadata={op_name="jit(f)/a}b"}
}
"""


def test_origins_of_a_jax_step():
    """A dense layer, its loss and an Adam update, compiled by JAX 0.10 on a CPU, and the profile of five steps."""
    profile = program_profile(choose(find_programs(DUMPS / "jax_step.xplane.pb.gz"), "jit_train_step"))
    kernels = profile.kernels
    assert {kernel.phase for kernel in kernels} >= {"forward", "backward", "update"}
    products = {(kernel.layer, kernel.phase) for kernel in kernels if "dot_general" in kernel.op_type}
    assert ("Net/up", "forward") in products and ("Net/down", "backward") in products
    assert {kernel.source.rpartition("/")[2].partition(":")[0] for kernel in kernels} == {"train.py"}
    assert shares(profile.report)["source"] == 1
    assert profile.report.memory.method == "assignment"
    assert profile.timing.steps == 5 and len(profile.timing.us) == len(kernels)
    text = text_report(profile, "a step of JAX")
    assert "Net/up" in text and "under the profiler" in text
    data = page_data(profile)
    assert data["memory"]["curve"] and max(point[1] for point in data["memory"]["curve"]) > 0
    assert html_report(profile, "a step of JAX")


def test_a_step_shows_itself_in_a_notebook():
    profile = program_profile(choose(find_programs(DUMPS / "jax_step.xplane.pb.gz"), "jit_train_step"))
    for shown, words in ((profile, "<th>µs</th>"), (profile.report, "FLOP, ")):
        html = shown._repr_html_()
        assert words in html and "Net/up" in html and "train.py" in html
        assert html.count("<table>") == html.count("</table>") == 2


def test_two_programs_side_by_side(tmp_path):
    profile = program_profile(choose(find_programs(DUMPS / "jax_step.xplane.pb.gz"), "jit_train_step"))
    (tmp_path / "k.json").write_text(json.dumps(profile.to_json()[1:]))
    one, other = Side.of_profile("one", profile), Side.of_json(tmp_path / "k.json")
    first = profile.kernels[0]
    lost = [(change.sort, change.one["name"]) for change in kernel_changes(one, other)]
    assert lost == [("lost", first.name)]
    rows = {row[0]: row for row in summary_rows(one, other)}
    assert rows["kernels"][1:4] == ["35", "34", "−1"]
    assert rows["bytes"][3] == f"−{first.bytes:,}"
    text = difference_text(one, other)
    assert "0 gained, 1 lost, 0 changed, 34 the same" in text and "by layer" in text and "by line" in text
    assert "by phase" in "".join(difference_parts(one, other))
    changed = Side("changed", [{**entry, "flops": entry["flops"] + 3} for entry in profile.to_json()])
    assert {change.sort for change in kernel_changes(one, changed)} == {"changed"}
    (tmp_path / "no.json").write_text("{}")
    assert Side.of_json(tmp_path / "no.json") is None


def test_the_text_and_the_profile_agree():
    (of_text,) = find_programs(DUMPS / "jax_step.txt.gz")
    of_profile = choose(find_programs(DUMPS / "jax_step.xplane.pb.gz"), "jit_train_step")
    counts = [program.report.totals for program in (of_text, of_profile)]
    assert counts[0] == counts[1]
    kernels = [[(k.name, k.layer, k.source, k.phase) for k in p.report.kernels] for p in (of_text, of_profile)]
    assert kernels[0] == kernels[1]


def test_runs_that_nobody_numbered():
    names = "a b b c a b c a b b b c"
    events = [(float(at), at + 0.5, name, -1) for at, name in enumerate(names.split())]
    assert xplane._unnumbered_runs(events) == [(0.0, 3.5), (4.0, 6.5), (7.0, 11.5)]


def test_a_folder_of_dumps(tmp_path):
    with pytest.raises(ValueError, match="an empty folder"):
        find_programs(tmp_path)
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(ValueError, match="no HLO in this folder"):
        find_programs(tmp_path)
    step = gzip.decompress((DUMPS / "jax_step.txt.gz").read_bytes()).decode()
    (tmp_path / "module_0003.jit_train_step.cpu_after_optimizations.txt").write_text(step)
    (tmp_path / "module_0003.jit_train_step.fusion.ll").write_text("; ModuleID")
    (tmp_path / "module_0001.jit_f.cpu_after_optimizations.txt").write_text(PLAIN)
    (tmp_path / "module_0001.jit_f.before_optimizations.txt").write_text(PLAIN)
    programs = find_programs(tmp_path)
    assert [program.name for program in programs] == ["module_0001.jit_f", "module_0003.jit_train_step"]
    assert choose(programs).name == "module_0003.jit_train_step"  # the most FLOPs
    assert choose(programs, "module_0001.jit_f").report.before_after.built == {"": 2}
    with pytest.raises(ValueError, match="no module is called 'g'"):
        choose(programs, "g")


def test_a_profile_without_modules(tmp_path):
    (tmp_path / "x.xplane.pb").write_bytes(b"\n\x08\x12\x06/host:")
    with pytest.raises(ValueError, match="no HLO module"):
        find_programs(tmp_path)


# Of XLA's own analysis (`cost_analysis()`), which counts a loop once, converts and comparisons as FLOPs, and a Fourier
# transform as 6 n log2 n: what it says times this.
RATIOS = {
    "conv_f32": (1, 1), "custom_vjp": (1, 1), "named_scope": (1, 1), "while_unknown": (1, 1), "int_fp8": (0.99, 1),
    "linen_train": (0.99, 1.04), "sharded_mlp": (1, 1), "fft": (0.835, 1),
}  # fmt: skip


@pytest.mark.skipif(not SHARED.is_dir(), reason="dumps that lie outside of the repository")
@pytest.mark.parametrize("name", RATIOS)
def test_counts_beside_those_of_xla(name):
    (program,) = find_programs(SHARED / "jax" / f"{name}.opt.hlo")
    analysis = json.loads((SHARED / "jax" / "analysis.json").read_text())[name]
    totals = program.report.totals
    ratios = totals.flops / analysis["flops"], totals.bytes / analysis["bytes"]
    assert ratios == pytest.approx(RATIOS[name], rel=0.012)
    sizes = sum(analysis[f"{kind}_size_in_bytes"] for kind in ("argument", "output", "temp"))
    assert program.report.memory.peak_bytes == pytest.approx(sizes - analysis["alias_size_in_bytes"], rel=0.05)
