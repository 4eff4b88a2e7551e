"""The outer loop, eager, to be read from top to bottom: what happens to a model from its seed to its summary."""

import functools
import math
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from loops import checkpoint, control, resume
from loops.data.dataset import Dataset, Split
from loops.data.pipeline import check, evaluation_batches, first, hold_out, shuffled, steps_per_epoch, train_batches
from loops.diagnostics import Diagnostics
from loops.evaluation import evaluate
from loops.optimizers import make_optimizer
from loops.recipes.recipe import Recipe
from loops.restore import LAYERS, fresh_model
from loops.runs import Run, sole_owner
from loops.signals import Interrupted, interruption
from loops.steps import Metrics, make_evaluation_step, make_train_step, measure_modes
from loops.throughput import Clock, format_row
from tfcore import random
from tfcore.module import Module
from tfcore.optimizers.optimizer import Optimizer
from tfcore.precision import POLICIES, LossScale


def train(
    run: Run,
    dataset: Dataset,
    *,
    resume: bool = False,
    report: Callable[[str], None] = lambda line: None,
    follow: Callable[[list[dict]], None] = lambda history: None,
) -> dict:
    """Train the run's recipe on `dataset` and return the summary (also in the run's summary.json).

    Killed at any moment and resumed, as often as you like, it ends with the same bits as if it had never been stopped.

    Args:
        run: a folder from `Run.create`, or from `Run.open` with `resume`; its `recipe` may then differ from the
            folder's (see `loops.resume.check_changes`), and is written there.
        dataset: train and test split. After each epoch the recipe's validation share is evaluated, or, where it has
            none, the test split (as some published runs do); with a share the test split is evaluated once, at the end.
        resume: go on from the newest intact checkpoint; from step 0 if the run was stopped before the first.
        report: called with a line of text for each epoch.
        follow: called with the history's rows so far after each epoch, once it is saved, and when a run is resumed.

    Raises:
        ValueError: what `prepare` or `find_start` refuse, or if another process is at work in the run's folder.
        Interrupted: after Ctrl-C or SIGTERM; everything is saved and `resume` continues exactly there.
        FloatingPointError: if an epoch's loss or what a checkpoint holds is not finite; the last good one is kept.
    """
    with sole_owner(run.folder):
        for folder in (run.folder, run.checkpoints):
            checkpoint.clear_partials(folder)
        return _train(run, dataset, resume, report, follow)


