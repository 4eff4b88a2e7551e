"""What each change of a recipe is worth: rows beside the recipe as it is, by their validation split."""

from collections.abc import Sequence

from loops.studies.study import Result, mean_and_spread


def entries_of(results: Sequence[Result]) -> list[dict]:
    """Return an entry for each row, in the order of the runs: accuracies over seeds, and their distance from the first.

    `last` is the mean validation accuracy after the last epoch, `loss` the mean validation loss there, `best` the
    accuracy of the best epoch, which was chosen by the same split and is a little high.
    """
    entries: list[dict] = []
    for row in dict.fromkeys(result.row for result in results):
        own = [result.history for result in results if result.row == row]
        mean, spread = mean_and_spread([history[-1]["val_accuracy"] for history in own])
        loss, _ = mean_and_spread([history[-1]["val_loss"] for history in own])
        highest, _ = mean_and_spread([max(epoch["val_accuracy"] for epoch in history) for history in own])
        difference = mean - entries[0]["last"] if entries else 0.0
        seconds = sum(epoch["seconds"] for epoch in own[0])
        entries.append(
            {"change": row, "seeds": len(own), "last": mean, "spread": spread, "loss": loss}
            | {"best": highest, "difference": difference, "seconds": seconds}
        )
    return entries


def table_of(entries: Sequence[dict]) -> str:
    """Return the entries as a table of Markdown."""
    lines = [
        "| change | validation accuracy, last epoch | difference | loss | best epoch | s a run |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for entry, cells in zip(entries, cells_of(entries), strict=True):
        cells += [f"{entry['best']:.4f}", f"{entry['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def cells_of(entries: Sequence[dict]) -> list[list[str]]:
    """Return of each entry its change, accuracy after the last epoch, difference and loss, as a table shows them."""
    rows = []
    for entry in entries:
        spread = "" if entry["spread"] is None else f" ± {entry['spread']:.4f}"
        difference = "" if entry is entries[0] else f"{entry['difference']:+.4f}"
        rows.append([entry["change"], f"{entry['last']:.4f}{spread}", difference, f"{entry['loss']:.3f}"])
    return rows
