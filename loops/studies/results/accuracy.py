"""Tables of accuracies: the five systems, and each of them by itself."""

import statistics

from loops.studies.certificates import certify, table
from loops.studies.cnn_study.rows import ROWS
from loops.studies.results.best import best_of, outcome
from loops.studies.results.files import (
    LARGE,
    RESULTS,
    Table,
    entries_of,
    fastest_epoch,
    mean,
    percent,
    published_accuracy,
    published_epochs,
    rows_of,
    summary,
)

INNS = ("inn_cifar10-seed0", "inn_cifar10-seed1", "inn_cifar10-seed2")


def systems() -> Table:
    """The five systems: published beside measured, on the front page."""
    inns = [summary(run) for run in INNS]
    forda = {entry["recipe"]: entry for entry in entries_of("series/forda_part-exchanged.json")}
    convnet, cnn = summary("convnet_cifar10"), summary("cnn_cifar10-base")
    faithful, best = forda["transformer_forda"], forda["transformer_series_best"]
    return [
        ["system", "published", "measured", "parameters", "best recipe", "command"],
        _system(
            "1 involution network, CIFAR-10",
            _published("inn_cifar10"),
            f"{mean([run['last']['val_accuracy'] for run in inns])} (3 seeds)",
            inns[0]["parameters"],
            "inn_cifar10",
        ),
        _system(
            "1 its rival, a ConvNet",
            _published("convnet_cifar10"),
            f"{convnet['last']['val_accuracy']:.4f}",
            convnet["parameters"],
            "convnet_cifar10",
        ),
        _large("2 vision transformer, CIFAR-100", "vit_cifar100"),
        _large("3 Perceiver, CIFAR-100", "perceiver_cifar100"),
        _system(
            "4 time-series Transformer, FordA",
            "about 0.85",
            f"{mean(faithful['accuracies'])} (5 seeds, a smaller train set)",
            faithful["parameters"],
            "transformer_forda",
            outcome(best["accuracies"], best["parameters"]),
        ),
        _system(
            "5 a CNN and its improvements, CIFAR-10",
            f"{_chapter('base')[1]:.3f}",
            f"{cnn['last']['val_accuracy']:.3f} (base)",
            cnn["parameters"],
            "cnn_cifar10",
        ),
    ]


def _published(file: str) -> str:
    return f"{published_accuracy(file):.4f}"


def _system(
    name: str, published: str, measured: str, parameters: int, recipe: str, best: str | None = None
) -> list[str]:
    command = f"`python scripts/train.py {recipe} --data DIR`"
    return [name, published, measured, f"{parameters:,}", best_of(recipe) if best is None else best, command]


def certificates() -> str:
    """The distance of every run from the published curve, as Markdown."""
    own = [certify(path.parent) for path in sorted(RESULTS.glob("*/recipe.json"))]
    return table([certificate for certificate in own if certificate is not None]).rstrip("\n")


def _large(name: str, recipe: str) -> list[str]:
    """A system of CIFAR-100, by the weights of its best epoch."""
    top_1, _, parameters = LARGE[recipe]
    run = summary(recipe)
    measured = percent(run["test"]["accuracy"])
    if run["epochs"] < published_epochs(recipe):
        measured += f" (after {run['epochs']} epochs of {published_epochs(recipe)})"
    return _system(name, percent(top_1), measured, parameters, recipe)


def cifar10() -> Table:
    """System 1."""
    inns, convnet = [summary(run) for run in INNS], summary("convnet_cifar10")

    def accuracies(epoch: str, *runs: dict) -> str:
        return ", ".join(f"{run[epoch]['val_accuracy']:.4f}" for run in runs)

    return [
        ["recipe", "parameters", "published", "measured, last epoch", "best epoch", "s an epoch", "command"],
        [
            "`convnet_cifar10`",
            f"{convnet['parameters']:,}",
            f"{_published('convnet_cifar10')} (rerun {_published('convnet_cifar10_rerun')})",
            accuracies("last", convnet),
            accuracies("best", convnet),
            fastest_epoch(["convnet_cifar10"]),
            "`python scripts/train.py convnet_cifar10 --data DIR`",
        ],
        [
            "`inn_cifar10`, seeds 0, 1, 2",
            f"{inns[0]['parameters']:,}",
            f"{_published('inn_cifar10')} ({_published('inn_cifar10_rerun')})",
            accuracies("last", *inns),
            accuracies("best", *inns),
            fastest_epoch(INNS),
            "`python scripts/train.py inn_cifar10 --data DIR --seed 0`",
        ],
    ]


def cifar100() -> Table:
    """Systems 2 and 3, in the published size."""
    heads = ["recipe", "parameters", "published test top-1 / top-5", "measured", "epochs", "s an epoch", "command"]
    rows = []
    for recipe, (top_1, top_5, parameters) in LARGE.items():
        run = summary(recipe)
        rows.append(
            [
                f"`{recipe}`",
                f"{parameters:,}",
                f"{percent(top_1)} / {percent(top_5)}",
                f"{percent(run['test']['accuracy'])} / {percent(run['test']['top_5_accuracy'])}",
                f"{run['epochs']} of {published_epochs(recipe)}",
                fastest_epoch([recipe]),
                f"`python scripts/train.py {recipe} --data DIR --precision mixed_bfloat16 --xla on`",
            ]
        )
    return [heads, *rows]


