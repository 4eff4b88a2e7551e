"""Test metrics of a trained run, the classes that it sees in pictures or series, or the run as a SavedModel."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from parts import command_line

if TYPE_CHECKING:
    from loops.run.runs import Run
    from tfcore.module import Module

LOOKS = "test.json"  # in the run folder of a recipe that holds its test split back
EXAMPLES = """\
  python scripts/evaluate.py runs/inn_cifar10
  python scripts/evaluate.py runs/inn_cifar10 --checkpoint last --data ~/data
  python scripts/evaluate.py runs/inn_cifar10_best --split validation --tta mirror
  python scripts/evaluate.py runs/inn_cifar10 --predict cat.png dog.jpg --top 3
  python scripts/evaluate.py runs/transformer_forda --predict engine.tsv     a class for each line
  python scripts/evaluate.py runs/inn_cifar10 --export served/inn             tf.saved_model.load("served/inn")(images)
"""


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder of a training")
    parser.add_argument("--data", metavar="auto|sample|DIR", help="other data than the run was trained on")
    parser.add_argument(
        "--checkpoint", choices=("best", "last"), default="best", help="the best epoch's weights or the last's"
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="which to evaluate (default test). A recipe with hold_test=true left its test split unseen: each look at "
        "it is written into RUN/test.json",
    )
    parser.add_argument(
        "--tta",
        choices=("mirror", "shift"),
        help="test-time augmentation: the mean over an image and its mirror image, or over both in three places",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--predict",
        metavar="FILE",
        type=Path,
        nargs="+",
        help="name the classes of these pictures (as a viewer shows them; what is transparent, on white; by Pillow), "
        "or of the series in these files (one a line, with or without a label in front)",
    )
    instead.add_argument(
        "--export",
        metavar="DIR",
        type=Path,
        help="write a SavedModel that needs none of this code: uint8 images (B, H, W, 3) or float32 series (B, T, 1) "
        "in, probabilities (B, classes) out; classes.json beside it names the classes",
    )
    parser.add_argument("--top", metavar="K", type=int, default=5, help="how many classes each one gets (default 5)")
    return parser


def main(arguments) -> int:
    from loops.run import checkpoint
    from loops.run.restore import restored_model
    from loops.run.runs import Run

    if arguments.top < 1:
        raise ValueError(f"--top must be at least 1, got {arguments.top}")
    if (arguments.tta or arguments.split == "validation") and (arguments.predict or arguments.export):
        raise ValueError("--split and --tta are for metrics: leave them out with --predict or --export")
    run = Run.open(arguments.run)
    run.class_names()  # refuses a run that never began, before its missing weights do
    path = run.best
    if arguments.checkpoint == "last":
        path, _, _, complaints = checkpoint.newest_intact(run.checkpoints)
        for complaint in complaints:
            print(f"passed over: {complaint}", file=sys.stderr)
    model = restored_model(run, path)
    code = 0
    result: object
    if arguments.export:
        result = exported(run, model, arguments.export, path)
    elif arguments.predict:
        result, code = predicted(run, model, arguments.predict, arguments.top)
    else:
        result = evaluated(run, model, arguments, path)
    command_line.write_json(arguments.json, result)
    return code


def exported(run: "Run", model: "Module", folder: Path, path: Path) -> dict:
    """Write the SavedModel; return and print what goes in and what comes out."""
    from loops.export import CLASSES, export

    sizes, class_names = run.sizes(), run.class_names()
    name = export(model, folder, sizes=sizes, class_names=class_names, pixel_scale=run.recipe.pixel_scale)
    shape, dtype = ["B", *sizes.input_shape], sizes.input_dtype.name
    print(f"{folder}: {run.recipe.name}, {path.name}, as a SavedModel")
    print(f"{name} ({', '.join(map(str, shape))}) {dtype} -> probabilities (B, {len(class_names)}) float32")
    print(f"the names of the classes are in {folder / CLASSES}")
    return {"export": str(folder), "input": {"name": name, "shape": shape, "dtype": dtype}}


def predicted(run: "Run", model: "Module", files: list[Path], top: int) -> tuple[list[dict], int]:
    """Name and print the classes of each file, of which a bad one keeps no other from its own; also the exit code."""
    from loops.data.dataset import DataError
    from loops.evaluation import predict
    from parts.inputs import inputs_of

    recipe, class_names = run.recipe, run.class_names()
    result, code = [], 0
    for file in files:
        try:
            names, inputs = inputs_of(recipe, run.sizes().input_shape[0], class_names, file)
        except DataError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            code = command_line.WRONG_INPUT
            continue
        found = predict(model, inputs, batch_size=recipe.batch_size, pixel_scale=recipe.pixel_scale)
        for name, probabilities in zip(names, found, strict=True):
            best = probabilities.argsort()[::-1][:top]
            classes = {class_names[i]: float(probabilities[i]) for i in best}
            words = ", ".join(f"{name} {100 * p:.1f} %" for name, p in classes.items())
            print(f"{':'.join(map(str, name.values()))}: {words}", flush=True)
            result.append({**name, "classes": classes})
    return result, code


def evaluated(run: "Run", model: "Module", arguments, path: Path) -> dict[str, float]:
    """Compute and print the metrics of a split, on the run's data or those of `--data`.

    Raises:
        ValueError: if the data are not of the kind that the run was trained on; for a validation split that is none.
    """
    from loops import data
    from loops.evaluation import evaluate
    from loops.learner import splits
    from loops.views import MeanOfViews

    recipe, which = run.recipe, arguments.split
    if which == "validation" and not recipe.validation:
        raise ValueError(f"{run.folder}: its recipe holds no validation share out (validation=0): leave --split out")
    dataset = data.of_recipe(recipe if arguments.data is None else recipe.changed([("data", arguments.data)]))
    run.check_data(dataset)
    split = dataset.test if which == "test" else splits(recipe, dataset)[1]
    look = {"checkpoint": path.name, "tta": arguments.tta}
    if which == "test" and recipe.hold_test:
        write_down(run, look)  # before the look: what cannot be written is not seen
    result = evaluate(
        model if arguments.tta is None else MeanOfViews(model, arguments.tta),
        split,
        classes=len(dataset.class_names),
        batch_size=recipe.batch_size,
        penalty=lambda: recipe.penalty(model),
        pixel_scale=recipe.pixel_scale,
    )
    views = "" if arguments.tta is None else f", mean of views ({arguments.tta})"
    print(f"{recipe.name}, {path.name}{views}, {len(split):,} {which} examples of {dataset.source}")
    for name, value in result.items():
        print(f"{name:16}{value:.4f}")
    if which == "test" and recipe.hold_test:
        looks = run.read_json(LOOKS)["looks"]
        run.write_json(LOOKS, {"looks": [*looks[:-1], looks[-1] | result]})
    return result


def write_down(run: "Run", look: dict) -> None:
    """Add a look at the test split to the run's list, and say how many there have been."""
    from datetime import datetime

    looks = run.read_json(LOOKS)["looks"] if (run.folder / LOOKS).exists() else []
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    run.write_json(LOOKS, {"looks": [*looks, {"when": now, **look}]})
    before = (
        f"it was looked at {len(looks)} times before, first at {looks[0]['when']}" if looks else "for the first time"
    )
    print(f"the test split, {before}; written into {run.folder / LOOKS}")


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
