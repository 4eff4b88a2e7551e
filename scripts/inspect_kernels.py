"""What XLA made of a program: its kernels, what each computes, moves and takes, and where it comes from.

WHAT is a recipe, whose step is built as a training builds it on one batch of made-up data, compiled and run under
TensorFlow's profiler, beside the ceilings of this machine; or any other program, recognized by its content: an HLO text
(plain or gzip), a folder that --xla_dump_to wrote, a profile (*.xplane.pb, or its log folder: times included), an
*.hlo.pb, a SavedModel, or MODULE:FUNCTION: a tf.function, a function of tensors or a Keras model of yours.

--html writes all of it as one page that needs no network; --against sets another program beside it, --compare another
formulation of a recipe. With --xla off: the operations of TensorFlow's graph and their times.
"""

from parts import command_line, subjects

EXAMPLES = """\
  python scripts/inspect_kernels.py inn_cifar10 --html inn.html
  python scripts/inspect_kernels.py vit_cifar100 --batch-size 4 --json kernels.json --html vit.html
  python scripts/inspect_kernels.py inn_cifar10 --compare patches
  python scripts/inspect_kernels.py inn_cifar10 --against precision=mixed_bfloat16 --html difference.html
  python scripts/inspect_kernels.py transformer_forda --batch-size 4 --compare direct --compare constant_branches=skip
  python scripts/inspect_kernels.py perceiver_cifar100 --batch-size 2 --step eval --xla off
  python scripts/inspect_kernels.py compiled.txt --html page.html
  python scripts/inspect_kernels.py dump/ --module jit_train_step --against other_dump/
  python scripts/inspect_kernels.py my_model.py:step --args 'f32[32,224,224,3] s32[32]'
"""


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("what", metavar="WHAT", help="a recipe, a file, a folder or MODULE:FUNCTION")
    parser.add_argument("--module", metavar="NAME", default="", help="of several modules this one, not the largest")
    parser.add_argument(
        "--args", metavar="SHAPES", default="", help="of MODULE:FUNCTION, or a function there that returns them"
    )
    parser.add_argument(
        "--against",
        metavar="OTHER",
        help="set another WHAT beside it, a saved --json, or of a recipe another formulation or FIELD=VALUE",
    )
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
    from tfcore.inspect.pages import page
    from tfcore.inspect.pages.difference_page import difference_parts
    from tfcore.inspect.pages.kernel_page import html_report
    from tfcore.inspect.pages.kernel_report import text_report
    from tfcore.inspect.profile.comparison import comparison_text
    from tfcore.inspect.profile.differences import Side, difference_text

    if arguments.steps < 0:
        raise ValueError(f"--steps must be at least 0, got {arguments.steps}")
    if arguments.compare and arguments.xla == "off":
        raise ValueError("--compare sets compiled steps side by side: leave out --xla off")
    other = None if arguments.against is None else subjects.find_other(arguments)
    subject = subjects.find(arguments.what, arguments)
    found = subject()
    about, profile, forms = found.about, found.profile, found.forms
    note = [page.paragraph(found.note)] if found.note else []
    if arguments.html is not None and other is None:
        command_line.write_text(arguments.html, html_report(profile, about, forms=forms, before=note))
    command_line.write_json(arguments.json, profile.to_json())
    print(text_report(profile, about), end="", flush=True)
    if found.note:
        print(f"\n{found.note}", flush=True)
    if forms:
        title = f"side by side, {subjects.TURNS} turns each" if forms[0].ms else "side by side"
        print("\n" + comparison_text(forms, title), end="")
    if other is not None:
        sides = Side.of_profile(about, profile), other()
        if arguments.html is not None:
            parts = [*note, *difference_parts(*sides)]
            command_line.write_text(arguments.html, html_report(profile, about, forms=forms, before=parts))
        print("\n" + difference_text(*sides), end="")
    return 0


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
