"""Where two computations of one training step part: the first divergent tensor, forward and backward.

Both sides start from the same weights, batch and key; the same step in float64 is the referee. It tells rounding, and
where it is amplified, from a fault. Exit code 1 where something is more than rounding explains.
"""

from pathlib import Path

from parts import command_line

EXAMPLES = """\
  python scripts/compare_numerics.py vit_cifar100 --data sample --a xla=off --b xla=on
  python scripts/compare_numerics.py inn_cifar10 --run runs/inn_cifar10 --b precision=mixed_bfloat16
  python scripts/compare_numerics.py perceiver_cifar100 --data sample --a formulation=direct --b formulation=folded
"""


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe")
    parser.add_argument("--run", metavar="DIR", type=Path, help="run folder of a training, for its best weights")
    parser.add_argument("--data", metavar="auto|sample|DIR", help="where the data comes from, see train.py")
    fields = {"metavar": "FIELD=VALUE", "type": command_line.setting, "default": []}
    parser.add_argument("--set", action="append", help="change the recipe of both sides", **fields)
    for side in "ab":
        parser.add_argument(f"--{side}", nargs="+", help=f"what is {side}'s own: xla, precision, formulation", **fields)
    parser.add_argument("--examples", metavar="N", type=int, default=8, help="in the batch (default 8)")
    return parser


def main(arguments) -> int:
    from loops import data, recipes
    from loops.health.divergence import compare_recipes
    from loops.run.restore import restored_model
    from loops.run.runs import Run
    from tfcore.inspect.pages.divergence_report import divergence_text

    if arguments.examples < 2:
        raise ValueError(f"--examples must be at least 2, got {arguments.examples}")
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
    recipe = recipe.changed([("xla", "off"), *arguments.set, *source])
    sides = [recipe.changed(settings) for settings in (arguments.a, arguments.b)]
    dataset = data.of_recipe(recipe)
    found = compare_recipes(*sides, dataset, examples=arguments.examples, weights=weights)
    named = [" ".join("=".join(pair) for pair in side) or "the recipe" for side in (arguments.a, arguments.b)]
    about = f"{origin}; {arguments.examples} train examples of {dataset.source}"
    print(divergence_text(found, f"{recipe.name}: a {named[0]}, b {named[1]}; {about}"), end="")
    result = {"recipe": recipe.name, "about": about, "a": named[0], "b": named[1], **found.to_json()}
    command_line.write_json(arguments.json, result)
    return int(found.fault)


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
