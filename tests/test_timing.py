"""Times of kernels: what the profiler recorded, joined by name, in real steps and in made-up profiles."""

import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from tests.support.planted import jit
from tfcore.inspect.graph.origins import GraphOrigins
from tfcore.inspect.profile.compiler import inspect_step
from tfcore.inspect.profile.timing import STEP, attribute, measure_kernels, measure_ops
from tfcore.inspect.profile.xplane import executable_events, marked, operation_events

TRIPS = 13


class Step:
    """A convolution, a small and a large product, a loop, gradients and an update."""

    def __init__(self):
        self.kernel = tf.Variable(tf.ones([3, 5, 2, 7]) / 100)
        self.small = tf.Variable(tf.ones([7, 11]) / 10)
        self.large = tf.Variable(tf.ones([11 * 17 * 7, 307]) / 1000)

    def __call__(self, x):
        with tf.GradientTape() as tape:
            y = tf.nn.relu(tf.nn.conv2d(x, self.kernel, 1, "SAME"))  # (19, 17, 11, 7)
            small = tf.reduce_mean(y, axis=[1, 2]) @ self.small  # (19, 11)
            large = tf.tanh(tf.reshape(y, [19, -1]) @ self.large)  # (19, 307)
            loss = tf.reduce_sum(small) + tf.reduce_sum(large**2)
        variables = [self.kernel, self.small, self.large]
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(1e-9 * gradient)
        return tf.while_loop(lambda i, z: i < TRIPS, lambda i, z: (i + 1, tf.sin(z)), (0, large), parallel_iterations=1)


@pytest.fixture(scope="module")
def measured():
    step, x = jit(Step()), tf.ones([19, 17, 11, 2])
    report = inspect_step(step, x)
    return report, measure_kernels(step, [x], report.kernels, steps=7)


def test_nearly_all_recorded_time_is_joined(measured):
    report, timing = measured
    assert set(timing.us) <= {kernel.name for kernel in report.kernels}
    missed = sum(us for _, us in timing.unattributed)
    assert timing.busy_us > 0.9 * (timing.busy_us + missed)
    with_work = [kernel for kernel in report.kernels if kernel.flops > 1000]
    assert len(with_work) > 5 and all(timing.us[kernel.name] > 0 for kernel in with_work)


def test_kernels_fit_into_their_step(measured):
    _, timing = measured
    # What holds in each step holds for the medians; sums of medians are another thing.
    assert 0 < timing.busy_us <= timing.profiled_us
    assert 0 <= timing.idle_us < timing.profiled_us
    assert all(0 <= us <= timing.busy_us for us in timing.us.values())
    assert timing.coverage == timing.busy_us / timing.profiled_us
    assert timing.step_us > 0 and timing.steps == 7 and timing.threads >= 1


def test_more_work_takes_more_time(measured):
    report, timing = measured
    products = sorted((kernel.flops, timing.us[kernel.name]) for kernel in report.kernels if kernel.opcode == "dot")
    assert products[-1][0] > 100 * products[0][0]
    assert products[-1][1] > products[0][1]


def test_a_loop_is_charged_to_its_body(measured):
    report, timing = measured
    inside = [kernel for kernel in report.kernels if kernel.runs == TRIPS]
    sines = [kernel for kernel in inside if kernel.transcendentals]
    assert sines and all(timing.us[kernel.name] > 0 for kernel in sines)
    assert not [name for name in timing.us if name.startswith("while")]
    assert any(name.startswith("while") for name, _ in timing.unattributed)


def test_a_function_that_is_not_compiled_is_compiled_for_it():
    step, x = tf.function(lambda x: tf.sin(x) @ tf.ones([23, 29])), tf.ones([31, 23])
    report = inspect_step(step, x)
    timing = measure_kernels(step, [x], report.kernels, steps=3)
    assert timing.us and set(timing.us) <= {kernel.name for kernel in report.kernels}


def test_operations_of_a_graph_are_timed():
    inner = Step()
    step, x = tf.function(lambda x: inner(x)[1], autograph=False), tf.ones([19, 17, 11, 2])
    timing = measure_ops(step, [x], steps=5)
    origins = GraphOrigins(step.get_concrete_function(x))
    found = {name: origins.find(name) for name in timing.us}
    lines = {origin.source.split(":")[0] for origin in found.values() if origin and origin.op_type in ("MatMul", "Sin")}
    assert lines == {"tests/test_timing.py"}
    known = sum(us for name, us in timing.us.items() if found[name])
    assert known > 0.8 * sum(timing.us.values())
    products = [us for name, us in timing.us.items() if found[name] and found[name].op_type == "MatMul"]
    assert len(products) >= 4 and max(products) > 2 * min(products)
    assert 0 < timing.busy_us <= timing.profiled_us


