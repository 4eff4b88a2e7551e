"""A recipe says everything about a run: the configs of model, optimizer and mixing, and the run's own fields.

For people it is flat: `--set FIELD=VALUE` and recipe.json name a field of any of them, and `optimizer` is a name.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
import tensorflow as tf

from loops.data.cifar import LAYOUTS
from loops.data.dataset import Sizes
from loops.data.repair import STRICT, Repair
from loops.run import disk
from tfcore.config import Config
from tfcore.layers.mixing import MixingConfig
from tfcore.module import Module
from tfcore.ops.losses import check_label_smoothing
from tfcore.optimizers.average import check_average_decay
from tfcore.optimizers.config import OptimizerConfig, changed_to, users_of
from tfcore.precision import POLICIES

XLA_MODES = ("on", "off", "auto")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every recipe has; each system adds how its model is built. Refuses impossible values when it is built.

    Raises:
        ValueError: naming the field, the value and what is allowed.
    """

    # What `dataset` may be; None: the name of any set of series.
    datasets: typing.ClassVar[tuple[str, ...] | None] = tuple(LAYOUTS)

    name: str
    model: Config
    optimizer: OptimizerConfig
    mixing: MixingConfig = dataclasses.field(default_factory=MixingConfig)
    dataset: str
    data: str = "auto"  # auto (cache or download), sample, or a folder
    epochs: int
    batch_size: int
    exchange_splits: bool = False  # train on the test split, test on the train split
    validation: float = 0.0  # share of the train set, its last part, to validate on; 0: on the test set, as published
    shuffle_split: bool = False  # put the train set in an order of the seed's before its last part is held out
    train_examples: int | None = None  # use the first of the train set only
    pixel_scale: float = 255.0  # the model's images are uint8 pixels divided by this
    label_smoothing: float = 0.0  # of the training's loss alone
    average_decay: float | None = None  # of the average of the weights, which is evaluated and kept as the best
    hold_test: bool = False  # leave the test split unseen: evaluate.py looks at it, and writes down that it did
    top_k: int | None = None  # report how often the label is among the k highest scores
    schedule: str = "constant"  # or cosine, to zero over the whole run
    warmup_steps: int = 0  # of the cosine
    plateau_patience: int | None = None  # epochs without a better val_loss, then learning rate · plateau_factor
    plateau_factor: float = 0.2
    stop_patience: int | None = None  # epochs without a better monitored value, then stop
    monitor: str = "val_accuracy"  # the best checkpoint has the highest; val_loss, loss (of train): the lowest
    seed: int = 0
    precision: str = "float32"
    xla: str = "auto"  # auto: whichever of on and off a few measured steps find faster
    devices: int = 1  # of each worker; all of them together divide every batch
    workers: int = 1  # processes, which TF_CONFIG names
    sync_batch_norm: bool = False  # normalize with the whole batch's statistics, not with those of a device's share
    steps_per_call: int = 1  # train steps in one call of TensorFlow: the same bits, and less waiting for Python
    keep_checkpoints: int = 2
    checkpoint_steps: int | None = None  # save after every so many steps, too, not only after each epoch
    diagnostics: bool = False  # each layer's gradient and weight norms and running statistics in the history

    def __post_init__(self):
        if self.datasets is not None and self.dataset not in self.datasets:
            raise ValueError(f"dataset must be one of {', '.join(self.datasets)}, got {self.dataset!r}")
        if self.datasets is None and self.dataset in LAYOUTS:
            raise ValueError(f"dataset must be a set of series, such as FordA, got {self.dataset!r}, a set of images")
        for name in ("epochs", "batch_size", "steps_per_call", "keep_checkpoints", "devices", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not -(2**31) <= self.seed < 2**31:
            raise ValueError(f"seed must fit 32 bits (-2147483648 .. 2147483647), got {self.seed}")
        for name in ("train_examples", "top_k", "checkpoint_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, or none, got {getattr(self, name)}")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation must be at least 0 and below 1, such as 0.1, got {self.validation}")
        if not self.pixel_scale > 0:
            raise ValueError(f"pixel_scale must be positive, such as 255, got {self.pixel_scale}")
        if self.warmup_steps and self.schedule == "constant":
            raise ValueError(
                f"warmup_steps {self.warmup_steps} is for schedule cosine: set schedule=cosine, or warmup_steps=0"
            )
        if self.schedule == "cosine" and self.plateau_patience is not None:
            raise ValueError("plateau_patience and schedule cosine both set the learning rate: choose one of them")
        if self.plateau_patience is None and self.plateau_factor != type(self).plateau_factor:
            raise ValueError(f"plateau_factor {self.plateau_factor} is for plateau_patience: set that, or leave it out")
        check_label_smoothing(self.label_smoothing)
        if self.average_decay is not None:
            check_average_decay(self.average_decay)
        if self.hold_test and not self.validation:
            raise ValueError("hold_test leaves the test split unseen, and something must validate: set validation=0.1")
        self._check_mixing()
        for name, known in (
            ("precision", POLICIES),
            ("xla", XLA_MODES),
            ("monitor", ("val_accuracy", "val_loss", "loss")),
            ("schedule", ("constant", "cosine")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.sync_batch_norm and self.devices * self.workers > 1 and self.xla == "on":
            raise ValueError("sync_batch_norm adds up over the devices inside of what xla=on compiles: set xla=off")
        if self.steps_per_call > 1 and self.devices * self.workers > 1:
            raise ValueError("steps_per_call is for one device, and there are several: leave it at 1")
        if self.data not in ("auto", "sample"):
            # Absolute, so that a run's recipe still finds its data from another working directory.
            object.__setattr__(self, "data", str(disk.expanded(Path(self.data)).absolute()))

    def _check_mixing(self) -> None:
        if self.datasets is None and self.mixing.needs_images:
            raise ValueError("crop_padding, mirror, cutout and cutmix_alpha are for images, and these are series")
        if self.mixing.mixes and self.devices * self.workers > 1:
            raise ValueError(
                "mixup_alpha and cutmix_alpha pair the examples of a batch, which several devices divide: set "
                "mixup_alpha=0 and cutmix_alpha=0, or train on one device"
            )

    @property
    def repair(self) -> Repair:
        """What is made of missing values and unequal lengths in the data; here they are refused."""
        return STRICT

    def build_model(self, key: tf.Tensor, sizes: Sizes) -> Module:
        """Return the recipe's model with fresh weights: called as model(inputs, training=, key=) -> (B, classes)."""
        raise TypeError(f"{type(self).__name__} builds no model: use a recipe of loops.recipes.RECIPES")

    def penalty(self, model: Module) -> tf.Tensor | None:
        """Return what the recipe adds to the loss for the size of the weights, (); here nothing."""
        return None

    def fit_statistics(self, model: Module, inputs: np.ndarray) -> None:
        """Let the model take what it needs from the train inputs (n, ...), before the first step; here nothing."""

    @property
    def variants(self) -> tuple[tuple[str, ...], ...]:
        """Settings, as of --set, that change how the model is computed but not what: for comparisons side by side."""
        return ()

    @property
    def compute_dtype(self) -> tf.DType:
        """The dtype in which the model computes."""
        return POLICIES[self.precision].compute

    def to_json(self) -> dict:
        """Return all fields as JSON values, flat: the run's, the optimizer's, those of mixing, the model's."""
        own = {name: getattr(self, name) for name in _own_fields(self)}
        optimizer = {"optimizer": self.optimizer.name, **dataclasses.asdict(self.optimizer)}
        return {**own, **optimizer, **dataclasses.asdict(self.mixing), **dataclasses.asdict(self.model)}

    def changed(self, settings: Iterable[tuple[str, str]]) -> Self:
        """Return a copy with fields set from text, as `--set FIELD=VALUE` gives them.

        Another `optimizer` keeps what both have, such as the learning rate, and has its own defaults for the rest.

        Raises:
            ValueError: for an unknown field (names the nearest one), one that only other optimizers have, or a value
                of the wrong type.
        """
        texts = dict(settings)
        optimizer = changed_to(texts.pop("optimizer", self.optimizer.name), self.optimizer)
        kinds = _fields_by_part(self, optimizer)
        values: dict[str, dict[str, typing.Any]] = {part: {} for part in kinds}
        for field, text in texts.items():
            part = next((part for part, known in kinds.items() if field in known), None)
            if part is None and (users := users_of(field)):
                raise ValueError(
                    f"{field} is for optimizer {' or '.join(users)}, not {optimizer.name}: set optimizer={users[0]}, "
                    f"or leave {field} out"
                )
            if part is None or field == "name":
                known = [name for part in kinds.values() for name in part if name != "name"]
                raise ValueError(f"unknown field {field!r} of {self.name}{nearest(field, known)}")
            values[part][field] = _parse(field, text, kinds[part][field])
        return self._replaced(optimizer, values)

    def from_json(self, values: dict) -> Self:
        """Return a copy with the fields of a run's recipe.json (the inverse of `to_json`).

        Raises:
            ValueError: for a field that this version does not know.
        """
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        optimizer = changed_to(values.pop("optimizer", self.optimizer.name), self.optimizer)
        known = _fields_by_part(self, optimizer)
        # Earlier versions wrote the fields of all optimizers, of which those of the others did nothing.
        unknown = [name for name in values if not any(name in part for part in known.values()) and not users_of(name)]
        if unknown:
            raise ValueError(
                f"the run's recipe has fields that this version does not know: {', '.join(sorted(unknown))}"
            )
        chosen = {part: {name: values[name] for name in fields if name in values} for part, fields in known.items()}
        return self._replaced(optimizer, chosen)

    def _replaced(self, optimizer: OptimizerConfig, values: dict[str, dict[str, typing.Any]]) -> Self:
        """A copy with other values in each of its parts, its own under the empty name."""
        return dataclasses.replace(
            self,
            **values[""],
            model=dataclasses.replace(self.model, **values["model"]),
            optimizer=dataclasses.replace(optimizer, **values["optimizer"]),
            mixing=dataclasses.replace(self.mixing, **values["mixing"]),
        )


def _fields_by_part(recipe: Recipe, optimizer: OptimizerConfig) -> dict[str, dict[str, object]]:
    """The fields of a recipe's parts and their types; its own under the empty name. A new part comes in here."""
    parts = {"model": recipe.model, "optimizer": optimizer, "mixing": recipe.mixing}
    return {"": _own_fields(recipe), **{name: _fields(part) for name, part in parts.items()}}


def _own_fields(recipe: Recipe) -> dict[str, object]:
    return {name: kind for name, kind in _fields(recipe).items() if name not in ("model", "optimizer", "mixing")}


def _fields(part: typing.Any) -> dict[str, object]:
    """The fields of a dataclass and their types."""
    kinds = typing.get_type_hints(type(part))
    return {field.name: kinds[field.name] for field in dataclasses.fields(part)}


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the hint '; did you mean ...? Known: ...' for a word that is not known."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} Known: {', '.join(known)}"


def _parse(field: str, text: str, kind) -> object:
    """Turn the text of `--set field=text` into the field's type: a number, a word, true or false, or a tuple.

    "none" is None where the field may be that, and the empty tuple.
    """
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return () if text.lower() == "none" else tuple(_parse(field, part, item) for part in text.split(","))
    if typing.get_origin(kind) is types.UnionType:  # int | None and the like
        if text.lower() == "none":
            return None
        kind = typing.get_args(kind)[0]
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{field} must be true or false, got {text!r}")
        return text.lower() == "true"
    if typing.get_origin(kind) is typing.Literal:
        return text
    try:
        return kind(text)
    except ValueError:
        expected = {int: "a whole number", float: "a number"}[kind]
        raise ValueError(f"{field} must be {expected}, got {text!r}") from None
