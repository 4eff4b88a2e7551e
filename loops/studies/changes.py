"""What each change of a recipe is worth: rows beside the recipe as it is, by their validation split."""

from collections.abc import Sequence

from loops.studies.study import Result, mean_and_spread


def entries_of(results: Sequence[Result]) -> list[dict]:
    """Return an entry for each row, in the order of the runs: accuracies over seeds, and their distance from the first.

    `last` is the mean validation accuracy after the last epoch, `best` that of the best epoch; the latter was chosen by
    the same split, and is a little high.
    """
    entries: list[dict] = []
    for row in dict.fromkeys(result.row for result in results):
        own = [result for result in results if result.row == row]
        last, best = ([_accuracy(result, which) for result in own] for which in ("last", "best"))
        (mean, spread), (highest, _) = mean_and_spread(last), mean_and_spread(best)
        difference = mean - entries[0]["last"] if entries else 0.0
        seconds = sum(epoch["seconds"] for epoch in own[0].history)
        entries.append(
            {"change": row, "seeds": len(own), "last": mean, "spread": spread, "best": highest}
            | {"difference": difference, "seconds": seconds}
        )
    return entries


def _accuracy(result: Result, which: str) -> float:
    accuracies = [row["val_accuracy"] for row in result.history]
    return accuracies[-1] if which == "last" else max(accuracies)


def table_of(entries: Sequence[dict]) -> str:
    """Return the entries as a table of Markdown."""
    lines = [
        "| change | validation accuracy, last epoch | difference | best epoch | s a run |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for entry, cells in zip(entries, cells_of(entries), strict=True):
        cells += [f"{entry['best']:.4f}", f"{entry['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def cells_of(entries: Sequence[dict]) -> list[list[str]]:
    """Return of each entry its change, accuracy after the last epoch and difference, as a table shows them."""
    rows = []
    for entry in entries:
        spread = "" if entry["spread"] is None else f" ± {entry['spread']:.4f}"
        difference = "" if entry is entries[0] else f"{entry['difference']:+.4f}"
        rows.append([entry["change"], f"{entry['last']:.4f}{spread}", difference])
    return rows
