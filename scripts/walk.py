"""Follow one example through a model, forward and backward: every tensor, its gradient, its formula and line of source.

The example is one of the test split (--example) or a picture or series of your own (--input). --html writes all of it
as one page that needs no network; a slider goes over several examples or checkpoints. A recipe in half precision is
walked as it computes: it rounds every tensor to three digits or so, and the arithmetic written out adds up to as many.
"""

from pathlib import Path

from parts import command_line

EXAMPLES = """\
  python scripts/walk.py runs/inn_cifar10 --html walk.html
  python scripts/walk.py runs/inn_cifar10 --input cat.png --html walk.html
  python scripts/walk.py runs/vit_cifar100 --example 3 8 --html walk.html        two examples, with a slider
  python scripts/walk.py runs/inn_cifar10 --checkpoint kept best --html walk.html      through the training
  python scripts/walk.py inn_cifar10 --data sample --json walk.json              fresh weights
"""


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("what", metavar="RUN|RECIPE", help="a run folder, or a recipe: fresh weights")
    parser.add_argument("--data", metavar="auto|sample|DIR", help="other data than the recipe's, see train.py")
    parser.add_argument(
        "--input", metavar="FILE", type=Path, help="a picture, or a file of series, instead of a test example"
    )
    parser.add_argument(
        "--example",
        metavar="N",
        type=int,
        nargs="+",
        default=[],
        help="which test example, or which line of --input, counted from 0 (default 0)",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="NAME",
        nargs="+",
        default=[],
        help="whose weights: best (default), last, step-NUMBER, or kept: all step-… in order",
    )
    parser.add_argument(
        "--times",
        action="store_true",
        help="also the kernels of the compiled train step (batch of one), with microseconds",
    )
    parser.add_argument("--html", metavar="FILE", type=command_line.writable_file, help="write the walk as a page")
    return parser


def main(arguments) -> int:
    import tensorflow as tf

    from loops.objective import to_floats
    from parts.walks import Subject, kernel_times
    from tfcore.inspect.pages.walk_page import walk_html
    from tfcore.inspect.pages.walk_report import walk_text
    from tfcore.inspect.walk.walk import walk

    subject = Subject(arguments.what, arguments.data)
    examples = subject.examples(arguments.example, arguments.input)
    found, names = [], subject.class_names
    for weights, model in subject.models(arguments.checkpoint):
        for example in examples:
            inputs = to_floats(tf.constant(example.inputs), subject.recipe.pixel_scale)
            label, about = example.label, f"{weights}, {example.about}"
            if label is None:  # the loss needs one
                label = int(tf.argmax(model(inputs, training=False)[0]))
                about += f", taken for the class it is given: {names[label]}"
            else:
                about += f": {names[label]}"
            found.append((about, walk(model, inputs, tf.constant([label]))))
    title = f"A walk through {subject.recipe.name}"
    title += f" in {subject.recipe.precision}" if subject.recipe.precision != "float32" else ""
    for about, one in found:
        print(walk_text(one, f"{title}: {about}", names), end="")
    times = kernel_times(subject.recipe, found[0][1].stops) if arguments.times else {}
    for stop, kernels in times.items():
        print(f"{stop}: {len(kernels)} kernels, {sum(us for _, _, us in kernels):.1f} µs")
    if arguments.html is not None:
        command_line.write_text(arguments.html, walk_html(found, title, class_names=names, times=times))
    if arguments.json is not None:
        walks = [{"about": about, **one.to_json()} for about, one in found]
        command_line.write_json(
            arguments.json, {"recipe": subject.recipe.name, "classes": names, "walks": walks, "times": times}
        )
    return 0


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
