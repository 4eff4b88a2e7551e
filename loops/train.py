"""The outer loop, eager, to be read from top to bottom: what happens to a model from its seed to its summary."""

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from loops.data.dataset import Dataset
from loops.data.pipeline import evaluation_places, train_places
from loops.devices.distribution import ONE_DEVICE, Devices
from loops.devices.throughput import Clock, format_row
from loops.evaluation import evaluate
from loops.health.numerics import Watch
from loops.learner import Learner, make_controls
from loops.run import checkpoint, disk, resume, runs
from loops.run.runs import Run, sole_owner
from loops.run.signals import Interrupted, interruption


def train(
    run: Run,
    dataset: Dataset,
    *,
    resume: bool = False,
    report: Callable[[str], None] = lambda line: None,
    follow: Callable[[list[dict]], None] = lambda history: None,
    devices: Devices = ONE_DEVICE,
) -> dict:
    """Train the run's recipe on `dataset` and return the summary (also in the run's summary.json).

    Killed at any moment and resumed, as often as you like, it ends with the same bits as if it had never been stopped,
    on a CPU; a GPU's libraries may add up in another order from one process to the next.

    Args:
        run: a folder from `Run.create`, or from `Run.open` with `resume`; its `recipe` may then differ from the
            folder's (see `loops.run.resume.check_changes`), and is written there.
        dataset: train and test split. After each epoch the recipe's validation share is evaluated, or, where it has
            none, the test split (as some published runs do); with a share the test split is evaluated once, at the end.
        resume: go on from the newest intact checkpoint; from step 0 if the run was stopped before the first.
        report: called with a line of text for each epoch.
        follow: called with the history's rows so far after each epoch, once it is saved, and when a run is resumed.
        devices: as many as the recipe says, from `distribution.start`. With several workers the chief alone reports,
            follows and writes; the others read the run's folder, too, but only to resume.

    Raises:
        ValueError: what `prepare` or `find_start` refuse, or if another process is at work in the run's folder; if the
            devices are not those of the recipe, or the workers do not agree.
        ConnectionError: if another worker is lost.
        Interrupted: after Ctrl-C or SIGTERM; everything is saved and `resume` continues exactly there.
        FloatingPointError: at the step whose loss or gradients are not finite, or if what a checkpoint would hold is
            not; the last good one is kept.
    """
    recipe = run.recipe
    if (devices.replicas, devices.workers) != (recipe.devices * recipe.workers, recipe.workers):
        raise ValueError(
            f"the recipe asks for {recipe.devices} devices on each of {recipe.workers} workers, but {devices.replicas} "
            f"on {devices.workers} are here: train by scripts/train.py, which starts them (--devices, TF_CONFIG)"
        )
    with devices.watched():
        if not devices.is_chief:
            return _train(run, dataset, resume, lambda line: None, lambda history: None, devices)
        with sole_owner(run.folder):
            for folder in (run.folder, run.checkpoints):
                disk.clear_partials(folder)
            return _train(run, dataset, resume, report, follow, devices)


