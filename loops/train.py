"""The outer loop, eager, to be read from top to bottom: what happens to a model from its seed to its summary."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import tensorflow as tf
from tqdm import tqdm

from loops import checkpoint
from loops.data.dataset import Dataset
from loops.data.pipeline import evaluation_batches, steps_per_epoch, train_batches
from loops.recipes.recipe import Recipe
from loops.restore import LAYERS, fresh_model
from loops.runs import Run
from loops.steps import Metrics, make_evaluation_step, make_train_step, measure_modes
from tfcore import random
from tfcore.module import Module
from tfcore.optimizers.optimizer import Adam
from tfcore.precision import POLICIES, LossScale


class Interrupted(Exception):
    """Ctrl-C was pressed; a checkpoint was saved first."""


def train(
    run: Run, dataset: Dataset, *, resume: bool = False, report: Callable[[str], None] = lambda line: None
) -> dict:
    """Train the run's recipe on `dataset` and return the summary (also in the run's summary.json).

    Args:
        run: a folder from `Run.create`, or from `Run.open` with `resume`.
        dataset: train and test split; the test split is evaluated after each epoch (as the published runs do).
        resume: go on from the newest intact checkpoint.
        report: called with a line of text for each epoch.

    Raises:
        ValueError: what `prepare` refuses.
        Interrupted: after Ctrl-C; everything is saved and `resume` continues exactly there.
        FloatingPointError: if an epoch's mean loss is not finite; the last good checkpoint is kept.
    """
    recipe = run.recipe

    # Model and state: everything that a checkpoint must hold hangs in `parts` or in `progress`.
    key = random.make_key(recipe.seed)
    model, optimizer, per_epoch = prepare(recipe, dataset)
    loss_scale = LossScale() if POLICIES[recipe.precision].scaled else None
    metrics, val_metrics = Metrics(), Metrics()
    parts = {"model": model, "optimizer": optimizer, "metrics": metrics}
    if loss_scale is not None:
        parts["loss_scale"] = loss_scale
    progress = {"epoch": 0, "step": 0, "seconds": 0.0, "best": None, "best_epoch": 0}  # seconds: of the open epoch

    # Compiled or not: measured once, on this machine, before the first step; a resumed run keeps the choice.
    def train_step_in(mode: str):
        key_of_layers = random.fold_in(key, LAYERS)
        return make_train_step(model, optimizer, metrics, key=key_of_layers, loss_scale=loss_scale, xla=mode == "on")

    environment = run.read_json("environment.json")
    if "xla" in environment:
        train_step = train_step_in(environment["xla"])
    elif recipe.xla == "auto":
        start = checkpoint.capture(parts)
        steps = {mode: train_step_in(mode) for mode in ("off", "on")}
        first = next(train_batches(dataset.train, recipe.batch_size, seed=recipe.seed, epoch=0))
        seconds = measure_modes(steps, first)
        checkpoint.restore(parts, start, run.folder)  # the measured steps never happened
        environment["xla"] = min(seconds, key=seconds.get)
        environment["xla_measured_ms"] = {mode: round(1000 * value, 2) for mode, value in seconds.items()}
        report(f"xla {environment['xla']}: " + ", ".join(f"{m} {1000 * s:.1f} ms a step" for m, s in seconds.items()))
        train_step = steps[environment["xla"]]
    else:
        environment["xla"] = recipe.xla
        train_step = train_step_in(recipe.xla)
    evaluation_step = make_evaluation_step(model, val_metrics, xla=environment["xla"] == "on")
    environment |= {"data": dataset.source, "class_names": list(dataset.class_names)}
    run.write_json("environment.json", environment)

    # Resume.
    history: list[dict] = []
    if resume:
        path, arrays, progress, complaints = checkpoint.newest_intact(run.checkpoints)
        for complaint in complaints:
            report(f"skipped: {complaint}")
        checkpoint.restore(parts, arrays, path)
        # A row may be newer than the checkpoint, if the run was stopped between the two writes.
        history = [row for row in run.read_history() if row["epoch"] <= progress["epoch"]]
        report(f"resumed after epoch {progress['epoch']}, step {progress['step']} ({path.name})")

    def save_checkpoint() -> None:
        path = checkpoint.step_path(run.checkpoints, progress["step"])
        checkpoint.save(path, checkpoint.capture(parts), progress)
        checkpoint.prune(run.checkpoints, recipe.keep_checkpoints)

    def stop_if_asked() -> None:
        if interrupted.is_set():
            progress["seconds"] += time.perf_counter() - begin
            save_checkpoint()
            raise Interrupted

    # Epochs.
    begin = time.perf_counter()
    with _interruption() as interrupted:
        while progress["epoch"] < recipe.epochs:
            begin = time.perf_counter()
            done = progress["step"] - progress["epoch"] * per_epoch  # steps of this epoch, from an interrupted run
            if done == 0:
                metrics.reset()
            batches = train_batches(
                dataset.train, recipe.batch_size, seed=recipe.seed, epoch=progress["epoch"], start=done
            )
            title = f"epoch {progress['epoch'] + 1}/{recipe.epochs}"
            for inputs, labels in tqdm(batches, title, per_epoch, initial=done, leave=False, disable=None, unit="step"):
                number = tf.constant(progress["step"], tf.int64)
                train_step(tf.constant(inputs), tf.constant(labels), number)
                progress["step"] += 1
                stop_if_asked()
            train_seconds = progress["seconds"] + time.perf_counter() - begin

            # Evaluation.
            val_metrics.reset()
            for inputs, labels in evaluation_batches(dataset.test, recipe.batch_size):
                evaluation_step(tf.constant(inputs), tf.constant(labels))
                stop_if_asked()
            result = metrics.result() | {f"val_{name}": value for name, value in val_metrics.result().items()}
            if not math.isfinite(result["loss"]):
                raise FloatingPointError(
                    f"the loss became {result['loss']} in epoch {progress['epoch'] + 1}: the checkpoints of earlier "
                    f"epochs are kept in {run.checkpoints}; try a lower learning_rate or --precision float32"
                )

            # History first, best checkpoint second, checkpoint last: stopped in between, the epoch is done again.
            progress["epoch"] += 1
            row = {
                "epoch": progress["epoch"],
                "seconds": round(progress["seconds"] + time.perf_counter() - begin, 3),
                "steps_per_second": round(per_epoch / train_seconds, 3),
                "learning_rate": float(optimizer.learning_rate),
                **result,
            }
            if loss_scale is not None:
                row |= {"loss_scale": float(loss_scale.scale), "skipped_steps": int(loss_scale.skipped_steps)}
            progress["seconds"] = 0.0
            history.append(row)
            run.write_history(history)
            if progress["best"] is None or _better(recipe.monitor, row[recipe.monitor], progress["best"]):
                progress |= {"best": row[recipe.monitor], "best_epoch": progress["epoch"]}
                checkpoint.save(run.best, checkpoint.capture(parts), progress)
            save_checkpoint()
            report(format_row(row, recipe.epochs))

    # Summary.
    summary = {
        "recipe": recipe.name,
        "data": dataset.source,
        "parameters": sum(math.prod(variable.shape) for variable in model.named_variables().values()),
        "seed": recipe.seed,
        "epochs": progress["epoch"],
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "last": history[-1],
        "best": next(row for row in history if row["epoch"] == progress["best_epoch"]),
    }
    run.write_json("summary.json", summary)
    return summary


def prepare(recipe: Recipe, dataset: Dataset) -> tuple[Module, Adam, int]:
    """Return (fresh model, its optimizer, steps an epoch) of a recipe on a data set.

    Raises:
        ValueError: for sizes, rates or a batch size that do not work: call it before anything is written.
    """
    per_epoch = steps_per_epoch(dataset.train, recipe.batch_size)
    model = fresh_model(recipe, classes=len(dataset.class_names))
    optimizer = Adam(
        model.named_trainable_variables(),
        learning_rate=recipe.learning_rate,
        beta_1=recipe.beta_1,
        beta_2=recipe.beta_2,
        epsilon=recipe.epsilon,
    )
    return model, optimizer, per_epoch


def format_row(row: dict, epochs: int) -> str:
    """One line for one epoch of the history."""
    return (
        f"epoch {row['epoch']:>3}/{epochs}  {row['seconds']:6.1f} s  {1000 / row['steps_per_second']:6.1f} ms/step  "
        f"loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}"
    )


def _better(monitor: str, value: float, best: float) -> bool:
    return value < best if monitor == "val_loss" else value > best


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event that the loop looks at between steps; a second one stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals reach the main thread alone
        return

    def handler(number, frame):
        event.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
