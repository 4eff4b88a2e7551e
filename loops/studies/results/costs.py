"""Tables of times beside Keras, and of the distance from Keras's numbers."""

from loops.studies.results.files import Table, entries_of, quartiles, rows_of

PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16"}  # and what a head calls them


def train_steps() -> Table:
    """The training steps beside Keras's, in both precisions."""
    return step_table(entries_of("speed/train-steps.json"))


def step_table(entries: list[dict]) -> Table:
    """Return a row for each step that `benchmark.py --against keras --json` has timed, its precisions side by side.

    The last column is ours in mixed_bfloat16 over Keras in float32, what most people run. Its medians come from two
    races, so that it is rougher than the ratios beside it.
    """
    rows: dict[tuple, dict[str, dict]] = {}
    for entry in entries:
        step = (entry["recipe"], entry["variant"], entry["batch_size"], entry.get("augmentation", ""))
        rows.setdefault(step, {})[entry["precision"]] = entry
    shown = [name for name in PRECISIONS if any(name in row for row in rows.values())]
    columns = ("ours / Keras, ms (xla)", "ratio", "peak MB")
    heads = ["step", *(f"{PRECISIONS[name]}: {column}" for name in shown for column in columns)]
    crossed = len(shown) == len(PRECISIONS)
    table = [heads + ["ours bfloat16 / Keras float32"] * crossed]
    for step, row in rows.items():
        cells = [_title(*step)]
        for name in shown:
            cells += _cells(row[name]) if name in row else ["", "", ""]
        if crossed:
            whole, half = (row.get(name) for name in PRECISIONS)
            cells.append(f"{whole['keras_ms'] / half['ours_ms']:.2f}" if whole and half else "")
        table.append(cells)
    return table


def _title(recipe: str, variant: str, batch_size: int, augmentation: str) -> str:
    parts = [f"`{recipe}`, {batch_size:,}"]
    parts += ["without augmentation"] if augmentation == "none" else []
    parts += [f"`{variant}`"] if variant != "ours" else []
    return ", ".join(parts)


def _cells(entry: dict) -> list[str]:
    ours, keras = (f"{_milliseconds(entry[f'{side}_ms'])} ({entry[f'{side}_xla']})" for side in ("ours", "keras"))
    return [
        f"{ours} / {keras}",
        f"**{entry['ratio']:.2f}** {quartiles(*(f'{entry[end]:.2f}' for end in ('low', 'high')))}",
        f"{entry['ours_peak_mb']:,.0f} / {entry['keras_peak_mb']:,.0f}",
    ]


def _milliseconds(ms: float) -> str:
    """Three digits, or all of the whole number."""
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"


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
