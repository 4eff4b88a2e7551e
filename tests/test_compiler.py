"""What `inspect_step` says of compiled steps: where kernels come from, what disappeared, memory."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from loops.steps import Metrics, make_train_step
from tests.support.attribution import assigned_memory, shares
from tests.support.build import build
from tests.support.planted import KEY, Planted, jit, line_of
from tfcore.inspect.graph.origins import GraphOrigins
from tfcore.inspect.graph.tracing import trace_report
from tfcore.inspect.hlo import buffers
from tfcore.inspect.hlo import parser as hlo
from tfcore.inspect.hlo.stages import compare_stages
from tfcore.inspect.profile.compiler import StepReport, inspect_step
from tfcore.layers.dense import Dense
from tfcore.models.inn import Inn
from tfcore.models.timeseries import TimeSeriesTransformer
from tfcore.models.vit import VisionTransformer
from tfcore.module import Module
from tfcore.ops.attention_dropout import BLOCK
from tfcore.optimizers.config import AdamConfig, AdamWConfig
from tfcore.optimizers.optimizer import Adam, make_optimizer

ADAM = AdamConfig()


def _step(model: Module, config: AdamConfig = ADAM, **settings):
    optimizer = make_optimizer(model.named_trainable_variables(), config)
    return make_train_step(model, optimizer, Metrics(), key=KEY, **{"xla": True, **settings})


def _images(batch: int, size: int) -> tuple[tf.Tensor, ...]:
    values = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    return tf.constant(values), tf.zeros([batch], tf.int64), tf.constant(0, tf.int64)


def _tiny_vit(**settings) -> VisionTransformer:
    sizes = {
        "image_size": 12,
        "patch_size": 6,
        "width": 5,
        "blocks": 2,
        "heads": 2,
        "mlp_width": 7,
        "head_units": (11, 13),
    }
    return build(VisionTransformer, key=KEY, classes=3, **(sizes | settings))


@pytest.fixture(scope="module")
def planted() -> StepReport:
    model = Planted()
    optimizer = build(Adam, model.named_trainable_variables())

    @jit
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x))
        variables = model.named_trainable_variables()
        optimizer.apply(dict(zip(variables, tape.gradient(loss, list(variables.values())), strict=True)))
        return loss

    return inspect_step(step, tf.ones([5, 7]))


def test_a_planted_layer_is_found_at_its_line(planted):
    sine = [item for item in planted.kernels if any(op.startswith("sine ") for op in item.fused_ops)]
    assert [(item.layer, item.source, item.phase, item.transcendentals) for item in sine] == [
        ("planted", line_of(Planted, "# planted"), "forward", 5 * 7)
    ]
    products = {(item.layer, item.source.split(":")[0], item.phase) for item in planted.kernels if item.opcode == "dot"}
    assert products == {("parts/0", "tfcore/ops/linear.py", phase) for phase in ("forward", "backward")}
    assert str(sine[0]).startswith(f"{sine[0].name}: {sine[0].source}, planted, ")


def test_gradients_have_their_forward_lines(planted):
    cosine = [item for item in planted.kernels if any(op.startswith("cosine ") for op in item.fused_ops)]
    assert {(item.source, item.phase) for item in cosine} == {(line_of(Planted, "# planted"), "backward")}


def test_updates_belong_to_the_layer_of_their_variable(planted):
    updates = [item for item in planted.kernels if item.phase == "update" and "f32[7,7]" in item.shape]
    assert updates
    assert {item.layer for item in updates} == {"parts/0"}
    assert {item.source.split(":")[0] for item in updates} <= {
        "tfcore/optimizers/updates.py",
        "tfcore/optimizers/optimizer.py",
    }
    assert "planted" in {item.layer for item in planted.kernels if item.phase == "update" and "f32[7]" in item.shape}


def test_totals_are_the_kernels_sum(planted):
    for field in ("flops", "transcendentals", "integer_ops", "bytes_read", "bytes_written"):
        assert getattr(planted.totals, field) == sum(getattr(item, field) for item in planted.kernels)
    assert sum(planted.by_layer("flops").values()) == planted.totals.flops
    dots = [item.flops for item in planted.kernels if item.opcode == "dot"]
    assert dots == [2 * 5 * 7 * 7] * 5  # two forward; two for the kernel and one for the input backward
    best = planted.top("flops", 3)
    assert [item.flops for item in best] == sorted((item.flops for item in planted.kernels), reverse=True)[:3]
    assert planted.compile_seconds > 0
    assert planted.kernels[0].name in planted.optimized.entry.instructions


def test_why_a_kernel_stands_alone(planted):
    assert {item.why_alone for item in planted.kernels if item.opcode == "dot"} == {"library call (dot)"}
    reasons = {item.why_alone for item in planted.kernels if item.phase == "update" and "f32[7,7]" in item.shape}
    assert "its result leaves the computation" in reasons


@pytest.fixture(scope="module")
def inn() -> StepReport:
    step = _step(build(Inn, key=KEY, image_size=8, classes=3, units=5, formulation="shifted"))
    report = inspect_step(step, *_images(13, 8))
    return dataclasses.replace(report, memory=assigned_memory(step, *_images(13, 8)))


@pytest.fixture(scope="module")
def vit() -> StepReport:
    return inspect_step(_step(_tiny_vit(), AdamWConfig(weight_decay=1e-4)), *_images(5, 12))


@pytest.mark.parametrize("name", ["inn", "vit"])
def test_almost_everything_has_a_layer_and_a_line(name, request):
    report = request.getfixturevalue(name)
    found = shares(report)
    print(name, found)
    assert found["layer"] >= 0.95
    assert found["source"] >= 0.99
    assert found["not inferred"] >= 0.85
    assert {item.phase for item in report.kernels} == {"forward", "backward", "update", "other"}
    assert report.totals.counted


def test_loops_in_a_custom_gradient_have_their_layer():
    model = _tiny_vit(formulation="chunked", patch_size=1, blocks=1)
    assert model.tokens.patches.side**2 > BLOCK  # so that there is a loop
    origins = GraphOrigins(_step(model, AdamWConfig(weight_decay=1e-4)).get_concrete_function(*_images(2, 12)))
    products = {
        (origin.layer, origin.phase)
        for _, origin in origins.ops
        if "MatMul" in origin.op_type and origin.source.startswith("tfcore/ops/attention")
    }
    assert products == {("blocks/0/attention", "forward"), ("blocks/0/attention", "backward")}


def test_involution_gradients_have_their_layer_and_line():
    origins = GraphOrigins(
        _step(build(Inn, key=KEY, image_size=8, formulation="shifted")).get_concrete_function(*_images(2, 8))
    )
    found = {origin.layer for _, origin in origins.ops if origin.op_type == "StridedSliceGrad"}
    assert {f"involutions/{i}" for i in range(3)} <= found


def test_parts_that_no_gradient_reaches_are_updates_of_their_layer():
    model = build(TimeSeriesTransformer, key=KEY, length=11, blocks=1, key_dim=5, constant_branches="skip")
    step = _step(model)
    report = inspect_step(step, tf.ones([3, 11, 1]), tf.zeros([3], tf.int64), tf.constant(0, tf.int64))
    layers = {item.layer for item in report.kernels if item.phase == "update"}
    assert {"blocks/0/attention/query", "blocks/0/hidden", "head"} <= layers


def test_metrics_are_no_part_of_the_update(inn):
    lines = {item.source.split(":")[0].rpartition("/")[2] for item in inn.kernels if item.phase == "other"}
    assert lines <= {"steps.py", "losses.py"}
    assert lines


def test_recomputed_forward_work_is_told_apart():
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum((x + 3.0) ** 2 * x)
        return y, tape.gradient(y, x)

    report = inspect_step(jit(step), tf.ones([7, 11]))
    again = sum(item.flops_again for item in report.kernels)
    assert 0 < again <= report.totals.flops
    assert all(item.flops_again == 0 for item in report.kernels if item.phase != "backward")


def test_a_second_equal_computation_is_reported_gone():
    layer = Dense(inputs=7, units=11, key=KEY)

    class Doubled(Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def __call__(self, x):
            tf.tanh(x) @ tf.ones([7, 3])  # nobody reads it
            return tf.sin(self.layer(x)) * self.layer(x)

    stages = inspect_step(jit(Doubled()), tf.ones([5, 7])).before_after
    product = next(gone for gone in stages.gone if "dot" in gone.opcodes)
    assert (product.layer, product.flops, product.op_type) == ("layer", 2 * 5 * 7 * 11, "MatMul")
    assert product.reason == "same as doubled/layer/MatMul"
    assert stages.gone[0] == product  # the most work first
    assert stages.kernels["layer"] == 1
    assert stages.graph["layer"] > stages.optimized["layer"]
    assert stages.built["layer"] > stages.optimized["layer"]


DOT = "dot(%x, {}), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}".format


@pytest.mark.parametrize(
    ("lost", "kept", "gone"),
    [
        (f"f32[5,11]{{1,0}} {DOT('%w')}", f"f32[5,11]{{1,0}} {DOT('%w')}", False),
        (f"f32[5,11]{{1,0}} {DOT('%w')}", f"f32[5,13]{{1,0}} {DOT('%v')}", True),  # another product
        ("f32[770]{0} add(%z, %z)", f"f32[5,11]{{1,0}} {DOT('%w')}", True),  # as many FLOPs, but no product
    ],
)
def test_a_product_that_lost_its_name_only_is_not_gone(lost, kept, gone):
    module = """HloModule m

