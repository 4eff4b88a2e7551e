"""What users run: a step of every recipe, compiled with the full effort that conftest.py spares the other tests."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loops import recipes
from tests.catalog.entry import relative_error
from tests.support.full_effort import one_step


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The folder in which a process without conftest's flags has left a step of every recipe."""
    folder = tmp_path_factory.mktemp("compiled")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "tests.support.full_effort", str(folder)]
    root = Path(__file__).parents[1]
    answer = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return folder


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_compiled_step_is_that_of_the_graph(compiled, name):
    graph = one_step(name, xla=False)
    with np.load(compiled / f"{name}.npz") as found:
        assert set(found.files) == graph.keys()
        # Slots of one kind share a scale: a gradient's, or its square's. In float32 the two round apart by up to
        # 1.7e-4, measured, where batch norm stands in front of a small gradient.
        for kind in sorted({path.split("/")[0] for path in graph}):
            paths = [path for path in graph if path.split("/")[0] == kind]
            assert relative_error((found[path], graph[path]) for path in paths) <= 1e-3, kind
