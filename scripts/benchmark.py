"""Time the full training step of recipes, or single operations over sizes, beside the same of Keras, in one run.

Each contender runs in a process of its own, with the same threads and the same allocator, and they take turns: a
machine that is slow for a minute is slow for all of them. Each side is timed with XLA and without; its better mode
counts. Data lie in memory; compilation and warm-up are apart. ratio = Keras / ours: above 1 is faster.
"""

import argparse
import dataclasses
import json
import os
import statistics

from parts import benchmark_operations as operations
from parts import benchmark_processes as processes
from parts import command_line
from parts.benchmark_markdown import markdown, measured
from tfcore.inspect.profile.ratios import ratios, spread

EXAMPLES = """\
  python scripts/benchmark.py transformer_forda --against keras --batch-size 8 --variants --flops
  python scripts/benchmark.py convnet_cifar10 inn_cifar10 --against keras --json speed.json
  python scripts/benchmark.py transformer_forda --set constant_branches=skip
  python scripts/benchmark.py vit_cifar100 --against keras --batch-size 32 --augmentation both
  python scripts/benchmark.py inn_cifar10 --against keras --precision mixed_bfloat16
  python scripts/benchmark.py all --against keras --precision both --markdown speed.md
  python scripts/benchmark.py all --against keras --flops       each at its published batch size, or what fits two cores
  python scripts/benchmark.py --kind attention --against keras --figure attention.png       one layer over its sizes
"""
CEILINGS = """
import json, sys
from tfcore.inspect.profile.roofline import measure_ceilings
print(json.dumps(measure_ceilings(sys.argv[1:]).to_json()))
"""
# Batch sizes of `all`, where the published ones take minutes a turn on a small machine.
SMALLER = {"vit_cifar100": "128", "perceiver_cifar100": "16", "transformer_forda": "8"}
TURN = 1.0  # seconds that a contender runs before the next one's turn, one step at least
TURNS = {"recipe": 9, "kind": 5}
PRECISIONS = ("float32", "mixed_bfloat16")  # of --precision both


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to run a step: whose, with which settings, compiled or not."""

    recipe: str
    side: str  # ours or keras
    label: str
    settings: tuple[str, ...]
    xla: str

    def __str__(self) -> str:
        return f"{self.recipe}, {self.label}, xla {self.xla}"


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("recipes", metavar="RECIPE", nargs="*", help="names of recipes, or all")
    parser.add_argument(
        "--kind", choices=tuple(operations.KINDS), help="instead of recipes: one operation, over its sizes"
    )
    parser.add_argument("--against", choices=("keras",), help="time Keras's step of the same model, too")
    parser.add_argument("--turns", metavar="N", type=int, help="turns of each contender (default 9, with --kind 5)")
    parser.add_argument(
        "--figure", metavar="FILE.png", type=command_line.writable_file, help="with --kind: draw cost over size"
    )
    recipe = parser.add_argument_group("for recipes")
    recipe.add_argument("--batch-size", metavar="N", help="other than the recipe's")
    recipe.add_argument(
        "--precision",
        metavar="NAME",
        help="float32, mixed_bfloat16 or mixed_float16, on both sides; both: float32 and mixed_bfloat16, one by one",
    )
    recipe.add_argument(
        "--markdown",
        metavar="FILE",
        type=command_line.writable_file,
        help="write the ratios to Keras as a table, as the results page has it",
    )
    recipe.add_argument(
        "--augmentation",
        choices=("on", "off", "both"),
        help="random augmentation inside the model's training step (default on; Keras compiles none with it)",
    )
    recipe.add_argument(
        "--set", metavar="FIELD=VALUE", action="append", default=[], help="change fields of the recipes"
    )
    recipe.add_argument(
        "--variants", action="store_true", help="our step in each formulation that the recipe's model has"
    )
    recipe.add_argument("--flops", action="store_true", help="count the arithmetic of each compiled step, too")
    return parser


def main(arguments) -> int:
    check(arguments)
    if arguments.turns is None:
        arguments.turns = TURNS["kind" if arguments.kind else "recipe"]
    result = operation(arguments) if arguments.kind else recipe_steps(arguments)
    command_line.write_json(arguments.json, result)
    return 0


def check(arguments) -> None:
    """Refuse options that do not go together, before anything runs."""
    if arguments.turns is not None and arguments.turns < 3:
        raise ValueError(f"--turns must be at least 3, for a median with a spread, got {arguments.turns}")
    if arguments.kind is None:
        if not arguments.recipes:
            raise ValueError("nothing to time: name recipes, or all, or an operation by --kind")
        if arguments.figure is not None:
            raise ValueError("--figure draws what --kind times: leave it out for recipes")
        if arguments.markdown is not None and not arguments.against:
            raise ValueError("--markdown writes the ratios to Keras: give --against keras, too")
        return
    if arguments.recipes:
        raise ValueError(f"--kind {arguments.kind} times one operation: leave out {' '.join(arguments.recipes)}")
    for option in ("batch_size", "precision", "markdown", "augmentation", "set", "variants", "flops"):
        if getattr(arguments, option):
            raise ValueError(f"--{option.replace('_', '-')} is for recipes: leave it out with --kind")
    if arguments.figure is not None:
        command_line.need_matplotlib()


def operation(arguments) -> list[dict]:
    """Time one operation over its sizes; print and draw it."""
    kind = arguments.kind
    lines, left_off = operations.race(operations.contenders(kind, arguments.against), arguments.turns)
    text, entries = operations.table(kind, lines)
    print("\n".join([text, *map(left_off_note, left_off)]), flush=True)
    if arguments.figure is not None:
        from parts import benchmark_figures

        figure = benchmark_figures.scaling(kind, lines, f"float32, {os.cpu_count()} CPU cores, {arguments.turns} turns")
        command_line.save_figure(figure, arguments.figure)
    return entries


def recipe_steps(arguments) -> list[dict]:
    """Time the training steps of recipes; print them."""
    from loops import recipes

    everything = arguments.recipes == ["all"]
    names = list(recipes.RECIPES) if everything else arguments.recipes
    chosen = [
        (name, settings, sides(name, arguments, everything))
        for name in names
        for precision in (PRECISIONS if arguments.precision == "both" else [arguments.precision])
        for settings in forms(name, argparse.Namespace(**{**vars(arguments), "precision": precision}), everything)
    ]  # refused here, before anything runs
    ceilings = None
    if arguments.flops:
        dtypes = {_compute_dtype(_changed(name, settings).precision) for name, settings, _ in chosen}
        ceilings = json.loads(processes.run_program(CEILINGS, *sorted(dtypes)))
        products = ", ".join(f"{dtype} products {_peak(ceilings, dtype):.0f} GFLOP/s" for dtype in sorted(dtypes))
        print(f"ceilings: {products}, memory {_stream(ceilings):.1f} GB/s", flush=True)
    result = []
    for name, settings, own in chosen:
        contenders = [
            Contender(name, side, label, (*settings, *extra), xla)
            for side, label, extra in own
            for xla in ("off", "on")
        ]
        try:
            timings = race(contenders, arguments.turns, flops=arguments.flops)
        except ValueError as error:
            if not everything:
                raise
            print(f"\n{name}: left out: {error}", flush=True)
            continue
        lines, entries = table(name, timings, ceilings)
        print(lines, flush=True)
        result += entries
        if arguments.markdown is not None:  # after each: an hour's table is not lost with its last row
            command_line.write_text(arguments.markdown, markdown(result, measured(arguments.turns)))
    return result


def forms(name: str, arguments, everything: bool) -> list[list[str]]:
    """Return the settings of one recipe, twice if it is timed with augmentation and without.

    Raises:
        ValueError: for settings that the recipe refuses, or `--augmentation` for a recipe that has none to leave out.
    """
    settings = list(arguments.set)
    batch_size = arguments.batch_size or (SMALLER.get(name) if everything else None)
    for field, value in (("batch_size", batch_size), ("precision", arguments.precision)):
        if value is not None:
            settings.append(f"{field}={value}")
    recipe = _changed(name, settings)
    if arguments.augmentation is None:
        return [settings]
    if getattr(recipe.model, "augmentation", "none") == "none":
        if everything:
            return [settings]
        raise ValueError(f"{name} has no augmentation to be timed on or off: leave out --augmentation")
    both = {"on": settings, "off": [*settings, "augmentation=none"]}
    return list(both.values()) if arguments.augmentation == "both" else [both[arguments.augmentation]]


def _changed(name: str, settings: list[str]):
    from loops import recipes

    return recipes.get(name).changed(map(command_line.setting, settings))


def sides(name: str, arguments, everything: bool) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return (side, label, extra settings) of all that runs for one recipe; ours comes first.

    Raises:
        ValueError: for `--variants` of a recipe, asked for by name, that has one formulation only.
    """
    from loops import recipes

    found: list[tuple[str, str, tuple[str, ...]]] = [("ours", "ours", ())]
    if arguments.variants:
        variants = recipes.get(name).variants
        if not variants and not everything:
            raise ValueError(f"{name} has one formulation only: leave --variants out")
        found = [("ours", " ".join(extra), extra) for extra in variants] or found
    if arguments.against:
        found.append(("keras", "Keras", ()))
    return found


