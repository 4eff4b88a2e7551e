"""What the compiler made of a recipe's step: its kernels, what each computes, moves and takes, and where it comes from.

The step is built as a training builds it, on one batch of made-up data, compiled by XLA and run under TensorFlow's
profiler, beside the ceilings of this machine. --html writes all of it as one page that needs no network; --compare sets
another formulation beside the recipe's own. With --xla off: the operations of TensorFlow's graph and their times.
"""

from parts import command_line

EXAMPLES = """\
  python scripts/inspect_kernels.py inn_cifar10 --html inn.html
  python scripts/inspect_kernels.py vit_cifar100 --batch-size 4 --json kernels.json --html vit.html
  python scripts/inspect_kernels.py inn_cifar10 --compare patches
  python scripts/inspect_kernels.py transformer_forda --batch-size 4 --compare direct --compare constant_branches=skip
  python scripts/inspect_kernels.py perceiver_cifar100 --batch-size 2 --step eval --xla off
"""
TURNS = 9  # of each form in a comparison


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe")
    parser.add_argument("--step", choices=("train", "eval"), default="train", help="which step (default train)")
    parser.add_argument("--xla", choices=("on", "off"), default="on", help="compiled, or in graph mode (default on)")
    parser.add_argument("--precision", metavar="NAME", help="other than the recipe's: float32, mixed_bfloat16 ...")
    parser.add_argument("--batch-size", metavar="N", help="other than the recipe's")
    parser.add_argument(
        "--set", metavar="FIELD=VALUE", type=command_line.setting, action="append", default=[], help="change the recipe"
    )
    parser.add_argument(
        "--compare",
        metavar="FORMULATION",
        action="append",
        default=[],
        help="set another formulation, or FIELD=VALUE, beside the recipe's own; may be repeated (--json stays the "
        "recipe's own kernels)",
    )
    parser.add_argument(
        "--steps", metavar="N", type=int, default=20, help="steps under the profiler (default 20; 0: nothing is run)"
    )
    parser.add_argument("--html", metavar="FILE", type=command_line.writable_file, help="write the report as a page")
    return parser


def main(arguments) -> int:
    from loops import recipes
    from loops.made_up import made_up_dataset, made_up_step
    from tfcore.inspect.pages.kernel_page import html_report
    from tfcore.inspect.pages.kernel_report import text_report
    from tfcore.inspect.profile.comparison import Form, comparison_text, take_turns
    from tfcore.inspect.profile.compiler import inspect_step
    from tfcore.inspect.profile.step_profile import profile_graph, profile_step

    if arguments.steps < 0:
        raise ValueError(f"--steps must be at least 0, got {arguments.steps}")
    if arguments.compare and arguments.xla == "off":
        raise ValueError("--compare sets compiled steps side by side: leave out --xla off")
    settings = list(arguments.set)
    for field in ("batch_size", "precision"):
        if getattr(arguments, field) is not None:
            settings.append((field, getattr(arguments, field)))
    recipe = recipes.get(arguments.recipe).changed(settings)
    rivals = [formulation(recipe, text) for text in arguments.compare]

    def build(*setting):
        changed = recipe.changed(setting)
        return made_up_step(changed, made_up_dataset(changed), kind=arguments.step, xla=arguments.xla == "on")[:2]

    step, inputs = build()
    built = [build(setting) for setting in rivals]  # now: a wrong setting is refused before anything is compiled
    profile = (profile_step if arguments.xla == "on" else profile_graph)(step, *inputs, steps=arguments.steps)
    about = f"{recipe.name}, {arguments.step} step, batch {recipe.batch_size}, {recipe.precision}"
    about += ", compiled by XLA" if arguments.xla == "on" else ", graph mode"
    print(text_report(profile, about), end="", flush=True)

    forms = []
    if rivals:
        reports = [profile.report, *(inspect_step(function, *values) for function, values in built)]
        times = [()] * len(reports)
        if arguments.steps:
            runs = [lambda f=function, v=values: f(*v).numpy() for function, values in [(step, inputs), *built]]
            times = take_turns(runs, TURNS)
        labels = ["the recipe's own", *("=".join(setting) for setting in rivals)]
        forms = [Form(*parts) for parts in zip(labels, reports, times, strict=True)]
        title = f"side by side, {TURNS} turns each" if arguments.steps else "side by side"
        print("\n" + comparison_text(forms, title), end="")
    if arguments.html is not None:
        command_line.write_text(arguments.html, html_report(profile, about, forms=forms))
    command_line.write_json(arguments.json, profile.to_json())
    return 0


def formulation(recipe, text: str) -> tuple[str, str]:
    """Return the field and the value that `--compare` means: FIELD=VALUE, a variant's value, or a `formulation`."""
    if "=" in text:
        field, _, value = text.partition("=")
        return field, value
    variants = [command_line.setting(extra) for variant in recipe.variants for extra in variant]
    return next((setting for setting in variants if setting[1] == text), ("formulation", text))


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
