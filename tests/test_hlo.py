"""The HLO parser on dumps of two TensorFlow versions and on lines written for it.

The dumps in tests/hlo were made by `experimental_get_compiler_ir` of one function under TensorFlow 2.18 and 2.21: a
dense layer with softmax, a convolution with exp and max-pool, and the gradients for both kernels; paths cut out.
"""

from pathlib import Path

import pytest

from tfcore.inspect.hlo import parser as hlo
from tfcore.inspect.hlo.shapes import Shape, parse_shape

DUMPS = Path(__file__).parent / "hlo"
MINIMAL = """HloModule m, is_scheduled=true

ENTRY %main (a: f32[5,7]) -> f32[5,7] {{
  %a = f32[5,7]{{1,0}} parameter(0)
  {}
  ROOT %b = f32[5,7]{{1,0}} negate(%a)
}}
"""


def _dump(name: str) -> hlo.HloModule:
    return hlo.parse((DUMPS / f"{name}.txt").read_text())


def _line(text: str) -> hlo.Instruction:
    return list(hlo.parse(MINIMAL.format(text)).entry.instructions.values())[1]


@pytest.mark.parametrize(
    ("name", "computations", "instructions", "root", "scheduled"),
    [
        ("built_tensorflow_2.18", 10, 103, "tuple.112", False),
        ("built_tensorflow_2.21", 10, 103, "XLA_Retvals.7", False),
        ("optimized_tensorflow_2.18", 26, 243, "tuple.4", True),
        ("optimized_tensorflow_2.21", 30, 160, "tuple.1", True),
    ],
)
def test_dumps_are_read_whole(name, computations, instructions, root, scheduled):
    text = (DUMPS / f"{name}.txt").read_text()
    module = hlo.parse(text)
    assert len(module.computations) == computations
    assert sum(len(part.instructions) for part in module.computations.values()) == instructions == text.count(" = ")
    assert (module.entry.root, module.is_scheduled) == (root, scheduled)
    arguments = [str(item.shape).split("{")[0] for item in module.entry.parameters.values()]
    assert arguments == ["f32[5,7]", "f32[7,3]", "f32[3,3,3,5]", "f32[2,8,10,3]"]
    for part in module.computations.values():
        assert part.root in part.instructions
        assert all(operand in part.instructions for item in part.instructions.values() for operand in item.operands)
        assert all(call in module.computations for item in part.instructions.values() for call in item.calls)
    products = [item for item in module.entry.instructions.values() if item.opcode == "dot"]
    assert [item.metadata.op_name for item in products] == [
        "blocks/3/dense/MatMul",
        "gradient_tape/blocks/3/dense/MatMul/MatMul",
    ]
    assert [item.numbers("lhs_contracting_dims") for item in products] == [(1,), (0,)]


def test_every_part_of_a_line():
    module = _dump("optimized_tensorflow_2.21")
    convolution = module.entry.instructions["Conv2D.1"]
    assert convolution.operands == ("arg3.1", "arg2.1")
    assert convolution.attributes["dim_labels"] == "b01f_01io->b01f"
    window = convolution.window
    assert (window.size, window.pad) == ((3, 3), ((1, 1), (1, 1)))
    assert window.stride == window.lhs_dilate == window.rhs_dilate == (1, 1)
    assert convolution.shape == Shape("f32", (2, 8, 10, 5), "{3,2,1,0}")
    assert (convolution.metadata.op_type, convolution.metadata.op_name) == ("Conv2D", "conv/Conv2D")
    pool = module.entry.instructions["wrapped_reduce-window.1"]
    assert pool.calls == ("wrapped_reduce-window_computation.1",)
    assert len(pool.operands) == 7  # with the comment /*index=5*/ between them
    assert [part.dtype for part in pool.shape.parts] == ["f32", "s32", "s32", "s32", "s32"]
    assert pool.shape.bytes == 5 * 4 * 2 * 4 * 5 * 5
    assert module.entry.users["Conv2D.1"] == ["wrapped_reduce-window", "wrapped_reduce-window.1"]
    assert module.entry.instructions["MaxPool2d.2"].payload == "-inf"


