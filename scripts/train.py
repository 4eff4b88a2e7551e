"""Train a recipe into a run folder."""

import shlex
import signal
import sys
from pathlib import Path

from parts import command_line

EXAMPLES = """\
  python scripts/train.py inn_cifar10 --data sample
  python scripts/train.py convnet_cifar10 --data ~/data --out runs/convnet --seed 1
  python scripts/train.py inn_cifar10 --out runs/wide --set kernel_size=5 --set reduction_ratio=1
  python scripts/train.py transformer_forda --data ~/ucr --set dataset=ECG200 --batch-size 16
  python scripts/train.py inn_cifar10 --resume                 go on after an interruption
  python scripts/train.py inn_cifar10 --resume --epochs 100    go on for longer
  python scripts/train.py inn_cifar10 --tensorboard            curves in runs/inn_cifar10/tensorboard
  python scripts/train.py vit_cifar100 --precision mixed_bfloat16 --explain
  python scripts/train.py inn_cifar10 --resume --batch-size 32 --allow-change batch_size
  python scripts/train.py vit_cifar100 --devices 4             each batch divided among 4 GPUs
  python scripts/train.py inn_cifar10 --out runs/wide --debug-numerics   a NaN stopped it: in which layer?

--precision auto measures a step in float32 and in mixed_bfloat16 and takes the faster, which the run keeps

exit codes: 0 trained to the end, 2 wrong input, 130 stopped by Ctrl-C, 143 by SIGTERM (Slurm, Kubernetes), 129 by
SIGHUP (the terminal is gone), 138 by SIGUSR1 (sbatch --signal=USR1@60), 141 because nobody reads what it prints
(| head). After the first four everything is saved; after 141 and SIGKILL at most an epoch is done again, or N steps by
--set checkpoint_steps=N; --resume goes on to the same bits
"""
HOW = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}  # what a person calls it


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("recipe", metavar="RECIPE", help="name of the recipe, such as inn_cifar10 or convnet_cifar10")
    parser.add_argument(
        "--data",
        metavar="auto|sample|DIR",
        help="auto: the cache (~/.cache/tfcore or TFCORE_DATA), else a download; sample: made by the program; "
        "DIR: a folder with the official binary files, or with a UCR set's NAME_TRAIN.tsv and NAME_TEST.tsv",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="run folder (default: runs/RECIPE)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the run folder")
    parser.add_argument(
        "--allow-change",
        metavar="FIELD",
        choices=("batch_size", "precision", "xla", "devices", "workers", "epochs"),
        action="append",
        default=[],
        help="let --resume change batch_size, precision, xla, devices or workers, or the epochs of a cosine, whose "
        "learning rates depend on them; may be given several times. "
        "Exactness ends there: the run is no longer what its seed and recipe repeat; environment.json says so",
    )
    parser.add_argument("--epochs", metavar="N")
    parser.add_argument("--batch-size", metavar="N")
    parser.add_argument("--seed", metavar="N", help="decides weights, order of the batches and dropout masks")
    parser.add_argument("--precision", metavar="NAME", help="float32, mixed_bfloat16, mixed_float16; auto: see below")
    parser.add_argument(
        "--xla", metavar="on|off|auto", help="compile the steps; auto measures both and takes the faster"
    )
    parser.add_argument(
        "--devices",
        metavar="N",
        help="divide each batch among N GPUs (without a GPU: N parts of the CPU, to try it); on several machines start "
        "the same command on each, with TF_CONFIG in the environment",
    )
    parser.add_argument(
        "--steps-per-call",
        metavar="N",
        help="train steps in one call of TensorFlow (default 1): the same bits, sooner where a step takes about a "
        "millisecond; Ctrl-C is heard after each call",
    )
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard event files to RUN/tensorboard")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="train nothing: print which layer computes in which dtype under the recipe's precision",
    )
    parser.add_argument(
        "--debug-numerics",
        action="store_true",
        help="train nothing: repeat the run's steps after its newest checkpoint, up to the first whose loss, gradients "
        "or weights are not finite, and name the layer and the tensor where that begins; writes nothing to the run",
    )
    parser.add_argument(
        "--set",
        metavar="FIELD=VALUE",
        type=command_line.setting,
        action="append",
        default=[],
        help="change any field of the recipe; may be given several times",
    )
    return parser


