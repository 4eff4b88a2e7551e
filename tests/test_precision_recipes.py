"""Every recipe in every precision, in tiny sizes: what is stored in which dtype, gradients, an overflow, a training."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from loops import data, recipes
from loops.data.dataset import Split
from loops.data.pipeline import train_batches
from loops.learner import Learner
from loops.run import checkpoint
from loops.run.restore import fresh_model
from loops.run.runs import Run
from loops.train import train
from tests.support.tiny import HALVES, TINY, shortened
from tfcore.layers.attention import Projection
from tfcore.layers.conv import Conv2D
from tfcore.layers.dense import Dense
from tfcore.precision import POLICIES

DIGITS = {"mixed_bfloat16": 2.0**-8, "mixed_float16": 2.0**-11}  # the spacing of numbers between 1/2 and 1
BATCH, EXAMPLES, EPOCHS, SEEDS = 29, 116, 6, (0, 1, 2)
KINKED = (  # ReLUs and max-pools: see the gradients' test
    *("convnet_cifar10", "inn_cifar10", "cnn_cifar10"),
    *("inn_cifar10_best", "cnn_cifar10_best", "transformer_series_best"),
    *("vit_cifar100_best", "vit_cifar100_best_large"),
)
in_both = pytest.mark.parametrize("precision", sorted(HALVES))
of_all = pytest.mark.parametrize("name", sorted(recipes.RECIPES))


class Tiny:
    """A recipe's learner with its step, traced once for all tests; every test starts from `reset`."""

    def __init__(self, name: str, precision: str):
        settings = [f"precision={precision}", "data=sample", f"batch_size={BATCH}", "clip_norm=none", *TINY[name]]
        settings += ["schedule=constant", "warmup_steps=0", "validation=0", "learning_rate=0.01"]
        self.recipe = recipes.get(name).changed([setting.split("=") for setting in settings])
        self.dataset = shortened(data.load(self.recipe.dataset, "sample"), EXAMPLES, 11)
        if self.recipe.datasets is None:  # series, of 500 time steps
            splits = {split: getattr(self.dataset, split) for split in ("train", "test")}
            splits = {split: Split(whole.inputs[:, :67], whole.labels) for split, whole in splits.items()}
            self.dataset = dataclasses.replace(self.dataset, **splits)
        self.learner = Learner(self.recipe, self.dataset)
        self.step = self.learner.train_step(xla=False)
        self._start = checkpoint.capture(self.learner.parts)

    def reset(self, *, seed: int = 0, scale: float = 2.0**7) -> None:
        """Go back to the start, with the weights of a seed and a loss scale at which nothing overflows."""
        checkpoint.restore(self.learner.parts, self._start, "the start")
        other = fresh_model(self.recipe.changed([("seed", str(seed))]), self.dataset.sizes).named_trainable_variables()
        for path, variable in self.learner.model.named_trainable_variables().items():
            variable.assign(other[path])
        if POLICIES[self.recipe.precision].scaled:
            self.learner.loss_scale.scale.assign(scale)

    def batches(self, seed: int = 0, epoch: int = 0):
        return [
            tuple(map(tf.constant, x)) for x in train_batches(self.learner.train_split, BATCH, seed=seed, epoch=epoch)
        ]

    def run(self, batch, number: int = 0) -> None:
        self.step(*batch, tf.constant(number, tf.int64))

    def gradients(self) -> dict[str, np.ndarray]:
        """Of the first batch: after one step from zero, m is (1 − β₁) times the gradient."""
        self.reset()
        self.run(self.batches()[0])
        return {path: m.numpy() / (1 - self.recipe.optimizer.beta_1) for path, m in self.learner.optimizer.m.items()}

    def train(self, seed: int) -> tuple[float, float]:
        """The loss of the first and of the last epoch; a seed decides weights, batches and masks."""
        self.reset(seed=seed)
        losses = []
        for epoch in range(EPOCHS):
            self.learner.start_epoch()
            for i, batch in enumerate(self.batches(seed, epoch)):
                self.run(batch, 1000 * seed + 10 * epoch + i)
            losses.append(self.learner.metrics.result()["loss"])
        return losses[0], losses[-1]


