"""What the tests of several devices run in processes of their own.

python -m tests.support.divided N FOLDER CASE ... [runs]


On N devices of this process, and of the workers that TF_CONFIG names. The variables of each case after ten steps are
written to FOLDER/CASE.npz; the test takes the same ten steps on one device (`ten_steps`). `runs`: a run (FOLDER/whole)
and the same one stopped and resumed (FOLDER/cut), and with two workers a third, of which one is killed (FOLDER/lost).
"""

import dataclasses
import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from loops import learner as learner_module
from loops import recipes
from loops.devices import distribution
from loops.devices.distribution import ONE_DEVICE, Devices, MirroredDevices
from loops.objective import Objective
from loops.recipes.recipe import Recipe
from loops.run.runs import Run
from loops.steps import Average, Metrics, make_evaluation_step, make_train_step
from loops.train import Interrupted, train
from tests.support.build import build
from tests.support.tiny import tiny_dataset
from tfcore import random
from tfcore.layers.mixing import Mixing, MixingConfig
from tfcore.models.cnn import Cnn
from tfcore.models.inn import Inn
from tfcore.models.timeseries import TimeSeriesTransformer
from tfcore.models.vit import VisionTransformer
from tfcore.module import Module
from tfcore.ops.losses import l2_penalty
from tfcore.optimizers.optimizer import Sgd

KEY = functools.partial(random.make_key, 3)  # called, not a constant: devices must be set up before the first tensor
IMAGES, SERIES = (8, 8, 3), (13, 1)
SIZES = (7, 7, 5)  # of the batches, over and over: 4 + 3 or 3 + 2 + 2, and a smaller one


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and how its batches are divided."""

    model: Callable[[], Module]
    shape: tuple[int, ...] = IMAGES
    synchronized: bool = False
    xla: bool = False
    penalized: bool = False
    augmented: bool = False  # examples moved, mirrored and erased, labels smoothed, weights averaged


cnn = functools.partial(build, Cnn, image_size=8, filters=(3, 5), units=11, dtype=tf.float64)
CASES = {
    # Dropout and augmentation are on: a mask belongs to an example, on whichever replica it is.
    "cnn": Case(lambda: cnn(key=KEY(), dropout=0.3), penalized=True),
    "cnn_sync": Case(lambda: cnn(key=KEY(), batch_norm="after"), synchronized=True, augmented=True),
    "cnn_each": Case(lambda: cnn(key=KEY(), batch_norm="after")),
    "inn_sync": Case(lambda: build(Inn, key=KEY(), image_size=8, units=5, dtype=tf.float64), synchronized=True),
    "vit": Case(
        lambda: build(VisionTransformer,
            key=KEY(), classes=10, image_size=12, width=6, blocks=1, heads=2, mlp_width=7, head_units=(11,),
            dtype=tf.float64,
        )
    ),
    "mlp_xla": Case(
        lambda: build(
            TimeSeriesTransformer, key=KEY(), length=13, classes=10, blocks=0, head_units=7, dtype=tf.float64
        ),
        shape=SERIES,
        xla=True,
    ),
}  # fmt: skip


def batches(shape: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ten batches of made-up examples."""
    rng = np.random.default_rng(5)
    sizes = [SIZES[i % len(SIZES)] for i in range(10)]
    return [(rng.random((size, *shape)), rng.integers(0, 10, size).astype(np.int32)) for size in sizes]


