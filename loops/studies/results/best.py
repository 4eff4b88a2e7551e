"""Tables of the best recipes: what was tried on the way, by validation alone, and what came out."""

from loops.studies.results.files import Table, rows_of


def tried() -> Table:
    """Every change that was tried, those that did not help, too."""
    rows = []
    for row in rows_of("best/tried.csv"):
        before, after = float(row["before"]), float(row["after"])
        how = f"{row['epochs']} epochs of {int(row['train_images']):,}, seeds: {row['seeds']}"
        rows.append(
            [f"`{row['recipe']}`", row["change"], f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}", how]
        )
    return [["recipe", "change", "validation before", "after", "difference", "trained"], *rows]
