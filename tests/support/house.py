"""The house's rules, each a function from a file's name and text to complaints: `tests/test_house.py` applies them.

A rule is given text, not a path, so that a made-up file can prove that the rule fails.
"""

import ast
import graphlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FLOORS = ("tfcore", "loops", "scripts", "tests")

# From the ground up. A place (a room or a single module) imports from itself and from lines above its own in this list,
# and never from another place on its own line. A module belongs to the longest name that fits.
ORDER = (
    ("tfcore.config", "tfcore.context", "tfcore.inspect.columns", "tfcore.read_first"),
    ("tfcore.module", "tfcore.random"),
    ("tfcore.initializers", "tfcore.precision"),
    ("tfcore.ops",),
    ("tfcore.layers", "tfcore.optimizers"),
    ("tfcore.inspect.hlo",),
    ("tfcore.models", "tfcore.inspect.graph", "tfcore.inspect.figures"),
    ("tfcore.inspect.audit", "tfcore.inspect.numerics", "tfcore.inspect.walk"),
    ("tfcore.inspect.profile",),
    ("tfcore.inspect.pages",),
    # The paths of before the rooms, for scripts that know them.
    (
        "tfcore.inspect.comparison",
        "tfcore.inspect.compiler",
        "tfcore.inspect.kernel_page",
        "tfcore.inspect.kernel_report",
        "tfcore.inspect.step_profile",
    ),
    (
        "loops.control",
        "loops.devices.allocator",
        "loops.devices.throughput",
        "loops.health.compilation",
        "loops.health.diagnostics",
        "loops.run.disk",
        "loops.run.signals",
        "loops.tensorboard",
    ),
    ("loops.data",),
    ("loops.data_audit", "loops.recipes"),
    ("loops.devices", "loops.run"),
    ("loops.objective", "loops.views", "loops.health.numerics"),
    ("loops.steps", "loops.health.divided"),
    ("loops.evaluation", "loops.learner"),
    ("loops.state",),
    (
        "loops.export",
        "loops.made_up",
        "loops.train",
        "loops.health.debugging",
        "loops.health.precision",
        "loops.health.divergence",
        "loops.health.growth",
    ),
    ("loops.health.explain", "loops.studies"),
    ("scripts.parts",),
    tuple(f"scripts.{path.stem}" for path in sorted((ROOT / "scripts").glob("[!_]*.py"))),
    ("tests",),
)
# The faces of floors and rooms: they say what is inside, and import nothing of ours.
FACES = ("tfcore", "tfcore.inspect", "loops", "loops.health", "scripts")
# Whatever the order allows: what is inspected is any module, so the inspector knows none of our models.
APART = (("tfcore.inspect", "tfcore.models"), ("tfcore.inspect", "tfcore.optimizers"))
# compare_keras.py prints what the tests' catalog proves; the benchmark's rivals are its Keras models.
KNOW_THE_CATALOG = ("scripts.compare_keras", "scripts.parts.benchmark_worker")
KERAS_ALLOWED = ("tests",)
LIBRARIES = {"tensorflow", "numpy", "tqdm"}
PICTURES = "tfcore.inspect.figures"  # where matplotlib is at home: extra `plots`
LINES_OF_A_FILE = 330
LINES_OF_A_FUNCTION = 60  # without its docstring: one screen
# Functions that are longer yet, and their lines: they may shrink. Take out who has come below the cap.
LONG = {
    "tfcore.models.perceiver.Perceiver.__init__": 69,
    "tfcore.ops.attention_chunked.attend_chunked": 70,
    "scripts.train.main": 69,
    "scripts.audit.main": 63,
    "scripts.train.parser": 61,
}


def module_name(path: Path) -> str:
    """The name of a file's module; a package's is that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))}
COMMANDS = {path.stem for path in (ROOT / "scripts").glob("*.py")}


def imports(source: str) -> list[str]:
    """The modules that a file imports, wherever in it; of ours by their full names."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            whole = [f"{base}.{alias.name}" for alias in node.names]
            names += [name if _ours(name) in FILES else base for name in whole]
    return [_ours(name) for name in names]


def _ours(name: str) -> str:
    """Scripts import their parts and, in tests, are imported without the name of their folder."""
    first = name.partition(".")[0]
    return f"scripts.{name}" if first == "parts" or first in COMMANDS else name


def _within(name: str, place: str) -> bool:
    return name == place or name.startswith(place + ".")


