"""The contenders of a benchmark, each in a process of its own, with the same threads and the same allocator."""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Protocol, TypeVar

WORKER = "import json, sys; from parts import benchmark_worker; benchmark_worker.main(json.loads(sys.argv[1]))"
# glibc gives freed blocks back to the system and faults them in again at every step: the same cure for both sides.
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


class Contends(Protocol):
    """A frozen dataclass of what benchmark_worker.py needs to know; its text names it in an error."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def label(self) -> str:
        """Which lines of a table are its own."""

    @property
    def xla(self) -> str:
        """on or off, as asked."""


Contender = TypeVar("Contender", bound=Contends)


class Process:
    """A contender's process. `ready` is its first answer: among others `xla`, the mode that really runs.

    Raises:
        ValueError: for what the contender refuses, or if its process ends.
    """

    def __init__(self, contender: Contends):
        self.contender = contender
        command = [sys.executable, "-c", WORKER, json.dumps(dataclasses.asdict(contender))]
        # In a process group of its own: Ctrl-C is for the one who asks, and would print a traceback of each.
        self.popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(), text=True, process_group=0
        )

    def __enter__(self) -> "Process":
        try:
            self.ready = self._answer()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.end()

    def end(self) -> None:
        """Kill the process, if it still runs."""
        self.popen.kill()
        self.popen.wait()

    def ask(self, request: dict) -> dict:
        """Return the answer to one request (see benchmark_worker.py)."""
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `_answer` says
            print(json.dumps(request), file=self.popen.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict:
        line = self.popen.stdout.readline() if self.popen.stdout is not None else ""
        if not line:
            raise ValueError(f"{self.contender}: its process ended, see above")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer


@contextlib.contextmanager
def started(contenders: Iterable[Contender]) -> Iterator[dict[Contender, Process]]:
    """Start each contender's process, one after the other: compilation uses all cores.

    Left out is one that runs in another mode than it was asked for: it would run a second time what its like without
    XLA runs already.
    """
    with contextlib.ExitStack() as stack:
        running = {}
        for contender in contenders:
            process = stack.enter_context(Process(contender))
            if process.ready["xla"] == contender.xla:
                running[contender] = process
            else:
                process.end()
        yield running


def run_program(program: str, *arguments: str) -> str:
    """Return what a Python program prints, run as the contenders are."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, env=_environment(), text=True, check=True).stdout


def best_modes(times: dict[Contender, list[float]]) -> dict[str, Contender]:
    """Return label -> its contender, XLA on or off, with the lower median."""
    best: dict[str, Contender] = {}
    for contender, ms in times.items():
        if contender.label not in best or statistics.median(ms) < statistics.median(times[best[contender.label]]):
            best[contender.label] = contender
    return best


def without_xla(contenders: Iterable[Contends]) -> list[str]:
    """Return the labels of which no contender runs compiled, though all were asked to."""
    contenders = list(contenders)
    compiled = {contender.label for contender in contenders if contender.xla == "on"}
    return list(dict.fromkeys(contender.label for contender in contenders if contender.label not in compiled))


def _environment() -> dict[str, str]:
    return {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **ALLOCATOR, "PYTHONPATH": os.pathsep.join(sys.path)}
