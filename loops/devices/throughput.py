"""Where an epoch's seconds go, for its row of the history.

Columns of `history.csv`, all for the one epoch:

    seconds               everything: steps, evaluation, checkpoints inside the epoch
    steps_per_second      train steps, compilation left out
    examples_per_second   the same in examples
    data_seconds          waiting for batches and handing them to the device
    compute_seconds       train steps, compilation left out
    compile_seconds       the first train step (or call of several) of each batch size, which traces and compiles: 0
                          in later epochs, and not 0 again where a resumed process compiled anew
    peak_memory_mb        highest so far of the process (of a GPU's memory, where there is one), in MiB

An epoch that was stopped and resumed adds up its parts. One in which every step was the first of its shape has no
other speed than theirs, compilation included.
"""

import resource
import time
from collections.abc import Callable

import tensorflow as tf

COLUMNS = (  # of a row; what two runs of one recipe do not share
    "seconds",
    "steps_per_second",
    "examples_per_second",
    "data_seconds",
    "compute_seconds",
    "compile_seconds",
    "peak_memory_mb",
)
LAPS = ("data", "compute", "compile", "rest")


class Clock:
    """A stop watch of one epoch: each `lap` gives the time since the last one to a purpose."""

    def __init__(self):
        self._sizes: set[int] = set()  # of batches whose step is compiled, in this process
        self.reset()
        self.start()

    def reset(self) -> None:
        """Start a new epoch."""
        self.laps = dict.fromkeys(LAPS, 0.0)
        self.steps = self.examples = 0  # those of `compute`

    def start(self) -> None:
        """What has passed since the last lap belongs to nothing."""
        self._mark = time.perf_counter()

    def lap(self, purpose: str) -> None:
        """Add the time since the last lap to a purpose, one of LAPS."""
        now = time.perf_counter()
        self.laps[purpose] += now - self._mark
        self._mark = now

    def lap_steps(self, steps: int, batch_size: int, wait: Callable[[], object]) -> None:
        """Add the time of one call of train steps; wait() returns when the device has done them."""
        if batch_size in self._sizes:
            self.lap("compute")
            self.steps += steps
            self.examples += steps * batch_size
        else:
            self._sizes.add(batch_size)
            wait()
            self.lap("compile")

    def columns(self, steps: int, examples: int) -> dict[str, float]:
        """Return the epoch's columns; `steps` and `examples` of the whole epoch."""
        seconds = self.laps["data"] + self.laps["compute"]
        if self.steps:
            steps, examples = self.steps, self.examples
        else:
            seconds += self.laps["compile"]
        return {
            "seconds": round(sum(self.laps.values()), 3),
            "steps_per_second": round(steps / seconds, 3),
            "examples_per_second": round(examples / seconds, 1),
            **{f"{purpose}_seconds": round(self.laps[purpose], 3) for purpose in ("data", "compute", "compile")},
            "peak_memory_mb": round(peak_memory_mb(), 1),
        }

    def state(self) -> dict:
        """Return what a checkpoint inside an epoch must keep."""
        return {"laps": self.laps.copy(), "steps": self.steps, "examples": self.examples}

    def load_state(self, state: dict) -> None:
        """Go on from a `state()`."""
        self.laps, self.steps, self.examples = state["laps"].copy(), state["steps"], state["examples"]


def peak_memory_mb() -> float:
    """Return the peak so far, in MiB: of the fullest GPU's memory in use, or, without one, of the process's memory."""
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        return max(tf.config.experimental.get_memory_info(gpu.name)["peak"] for gpu in gpus) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts it in KiB


def format_row(row: dict, epochs: int) -> str:
    """One line for one epoch of the history; where the seconds went only where something is to be said of it."""
    top = next((name for name in row if name.startswith("val_top_")), None)
    waiting = row["data_seconds"] / max(row["seconds"], 0.001)
    return (
        f"epoch {row['epoch']:>3}/{epochs}  {row['seconds']:6.1f} s  {1000 / row['steps_per_second']:6.1f} ms/step  "
        f"{row['examples_per_second']:7,.0f} examples/s  "
        f"loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}"
        + (f"  {top} {row[top]:.4f}" if top else "")
        + (f"  compiled in {row['compile_seconds']:.1f} s" if row["compile_seconds"] >= 0.05 else "")
        + (f"  {waiting:.0%} waiting for data" if waiting >= 0.1 else "")
    )