def place_of(name: str) -> tuple[int, str] | None:
    """The line and the place in ORDER to which a module belongs; None if it has none."""
    places = [(line, place) for line, places in enumerate(ORDER) for place in places]
    if name in FACES:  # as low as the lowest that it stands for
        return min(line for line, place in places if _within(place, name)), name
    return max((pair for pair in places if _within(name, pair[1])), key=lambda pair: len(pair[1]), default=None)


def out_of_order(name: str, source: str) -> list[str]:
    """Imports that do not point downwards."""
    own = place_of(name)
    if own is None:
        return [f"{name} has no place in the house: give it a line in ORDER of tests/support/house.py"]
    complaints = []
    for imported in imports(source):
        if imported.startswith("."):
            complaints.append(f"{name} imports {imported}: write the whole name")
        if imported.split(".")[0] not in FLOORS:
            continue
        other = place_of(imported)
        catalog = name in KNOW_THE_CATALOG and _within(imported, "tests.catalog")
        allowed = other and (other[0] < own[0] or other == own or catalog) and name not in FACES
        apart = any(_within(name, a) and _within(imported, b) for a, b in APART)
        if not allowed or apart:
            complaints.append(f"{name} imports {imported}, which does not lie below it")
    return complaints


def circle(sources: dict[str, str]) -> list[str]:
    """Modules that import each other in a circle, if there is one."""
    try:
        tuple(
            graphlib.TopologicalSorter(
                {name: {other for other in imports(source) if other in sources} for name, source in sources.items()}
            ).static_order()
        )
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def keras_in(name: str, source: str) -> list[str]:
    """Keras where it may not be: by an import, or as `tf.keras`."""
    if any(_within(name, place) for place in KERAS_ALLOWED):
        return []
    used = [node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return [f"{name} uses Keras" for word in [*used, *imports(source)] if "keras" in word.split(".")]


def foreign(name: str, source: str) -> list[str]:
    """Imports of libraries that are no core dependency; scripts and tests may have what their extras bring."""
    if not _within(name, "tfcore") and not _within(name, "loops"):
        return []
    known = LIBRARIES | set(sys.stdlib_module_names) | {"tfcore", "loops"}
    if _within(name, PICTURES):
        known |= {"matplotlib"}
    if name == "loops.data.pictures":
        known |= {"PIL"}  # extra `images`
    return [f"{name} imports {other}" for other in imports(source) if other.split(".")[0] not in known]


def of_test_files(name: str, source: str) -> list[str]:
    """Imports from a test file: what two of them share lies in tests/support."""
    return [
        f"{name} imports {other}: what tests share lies in tests/support"
        for other in imports(source)
        if other.startswith(("tests.test_", "test_"))
    ]


def too_long(name: str, source: str) -> list[str]:
    """A file that is not read in one sitting, and functions that do not fit a screen."""
    complaints = []
    if len(source.splitlines()) > LINES_OF_A_FILE:
        complaints.append(f"{name} has {len(source.splitlines())} lines, more than {LINES_OF_A_FILE}")
    for function, lines in functions(name, source).items():
        if lines > LONG.get(function, LINES_OF_A_FUNCTION):
            complaints.append(f"{function} has {lines} lines, more than {LONG.get(function, LINES_OF_A_FUNCTION)}")
    return complaints


def functions(name: str, source: str) -> dict[str, int]:
    """The lines of each function and method, its docstring not counted."""
    counts = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            path = f"{prefix}.{child.name}" if hasattr(child, "name") and isinstance(child, ast.stmt) else prefix
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                text = child.body[0] if ast.get_docstring(child) is not None else None
                docstring = text.end_lineno - text.lineno + 1 if text else 0
                counts[path] = child.end_lineno - child.lineno + 1 - docstring
            visit(child, path)

    visit(ast.parse(source), name)
    return counts


def undocumented(members: Iterable[tuple[str, Any]]) -> list[str]:
    """Public functions, classes and methods without a docstring; a method may inherit it from the one it overrides."""
    missing = []
    for name, member in members:
        if (inspect.isclass(member) or inspect.isfunction(member)) and not member.__doc__:
            missing.append(name)
        if inspect.isclass(member):
            missing += [
                f"{name}.{method}"
                for method, function in vars(member).items()
                if inspect.isfunction(function)
                and not method.startswith("_")
                and not any(getattr(vars(base).get(method), "__doc__", None) for base in member.__mro__)
            ]
    return missing
