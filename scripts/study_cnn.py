"""Train system 5's study, one change of one convolution network at a time, and write its table and pictures.

Rows: base dropout l2 early_stopping batch_norm batch_norm_dropout sgd momentum rmsprop l1 sigmoid tanh leaky_relu
prelu. Each run is a run folder, OUT/PROTOCOL/ROW/seed-N. What is there already is adopted and gone on with, so that the
same command ends what was interrupted. Results: OUT/study.csv, OUT/study.md, OUT/figures; they hold all runs in OUT.
"""

import shlex
import sys
from pathlib import Path

from parts import command_line

EXAMPLES = """\
  python scripts/study_cnn.py --data sample --epochs 1                 all rows, minutes
  python scripts/study_cnn.py --data ~/data --only base dropout        the table grows row by row
  python scripts/study_cnn.py --data ~/data --seeds 3 --protocol both  means with their spread, and a fair reading
  python scripts/study_cnn.py --out runs/narrow --set filters=8,16,32  another base for all rows
  python scripts/study_cnn.py --report                                 tables and pictures of what is there
"""
TRAINING_OPTIONS = ("only", "seeds", "epochs", "batch_size", "protocol", "set")


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("--data", metavar="auto|sample|DIR", help="see train.py (default: auto)")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/study_cnn"), help="study folder")
    parser.add_argument("--only", metavar="ROW", nargs="+", action="extend", help="train these rows (default: all)")
    parser.add_argument("--seeds", metavar="N", type=int, help="train each row from the seeds 0 .. N - 1 (default: 1)")
    parser.add_argument("--epochs", metavar="N", help="of every run (default: 50)")
    parser.add_argument("--batch-size", metavar="N", help="default: 1024")
    parser.add_argument(
        "--protocol",
        choices=("published", "fair", "both"),
        help="published (default): the test split validates, the last epoch counts; fair: a tenth of the train split "
        "chooses the epoch, the test split is evaluated once",
    )
    parser.add_argument("--report", action="store_true", help="train nothing: only write tables and pictures")
    parser.add_argument(
        "--set",
        metavar="FIELD=VALUE",
        type=command_line.setting,
        action="append",
        help="change a field of cnn_cifar10 for all rows; may be given several times",
    )
    return parser


def main(arguments) -> int:
    from loops.studies import study
    from loops.studies.cnn_study import rows, tables
    from loops.train import Interrupted

    if arguments.report:
        given = [f"--{name.replace('_', '-')}" for name in TRAINING_OPTIONS if getattr(arguments, name) is not None]
        if given:
            raise ValueError(f"--report trains nothing and shows all runs in {arguments.out}: leave out {given[0]}")
    else:
        options = ("data", "epochs", "batch_size")
        settings = [(name, getattr(arguments, name)) for name in options if getattr(arguments, name) is not None]
        runs = rows.planned(
            arguments.out,
            rows=arguments.only or (),
            protocols=tuple(rows.PROTOCOLS) if arguments.protocol == "both" else (arguments.protocol or "published",),
            seeds=1 if arguments.seeds is None else arguments.seeds,
            settings=settings + (arguments.set or []),
        )

        def ended(result: study.Result) -> None:
            one = tables.line(result)
            if result.finished:
                print(f"{result.row}, seed {one.seed}: test accuracy {one.test_accuracy:.4f}, {one.seconds:.0f} s")
            tables.write(arguments.out)

        try:
            study.run_all(arguments.out, runs, report=lambda line: print(line, flush=True), ended=ended)
        except (Interrupted, KeyboardInterrupt) as stop:
            tables.write(arguments.out)
            command = shlex.join(["python", "scripts/study_cnn.py", *sys.argv[1:]])
            print(f"\ninterrupted; everything is saved. Go on with:\n  {command}", file=sys.stderr)
            return command_line.stop_code(stop)

    results = tables.write(arguments.out)
    if not results:
        raise ValueError(f"{arguments.out}: no run there has ended an epoch: leave out --report to train")
    lines = [tables.line(result) for result in results]
    for protocol in rows.PROTOCOLS:
        if any(line.protocol == protocol for line in lines):
            print(f"\n{protocol} protocol\n{tables.as_text(tables.table(lines, protocol))}")
    for place in rows.foreign(arguments.out):
        print(f"left out: {place} is no row of the study")
    print(f"\n{arguments.out / 'study.csv'}\n{arguments.out / 'study.md'}", flush=True)
    command_line.write_json(arguments.json, [vars(line) for line in lines])
    try:
        command_line.need_matplotlib()
    except ValueError as error:  # days of training have their tables
        print(f"left out: {arguments.out / 'figures'}: {error}")
        return 0
    for path, figure in pictures(results, arguments):
        command_line.save_figure(figure, path)
        print(path, flush=True)
    return 0


def pictures(results: list, arguments):
    """Yield (path, picture) of all that the runs allow, one after the other."""
    from loops import data
    from loops.data.dataset import DataError
    from loops.studies.cnn_study import drawings

    folder = arguments.out / "figures"
    recipe = results[0].recipe
    try:
        dataset = data.load(recipe.dataset, arguments.data or recipe.data, exchange=recipe.exchange_splits)
    except DataError as error:  # of a study that was trained elsewhere
        print(f"left out: {folder / 'samples.png'}: {error}")
    else:
        yield folder / "samples.png", drawings.samples(dataset)
    for name, figure in drawings.pictures(results):
        yield folder / f"{name}.png", figure


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
