"""What learns: a recipe's model with all that training changes, and the compiled steps over them."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from loops.control import BestCheckpoint, Controls, EarlyStopping, ReduceOnPlateau, cosine_with_warmup, mode_of
from loops.data.dataset import Dataset, Split
from loops.data.pipeline import check, first, hold_out, shuffled, steps_per_epoch, train_places
from loops.devices.distribution import ONE_DEVICE, Devices
from loops.devices.feed import Feed
from loops.health.compilation import refusal_of_xla
from loops.health.diagnostics import Diagnostics
from loops.objective import Objective
from loops.recipes.recipe import Recipe
from loops.run import checkpoint
from loops.run.restore import AVERAGE, LAYERS, fresh_model
from loops.run.resume import Progress
from loops.steps import Average, Metrics, Step, make_evaluation_step, make_train_step, measure_modes, repeated
from tfcore import random
from tfcore.layers.mixing import Mixing, MixingConfig
from tfcore.module import Module
from tfcore.optimizers.optimizer import Optimizer, make_optimizer
from tfcore.precision import POLICIES, UNSCALED, LossScale


@dataclasses.dataclass(frozen=True)
class Mode:
    """A train step, compiled by XLA or not.

    Attributes:
        step: see `make_train_step`.
        xla: on or off.
        seconds: of a step, on and off; {} where XLA cannot compile it, None where nothing was measured.
        reason: why this one was taken, in words.
    """

    step: Step
    xla: str
    seconds: dict[str, float] | None = None
    reason: str = ""


class Learner:
    """Model, optimizer, loss scale, metrics and diagnostics of a recipe on a data set, as before the first step.

    `parts` holds them by name: every variable that a checkpoint must keep hangs there. With several `devices` each has
    a copy of the variables.

    Raises:
        ValueError: what `prepare` refuses.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, devices: Devices = ONE_DEVICE):
        self.recipe, self.devices = recipe, devices
        self.train_split, self.validation_split = splits(recipe, dataset)
        self.train_feed, self.validation_feed = Feed(self.train_split, devices), Feed(self.validation_split, devices)
        with devices.scope():
            self.model, self.optimizer, self.steps_per_epoch = prepare(recipe, dataset)
            self.metrics, self.val_metrics = Metrics(recipe.top_k), Metrics(recipe.top_k)
            self.loss_scale = LossScale() if POLICIES[recipe.precision].scaled else UNSCALED
            self.diagnostics = Diagnostics(self.model) if recipe.diagnostics else None
            self.average = None
            if recipe.average_decay is not None:
                self.average = Average(fresh_model(recipe, dataset.sizes), recipe.average_decay)
        self.objective = Objective(
            pixel_scale=recipe.pixel_scale,
            mixing=Mixing(recipe.mixing) if recipe.mixing != MixingConfig() else None,
            label_smoothing=recipe.label_smoothing,
            penalty=functools.partial(recipe.penalty, self.model),
        )
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "metrics": self.metrics,
            "loss_scale": self.loss_scale,
            "diagnostics": self.diagnostics,
            AVERAGE: None if self.average is None else self.average.model,
        }
        self.parts = {name: module for name, module in parts.items() if module is not None}

    def train_step(self, *, xla: bool, shapes: int = 2) -> Step:
        """Return the train step (see `make_train_step`)."""
        return make_train_step(
            self.model,
            self.optimizer,
            self.metrics,
            key=random.fold_in(random.make_key(self.recipe.seed), LAYERS),
            loss_scale=self.loss_scale,
            objective=self.objective,
            average=self.average,
            diagnostics=self.diagnostics,
            xla=xla,
            shapes=shapes,
            devices=self.devices,
        )

    @property
    def evaluated(self) -> Module:
        """What is evaluated, and kept as the best: the average of the weights where there is one, else the model."""
        return self.model if self.average is None else self.average.model

    def evaluation_step(self, *, xla: bool) -> Step:
        """Return the evaluation step, which adds to `val_metrics`."""
        return make_evaluation_step(
            self.evaluated,
            self.val_metrics,
            penalty=functools.partial(self.recipe.penalty, self.evaluated),
            pixel_scale=self.recipe.pixel_scale,
            xla=xla,
            devices=self.devices,
        )

    def calls(self, train_step: Step) -> Step:
        """Return call(*batches): it trains on what `batches` returns, by a step from `train_step`."""
        if self.recipe.steps_per_call == 1:
            return train_step
        if self.recipe.schedule == "constant":
            return repeated(train_step)

        def scheduled(inputs: tf.Tensor, labels: tf.Tensor, number: tf.Tensor, learning_rate: tf.Tensor) -> tf.Tensor:
            self.optimizer.learning_rate.assign(learning_rate)
            return train_step(inputs, labels, number)

        return repeated(scheduled)

    def batches(self, places: np.ndarray, progress: Progress) -> tuple[tf.Tensor, ...]:
        """Return what one of `calls` takes: the batches at the places (k, B), the run's next ones after `progress`."""
        epoch, step, examples = progress.epoch, progress.step, progress.examples
        if self.recipe.steps_per_call == 1:
            self.set_learning_rate(epoch, examples)
            return (*self.train_feed(places[0]), tf.constant(step, tf.int64))
        columns = (*self.train_feed(places), tf.range(step, step + len(places), dtype=tf.int64))
        if self.recipe.schedule == "constant":
            return columns
        rates = [self._scheduled(epoch, examples + row * self.recipe.batch_size) for row in range(len(places))]
        return (*columns, tf.constant(rates, self.optimizer.learning_rate.dtype))

    def refusal_of_xla(self, step: Step) -> str | None:
        """Return in one line why XLA cannot compile a train step, or None. With several devices it is not looked at."""
        if self.devices.replicas > 1:
            return None
        return refusal_of_xla(step, *self._first_batch(), tf.constant(0, tf.int64))

    def measure_xla(self, shapes: int = 2) -> Mode:
        """Return the faster train step; the one without XLA where XLA cannot compile it.

        The measured steps never happened.
        """
        fresh = checkpoint.capture(self.parts)
        steps = {xla: self.train_step(xla=xla == "on", shapes=shapes) for xla in ("off", "on")}
        if refusal := self.refusal_of_xla(steps["off"]):
            return Mode(steps["off"], "off", {}, refusal)
        seconds = measure_modes(steps, self._first_batch())
        # The mean over the workers: one choice for all of them.
        total = self.devices.sum(list(seconds.values()))
        seconds = {xla: value / self.devices.workers for xla, value in zip(seconds, total, strict=True)}
        checkpoint.restore(self.parts, fresh, "the state before them")
        xla = min(steps, key=lambda xla: seconds[xla])
        reason = ", ".join(f"{name} {1000 * value:.1f} ms a step" for name, value in seconds.items())
        return Mode(steps[xla], xla, seconds, reason)

    def step_seconds(self) -> float:
        """Return the seconds of a train step in the recipe's mode of XLA, auto in the faster one. It does train."""
        if self.recipe.xla == "auto" and (seconds := self.measure_xla().seconds):
            return min(seconds.values())
        xla = "on" if self.recipe.xla == "on" else "off"
        return measure_modes({xla: self.train_step(xla=xla == "on")}, self._first_batch())[xla]

    def _first_batch(self) -> tuple[tf.Tensor, tf.Tensor]:
        recipe = self.recipe
        return self.train_feed(
            next(train_places(len(self.train_split), recipe.batch_size, seed=recipe.seed, epoch=0))[0]
        )

    def start_epoch(self) -> None:
        """Set the epoch's sums to zero."""
        for sums in (self.metrics, self.diagnostics):
            if sums is not None:
                sums.reset()

    def set_learning_rate(self, epoch: int, examples: int) -> None:
        """Follow the recipe's schedule, by the place in the epoch, which a changed batch size does not move."""
        if self.recipe.schedule == "cosine":
            self.optimizer.learning_rate.assign(self._scheduled(epoch, examples))

    def _scheduled(self, epoch: int, examples: int) -> float:
        place = epoch * self.steps_per_epoch + examples // self.recipe.batch_size
        return _cosine(self.recipe, place, self.steps_per_epoch)


