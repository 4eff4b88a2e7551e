"""Memory over the schedule as the page's script draws it."""

from collections.abc import Callable

from tfcore.inspect.hlo.buffers import Memory
from tfcore.inspect.profile.step_profile import StepProfile

_METHODS = {
    "assignment": "Sizes from XLA's own buffer assignment, lives from the schedule",
    "estimate": "Estimated from the lives of all results in the schedule, without what library calls take",
}
_BUFFERS = 4000  # the largest, in the page; the curve has all
_POINTS = 2000  # of the curve


def memory_data(profile: StepProfile, number: Callable[[str], int]) -> dict | None:
    """Return lives and curve as JSON takes them, `number` for texts; None without a schedule."""
    memory = None if profile.report is None else profile.report.memory
    if memory is None or not memory.schedule:
        return None
    kernels = {kernel.name: kernel for kernel in profile.kernels}
    lives = sorted(memory.lives, key=lambda life: -life.bytes)
    shown = lives[:_BUFFERS]
    found = [kernels.get(life.name) for life in shown]
    return {
        "method": _METHODS[memory.method],
        "argument_bytes": memory.argument_bytes,
        "peak_at": memory.peak_at,
        "schedule": list(memory.schedule),
        "curve": curve(memory),
        "left_out": len(lives) - len(shown),
        "lives": {
            "name": [life.name for life in shown],
            "bytes": [life.bytes for life in shown],
            "begin": [life.begin for life in shown],
            "end": [life.end for life in shown],
            "layer": [number(kernel.layer if kernel else "") for kernel in found],
            "source": [number(kernel.source if kernel else "") for kernel in found],
        },
    }


def curve(memory: Memory, points: int = _POINTS) -> list[tuple[int, int]]:
    """Return (place in the schedule, live bytes from there on), at most about `points`, the highest of each span."""
    count = max(len(memory.schedule), 1)
    change = [0] * (count + 2)
    for life in memory.lives:
        change[life.begin] += life.bytes
        change[min(life.end, count + 1)] -= life.bytes
    span = -(-count // points)
    total, found = 0, []
    for begin in range(0, count, span):
        most = 0
        for place in range(begin, min(begin + span, count)):
            total += change[place]
            most = max(most, total)
        if not found or found[-1][1] != most:
            found.append((begin, most))
    return found
