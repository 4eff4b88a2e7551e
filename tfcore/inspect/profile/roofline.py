"""What this machine can do at most, measured, and how near a kernel comes to it: the roofline.

    ceilings = measure_ceilings(["float32", "bfloat16"])
    where = place(kernel, timing.us[kernel.name], ceilings)
    where.fraction, where.bound        # 0.43, "memory"

A kernel of F floating-point operations that moves B bytes takes at least max(F / peak, B / bandwidth): at the intensity
F / B it reaches at most min(peak, intensity · bandwidth) operations a second (Williams, Waterman, Patterson, "Roofline:
an insightful visual performance model for multicore architectures", CACM 52(4), 2009).
"""

import dataclasses
import functools
import math
import re
import time
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfcore.inspect.hlo.kernels import Kernel

# A bound that explains less of a kernel's time than this does not hold it.
EXPLAINED = 0.25

# A kernel above this fraction of a ceiling says that the ceiling was taken while the machine did something else, too.
# A little above 1 it may be its data in a cache.
TOO_FAST = 1.1

_SIZES = (256, 512, 1024, 2048, 4096, 8192)  # of square matrices
_ENOUGH = 0.05  # seconds of a product: the next size takes eight times as long
_STREAM = 2**26  # float32 elements: 256 MiB, some times the largest caches
_SPAN = 0.4  # seconds that one measurement is repeated
DTYPES = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """The measured limits of a machine with all its threads: the best rates of several runs, `method` says of what.

    `flops_per_second` by TensorFlow's name of a dtype; `bytes_per_second` read and written, together. The latter is
    that of an update in place. A kernel that writes where it has not read makes a CPU fetch those lines first, which
    are not counted: it reaches about half of it (20 to 25 of 44 GB/s on 2 cores of an AMD EPYC).
    """

    flops_per_second: dict[str, float]
    bytes_per_second: float
    method: str

    def higher(self, other: "Ceilings") -> "Ceilings":
        """Return the higher of each ceiling in two measurements of the same dtypes: other work only lowers one."""
        peaks = {name: max(rate, other.flops_per_second[name]) for name, rate in self.flops_per_second.items()}
        return Ceilings(peaks, max(self.bytes_per_second, other.bytes_per_second), self.method)

    def to_json(self) -> dict:
        """Return the numbers as JSON takes them."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Place:
    """A kernel's place on the roofline.

    `intensity`: floating-point operations for each byte that is moved, 0 for a kernel that only moves;
    `flops_per_second`: what it reached; `attainable_us`: what the ceilings allow, the longer of its arithmetic at the
    peak of its dtype and its bytes at the stream's rate; `fraction`: of the possible that it reached, attainable /
    measured. Above 1 its data lay in a cache, which is faster than the stream from memory; it is not cut off.

    `bound`: what holds it: "compute" or "memory", the ceiling that is the lower one at its intensity; "other" if that
    explains less than a quarter (EXPLAINED) of its time: transcendentals and random bits, which are no FLOPs here, a
    start that takes longer than the work, too few threads, a slow formulation.
    """

    intensity: float
    flops_per_second: float
    attainable_us: float
    fraction: float
    bound: str


def measure_ceilings(dtypes: Sequence[str] = ("float32",)) -> Ceilings:
    """Return the ceilings of this machine's first device: some seconds for each dtype and for the stream.

    The peak is that of products of square matrices of growing size, until one takes 50 ms, however slow the dtype; the
    stream v <- a·v + b over 256 MiB, in place. Both compiled by XLA and warm: the first touch of memory is not timed.

    Raises:
        ValueError: for a dtype that TensorFlow does not have.
    """
    peaks, sizes = {}, {}
    for name in dtypes:
        peaks[name], sizes[name] = _peak(_dtype(name))
    products = ", ".join(f"{size} x {size} {name}" for name, size in sizes.items())
    method = f"best runs of a matrix product ({products}) and of v <- a v + b on {4 * _STREAM // 2**20} MiB in place"
    return Ceilings(peaks, _stream(), method)


def _dtype(name: str) -> tf.DType:
    try:
        return tf.as_dtype(name)
    except TypeError:
        raise ValueError(f"no ceiling for {name!r}, which is no dtype of TensorFlow: float32, bfloat16 ...") from None


def _peak(dtype: tf.DType) -> tuple[float, int]:
    """(FLOP/s of the fastest product, its size)."""
    product = tf.function(tf.matmul, jit_compile=True, autograph=False)
    best = 0.0, 0
    for size in _SIZES:
        factor = tf.cast(tf.random.stateless_normal([size, size], seed=(0, size)), dtype)  # (size, size)
        seconds = _fastest(functools.partial(product, factor, factor))
        best = max(best, (2 * size**3 / seconds, size))
        if seconds > _ENOUGH:
            break
    return best


def _stream() -> float:
    """Bytes a second, read and written."""
    # Values that stay near 1: no denormal numbers, no infinities.
    values = tf.Variable(tf.ones([_STREAM]))

    @tf.function(jit_compile=True, autograph=False)
    def update() -> None:
        values.assign(0.5 * values + 0.5)

    return 2 * 4 * _STREAM / _fastest(update)


def _fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of several warm runs."""

    def timed() -> float:
        begin = time.perf_counter()
        run()
        tf.test.experimental.sync_devices()
        return time.perf_counter() - begin

    timed()  # compiles
    timed()  # touches its memory
    times, stop = [], time.perf_counter() + _SPAN
    while len(times) < 3 or time.perf_counter() < stop:
        times.append(timed())
    return min(times)


def place(kernel: Kernel, us: float, ceilings: Ceilings) -> Place | None:
    """Return the place of a kernel that takes `us` microseconds a step.

    None for one without a time, without counted work, in a loop of unknown length, or whose dtype has no ceiling. The
    dtype is that of its first floating-point operand, else that of its result.
    """
    if us <= 0 or kernel.runs is None or not (kernel.flops or kernel.bytes):
        return None
    compute = 0.0
    if kernel.flops:
        peak = ceilings.flops_per_second.get(_dtype_of(kernel))
        if peak is None:
            return None
        compute = 1e6 * kernel.flops / peak
    memory = 1e6 * kernel.bytes / ceilings.bytes_per_second
    attainable = max(compute, memory)
    bound = "compute" if compute >= memory else "memory"
    return Place(
        intensity=kernel.flops / kernel.bytes if kernel.bytes else math.inf,
        flops_per_second=1e6 * kernel.flops / us,
        attainable_us=attainable,
        fraction=attainable / us,
        bound=bound if attainable >= EXPLAINED * us else "other",
    )


def _dtype_of(kernel: Kernel) -> str:
    """TensorFlow's name of the dtype that a kernel computes in; "" for one that has no floating-point number."""
    found = re.findall(r"\b(b?f\d+)\[", " ".join((*kernel.operands, kernel.shape)))
    return DTYPES.get(found[0], found[0]) if found else ""
