"""The house's rules: who may import whom, where Keras may appear, and that everything public is documented."""

import ast
import inspect
from pathlib import Path

import pytest

from tests.test_catalog import _public

ROOT = Path(__file__).parents[1]
# A room may import from itself and from rooms below it.
FLOORS = ["tfcore", "loops", "scripts", "tests"]
ROOMS = ["tfcore.ops", "tfcore.layers", "tfcore.models"]
KERAS_ALLOWED = {"tests", "scripts/compare_keras.py", "scripts/benchmark.py"}
LIBRARIES = {"tensorflow", "numpy", "tqdm"}
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports_point_downwards(path):
    name = _name(path)
    for order in (FLOORS, ROOMS):
        own = next((i for i, room in enumerate(order) if name.startswith(room)), None)
        if own is None:
            continue
        for imported in _imports(path):
            above = [room for room in order[own + 1 :] if imported == room or imported.startswith(room + ".")]
            # compare_keras.py prints what the tests' catalog proves; the benchmark's rivals are its Keras models.
            if above and not (
                name in ("scripts.compare_keras", "scripts.parts.benchmark_worker") and above == ["tests"]
            ):
                pytest.fail(f"{path} imports {imported}, which stands above it")


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_keras_stays_out(path):
    if {_name(path).split(".")[0], str(path.relative_to(ROOT))} & KERAS_ALLOWED:
        return
    tree = ast.parse(path.read_text())
    attributes = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert "keras" not in attributes, f"{path} uses tf.keras"
    assert not [name for name in _imports(path) if "keras" in name], f"{path} imports Keras"


@pytest.mark.parametrize("path", [path for path in FILES if _name(path).startswith(("tfcore", "loops"))], ids=_name)
def test_only_core_dependencies(path):
    import sys

    known = LIBRARIES | set(sys.stdlib_module_names) | {"tfcore", "loops"}
    if path.parent.name == "figures":
        known |= {"matplotlib"}  # extra `plots`
    foreign = [name for name in _imports(path) if name.split(".")[0] not in known]
    assert not foreign, f"{path} imports {foreign}"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_file_is_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 330


def test_everything_public_has_a_docstring():
    import loops
    import loops.data
    import loops.recipes
    import tfcore
    import tfcore.inspect
    import tfcore.layers
    import tfcore.models
    import tfcore.ops
    import tfcore.optimizers

    missing = []
    for package in (
        tfcore,
        tfcore.inspect,
        tfcore.layers,
        tfcore.models,
        tfcore.ops,
        tfcore.optimizers,
        loops,
        loops.data,
        loops.recipes,
    ):
        for name, member in _public(package):
            if (inspect.isclass(member) or inspect.isfunction(member)) and not member.__doc__:
                missing.append(name)
            if inspect.isclass(member):
                missing += [
                    f"{name}.{method}"
                    for method, function in vars(member).items()
                    if inspect.isfunction(function) and not method.startswith("_") and not inspect.getdoc(function)
                ]
    # build_model overrides a documented method; ours to skip, since inspect.getdoc does not see it on the function.
    assert [name for name in missing if not name.endswith(".build_model")] == []
