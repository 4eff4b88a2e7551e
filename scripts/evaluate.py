"""Test metrics of a trained run, the classes that it sees in pictures or series, or the run as a SavedModel."""

import sys
from pathlib import Path

from parts import command_line

EXAMPLES = """\
  python scripts/evaluate.py runs/inn_cifar10
  python scripts/evaluate.py runs/inn_cifar10 --checkpoint last --data ~/data
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
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--predict",
        metavar="FILE",
        type=Path,
        nargs="+",
        help="name the classes of these pictures, or of the series in these .tsv files (one a line, with or without "
        "a label in front)",
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
    import numpy as np

    from loops import data
    from loops.data import ucr
    from loops.data.cifar import LAYOUTS
    from loops.data.dataset import IMAGE_SIZE
    from loops.evaluation import evaluate, predict, read_images
    from loops.export import CLASSES, export
    from loops.run import checkpoint
    from loops.run.restore import restored_model
    from loops.run.runs import Run

    if arguments.top < 1:
        raise ValueError(f"--top must be at least 1, got {arguments.top}")
    run = Run.open(arguments.run)
    class_names = run.class_names()
    path = run.best
    if arguments.checkpoint == "last":
        path, _, _, complaints = checkpoint.newest_intact(run.checkpoints)
        for complaint in complaints:
            print(f"passed over: {complaint}", file=sys.stderr)
    model = restored_model(run, path)
    recipe = run.recipe

    if arguments.export:
        name = export(
            model, arguments.export, sizes=run.sizes(), class_names=class_names, pixel_scale=recipe.pixel_scale
        )
        shape, dtype = ["B", *run.sizes().input_shape], run.sizes().input_dtype.name
        result = {"export": str(arguments.export), "input": {"name": name, "shape": shape, "dtype": dtype}}
        print(f"{arguments.export}: {recipe.name}, {path.name}, as a SavedModel")
        print(f"{name} ({', '.join(map(str, shape))}) {dtype} -> probabilities (B, {len(class_names)}) float32")
        print(f"the names of the classes are in {arguments.export / CLASSES}")
    elif arguments.predict:
        if recipe.dataset in LAYOUTS:
            names = [{"image": str(path)} for path in arguments.predict]
            inputs = read_images(arguments.predict, IMAGE_SIZE)
        else:
            length = run.sizes().input_shape[0]
            files = {path: ucr.read_series(path, length=length) for path in arguments.predict}
            names = [{"file": str(path), "line": i + 1} for path, found in files.items() for i in range(len(found))]
            inputs = np.concatenate(list(files.values()))
        result = []
        probabilities_of = predict(model, inputs, batch_size=recipe.batch_size, pixel_scale=recipe.pixel_scale)
        for name, probabilities in zip(names, probabilities_of, strict=True):
            best = probabilities.argsort()[::-1][: arguments.top]
            classes = {class_names[i]: float(probabilities[i]) for i in best}
            words = ", ".join(f"{name} {100 * p:.1f} %" for name, p in classes.items())
            print(f"{':'.join(map(str, name.values()))}: {words}")
            result.append({**name, "classes": classes})
    else:
        dataset = data.load(recipe.dataset, arguments.data or recipe.data, exchange=recipe.exchange_splits)
        result = evaluate(
            model,
            dataset.test,
            classes=len(class_names),
            batch_size=recipe.batch_size,
            penalty=lambda: recipe.penalty(model),
            pixel_scale=recipe.pixel_scale,
        )
        print(f"{run.recipe.name}, {path.name}, {len(dataset.test):,} test examples of {dataset.source}")
        for name, value in result.items():
            print(f"{name:16}{value:.4f}")
    command_line.write_json(arguments.json, result)
    return 0


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
