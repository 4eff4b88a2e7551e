"""Time the full training step of recipes, beside the same step of Keras, in one run.

Each contender runs in a process of its own, with the same threads and the same allocator, and they take turns: a
machine that is slow for a minute is slow for all of them. Each side is timed with XLA and without; its better mode
counts. Data lie in memory; compilation and warm-up are apart. ratio = Keras / ours: above 1 is faster.
"""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

import command_line

EXAMPLES = """\
  python scripts/benchmark.py transformer_forda --against keras --batch-size 8 --variants --flops
  python scripts/benchmark.py convnet_cifar10 inn_cifar10 --against keras --json speed.json
  python scripts/benchmark.py transformer_forda --set constant_branches=skip
  python scripts/benchmark.py all --against keras --flops       each at its published batch size, or what fits two cores
"""
WORKER = "import json, sys; import benchmark_worker; benchmark_worker.main(json.loads(sys.argv[1]))"
# glibc gives freed blocks back to the system and faults them in again at every step: the same cure for both sides.
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
CEILINGS = "import json; from tfcore.inspect.roofline import measure_ceilings as m; print(json.dumps(m().to_json()))"
# Batch sizes of `all`, where the published ones take minutes a turn on a small machine.
SMALLER = {"vit_cifar100": "32", "perceiver_cifar100": "4", "transformer_forda": "8"}
TURN = 1.0  # seconds that a contender runs before the next one's turn, one step at least


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to run a step: whose, with which settings, compiled or not."""

    recipe: str
    side: str  # ours or keras
    label: str
    settings: tuple[str, ...]
    xla: str


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("recipes", metavar="RECIPE", nargs="+", help="names of recipes, or all")
    parser.add_argument("--against", choices=("keras",), help="time Keras's step of the same model, too")
    parser.add_argument("--batch-size", metavar="N", help="other than the recipe's")
    parser.add_argument(
        "--set", metavar="FIELD=VALUE", action="append", default=[], help="change fields of the recipes"
    )
    parser.add_argument(
        "--variants", action="store_true", help="our step in each formulation that the recipe's model has"
    )
    parser.add_argument("--flops", action="store_true", help="count the arithmetic of each compiled step, too")
    parser.add_argument("--turns", metavar="N", type=int, default=9, help="turns of each contender (default 9)")
    return parser


def main(arguments) -> int:
    from loops import recipes

    if arguments.turns < 3:
        raise ValueError(f"--turns must be at least 3, for a median with a spread, got {arguments.turns}")
    everything = arguments.recipes == ["all"]
    names = list(recipes.RECIPES) if everything else arguments.recipes
    settings = {name: list(arguments.set) for name in names}
    for name in names:
        batch_size = arguments.batch_size or (SMALLER.get(name) if everything else None)
        if batch_size is not None:
            settings[name].append(f"batch_size={batch_size}")
        recipes.get(name).changed([command_line.setting(text) for text in settings[name]])
    ceilings = None
    if arguments.flops:
        ceilings = json.loads(_run(CEILINGS))
        print(
            f"ceilings: float32 products {_peak(ceilings):.0f} GFLOP/s, memory {_stream(ceilings):.1f} GB/s", flush=True
        )
    result = []
    for name in names:
        contenders = [
            Contender(name, side, label, (*settings[name], *extra), xla)
            for side, label, extra in sides(name, arguments)
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
    command_line.write_json(arguments.json, result)
    return 0


def sides(name: str, arguments) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return (side, label, extra settings) of all that runs for one recipe; ours comes first."""
    from loops import recipes

    found = [("ours", "ours", ())]
    if arguments.variants:
        variants = recipes.get(name).variants
        if not variants:
            raise ValueError(f"{name} has one formulation only: leave --variants out")
        found = [("ours", " ".join(extra), extra) for extra in variants]
    if arguments.against:
        found.append(("keras", "Keras", ()))
    return found


