"""What `inspect_kernels.py` takes apart: recipes, programs compiled elsewhere, functions of others."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfcore.inspect.profile.step_profile import StepProfile

TURNS = 9  # of each form in a comparison


@dataclasses.dataclass(frozen=True)
class Subject:
    """A program taken apart: `about` names it, `forms` stand side by side, `note` is what else is to be said."""

    about: str
    profile: "StepProfile"
    forms: Sequence = ()
    note: str = ""


def find(what: str, arguments, extra=()) -> Callable[[], Subject]:
    """Return what takes WHAT apart, when it is called; `extra`: settings of a recipe.

    Raises:
        ValueError: for what is none of the things that can be taken apart.
    """
    from loops import recipes

    if what in recipes.RECIPES:
        if arguments.module or arguments.args:
            raise ValueError(f"{what} is a recipe: --module is for files and folders, --args for functions")
        return _recipe(what, arguments, extra)
    if arguments.compare or arguments.set or arguments.precision is not None or arguments.xla == "off":
        raise ValueError(f"{what} is no recipe: --compare, --set, --precision and --xla off are for recipes")
    path = Path(what)
    if path.exists():
        return lambda: _program(path, arguments)
    if ":" in what:
        return lambda: _function(what, arguments)
    if "/" in what or "." in what:
        raise ValueError(f"{what}: no such file or folder, and no MODULE:FUNCTION")
    recipes.get(what)  # raises, with the recipe that was meant
    raise ValueError(f"{what}: no recipe, file, folder or MODULE:FUNCTION")


def find_other(arguments) -> Callable:
    """Return what gives the other side of --against: a WHAT, a saved --json, or of a recipe a setting."""
    from loops import recipes
    from tfcore.inspect.profile.differences import Side

    text = arguments.against
    path = Path(text)
    if path.is_file() and (saved := Side.of_json(path)) is not None:
        return lambda: saved
    if arguments.what in recipes.RECIPES and text not in recipes.RECIPES and not path.exists() and ":" not in text:
        setting = formulation(recipes.get(arguments.what), text)
        subject = find(arguments.what, arguments, [setting])
        return lambda: Side.of_profile("=".join(setting), subject().profile)
    subject = find(text, arguments)

    def side() -> Side:
        found = subject()
        return Side.of_profile(found.about, found.profile)

    return side


def _recipe(name: str, arguments, extra) -> Callable:
    from loops import recipes
    from loops.made_up import made_up_dataset, made_up_step
    from tfcore.inspect.profile.comparison import Form, take_turns
    from tfcore.inspect.profile.compiler import inspect_step
    from tfcore.inspect.profile.step_profile import profile_graph, profile_step

    settings = list(arguments.set)
    for field in ("batch_size", "precision"):
        if getattr(arguments, field) is not None:
            settings.append((field, getattr(arguments, field)))
    recipe = recipes.get(name).changed([*settings, *extra])
    rivals = [] if extra else [formulation(recipe, text) for text in arguments.compare]
    compiled = arguments.xla == "on"

    def build(*setting):
        changed = recipe.changed(setting)
        return made_up_step(changed, made_up_dataset(changed), kind=arguments.step, xla=compiled)[:2]

    step, inputs = build()
    built = [build(setting) for setting in rivals]  # now: a wrong setting is refused before anything is compiled

    def profiled():
        profile = (profile_step if compiled else profile_graph)(step, *inputs, steps=arguments.steps)
        about = f"{recipe.name}, {arguments.step} step, batch {recipe.batch_size}, {recipe.precision}"
        about += ", compiled by XLA" if compiled else ", graph mode"
        if not rivals:
            return Subject(about, profile)
        own = profile.report if profile.report is not None else inspect_step(step, *inputs)
        reports = [own, *(inspect_step(function, *values) for function, values in built)]
        times: list[tuple[float, ...]] = [()] * len(reports)
        if arguments.steps:
            runs = [lambda f=function, v=values: f(*v).numpy() for function, values in [(step, inputs), *built]]
            times = take_turns(runs, TURNS)
        labels = ["the recipe's own", *("=".join(setting) for setting in rivals)]
        return Subject(about, profile, [Form(*parts) for parts in zip(labels, reports, times, strict=True)])

    return profiled


def formulation(recipe, text: str) -> tuple[str, str]:
    """Return the field and the value that `--compare` means: FIELD=VALUE, a variant's value, or a `formulation`."""
    from parts import command_line

    if "=" in text:
        field, _, value = text.partition("=")
        return field, value
    variants = [command_line.setting(extra) for variant in recipe.variants for extra in variant]
    return next((setting for setting in variants if setting[1] == text), ("formulation", text))


def _program(path: Path, arguments):
    from tfcore.inspect.profile.functions import load_saved_model
    from tfcore.inspect.profile.programs import choose, find_programs, program_profile

    if path.is_dir() and (path / "saved_model.pb").is_file():
        return _profiled(load_saved_model(path, arguments.args, batch=_batch(arguments)), arguments)
    if arguments.args:
        raise ValueError(f"{path} is compiled already: --args is for functions and SavedModels")
    programs = find_programs(path)
    program = choose(programs, arguments.module)
    note = ""
    others = [other.name for other in programs if other is not program]
    if others:
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        note = f"other modules (--module NAME): {', '.join(others[:8])}{more}"
    about = f"{path.name or path.absolute().name}, module {program.name}"
    return Subject(about, program_profile(program), note=note)


def _function(what: str, arguments):
    from tfcore.inspect.profile.functions import load_function

    return _profiled(load_function(what, arguments.args, batch=_batch(arguments)), arguments)


def _profiled(loaded, arguments):
    from tfcore.inspect.profile.step_profile import profile_step

    function, values, about = loaded
    tensors = [value for value in values if hasattr(value, "shape")]
    kinds = ", ".join(f"{value.dtype.name}[{','.join(map(str, value.shape))}]" for value in tensors)
    return Subject(f"{about}, of ({kinds}), compiled by XLA", profile_step(function, *values, steps=arguments.steps))


def _batch(arguments) -> int:
    try:
        batch = int(arguments.batch_size or 1)
    except ValueError:
        batch = 0
    if batch < 1:
        raise ValueError(f"--batch-size must be a number of at least 1, got {arguments.batch_size}")
    return batch
