"""SIGKILL at any moment, inside a write too: a run that is resumed after each ends with the bits of an untouched one.

A kill costs one to two seconds of CPU. `TFCORE_KILLS=25` asks for that many of each recipe, and `TFCORE_KILL_SEED` for
other moments; the kills are printed by `-s`.
"""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from loops.run import checkpoint
from loops.run.runs import Run
from tests.support.runs import outcome

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("TFCORE_KILLS", "10"))
SEED = int(os.environ.get("TFCORE_KILL_SEED", "0"))
EVERY = {"epochs": 5, "batch_size": 24, "xla": "off", "checkpoint_steps": 2}  # 3 steps an epoch: not each is saved
# Between them: dropout, augmentation, a penalty, a held-out share, a loss scale, diagnostics and every control.
RECIPES = {
    "cnn_cifar10": {
        "filters": "3,5,7",
        "units": 11,
        "dropout": 0.5,
        "l2": 0.01,
        "precision": "mixed_float16",
        "plateau_patience": 1,
        "stop_patience": 4,
        "diagnostics": "true",
    },
    "transformer_forda_mended": {
        "blocks": 1,
        "width": 8,
        "heads": 2,
        "window": 100,
        "stride": 50,
        "warmup_steps": 2,
    },
}
# A round's kills: anywhere (starting, tracing), in a train step or what follows it, in a write.
KINDS = ("anywhere", "step", "step", "write", "write")
STAGES = ("bytes", "unsynced", "unnamed", "renamed")


@pytest.fixture(scope="module")
def fork():
    """Return a function that trains in a forked process: order -> (killed, what it was doing)."""
    command = [sys.executable, str(ROOT / "tests" / "support" / "kill_zygote.py")]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
    )

    def fork(folder, recipe, kill=None):
        settings = [(name, str(value)) for name, value in {**EVERY, **RECIPES[recipe]}.items()]
        order = {"folder": str(folder), "recipe": recipe, "settings": settings, "kill": kill}
        print(json.dumps(order), file=process.stdin, flush=True)
        answer = json.loads(process.stdout.readline())
        assert answer["status"] in (0, signal.SIGKILL), answer  # a training that failed
        assert answer["threads"] <= 2, "the parent has run an operation: its forks are not to be trusted"
        return answer["status"] != 0, answer["where"]

    yield fork
    process.stdin.close()
    process.wait(60)


def _moment(rng: random.Random, kind: str, writes: int) -> dict:
    if kind == "anywhere":
        return {"after": rng.uniform(0, 2)}
    if kind == "step":
        return {"step": rng.randint(1, 4), "after": rng.expovariate(1 / 0.02)}
    return {"write": rng.randint(1, writes), "stage": rng.choice(STAGES), "share": rng.random()}


def _check_intact(folder: Path) -> None:
    """No kill may leave a broken file under a checkpoint's name, or a checkpoint whose best epoch was not saved."""
    metas = {path.stem: checkpoint.load(path)[1] for path in (folder / "checkpoints").glob("*.npz")}
    epochs = [meta["controls"]["best"]["best_epoch"] for meta in metas.values()]
    assert max(epochs, default=0) == 0 or metas["best"]["epoch"] >= max(epochs)


@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_at_random_moments_and_resumed_ends_with_the_same_bits(tmp_path, fork, recipe):
    assert fork(tmp_path / "whole", recipe) == (False, "after write summary.json")
    arrays, other = outcome(Run.open(tmp_path / "whole"))
    rng = random.Random(f"{recipe} {SEED}")
    kills: list[str] = []
    runs = 0
    while len(kills) < KILLS:
        runs += 1
        folder = tmp_path / f"cut-{runs}"
        while True:
            # One after another, so that every kind has its share whatever the seed; no more kills: to the end.
            kind = KINDS[len(kills) % len(KINDS)]
            killed, where = fork(folder, recipe, _moment(rng, kind, writes=7) if len(kills) < KILLS else None)
            if not killed:
                break
            kills.append(where)
            _check_intact(folder)
        found, rest = outcome(Run.open(folder))
        assert rest == other
        assert found.keys() == arrays.keys()
        for name, value in found.items():
            np.testing.assert_array_equal(value, arrays[name], name)
    places = Counter(" ".join(where.split()[:-1]) or where for where in kills)
    print(f"\n{recipe}: {len(kills)} kills over {runs} runs: {dict(places)}\n  " + ", ".join(kills))
    assert places["write"] >= len(kills) // 5


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("write", [1, 2])
def test_killed_while_the_run_folder_is_made(tmp_path, fork, write, stage):
    """environment.json, then recipe.json: before the second is there, the first command may be given again."""
    recipe = "cnn_cifar10"
    order = {"write": write, "stage": stage, "share": 0.5}
    assert fork(tmp_path / "run", recipe, order) == (True, f"write {('environment', 'recipe')[write - 1]}.json")
    if (write, stage) == (2, "renamed"):
        assert Run.open(tmp_path / "run")
    else:
        with pytest.raises(ValueError, match="no run there yet: start it without --resume"):
            Run.open(tmp_path / "run")
        Run.check_new(tmp_path / "run")
