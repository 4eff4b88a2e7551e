"""HLO as people have it: texts with what stands around them, what is none, counts, loops, branches, names."""

import json

import pytest

from tfcore.inspect.hlo import op_names, parser
from tfcore.inspect.hlo.buffers import estimate
from tfcore.inspect.hlo.dataflow import dataflow
from tfcore.inspect.hlo.kernels import find_kernels
from tfcore.inspect.hlo.metadata_origins import MetadataOrigins
from tfcore.inspect.profile.step_report import total_cost

PLAIN = """HloModule m, is_scheduled=true

ENTRY %main (x: f32[5,7]) -> f32[5,7] {
  %x = f32[5,7]{1,0} parameter(0)
  %e = f32[5,7]{1,0} exponential(%x), metadata={op_name="jit(f)/exp"}
  ROOT %r = f32[5,7]{1,0} add(%e, %x), metadata={op_name="jit(f)/a}b"}
}
"""
SUM = """%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %s = f32[] add(%a, %b)
}
"""


def _module(lines: str, *, header: str = "HloModule m, is_scheduled=true", before: str = SUM) -> str:
    body = "".join(f"  {line}\n" for line in lines.strip().splitlines())
    return f"{header}\n\n{before}\nENTRY %main () -> f32[] {{\n{body}}}\n"


def _cost(text: str):
    module = parser.parse(text)
    return total_cost(tuple(find_kernels(module, MetadataOrigins(module))))


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("  ", "\t"),
        "".join(f"      {line}\n" for line in PLAIN.splitlines()),
        "\n".join(line.strip() for line in PLAIN.splitlines()),
        f"// RUN: opt %s\n# by hand\n/* several\nlines */\n{PLAIN}".replace("parameter(0)", "parameter(0) // http://x"),
        f"Some words (with one bracket\n```hlo\n{PLAIN}```\nand more of them: f(\n",
        "".join(f"I0101 00:00:00.000000   17 dump.cc:3] {line}\n" for line in PLAIN.splitlines()),
        repr(PLAIN),
        PLAIN.replace("(%e, %x), ", "(%e,\n      %x),\n    ").replace("exponential(", "\n    exponential("),
        PLAIN.replace("metadata={op_name", 'backend_config={\n   "a":"{",\n   "b":\n "1"}, metadata={op_name', 1),
        PLAIN.replace("-> f32[5,7] {", "->\n   f32[5,7]{"),
        PLAIN.replace("ROOT ", ""),
    ],
)
def test_texts_as_people_keep_them(text):
    module = parser.parse(text)
    assert (module.name, module.entry.root, list(module.entry.instructions)) == ("m", "r", ["x", "e", "r"])
    assert module.entry.instructions["r"].metadata.op_name == "jit(f)/a}b"
    assert (_cost(text).flops, _cost(text).transcendentals) == (35, 35)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty file"),
        ("hello\n", "line 1 is not HLO, and no HloModule"),
        ("module @f {\n  func.func @main() {\n    stablehlo.tanh\n  }\n}\n", "StableHLO"),
        ("BufferAssignment:\nallocation 0: size 3\n", "a buffer assignment"),
        ("; ModuleID = 'x'\ndefine void @f() {\n}\n", "LLVM"),
        ("<!DOCTYPE html><html></html>", "a page"),
        (PLAIN[: PLAIN.index("ROOT")], "cut off: it ends at line 6 inside of the computation %main"),
        (PLAIN.replace("ENTRY ", ""), "no ENTRY computation, only %main"),
        (PLAIN.replace("%e = ", "%x = "), r"line 5 .*a second instruction %x"),
        (PLAIN.replace("(%e, %x)", "(%e, %gone)"), r"line 6 .*there is no %gone above"),
        (PLAIN.replace("(%e, %x)", "(%e, f32[] constant(1))"), "line 6 .*is an instruction itself"),
        (PLAIN.replace("f32[5,7]{1,0} add", "add"), "line 6 .*no shape: print with shapes"),
        (PLAIN + "\n" + PLAIN.replace("m,", "n,"), "2 modules, not one: m, n"),
        (PLAIN.replace("add(%e, %x)", "reduce(%e, %x), to_apply=%gone"), "line 6 .*no computation %gone"),
        (SUM.join(["HloModule m\n", SUM, PLAIN.partition("\n")[2]]), "line 7 .*a second computation %sum"),
        (PLAIN + PLAIN.partition("\n")[2].replace("main", "other"), "a second ENTRY"),
    ],
)  # fmt: skip
def test_what_is_no_whole_module_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        parser.parse(text)


def test_one_of_several_modules_by_its_name():
    text = PLAIN + "// -----\n" + PLAIN.replace("m,", "n,").replace("exponential", "negate")
    assert parser.module_names(text) == ["m", "n"]
    assert parser.parse(text, "n").entry.instructions["e"].opcode == "negate"
    with pytest.raises(ValueError, match="no module is called 'k': there is m, n"):
        parser.parse(text, "k")


