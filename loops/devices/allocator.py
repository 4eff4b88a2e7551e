"""The memory allocator of a training process: freed blocks are kept, not given back to the system.

glibc returns each large block when it is freed, and the next step's first touch of it faults in every page anew; on
virtual machines that is the most expensive thing a step of streaming operations does. tcmalloc, if it is preloaded
(LD_PRELOAD), and glibc by its MALLOC_* variables keep memory by themselves: they are left alone.
"""

import ctypes
import os
from pathlib import Path

# mallopt(3): parameter numbers of <malloc.h>.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
KEEP = {
    M_MMAP_MAX: 0,  # no block of its own mapping, which a free would unmap
    M_TRIM_THRESHOLD: 2**31 - 1,  # the heap never shrinks
    M_ARENA_MAX: 1,  # one heap: what one thread frees, another may use
    M_TOP_PAD: 64 * 2**20,  # it grows in steps of 64 MiB
}

_kept = False


def keep_memory() -> None:
    """Tell glibc to keep freed memory; call it before TensorFlow is imported. Elsewhere nothing happens."""
    global _kept
    if _preloaded() or _by_environment():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc alone has it
    _kept = mallopt is not None and all(mallopt(parameter, value) for parameter, value in KEEP.items())


def allocator() -> str:
    """Return what serves this process's allocations, for environment.json."""
    if _preloaded():
        return "tcmalloc"
    if _by_environment():
        return "glibc with " + " ".join(f"{name}={os.environ[name]}" for name in _by_environment())
    return "glibc, freed memory kept (mallopt)" if _kept else "the system's default"


def _preloaded() -> bool:
    try:
        return "tcmalloc" in Path("/proc/self/maps").read_text()
    except OSError:  # no Linux
        return False


def _by_environment() -> list[str]:
    return sorted(name for name in os.environ if name.startswith("MALLOC_"))
