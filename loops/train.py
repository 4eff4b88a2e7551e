"""The outer loop, eager, to be read from top to bottom: what happens to a model from its seed to its summary."""

import functools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from loops import checkpoint, control
from loops.data.dataset import Dataset, Split
from loops.data.pipeline import check, evaluation_batches, first, hold_out, shuffled, steps_per_epoch, train_batches
from loops.diagnostics import Diagnostics
from loops.evaluation import evaluate
from loops.optimizers import make_optimizer
from loops.recipes.recipe import Recipe
from loops.restore import LAYERS, fresh_model
from loops.runs import Run
from loops.steps import Metrics, make_evaluation_step, make_train_step, measure_modes
from tfcore import random
from tfcore.module import Module
from tfcore.optimizers.optimizer import Optimizer
from tfcore.precision import POLICIES, LossScale


class Interrupted(Exception):
    """Ctrl-C was pressed; a checkpoint was saved first."""


def train(
    run: Run, dataset: Dataset, *, resume: bool = False, report: Callable[[str], None] = lambda line: None
) -> dict:
    """Train the run's recipe on `dataset` and return the summary (also in the run's summary.json).

    Args:
        run: a folder from `Run.create`, or from `Run.open` with `resume`.
        dataset: train and test split. After each epoch the recipe's validation share is evaluated, or, where it has
            none, the test split (as some published runs do); with a share the test split is evaluated once, at the end.
        resume: go on from the newest intact checkpoint.
        report: called with a line of text for each epoch.

    Raises:
        ValueError: what `prepare` refuses.
        Interrupted: after Ctrl-C; everything is saved and `resume` continues exactly there.
        FloatingPointError: if an epoch's mean loss is not finite; the last good checkpoint is kept.
    """
    recipe = run.recipe

    # Model and state: everything that a checkpoint must hold hangs in `parts`, `controls` or `progress`.
    key = random.make_key(recipe.seed)
    train_split, validation_split = splits(recipe, dataset)
    model, optimizer, per_epoch = prepare(recipe, dataset)
    loss_scale = LossScale() if POLICIES[recipe.precision].scaled else None
    metrics, val_metrics = Metrics(recipe.top_k), Metrics(recipe.top_k)
    parts = {"model": model, "optimizer": optimizer, "metrics": metrics}
    if loss_scale is not None:
        parts["loss_scale"] = loss_scale
    diagnostics = Diagnostics(model) if recipe.diagnostics else None
    if diagnostics is not None:
        parts["diagnostics"] = diagnostics
    penalty = functools.partial(recipe.penalty, model)
    mode = control.mode_of(recipe.monitor)
    best = control.BestCheckpoint(mode=mode)
    stopping = plateau = None
    if recipe.stop_patience is not None:
        stopping = control.EarlyStopping(mode=mode, patience=recipe.stop_patience)
    if recipe.plateau_patience is not None:
        plateau = control.ReduceOnPlateau(mode="min", factor=recipe.plateau_factor, patience=recipe.plateau_patience)
    controls = {"best": best, "stopping": stopping, "plateau": plateau}
    controls = {name: machine for name, machine in controls.items() if machine is not None}
    progress = {"epoch": 0, "step": 0, "seconds": 0.0}  # seconds: of the open epoch

    # Compiled or not: measured once, on this machine, before the first step; a resumed run keeps the choice.
    def train_step_in(mode: str):
        key_of_layers = random.fold_in(key, LAYERS)
        return make_train_step(
            model,
            optimizer,
            metrics,
            key=key_of_layers,
            loss_scale=loss_scale,
            penalty=penalty,
            diagnostics=diagnostics,
            pixel_scale=recipe.pixel_scale,
            xla=mode == "on",
        )

    environment = run.read_json("environment.json")
    if "xla" in environment:
        train_step = train_step_in(environment["xla"])
    elif recipe.xla == "auto":
        start = checkpoint.capture(parts)
        steps = {mode: train_step_in(mode) for mode in ("off", "on")}
        first = next(train_batches(train_split, recipe.batch_size, seed=recipe.seed, epoch=0))
        seconds = measure_modes(steps, first)
        checkpoint.restore(parts, start, run.folder)  # the measured steps never happened
        environment["xla"] = min(seconds, key=seconds.get)
        environment["xla_measured_ms"] = {mode: round(1000 * value, 2) for mode, value in seconds.items()}
        report(f"xla {environment['xla']}: " + ", ".join(f"{m} {1000 * s:.1f} ms a step" for m, s in seconds.items()))
        train_step = steps[environment["xla"]]
    else:
        environment["xla"] = recipe.xla
        train_step = train_step_in(recipe.xla)
    evaluation_step = make_evaluation_step(
        model, val_metrics, penalty=penalty, pixel_scale=recipe.pixel_scale, xla=environment["xla"] == "on"
    )
    environment |= {
        "data": dataset.source,
        "class_names": list(dataset.class_names),
        "input_shape": list(dataset.sizes.input_shape),
    }
    run.write_json("environment.json", environment)

    # Resume.
    history: list[dict] = []
    if resume:
        path, arrays, meta, complaints = checkpoint.newest_intact(run.checkpoints)
        for complaint in complaints:
            report(f"skipped: {complaint}")
        checkpoint.restore(parts, arrays, path)
        progress = {name: meta[name] for name in progress}
        for name, machine in controls.items():
            machine.load_state(meta["controls"][name])
        # A row may be newer than the checkpoint, if the run was stopped between the two writes.
        history = [row for row in run.read_history() if row["epoch"] <= progress["epoch"]]
        report(f"resumed after epoch {progress['epoch']}, step {progress['step']} ({path.name})")

    def save(path: Path) -> None:
        states = {name: machine.state() for name, machine in controls.items()}
        checkpoint.save(path, checkpoint.capture(parts), {**progress, "controls": states})

    def save_checkpoint() -> None:
        save(checkpoint.step_path(run.checkpoints, progress["step"]))
        checkpoint.prune(run.checkpoints, recipe.keep_checkpoints)

    def stop_if_asked() -> None:
        if interrupted.is_set():
            progress["seconds"] += time.perf_counter() - begin
            save_checkpoint()
            raise Interrupted

    # Epochs.
    begin = time.perf_counter()
    with _interruption() as interrupted:
        while progress["epoch"] < recipe.epochs and not (stopping and stopping.stopped):
            begin = time.perf_counter()
            done = progress["step"] - progress["epoch"] * per_epoch  # steps of this epoch, from an interrupted run
            if done == 0:
                for sums in (metrics, diagnostics):
                    if sums is not None:
                        sums.reset()
            batches = train_batches(
                train_split, recipe.batch_size, seed=recipe.seed, epoch=progress["epoch"], start=done
            )
            title = f"epoch {progress['epoch'] + 1}/{recipe.epochs}"
            for inputs, labels in tqdm(batches, title, per_epoch, initial=done, leave=False, disable=None, unit="step"):
                if recipe.schedule == "cosine":
                    optimizer.learning_rate.assign(_cosine(recipe, progress["step"], per_epoch))
                number = tf.constant(progress["step"], tf.int64)
                train_step(tf.constant(inputs), tf.constant(labels), number)
                progress["step"] += 1
                stop_if_asked()
            train_seconds = progress["seconds"] + time.perf_counter() - begin

            # Evaluation.
            val_metrics.reset()
            for inputs, labels in evaluation_batches(validation_split, recipe.batch_size):
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
            if diagnostics is not None:
                row |= diagnostics.result()
            progress["seconds"] = 0.0
            history.append(row)
            run.write_history(history)
            is_best = best.update(row[recipe.monitor], progress["epoch"])
            if stopping is not None:
                stopping.update(row[recipe.monitor], progress["epoch"])
            if plateau is not None:
                optimizer.learning_rate.assign(plateau.update(row["val_loss"], row["learning_rate"]))
            if is_best:
                save(run.best)
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
        "best": next(row for row in history if row["epoch"] == best.best_epoch),
    }
    if recipe.validation:  # the test split was never looked at: once, now, with the best epoch's weights
        checkpoint.restore({"model": model}, checkpoint.load(run.best)[0], run.best)
        summary["test"] = evaluate(
            model,
            dataset.test,
            classes=dataset.sizes.classes,
            batch_size=recipe.batch_size,
            penalty=penalty,
            pixel_scale=recipe.pixel_scale,
        )
    run.write_json("summary.json", summary)
    return summary