def test_windows_with_everything():
    line = _line(
        "%c = f32[5,7]{1,0} convolution(%a, %a), "
        "window={size=3x5 stride=2x1 pad=0_1x-1_2 lhs_dilate=1x3 rhs_dilate=2x1}, dim_labels=b0_1io->b01f"
    )
    assert line.window.size == (3, 5)
    assert line.window.stride == (2, 1)
    assert line.window.pad == ((0, 1), (-1, 2))
    assert (line.window.lhs_dilate, line.window.rhs_dilate) == ((1, 3), (2, 1))


def test_operands_may_bear_their_shapes_and_no_signs():
    text = MINIMAL.format("c = f32[5,7]{1,0} add(f32[5,7]{1,0} a, f32[5,7]{1,0} %a)")
    assert hlo.parse(text).entry.instructions["c"].operands == ("a", "a")


def test_what_is_not_known_is_kept():
    line = _line('%c = f32[5,7]{1,0:T(8,128)} brand-new(%a), mode={x=1,y={2}}, note="a, \\"b) c", to_apply=%main')
    assert line.opcode == "brand-new"
    assert line.attributes["mode"] == "{x=1,y={2}}"
    assert line.attributes["note"] == '"a, \\"b) c"'
    assert line.calls == ("main",)
    assert line.shape.layout == "{1,0:T(8,128)}"


def test_a_constant_over_several_lines():
    line = _line('%c = s32[2,3]{1,0} constant({\n    { 1, 2, 3 },\n    { 4, 5, 6 }\n  }), metadata={op_name="k"}')
    assert line.payload.replace(" ", "") == "{{1,2,3},{4,5,6}}"
    assert line.metadata.op_name == "k"


def test_lines_and_stack_frames():
    line = _line('%c = f32[] constant(1), metadata={op_name="x" source_file="a b.py" source_line=88}')
    assert (line.metadata.source_file, line.metadata.source_line) == ("a b.py", 88)
    tables = """
FileNames
1 "model.py"

FunctionNames
1 "call"

FileLocations
1 {file_name_id=1 function_name_id=1 line=41 end_line=41 column=3 end_column=9}

StackFrames
1 {file_location_id=1 parent_frame_id=1}

ENTRY"""
    text = MINIMAL.format('%c = f32[] constant(1), metadata={op_name="x" stack_frame_id=1}').replace("\nENTRY", tables)
    metadata = hlo.parse(text).entry.instructions["c"].metadata
    assert (metadata.source_file, metadata.source_line) == ("model.py", 41)


@pytest.mark.parametrize(
    "line",
    ["%c = f32[5,7]{1,0} add(%a, %a", "%c = add(%a)", "%c := f32[] negate(%a)", "what is this?", "%c = f32[5] %a"],
)
def test_a_line_that_is_no_hlo_is_named(line):
    with pytest.raises(ValueError, match="line 5 is not HLO") as error:
        hlo.parse(MINIMAL.format(line))
    assert line in str(error.value)


def test_a_text_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("HloModule m\n")


def test_sizes_of_shapes():
    assert parse_shape("bf16[3,5]{1,0}")[0].bytes == 30
    assert parse_shape("u4[3]{0:E(4)}")[0].bytes == 2
    assert parse_shape("u4[3]")[0].bytes == 3  # without E(4), each in a byte
    assert parse_shape("pred[7]")[0].bytes == 7
    assert parse_shape("c64[]")[0].bytes == 8
    assert parse_shape("f8e4m3fn[11]")[0].bytes == 11
    assert parse_shape("s32[<=5,2]")[0].dims == (5, 2)
    nested = parse_shape("(f32[2]{0}, (s64[], token[]), /*index=2*/f64[3])".replace("/*index=2*/", ""))[0]
    assert (nested.bytes, nested.elements) == (8 + 8 + 24, 2 + 1 + 1 + 3)
    assert str(nested) == "(f32[2]{0}, (s64[], token[]), f64[3])"
