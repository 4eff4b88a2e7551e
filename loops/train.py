"""The outer loop, eager, to be read from top to bottom: what happens to a model from its seed to its summary."""

import functools
import json
import math
import shlex
import zlib
from collections.abc import Callable

from tqdm import tqdm

from loops.data.dataset import Dataset
from loops.data.pipeline import evaluation_places, train_places
from loops.devices.distribution import ONE_DEVICE, Devices
from loops.devices.throughput import format_row
from loops.evaluation import evaluate
from loops.health.numerics import Watch
from loops.learner import Learner, Mode, make_controls
from loops.run import checkpoint, disk, runs
from loops.run.restore import restore_weights
from loops.run.resume import Start, changes, check_fingerprint, find_start, fingerprint, record
from loops.run.runs import Run, sole_owner
from loops.run.signals import Asked, interruption
from loops.run.signals import Interrupted as Interrupted  # which `train` raises
from loops.state import TrainingState

Report = Callable[[str], None]  # called with a line of text
Follow = Callable[[list[dict]], None]  # called with the history's rows


def train(
    run: Run,
    dataset: Dataset,
    *,
    resume: bool = False,
    report: Report = lambda line: None,
    follow: Follow = lambda history: None,
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


def _train(run: Run, dataset: Dataset, resumed: bool, report: Report, follow: Follow, devices: Devices) -> dict:
    recipe = run.recipe

    # Where to go on, and with what other settings: asked for, and checked, by the caller.
    start = find_start(run, report) if resumed else None
    environment = run.read_json("environment.json") if resumed or devices.is_chief else {}
    changed = changes(Run.open(run.folder).recipe, recipe) if resumed else {}
    if "class_names" in environment:  # which it was, if a training has begun
        run.check_data(dataset)
    own_data = fingerprint(dataset.train)
    check_fingerprint(environment, own_data, dataset.source)
    devices.agree(
        settings=zlib.crc32(json.dumps(recipe.to_json() | {"data": None}).encode()),
        data=zlib.crc32(json.dumps(own_data).encode()),
        checkpoint=start.progress.step if start is not None else 0,
    )

    # Model and state, and how its steps are computed.
    learner = Learner(recipe, dataset, devices)
    measured_before = None if "xla" in changed else environment.get("xla")
    mode = choose_mode(learner, start, measured_before, report)
    environment |= facts(mode, dataset, devices) | own_data
    state = TrainingState(
        run,
        learner,
        train_call=learner.calls(mode.step),
        evaluation_step=learner.evaluation_step(xla=mode.xla == "on"),
        controls=make_controls(recipe),
        watch=Watch(run),
        repairs=dataset.repairs,
    )

    # Resume. Files after the restored state: a checkpoint that does not fit changes nothing.
    if start is not None:
        state.go_on_from(start)
    if devices.is_chief:
        record(run, environment, runs.environment(), changed, state.progress.step)
    if state.history:
        follow(state.history)

    # Epochs.
    with interruption() as asked:
        while not state.ended:
            result = train_epoch(state, asked) | validate(state, asked)
            end_epoch(state, result)
            follow(state.history)
            report(format_row(state.history[-1], recipe.epochs))

    # Summary.
    summary = summarize(state, dataset, report)
    if devices.is_chief:
        run.write_json("summary.json", summary)
    devices.wait()
    return summary


def choose_mode(learner: Learner, start: Start | None, measured_before: str | None, report: Report) -> Mode:
    """Return the train step, compiled by XLA or not as the recipe says; auto is measured once, and kept.

    `measured_before`: what the run's earlier steps were, on or off.

    Raises:
        ValueError: if XLA is to compile a step that it cannot.
    """
    recipe = learner.recipe
    # The batch, an epoch's last, smaller one, and the last one of an epoch in which the batch size was changed.
    shapes = 3 if start is not None and start.progress.examples % recipe.batch_size else 2
    xla = recipe.xla
    if xla == "auto" and measured_before is not None:
        xla = measured_before
    if xla == "auto" and recipe.sync_batch_norm and learner.devices.replicas > 1:
        xla = "off"  # its sums over the devices cannot be compiled
    if xla == "auto":
        mode = learner.measure_xla(shapes)
        report(f"xla {mode.xla}: {mode.reason}")
        return mode
    step = learner.train_step(xla=xla == "on", shapes=shapes)
    if xla == "on" and (refusal := learner.refusal_of_xla(step)):
        raise ValueError(f"{refusal}; or --resume --xla off --allow-change xla")
    return Mode(step, xla)


def facts(mode: Mode, dataset: Dataset, devices: Devices) -> dict:
    """Return what the run's environment.json says of its steps, its data and its devices."""
    measured = {}
    if mode.seconds is not None:
        measured["xla_measured_ms"] = {name: round(1000 * value, 2) for name, value in mode.seconds.items()}
    return measured | {
        "xla": mode.xla,
        "data": dataset.source,
        **({"repairs": dataset.repairs} if dataset.repairs else {}),
        "class_names": list(dataset.class_names),
        "input_shape": list(dataset.sizes.input_shape),
        "replicas": devices.replicas,
        "workers": devices.workers,
    }


def train_epoch(state: TrainingState, asked: Asked) -> dict[str, float]:
    """Take all steps of an epoch, or those that are left of it, and return its metrics."""
    learner, progress, clock, recipe = state.learner, state.progress, state.clock, state.run.recipe
    clock.start()
    if progress.examples == 0:  # else the run was stopped inside the epoch
        learner.start_epoch()
    calls = train_places(
        len(learner.train_split),
        recipe.batch_size,
        seed=recipe.seed,
        epoch=progress.epoch,
        start=progress.examples,
        steps_per_call=recipe.steps_per_call,
        step=progress.step,
        pause=recipe.checkpoint_steps,
    )
    bar = tqdm(
        desc=f"epoch {progress.epoch + 1}/{recipe.epochs}",
        total=learner.steps_per_epoch,
        initial=progress.examples // recipe.batch_size,
        unit="step",
        leave=False,
        disable=None if learner.devices.is_chief else True,
    )
    with bar:
        for places in calls:  # (k, B): of k steps
            steps, batch_size = places.shape
            batches = learner.batches(places, progress)
            clock.lap("data")
            state.watch.add(progress.epoch, progress.step, state.train_call(*batches))
            clock.lap_steps(steps, batch_size, wait=learner.metrics.loss.numpy)
            progress.step += steps
            progress.examples += places.size
            bar.update(steps)
            state.stop_if_asked(asked)
            if recipe.checkpoint_steps is not None and progress.step % recipe.checkpoint_steps == 0:
                clock.lap("rest")
                state.save_step()
                clock.lap("rest")
    state.watch.check()
    result = learner.metrics.result()  # waits for the device
    clock.lap("compute")
    return result


def validate(state: TrainingState, asked: Asked) -> dict[str, float]:
    """Return the metrics of the validation split, their names beginning with val_."""
    learner = state.learner
    learner.val_metrics.reset()
    for places in evaluation_places(len(learner.validation_split), learner.recipe.batch_size):
        state.evaluation_step(*learner.validation_feed(places))
        state.stop_if_asked(asked)
    return {f"val_{name}": value for name, value in learner.val_metrics.result().items()}


def end_epoch(state: TrainingState, result: dict[str, float]) -> None:
    """Decide what follows from an epoch's metrics, add its row to the history, and save.

    History first, best checkpoint second, checkpoint last: stopped in between, the epoch is done again.
    """
    run, learner, progress, controls = state.run, state.learner, state.progress, state.controls
    progress.epoch += 1
    progress.examples = 0
    state.clock.lap("rest")
    row = epoch_row(state, result)
    state.clock.reset()
    state.history.append(row)
    if learner.devices.is_chief:
        run.write_history(state.history)
    is_best = controls.best.update(row[run.recipe.monitor], progress.epoch)
    if controls.stopping is not None:
        controls.stopping.update(row[run.recipe.monitor])
    if controls.plateau is not None:
        learner.optimizer.learning_rate.assign(controls.plateau.update(row["val_loss"], row["learning_rate"]))
    if is_best:
        state.save(run.best)
    state.save_step()


def epoch_row(state: TrainingState, result: dict[str, float]) -> dict:
    """Return the row of the history of the epoch that has ended."""
    learner = state.learner
    times = state.clock.columns(learner.steps_per_epoch, len(learner.train_split))
    row = {
        "epoch": state.progress.epoch,
        "seconds": times["seconds"],
        "steps_per_second": times["steps_per_second"],
        "learning_rate": float(learner.optimizer.learning_rate.numpy()),
        **result,
        **learner.loss_scale.columns(),
    }
    row |= {name: value for name, value in times.items() if name not in row} | state.repairs
    return row | (learner.diagnostics.result() if learner.diagnostics is not None else {})


def summarize(state: TrainingState, dataset: Dataset, report: Report) -> dict:
    """Return what the run has come to.

    Where a share of the train set validated, with the test split's metrics by the best epoch's weights.
    """
    run, learner, history, recipe = state.run, state.learner, state.history, state.run.recipe
    summary = {
        "recipe": recipe.name,
        "data": dataset.source,
        "parameters": sum(math.prod(variable.shape) for variable in learner.model.named_variables().values()),
        "seed": recipe.seed,
        "epochs": state.progress.epoch,
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "last": history[-1],
        "best": next(row for row in history if row["epoch"] == state.controls.best.best_epoch),
    }
    if not recipe.validation or not learner.devices.is_chief:
        return summary
    if recipe.hold_test:
        report(
            "the test split stays unseen (hold_test); once all choices are made, "
            f"{shlex.join(['python', 'scripts/evaluate.py', str(run.folder)])} looks at it, and writes down that it did"
        )
        return summary
    # The test split was never looked at: once, now.
    try:
        restore_weights(recipe, learner.evaluated, checkpoint.load(run.best)[0], run.best)
    except checkpoint.CheckpointError as error:
        report(f"warning: the test split stays unseen, for the best epoch's weights are lost: {error}")
        return summary
    summary["test"] = evaluate(
        learner.evaluated,
        dataset.test,
        classes=dataset.sizes.classes,
        batch_size=recipe.batch_size,
        penalty=functools.partial(recipe.penalty, learner.evaluated),
        pixel_scale=recipe.pixel_scale,
    )
    return summary