def _train(run: Run, dataset: Dataset, resumed: bool, report: Callable, follow: Callable, devices: Devices) -> dict:
    recipe = run.recipe

    # Where to go on, and with what other settings: asked for, and checked, by the caller.
    start = resume.find_start(run, report) if resumed else None
    environment = run.read_json("environment.json") if resumed or devices.is_chief else {}
    changes = resume.changes(Run.open(run.folder).recipe, recipe) if resumed else {}
    labels_crc32 = zlib.crc32(dataset.train.labels.tobytes())
    resume.check_labels(environment, labels_crc32, dataset.source)
    devices.agree(
        settings=zlib.crc32(json.dumps(recipe.to_json() | {"data": None}).encode()),
        data=labels_crc32,
        checkpoint=start[2]["step"] if start is not None else 0,
    )

    # Model and state: everything that a checkpoint must hold hangs in `learner.parts`, `controls` or `progress`.
    learner = Learner(recipe, dataset, devices)
    optimizer, loss_scale, diagnostics = learner.optimizer, learner.loss_scale, learner.diagnostics
    per_epoch = learner.steps_per_epoch
    controls = make_controls(recipe)
    best, stopping, plateau = controls["best"], controls.get("stopping"), controls.get("plateau")
    progress = {"epoch": 0, "step": 0, "examples": 0}  # examples: of the open epoch
    clock = Clock()

    # Compiled or not: measured once, on this machine, before the first step; a resumed run keeps the choice.
    # The batch, an epoch's last, smaller one, and the last one of an epoch in which the batch size was changed.
    shapes = 3 if start is not None and start[2]["examples"] % recipe.batch_size else 2

    xla = recipe.xla
    if xla == "auto" and "xla" not in changes:
        xla = environment.get("xla", xla)
    if xla == "auto" and recipe.sync_batch_norm and devices.replicas > 1:
        xla = "off"  # its sums over the devices cannot be compiled
    if xla == "auto":
        train_step, xla, seconds, why = learner.measure_xla(shapes)
        environment["xla_measured_ms"] = {mode: round(1000 * value, 2) for mode, value in seconds.items()}
        report(f"xla {xla}: {why}")
    else:
        train_step = learner.train_step(xla=xla == "on", shapes=shapes)
        if xla == "on" and (refusal := learner.refusal_of_xla(train_step)):
            raise ValueError(f"{refusal}; or --resume --xla off --allow-change xla")
    train_call, evaluation_step = learner.calls(train_step), learner.evaluation_step(xla=xla == "on")
    environment |= {
        "xla": xla,
        "data": dataset.source,
        "labels_crc32": labels_crc32,
        "class_names": list(dataset.class_names),
        "input_shape": list(dataset.sizes.input_shape),
        "replicas": devices.replicas,
        "workers": devices.workers,
    }

    # Resume. Files after the restored state: a checkpoint that does not fit changes nothing.
    history: list[dict] = []
    if start is not None:
        path, arrays, meta, history = start
        resume.restore(learner.parts, arrays, path)
        progress = {name: meta[name] for name in progress}
        clock.load_state(meta["clock"])
        for name, machine in controls.items():
            machine.load_state(meta["controls"][name])
    if devices.is_chief:
        resume.record(run, environment, runs.environment(), changes, progress["step"])
    if history:
        follow(history)

    watch = Watch(run)

    def save(path: Path) -> None:
        watch.check()
        states = {name: machine.state() for name, machine in controls.items()}
        arrays = checkpoint.capture(learner.parts)
        checkpoint.check_finite(arrays, path)
        if devices.is_chief:
            checkpoint.save(path, arrays, {**progress, "controls": states, "clock": clock.state()})

    def save_checkpoint() -> None:
        path = checkpoint.step_path(run.checkpoints, progress["step"])
        save(path)
        if devices.is_chief:
            checkpoint.prune(run.checkpoints, recipe.keep_checkpoints, newest=path)

    def stop_if_asked() -> None:
        number = devices.asked(asked.number)
        if number is not None:
            clock.lap("rest")
            save_checkpoint()
            devices.wait()
            raise Interrupted(number)

    # Epochs.
    with interruption() as asked:
        while progress["epoch"] < recipe.epochs and not (stopping and stopping.stopped):
            clock.start()
            done = progress["examples"]  # of this epoch, from a run that was stopped inside it
            if done == 0:
                learner.start_epoch()
            calls = train_places(
                len(learner.train_split),
                recipe.batch_size,
                seed=recipe.seed,
                epoch=progress["epoch"],
                start=done,
                steps_per_call=recipe.steps_per_call,
                step=progress["step"],
                pause=recipe.checkpoint_steps,
            )
            title = f"epoch {progress['epoch'] + 1}/{recipe.epochs}"
            steps = {"total": per_epoch, "initial": done // recipe.batch_size, "unit": "step"}
            with tqdm(desc=title, leave=False, disable=None if devices.is_chief else True, **steps) as bar:
                for places in calls:  # (k, B): of k steps
                    batches = learner.batches(places, **progress)
                    clock.lap("data")
                    watch.add(progress["epoch"], progress["step"], train_call(*batches))
                    clock.lap_steps(*places.shape, wait=learner.metrics.loss.numpy)
                    progress["step"] += len(places)
                    progress["examples"] += places.size
                    bar.update(len(places))
                    stop_if_asked()
                    if recipe.checkpoint_steps is not None and progress["step"] % recipe.checkpoint_steps == 0:
                        clock.lap("rest")
                        save_checkpoint()
                        clock.lap("rest")
            watch.check()
            result = learner.metrics.result()  # waits for the device
            clock.lap("compute")

            # Evaluation.
            learner.val_metrics.reset()
            for places in evaluation_places(len(learner.validation_split), recipe.batch_size):
                evaluation_step(*learner.validation_feed(places))
                stop_if_asked()
            result |= {f"val_{name}": value for name, value in learner.val_metrics.result().items()}

            # History first, best checkpoint second, checkpoint last: stopped in between, the epoch is done again.
            progress["epoch"] += 1
            clock.lap("rest")
            times = clock.columns(per_epoch, len(learner.train_split))
            row = {
                "epoch": progress["epoch"],
                "seconds": times["seconds"],
                "steps_per_second": times["steps_per_second"],
                "learning_rate": float(optimizer.learning_rate.numpy()),
                **result,
            }
            if loss_scale is not None:
                row |= {
                    "loss_scale": float(loss_scale.scale.numpy()),
                    "skipped_steps": int(loss_scale.skipped_steps.numpy()),
                }
            row |= {name: value for name, value in times.items() if name not in row}
            if diagnostics is not None:
                row |= diagnostics.result()
            progress["examples"] = 0
            clock.reset()
            history.append(row)
            if devices.is_chief:
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
        "parameters": sum(math.prod(variable.shape) for variable in learner.model.named_variables().values()),
        "seed": recipe.seed,
        "epochs": progress["epoch"],
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "last": history[-1],
        "best": next(row for row in history if row["epoch"] == best.best_epoch),
    }
    if recipe.validation and devices.is_chief:
        # The test split was never looked at: once, now, with the best epoch's weights.
        try:
            checkpoint.restore({"model": learner.model}, checkpoint.load(run.best)[0], run.best)
        except checkpoint.CheckpointError as error:
            report(f"warning: the test split stays unseen, for the best epoch's weights are lost: {error}")
        else:
            summary["test"] = evaluate(
                learner.model,
                dataset.test,
                classes=dataset.sizes.classes,
                batch_size=recipe.batch_size,
                penalty=learner.penalty,
                pixel_scale=recipe.pixel_scale,
            )
    if devices.is_chief:
        run.write_json("summary.json", summary)
    devices.wait()
    return summary
