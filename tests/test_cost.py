"""Costs of kernels against counts by hand, at prime sizes."""

import itertools
import math
from pathlib import Path

import pytest
import tensorflow as tf

from tfcore import random
from tfcore.inspect.hlo import parser as hlo
from tfcore.inspect.hlo.cost import Cost, kernel_cost
from tfcore.inspect.hlo.trips import trip_count
from tfcore.inspect.profile.compiler import StepReport, inspect_step
from tfcore.layers.attention import MultiHeadAttention
from tfcore.layers.conv import Conv2D
from tfcore.layers.dense import Dense
from tfcore.ops.attention import attend
from tfcore.ops.involution import involve

KEY = random.make_key(0)


def _inspect(function, *args) -> StepReport:
    return inspect_step(tf.function(function, jit_compile=True, autograph=False), *args)


def _gradients(function, *args):
    def run(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            result = function(*inputs)
        return tape.gradient(result, [*inputs, *tape.watched_variables()], output_gradients=2 * tf.ones_like(result))

    return run


def _flops(report: StepReport, *opcodes: str) -> int:
    return sum(kernel.flops for kernel in report.kernels if kernel.opcode in opcodes)


def test_dense():
    layer = Dense(inputs=7, units=11, key=KEY)
    totals = _inspect(layer, tf.ones([5, 7])).totals
    assert totals.flops == 2 * 5 * 7 * 11 + 5 * 11  # and the bias
    assert (totals.transcendentals, totals.integer_ops, totals.counted) == (0, 0, True)
    # The product reads x and kernel and writes y; the bias's addition reads y and bias and writes y.
    assert totals.bytes_read == 4 * (5 * 7 + 7 * 11 + 5 * 11 + 11)
    assert totals.bytes_written == 4 * (5 * 11 + 5 * 11)


def test_dense_backward():
    layer = Dense(inputs=7, units=11, key=KEY)
    report = _inspect(_gradients(layer, tf.ones([5, 7])), tf.ones([5, 7]))
    # ∂x = ∂y Wᵀ and ∂W = xᵀ ∂y; y itself is not asked for. The bias's gradient sums ∂y over the batch.
    assert _flops(report, "dot") == 2 * (2 * 5 * 7 * 11)
    assert report.totals.flops - _flops(report, "dot") <= 5 * 11 + (5 - 1) * 11  # what is constant may be folded


def _multiply_adds(size, kernel, stride, padding, dilation, channels, filters):
    """Pairs of an output and a tap that meets an input pixel, one by one, times channels times filters."""
    count = 0
    for axis in range(2):
        span = (kernel[axis] - 1) * dilation + 1
        if padding == "SAME":
            outs = -(-size[axis] // stride)
            before = max((outs - 1) * stride + span - size[axis], 0) // 2
        else:
            outs, before = (size[axis] - span) // stride + 1, 0
        pairs = itertools.product(range(outs), range(kernel[axis]))
        met = sum(1 for out, tap in pairs if 0 <= out * stride + tap * dilation - before < size[axis])
        count = met if axis == 0 else count * met
    return count * channels * filters


@pytest.mark.parametrize(
    ("stride", "padding", "dilation"),
    [(1, "SAME", 1), (1, "VALID", 1), (2, "SAME", 1), (2, "VALID", 1), (1, "SAME", 2)],
)
def test_convolution_forward_and_backward(stride, padding, dilation):
    x, w = tf.ones([2, 11, 13, 3]), tf.Variable(tf.ones([3, 5, 3, 7]))

    def convolve(x):
        return tf.nn.conv2d(x, w, stride, padding, dilations=dilation)

    once = 2 * 2 * _multiply_adds((11, 13), (3, 5), stride, padding, dilation, 3, 7)
    report = _inspect(convolve, x)
    assert report.totals.flops == once
    assert report.totals.bytes_read >= 4 * (2 * 11 * 13 * 3 + 3 * 5 * 3 * 7)
    # Both gradients pair the same pixels, taps and outputs.
    assert _flops(_inspect(_gradients(convolve, x), x), "convolution", "dot") == 2 * once


def test_padding_is_not_counted():
    same = _inspect(lambda x: tf.nn.conv2d(x, tf.ones([3, 3, 3, 7]), 1, "SAME"), tf.ones([1, 5, 5, 3])).totals
    assert same.flops == 2 * (5 * 3 - 2) ** 2 * 3 * 7  # not 5 · 5 · 9: an edge's outputs miss a row of taps


def test_convolution_in_groups():
    x = tf.ones([2, 11, 13, 6])
    report = _inspect(lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), x, tf.ones([3, 3, 2, 9]))
    assert _flops(report, "convolution") == 2 * 2 * (11 * 3 - 2) * (13 * 3 - 2) * 2 * 9  # 2 channels a group


def test_attention():
    b, n, t, s, d, e = 2, 3, 5, 7, 11, 13
    query, key, value = tf.ones([b, n, t, d]), tf.ones([b, n, s, d]), tf.ones([b, n, s, e])
    totals = _inspect(lambda *args: attend(*args, scale=0.5), query, key, value).totals
    # Scale; scores; softmax: maximum, subtract, sum, divide; the mean of the values.
    softmax = b * n * t * ((s - 1) + s + (s - 1) + s)
    assert totals.flops == b * n * t * d + 2 * b * n * t * s * d + softmax + 2 * b * n * t * s * e
    assert totals.transcendentals == b * n * t * s


def test_attention_layer_with_projections():
    layer = MultiHeadAttention(width=7, heads=3, key_dim=11, formulation="direct", key=KEY)
    report = _inspect(layer, tf.ones([2, 5, 7]))
    assert _flops(report, "dot") == 2 * 2 * 5 * (4 * 7 * 3 * 11) + 2 * 2 * 2 * 3 * 5 * 5 * 11


@pytest.mark.parametrize("formulation", ["patches", "shifted"])
def test_involution(formulation):
    x, kernel = tf.random.normal([2, 5, 7, 3]), tf.random.normal([2, 5, 7, 9, 1])

    def involution(x, kernel):
        return involve(x, kernel, kernel_size=3, formulation=formulation)

    totals = _inspect(involution, x, kernel).totals
    # Nine products, summed up: from nothing (9 additions) or from the first (8).
    outputs = 2 * 5 * 7 * 3
    assert totals.flops in (outputs * (9 + 8), outputs * (9 + 9))


def test_transcendentals_are_counted_apart():
    x = tf.constant([[0.5, 2.0, 3.0], [5.0, 7.0, 11.0]])
    totals = _inspect(lambda x: tf.exp(x) + tf.math.log(x) * tf.sqrt(x), x).totals
    assert (totals.flops, totals.transcendentals) == (2 * 6, 3 * 6)
    assert totals.bytes == 2 * 4 * 6  # one fusion: in and out


def test_integers_are_counted_apart():
    totals = _inspect(lambda x: tf.bitwise.bitwise_xor(x, 3) * 5, tf.ones([7, 11], tf.int32)).totals
    assert (totals.flops, totals.integer_ops) == (0, 2 * 77)


def test_reductions_combine_one_less_than_they_read():
    assert _inspect(lambda x: tf.reduce_sum(x, 1), tf.ones([5, 7])).totals.flops == 5 * (7 - 1)
    assert (
        _inspect(lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"), tf.ones([3, 10, 14, 5])).totals.flops
        == 3 * 5 * 7 * 5 * 3
    )


def test_only_what_is_gathered_is_read():
    table, places = tf.ones([1009, 7]), tf.constant([3, 5, 2])
    totals = _inspect(tf.gather, table, places).totals
    assert totals.bytes_read <= 4 * (3 * 7 + 3) + 16
    assert totals.bytes_written == 4 * 3 * 7
    sliced = _inspect(lambda x: x[11:13] * 2.0, table).totals
    assert (sliced.bytes_read, sliced.bytes_written) == (4 * 2 * 7, 4 * 2 * 7)


def test_loops_count_each_run():
    def run(x):
        return tf.while_loop(lambda i, y: i < 13, lambda i, y: (i + 1, tf.matmul(y, y) * 0.5), (0, x))[1]

    report = _inspect(run, tf.ones([5, 5]))
    assert report.totals.flops == 13 * (2 * 5**3 + 5 * 5)
    assert {kernel.runs for kernel in report.kernels if kernel.flops} == {13}

    def until(x):
        return tf.while_loop(lambda y: tf.reduce_sum(y) < 1e6, lambda y: (tf.matmul(y, y),), (x,))[0]

    report = _inspect(until, tf.ones([5, 5]))
    assert _flops(report, "dot") == 2 * 5**3  # how often is not known: counted once, and said
    assert {kernel.runs for kernel in report.kernels if kernel.opcode == "dot"} == {None}


# Lines of library calls as XLA prints them for GPUs and for oneDNN, cut to what is read here.
LIBRARY = """HloModule m

ENTRY %main (a: f32[3,5,7]) -> f32[] {{
  %a = {} parameter(0)
  %b = {} parameter(1)
  %c = {} custom-call(%a, %b), custom_call_target="{}"{}
  ROOT %z = f32[] constant(0)
}}
"""


@pytest.mark.parametrize(
    ("a", "b", "c", "target", "rest", "flops"),
    [
        ("f32[5,7]", "f32[7,11]", "(f32[5,11], s8[64])", "__cublas$gemm", "", 2 * 5 * 7 * 11),
        ("f32[7,5]", "f32[11,7]", "f32[5,11]", "__onednn$matmul", "", 2 * 5 * 7 * 11),
        ("f32[2,3,5,7]", "f32[2,3,7,11]", "f32[2,3,5,11]", "__cublas$lt$matmul", "", 2 * 2 * 3 * 5 * 7 * 11),
        (
            "f32[2,11,13,3]",
            "f32[3,3,3,7]",
            "(f32[2,11,13,7], u8[0])",
            "__cudnn$convForward",
            ", window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f",
            2 * 2 * 31 * 37 * 3 * 7,
        ),
        (
            "f32[2,11,13,7]",
            "f32[3,3,3,7]",
            "(f32[2,11,13,3], u8[0])",
            "__cudnn$convBackwardInput",
            ", window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f",
            2 * 2 * 31 * 37 * 3 * 7,
        ),
        (
            "f32[2,11,13,3]",
            "f32[2,11,13,7]",
            "(f32[3,3,3,7], u8[0])",
            "__cudnn$convBackwardFilter",
            ", window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f",
            2 * 2 * 31 * 37 * 3 * 7,
        ),
    ],
)
def test_library_calls(a, b, c, target, rest, flops):
    module = hlo.parse(LIBRARY.format(a, b, c, target, rest))
    call = module.entry.instructions["c"]
    cost = kernel_cost(call, module.entry, module)
    assert (cost.flops, cost.counted) == (flops, True)
    assert cost.bytes_written == (call.shape.parts or (call.shape,))[0].bytes  # the workspace is no traffic


def test_a_library_call_without_a_formula_says_so():
    module = hlo.parse(LIBRARY.format("f32[5]", "f32[5]", "f32[5]", "TopK", ""))
    assert kernel_cost(module.entry.instructions["c"], module.entry, module) == Cost(0, 0, 0, 40, 20, counted=False)
    assert not (Cost(1) + Cost(counted=False)).counted


def test_older_texts_have_the_same_products():
    # TensorFlow 2.18 writes max-pool's gradient as a loop, 2.21 as a scatter; dots and convolutions are alike.
    expected = 2 * (2 * 5 * 7 * 3) + 2 * (2 * 2 * (8 * 3 - 2) * (10 * 3 - 2) * 3 * 5)
    for version in ("2.18", "2.21"):
        module = hlo.parse((Path(__file__).parent / f"hlo/optimized_tensorflow_{version}.txt").read_text())
        costs = [
            kernel_cost(item, module.entry, module)
            for item in module.entry.instructions.values()
            if item.opcode in ("dot", "convolution")
        ]
        assert sum(cost.flops for cost in costs) == expected
        loops = [item for item in module.entry.instructions.values() if item.opcode == "while"]
        assert [trip_count(loop, module.entry, module) for loop in loops] in ([], [None], [math.prod((2, 4, 5, 5))])


def test_layers_of_the_house():
    layer = Conv2D(channels=3, filters=7, kernel_size=3, key=KEY)
    totals = _inspect(layer, tf.ones([2, 11, 13, 3])).totals
    assert totals.flops == 2 * 2 * 31 * 37 * 3 * 7 + 2 * 11 * 13 * 7
