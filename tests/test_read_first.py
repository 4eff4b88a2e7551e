"""`tfcore/read_first`: each model on one page computes what ours does, from the same weights, through five steps."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from loops.steps import Metrics, make_train_step
from tests.support.build import build
from tfcore import random
from tfcore.models.inn import Inn
from tfcore.models.vit import VisionTransformer
from tfcore.ops.losses import cross_entropy_from_logits
from tfcore.optimizers.optimizer import Adam, AdamW
from tfcore.read_first import inn, vit

KEY = random.make_key(3)
FOLDER = Path(inn.__file__).parent
STEPS = 5


def close(ours: dict[str, tf.Tensor], theirs: dict[str, tf.Tensor], floor: float = 0.0):
    """Equal to 1e-10 of the largest number in each, or of `floor`, whichever is larger."""
    assert ours.keys() == theirs.keys()
    for path, value in ours.items():
        scale = max(np.abs(value).max(), floor)
        np.testing.assert_allclose(theirs[path], value, rtol=0, atol=1e-10 * scale, err_msg=path)


def moved_weights(model) -> dict[str, tf.Variable]:
    """Move our model's weights off their starting values, and return a copy of them by name."""
    numbers = np.random.default_rng(0)
    for path, variable in model.named_variables().items():
        pixels = {"tokens/normalization/mean": 120.0, "tokens/normalization/variance": 5000.0}.get(path, 0.0)
        variable.assign(variable + pixels + 0.1 * numbers.uniform(size=variable.shape))
    return {path: tf.Variable(v, trainable=v.trainable) for path, v in model.named_variables().items()}


def check(ours, optimizer, weights, images, labels, *, logits, step, loss):
    """Logits in inference, loss and gradients in training, then five steps: loss and all weights after each.

    Of the model on one page: logits() of the images, loss(number) and step(number), with what step `number` draws.
    """
    with tf.GradientTape() as tape:
        mine = tf.reduce_mean(
            cross_entropy_from_logits(labels, ours(images, training=True, key=random.fold_in(KEY, 0)))
        )
    zero = tf.UnconnectedGradients.ZERO  # of the keys' bias, which no score depends on
    gradients = tape.gradient(mine, ours.named_trainable_variables(), unconnected_gradients=zero)
    trained = {path: weight for path, weight in weights.items() if weight.trainable}
    with tf.GradientTape() as tape:
        theirs = loss(0)
    their_gradients = tape.gradient(theirs, trained)
    close({"loss": mine}, {"loss": theirs})
    # A bias in front of a batch norm, or of attention's keys, has a gradient of zero: what is computed is rounding.
    close(gradients, their_gradients, floor=1e-3 * max(np.abs(gradient).max() for gradient in gradients.values()))

    metrics = Metrics()
    our_step = make_train_step(ours, optimizer, metrics, key=KEY)
    for number in range(STEPS):
        close({"logits": ours(images)}, {"logits": logits()})
        metrics.reset()
        theirs = step(number)
        our_step(images, labels, tf.constant(number, tf.int64))
        close({"loss": metrics.result()["loss"]}, {"loss": theirs})
        # Adam makes steps of such rounding, of 1e-8 of a true one.
        close(ours.named_variables(), weights, floor=1.0)


def test_the_involution_network_computes_the_same():
    # `shifted` adds up in the page's order: the gradient of a bias in front of a batch norm is rounding (1e-14), of
    # which Adam makes a step of up to α · 1e-14 / ε̂ = 1e-10, and inference, whose statistics lag behind, sees it.
    ours = build(Inn, key=KEY, dtype=tf.float64, formulation="shifted")
    weights = moved_weights(ours)
    adam = inn.make_adam(weights)
    images = tf.constant(np.random.default_rng(1).uniform(size=(7, 32, 32, 3)))
    labels = tf.constant([0, 3, 9, 9, 2, 5, 1])
    check(
        ours,
        build(Adam, ours.named_trainable_variables()),
        weights,
        images,
        labels,
        logits=lambda: inn.model(weights, images, training=False),
        loss=lambda number: inn.loss_of(inn.model(weights, images, training=True), labels),
        step=lambda number: inn.training_step(weights, adam, images, labels),
    )


