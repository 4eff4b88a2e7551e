"""Prove on a GPU that everything is right, time every recipe, train each to its end: gpu_check.sh starts this.

Stages, all of them unless some are named: device (a product, a convolution and a compiled function beside float64),
parity (compare_keras.py all, without TF32), precisions (every recipe a few steps in each precision, XLA on and off),
time (each recipe's step in mixed_bfloat16, and its kernels), train (the six faithful recipes in mixed_bfloat16 with
XLA, and any other that --recipe names), report. A stage is a list of jobs, each a process of its own: OUT/STAGE/JOB
holds its log and small files, OUT/runs the checkpoints. A job that fails is recorded and the others go on. The same
command again names and keeps what has passed, goes on with trainings that were cut off, and repeats the rest. Exit code
1 unless all jobs recorded in OUT have passed; a target that is missed is no failure.
"""

import argparse
import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from loops.run import disk
from parts import command_line
from parts.gpu_report import FAITHFUL, STAGES, judge, markdown, summarize

EXAMPLES = """\
  bash scripts/gpu_check.sh --data DIR
  bash scripts/gpu_check.sh --data DIR --out /tmp/gpu --minutes 9 time train     again and again, until all has passed
  bash scripts/gpu_check.sh --recipe vit_cifar100 device precisions
  bash scripts/gpu_check.sh --tiny --out /tmp/tiny                               without a GPU: does each command work?
"""
SCRIPTS = Path(__file__).resolve().parent
TINY = {  # sizes of --tiny
    "convnet_cifar10": "filters=2,3,5 units=7",
    "inn_cifar10": "units=7",
    "inn_cifar10_best": "widths=4,6 blocks=1,2 mlp_widths=5,7 kernel_sizes=3,3 groups=2,3 bottlenecks=1,2",
    "cnn_cifar10_best": "widths=4,6 blocks=1,1",
    "vit_cifar100_best": "image_size=12 stem_filters=5 width=6 blocks=1 key_dim=3 mlp_width=7",
    "vit_cifar100_best_large": "image_size=12 width=6 blocks=1 heads=2 key_dim=3 mlp_width=7",
    "transformer_series_best": "kernels=3,5 stem_filters=3 filters=5,6 heads=2 mlp_width=7",
    "vit_cifar100": "image_size=12 width=6 blocks=1 heads=2 mlp_width=5 head_units=7",
    "perceiver_cifar100": "image_size=12 width=6 latents=5 blocks=1 heads=2",
    "transformer_forda": "blocks=1 key_dim=3 head_units=7",
    "cnn_cifar10": "filters=2,3,5 units=7",
    "transformer_forda_mended": "width=6 blocks=1 heads=2",
    "mlp_forda": "head_units=7",
}
SERIES = ("transformer_forda", "mlp_forda", "transformer_forda_mended", "transformer_series_best")
VARIANTS = ("inn_cifar10", "transformer_forda")  # whose formulations may stand in another order on a GPU
WARMED_UP = (  # for more steps than a short run has
    *("transformer_forda_mended", "transformer_series_best"),
    *("inn_cifar10_best", "cnn_cifar10_best", "vit_cifar100_best", "vit_cifar100_best_large"),
)
FILES = {  # by which a data set is known, in a folder of its own or without
    "cifar10": "cifar-10-batches-bin/test_batch.bin",
    "cifar100": "cifar-100-binary/test.bin",
    "FordA": "FordA/FordA_TRAIN.tsv",
    "FordA_part": "FordA_part/FordA_part_TRAIN.tsv",
}
CATALOG = ("models.", "ops.", "layers.", "optimizers.")  # the parts of what compare_keras.py all compares
UNSEEN = "nobody saw its end"  # of a job that runs, or was killed with all others
SAVING = 60  # seconds that a training has to save itself


