"""Freed memory is kept: a second use of as much costs no page faults."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Allocates, fills and frees 64 MiB four times, and prints the page faults of the last time and the allocator's name.
PROGRAM = """
import ctypes, resource, sys
from loops.devices.allocator import allocator, keep_memory
if sys.argv[1] == "keep":
    keep_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(2**26)
    ctypes.memset(block, 1, 2**26)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(allocator())
"""


def _faults(keep: str, **environment) -> tuple[int, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "LD_PRELOAD"))}
    program = [sys.executable, "-c", PROGRAM, keep]
    answer = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True, env=kept | environment)
    faults, name = answer.stdout.splitlines()
    return int(faults), name


@pytest.mark.skipif(
    not any(Path(folder).glob("libc.so.6") for folder in ("/lib64", "/lib", "/lib/x86_64-linux-gnu", "/usr/lib64")),
    reason="mallopt is glibc's, and no glibc is in its usual places",
)
def test_freed_memory_is_kept():
    pages = 2**26 // 4096
    (default, name), (kept, new_name) = _faults("leave"), _faults("keep")
    assert name == "the system's default" and new_name == "glibc, freed memory kept (mallopt)"
    assert kept < 0.02 * pages < default  # huge pages make the default's faults fewer than its pages


def test_the_environments_choice_is_left_alone():
    _, name = _faults("keep", MALLOC_TRIM_THRESHOLD_="17179869184", MALLOC_MMAP_MAX_="0")
    assert name == "glibc with MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184"