def test_what_was_not_recorded_is_an_error():
    step, x = jit(lambda x: tf.sin(x)), tf.ones([5, 7])
    with pytest.raises(ValueError, match=r"none of them with the name of one of 0 kernels: are the kernels those"):
        measure_kernels(step, [x], [], steps=2)
    with pytest.raises(ValueError, match="no operation was recorded: XLA compiles the function whole"):
        measure_ops(step, [x], steps=2)


def test_another_profiler_is_an_error(tmp_path):
    step, x = jit(lambda x: tf.sin(x)), tf.ones([5, 7])
    kernels = inspect_step(step, x).kernels
    tf.profiler.experimental.start(str(tmp_path))
    try:
        with pytest.raises(ValueError, match="another TensorFlow profiler is running: stop it first"):
            measure_kernels(step, [x], kernels, steps=2)
    finally:
        tf.profiler.experimental.stop()
    assert measure_kernels(step, [x], kernels, steps=2).us


def _space(planes: dict[str, dict[str, list[tuple]]]) -> XSpace:
    """A profile of {plane: {line: [(name, begin, microseconds, stats)]}}; texts of stats are kept as references."""
    space = XSpace()
    for plane_name, lines in planes.items():
        plane = space.planes.add(name=plane_name)
        numbers: dict[str, int] = {}

        def number(text: str, table, numbers=numbers) -> int:
            found = numbers.setdefault(text, len(numbers) + 1)
            table[found].id, table[found].name = found, text
            return found

        for place, (line_name, events) in enumerate(lines.items()):
            line = plane.lines.add(id=place, name=line_name, timestamp_ns=2000 * (place + 1))
            for name, begin, us, *stats in events:
                item = line.events.add(metadata_id=number(name, plane.event_metadata))
                item.offset_ps, item.duration_ps = int((begin - 2 * (place + 1)) * 1e6), int(us * 1e6)
                for key, value in stats[0].items() if stats else ():
                    stat = item.stats.add(metadata_id=number(key, plane.stat_metadata))
                    if isinstance(value, str):
                        stat.ref_value = number(value, plane.stat_metadata)
                    else:
                        stat.uint64_value = value
    return space


def _hlo(name: str, number: int = 0, module: str = "step") -> dict:
    return {"hlo_op": name, "hlo_module": module, "_p": number}


def _kernels(space: XSpace, names: set[str]):
    return attribute(marked(space, STEP), executable_events(space), names, step_us=90.0)


def test_threads_of_a_cpu():
    thread = [
        (STEP, 100, 100),
        ("fusion.1", 110, 10, _hlo("fusion.1", 1)),
        ("end: fusion.1", 120, 0, {"_c": 1}),
        ("dot.2", 120, 1, _hlo("dot.2", 2)),  # goes on in another thread until 150
        ("while.3", 150, 30, _hlo("while.3", 3)),
        ("sine.4", 152, 3, _hlo("sine.4", 4)),
        ("call.9", 160, 8, _hlo("call.9", 9)),  # in while.3
        ("sine.4", 160, 4, _hlo("sine.4", 5)),
        ("sine.4", 185, 5, _hlo("sine.4", 6, module="another")),
        ("sine.4", 250, 1000, _hlo("sine.4", 7)),  # in no step
    ]
    pool = [
        ("end: dot.2", 150, 0, {"_c": 2}),
        ("fusion.5", 130, 5, _hlo("fusion.5", 8)),
    ]
    third = [("unknown.6", 182, 2, _hlo("unknown.6"))]
    space = _space({"/host:CPU": {"python": thread, "pool": pool, "third": third}})
    timing = _kernels(space, {"fusion.1", "dot.2", "sine.4", "fusion.5", "absent.8"})
    assert timing.us == pytest.approx({"fusion.1": 10, "dot.2": 30, "sine.4": 7, "fusion.5": 5})
    assert timing.busy_us == pytest.approx(40 + 7)  # fusion.5 beside dot.2
    assert timing.unattributed == (
        ("while.3", pytest.approx(19)),
        ("another/sine.4", pytest.approx(5)),
        ("call.9", pytest.approx(4)),
        ("unknown.6", pytest.approx(2)),
    )
    assert timing.idle_us == pytest.approx(100 - 47 - 30)
    assert (timing.profiled_us, timing.step_us, timing.steps, timing.threads) == (pytest.approx(100), 90.0, 1, 2)
    assert timing.coverage == pytest.approx(0.47)