GEMM = """%a = f32[7,5,3]{2,1,0} parameter(0)
%b = f32[7,3,11]{2,1,0} parameter(1)
ROOT %g = (f32[7,5,11]{2,1,0}, s8[4096]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm", \
backend_config=CONFIG
"""
NUMBERS = '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["2"]}}'
FMHA = """%q = bf16[2,17,3,8]{3,2,1,0} parameter(0)
%k = bf16[2,19,3,8]{3,2,1,0} parameter(1)
ROOT %o = (bf16[2,17,3,8]{3,2,1,0}, u8[64]{0}) custom-call(%q, %k, %k), custom_call_target="__cudnn$fmhaSoftmaxNAME", \
backend_config={"cudnn_fmha_backend_config":{"intermediate_tensor_shape":{"dimensions":["2","3","17","19"]}}}
"""


@pytest.mark.parametrize(
    ("lines", "flops", "moved"),
    [
        (GEMM.replace("CONFIG", f'{{"gemm_backend_config":{NUMBERS}}}'), 2 * 7 * 5 * 11 * 3, 4 * 7 * (15 + 33 + 55)),
        (GEMM.replace("CONFIG", NUMBERS), 2 * 7 * 5 * 11 * 3, 4 * 7 * (15 + 33 + 55)),
        (GEMM.replace("CONFIG", json.dumps(NUMBERS)), 2 * 7 * 5 * 11 * 3, 4 * 7 * (15 + 33 + 55)),
        (GEMM.replace("CONFIG", "{mode = 65 : ui8}"), 2 * 7 * 5 * 11 * 3, 4 * 7 * (15 + 33 + 55)),
        (FMHA.replace("NAME", ""), 4 * 2 * 3 * 17 * 19 * 8, 2 * 2 * 3 * 8 * (17 + 19 + 19 + 17)),
        (FMHA.replace("NAME", "Backward"), 10 * 2 * 3 * 17 * 19 * 8, 2 * 2 * 3 * 8 * (17 + 19 + 19 + 17)),
        (
            "%x = c64[3,16]{1,0} parameter(0)\nROOT %f = c64[3,16]{1,0} fft(%x), fft_type=FFT, fft_length={16}",
            5 * 3 * 16 * 4, 2 * 8 * 48,
        ),
    ],
)  # fmt: skip
def test_calls_of_libraries(lines, flops, moved):
    cost = _cost(_module(lines))
    assert (cost.flops, cost.bytes, cost.counted) == (flops, moved, True)


@pytest.mark.parametrize(
    ("lines", "moved", "sent"),
    [
        ("%x = f32[30]{0} parameter(0)\n%s = (f32[30]{0}, f32[90]{0}) all-gather-start(%x), replica_groups=[1,3]<=[3]\n"
         "ROOT %d = f32[90]{0} all-gather-done(%s)", 4 * 120, 4 * 60),
        ("%x = f32[30]{0} parameter(0)\nROOT %d = f32[30]{0} all-reduce(%x), replica_groups={{0,1,2}}, to_apply=%sum",
         4 * 60, 4 * 40),
        ("%x = f32[30]{0} parameter(0)\nROOT %d = f32[30]{0} all-to-all(%x), replica_groups=mesh['a'=3,'b'=5] {'a'}",
         4 * 60, 4 * 20),
        ("%x = f32[30]{0} parameter(0)\n%s = (f32[30]{0:S(5)}, f32[30]{0}, u32[]) copy-start(%x)\n"
         "ROOT %d = f32[30]{0:S(5)} copy-done(%s)", 4 * 60, 0),
        ("%x = f32[30]{0} parameter(0)\n%s = ((f32[30]{0}), f32[10]{0}, s32[]) slice-start(%x), slice={[0:10]}\n"
         "ROOT %d = f32[10]{0} slice-done(%s)", 4 * 20, 0),
        ("%x = f32[30]{0} parameter(0)\nROOT %d = f32[10]{0} reduce-scatter(%x), dimensions={0}, to_apply=%sum",
         4 * 40, 4 * 20),
    ],
)  # fmt: skip
def test_what_devices_send_and_what_is_begun_counts_once(lines, moved, sent):
    cost = _cost(_module(lines, header="HloModule m, is_scheduled=true, num_partitions=3"))
    assert (cost.bytes, cost.bytes_sent) == (moved, sent)


def test_what_has_no_formula_is_uncounted():
    cost = _cost(_module("%x = f32[5]{0} parameter(0)\nROOT %y = f32[5]{0} brand-new(%x)"))
    assert (cost.flops, cost.counted) == (0, False)
    sort = _cost(
        _module("%x = f32[3,8]{1,0} parameter(0)\nROOT %y = f32[3,8]{1,0} sort(%x), dimensions={1}, to_apply=%sum")
    )
    assert (sort.flops, sort.comparisons, sort.counted) == (0, 3 * 8 * 3, True)


