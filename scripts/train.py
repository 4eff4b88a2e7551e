"""Train a recipe into a run folder."""

import shlex
import sys
from pathlib import Path

import command_line

EXAMPLES = """\
  python scripts/train.py inn_cifar10 --data sample
  python scripts/train.py convnet_cifar10 --data ~/data --out runs/convnet --seed 1
  python scripts/train.py inn_cifar10 --out runs/wide --set kernel_size=5 --set reduction_ratio=1
  python scripts/train.py transformer_forda --data ~/ucr --set dataset=ECG200 --batch-size 16
  python scripts/train.py inn_cifar10 --resume                 go on after an interruption
  python scripts/train.py inn_cifar10 --resume --epochs 100    go on for longer
"""


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("recipe", metavar="RECIPE", help="name of the recipe, such as inn_cifar10 or convnet_cifar10")
    parser.add_argument(
        "--data",
        metavar="auto|sample|DIR",
        help="auto: the cache (~/.cache/tfcore or TFCORE_DATA), else a download; sample: made by the program; "
        "DIR: a folder with the official binary files, or with a UCR set's NAME_TRAIN.tsv and NAME_TEST.tsv",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="run folder (default: runs/RECIPE)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the run folder")
    parser.add_argument("--epochs", metavar="N")
    parser.add_argument("--batch-size", metavar="N")
    parser.add_argument("--seed", metavar="N", help="decides weights, order of the batches and dropout masks")
    parser.add_argument("--precision", metavar="NAME", help="float32, mixed_bfloat16 or mixed_float16")
    parser.add_argument(
        "--xla", metavar="on|off|auto", help="compile the steps; auto measures both and takes the faster"
    )
    parser.add_argument(
        "--set",
        metavar="FIELD=VALUE",
        type=command_line.setting,
        action="append",
        default=[],
        help="change any field of the recipe; may be given several times",
    )
    return parser


def main(arguments) -> int:
    from loops import data, recipes
    from loops.runs import Run
    from loops.train import Interrupted, prepare, train

    recipe = recipes.get(arguments.recipe)
    folder = arguments.out or Path("runs") / recipe.name
    options = ("data", "epochs", "batch_size", "seed", "precision", "xla")
    settings = [(name, getattr(arguments, name)) for name in options if getattr(arguments, name) is not None]
    settings += arguments.set
    if arguments.resume:
        run = Run.open(folder)
        if run.recipe.name != recipe.name:
            raise ValueError(f"{folder} holds a run of {run.recipe.name}, not of {recipe.name}: give its --out folder")
        changed = run.recipe.changed(settings)
        for field, value in changed.to_json().items():
            if field != "epochs" and value != run.recipe.to_json()[field]:
                raise ValueError(
                    f"--resume goes on with the run's own recipe, but {field} would change from "
                    f"{run.recipe.to_json()[field]} to {value}: leave it out, or start a new run by --out"
                )
        recipe = run.recipe = changed
        dataset = data.load(recipe.dataset, recipe.data, exchange=recipe.exchange_splits)
        run.write_json("recipe.json", recipe.to_json())
    else:
        recipe = recipe.changed(settings)
        Run.check_new(folder)  # before a download that may take minutes
        dataset = data.load(recipe.dataset, recipe.data, exchange=recipe.exchange_splits)
        prepare(recipe, dataset)  # what the model, the optimizer or the data refuse, they refuse here
        run = Run.create(folder, recipe)

    print(f"{recipe.name} on {dataset.source}: {len(dataset.train):,} train and {len(dataset.test):,} test examples")
    print(f"run folder {folder}", flush=True)
    try:
        summary = train(run, dataset, resume=arguments.resume, report=lambda line: print(line, flush=True))
    except Interrupted:
        command = ["python", "scripts/train.py", recipe.name, "--out", str(folder), "--resume"]
        print(f"\ninterrupted; everything is saved. Go on with:\n  {shlex.join(command)}", file=sys.stderr)
        return command_line.INTERRUPTED
    print(summary_table(summary))
    command_line.write_json(arguments.json, summary)
    return 0


def summary_table(summary: dict) -> str:
    """The final table: last and best epoch side by side."""
    last, best = summary["last"], summary["best"]
    lines = [
        f"\n{summary['recipe']}: {summary['parameters']:,} parameters, {summary['epochs']} epochs, "
        f"seed {summary['seed']}, {summary['seconds']:.0f} s",
        f"{'':12}{'last':>10}{'best':>10}",
        f"{'epoch':12}{last['epoch']:>10}{best['epoch']:>10}",
    ]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        lines.append(f"{name:12}{last[name]:>10.4f}{best[name]:>10.4f}")
    if "test" in summary:
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in summary["test"].items())
        lines.append(f"test split, weights of the best epoch: {metrics}")
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