def test_the_vision_transformer_computes_the_same_with_dropout(monkeypatch):
    # Heads 4 wide, for 1/√4 is exact: others our layer and Keras's round to float32, whatever the dtype.
    sizes = vit.Sizes(image=15, patch=3, width=4, blocks=2, heads=2, mlp=11, head=(13, 5), classes=10, dropout=0.2)
    ours = build(
        VisionTransformer,
        classes=sizes.classes,
        image_size=sizes.image,
        patch_size=sizes.patch,
        width=sizes.width,
        blocks=sizes.blocks,
        heads=sizes.heads,
        mlp_width=sizes.mlp,
        dropout=sizes.dropout,
        head_units=sizes.head,
        head_dropout=sizes.head_dropout,
        augmentation="none",
        key=KEY,
        dtype=tf.float64,
    )
    weights = moved_weights(ours)
    adamw = vit.make_adamw(weights)
    images = tf.constant(np.random.default_rng(1).uniform(0, 255, size=(3, 8, 8, 3)))
    labels = tf.constant([0, 9, 4])
    masks = [drawn_masks(ours, images, number, monkeypatch) for number in range(STEPS)]
    assert all(len(drawn) == 2 * 3 + 1 + 2 for drawn in masks)  # an attention and two layers a block, and the head

    def keep_of(number):
        drawn = iter(masks[number])

        def keep(shape, rate):
            mask = next(drawn)
            assert mask.shape == tuple(shape)
            return mask

        return keep

    check(
        ours,
        build(AdamW, ours.named_trainable_variables(), weight_decay=1e-4, decay="unscaled"),
        weights,
        images,
        labels,
        logits=lambda: vit.model(weights, sizes, images),
        loss=lambda number: vit.loss_of(vit.model(weights, sizes, images, keep_of(number)), labels),
        step=lambda number: vit.training_step(weights, sizes, adamw, images, labels, keep_of(number)),
    )


def drawn_masks(model, images, number, monkeypatch) -> list[np.ndarray]:
    """The masks that step `number` of our model draws, in the order of the draws."""
    masks, draw = [], random.keep_mask

    def recorded(*arguments):
        masks.append(draw(*arguments))
        return masks[-1]

    with monkeypatch.context() as patch:
        patch.setattr(random, "keep_mask", recorded)
        model(images, training=True, key=random.fold_in(KEY, number))
    return [mask.numpy() for mask in masks]


@pytest.mark.parametrize(
    ("weights", "model"),
    [(inn.make_weights, Inn), (lambda: vit.make_weights(vit.Sizes()), VisionTransformer)],
    ids=["inn", "vit"],
)
def test_weights_have_the_published_names_sizes_and_spread(weights, model):
    theirs, ours = weights(), build(model, key=KEY).named_variables()
    assert theirs.keys() == ours.keys()
    for path, variable in ours.items():
        assert theirs[path].shape == variable.shape and theirs[path].trainable == variable.trainable
        if variable.shape.num_elements() > 1000:
            spread = float(tf.math.reduce_std(variable))
            np.testing.assert_allclose(tf.math.reduce_std(theirs[path]), spread, rtol=0.1, err_msg=path)


@pytest.mark.parametrize(("page", "steps"), [(inn, 60), (vit, 30)], ids=["inn", "vit"])
def test_main_learns(page, steps, capsys):
    page.main(steps)
    losses = [float(loss) for loss in re.findall(r"loss +([\d.]+)", capsys.readouterr().out)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("path", [FOLDER / "inn.py", FOLDER / "vit.py"], ids=lambda path: path.stem)
def test_a_page_has_200_lines_and_imports_nothing_of_ours(path):
    assert len(path.read_text().splitlines()) <= 200
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported <= {"math", "collections", "typing", "tensorflow"}
