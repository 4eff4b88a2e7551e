"""A long run's memory: after the first thousand steps, nine thousand more need nothing."""

from pathlib import Path

import pytest

from loops import data, recipes
from loops.run.runs import Run
from loops.train import train

STATM = Path("/proc/self/statm")


@pytest.mark.skipif(not STATM.exists(), reason="how much memory a process has now is read from Linux's /proc")
def test_memory_does_not_grow_over_ten_thousand_steps(tmp_path):
    settings = {"data": "sample", "train_examples": "200", "batch_size": "1", "head_units": "3", "xla": "off"}
    settings |= {"validation": "0.5", "epochs": "100", "stop_patience": "none"}
    recipe = recipes.get("mlp_forda").changed(settings.items())
    run = Run.create(tmp_path / "run", recipe)
    pages = []
    train(run, data.load(recipe.dataset, recipe.data), follow=lambda _: pages.append(int(STATM.read_text().split()[1])))
    assert len(pages) == 100  # epochs of 100 steps
    grown = (pages[-1] - pages[9]) * 4096
    assert grown < 2**24, f"grew by {grown / 2**20:.1f} MiB in 9,000 steps"  # 1.9 kB a step