@dataclasses.dataclass(frozen=True)
class Job:
    """A process: its command, what its environment has besides, and the run folder of a training."""

    stage: str
    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    run: Path | None = None
    tiny: bool = False

    @property
    def resumes(self) -> bool:
        """Whether it goes on where it was cut off."""
        return self.stage == "train"


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("stages", metavar="STAGE", nargs="*", type=stage, help=f"of {', '.join(STAGES)} (default: all)")
    parser.add_argument(
        "--data",
        metavar="auto|sample|DIR",
        help="what to train on, as for train.py (default auto, with --tiny sample); of a DIR without FordA but with "
        "FordA_part: that, its splits exchanged",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/gpu_check"), help="folder of the results")
    parser.add_argument("--recipe", choices=tuple(TINY), action="append", help="this one alone; may be repeated")
    parser.add_argument("--minutes", metavar="N", type=float, default=math.inf, help="save and stop after N minutes")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, a GPU or not: a rehearsal of some minutes")
    parser.add_argument("--cpu", action="store_true", help="go on without a GPU")
    return parser


def stage(text: str) -> str:
    """Parse the name of a stage."""
    if text not in STAGES:
        raise argparse.ArgumentTypeError(f"unknown stage {text!r}: give some of {', '.join(STAGES)}")
    return text


def main(arguments) -> int:
    data = arguments.data or ("sample" if arguments.tiny else "auto")
    if data not in ("auto", "sample"):
        data = str(disk.expanded(Path(data)).absolute())
        if not any(holds(data, name) for name in FILES):
            raise ValueError(f"{data}: no folder with one of {', '.join(FILES.values())}: give another one by --data")
    out, deadline = arguments.out.absolute(), time.monotonic() + 60 * arguments.minutes
    out.mkdir(parents=True, exist_ok=True)
    stages, no_gpu = arguments.stages or STAGES, arguments.tiny or arguments.cpu
    if not no_gpu and set(stages) != {"report"}:
        stages = ("device", *stages)
    recipes = [name for name in TINY if name in (arguments.recipe or TINY)]
    trained = [name for name in recipes if name in (arguments.recipe or FAITHFUL)]
    jobs = plan(out, data, recipes, trained, tiny=arguments.tiny, no_gpu=no_gpu)
    code, handler = 0, signal.signal(signal.SIGTERM, _interrupt)
    try:
        for name in (name for name in STAGES if name in stages):
            left = [job for job in jobs if job.stage == name and not kept(out, job)]
            several = min(5, max(2, (os.cpu_count() or 1) // 3))  # they share the GPU's memory, too
            run(out, left, several if arguments.tiny or name in ("parity", "precisions") else 1, deadline)
            if name == "device" and not no_gpu and records(out)[0]["state"] != "passed":
                print("stopped: the other stages need a GPU that computes (--cpu goes on without one)", flush=True)
                break
    except KeyboardInterrupt as stop:
        code = command_line.stop_code(stop)
    finally:
        signal.signal(signal.SIGTERM, handler)
    report = summarize(records(out))
    command_line.write_json(out / "report.json", report)
    command_line.write_text(out / "report.md", markdown(report))
    command_line.write_json(arguments.json, report)
    print("\n" + markdown(report) + f"\n{out / 'report.md'}: {'passed' if report['passed'] else 'FAILED'}")
    return code or (0 if report["passed"] else 1)


def holds(folder: str, dataset: str) -> bool:
    """Whether a folder seems to hold a data set."""
    path = Path(FILES[dataset])
    return (Path(folder) / path).exists() or (Path(folder) / path.name).exists()


def plan(out: Path, data: str, recipes: list[str], trained: list[str], *, tiny: bool, no_gpu: bool) -> list[Job]:
    """Return all jobs, in the order of their stages; `trained`: the recipes of the stage train."""

    def script(stage: str, name: str, file: str, *words: str, run: Path | None = None, **environment: str) -> Job:
        command = (sys.executable, str(SCRIPTS / f"{file}.py"), *words)
        command += ("--out", str(run)) if run is not None else ()
        command += ("--json", str(out / stage / name / "result.json"), "--debug")  # the log shows a failure's traceback
        return Job(stage, name, command, environment, run, tiny)

    def small(name: str) -> list[str]:
        return [word for setting in TINY[name].split() if tiny for word in ("--set", setting)]

    # At level 0 TensorFlow says which libraries it cannot load.
    jobs = [script("device", "proof", "gpu_device", *(("--cpu",) if no_gpu else ()), TF_CPP_MIN_LOG_LEVEL="0")]

    for part in ("layers.Dense",) if tiny else CATALOG:
        for dtype in ("float32", "float64"):
            name = f"{part.strip('.')}-{dtype}"
            jobs.append(script("parity", name, "compare_keras", part, "--dtype", dtype))

    # Large models first: jobs run side by side, and the last one to start should not be the longest.
    # Batches that divide all splits: one shape to compile.
    def few(recipe: str) -> tuple[str, ...]:
        size = 20 if tiny else 50
        words = ("--batch-size", str(size), "--set", f"train_examples={10 * size}")
        return (*words, "--set", "warmup_steps=2") if recipe in WARMED_UP else words

    modes = [(p, xla) for p in ("float32", "mixed_bfloat16", "mixed_float16") for xla in ("off", "on")]
    modes = [modes[0], modes[3], modes[4]] if tiny else modes
    for recipe in sorted(recipes, key=lambda name: not name.endswith("cifar100")):
        for precision, xla in modes:
            name = f"{recipe}-{precision}-xla_{xla}"
            words = (recipe, "--data", "sample", "--precision", precision, "--xla", xla, "--epochs", "1", *few(recipe))
            jobs.append(script("precisions", name, "train", *words, *small(recipe), run=out / "runs" / name))

    for file, tail in (("benchmark", ""), ("inspect_kernels", "-kernels")):
        for recipe in recipes:
            words = (recipe, "--precision", "mixed_bfloat16", *(("--batch-size", "8") if tiny else ()), *small(recipe))
            if file == "benchmark":
                forms = ("--variants",) if recipe in VARIANTS and not tiny else ()
                words += ("--turns", "3" if tiny else "5", *forms)
            else:
                words += ("--steps", "2" if tiny else "10")
            jobs.append(script("time", recipe + tail, file, *words))

    only_part = data not in ("auto", "sample") and not holds(data, "FordA") and holds(data, "FordA_part")
    for recipe in trained:
        words = (recipe, "--data", data, "--precision", "mixed_bfloat16", "--xla", "on")
        if only_part and recipe in SERIES:
            words += ("--set", "dataset=FordA_part", "--set", "exchange_splits=true")
        words += ("--epochs", "2", *few(recipe), *small(recipe)) if tiny else ()
        jobs.append(script("train", recipe, "train", *words, run=out / "runs" / recipe))
    return jobs


def records(out: Path) -> list[dict]:
    """Return what is recorded of all jobs, in the order of the stages."""
    return [json.loads(path.read_text()) for name in STAGES for path in sorted((out / name).glob("*/job.json"))]


def kept(out: Path, job: Job) -> bool:
    """Whether the very same job has passed already; says so."""
    path = out / job.stage / job.name / "job.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    same = record.get("state") == "passed" and record["command"] == list(job.command)
    if same:
        print(f"{job.stage}/{job.name}: kept, passed at {record['finished']} (to repeat it, delete {path})", flush=True)
    return same


def run(out: Path, jobs: list[Job], at_once: int, deadline: float) -> None:
    """Run jobs, some at once, and record each; from the deadline on none is started, and those that run are ended."""
    waiting, running = list(jobs), []
    try:
        while (waiting or running) and time.monotonic() < deadline:
            while waiting and len(running) < at_once:
                running.append(Running(out, waiting.pop(0)))
            time.sleep(0.05)
            for ended in [one for one in running if one.process.poll() is not None]:
                running.remove(ended)
                ended.finish()
    finally:
        for one in running:
            one.process.terminate()
        for one in running:
            one.wait()
        for job in waiting:
            if not (out / job.stage / job.name / "job.json").exists():
                record(out, job, "not run", "no time was left", {}, 0.0)


class Running:
    """A job's process, from its start to its record."""

    def __init__(self, out: Path, job: Job):
        self.out, self.job, self.folder = out, job, out / job.stage / job.name
        old = self.folder / "job.json"
        resume = job.resumes and job.run is not None and (job.run / "recipe.json").exists()
        self.spent = json.loads(old.read_text())["seconds"] if resume and old.exists() else 0.0
        if not resume:
            shutil.rmtree(self.folder, ignore_errors=True)
        if job.run is not None and not job.resumes:
            shutil.rmtree(job.run, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "result.json").unlink(missing_ok=True)
        record(out, job, "cut off", UNSEEN, {}, self.spent)  # what stands if all are killed
        self.start = time.monotonic()
        with open(self.folder / "log.txt", "ab") as log:
            command = [*job.command, *(("--resume",) if resume else ())]
            environment = os.environ | job.environment
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )

    def wait(self) -> None:
        """Wait until the process, which was told to end, has done so."""
        try:
            self.process.wait(SAVING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.finish(ended=True)

    def finish(self, *, ended: bool = False) -> None:
        """Judge and record the job of a process that is over; `ended`: it was told to."""
        code, run = self.process.returncode, self.job.run
        for name in ("history.csv", "environment.json", "recipe.json", "summary.json"):
            if run is not None and (run / name).exists():
                shutil.copy(run / name, self.folder)
        try:
            right, finding, figures = judge(self.job.stage, self.folder)
        except (OSError, LookupError, TypeError, ValueError) as error:
            log = (self.folder / "log.txt").read_text(errors="replace")
            last = ([line.strip() for line in log.split("\n") if line.strip()] or ["nothing in its log"])[-1]
            finding = last[:300] if code else f"its files say nothing: {type(error).__name__}: {error}"
            right, figures = False, {}
        if code:
            right, finding = False, f"exit code {code}: {finding}"
        state = "passed" if right else "cut off" if ended else "failed"
        record(self.out, self.job, state, finding, figures, self.spent + time.monotonic() - self.start)
        if right and run is not None and not self.job.resumes:
            shutil.rmtree(run)  # hundreds of megabytes that nobody needs


def record(out: Path, job: Job, state: str, finding: str, figures: dict, seconds: float) -> None:
    """Write a job's record, and a line for whoever looks on."""
    folder = out / job.stage / job.name
    folder.mkdir(parents=True, exist_ok=True)
    values = {"stage": job.stage, "job": job.name, "state": state, "finding": finding, "figures": figures}
    when = {"seconds": round(seconds, 1), "finished": time.strftime("%F %T"), "command": list(job.command)}
    command_line.write_json(folder / "job.json", {**values, **when, "tiny": job.tiny})
    if finding != UNSEEN:
        print(f"{job.stage}/{job.name}: {state}, {seconds:.0f} s, {finding}", flush=True)


class Stopped(KeyboardInterrupt):
    """The signal that has come, for the exit code."""

    def __init__(self, number: int):
        super().__init__()
        self.signal = number


def _interrupt(number: int, frame) -> None:
    raise Stopped(number)


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
