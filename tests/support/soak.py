"""A soak: `scripts/train.py` on the sample data, stopped at random for as long as you like, and resumed each time.

python -m tests.support.soak --minutes 60 --out runs/soak

A line for each stop, a summary at the end; exit code 1 if a run did not end with the bits of one never stopped.

Runs are stopped by SIGKILL, SIGTERM or SIGINT after a random time; a SIGKILL is sometimes followed by damage to the
newest checkpoint, where there is an older one to go back to. `tests/test_kills.py` chooses the moments better; this one
has whole processes, start-up included, and time.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from loops.run import checkpoint
from loops.run.runs import Run
from tests.support.runs import outcome

ROOT = Path(__file__).parents[2]

EVERY = ("--data", "sample", "--xla", "off", "--set", "checkpoint_steps=7")
RECIPES = {  # sizes at which a run takes about half a minute
    "convnet_cifar10": ("--epochs", "20", "--set", "filters=7,11,13", "--set", "units=17"),
    "inn_cifar10": ("--epochs", "16", "--precision", "mixed_bfloat16"),
    "cnn_cifar10": (
        *("--epochs", "6", "--batch-size", "64", "--precision", "mixed_float16", "--steps-per-call", "3"),
        *("--set", "filters=7,11,13", "--set", "units=17", "--set", "dropout=0.5", "--set", "batch_norm=after"),
    ),
}
STOPS = {signal.SIGKILL: 6, signal.SIGTERM: 3, signal.SIGINT: 1}  # how often, of ten
LONGEST = 15.0  # seconds before a stop
# Stopped before the program listens, a process ends by the signal itself.
EXPECTED = {
    signal.SIGKILL: {-signal.SIGKILL},
    signal.SIGTERM: {143, -signal.SIGTERM},
    signal.SIGINT: {130, -signal.SIGINT},
}


def start(recipe: str, folder: Path) -> subprocess.Popen:
    """Start the run of a folder, or go on with it."""
    resumed = (folder / "recipe.json").exists()
    arguments = ("--resume",) if resumed else (*EVERY, *RECIPES[recipe])
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), recipe, "--out", str(folder), *arguments]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def stop(process: subprocess.Popen, number: signal.Signals, after: float) -> bool:
    """Send a signal after some seconds; return False if the process has ended by itself, and well, before.

    Raises:
        RuntimeError: if it ended in another way than the signal's.
    """
    try:
        _, error = process.communicate(timeout=after)
        stopped = False
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        _, error = process.communicate(timeout=600)
        stopped = process.returncode != 0  # it may have ended while the signal was on its way
    expected = EXPECTED[number] if stopped else {0}
    if process.returncode not in expected:
        raise RuntimeError(f"exit code {process.returncode} where {sorted(expected)} was due: {error[-2000:]}")
    return stopped


def damage(folder: Path, rng: random.Random) -> str | None:
    """Flip a bit of the newest checkpoint, or cut it short, if there is an older one; return which was done.

    Raises:
        RuntimeError: if other numbers are read than were written.
    """
    paths = sorted(folder.glob("checkpoints/step-*.npz"))
    if len(paths) < 2:
        return None
    content, what = bytearray(paths[-1].read_bytes()), rng.choice(("flipped bit", "cut short"))
    place = rng.randrange(len(content) // 4, len(content) // 2)
    if what == "flipped bit":
        content[place] ^= 1 << rng.randrange(8)
    else:
        del content[place:]
    try:
        arrays, _ = checkpoint.load(paths[-1])
    except checkpoint.CheckpointError:
        return None  # it was damaged before, and its run stopped before it wrote another
    paths[-1].write_bytes(content)
    try:
        found, _ = checkpoint.load(paths[-1])
    except checkpoint.CheckpointError:
        return what
    if arrays.keys() != found.keys() or any(not np.array_equal(found[name], arrays[name]) for name in arrays):
        raise RuntimeError(f"{paths[-1]}: the damage ({what} at byte {place}) was not found")
    return f"{what}, in nothing that is read"  # such as a header's second copy of a size


def differences(found: tuple[dict, dict], expected: tuple[dict, dict]) -> list[str]:
    """Return the names of everything in which two outcomes differ, but for the files: a stop leaves a checkpoint."""
    names = found[0].keys() | expected[0].keys()
    arrays = [
        name for name in sorted(names) if not np.array_equal(found[0].get(name, np.nan), expected[0].get(name, np.nan))
    ]
    return arrays + [
        f"{name}: {found[1][name]}" for name in expected[1] if name != "files" and found[1][name] != expected[1][name]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="a new folder for the runs")
    parser.add_argument("--seed", type=int, default=0, help="decides signals and times")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} is there already: delete it, or give a new folder by --out")
    arguments.out.mkdir(parents=True)
    rng, end, begin = random.Random(arguments.seed), time.time() + 60 * arguments.minutes, time.time()

    def say(text: str) -> None:
        print(f"{time.time() - begin:6.0f} s  {text}", flush=True)

    expected = {}
    for recipe in RECIPES:
        folder = arguments.out / f"{recipe}-whole"
        stop(start(recipe, folder), signal.SIGKILL, after=3600)
        expected[recipe] = outcome(Run.open(folder))
        say(f"{recipe}: a run that is not stopped, {expected[recipe][1]['meta'][0]['step']} steps")

    counts: Counter[str] = Counter()
    number = 0
    while time.time() < end:
        recipe = list(RECIPES)[number % len(RECIPES)]
        number += 1
        folder = arguments.out / f"{recipe}-{number}"
        stops = 0
        while True:
            chosen = rng.choices(list(STOPS), STOPS.values())[0]
            after = rng.uniform(0.1, LONGEST)
            if not stop(start(recipe, folder), chosen, after):
                break
            stops += 1
            counts[chosen.name] += 1
            done = damage(folder, rng) if chosen == signal.SIGKILL and rng.random() < 0.2 else None
            counts[done or ""] += 1
            say(
                f"{folder.name}: {chosen.name} after {after:.1f} s"
                + (f", and the newest checkpoint: {done}" * bool(done))
            )
        different = differences(outcome(Run.open(folder)), expected[recipe])
        result = "OTHER BITS" if different else "the same bits"
        counts[result] += 1
        say("; ".join([f"{folder.name}: ended after {stops} stops: {result}", *different]))
        if not different:
            shutil.rmtree(folder)
    del counts[""]
    say(", ".join(f"{name} {count}" for name, count in counts.items()))
    return int(counts["OTHER BITS"] > 0)


if __name__ == "__main__":
    sys.exit(main())
