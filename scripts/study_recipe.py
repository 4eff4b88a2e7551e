"""Train a recipe and changed ones of it, and show what each change is worth on the validation split.

Each --change is a row of its own: the recipe with these fields changed, all else as it was. So what was tried can be
written down, and each ingredient taken away once. The test split is never looked at. Every run is an ordinary run
folder, OUT/ROW/seed-N; stopped, the same command goes on where it was.
"""

import itertools
import shlex
import sys
from pathlib import Path

from parts import command_line

EXAMPLES = """\
  python scripts/study_recipe.py inn_cifar10 --data sample --epochs 2 --change group_order=block --change optimizer=sgd
  python scripts/study_recipe.py convnet_cifar10 --data DIR --change mirror=true crop_padding=4 --seeds 2
"""
BASE = "unchanged"


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe")
    parser.add_argument(
        "--change",
        metavar="FIELD=VALUE",
        type=command_line.setting,
        action="append",
        nargs="+",
        default=[],
        help="a row: these fields changed; may be given several times",
    )
    parser.add_argument(
        "--set", metavar="FIELD=VALUE", type=command_line.setting, action="append", default=[], help="of all rows"
    )
    parser.add_argument("--data", metavar="auto|sample|DIR", default="auto", help="see train.py (default: auto)")
    parser.add_argument("--epochs", metavar="N", help="of every run, its schedule too (default: the recipe's)")
    parser.add_argument("--seeds", metavar="N", type=int, default=1, help="seeds 0 to N - 1 (default 1)")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/study_recipe"), help="study folder")
    parser.add_argument(
        "--markdown", metavar="FILE", type=command_line.writable_file, help="write the table there, too"
    )
    return parser


def main(arguments) -> int:
    from loops import recipes
    from loops.studies import study
    from loops.studies.changes import entries_of, table_of
    from loops.train import Interrupted

    if arguments.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {arguments.seeds}")
    if "seed" in dict(itertools.chain(arguments.set, *arguments.change)):
        raise ValueError("seed: the seeds 0, 1, … are trained: say how many by --seeds")
    settings = [("data", arguments.data), *arguments.set]
    settings += [("epochs", arguments.epochs)] if arguments.epochs is not None else []
    base = recipes.get(arguments.recipe).changed(settings)
    if not base.validation:
        base = base.changed([("validation", "0.1")])
    base = base.changed([("hold_test", "true")])
    rows = {BASE: base}
    for change in arguments.change:
        rows[",".join("=".join(pair) for pair in change)] = base.changed(change)
    runs = study.plan(arguments.out, rows, range(arguments.seeds))
    try:
        study.run_all(arguments.out, runs, report=lambda line: print(line, flush=True))
    except Interrupted as stop:
        command = shlex.join(["python", "scripts/study_recipe.py", *sys.argv[1:]])
        print(f"\ninterrupted; everything is saved. Go on with:\n  {command}", file=sys.stderr)
        return command_line.stop_code(stop)
    entries = entries_of(study.results(runs))
    text = table_of(entries)
    print(f"\n{arguments.recipe}, {base.epochs} epochs, validation on {base.validation:g} of the train split\n\n{text}")
    if arguments.markdown is not None:
        command_line.write_text(arguments.markdown, text)
    command_line.write_json(arguments.json, entries)
    return 0


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