def main(arguments) -> int:
    from loops import data, recipes
    from loops.devices import distribution
    from loops.run import resume
    from loops.run.runs import Run, device
    from loops.tensorboard import EventFiles
    from loops.train import Interrupted, train

    recipe = recipes.get(arguments.recipe)
    folder = arguments.out or Path("runs") / recipe.name
    options = ("data", "epochs", "batch_size", "seed", "precision", "xla", "devices", "steps_per_call")
    settings = [(name, getattr(arguments, name)) for name in options if getattr(arguments, name) is not None]
    settings += arguments.set
    auto = ("precision", "auto")
    measure, settings = auto in settings, [setting for setting in settings if setting != auto]
    if arguments.explain:
        return print_dtypes(arguments, recipe.changed(settings))
    if arguments.debug_numerics:
        return print_diagnosis(arguments, folder, settings)
    if arguments.allow_change and not arguments.resume:
        raise ValueError("--allow-change is for --resume: a new run may have any setting")
    workers, index = distribution.workers()
    settings.insert(0, ("workers", str(workers)))
    if workers > 1:
        print(
            f"worker {index} of {workers}: waits for the others of TF_CONFIG (till then only SIGKILL ends it)",
            flush=True,
        )
    if arguments.resume:
        if index > 0 and not (folder / "recipe.json").exists():
            raise ValueError(f"{folder}: worker {index} finds no run: put it in a file system that all workers share")
        run = Run.open(folder)
        if run.recipe.name != recipe.name:
            raise ValueError(f"{folder} holds a run of {run.recipe.name}, not of {recipe.name}: give its --out folder")
        recipe = run.recipe.changed(settings)
        resume.check_changes(run.recipe, recipe, arguments.allow_change)
        devices = distribution.start(recipe)
        dataset = data.of_recipe(recipe)
        run.recipe = recipe
    else:
        recipe = recipe.changed(settings)
        devices = distribution.start(recipe)
        run, dataset = new_run(folder, recipe, devices, measure_precision=measure)
        recipe = run.recipe

    if not devices.is_chief:
        return follow_chief(run, dataset, arguments, devices)
    print(f"{recipe.name} on {dataset.source}: {len(dataset.train):,} train and {len(dataset.test):,} test examples")
    print(f"run folder {folder}, on {device()}", flush=True)
    follow = EventFiles(folder / "tensorboard") if arguments.tensorboard else lambda history: None
    try:
        summary = train(
            run,
            dataset,
            resume=arguments.resume,
            report=lambda line: print(line, flush=True),
            follow=follow,
            devices=devices,
        )
    except Interrupted as stop:
        command = ["python", "scripts/train.py", recipe.name, "--out", str(folder), "--resume"]
        how = HOW.get(stop.signal, f"stopped by {stop.signal.name}")
        print(f"\n{how}; everything is saved. Go on with:\n  {shlex.join(command)}", file=sys.stderr)
        return command_line.stop_code(stop)
    command_line.write_json(arguments.json, summary)
    print(summary_table(summary))
    return 0


def new_run(folder: Path, recipe, devices, *, measure_precision: bool):
    """Return (run, dataset) of a new run folder, in the faster precision if that is to be measured."""
    from loops import data
    from loops.health import precision
    from loops.learner import prepare
    from loops.run.runs import Run

    if devices.is_chief:
        Run.check_new(folder)  # before a download that may take minutes
    dataset = data.of_recipe(recipe)
    prepare(recipe, dataset)  # what the model, the optimizer or the data refuse, they refuse here
    if measure_precision:
        recipe, milliseconds = precision.choose(recipe, dataset, report=lambda line: print(line, flush=True))
    elif devices.is_chief and (line := precision.hint(recipe)):
        print(line, flush=True)
    if not devices.is_chief:
        return Run(folder, recipe), dataset
    run = Run.create(folder, recipe)
    if measure_precision:
        run.write_json("environment.json", run.read_json("environment.json") | {"precision_measured_ms": milliseconds})
    return run, dataset