@functools.cache
def _tiny(name: str, precision: str) -> Tiny:
    return Tiny(name, precision)


@pytest.fixture(scope="module", autouse=True)
def _drop_the_graphs():
    """They are shared by the tests of this file, and by no other's."""
    yield
    _tiny.cache_clear()
    _used_ops.cache_clear()


@in_both
@of_all
def test_what_is_kept_is_float32(name, precision):
    """Weights, slots, running statistics, and the gradients that the optimizer gets; Adam's powers of β are float64."""
    parts = _tiny(name, precision).learner.parts
    for part in ("model", "optimizer"):
        for path, variable in parts[part].named_variables().items():
            assert variable.dtype == tf.float32 or path == "iterations", (part, path)
    ops = _used_ops(name, precision)
    updates = [op for op in ops if op.name.startswith("update/") and op.type == "AssignVariableOp"]
    optimizer = parts["optimizer"]
    slots = sum(len(getattr(optimizer, slot)) for slot in optimizer.slots)
    assert slots and len(updates) >= len(parts["model"].named_trainable_variables()) + slots
    for op in ops:
        half = [x for x in (*op.inputs, *op.outputs) if x.dtype.name == HALVES[precision]]
        assert not (half and op.name.startswith("update/")), op.name


@in_both
@of_all
def test_sums_over_the_batch_are_float32(name, precision):
    """Gradients of biases, positions and kernels, batch statistics, the loss: none is added up in half precision."""
    ops = _used_ops(name, precision)
    over_the_batch = [
        op
        for op in ops
        if op.type in ("Sum", "Mean", "Max")
        and op.inputs[0].shape[:1] == (BATCH,)
        and op.outputs[0].shape[:1] != (BATCH,)
    ]
    assert {"Sum", "Mean"} <= {op.type for op in over_the_batch}
    assert [op.name for op in over_the_batch if op.inputs[0].dtype.name == HALVES[precision]] == []


@in_both
@of_all
def test_gradients_are_within_the_formats_error(name, precision):
    """Of a smooth model: each layer rounds what it hands on, by half a digit at most, forward and again backward.

    Such errors are of either sign and add up like a random walk: √(2 · layers) half digits, of a gradient whose terms
    cancel by no more than a few times. The bound is 4 · √layers digits.

    A ReLU or a max-pool chooses: of the values within a rounding of the choice, a share in proportion to the digit,
    some fall to the other side and move their whole gradient. The norm of a share is its root: 6 · √digit at any depth.
    """
    exact, rounded = _tiny(name, "float32").gradients(), _tiny(name, precision).gradients()
    exact, rounded = (np.concatenate([gradients[path].ravel() for path in exact]) for gradients in (exact, rounded))
    layers = _tiny(name, "float32").learner.model.named_modules().values()
    depth = sum(isinstance(layer, Dense | Conv2D | Projection) for layer in layers)
    bound = 6 * DIGITS[precision] ** 0.5 if name in KINKED else 4 * depth**0.5 * DIGITS[precision]
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 0 < error < bound, f"{error / DIGITS[precision]:.1f} digits"


