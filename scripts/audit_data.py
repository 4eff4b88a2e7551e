"""The audit of data: could one trivial feature solve this, and what do train and test share?

Of each trivial feature (how many distinct values an example has, its mean, its place in the file) the best rule of one
threshold or a few cells is fitted on one half of the train split and scored on the other and on the test split. Then:
duplicates between and within the splits, the files' order, the classes' shares, drift from train to test.

With --run, a trained run is scored on the test split with and without the test examples that have a duplicate in
train, and, where values were stored more coarsely in one class, after that leak is taken out.

Exit code 1 if a feature of storage gives the classes away.
"""

import dataclasses
from pathlib import Path

from parts import command_line

EXAMPLES = """\
  python scripts/audit_data.py cifar10 --data ~/data --html cifar10.html
  python scripts/audit_data.py FordA ECG200 GunPoint --data ~/ucr
  python scripts/audit_data.py FordA --data ~/ucr --run runs/transformer_forda
  python scripts/audit_data.py FordA --data ~/ucr --without-leak clean     then train with --data clean
"""
SHOWN = 6  # rules and pairs that are printed of each set


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("sets", metavar="SET", nargs="+", help="cifar10, cifar100, or sets of series such as FordA")
    parser.add_argument("--data", metavar="auto|sample|DIR", default="auto", help="where they lie, see train.py")
    parser.add_argument("--exchange", action="store_true", help="let train and test change places")
    parser.add_argument("--run", metavar="DIR", type=Path, help="a trained run, to be scored without what is found")
    parser.add_argument(
        "--without-leak", metavar="DIR", type=Path, help="write the set there, its quantization leak taken out"
    )
    parser.add_argument("--near", metavar="L", type=float, help="likeness of duplicates (images 0.93, series 0.999)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of halves and permutations (default 0)")
    parser.add_argument("--html", metavar="FILE", type=command_line.writable_file, help="write a page, with the pairs")
    return parser


def main(arguments) -> int:
    from loops import data
    from loops.data_audit import audit
    from parts import data_audit_page

    if arguments.run is not None and len(arguments.sets) > 1:
        raise ValueError(f"--run was trained on one set: name that one, not {' '.join(arguments.sets)}")
    if arguments.without_leak is not None:
        return write_without_leak(arguments)
    audits = []
    for name in arguments.sets:
        dataset = data.load(name, arguments.data, exchange=arguments.exchange)
        found = audit.of(dataset, seed=arguments.seed, limit=arguments.near)
        if arguments.run is not None:
            own = scores(arguments.run, dataset, found, seed=arguments.seed, exchanged=arguments.exchange)
            found = dataclasses.replace(found, scores=own)
        audits.append((dataset, found))
        if arguments.html is not None:
            command_line.write_text(arguments.html, data_audit_page.html(audits))
        command_line.write_json(arguments.json, [own.to_json() for _, own in audits])
        print(audit.text(found, SHOWN), flush=True)
    return 1 if any(found.shortcuts.leaks for _, found in audits) else 0


def write_without_leak(arguments) -> int:
    """Write a set of series as UCR files, to be trained on as the set itself is."""
    from loops import data
    from loops.data.ucr import write
    from loops.data_audit import leaks

    for name in arguments.sets:
        dataset, step = leaks.removed(data.load(name, arguments.data, exchange=arguments.exchange), seed=arguments.seed)
        folder = arguments.without_leak / name
        if folder.exists():
            raise ValueError(f"{folder} exists: name a new one by --without-leak")
        write(dataset, folder, name)
        print(f"{folder}: {dataset.source}; a common grid of {step:.3g}")
        command_line.write_json(arguments.json, {"folder": str(folder), "step": step})
    return 0


def scores(folder: Path, dataset, found, *, seed: int, exchanged: bool) -> dict[str, float]:
    """Test accuracies of a run: on all, on what has no duplicate in train, and with a quantization leak taken out."""
    import numpy as np

    from loops.data.dataset import Split
    from loops.data_audit import leaks
    from loops.evaluation import evaluate
    from loops.run.restore import restored_model
    from loops.run.runs import Run

    run = Run.open(folder)
    if run.recipe.exchange_splits != exchanged:
        raise ValueError(
            f"{folder}: trained with exchange_splits={run.recipe.exchange_splits}: say --exchange for that"
        )
    run.check_data(dataset)
    model = restored_model(run)

    def accuracy(split: Split) -> float:
        classes, own = len(dataset.class_names), run.recipe
        return evaluate(model, split, classes=classes, batch_size=own.batch_size, pixel_scale=own.pixel_scale)[
            "accuracy"
        ]

    result = {"as published": accuracy(dataset.test)}
    if found.duplicates.across:
        kept = np.setdiff1d(np.arange(len(dataset.test)), found.duplicates.affected())
        result["without duplicates of train"] = accuracy(Split(dataset.test.inputs[kept], dataset.test.labels[kept]))
    if found.shortcuts.leaks and dataset.train.inputs.ndim == 3:
        result["leak removed"] = accuracy(leaks.removed(dataset, seed=seed)[0].test)
    return result


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