def race(contenders: list[Contender], turns: int, *, flops: bool) -> dict[Contender, dict]:
    """Let the contenders take turns; return of each the milliseconds of its turns, compile seconds and peak memory.

    `flops`: also the arithmetic of the step as XLA compiles it, counted for one mode of each.
    """
    with contextlib.ExitStack() as stack:
        workers = {}
        for contender in contenders:  # one after the other: compilation uses all cores
            worker = stack.enter_context(_worker(contender))
            workers[contender] = (worker, _answer(worker, contender))
        times: dict[Contender, list[float]] = {contender: [] for contender in contenders}
        for _ in range(turns):
            for contender, (worker, _) in workers.items():
                print(json.dumps({"seconds": TURN}), file=worker.stdin, flush=True)
                times[contender].append(_answer(worker, contender)["ms"])
        found = {}
        for contender, (worker, ready) in workers.items():
            print(json.dumps({"quit": True}), file=worker.stdin, flush=True)
            found[contender] = {**ready, **_answer(worker, contender), "ms": times[contender]}
    if flops:  # with fresh processes: the peak memory above is that of training alone
        counts = {contender.label: _count(contender) for contender in contenders if contender.xla == "on"}
        found = {contender: {**timing, **counts[contender.label]} for contender, timing in found.items()}
    return found


def _count(contender: Contender) -> dict:
    with _worker(contender) as worker:
        _answer(worker, contender)
        print(json.dumps({"flops": True}), file=worker.stdin, flush=True)
        return _answer(worker, contender)


def _environment() -> dict[str, str]:
    return {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **ALLOCATOR, "PYTHONPATH": os.pathsep.join(sys.path)}


def _run(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, stdout=subprocess.PIPE, env=_environment(), text=True, check=True).stdout


@contextlib.contextmanager
def _worker(contender: Contender) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", WORKER, json.dumps(dataclasses.asdict(contender))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(), text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _answer(worker: subprocess.Popen, contender: Contender) -> dict:
    line = worker.stdout.readline()
    if not line:
        raise ValueError(f"{contender.recipe}, {contender.label}, xla {contender.xla}: its process ended, see above")
    answer = json.loads(line)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer


def _peak(ceilings: dict) -> float:
    return ceilings["flops_per_second"]["float32"] / 1e9


def _stream(ceilings: dict) -> float:
    return ceilings["bytes_per_second"] / 1e9


def fractions(found: dict, ms: float, xla: str, ceilings: dict) -> dict[str, float]:
    """Return which fraction of the ceilings a step of `ms` milliseconds reaches: of products' rate, of the memory's.

    The bytes are those of the kernels that XLA makes; without XLA nobody counts them.
    """
    reached = {"of_products": found["gflop"] / (ms / 1000) / _peak(ceilings)}
    if xla == "on":
        reached["of_memory"] = found["gbytes"] / (ms / 1000) / _stream(ceilings)
    return reached


def table(name: str, timings: dict[Contender, dict], ceilings: dict | None = None) -> tuple[str, list[dict]]:
    """Return the printed table and the JSON entries of one recipe: each side at its best of XLA on and off."""
    best: dict[str, tuple[Contender, dict]] = {}
    for contender, found in timings.items():
        if contender.label not in best or statistics.median(found["ms"]) < statistics.median(
            best[contender.label][1]["ms"]
        ):
            best[contender.label] = (contender, found)
    keras = best.get("Keras")
    batch = next(iter(timings.values()))["batch_size"]
    lines = [
        f"\n{name}, batch {batch}",
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
        if keras is not None and label != "Keras":
            ratio, ratio_low, ratio_high = ratios(keras[1]["ms"], found["ms"])
            line += f"  {ratio:.2f} ({ratio_low:.2f} .. {ratio_high:.2f})"
            entries.append(
                {
                    "recipe": name,
                    "variant": label,
                    "batch_size": batch,
                    "ours_ms": median,
                    "keras_ms": statistics.median(keras[1]["ms"]),
                    "ratio": ratio,
                    "low": ratio_low,
                    "high": ratio_high,
                    "ours_xla": contender.xla,
                    "keras_xla": keras[0].xla,
                    "ours_peak_mb": found["peak_mb"],
                    "keras_peak_mb": keras[1]["peak_mb"],
                }
            )
        elif label != "Keras":
            entries.append({"recipe": name, "variant": label, "batch_size": batch, "ours_ms": median})
        if ceilings is not None and "gflop" in found and label != "Keras":
            entries[-1] |= {"gflop": found["gflop"], **reached}
        lines.append(line)
    return "\n".join(lines), entries


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return median, lower and upper quartile."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, low, high


def ratios(theirs: list[float], ours: list[float]) -> tuple[float, float, float]:
    """Return median and quartiles of the ratio turn by turn: what slows both sides at once cancels."""
    return spread([their / our for their, our in zip(theirs, ours, strict=True)])


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