def follow_chief(run, dataset, arguments, devices) -> int:
    """Train as one of several workers, of which another prints and writes."""
    from loops.train import Interrupted, train

    try:
        train(run, dataset, resume=arguments.resume, devices=devices)
    except Interrupted as stop:
        return command_line.stop_code(stop)
    return 0


def print_dtypes(arguments, recipe) -> int:
    """Print in which dtypes the recipe's layers compute; nothing is trained, and nothing written but --json."""
    from loops.health.explain import explain
    from tfcore.inspect.graph.dtypes import dtype_table

    if arguments.resume:
        raise ValueError("--explain is of a recipe and its settings, not of a run: leave out --resume")
    rows = explain(recipe)
    command_line.write_json(arguments.json, [row.to_json() for row in rows])
    print(f"{recipe.name} in {recipe.precision}: the floating-point dtypes of a train step, layer by layer\n")
    print(dtype_table(rows))
    return 0


def print_diagnosis(arguments, folder: Path, settings: list[tuple[str, str]]) -> int:
    """Print where a run's numbers go wrong; the run folder stays as it is."""
    from loops import data
    from loops.health.debugging import debug_numerics
    from loops.run.runs import Run

    if arguments.resume or settings:
        raise ValueError("--debug-numerics repeats the run in --out as it is: leave out --resume and all settings")
    run = Run.open(folder)
    if run.recipe.name != arguments.recipe:
        raise ValueError(f"{folder} holds a run of {run.recipe.name}, not of {arguments.recipe}: give its --out folder")
    recipe = run.recipe
    dataset = data.of_recipe(recipe)
    diagnosis = debug_numerics(run, dataset, report=lambda line: print(line, flush=True))
    first, last = diagnosis.first, diagnosis.last
    steps = f"step {first}" if first == last else f"steps {first} to {last}"
    if last < first:
        print(f"the run has come to its end after {first} steps: none is left to repeat")
    elif diagnosis.step is None:
        print(f"{steps}: loss, gradients and weights stay finite to the end of the epoch")
    else:
        print(f"{steps} repeated: numbers go wrong in step {diagnosis.step}")
        print(diagnosis_table(diagnosis))
    command_line.write_json(arguments.json, diagnosis.to_json())
    return 0


def diagnosis_table(diagnosis) -> str:
    """The first tensor that is not finite, line by line."""
    finding, rows = diagnosis.finding, []
    if finding is not None:
        rows = [
            ("layer", f"{finding.layer or 'outside of all layers'}, {finding.phase}"),
            ("operation", " in ".join((finding.op_type, *reversed(finding.within)))),
            ("variable", finding.variable),
            ("line", finding.source),
            ("tensor", str(finding.output)),
            *(("from", str(contents)) for contents in finding.inputs),
            ("examples", some(diagnosis.examples, all_of=finding.output.shape[:1])),
        ]
    return "\n".join(f"  {name:10}{text}" for name, text in (*rows, ("try", diagnosis.hint)) if text)


def some(examples: tuple[int, ...], all_of: tuple[int, ...]) -> str:
    """The first of many numbers; or that they are the whole batch."""
    if (len(examples),) == all_of:
        return "all of the batch"
    return ", ".join(map(str, examples[:8])) + (", ..." if examples[8:] else "")


def summary_table(summary: dict) -> str:
    """The final table: last and best epoch side by side."""
    last, best = summary["last"], summary["best"]
    lines = [
        f"\n{summary['recipe']}: {summary['parameters']:,} parameters, {summary['epochs']} epochs, "
        f"seed {summary['seed']}, {summary['seconds']:.0f} s",
        f"{'':12}{'last':>10}{'best':>10}",
        f"{'epoch':12}{last['epoch']:>10}{best['epoch']:>10}",
    ]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        lines.append(f"{name:12}{last[name]:>10.4f}{best[name]:>10.4f}")
    if "test" in summary:
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in summary["test"].items())
        lines.append(f"test split, weights of the best epoch: {metrics}")
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
