"""Train recipes for series on sets of the UCR archive, several seeds each, beside a 1-nearest-neighbour baseline.

Every run is an ordinary run folder, OUT/SET/RECIPE/seed-N; stopped, the same command goes on where it was. The table
shows the test accuracy of the epoch that the recipe's `monitor` chose.
"""

import shlex
import sys
from pathlib import Path

from parts import command_line

EXAMPLES = """\
  python scripts/study_series.py FordA --data sample --recipes transformer_forda mlp_forda --seeds 2
  python scripts/study_series.py FordA_part --exchange --data ~/ucr --recipes mlp_forda transformer_forda_mended
  python scripts/study_series.py FordA_part --exchange --data ~/ucr --recipes transformer_forda \\
      --set constant_branches=skip
  python scripts/study_series.py ECG200 GunPoint --data ~/ucr --recipes transformer_forda_mended
"""
# Fields that say which data and which runs a row is of: not to be set behind the table's back.
ELSEWHERE = {
    "dataset": "name the sets",
    "data": "say it by --data",
    "exchange_splits": "say it by --exchange",
    "seed": "the seeds 0, 1, … are trained: say how many by --seeds",
}
DEFAULT = ("transformer_forda", "mlp_forda", "transformer_forda_mended")
ORDER = 20  # coefficients of the second baseline


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("sets", metavar="SET", nargs="+", help="names of UCR sets, such as FordA or ECG200")
    parser.add_argument("--data", metavar="auto|sample|DIR", default="auto", help="see train.py (default: auto)")
    parser.add_argument("--exchange", action="store_true", help="train on the test split, test on the train split")
    parser.add_argument(
        "--recipes", metavar="RECIPE", nargs="+", default=list(DEFAULT), help=f"default: {' '.join(DEFAULT)}"
    )
    parser.add_argument(
        "--set", metavar="FIELD=VALUE", type=command_line.setting, action="append", default=[], help="see train.py"
    )
    parser.add_argument("--seeds", metavar="N", type=int, default=5, help="seeds 0 to N - 1 (default 5)")
    parser.add_argument("--epochs", metavar="N", help="other than the recipes'")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/study_series"), help="study folder")
    return parser


def main(arguments) -> int:
    from loops import data
    from loops.studies import study
    from loops.studies.baselines import autoregressive_ridge, nearest_neighbour
    from loops.train import Interrupted

    if arguments.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {arguments.seeds}")
    for field, _ in arguments.set:
        if field in ELSEWHERE:
            raise ValueError(f"--set {field}: {ELSEWHERE[field]}")
    rows = planned_rows(arguments)
    folder = arguments.out
    runs = study.plan(folder, rows, range(arguments.seeds))
    try:
        study.run_all(folder, runs, report=lambda line: print(line, flush=True))
    except Interrupted as stop:
        command = shlex.join(["python", "scripts/study_series.py", *sys.argv[1:]])
        print(f"\ninterrupted; everything is saved. Go on with:\n  {command}", file=sys.stderr)
        return command_line.stop_code(stop)
    found = study.results(runs)
    entries = []
    for name in arguments.sets:
        dataset = data.of_recipe(rows[f"{name}/{arguments.recipes[0]}"])
        print(f"\n{dataset.source}: {len(dataset.train):,} train and {len(dataset.test):,} test series")
        print(f"  {'1 nearest neighbour':28}{nearest_neighbour(dataset.train, dataset.test):.4f}")
        if dataset.sizes.input_shape[0] > 2 * ORDER:
            ridge = autoregressive_ridge(dataset.train, dataset.test, ORDER)
            print(f"  {f'ridge, {ORDER} autoregressive':28}{ridge:.4f}")
        for recipe in arguments.recipes:
            ended = [result for result in found if result.row == f"{name}/{recipe}"]
            for result in ended:
                if not result.finished:
                    raise ValueError(
                        f"{result.folder}: its best weights are lost, so that its test accuracy is unknown: delete the "
                        "folder, and the same command trains it again"
                    )
            own = [result.summary for result in ended if result.summary is not None]
            accuracies = [summary["test"]["accuracy"] for summary in own]
            mean, spread = study.mean_and_spread(accuracies)
            error = "" if spread is None else f" ± {spread:.4f}"
            each = " ".join(f"{accuracy:.4f}" for accuracy in accuracies)
            seconds = sum(summary["seconds"] for summary in own) / len(own)
            print(
                f"  {recipe:28}{mean:.4f}{error}  ({each}), {own[0]['parameters']:,} parameters, {seconds:.0f} s each"
            )
            entries.append(
                {"set": name, "recipe": recipe, "accuracies": accuracies, "mean": mean, "spread": spread}
                | {"parameters": own[0]["parameters"], "seconds": seconds}
            )
    command_line.write_json(arguments.json, entries)
    return 0


def planned_rows(arguments) -> dict:
    """Return the recipe of each row, SET/RECIPE.

    Raises:
        ValueError: for a recipe that has no validation share, or holds its test split back.
    """
    from loops import recipes

    rows = {}
    for name in arguments.sets:
        settings = [("dataset", name), ("data", arguments.data), ("exchange_splits", str(arguments.exchange))]
        settings += [("epochs", arguments.epochs)] if arguments.epochs is not None else []
        settings += arguments.set
        for recipe in arguments.recipes:
            row = rows[f"{name}/{recipe}"] = recipes.get(recipe).changed(settings)
            if not row.validation:
                raise ValueError(
                    f"{recipe}: validation=0 validates on the test split, which this table shows: give a share, such "
                    "as --set validation=0.2"
                )
            if row.hold_test:
                raise ValueError(
                    f"{recipe} leaves its test split unseen, and this table shows it: once all choices are made, give "
                    "--set hold_test=false; until then compare changes by study_recipe.py"
                )
    return rows


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