LOOP = """HloModule m, is_scheduled=true

%cond (p: (s32[], f32[100,64])) -> pred[] {
  %p = (s32[], f32[100,64]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] constant(13)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%body (p: (s32[], f32[100,64])) -> (s32[], f32[100,64]) {
  %p = (s32[], f32[100,64]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %one = s32[] constant(STEP)
  %j = s32[] add(%i, %one)
  %v = f32[100,64] get-tuple-element(%p), index=1
  %t = f32[1,64] constant({...})
  %z = s32[] constant(0)
  %u = f32[100,64] dynamic-update-slice(%v, %t, %i, %z)
  ROOT %r = (s32[], f32[100,64]) tuple(%j, %u)
}

ENTRY %main () -> (s32[], f32[100,64]) {
  %zero = s32[] constant(0)
  %f = f32[] constant(0)
  %init = f32[100,64] broadcast(%f), dimensions={}
  %s = (s32[], f32[100,64]) tuple(%zero, %init)
  ROOT %w = (s32[], f32[100,64]) while(%s), condition=%cond, body=%body
}
"""


@pytest.mark.parametrize(("step", "runs"), [("1", 13), ("2", 7), ("-1", None)])
def test_trips_of_a_condition_and_updates_in_place(step, runs):
    module = parser.parse(LOOP.replace("STEP", step))
    kernels = {kernel.name: kernel for kernel in find_kernels(module, MetadataOrigins(module))}
    assert kernels["u"].runs == runs
    memory = estimate(module)
    assert 4 * 6400 <= memory.peak_bytes < 4 * 6400 + 64  # once, not twice
    assert memory.largest[0].name == "init"
    assert all(0 <= life.begin < life.end <= len(memory.schedule) + 1 for life in memory.lives)


BRANCHES = """HloModule m, is_scheduled=true

%small (x: f32[8,8]) -> f32[8,8] {
  %x.1 = f32[8,8] parameter(0)
  ROOT %neg = f32[8,8] negate(%x.1)
}

%large (x: f32[8,8]) -> f32[8,8] {
  %x.2 = f32[8,8] parameter(0)
  ROOT %dot = f32[8,8] dot(%x.2, %x.2), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (p: pred[], x: f32[8,8]) -> f32[8,8] {
  %p = pred[] parameter(0)
  %x = f32[8,8] parameter(1)
  ROOT %c = f32[8,8] conditional(%p, %x, %x), true_computation=%small, false_computation=%large
}
"""


def test_of_a_condition_one_branch_counts():
    module = parser.parse(BRANCHES)
    origins = MetadataOrigins(module)
    runs = {kernel.name: (kernel.runs, str(kernel.branch)) for kernel in find_kernels(module, origins)}
    assert runs == {
        "neg": (0, "branch 1 of 2 of c, not counted"), "dot": (1, "branch 2 of 2 of c, the dearest, counted")
    }  # fmt: skip
    seen = {kernel.name: kernel.runs for kernel in find_kernels(module, origins, {"neg": 3})}
    assert seen == {"neg": 3, "dot": 0}
    assert dataflow(module) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("jit(f)/transpose(jvp(Net))/up/...hqk,...khd->...qhd/transpose", ("Net/up", "transpose", "backward", False)),
        ("jit(f)/jvp(Net)/while/body/closed_call/layers.<lambda>/layers/mul", ("Net/layers", "mul", "forward", False)),
        ("jit(f)/transpose(jvp(N))/checkpoint/rematted_computation/l/tanh", ("N/l", "tanh", "backward", True)),
        ("jit(f)/jit(main)/dot_general[precision=(a/b)]", ("", "dot_general", "", False)),
        ("jit(f)/jvp(vmap(Net))/drop_0/jit(_uniform)/Drop.__call__/add", ("Net/drop_0/Drop", "add", "forward", False)),
        ("jit(f)/vmap(jit(solve))/cond/branch_1_fun/gather", ("", "gather", "", False)),
    ],
)
def test_names_of_jax(name, expected):
    (found,) = op_names.split(name)
    assert (found.layer, found.operation, found.phase, found.again) == expected


def test_merged_names_and_names_of_tensorflow():
    found = op_names.split("jit(f)/(jvp()/sum:transpose(jvp())/dot);jit(f)/adam/mul")
    assert [(x.layer, x.operation, x.phase) for x in found] == [
        ("", "sum", "forward"), ("", "dot", "backward"), ("adam", "mul", "")
    ]  # fmt: skip
    (gradient,) = op_names.split("gradient_tape/model/dense/MatMul/MatMul_1", "MatMul")
    assert (gradient.layer, gradient.phase) == ("model/dense", "backward")
