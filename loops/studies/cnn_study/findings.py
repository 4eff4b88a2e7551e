"""What the histories show, in sentences made of numbers that are in them; each only if its rows are there."""

from collections.abc import Iterable, Iterator

from loops.studies.study import Result

ACTIVATION_ROWS = {"base": "ReLU", "sigmoid": "sigmoid", "tanh": "tanh", "leaky_relu": "leaky ReLU", "prelu": "PReLU"}


def first_of_each_row(results: Iterable[Result], protocol: str | None = None) -> dict[str, Result]:
    """Return row -> its run of the lowest seed; of the protocol `published` where both have one, unless told."""
    chosen: dict[str, Result] = {}
    for result in sorted(results, key=lambda result: (not result.row.startswith("published/"), result.recipe.seed)):
        own, row = result.row.split("/")
        if protocol in (None, own):
            chosen.setdefault(row, result)
    return chosen


def columns(result: Result, kind: str) -> dict[str, list[float]]:
    """Return variable path -> its values over the epochs, of one kind of diagnostics; {} without them."""
    names = [name for name in result.history[0] if name.startswith(f"{kind}/")]
    return {name.removeprefix(f"{kind}/"): [epoch[name] for epoch in result.history] for name in names}


def kernels(result: Result, kind: str, layers: str = "") -> dict[str, list[float]]:
    """Return `columns` of the kernels in `layers`, such as "convolutions", by the layer's short name."""
    found = columns(result, kind).items()
    return {short_name(path): values for path, values in found if path.startswith(layers) and path.endswith("/kernel")}


def short_name(path: str) -> str:
    """convolutions/0/kernel -> conv 1, norms/0/moving_mean -> norm 1, hidden/kernel -> hidden."""
    layer, *rest = path.split("/")
    words = {"convolutions": "conv", "norms": "norm"}
    return f"{words[layer]} {int(rest[0]) + 1}" if layer in words else layer


def findings(results: Iterable[Result]) -> list[str]:
    """Return the sentences."""
    rows = first_of_each_row(results)
    return [text for find in (_overfitting, _stopping, _flow, _shrinkage, _sparsity, _drift) for text in find(rows)]


def chance(result: Result) -> float:
    """Return the accuracy of guessing."""
    return 1 / len(result.environment["class_names"])


def _overfitting(rows: dict[str, Result]) -> Iterator[str]:
    if "base" in rows:
        history = rows["base"].history
        lowest = min(history, key=lambda epoch: epoch["val_loss"])
        split, last = _split(rows["base"]), history[-1]
        if lowest is last:
            yield f"base: the {split} loss has not begun to rise by epoch {last['epoch']} ({last['val_loss']:.3f})."
        else:
            yield (
                f"base: the {split} loss is lowest after epoch {lowest['epoch']} ({lowest['val_loss']:.3f}); after "
                f"epoch {last['epoch']} it is {last['val_loss']:.3f}, while the train loss went from "
                f"{lowest['loss']:.3f} to {last['loss']:.3f}."
            )


def _stopping(rows: dict[str, Result]) -> Iterator[str]:
    result = rows.get("early_stopping")
    if result is not None and result.finished:
        lowest = min(result.history, key=lambda epoch: epoch["val_loss"])
        done = result.history[-1]["epoch"]
        stopped = f"stopped after epoch {done} of {result.recipe.epochs}"
        if done == result.recipe.epochs:
            stopped = f"was not stopped in {done} epochs"
        yield f"early_stopping: {stopped}; its lowest {_split(result)} loss is that of epoch {lowest['epoch']}."


def _flow(rows: dict[str, Result]) -> Iterator[str]:
    ratios = {}
    for row, name in ACTIVATION_ROWS.items():
        norms = list(kernels(rows[row], "gradient_norm").values()) if row in rows else []
        if norms:
            ratios[f"{name} (base)" if row == "base" else name] = (
                norms[0][0] / norms[-1][0] if norms[-1][0] else float("inf")
            )
    if len(ratios) > 1:
        listed = ", ".join(f"{name} {ratio:.3g}" for name, ratio in ratios.items())
        yield f"Gradient norm of the first convolution over that of the last layer, mean of epoch 1: {listed}."
    for row in ("base", "sigmoid"):
        if row in rows and "sigmoid" in rows:
            yield f"{row}: {_epochs_to_learn(rows[row])}."


def _epochs_to_learn(result: Result) -> str:
    """When the accuracy on unseen images leaves chance behind."""
    bar = 2 * chance(result)
    reached = [epoch for epoch in result.history if epoch["val_accuracy"] > bar]
    if not reached:
        return f"the {_split(result)} accuracy has not passed {bar:.2f}, twice chance, in {len(result.history)} epochs"
    return (
        f"the {_split(result)} accuracy first passes {bar:.2f}, twice chance, after epoch {reached[0]['epoch']} "
        f"({reached[0]['val_accuracy']:.3f}; after epoch 1 {result.history[0]['val_accuracy']:.3f}, where the train "
        f"accuracy is {result.history[0]['accuracy']:.3f})"
    )


def _shrinkage(rows: dict[str, Result]) -> Iterator[str]:
    yield from _kernels_side_by_side(rows, ("base", "l2"), "weight_norm", "Norms of the conv kernels", "{:.2f}")


def _sparsity(rows: dict[str, Result]) -> Iterator[str]:
    text = "Share of the conv kernels' weights below 0.001 in magnitude"
    yield from _kernels_side_by_side(rows, ("base", "l1"), "near_zero", text, "{:.1%}")


def _kernels_side_by_side(
    rows: dict[str, Result], pair: tuple[str, str], kind: str, text: str, form: str
) -> Iterator[str]:
    if not all(row in rows and kernels(rows[row], kind, "convolutions") for row in pair):
        return
    epoch = min(len(rows[row].history) for row in pair)  # the last that both have reached
    parts = [
        f"{row} " + " / ".join(form.format(values[epoch - 1]) for values in found.values())
        for row, found in ((row, kernels(rows[row], kind, "convolutions")) for row in pair)
    ]
    yield f"{text}, first to last, after epoch {epoch}: {', '.join(parts)}."


def _drift(rows: dict[str, Result]) -> Iterator[str]:
    result = rows.get("batch_norm")
    if result is None:
        return
    yield f"batch_norm: {_epochs_to_learn(result)}."
    statistics = columns(result, "moving_rms")
    variances = {path: values for path, values in statistics.items() if path.endswith("moving_variance")}
    if variances:
        parts = [f"{short_name(path)} {values[0]:.3g} → {values[-1]:.3g}" for path, values in variances.items()]
        yield (
            "batch_norm: root mean square of the running variances, which start at 1 and stand in for the batch's at "
            f"test time, after epoch 1 → after epoch {len(result.history)}: {', '.join(parts)}."
        )


def _split(result: Result) -> str:
    """What the run's validation columns are of."""
    return "validation" if result.recipe.validation else "test"
