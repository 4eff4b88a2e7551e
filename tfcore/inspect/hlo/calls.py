"""The work of library calls, which XLA names by a target and describes in JSON: GEMM, convolution, attention, kernels
that say themselves what they cost.
"""

import math

from tfcore.inspect.hlo.module import Instruction
from tfcore.inspect.hlo.shapes import Shape


def gemm_flops(call: Instruction, shapes: list[Shape]) -> int:
    """Return 2 · |out| · ∏ of the contracted sizes of a matrix product (cuBLAS, oneDNN)."""
    out = results(call)[0]
    config = call.config.get("gemm_backend_config", call.config)  # older dumps: at the top
    numbers = config.get("dot_dimension_numbers", {}) if isinstance(config, dict) else {}
    if "lhs_contracting_dimensions" in numbers:
        return 2 * out.elements * math.prod(shapes[0].dims[int(axis)] for axis in numbers["lhs_contracting_dimensions"])
    # |A| |B| |C| = b³ M² N² K² for b products (M, K) (K, N), however they are laid out.
    batch = math.prod(out.dims[:-2])
    return 2 * math.isqrt(batch * shapes[0].elements * shapes[1].elements * out.elements) // batch if batch else 0


def attention_flops(call: Instruction, shapes: list[Shape]) -> int | None:
    """Return 4 · b · h · s_q · s_k · d of cuDNN's fused attention, 10 · … of its gradient; None without its sizes."""
    config = call.config.get("cudnn_fmha_backend_config", call.config)
    sizes = config.get("intermediate_tensor_shape", {}).get("dimensions", ()) if isinstance(config, dict) else ()
    if len(sizes) != 4 or not shapes:
        return None
    batch, heads, queries, keys = map(int, sizes)
    width = shapes[0].elements // max(batch * heads * queries, 1)  # of the queries, however they are laid out
    return (10 if "backward" in target(call) else 4) * batch * heads * queries * keys * width


def estimate(call: Instruction) -> dict[str, int] | None:
    """Return flops, transcendentals and bytes_accessed, where a kernel's author has written them down (Pallas)."""
    for config in (call.config, *(value for value in call.config.values() if isinstance(value, dict))):
        found = config.get("cost_estimate")
        if isinstance(found, dict):
            return {key: int(found.get(key, 0)) for key in ("flops", "transcendentals", "bytes_accessed")}
    return None


def target(call: Instruction) -> str:
    """Return which function is called, in small letters."""
    return call.attributes.get("custom_call_target", "").strip('"').lower()


def results(call: Instruction) -> tuple[Shape, ...]:
    """Return the results of a call, without the workspace behind them: u8 or s8 in a row, memory but no traffic."""
    parts = call.shape.parts or (call.shape,)
    last = parts[-1]
    workspace = len(parts) > 1 and last.dtype in ("u8", "s8") and len(last.dims) == 1
    return parts[:-1] if workspace else parts