def make_controls(recipe: Recipe) -> Controls:
    """Return what decides between the epochs.

    Raises:
        ValueError: for a negative patience, or a factor outside (0, 1).
    """
    mode, stopping, plateau = mode_of(recipe.monitor), None, None
    if recipe.stop_patience is not None:
        stopping = EarlyStopping(mode=mode, patience=recipe.stop_patience)
    if recipe.plateau_patience is not None:
        plateau = ReduceOnPlateau(mode="min", factor=recipe.plateau_factor, patience=recipe.plateau_patience)
    return Controls(best=BestCheckpoint(mode=mode), stopping=stopping, plateau=plateau)


def splits(recipe: Recipe, dataset: Dataset) -> tuple[Split, Split]:
    """Return (train, validation) of a recipe; without a validation share the test split validates, as published."""
    train_split = shuffled(dataset.train, recipe.seed) if recipe.shuffle_split else dataset.train
    if recipe.train_examples is not None:
        train_split = first(train_split, recipe.train_examples)
    if recipe.validation:
        return hold_out(train_split, recipe.validation)
    return train_split, dataset.test


def prepare(recipe: Recipe, dataset: Dataset) -> tuple[Module, Optimizer, int]:
    """Return (fresh model, its optimizer, steps an epoch) of a recipe on a data set.

    Raises:
        ValueError: for sizes, rates or a batch size that do not work: call it before anything is written.
    """
    train_split, validation_split = splits(recipe, dataset)
    for split in (train_split, validation_split, dataset.test):
        check(split, dataset.sizes.classes)
    per_epoch = steps_per_epoch(train_split, recipe.batch_size)
    check_division(recipe, train_split, validation_split)
    model = fresh_model(recipe, dataset.sizes)
    recipe.fit_statistics(model, train_split.inputs)
    optimizer = make_optimizer(model.named_trainable_variables(), recipe.optimizer)
    make_controls(recipe)  # refuses a negative patience, a factor that does not shrink
    if recipe.schedule == "cosine":
        _cosine(recipe, 0, per_epoch)  # refuses a warm-up as long as the run
    return model, optimizer, per_epoch


def check_division(recipe: Recipe, *divided: Split) -> None:
    """Refuse a batch, of these splits, with fewer examples than there are replicas to divide it.

    Raises:
        ValueError: naming the batch size.
    """
    replicas = recipe.devices * recipe.workers
    for split in divided:
        smallest = len(split) % recipe.batch_size or recipe.batch_size
        if smallest < replicas:
            raise ValueError(
                f"batch_size {recipe.batch_size} leaves a batch of {smallest} of {len(split)} examples, fewer than the "
                f"{replicas} replicas: choose another --batch-size or fewer --devices"
            )


def _cosine(recipe: Recipe, step: int, per_epoch: int) -> float:
    return cosine_with_warmup(
        step,
        learning_rate=recipe.optimizer.learning_rate,
        steps=recipe.epochs * per_epoch,
        warmup_steps=recipe.warmup_steps,
    )
