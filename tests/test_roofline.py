"""The roofline: measured ceilings are plausible, and hand-made kernels stand where the formula puts them."""

import dataclasses
import json
import math

import pytest
import tensorflow as tf

from tests.support.planted import jit
from tests.support.profiled import timing
from tfcore.inspect.hlo.kernels import Kernel
from tfcore.inspect.profile import roofline
from tfcore.inspect.profile.compiler import inspect_step
from tfcore.inspect.profile.roofline import Ceilings, Place, measure_ceilings, place
from tfcore.inspect.profile.step_profile import StepProfile, with_sound_ceilings
from tfcore.inspect.profile.timing import measure_kernels

# 100 GFLOP/s, 20 GB/s: they cross at 5 FLOPs a byte; bfloat16 at half the peak.
CEILINGS = Ceilings({"float32": 100e9, "bfloat16": 50e9}, 20e9, "by hand")


def _kernel(flops: int, read: int, written: int, *, runs: int | None = 1, operands=("f32[7]{0}",), shape="f32[7]{0}"):
    texts = dict.fromkeys(("name", "layer", "source", "phase", "op_type", "why_alone"), "")
    counts = {"flops": flops, "bytes_read": read, "bytes_written": written, "runs": runs, "flops_again": 0}
    return Kernel(
        **texts,
        **counts,
        opcode="fusion",
        shape=shape,
        operands=operands,
        inferred=False,
        transcendentals=0,
        integer_ops=0,
        counted=True,
        fused_ops=(),
        origins=(),
    )


def test_each_side_of_the_ridge():
    # 1e6 FLOPs take 10 us, 1e5 bytes 5 us.
    assert place(_kernel(10**6, 60_000, 40_000), 20.0, CEILINGS) == Place(10.0, 5e10, 10.0, 0.5, "compute")
    # 1e5 FLOPs take 1 us.
    assert place(_kernel(10**5, 60_000, 40_000), 20.0, CEILINGS) == Place(1.0, 5e9, 5.0, 0.25, "memory")
    # Moves only.
    assert place(_kernel(0, 60_000, 40_000), 10.0, CEILINGS) == Place(0.0, 0.0, 5.0, 0.5, "memory")
    assert place(_kernel(10**6, 0, 0), 20.0, CEILINGS) == Place(math.inf, 5e10, 10.0, 0.5, "compute")


def test_a_cache_is_faster_than_the_stream():
    assert place(_kernel(0, 60_000, 40_000), 2.0, CEILINGS) == Place(0.0, 0.0, 5.0, 2.5, "memory")


def test_what_neither_ceiling_explains():
    assert place(_kernel(10**6, 60_000, 40_000), 40.0, CEILINGS).bound == "compute"
    assert place(_kernel(10**6, 60_000, 40_000), 40.1, CEILINGS).bound == "other"
    assert place(_kernel(0, 60_000, 40_000), 20.1, CEILINGS).bound == "other"


def test_the_dtype_decides_the_peak():
    half = {"operands": ("s32[7]{0}", "bf16[7,5]{1,0}", "f32[7]{0}")}
    assert place(_kernel(10**6, 60_000, 40_000, **half), 20.0, CEILINGS).attainable_us == 20.0
    result = {"operands": (), "shape": "(bf16[7]{0}, s32[])"}
    assert place(_kernel(10**6, 60_000, 40_000, **result), 20.0, CEILINGS).attainable_us == 20.0
    unknown = {"operands": ("f64[7]{0}",)}
    assert place(_kernel(10**6, 60_000, 40_000, **unknown), 20.0, CEILINGS) is None
    assert place(_kernel(0, 60_000, 40_000, **unknown), 20.0, CEILINGS).bound == "memory"  # needs no peak


def test_a_kernel_without_time_or_work_has_no_place():
    assert place(_kernel(10**6, 60_000, 40_000), 0.0, CEILINGS) is None
    assert place(_kernel(0, 0, 0), 20.0, CEILINGS) is None
    assert place(_kernel(10**6, 60_000, 40_000, runs=None), 20.0, CEILINGS) is None


@pytest.fixture
def short(monkeypatch):
    """Measurements that take no time, of what is large enough to be measured at all."""
    monkeypatch.setattr(roofline, "_SPAN", 0.02)
    monkeypatch.setattr(roofline, "_SIZES", (128, 256))
    monkeypatch.setattr(roofline, "_STREAM", 2**22)


def test_ceilings_are_plausible(short):
    ceilings = measure_ceilings(["float32", "bfloat16"])
    assert set(ceilings.flops_per_second) == {"float32", "bfloat16"}
    highest = 1e15 if tf.config.list_physical_devices("GPU") else 1e13
    assert all(1e9 < peak < highest for peak in ceilings.flops_per_second.values())
    assert 1e8 < ceilings.bytes_per_second < highest
    assert "float32" in ceilings.method and "16 MiB" in ceilings.method
    assert json.loads(json.dumps(ceilings.to_json()))["bytes_per_second"] == ceilings.bytes_per_second


def test_a_slow_dtype_stops_at_a_small_size(short, monkeypatch):
    monkeypatch.setattr(roofline, "_ENOUGH", 0.0)
    assert "128 x 128 float32" in measure_ceilings().method


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="no ceiling for 'float33', which is no dtype of TensorFlow"):
        measure_ceilings(["float33"])


def test_a_product_is_near_its_ceiling(monkeypatch):
    # Shared machines are noisy: a wrong unit would be a factor of a thousand. The span stays as it is: in 20 ms, the
    # five time slices of a scheduler, each of the ceiling's runs can have waited for a core that another process had.
    monkeypatch.setattr(roofline, "_SIZES", (256, 512))
    monkeypatch.setattr(roofline, "_STREAM", 2**22)
    step, x = jit(lambda x: x @ tf.ones([397, 401])), tf.ones([389, 397])
    report = inspect_step(step, x)
    timing = measure_kernels(step, [x], report.kernels, steps=5)
    product = next(kernel for kernel in report.kernels if kernel.flops == 2 * 389 * 397 * 401)
    where = place(product, timing.us[product.name], measure_ceilings())
    assert 0.02 < where.fraction < 5
    assert where.attainable_us < timing.us[product.name] * 5


def _profile(us):
    kernel = dataclasses.replace(_kernel(10**5, 60_000, 40_000), name="sum")  # 5 us at the stream's rate
    return StepProfile((kernel,), None, None, (), timing({"sum": us}), CEILINGS)


def test_ceilings_of_a_busy_machine_are_measured_again_once(monkeypatch):
    """2 us are 250 % of 20 GB/s; a stream of 60 GB/s leaves 83 %."""
    calls = []

    def measure(dtypes):
        calls.append(dtypes)
        return Ceilings(dict.fromkeys(dtypes, 1e9), 60e9, "again")

    monkeypatch.setattr("tfcore.inspect.profile.step_profile.measure_ceilings", measure)
    assert with_sound_ceilings(_profile(4.6)).note == "" and not calls  # 109 %: nothing to be said
    profile = with_sound_ceilings(_profile(2.0))
    assert calls == [["bfloat16", "float32"]]
    assert profile.ceilings.bytes_per_second == 60e9 and profile.ceilings.flops_per_second["float32"] == 100e9
    assert "the machine was busy" in profile.note and "sum came out at 250%" in profile.note
    profile = with_sound_ceilings(_profile(1.0))  # 167 % of the second measurement, too
    assert len(calls) == 2 and "measured again sum at 167%" in profile.note and "in a cache" in profile.note