def splits(recipe: Recipe, dataset: Dataset) -> tuple[Split, Split]:
    """Return (train, validation) of a recipe; without a validation share the test split validates, as published."""
    train_split = shuffled(dataset.train, recipe.seed) if recipe.shuffle_split else dataset.train
    if recipe.train_examples is not None:
        train_split = first(train_split, recipe.train_examples)
    if recipe.validation:
        return hold_out(train_split, recipe.validation)
    return train_split, dataset.test


def _cosine(recipe: Recipe, step: int, per_epoch: int) -> float:
    return control.cosine_with_warmup(
        step, learning_rate=recipe.learning_rate, steps=recipe.epochs * per_epoch, warmup_steps=recipe.warmup_steps
    )


def prepare(recipe: Recipe, dataset: Dataset) -> tuple[Module, Optimizer, int]:
    """Return (fresh model, its optimizer, steps an epoch) of a recipe on a data set.

    Raises:
        ValueError: for sizes, rates or a batch size that do not work: call it before anything is written.
    """
    train_split, validation_split = splits(recipe, dataset)
    for split in (train_split, validation_split, dataset.test):
        check(split, dataset.sizes.classes)
    per_epoch = steps_per_epoch(train_split, recipe.batch_size)
    model = fresh_model(recipe, dataset.sizes)
    recipe.fit_statistics(model, train_split.inputs)
    optimizer = make_optimizer(recipe, model.named_trainable_variables())
    if recipe.schedule == "cosine":
        _cosine(recipe, 0, per_epoch)  # refuses a warm-up as long as the run
    return model, optimizer, per_epoch


def format_row(row: dict, epochs: int) -> str:
    """One line for one epoch of the history."""
    top = next((name for name in row if name.startswith("val_top_")), None)
    return (
        f"epoch {row['epoch']:>3}/{epochs}  {row['seconds']:6.1f} s  {1000 / row['steps_per_second']:6.1f} ms/step  "
        f"loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}"
        + (f"  {top} {row[top]:.4f}" if top else "")
    )


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