def race(contenders: list[Contender], turns: int, *, flops: bool) -> dict[Contender, dict]:
    """Let the contenders take turns; return of each the milliseconds of its turns, compile seconds and peak memory.

    One that runs without XLA though asked for it is left out. `flops`: also the arithmetic of the step as XLA compiles
    it, counted for one mode of each.
    """
    with processes.started(contenders) as running:
        times: dict[Contender, list[float]] = {contender: [] for contender in running}
        for _ in range(turns):
            for contender, process in running.items():
                times[contender].append(process.ask({"case": 0, "seconds": TURN})["ms"])
        found = {
            contender: {**process.ready, **process.ask({"quit": True}), "ms": times[contender]}
            for contender, process in running.items()
        }
    if flops:  # with fresh processes: the peak memory above is that of training alone
        counts = {contender.label: _count(contender) for contender in found if contender.xla == "on"}
        found = {contender: {**timing, **counts.get(contender.label, {})} for contender, timing in found.items()}
    return found


def _count(contender: Contender) -> dict:
    with processes.Process(contender) as process:
        return process.ask({"flops": True})


def _compute_dtype(precision: str) -> str:
    from tfcore.precision import POLICIES

    return POLICIES[precision].compute.name


def _peak(ceilings: dict, dtype: str) -> float:
    return ceilings["flops_per_second"][dtype] / 1e9