def _train(run: Run, dataset: Dataset, resumed: bool, report: Callable, follow: Callable) -> dict:
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
    progress = {"epoch": 0, "step": 0, "examples": 0}  # examples: of the open epoch
    clock = Clock()

    # Where to go on, and with what other settings: asked for, and checked, by the caller.
    start = resume.find_start(run, report) if resumed else None
    environment = run.read_json("environment.json")
    changes = resume.changes(Run.open(run.folder).recipe, recipe)

    # Compiled or not: measured once, on this machine, before the first step; a resumed run keeps the choice.
    # The batch, an epoch's last, smaller one, and the last one of an epoch in which the batch size was changed.
    shapes = 3 if start is not None and start[2]["examples"] % recipe.batch_size else 2

    def train_step_in(mode: str):
        return make_train_step(
            model,
            optimizer,
            metrics,
            key=random.fold_in(key, LAYERS),
            loss_scale=loss_scale,
            penalty=penalty,
            diagnostics=diagnostics,
            pixel_scale=recipe.pixel_scale,
            xla=mode == "on",
            shapes=shapes,
        )

    xla = recipe.xla
    if xla == "auto" and "xla" not in changes:
        xla = environment.get("xla", xla)
    if xla == "auto":
        fresh = checkpoint.capture(parts)
        steps = {mode: train_step_in(mode) for mode in ("off", "on")}
        first = next(train_batches(train_split, recipe.batch_size, seed=recipe.seed, epoch=0))
        seconds = measure_modes(steps, first)
        checkpoint.restore(parts, fresh, run.folder)  # the measured steps never happened
        xla = min(seconds, key=seconds.get)
        environment["xla_measured_ms"] = {mode: round(1000 * value, 2) for mode, value in seconds.items()}
        report(f"xla {xla}: " + ", ".join(f"{mode} {1000 * s:.1f} ms a step" for mode, s in seconds.items()))
        train_step = steps[xla]
    else:
        train_step = train_step_in(xla)
    evaluation_step = make_evaluation_step(
        model, val_metrics, penalty=penalty, pixel_scale=recipe.pixel_scale, xla=xla == "on"
    )
    environment |= {
        "xla": xla,
        "data": dataset.source,
        "class_names": list(dataset.class_names),
        "input_shape": list(dataset.sizes.input_shape),
    }

    # Resume. Files after the restored state: a checkpoint that does not fit changes nothing.
    history: list[dict] = []
    if start is not None:
        path, arrays, meta, history = start
        kept = {part: module for part, module in parts.items() if part != "loss_scale" or "precision" not in changes}
        checkpoint.restore(kept, arrays, path)
        progress = {name: meta[name] for name in progress}
        clock.load_state(meta["clock"])
        for name, machine in controls.items():
            machine.load_state(meta["controls"][name])
    resume.record(run, environment, changes, progress["step"])
    if history:
        follow(history)

    def save(path: Path) -> None:
        states = {name: machine.state() for name, machine in controls.items()}
        arrays = checkpoint.capture(parts)
        checkpoint.check_finite(arrays, path)
        checkpoint.save(path, arrays, {**progress, "controls": states, "clock": clock.state()})

    def save_checkpoint() -> None:
        path = checkpoint.step_path(run.checkpoints, progress["step"])
        save(path)
        checkpoint.prune(run.checkpoints, recipe.keep_checkpoints, newest=path)

    def stop_if_asked() -> None:
        if asked.number is not None:
            clock.lap("rest")
            save_checkpoint()
            raise Interrupted(asked.number)

    # Epochs.
    with interruption() as asked:
        while progress["epoch"] < recipe.epochs and not (stopping and stopping.stopped):
            clock.start()
            done = progress["examples"]  # of this epoch, from a run that was stopped inside it
            if done == 0:
                for sums in (metrics, diagnostics):
                    if sums is not None:
                        sums.reset()
            batches = train_batches(
                train_split, recipe.batch_size, seed=recipe.seed, epoch=progress["epoch"], start=done
            )
            title = f"epoch {progress['epoch'] + 1}/{recipe.epochs}"
            bar = {"total": per_epoch, "initial": done // recipe.batch_size, "unit": "step"}
            for inputs, labels in tqdm(batches, title, leave=False, disable=None, **bar):
                if recipe.schedule == "cosine":  # by the place in the epoch, which a changed batch size does not move
                    place = progress["epoch"] * per_epoch + progress["examples"] // recipe.batch_size
                    optimizer.learning_rate.assign(_cosine(recipe, place, per_epoch))
                batch = (tf.constant(inputs), tf.constant(labels), tf.constant(progress["step"], tf.int64))
                clock.lap("data")
                train_step(*batch)
                clock.lap_step(inputs.shape, wait=metrics.loss.numpy)
                progress["step"] += 1
                progress["examples"] += len(labels)
                stop_if_asked()
                if recipe.checkpoint_steps is not None and progress["step"] % recipe.checkpoint_steps == 0:
                    clock.lap("rest")
                    save_checkpoint()
                    clock.lap("rest")
            result = metrics.result()  # waits for the device
            clock.lap("compute")

            # Evaluation.
            val_metrics.reset()
            for inputs, labels in evaluation_batches(validation_split, recipe.batch_size):
                evaluation_step(tf.constant(inputs), tf.constant(labels))
                stop_if_asked()
            result |= {f"val_{name}": value for name, value in val_metrics.result().items()}
            if not math.isfinite(result["loss"]):
                raise FloatingPointError(
                    f"the loss became {result['loss']} in epoch {progress['epoch'] + 1}: the checkpoints of earlier "
                    f"epochs are kept in {run.checkpoints}; try a lower learning_rate or --precision float32"
                )

            # History first, best checkpoint second, checkpoint last: stopped in between, the epoch is done again.
            progress["epoch"] += 1
            clock.lap("rest")
            times = clock.columns(per_epoch, len(train_split))
            row = {
                "epoch": progress["epoch"],
                "seconds": times["seconds"],
                "steps_per_second": times["steps_per_second"],
                "learning_rate": float(optimizer.learning_rate),
                **result,
            }
            if loss_scale is not None:
                row |= {"loss_scale": float(loss_scale.scale), "skipped_steps": int(loss_scale.skipped_steps)}
            row |= {name: value for name, value in times.items() if name not in row}
            if diagnostics is not None:
                row |= diagnostics.result()
            progress["examples"] = 0
            clock.reset()
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
            follow(history)
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
