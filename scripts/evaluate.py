"""Test metrics of a trained run, or the classes that it sees in pictures."""

from pathlib import Path

import command_line

EXAMPLES = """\
  python scripts/evaluate.py runs/inn_cifar10
  python scripts/evaluate.py runs/inn_cifar10 --checkpoint last --data ~/data
  python scripts/evaluate.py runs/inn_cifar10 --predict cat.png dog.jpg --top 3
"""


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder of a training")
    parser.add_argument("--data", metavar="auto|sample|DIR", help="other data than the run was trained on")
    parser.add_argument(
        "--checkpoint", choices=("best", "last"), default="best", help="the best epoch's weights or the last's"
    )
    parser.add_argument("--predict", metavar="IMAGE", type=Path, nargs="+", help="name the classes of these pictures")
    parser.add_argument("--top", metavar="K", type=int, default=5, help="how many classes a picture gets (default 5)")
    return parser


def main(arguments) -> int:
    from loops import checkpoint, data
    from loops.data.dataset import IMAGE_SIZE
    from loops.evaluation import evaluate, predict, read_images
    from loops.restore import restored_model
    from loops.runs import Run

    if arguments.top < 1:
        raise ValueError(f"--top must be at least 1, got {arguments.top}")
    run = Run.open(arguments.run)
    class_names = run.class_names()
    path = run.best if arguments.checkpoint == "best" else checkpoint.newest_intact(run.checkpoints)[0]
    model = restored_model(run, len(class_names), path)

    if arguments.predict:
        images = read_images(arguments.predict, IMAGE_SIZE)
        probabilities_of = predict(model, images, pixel_scale=run.recipe.pixel_scale)
        result = []
        for picture, probabilities in zip(arguments.predict, probabilities_of, strict=True):
            best = probabilities.argsort()[::-1][: arguments.top]
            classes = {class_names[i]: float(probabilities[i]) for i in best}
            print(f"{picture}: " + ", ".join(f"{name} {100 * p:.1f} %" for name, p in classes.items()))
            result.append({"image": str(picture), "classes": classes})
    else:
        dataset = data.load(run.recipe.dataset, arguments.data or run.recipe.data)
        result = evaluate(model, dataset.test, batch_size=run.recipe.batch_size, pixel_scale=run.recipe.pixel_scale)
        print(f"{run.recipe.name}, {path.name}, {len(dataset.test):,} test examples of {dataset.source}")
        for name, value in result.items():
            print(f"{name:16}{value:.4f}")
    command_line.write_json(arguments.json, result)
    return 0


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