def cifar100_reduced() -> Table:
    """Systems 2 and 3, reduced."""
    heads = ["recipe", "parameters", "published (full size)", "measured (reduced) test top-1 / top-5", "epochs"]
    rows = []
    for recipe, (top_1, top_5, parameters) in LARGE.items():
        run = summary(f"{recipe}-reduced")
        test = run["test"]
        rows.append(
            [
                f"`{recipe}`",
                f"{run['parameters']:,} of {parameters:,}",
                f"{percent(top_1)} / {percent(top_5)}",
                f"{percent(test['accuracy'])} / {percent(test['top_5_accuracy'])}",
                str(run["epochs"]),
            ]
        )
    return [heads, *rows]


def forda() -> Table:
    """System 4 on FordA, its splits exchanged: as it is, and with its quantization leak taken out."""
    names = {
        "mlp_forda": "`mlp_forda`: the faithful model's head alone",
        "transformer_forda": "`transformer_forda`: faithful, Keras's text",
        "transformer_forda_mended": "`transformer_forda_mended`",
        "transformer_forda_mended, trained with uniform attention": "the same, trained with the mean of the values in "
        "every attention's place (`--set formulation=uniform`)",
        "transformer_series_best, without mixup and average": "`transformer_series_best`, without mixup and average, "
        "seeds 0 to 2",
        "transformer_series_best": "`transformer_series_best`, seeds 0 to 2",
    }
    entries = {entry["recipe"]: entry for entry in entries_of("series/forda_part-exchanged.json")}
    removed = {entry["recipe"]: entry for entry in entries_of("series/forda_part-leak_removed.json")}
    references = rows_of("series/forda_part-references.csv")
    rows = [[row["reference"], "", row["raw"], "", row["leak_removed"]] for row in references]
    for recipe, name in names.items():
        entry = entries[recipe]
        seconds = f"{entry['seconds']:.0f}" if "seconds" in entry else ""
        without = mean(removed[recipe]["accuracies"]) if recipe in removed else "not trained"
        rows.append([name, f"{entry['parameters']:,}", mean(entry["accuracies"]), seconds, without])
    return [["", "parameters", "test accuracy, raw", "s a run", "leak removed"], *rows]


def seven_sets() -> Table:
    """System 4 on seven other sets, of which every recipe here was trained on each, and the mean over the sets."""
    found = {(entry["set"], entry["recipe"]): entry["accuracies"] for entry in entries_of("series/seven-sets.json")}
    sets, recipes = (list(dict.fromkeys(names)) for names in zip(*found, strict=True))
    sizes = {row["set"]: row for row in rows_of("series/sets.csv")}
    rows = []
    for name in sets:
        size = sizes[name]
        shape = f"{int(size['train']):,}, {int(size['test']):,}, {size['length']}"
        rows.append([name, shape, size["nearest_neighbour"], *(mean(found[name, recipe]) for recipe in recipes)])
    neighbour = f"{statistics.fmean(float(sizes[name]['nearest_neighbour']) for name in sets):.4f}"
    means = []
    for recipe in recipes:  # seed by seed: the spread is that of the mean over the sets, not of one set
        seeds = zip(*(found[name, recipe] for name in sets), strict=True)
        means.append(mean([statistics.fmean(seed) for seed in seeds]))
    rows.append(["mean of the sets", "", neighbour, *means])
    heads = [f"`{recipe}`{comma}{changed}" for recipe, comma, changed in (name.partition(", ") for name in recipes)]
    return [["", "train, test, length", "1 nearest neighbour", *heads], *rows]


FIGURES = {"train accuracy": "accuracy", "test accuracy": "val_accuracy", "train loss": "loss", "test loss": "val_loss"}


def cnn_published() -> Table:
    """System 5: the rows that the chapter ran."""
    names = {
        "base": ("base", "base"),
        "dropout": ("dropout 0.5 before Dense 128", "dropout"),
        "l2": ("L2 0.01 on the conv kernels", "l2"),
        "early_stopping": ("early stopping (ours at epoch {epoch}, published at {published})", "early_stopping"),
        "batch_norm": ("batch norm after each conv and ReLU", "batch_norm"),
        "batch_norm_dropout": ("the same with dropout 0.5, beside the published batch norm", "batch_norm"),
    }
    rows = []
    for row, (name, beside) in names.items():
        last = summary(f"cnn_cifar10-{row}")["last"]
        ours = [_figure(last[figure]) for figure in FIGURES.values()]
        theirs = [f"{value:.3f}" for value in _chapter(beside)]
        cells = [f"{mine} / {other}" for mine, other in zip(ours, theirs, strict=True)]
        rows.append([name.format(epoch=last["epoch"], published=ROWS[beside].published_epoch), *cells])
    return [["row", *FIGURES], *rows]


def cnn_explained() -> Table:
    """System 5: the rows that the chapter explains and did not run."""
    names = {
        "sgd": "SGD 1e-2 for Adam 1e-3",
        "momentum": "SGD 1e-2 with momentum 0.9",
        "rmsprop": "RMSprop 1e-3, rho 0.9",
        "l1": "L1 0.001 on the conv kernels",
        "sigmoid": "sigmoid for ReLU",
        "tanh": "tanh for ReLU",
        "leaky_relu": "leaky ReLU, slope 0.01",
        "prelu": "PReLU, a slope learned for each channel",
    }
    rows = []
    for row, name in names.items():
        last = summary(f"cnn_cifar10-{row}")["last"]
        rows.append([name, *(_figure(last[figure]) for figure in FIGURES.values())])
    return [["row", *FIGURES], *rows]


def _figure(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.4f}"


def _chapter(row: str) -> tuple[float, ...]:
    """The published figures of a row of system 5; () where there are none."""
    return ROWS[row].published or ()
