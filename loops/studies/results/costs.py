"""Tables of times beside Keras, and of the distance from Keras's numbers."""

from loops.studies.results.files import Table, quartiles, rows_of


def train_steps() -> Table:
    """The training step beside Keras's."""
    heads = [
        "",
        "batch",
        "ours, ms (xla)",
        "Keras, ms (xla)",
        "ratio",
        "ceiling, ours / Keras",
        "peak MB, ours / Keras",
    ]
    rows = []
    for row in rows_of("speed/train-steps.csv"):
        ceiling = f"{row['ours_ceiling']} / {row['keras_ceiling']} %" if row["ours_ceiling"] else ""
        rows.append(
            [
                f"`{row['recipe']}`" + (f", `{row['setting']}`" if row["setting"] else ""),
                row["batch"],
                f"{_milliseconds(row['ours_ms'])} ({row['ours_xla']})",
                f"{_milliseconds(row['keras_ms'])} ({row['keras_xla']})",
                f"{row['ratio']} {quartiles(row['low'], row['high'])}",
                ceiling,
                f"{int(row['ours_mb']):,} / {int(row['keras_mb']):,}",
            ]
        )
    return [heads, *rows]


def _milliseconds(text: str) -> str:
    return f"{int(text):,}" if text.isdecimal() else text


def dead_branch() -> Table:
    """FordA's step: what a dead branch costs."""
    heads = ["attention", "ms a step (quartiles)", "GFLOP", "Keras / ours (quartiles)"]
    meaning = {"formulation=folded": ": W_q W_kᵀ and W_v W_o multiplied out"}
    rows = []
    for row in rows_of("speed/dead-branch.csv"):
        name = row["attention"]
        ratio = f"{row['ratio']} {quartiles(row['ratio_low'], row['ratio_high'])}" if row["ratio"] else ""
        shown = f"`{name}`{meaning.get(name, '')}" if "=" in name else name
        rows.append([shown, f"{row['ms']} {quartiles(row['low'], row['high'])}", row["gflop"], ratio])
    return [heads, *rows]


def parity() -> Table:
    """The largest errors beside Keras."""
    rows = [[row["what"], row["dtype"], row["values"], row["gradients"], row["steps"]] for row in rows_of("parity.csv")]
    return [["", "dtype", "values", "gradients", "k steps"], *rows]


def numerics() -> Table:
    """Two computations of a step: their largest errors against float64, and how their weights part."""

    def error(row: dict[str, str], which: str) -> str:
        return f"{float(row[which]):.1e} (`{row[which + '_at']}`)"

    rows = [
        [
            f"`{row['recipe']}`",
            f"{row['a']} / {row['b'].partition('=')[2]}",
            error(row, "forward"),
            error(row, "backward"),
            f"{float(row['explained']):.2f}" + (" *" if float(row["explained"]) > 1 else ""),
            f"{float(row['growth']):.2f}",
        ]
        for row in rows_of("numerics.csv")
    ]
    return [["recipe", "a / b", "largest error forward", "backward", "own / explained", "growth a step"], *rows]