ENTRY %main (x: f32[5,7], w: f32[7,11], v: f32[7,13], z: f32[770]) -> f32[5,11] {{
  %x = f32[5,7]{{1,0}} parameter(0)
  %w = f32[7,11]{{1,0}} parameter(1)
  %v = f32[7,13]{{1,0}} parameter(2)
  %z = f32[770]{{0}} parameter(3)
  ROOT %r = {}
}}
"""
    built = hlo.parse(module.format(f'{lost}, metadata={{op_type="Op" op_name="f/a/Op"}}'))
    optimized = hlo.parse(module.format(kept))
    origins = GraphOrigins(tf.function(lambda x: x).get_concrete_function(1.0))
    found = compare_stages((built, origins), (optimized, origins), kernels={}, graph={}).gone
    assert [item.op_name for item in found] == ["f/a/Op"] * gone


def test_memory_is_that_of_the_schedule():
    # 100 bytes at a time: y lives until z is made, both at once besides the argument.
    text = """HloModule m, is_scheduled=true

ENTRY %main (x: f32[25]) -> f32[25] {
  %x = f32[25]{0} parameter(0)
  %y = f32[50]{0} concatenate(%x, %x), dimensions={0}
  %z = f32[75]{0} concatenate(%y, %x), dimensions={0}
  %s = f32[75]{0} reverse(%z), dimensions={0}
  ROOT %r = f32[25]{0} slice(%s), slice={[0:25]}
}
"""
    memory = buffers.estimate(hlo.parse(text))
    assert (memory.method, memory.argument_bytes, memory.peak_bytes) == ("estimate", 100, 100 + 300 + 300)
    assert {(buffer.name, buffer.bytes) for buffer in memory.largest} == {("z", 300), ("s", 300)}
    with pytest.raises(ValueError, match="order in which"):
        buffers.estimate(hlo.parse(text.replace(", is_scheduled=true", "")))


def test_memory_of_xla_and_the_estimate_agree(inn):
    estimate = buffers.estimate(inn.optimized)
    assert inn.memory.method == "assignment"
    assert 0.8 < estimate.peak_bytes / inn.memory.peak_bytes < 1.25
    assert {buffer.name for buffer in inn.memory.largest[:2]} & {buffer.name for buffer in estimate.largest}


def test_a_step_without_jit_is_compiled_and_traced_once():
    model = build(TimeSeriesTransformer, key=KEY, length=11, blocks=1, constant_branches="skip")
    step = _step(model, xla=False)
    args = tf.ones([3, 11, 1]), tf.zeros([3], tf.int64), tf.constant(0, tf.int64)
    report = inspect_step(step, *args)
    step(*args)  # raises if this is another trace
    assert report.tracing.count == trace_report(step).count == 1
    assert shares(report)["source"] > 0.99
    assert {item.phase for item in report.kernels} == {"forward", "backward", "update", "other"}


def test_what_is_no_tf_function_is_refused():
    with pytest.raises(TypeError, match=r"takes a tf.function, got .*lambda"):
        inspect_step(lambda x: x, tf.ones([2]))


def test_a_keras_train_step():
    model = keras.Sequential(
        [keras.layers.Input([8, 8, 3]), keras.layers.Conv2D(5, 3, activation="relu", name="first"),
         keras.layers.Flatten(), keras.layers.Dense(7, name="second")]
    )  # fmt: skip
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    step = jit(lambda x, y: model.train_step((x, y)))
    report = inspect_step(step, tf.ones([3, 8, 8, 3]), tf.zeros([3], tf.int64))
    # Keras numbers a scope that was opened before.
    flops = {layer.split("/")[-1].removesuffix("_1"): count for layer, count in report.by_layer("flops").items()}
    assert flops["second"] >= 3 * 2 * 3 * (6 * 6 * 5) * 7  # forward, and backward for input and kernel
    assert flops["first"] >= 2 * 2 * 3 * 36 * 9 * 3 * 5
    assert {"forward", "backward", "update"} <= {item.phase for item in report.kernels}
    assert all(item.source.startswith("tests/test_compiler.py:") for item in report.kernels if item.source)
    assert shares(report)["layer"] > 0.95


def test_keras_layers_bear_their_variables_names():
    layers = [keras.layers.Dense(units) for units in (11, 7, 3)]
    model = keras.Sequential([keras.layers.Input([5]), *layers])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    step = jit(lambda x, y: model.train_step((x, y)))
    origins = GraphOrigins(step.get_concrete_function(tf.ones([2, 5]), tf.zeros([2], tf.int64)))
    products = [origin for _, origin in origins.ops if origin.op_type == "MatMul"]
    # TensorFlow's scopes are counted on: dense, dense_1 ... would be dense_1, dense_1_2 ... when they are opened again.
    assert {origin.layer.split("/")[-1] for origin in products} == {layer.name for layer in layers}
    assert {origin.phase for origin in products} == {"forward", "backward"}


def test_arguments_by_keyword():
    weight = tf.Variable(tf.ones([7, 7]))

    @tf.function(jit_compile=True)
    def step(x, scale=None, training=False):
        return tf.reduce_sum(x @ weight) * scale if training else tf.reduce_sum(x)

    report = inspect_step(step, tf.ones([5, 7]), training=True, scale=tf.constant(2.0))
    assert sum(kernel.flops for kernel in report.kernels if kernel.opcode == "dot") == 2 * 5 * 7 * 7