def ten_steps(case: Case, devices: Devices = ONE_DEVICE, steps: int = 10) -> dict[str, np.ndarray]:
    """Return model, slots and metrics after ten steps and an evaluation."""
    with devices.scope():
        model = case.model()
        optimizer = build(Sgd, model.named_trainable_variables(), learning_rate=0.05, momentum=0.9)
        metrics, val_metrics = Metrics(top_k=5), Metrics(top_k=5)
    penalty = (lambda: l2_penalty(model.kernels("all"), 0.01)) if case.penalized else lambda: None
    objective, average = Objective(penalty=penalty), None
    if case.augmented:
        mixing = Mixing(MixingConfig(crop_padding=2, mirror=True, cutout=3))
        objective = Objective(mixing=mixing, label_smoothing=0.1)
        with devices.scope():
            average = Average(case.model(), 0.9)
    settings = {"xla": case.xla, "devices": devices}
    step = make_train_step(model, optimizer, metrics, key=KEY(), objective=objective, average=average, **settings)
    evaluation_step = make_evaluation_step(model, val_metrics, penalty=penalty, **settings)
    for number, (inputs, labels) in enumerate(batches(case.shape)[:steps]):
        assert step(devices.place(inputs), tf.constant(labels), tf.constant(number, tf.int64))
        if number > 7:
            evaluation_step(devices.place(inputs), tf.constant(labels))
    parts = {"model": model, "optimizer": optimizer, "metrics": metrics, "val_metrics": val_metrics}
    parts |= {"average": average.model} if average is not None else {}
    variables = {f"{part}/{path}": v for part, module in parts.items() for path, v in module.named_variables().items()}
    for path, variable in variables.items():  # every copy has the same bits
        copies = [copy.numpy() for copy in getattr(variable, "values", [variable])]
        assert all(np.array_equal(copy, copies[0]) for copy in copies), path
    return {path: variable.numpy() for path, variable in variables.items()}


SETTINGS = [
    ("data", "sample"),
    ("epochs", "2"),
    ("batch_size", "32"),
    ("xla", "off"),
    ("filters", "3,5"),
    ("units", "7"),
    ("batch_norm", "after"),
    ("dropout", "0.3"),
]


def recipe(devices: int, workers: int) -> Recipe:
    """A tiny run with batch norm, its statistics each replica's own."""
    return recipes.get("cnn_cifar10").changed([*SETTINGS, ("devices", str(devices)), ("workers", str(workers))])


def new_run(place: Path, devices: Devices) -> Run:
    """A new run as scripts/train.py makes it."""
    settings = recipe(devices.replicas // devices.workers, devices.workers)
    return Run.create(place, settings) if devices.is_chief else Run(place, settings)


def stop_after(steps: int, number: int) -> Callable:
    """Return a maker of train steps after so many of which this process is sent a signal."""

    def make(*arguments, **options):
        step, count = make_train_step(*arguments, **options), []

        def step_and_stop(*batch):
            sound = step(*batch)
            count.append(1)
            if len(count) == steps:
                os.kill(os.getpid(), number)
            return sound

        return step_and_stop

    return make


def run_and_resume(folder: Path, devices: Devices, *, asked: bool) -> None:
    """A run, and the same run stopped after its second step, if this process is `asked` to, and resumed."""

    def go(name: str, resume: bool = False) -> None:
        place = folder / name
        run = Run.open(place) if resume else new_run(place, devices)
        train(run, tiny_dataset(), resume=resume, devices=devices)

    go("whole")
    if asked:
        learner_module.make_train_step = stop_after(2, signal.SIGTERM)
    try:
        go("cut")
        raise AssertionError("not interrupted")
    except Interrupted as stop:
        assert stop.signal == signal.SIGTERM
    learner_module.make_train_step = make_train_step
    go("cut", resume=True)


def lose_a_worker(folder: Path, devices: Devices, *, dies: bool) -> None:
    """A run of which one worker is killed after its second step; what the other says goes to FOLDER/lost.txt."""
    if dies:
        learner_module.make_train_step = stop_after(2, signal.SIGKILL)
    try:
        train(new_run(folder / "lost", devices), tiny_dataset(), devices=devices)
    except ConnectionError as error:
        (folder / "lost.txt").write_text(str(error))


def main(count: int, folder: Path, what: list[str]) -> None:
    """Run the cases, then the runs."""
    workers, index = distribution.workers()
    strategy = distribution.start(recipe(count, workers))._strategy
    for name, case in CASES.items():
        if name not in what:
            continue
        devices = MirroredDevices(strategy, workers=workers, index=index, synchronized=case.synchronized)
        variables = ten_steps(case, devices)
        if devices.is_chief:
            np.savez(folder / f"{name}.npz", **variables)
    if "runs" in what:
        devices = MirroredDevices(strategy, workers=workers, index=index, synchronized=False)
        run_and_resume(folder, devices, asked=index == workers - 1)
        if workers > 1:
            lose_a_worker(folder, devices, dies=index == 1)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