@of_all
def test_an_overflow_skips_the_step_and_the_training_goes_on(name):
    """At a scale of 2^24 the very first cast of the backward pass overflows."""
    tiny = _tiny(name, "mixed_float16")
    tiny.reset(scale=2.0**24)
    learner, scale = tiny.learner, tiny.learner.loss_scale
    kept = {"model": learner.model, "optimizer": learner.optimizer}
    before = checkpoint.capture(kept)
    tiny.run(tiny.batches()[0], 0)
    assert (float(scale.scale), int(scale.skipped_steps), int(scale.clean_steps)) == (2.0**23, 1, 0)
    for path, value in checkpoint.capture(kept).items():
        if "moving_" in path:  # of a forward pass in which nothing was wrong
            assert np.isfinite(value).all()
        else:
            np.testing.assert_array_equal(value, before[path], path)
    scale.scale.assign(2.0**7)
    tiny.run(tiny.batches()[1], 1)
    assert (float(scale.scale), int(scale.skipped_steps), int(scale.clean_steps)) == (2.0**7, 1, 1)
    assert int(learner.optimizer.iterations) == 1
    moved = [path for path, value in checkpoint.capture(kept).items() if (value != before[path]).any()]
    assert any(path.startswith("model/") and path.endswith("kernel") for path in moved)


@of_all
def test_a_short_training_ends_within_noise_of_float32(name):
    """Noise: the standard deviation of the last loss over three seeds (weights, batches, masks) in float32."""
    ends = []
    for seed in SEEDS:
        first, last = _tiny(name, "float32").train(seed)
        assert last < first
        ends.append(last)
    for precision in HALVES:
        _, last = _tiny(name, precision).train(SEEDS[0])
        assert abs(last - ends[0]) < np.std(ends), (precision, last, ends)


def test_an_example_that_overflows_is_skipped_in_every_epoch_and_counted(tmp_path):
    """3e38 is finite, in the data and in float32; in float16 its forward pass is not, and neither is its loss."""
    settings = ["epochs=3", "batch_size=16", "xla=off", "head_units=7", "head_dropout=0", "learning_rate=0.01"]
    settings += ["data=sample", "validation=0", "precision=mixed_float16"]
    recipe = recipes.get("mlp_forda").changed([setting.split("=") for setting in settings])
    dataset = shortened(data.load("FordA", "sample"), 61, 17)
    dataset.train.inputs[23] = 3e38
    run = Run.create(tmp_path / "run", recipe)
    train(run, dataset)
    history = run.read_history()
    assert [row["skipped_steps"] for row in history] == [1, 2, 3]
    assert [row["loss_scale"] for row in history] == [2.0**14, 2.0**13, 2.0**12]
    assert history[-1]["loss"] < history[0]["loss"]
    _, arrays, _, _ = checkpoint.newest_intact(run.checkpoints)
    assert arrays["loss_scale/skipped_steps"] == 3 and arrays["loss_scale/scale"] == 2.0**12
    assert arrays["optimizer/iterations"] == 3 * 3  # of four steps an epoch


@pytest.mark.parametrize("layer", ["convolutions/0", "logits"])
def test_a_skipped_step_does_not_move_the_running_statistics(layer):
    """Neither those behind the overflow nor those in front of it, which are finite."""
    tiny = _tiny("cnn_cifar10", "mixed_float16")
    tiny.reset()
    statistics = {path: v for path, v in tiny.learner.model.named_variables().items() if "moving_" in path}
    before = {path: v.numpy() for path, v in statistics.items()}
    kernel = tiny.learner.model.named_variables()[f"{layer}/kernel"]
    kernel.assign(kernel * np.float32(1e6))
    tiny.run(tiny.batches()[0])
    assert int(tiny.learner.loss_scale.skipped_steps) == 1
    for path, variable in statistics.items():
        np.testing.assert_array_equal(variable, before[path], path)


@functools.cache
def _used_ops(name: str, precision: str) -> list[tf.Operation]:
    """The operations of the train step on which an assignment or the verdict depends."""
    tiny = _tiny(name, precision)
    graph = tiny.step.get_concrete_function(*tiny.batches()[0], tf.constant(0, tf.int64)).graph
    ends = [op for op in graph.get_operations() if op.type.startswith("Assign")]
    used, waiting = set(), [*ends, *(tensor.op for tensor in graph.outputs)]
    while waiting:
        op = waiting.pop()
        if op.name not in used:
            used.add(op.name)
            waiting += [tensor.op for tensor in op.inputs]
    return [op for op in graph.get_operations() if op.name in used]
