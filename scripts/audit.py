"""What in a model is dead, constant or ignored, and why; and what each of its parts is worth.

Over a few batches: the gradient of every variable, the output of every layer, in float32. Then, on test examples, what
the accuracy loses when positions are permuted, attention made uniform, an involution's kernel the image's mean, a block
dropped, a head set to zero. Without --run the weights are those that a training starts from: what is dead by
construction shows there already.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from parts import command_line

if TYPE_CHECKING:
    from loops.data.dataset import Dataset, Split
    from loops.recipes.recipe import Recipe

EXAMPLES = """\
  python scripts/audit.py transformer_forda --data sample
  python scripts/audit.py vit_cifar100 --run runs/vit_cifar100 --html audit.html
  python scripts/audit.py convnet_cifar10 --data ~/data --batches 4 --batch-size 32 --examples 0
"""


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe")
    parser.add_argument("--run", metavar="DIR", type=Path, help="run folder of a training, for its best weights")
    parser.add_argument("--data", metavar="auto|sample|DIR", help="where the data comes from, see train.py")
    parser.add_argument(
        "--set", metavar="FIELD=VALUE", type=command_line.setting, action="append", default=[], help="change the recipe"
    )
    parser.add_argument("--batches", metavar="N", type=int, default=4, help="batches to look at (default 4)")
    parser.add_argument("--batch-size", metavar="N", type=int, default=8, help="examples in each (default 8)")
    parser.add_argument(
        "--examples",
        metavar="N",
        type=int,
        default=256,
        help="test examples for interventions, validation ones where the recipe has hold_test (default 256; 0: none)",
    )
    parser.add_argument("--html", metavar="FILE", type=command_line.writable_file, help="write the report as a page")
    return parser


def main(arguments) -> int:
    import tensorflow as tf
    from tqdm import tqdm

    from loops import data, recipes
    from loops.data.pipeline import evaluation_batches, first, train_batches
    from loops.learner import splits
    from loops.objective import to_floats
    from loops.run.restore import fresh_model, restored_model
    from loops.run.runs import Run
    from tfcore import random
    from tfcore.inspect.audit.audit import audit, intervene
    from tfcore.inspect.pages.audit_report import audit_html, audit_text
    from tfcore.ops.losses import cross_entropy_from_logits

    for option, least in (("batches", 2), ("batch_size", 2), ("examples", 0)):
        if getattr(arguments, option) < least:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} must be at least {least}, got {getattr(arguments, option)}")
    recipe = recipes.get(arguments.recipe)
    if arguments.run is not None:
        recipe = Run.open(arguments.run).recipe
        if recipe.name != arguments.recipe:
            raise ValueError(f"{arguments.run}: a run of {recipe.name}, not of {arguments.recipe}: name that recipe")
    settings = [*arguments.set, *([] if arguments.data is None else [("data", arguments.data)])]
    recipe = recipe.changed([*settings, ("precision", "float32")])  # what is dead, is so in every precision
    dataset = data.of_recipe(recipe)
    trained_on, _ = splits(recipe, dataset)
    unseen, kind = unseen_of(recipe, dataset)
    if arguments.run is None:
        model, weights = fresh_model(recipe, dataset.sizes), "the weights that a training starts from"
        recipe.fit_statistics(model, trained_on.inputs)
    else:
        run = Run(arguments.run, recipe)
        run.check_data(dataset)
        model, weights = restored_model(run), f"the best weights of {arguments.run}"

    def tensors(batches) -> list:
        return [(to_floats(tf.constant(x), recipe.pixel_scale), tf.constant(y)) for x, y in batches]

    wanted = arguments.batches * arguments.batch_size
    if wanted > len(trained_on):
        raise ValueError(
            f"{arguments.batches} batches of {arguments.batch_size} are more than the {len(trained_on)} train "
            "examples: ask for fewer by --batches or --batch-size"
        )
    shuffled = train_batches(trained_on, arguments.batch_size, seed=recipe.seed, epoch=0)
    looked_at = tensors(batch for batch, _ in zip(shuffled, range(arguments.batches), strict=False))
    result = audit(model, looked_at, cross_entropy_from_logits, key=random.make_key(recipe.seed))
    examples = min(arguments.examples, len(unseen))
    if examples:
        tested = tensors(evaluation_batches(first(unseen, examples), max(arguments.batch_size, 32)))
        intervene(result, model, tested, progress=lambda work: tqdm(work, "interventions", disable=None, leave=False))

    about = f"{weights}; {result.examples} train examples of {dataset.source}"
    about += f", interventions on {examples:,} {kind} examples" if examples else ""
    if arguments.run is None and examples:
        about += "; untrained weights: what the interventions lose says little yet"
    if arguments.html is not None:
        command_line.write_text(arguments.html, audit_html(result, f"Audit of {recipe.name}", about=about))
    command_line.write_json(arguments.json, {"recipe": recipe.name, "about": about, **result.to_json()})
    print(audit_text(result, f"{recipe.name}: {about}"), end="")
    return 0


def unseen_of(recipe: "Recipe", dataset: "Dataset") -> tuple["Split", str]:
    """Return the split for interventions and its kind.

    Of a recipe that holds its test split back it is the validation split: what an audit shows may lead to a choice.
    """
    from loops.learner import splits

    return (splits(recipe, dataset)[1], "validation") if recipe.hold_test else (dataset.test, "test")


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
