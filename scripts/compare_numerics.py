"""Where two computations of one training step part: the first divergent tensor, forward and backward.

Both sides start from the same weights, batch and key; the same step in float64 is the referee. It tells rounding, and
where it is amplified, from a fault. Exit code 1 where something is more than rounding explains.
"""

from pathlib import Path
from typing import Any

from parts import command_line

EXAMPLES = """\
  python scripts/compare_numerics.py vit_cifar100 --data sample --a xla=off --b xla=on
  python scripts/compare_numerics.py inn_cifar10 --run runs/inn_cifar10 --b precision=mixed_bfloat16 --steps 20
  python scripts/compare_numerics.py vit_cifar100 --data sample --a xla=off --save here.npz     # then, elsewhere:
  python scripts/compare_numerics.py vit_cifar100 --data sample --a saved=here.npz --b xla=off
  python scripts/compare_numerics.py convnet_cifar10 --data sample --b devices=2
  python scripts/compare_numerics.py vit_cifar100 --data sample --a xla=off --batch-invariance
  python scripts/compare_numerics.py all --csv numerics.csv
"""


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe; all: the table of --csv")
    parser.add_argument("--run", metavar="DIR", type=Path, help="run folder of a training, for its best weights")
    parser.add_argument("--data", metavar="auto|sample|DIR", help="where the data comes from, see train.py")
    fields: dict[str, Any] = {"metavar": "FIELD=VALUE", "type": command_line.setting, "default": []}
    parser.add_argument("--set", action="append", help="change the recipe of both sides", **fields)
    for side in "ab":
        what = f"what is {side}'s own: xla, precision, formulation, devices; or saved=FILE"
        parser.add_argument(f"--{side}", nargs="+", help=what, **fields)
    parser.add_argument("--examples", metavar="N", type=int, default=8, help="in the batch (default 8)")
    parser.add_argument("--save", metavar="FILE", type=command_line.writable_file, help="write a's record and stop")
    parser.add_argument("--steps", metavar="N", type=int, default=0, help="how the weights part over N steps")
    parser.add_argument(
        "--batch-invariance", action="store_true", help="instead: does an example's result depend on its batch, in a"
    )
    parser.add_argument(
        "--csv",
        metavar="FILE",
        type=command_line.writable_file,
        help="of all recipes, in small sizes: their table",
    )
    parser.add_argument("--html", metavar="FILE", type=command_line.writable_file, help="write the report as a page")
    return parser


def main(arguments) -> int:
    from loops import data
    from loops.health.divergence import RecordedStep, Step, check_same, compare_steps, recorded_step
    from loops.health.growth import measure_growth
    from tfcore.inspect.numerics.record_file import load_record, save_record
    from tfcore.inspect.pages.divergence_report import divergence_html, divergence_text

    check_options(arguments)
    if arguments.recipe == "all":
        return write_table(arguments)
    devices = started_devices(arguments)  # before TensorFlow's first operation
    recipe, weights, origin = subject(arguments)
    saved = [dict(side).get("saved") for side in (arguments.a, arguments.b)]
    sides = [
        recipe if file else recipe.changed(own) for file, own in zip(saved, (arguments.a, arguments.b), strict=True)
    ]
    check_same(*sides)
    dataset = data.of_recipe(recipe)
    weights = weights or Step(recipe, dataset, arguments.examples).weights
    examples = arguments.examples
    if arguments.batch_invariance:
        return report_invariance(arguments, Step(sides[0], dataset, examples, weights))
    records = []
    for file, side in zip(saved, sides[:1] if arguments.save else sides, strict=False):
        records.append(
            RecordedStep(*load_record(Path(file)))
            if file
            else recorded_step(side, dataset, examples=examples, weights=weights, devices=devices)
        )
    if arguments.save is not None:
        save_record(arguments.save, records[0].record, records[0].about)
        print(f"{arguments.save}: a's record; compare it by --a saved={arguments.save}")
        return 0
    found = compare_steps(records[0], records[1], recipe, dataset, examples=examples, weights=weights)
    named = [" ".join("=".join(pair) for pair in side) or "the recipe" for side in (arguments.a, arguments.b)]
    about = f"{origin}; {arguments.examples} train examples of {dataset.source}"
    title = f"{recipe.name}: a {named[0]}, b {named[1]}"
    print(divergence_text(found, f"{title}; {about}"), end="")
    result = {"recipe": recipe.name, "about": about, "a": named[0], "b": named[1], **found.to_json()}
    growth = None
    if arguments.steps:
        start = {"examples": examples, "weights": weights, "devices": devices}
        growth = measure_growth(sides[0], sides[1], dataset, steps=arguments.steps, **start)
        print(f"  {growth.sentence}")
        result["growth"] = {"distances": growth.distances, "rate": growth.rate, "sentence": growth.sentence}
    if arguments.html is not None:
        curve, sentence = ([], "") if growth is None else (growth.distances, growth.sentence)
        command_line.write_text(arguments.html, divergence_html(found, title, about, curve, sentence))
    command_line.write_json(arguments.json, result)
    return int(found.fault)


