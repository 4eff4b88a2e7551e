"""What the study trains: its rows, its two protocols, and the folders that belong to it."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from loops import recipes
from loops.recipes.recipe import Recipe, nearest
from loops.run import resume
from loops.run.runs import Run
from loops.studies import study

RECIPE = "cnn_cifar10"


@dataclasses.dataclass(frozen=True)
class Row:
    """One change of the base: in words, as settings of the recipe, and the published figures where there are any.

    `published`: train accuracy, test accuracy, train loss, test loss of the last epoch, which is `published_epoch`.
    """

    change: str
    settings: dict[str, str]
    published: tuple[float, float, float, float] | None = None
    published_epoch: int = 50


# The chapter's five rows with its figures, one that explains the last of them (batch norm's figures are those of a run
# with dropout as well), then those that the chapter explains without a run. Adam and ReLU are the base.
#
# L1's factor: at a weight's usual size here, |w| = 0.05, its pull λ equals that of the L2 row, 2 · 0.01 · |w| = 0.001.
ROWS = {
    "base": Row("Adam 1e-3, ReLU, nothing else", {}, (0.911, 0.726, 0.274, 1.007)),
    "dropout": Row("dropout 0.5 before Dense 128", {"dropout": "0.5"}, (0.830, 0.785, 0.481, 0.639)),
    "l2": Row("L2 0.01 on the conv kernels", {"l2": "0.01"}, (0.732, 0.699, 0.965, 1.052)),
    "early_stopping": Row(
        "stops after 3 epochs without a lower validation loss (published: at epoch 18)",
        {"stop_patience": "3", "monitor": "val_loss"},
        (0.738, 0.688, 0.765, 0.902),
        published_epoch=18,
    ),
    "batch_norm": Row("batch norm after each conv and ReLU", {"batch_norm": "after"}, (0.935, 0.778, 0.178, 0.838)),
    "batch_norm_dropout": Row("batch norm and dropout, as above", {"batch_norm": "after", "dropout": "0.5"}),
    "sgd": Row("SGD 1e-2", {"optimizer": "sgd", "learning_rate": "0.01"}),
    "momentum": Row("SGD 1e-2 with momentum 0.9", {"optimizer": "sgd", "learning_rate": "0.01", "momentum": "0.9"}),
    "rmsprop": Row("RMSprop 1e-3, rho 0.9", {"optimizer": "rmsprop", "learning_rate": "0.001", "rho": "0.9"}),
    "l1": Row("L1 0.001 on the conv kernels", {"l1": "0.001"}),
    "sigmoid": Row("sigmoid for ReLU", {"activation": "sigmoid"}),
    "tanh": Row("tanh for ReLU", {"activation": "tanh"}),
    "leaky_relu": Row("leaky ReLU, slope 0.01", {"activation": "leaky_relu", "slope": "0.01"}),
    "prelu": Row("PReLU, a slope learned for each channel", {"activation": "prelu", "prelu_axis": "channel"}),
}

# published: the test split validates, and the last epoch counts. fair: the last tenth of the train split validates, the
# best epoch on it counts, and the test split is evaluated once.
PROTOCOLS = {"published": {}, "fair": {"validation": "0.1"}}


def planned(
    folder: Path,
    *,
    rows: Sequence[str] = (),
    protocols: Sequence[str] = ("published",),
    seeds: int = 1,
    settings: Sequence[tuple[str, str]] = (),
) -> list[study.PlannedRun]:
    """Return the runs, FOLDER/PROTOCOL/ROW/seed-N, of some rows (none: all); `settings` hold for all of them.

    Raises:
        ValueError: for an unknown row, settings that contradict each other or a row, values that a recipe refuses, and
            a folder whose runs were made by other settings.
    """
    for row in rows:
        if row not in ROWS:
            raise ValueError(f"--only: unknown row {row!r}{nearest(row, ROWS)}")
    if seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {seeds}")
    chosen = [row for row in ROWS if not rows or row in rows]
    _check_settings(settings, chosen)
    base = recipes.get(RECIPE).changed(settings)
    changed = {
        f"{protocol}/{row}": base.changed([*PROTOCOLS[protocol].items(), *ROWS[row].settings.items()])
        for protocol in PROTOCOLS
        if protocol in protocols
        for row in chosen
    }
    runs = study.plan(folder, changed, range(seeds))
    _check_alike([*found(folder), *runs])
    return runs


def found(folder: Path) -> list[study.PlannedRun]:
    """Return the runs that are in the folder, in the order of the rows.

    Raises:
        ValueError: if they do not belong together, or one is not what its place says.
    """
    runs = []
    for protocol in PROTOCOLS:
        for row in ROWS:
            places = [(_seed(place), place) for place in (folder / protocol / row).glob("seed-*")]
            for seed, place in sorted((seed, place) for seed, place in places if seed is not None):
                if (place / "recipe.json").exists():
                    runs.append((f"{protocol}/{row}", Run.open(place).recipe, place))
                    _check_place(place, runs[-1][1], seed, PROTOCOLS[protocol] | ROWS[row].settings)
    _check_alike(runs)
    return runs


def foreign(folder: Path) -> list[Path]:
    """Return the folders that stand among the rows but are none: their runs are in no table."""
    places = [place for protocol in PROTOCOLS for place in sorted((folder / protocol).glob("*")) if place.is_dir()]
    return [place for place in places if place.name not in ROWS]


def _seed(place: Path) -> int | None:
    number = re.fullmatch(r"seed-(\d+)", place.name)
    return int(number[1]) if number else None


def _check_settings(settings: Iterable[tuple[str, str]], rows: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for field, text in settings:
        if field in seen:
            raise ValueError(f"{field} is set twice, to {seen[field]} and {text}: set it once")
        seen[field] = text
        if field == "seed":
            raise ValueError("--set seed: the study trains the seeds 0, 1, …: say how many by --seeds")
        for protocol, own in PROTOCOLS.items():
            if field in own:
                raise ValueError(
                    f"--set {field}: the protocols set it ({protocol}: {own[field]}): choose by --protocol"
                )
        for row in rows:
            if field in ROWS[row].settings:
                raise ValueError(
                    f"--set {field}={text}: row {row} sets {field}={ROWS[row].settings[field]} itself: "
                    "leave the setting out, or name rows without it by --only"
                )


def _check_place(place: Path, recipe: Recipe, seed: int, settings: dict[str, str]) -> None:
    if recipe.name != RECIPE:
        raise ValueError(f"{place} holds a run of {recipe.name}, not of {RECIPE}: move it away")
    wanted = recipe.changed([("seed", str(seed)), *settings.items()]).to_json()
    for field, value in recipe.to_json().items():
        if value != wanted[field]:
            raise ValueError(
                f"{place} was made by other settings: its {field} is {value}, by its place it must be "
                f"{wanted[field]}: move it away"
            )


def _check_alike(runs: Iterable[study.PlannedRun]) -> None:
    """Refuse runs that differ in more than what their rows and protocols change."""
    first: dict[str, tuple[object, Path]] = {}
    for name, recipe, place in runs:
        protocol, row = name.split("/")
        own = {"seed", *PROTOCOLS[protocol], *ROWS[row].settings}
        for field, value in recipe.to_json().items():
            if field in own:
                continue
            other, elsewhere = first.setdefault(field, (value, place))
            if not resume.same_setting(field, value, other):
                raise ValueError(
                    f"{elsewhere} was made by other settings than {place}: {field} is {other} there and {value} here, "
                    "and rows can only be compared where all else is equal: repeat the settings, or name another "
                    "folder by --out"
                )
