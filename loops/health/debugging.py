"""The step at which a run's numbers went wrong, once more and operation by operation: `train.py --debug-numerics`.

A batch and its dropout masks are functions of (seed, step), so that the steps after a checkpoint can be repeated, on a
CPU to the bit. Nothing is written: the run folder stays as it was.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from loops.data.dataset import Dataset, Split
from loops.data.pipeline import train_batches
from loops.learner import Learner, splits
from loops.run import checkpoint, resume
from loops.run.runs import Run
from tfcore.inspect.numerics.nonfinite import Contents, NonFinite, first_nonfinite

_DIVISIONS = ("RealDiv", "Div", "Reciprocal", "Inv", "Rsqrt", "RsqrtGrad", "SqrtGrad", "Pow", "Xdivy")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What became of a repetition.

    Attributes:
        first, last: the steps repeated, both included; last < first: there was none to repeat.
        step: the one that went wrong; None if all were finite.
        finding: the first tensor of that step that is not finite; None where each is finite when the step is run
            operation by operation.
        examples: places in the data set's train split of the batch's examples for which that tensor is not finite;
            () where the tensor has no row for each example.
        hint: what to try.
    """

    first: int
    last: int
    step: int | None = None
    finding: NonFinite | None = None
    examples: tuple[int, ...] = ()
    hint: str = ""

    def to_json(self) -> dict:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)


def debug_numerics(run: Run, dataset: Dataset, report: Callable[[str], None] = lambda line: None) -> Diagnosis:
    """Repeat the steps after the run's newest checkpoint, to the end of its epoch, up to the first that goes wrong.

    A step goes wrong whose loss or gradients are not finite (for float16: with the loss scale at its floor), or that
    leaves something not finite in the weights or the optimizer. It is then run operation by operation from the state
    before it. `report` is called with lines of text about the checkpoints.

    Raises:
        ValueError: what `find_start` and `Learner` refuse; for a run on several devices.
    """
    recipe = run.recipe
    if recipe.devices * recipe.workers > 1:
        raise ValueError("--debug-numerics repeats steps on one device, but this run's had several: leave it out")
    start = resume.find_start(run, report)
    learner = Learner(recipe, dataset)
    progress = resume.Progress()
    if start is not None:
        resume.restore(learner.parts, start.arrays, start.path)
        progress = start.progress
    first = number = progress.step
    if progress.epoch >= recipe.epochs:
        return Diagnosis(first, first - 1)
    if progress.examples == 0:
        learner.start_epoch()
    xla = run.read_json("environment.json").get("xla", "off") if recipe.xla == "auto" else recipe.xla
    train_step = learner.train_step(xla=xla == "on")
    done, before = progress.examples, checkpoint.capture(learner.parts)
    order = {"batch_size": recipe.batch_size, "seed": recipe.seed, "epoch": progress.epoch, "start": done}
    for inputs, labels in train_batches(learner.train_split, **order):
        learner.set_learning_rate(progress.epoch, done)
        batch = (tf.constant(inputs), tf.constant(labels), tf.constant(number, tf.int64))
        sound = bool(train_step(*batch))
        after = checkpoint.capture(learner.parts)
        if not sound or not all(np.isfinite(value).all() for value in after.values()):
            rate = float(learner.optimizer.learning_rate)
            checkpoint.restore(learner.parts, before, f"the state before step {number}")
            finding = first_nonfinite(learner.train_step(xla=False).get_concrete_function(*batch), *batch)
            examples = () if finding is None else _examples(finding, learner, dataset, number - first, order)
            where = "the starting weights" if start is None else str(start.path)
            return Diagnosis(first, number, number, finding, examples, hint(finding, rate=rate, start=where))
        before, number, done = after, number + 1, done + len(labels)
    return Diagnosis(first, number - 1)


def hint(finding: NonFinite | None, *, rate: float, start: str) -> str:
    """Return what to try; `rate`: the step's learning rate, `start`: where the weights came from."""
    if finding is None:
        return "run operation by operation every number is finite: the compiled step rounds otherwise; try --xla off"
    dtype = tf.as_dtype(finding.output.dtype)
    low = finding.inputs[-1].low if finding.inputs else None
    high = finding.inputs[-1].high if finding.inputs else None
    if finding.op_type == "ReadVariableOp":
        return f"it was there before the step, in {start}: an older checkpoint may be good (delete this one, --resume)"
    if finding.op_type == "Placeholder":
        return "it came in with the data: mend the example, or leave it out"
    if finding.op_type in ("Log", "Log1p") and low is not None and low <= 0:
        return "a logarithm of 0 or less: keep its argument above 0, such as by tf.maximum(x, 1e-7)"
    if finding.op_type == "Sqrt" and low is not None and low < 0:
        return "the square root of a negative number: keep its argument at 0 or above"
    if finding.op_type in _DIVISIONS and any(_holds_zero(x) for x in finding.inputs):
        return "a division by 0: keep the divisor away from 0, such as by adding an epsilon"
    if finding.op_type == "Exp" and high is not None and high > math.log(dtype.max):
        return f"exp overflows in {dtype.name} above {math.log(dtype.max):.1f}: subtract the maximum first"
    if dtype == tf.float16:
        return "float16 overflows above 65,504: --precision mixed_bfloat16, or a lower learning_rate"
    if finding.phase == "update":
        return f"the update overflows: a lower learning_rate (it is {rate:g}), or clip_norm"
    return (
        f"finite numbers have grown until {dtype.name} overflows: a lower learning_rate (it is {rate:g}), or clip_norm"
    )


def _holds_zero(tensor: Contents) -> bool:
    return tensor.low is not None and tensor.high is not None and tensor.low <= 0 <= tensor.high


def _examples(finding: NonFinite, learner: Learner, dataset: Dataset, batches: int, order: dict) -> tuple[int, ...]:
    """Where in the data set's train split the rows of the finding stand; `batches`: of this order before its own."""
    numbers = Split(np.arange(len(dataset.train)), dataset.train.labels)
    split, _ = splits(learner.recipe, dataclasses.replace(dataset, train=numbers))
    shown, _ = next(batch for i, batch in enumerate(train_batches(split, **order)) if i == batches)
    if finding.phase != "forward" or finding.output.shape[:1] != (len(shown),):
        return ()
    return tuple(int(shown[row]) for row in finding.output.rows)