def check_options(arguments) -> None:
    """Refuse what does not go together."""
    if (arguments.recipe == "all") != (arguments.csv is not None):
        raise ValueError("all recipes make a table: give all and --csv FILE, or one recipe and no --csv")
    if arguments.examples < 2:
        raise ValueError(f"--examples must be at least 2, got {arguments.examples}")
    if arguments.steps < 0 or arguments.steps == 1:
        raise ValueError(f"--steps must be at least 2, got {arguments.steps}")
    for label, side in (("a", arguments.a), ("b", arguments.b)):
        if "saved" in dict(side):
            if len(side) > 1:
                raise ValueError(f"--{label}: saved=FILE stands alone, for the record has its own settings")
            if arguments.steps or (label == "a" and (arguments.save or arguments.batch_invariance)):
                raise ValueError(f"--{label} saved=FILE is one recorded step: leave out what computes anew from it")
    if arguments.batch_invariance and (arguments.steps or arguments.save or arguments.html):
        raise ValueError("--batch-invariance has no --steps, --save or --html: leave them out")


def started_devices(arguments):
    """Start the devices that a side asks for by devices=N, which divide its batch.

    Raises:
        ValueError: for two sides on several devices, each on another number, or with --batch-invariance.
    """
    from loops import recipes
    from loops.devices import distribution

    counts = {value for side in (arguments.a, arguments.b) for field, value in side if field == "devices"} - {"1"}
    if not counts:
        return distribution.ONE_DEVICE
    if len(counts) > 1:
        raise ValueError(
            f"devices: one number for both sides, or 1 for one of them, got {' and '.join(sorted(counts))}"
        )
    if arguments.batch_invariance:
        raise ValueError("--batch-invariance looks at one device: leave devices out")
    settings = [("xla", "off"), *arguments.set, ("devices", *counts)]
    return distribution.start(recipes.get(arguments.recipe).changed(settings))


def write_table(arguments) -> int:
    """Write a row for each pair of each recipe, after each, and print it; exit code 1 if one is a fault."""
    import csv
    import dataclasses
    import io

    from loops import recipes
    from loops.devices import distribution
    from loops.studies.numerics_table import rows

    found = []
    two = dataclasses.replace(recipes.get("cnn_cifar10"), devices=2, sync_batch_norm=True, xla="off")
    devices = distribution.start(two)  # before TensorFlow's first operation
    for row in rows(list(recipes.RECIPES), devices, steps=arguments.steps or 8, examples=arguments.examples):
        found.append(dataclasses.asdict(row))
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
        command_line.write_text(arguments.csv, text.getvalue())
        command_line.write_json(arguments.json, found)
        print(f"{row.recipe}, {row.a} | {row.b}: {row.forward:.1e} forward, {row.backward:.1e} backward", flush=True)
    return int(any(row["explained"] > 1 for row in found))


def subject(arguments) -> tuple:
    """Return (recipe, weights or None for fresh ones, where they are from)."""
    from loops import recipes
    from loops.run.restore import restored_model
    from loops.run.runs import Run

    recipe = recipes.get(arguments.recipe)
    weights, origin = None, "the weights that a training starts from"
    if arguments.run is not None:
        run = Run.open(arguments.run)
        recipe = run.recipe
        if recipe.name != arguments.recipe:
            raise ValueError(f"{arguments.run}: a run of {recipe.name}, not of {arguments.recipe}: name that recipe")
        weights = {path: variable.numpy() for path, variable in restored_model(run).named_variables().items()}
        origin = f"the best weights of {arguments.run}"
    source = [] if arguments.data is None else [("data", arguments.data)]
    return recipe.changed([("xla", "off"), *arguments.set, *source]), weights, origin


def report_invariance(arguments, step) -> int:
    """Print, call by call, how far an example's output depends on its batch."""
    import dataclasses

    from loops.objective import to_floats
    from tfcore.inspect.numerics.batch_invariance import PLACES, batch_invariance

    inputs = to_floats(step.inputs, step.recipe.pixel_scale)
    rows = batch_invariance(step.model, inputs, xla=step.recipe.xla == "on")
    print(f"{step.recipe.name}: the first of {arguments.examples} examples, beside its result in the batch")
    print("  " + "".join(f"{place:>20}" for place in PLACES))
    for row in rows:
        cells = (row.distances.get(place) for place in PLACES)
        texts = ("-" if cell is None else "bit-equal" if cell == 0 else f"{cell:.1e}" for cell in cells)
        print("  " + "".join(f"{text:>20}" for text in texts) + f"  {row.name}")
    command_line.write_json(arguments.json, [dataclasses.asdict(row) for row in rows])
    return 0


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
