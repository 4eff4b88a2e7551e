"""The house's rules hold in every file, and each of them can fail. The rules themselves: tests/support/house.py."""

import itertools
from types import ModuleType

import pytest

import loops
import parts
import tfcore
from tests.support import house
from tests.support.house import FILES, ORDER
from tests.support.public import public

pytestmark = pytest.mark.quick
RULES = (house.out_of_order, house.keras_in, house.foreign, house.of_test_files, house.too_long)


@pytest.mark.parametrize("name", FILES)
def test_every_rule_holds(name):
    source = FILES[name].read_text()
    assert list(itertools.chain.from_iterable(rule(name, source) for rule in RULES)) == []


# A rule, a module, and a text that it must refuse there.
RED = [
    # A floor, a room or a single module that imports from above it.
    (house.out_of_order, "tfcore.random", "import loops"),
    (house.out_of_order, "loops.run.runs", "from parts import command_line"),
    (house.out_of_order, "scripts.train", "from tests.catalog import ENTRIES"),
    (house.out_of_order, "tfcore.module", "from tfcore.models.inn import Inn"),
    (house.out_of_order, "tfcore.random", "from tfcore import initializers"),
    (house.out_of_order, "tfcore.ops.pooling", "from tfcore.inspect.hlo import parser"),
    (house.out_of_order, "tfcore.ops.pooling", "from tfcore.layers.dense import Dense"),
    (house.out_of_order, "tfcore.layers.dense", "from tfcore.optimizers import optimizer"),
    (house.out_of_order, "tfcore.optimizers.optimizer", "import tfcore.inspect.graph.dtypes as dtypes"),
    (house.out_of_order, "tfcore.inspect.hlo.cost", "from tfcore.inspect.graph import calls"),
    (house.out_of_order, "tfcore.inspect.hlo.cost", "from tfcore.inspect.profile import roofline"),
    (house.out_of_order, "tfcore.inspect.profile.timing", "def f():\n    from tfcore.inspect.pages import page"),
    (house.out_of_order, "tfcore.inspect.audit.causes", "from tfcore.inspect.numerics import nonfinite"),
    (house.out_of_order, "tfcore.inspect.numerics.nonfinite", "from tfcore.inspect.audit import audit"),
    (house.out_of_order, "tfcore.inspect.pages.page", "from tfcore.models import inn"),
    (house.out_of_order, "tfcore.inspect.figures.figures", "from tfcore.models import inn"),
    (house.out_of_order, "loops.data.pipeline", "from loops.recipes import recipe"),
    (house.out_of_order, "loops.recipes.inn", "from loops.run import runs"),
    (house.out_of_order, "loops.devices.feed", "from loops.run.runs import Run"),
    (house.out_of_order, "loops.steps", "from loops.train import train"),
    (house.out_of_order, "loops.run.runs", "from loops.studies import study"),
    (house.out_of_order, "loops.health.numerics", "from loops.health import debugging"),
    (house.out_of_order, "loops.learner", "from loops import train"),
    (house.out_of_order, "scripts.parts.drawings", "import visualize"),
    (house.out_of_order, "scripts.train", "from evaluate import main"),
    (house.out_of_order, "loops.train", "from . import steps"),
    (house.out_of_order, "tfcore.pictures", ""),  # a module that nobody gave a place
    (house.out_of_order, "tfcore.inspect", "from tfcore.inspect.hlo import parser"),
    (house.keras_in, "tfcore.ops.pooling", "import keras"),
    (house.keras_in, "scripts.benchmark", "from keras.layers import Dense"),
    (house.keras_in, "loops.steps", "import tensorflow as tf\n\ntf.keras.layers.Dense(3)"),
    (house.foreign, "loops.steps", "import scipy"),
    (house.foreign, "tfcore.inspect.pages.page", "from matplotlib.figure import Figure"),
    (house.of_test_files, "tests.test_layers", "from tests.test_train import DATASET"),
    (house.of_test_files, "tests.support.tiny", "from tests import test_train"),
    (house.too_long, "loops.steps", "x = 1\n" * 331),
    (house.too_long, "loops.steps", "class A:\n    def f(self):\n" + "        x = 1\n" * 60),
    (house.too_long, "scripts.train", "def main():\n" + "    x = 1\n" * 69),
]


@pytest.mark.parametrize(("rule", "name", "source"), RED)
def test_every_rule_can_fail(rule, name, source):
    assert len(rule(name, source)) == 1


def test_no_modules_import_each_other_in_a_circle():
    sources = {name: path.read_text() for name, path in FILES.items()}
    assert house.circle(sources) == []
    sources["tfcore.module"] += "\n\ndef f():\n    from tfcore.layers.dense import Dense"
    assert {"tfcore.module", "tfcore.layers.dense"} <= set(house.circle(sources))


def test_every_place_is_there():
    """What has moved away leaves no rule behind that holds for nothing."""
    for place in itertools.chain(*ORDER, house.FACES, (house.PICTURES,)):
        assert any(name == place or name.startswith(place + ".") for name in FILES), place
    functions = {}
    for name, path in FILES.items():
        functions |= house.functions(name, path.read_text())
    short = [name for name in house.LONG if functions.get(name, 0) <= house.LINES_OF_A_FUNCTION]
    assert short == [], "these fit a screen, or are gone: take them out of LONG in tests/support/house.py"


@pytest.mark.parametrize("package", [tfcore, loops, parts], ids=lambda package: package.__name__)
def test_everything_public_has_a_docstring(package):
    assert house.undocumented(public(package)) == []


def test_what_has_no_docstring_is_named():
    module = ModuleType("made_up")
    exec(
        '''
class Documented:
    """Says what it is."""
    def method(self): "What it does."
    def _private(self): pass
class Heir(Documented):
    """Says what it is."""
    def method(self): pass
    def bare(self): pass
class Bare: pass
def function(): pass
''',
        vars(module),
    )
    members = [(name, member) for name, member in vars(module).items() if not name.startswith("_")]
    assert house.undocumented(members) == ["Heir.bare", "Bare", "function"]


def test_every_package_is_gone_through():
    names = {name.rpartition(".")[0] for package in (tfcore, loops, parts) for name, _ in public(package)}
    silent = {name for name in FILES if name.startswith(("tfcore", "loops", "scripts.parts"))} - {
        f"scripts.{name}" if name.startswith("parts") else name for name in names
    }
    for name in silent:  # which define nothing public: faces, and modules of private things alone
        source = FILES[name].read_text()
        assert not [line for line in source.splitlines() if line.startswith(("def ", "class ")) and line[4] != "_"]