def test_what_lasts_longer_than_its_step_counts_to_the_end_of_it():
    events = [(STEP, 100, 50), ("fusion", 95, 15, _hlo("fusion", 1)), ("dot", 120, 40, _hlo("dot", 2))]
    timing = _kernels(_space({"/host:CPU": {"python": events}}), {"fusion", "dot"})
    assert timing.us == pytest.approx({"fusion": 10, "dot": 30})
    assert (timing.busy_us, timing.idle_us) == (pytest.approx(40), pytest.approx(10))


def test_times_are_medians_over_steps():
    events = []
    for begin, times in ((100, (5, 1)), (200, (9, 3)), (300, (40, 4)), (400, ()), (500, (6,))):
        events.append((STEP, begin, 50))
        events += [("fusion", begin + 5 + 20 * i, us, _hlo("fusion", begin + i)) for i, us in enumerate(times)]
    timing = _kernels(_space({"/host:CPU": {"python": events}}), {"fusion"})
    assert timing.us == pytest.approx({"fusion": 6})  # of 6, 12, 44, 0, 6
    assert timing.steps == 5


def test_streams_of_a_gpu():
    host = [(STEP, 100, 100), ("fusion.1", 101, 90, _hlo("fusion.1", 1)), ("end: fusion.1", 195, 0, {"_c": 1})]
    device = {
        "Stream #7(Kernel)": [
            ("fusion_1", 110, 20, _hlo("fusion.1")),
            ("ampere_sgemm_32x32", 130, 10, _hlo("gemm.2")),
            ("splitKreduce", 140, 5, _hlo("gemm.2")),
        ],
        "Stream #8(Kernel,MemcpyD2D)": [
            ("loop_fusion", 135, 4, _hlo("fusion.3")),
            ("MemcpyD2D", 160, 8, _hlo("copy.4")),
            ("MemcpyH2D", 170, 8, {"memcpy_details": "size:4"}),
        ],
        "XLA Ops": [("fusion.1", 110, 20, _hlo("fusion.1"))],
        "XLA Modules": [("step", 110, 60, _hlo("step"))],
    }
    space = _space({"/host:CPU": {"python": host}, "/device:GPU:0": device})
    timing = _kernels(space, {"fusion.1", "gemm.2", "fusion.3"})
    assert timing.us == pytest.approx({"fusion.1": 20, "gemm.2": 15, "fusion.3": 4})
    assert timing.unattributed == (("copy.4", pytest.approx(8)),)
    assert (timing.busy_us, timing.idle_us) == (pytest.approx(35), pytest.approx(57))
    assert timing.threads == 2


def test_operations_on_a_gpu_take_the_place_of_their_launch():
    host = [
        (STEP, 100, 100),
        ("dense/MatMul:MatMul", 101, 3),
        ("ids:Range", 105, 2),
        ("a::b", 106, 1),
        ("Run: x", 107, 1),
    ]
    device = {"Stream #7(Kernel)": [("ampere_sgemm", 120, 30, {"tf_op": "dense/MatMul:MatMul"}), ("Memset", 150, 1)]}
    events = operation_events(_space({"/host:CPU": {"pool": host}, "/device:GPU:0": device}))
    assert [(event.name, op_type, event.end - event.begin) for event, op_type in events] == [
        ("dense/MatMul", "MatMul", pytest.approx(30)),
        ("ids", "Range", pytest.approx(2)),
    ]


def test_loops_and_branches_count_as_the_profiler_saw_them():
    weight = tf.Variable(tf.ones([16, 16]))  # XLA runs a loop over less in one piece, which nobody sees inside

    @tf.function(jit_compile=True, autograph=False)
    def step(x):
        rows = tf.map_fn(lambda row: tf.linalg.matvec(weight, row), x)
        return tf.cond(tf.reduce_sum(x) > 0, lambda: rows @ weight, lambda: rows @ weight @ weight)

    x = tf.ones([512, 16])
    report = inspect_step(step, x)
    products = [kernel for kernel in report.kernels if kernel.opcode == "dot"]
    assert None in {kernel.runs for kernel in products}  # how often map_fn's loop runs is not known before
    counted = [kernel.branch.counted for kernel in products if kernel.branch]
    assert sorted(counted) == ["", "dearest", "dearest"]
    seen = report.recounted(measure_kernels(step, (x,), report.kernels, steps=2).runs)
    runs = sorted((kernel.flops, kernel.runs) for kernel in seen.kernels if kernel.opcode == "dot")
    assert runs == [(0, 0), (0, 0), (2 * 512 * 16 * 16, 1), (512 * 2 * 16 * 16, 512)]
    assert {kernel.branch.counted for kernel in seen.kernels if kernel.branch} == {"", "ran"}
