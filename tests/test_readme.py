"""README says what is: its commands parse, its test command is CI's, its map names what there is."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from loops import recipes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python scripts/(\w+)\.py (.*)$", README, re.MULTILINE)


def test_ci_runs_the_printed_test_command():
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert command in README.splitlines()


@pytest.mark.parametrize(("script", "arguments"), COMMANDS)
def test_printed_commands_parse(script, arguments):
    parsed = importlib.import_module(script).parser().parse_args(shlex.split(arguments, comments=True))
    if script == "train":
        recipes.get(parsed.recipe).changed(parsed.set)


def test_every_script_and_package_is_on_the_map():
    for path in (ROOT / "scripts").glob("*.py"):
        assert f"scripts/{path.name}" in README
    for path in (ROOT / "tfcore").iterdir():
        if path.is_dir() and not path.name.startswith("_"):
            assert f"{path.name}/" in README
    for path in re.findall(r"`((?:tfcore|loops|tests|scripts)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path
