"""Draw and print what runs and recipes are made of: images, learning curves, parameters, and what a model looks at.

Involution networks have kernels; vision transformers and Perceivers have patches, attention and positions. Those are
shown for the first images of the test split.

A run is shown with the weights of its best epoch, a recipe with fresh ones. Pictures go to the run's figures folder
(a recipe's to runs/RECIPE-figures) or to --out; of several runs, each to a folder of its own below --out, and their
curves side by side into one picture.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from parts import command_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from loops.recipes.recipe import Recipe
    from loops.run.runs import Run

EXAMPLES = """\
  python scripts/visualize.py runs/inn_cifar10
  python scripts/visualize.py runs/inn_cifar10 runs/convnet_cifar10 --what curves --out figures
  python scripts/visualize.py inn_cifar10 convnet_cifar10 --what parameters
  python scripts/visualize.py inn_cifar10 --data sample --what kernels      the weights before training
  python scripts/visualize.py runs/vit_cifar100 --what attention            attention.png and rollout.png
"""
CHOICES = ("samples", "curves", "parameters", "kernels", "patches", "attention", "positions", "all")


class Subject(NamedTuple):
    """What to show: a run, or (run None) a recipe with fresh weights, and where its pictures go."""

    label: str
    recipe: "Recipe"
    run: "Run | None"
    figures: Path


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument(
        "subjects",
        metavar="RUN|RECIPE",
        nargs="+",
        help="a run folder, or the name of a recipe (write ./NAME for a run folder with the name of a recipe)",
    )
    parser.add_argument("--what", choices=CHOICES, default="all", help="all (default): whatever there is to show")
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder of the pictures")
    parser.add_argument("--data", metavar="auto|sample|DIR", help="data to show instead of the recipe's, see train.py")
    return parser


def main(arguments) -> int:
    chosen = subjects(arguments)
    figures: list[str] = []
    parameters = print_parameters(chosen) if arguments.what in ("parameters", "all") else {}
    for path, figure in pictures(chosen, arguments):
        command_line.save_figure(figure, path)
        print(path, flush=True)
        figures.append(str(path))
    command_line.write_json(arguments.json, {"figures": figures, "parameters": parameters})
    return 0


def subjects(arguments) -> list[Subject]:
    """Find the runs and recipes that the command line names."""
    from loops import recipes
    from loops.recipes.recipe import nearest
    from loops.run.runs import Run

    runs: dict[str, Run] = {}
    for text in arguments.subjects:
        if text in recipes.RECIPES:
            continue
        if not Path(text).exists():
            raise ValueError(f"{text}: neither a run folder nor a recipe{nearest(text, recipes.RECIPES)}")
        runs[text] = Run.open(Path(text))
    # Runs are told apart by their paths below the deepest folder that holds them all: mostly just by their names.
    places = {text: run.folder.resolve() for text, run in runs.items()}
    above = os.path.commonpath([place.parent for place in places.values()]) if places else ""

    found: list[Subject] = []
    for text in arguments.subjects:
        if text in runs:
            label, recipe, figures = os.path.relpath(places[text], above), runs[text].recipe, Path(text) / "figures"
        else:
            label, recipe, figures = f"{text}-fresh", recipes.get(text), Path("runs") / f"{text}-figures"
        if label in [subject.label for subject in found]:
            raise ValueError(f"{text} is named twice: name each run and recipe once")
        if arguments.data is not None:
            recipe = recipe.changed([("data", arguments.data)])
        if arguments.out is not None:
            figures = arguments.out / label if len(arguments.subjects) > 1 else arguments.out
        found.append(Subject(label, recipe, runs.get(text), figures))
    return found


def print_parameters(chosen: list[Subject]) -> dict[str, dict[str, int]]:
    """Print the parameter tables; return label -> their sums."""
    from loops.run.restore import fresh_model, sizes_of
    from tfcore.inspect.pages.parameters import count_parameters, parameter_table

    sums = {}
    for subject in chosen:
        model = fresh_model(subject.recipe, sizes_of(subject.recipe, subject.run))
        prefix = "" if subject.run is None else f"{subject.label}: "
        print(f"{prefix}{subject.recipe.name}\n\n{parameter_table(model)}\n", flush=True)
        total, trained = count_parameters(model)
        sums[subject.label] = {"total": total, "trained": trained}
    return sums


def pictures(chosen: list[Subject], arguments) -> Iterator[tuple[Path, "Figure"]]:
    """Yield (path, picture) of all that is wanted, one after the other."""
    what = arguments.what
    if what == "parameters":
        return  # needs neither matplotlib nor data
    command_line.need_matplotlib()
    from loops import data
    from parts import drawings

    if what in ("curves", "all"):
        # `all` leaves out what cannot be; asked for by name, it is an error.
        runs = [subject for subject in chosen if subject.run is not None or what == "curves"]
        if runs:
            name = "curves.png" if len(runs) == 1 else "curves-side-by-side.png"
            yield (arguments.out or runs[0].figures) / name, curves(runs)
    load = cache(data.load)  # several runs mostly share their data
    for subject in chosen if what != "curves" else ():
        shown = drawings.Shown(subject.label, subject.recipe, subject.run, load)
        if what in ("samples", "all"):
            yield subject.figures / "samples.png", drawings.samples(shown)
        if what != "samples":
            for name, draw in drawings.of_model(shown, what):
                yield subject.figures / f"{name}.png", draw(shown)


def curves(runs: list[Subject]) -> "Figure":
    """The learning curves of all runs in one picture, the published ones behind them where there are any."""
    from loops.recipes.published import published_runs
    from tfcore.inspect.figures import figures

    histories, published = {}, {}
    for subject in runs:
        if subject.run is None:
            raise ValueError(f"{subject.recipe.name} is a recipe and has no curves: train it, then name its run folder")
        histories[subject.label] = subject.run.read_history()
        if not histories[subject.label]:
            raise ValueError(f"{subject.label}: no epoch has ended, so there are no curves yet: go on by --resume")
        for candidate in published_runs(subject.recipe)[:1]:
            published[subject.label] = candidate.history()
    return figures.curves(histories, published=published)


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
