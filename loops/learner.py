"""What learns: a recipe's model with all that training changes, and the compiled steps over them."""

import functools

from loops import checkpoint, control
from loops.data.dataset import Dataset, Split
from loops.data.pipeline import check, first, hold_out, shuffled, steps_per_epoch, train_batches
from loops.diagnostics import Diagnostics
from loops.optimizers import make_optimizer
from loops.recipes.recipe import Recipe
from loops.restore import LAYERS, fresh_model
from loops.steps import Metrics, Step, make_evaluation_step, make_train_step, measure_modes
from tfcore import random
from tfcore.module import Module
from tfcore.optimizers.optimizer import Optimizer
from tfcore.precision import POLICIES, LossScale


class Learner:
    """Model, optimizer, loss scale, metrics and diagnostics of a recipe on a data set, as before the first step.

    `parts` holds them by name: every variable that a checkpoint must keep hangs there.

    Raises:
        ValueError: what `prepare` refuses.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset):
        self.recipe = recipe
        self.train_split, self.validation_split = splits(recipe, dataset)
        self.model, self.optimizer, self.steps_per_epoch = prepare(recipe, dataset)
        self.metrics, self.val_metrics = Metrics(recipe.top_k), Metrics(recipe.top_k)
        self.loss_scale = LossScale() if POLICIES[recipe.precision].scaled else None
        self.diagnostics = Diagnostics(self.model) if recipe.diagnostics else None
        self.penalty = functools.partial(recipe.penalty, self.model)
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "metrics": self.metrics,
            "loss_scale": self.loss_scale,
            "diagnostics": self.diagnostics,
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
            penalty=self.penalty,
            diagnostics=self.diagnostics,
            pixel_scale=self.recipe.pixel_scale,
            xla=xla,
            shapes=shapes,
        )

    def evaluation_step(self, *, xla: bool) -> Step:
        """Return the evaluation step, which adds to `val_metrics`."""
        return make_evaluation_step(
            self.model, self.val_metrics, penalty=self.penalty, pixel_scale=self.recipe.pixel_scale, xla=xla
        )

    def measure_xla(self, shapes: int = 2) -> tuple[Step, dict[str, float]]:
        """Return (the faster train step, seconds of a step by mode off and on); the measured steps never happened."""
        fresh = checkpoint.capture(self.parts)
        steps = {mode: self.train_step(xla=mode == "on", shapes=shapes) for mode in ("off", "on")}
        batch = next(train_batches(self.train_split, self.recipe.batch_size, seed=self.recipe.seed, epoch=0))
        seconds = measure_modes(steps, batch)
        checkpoint.restore(self.parts, fresh, "the state before them")
        return steps[min(seconds, key=seconds.get)], seconds

    def start_epoch(self) -> None:
        """Set the epoch's sums to zero."""
        for sums in (self.metrics, self.diagnostics):
            if sums is not None:
                sums.reset()

    def set_learning_rate(self, epoch: int, examples: int) -> None:
        """Follow the recipe's schedule, by the place in the epoch, which a changed batch size does not move."""
        if self.recipe.schedule == "cosine":
            place = epoch * self.steps_per_epoch + examples // self.recipe.batch_size
            self.optimizer.learning_rate.assign(_cosine(self.recipe, place, self.steps_per_epoch))


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
    model = fresh_model(recipe, dataset.sizes)
    recipe.fit_statistics(model, train_split.inputs)
    optimizer = make_optimizer(recipe, model.named_trainable_variables())
    if recipe.schedule == "cosine":
        _cosine(recipe, 0, per_epoch)  # refuses a warm-up as long as the run
    return model, optimizer, per_epoch


def _cosine(recipe: Recipe, step: int, per_epoch: int) -> float:
    return control.cosine_with_warmup(
        step, learning_rate=recipe.learning_rate, steps=recipe.epochs * per_epoch, warmup_steps=recipe.warmup_steps
    )
