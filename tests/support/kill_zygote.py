"""A process that has imported TensorFlow but run nothing of it, and forks a training for each line of its input.

So a training that is to be killed starts in a tenth of a second, not in five. Forking is safe only until TensorFlow's
first operation starts its threads: the parent never runs one, and says so if it must (`threads`).

Input, a line of JSON each: {"folder", "recipe", "settings", "kill"}. "kill" is null, or what to do to the training:

    {"after": s}                        SIGKILL s seconds after the fork, wherever it is
    {"step": n, "after": s}             SIGKILL s seconds after its n-th train step has begun
    {"write": n, "stage": ..., "share"} SIGKILL in its n-th file write: at "bytes", when that share of them is in the
                                        .partial file; at "unsynced", when all are, before they are flushed; at
                                        "unnamed", before the rename; at "renamed", right after it

Output, a line of JSON each: {"status", "where", "threads"}: the child's wait status, and what it was doing when it
ended, such as "step 3" or "write step-000000004.npz".
"""

import io
import json
import mmap
import os
import signal
import sys
import time
import traceback
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from loops import data, recipes
from loops import learner as learner_module
from loops import train as train_module
from loops.data.dataset import Dataset
from loops.run import disk
from loops.run.runs import Run
from tests.support.tiny import shortened

# Shared with the children: the number of train steps begun, and what is going on.
WHERE = mmap.mmap(-1, 256)


def note(steps: int, what: str) -> None:
    """Leave word for the parent."""
    WHERE[:] = f"{steps:06d}{what}".encode().ljust(256)


def watch(kill: dict) -> None:
    """Make this process, a child, note what it does, and die in the chosen write."""
    steps = writes = 0
    write_atomically, make_train_step = disk.write_atomically, learner_module.make_train_step
    replace = os.replace

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watched_write(path: Path, write) -> None:
        nonlocal writes
        writes += 1
        note(steps, f"write {path.name}")
        stage = kill.get("stage") if writes == kill.get("write") else None

        def dying_write(file) -> None:
            content = io.BytesIO()
            write(content)
            share = kill["share"] if stage == "bytes" else 1.0
            file.write(content.getvalue()[: int(share * len(content.getvalue()))])
            if stage in ("bytes", "unsynced"):
                file.flush()
                die()

        def dying_replace(source, target) -> None:
            if stage == "renamed":
                replace(source, target)
            die()

        if stage in ("unnamed", "renamed"):
            os.replace = dying_replace
        write_atomically(path, dying_write if stage else write)
        note(steps, f"after write {path.name}")

    def make_watched_step(*arguments, **options):
        step = make_train_step(*arguments, **options)

        def watched_step(*batch):
            nonlocal steps
            steps += 1
            note(steps, f"step {steps}")
            sound = step(*batch)
            note(steps, f"after step {steps}")
            return sound

        return watched_step

    disk.write_atomically = watched_write
    learner_module.make_train_step = make_watched_step


def train(order: dict, dataset: Dataset) -> None:
    """Do what `scripts/train.py` does: start a run, or go on with it."""
    recipe = recipes.get(order["recipe"]).changed([("data", "sample"), *map(tuple, order["settings"])])
    folder = Path(order["folder"])
    begun = (folder / "recipe.json").exists()
    run = Run.open(folder) if begun else Run.create(folder, recipe)
    train_module.train(run, dataset, resume=begun)


def wait(child: int, kill: dict) -> int:
    """Return the child's wait status, having killed it if it is for the parent to do."""
    begin = None if "step" in kill else time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if begin is None and int(WHERE[:6]) >= kill["step"]:
            begin = time.monotonic()
        if begin is not None and time.monotonic() - begin >= kill.get("after", float("inf")):
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(0.0005)


def main() -> None:
    datasets: dict[str, Dataset] = {}
    for line in sys.stdin:
        order = json.loads(line)
        kill = order["kill"] or {}
        name = recipes.get(order["recipe"]).dataset
        if name not in datasets:
            datasets[name] = shortened(data.load(name, "sample"))
        note(0, "start")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                watch(kill)
                train(order, datasets[name])
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        status = wait(child, kill)
        where = WHERE[6:].decode().strip()
        print(json.dumps({"status": status, "where": where, "threads": len(os.listdir("/proc/self/task"))}), flush=True)


if __name__ == "__main__":
    main()