def _stream(ceilings: dict) -> float:
    return ceilings["bytes_per_second"] / 1e9


def fractions(found: dict, ms: float, xla: str, ceilings: dict) -> dict[str, float]:
    """Return which fraction of the ceilings a step of `ms` milliseconds reaches: of products' rate, of the memory's.

    Products count in the dtype in which the layers compute.

    The bytes are those of the kernels that XLA makes; without XLA nobody counts them.
    """
    dtype = _compute_dtype(found["about"]["precision"])
    reached = {"of_products": found["gflop"] / (ms / 1000) / _peak(ceilings, dtype)}
    if xla == "on":
        reached["of_memory"] = found["gbytes"] / (ms / 1000) / _stream(ceilings)
    return reached


def table(name: str, timings: dict[Contender, dict], ceilings: dict | None = None) -> tuple[str, list[dict]]:
    """Return the printed table and the JSON entries of one recipe: each side at its best of XLA on and off."""
    chosen = processes.best_modes({contender: found["ms"] for contender, found in timings.items()})
    best = {label: (contender, timings[contender]) for label, contender in chosen.items()}
    keras = best.get("Keras")
    # What the worker says of its recipe: batch size and precision, and augmentation where the model has one.
    about = next(iter(timings.values()))["about"]
    left_off = processes.without_xla(timings)
    lines = [
        ", ".join([f"\n{name}", *(f"{field.replace('_size', '')} {value}" for field, value in about.items())]),
        f"{'':34}{'ms a step':>12}{'spread':>19}  xla  {'compile':>9}{'peak':>9}  GFLOP, ratio",
    ]
    entries = []
    for label, (contender, found) in best.items():
        median, low, high = spread(found["ms"])
        line = (
            f"{label:34}{median:>12.2f}{f'{low:.2f} .. {high:.2f}':>19}  {contender.xla:3}  "
            f"{found['compile_seconds']:>7.1f} s{found['peak_mb']:>6.0f} MB"
        )
        if ceilings is not None and "gflop" in found:
            line += f"{found['gflop']:>10.3f} GFLOP"
            reached = fractions(found, median, contender.xla, ceilings)
            line += "".join(f", {value:.0%} {what.replace('_', ' ')}" for what, value in reached.items())
        if label != "Keras":
            entry = {"recipe": name, "variant": label, **about}
            entry |= {"ours_ms": median, "ours_low_ms": low, "ours_high_ms": high}
            entry |= {"ours_xla": contender.xla, "ours_peak_mb": found["peak_mb"]}
            if keras is not None:
                ratio, ratio_low, ratio_high = ratios(keras[1]["ms"], found["ms"])
                line += f"  {ratio:.2f} ({ratio_low:.2f} .. {ratio_high:.2f})"
                entry |= {"ratio": ratio, "low": ratio_low, "high": ratio_high}
                entry |= {"keras_ms": statistics.median(keras[1]["ms"]), "keras_xla": keras[0].xla}
                entry |= {"keras_peak_mb": keras[1]["peak_mb"], "keras_leaves_xla_off": "Keras" in left_off}
            if ceilings is not None and "gflop" in found:
                entry |= {"gflop": found["gflop"], **reached}
            entries.append(entry)
        lines.append(line)
    return "\n".join([*lines, *map(left_off_note, left_off)]), entries


def left_off_note(label: str) -> str:
    """Return what to print below a table for a side that does not compile though it was asked to."""
    return f"{label} was asked for XLA, too, and ran without: a layer of it says that it cannot be compiled"


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
