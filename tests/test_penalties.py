"""L1 and L2 as part of the loss: trained, reported and validated as by `keras.Model.fit` with kernel regularizers."""

import functools

import keras
import numpy as np
import pytest

from loops import recipes
from loops.data.pipeline import train_batches
from loops.evaluation import evaluate
from loops.run import checkpoint
from loops.run.restore import fresh_model, restored_model
from loops.run.runs import Run
from loops.train import train
from tests.catalog.twins import pair_variables
from tests.support.tiny import tiny_dataset

DATASET = tiny_dataset(70, 41)  # 41: the validation has a smaller last batch, too
BATCH, EPOCHS = 32, 3
CASES = {
    "l2": {"l2": 0.01},
    "l1": {"l1": 0.001},
    "both": {"l1": 0.001, "l2": 0.01},
    "dense": {"l2": 0.01, "penalized": "dense"},
    "all": {"l1": 0.001, "penalized": "all"},
}


def _twin(l1=0.0, l2=0.0, penalized="conv") -> keras.Model:
    regularizers = {True: keras.regularizers.L1L2(l1=l1, l2=l2), False: None}
    conv, dense = regularizers[penalized in ("conv", "all")], regularizers[penalized in ("dense", "all")]
    inputs = x = keras.Input((32, 32, 3))
    for width in (3, 5, 7):
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", kernel_regularizer=conv)(x)
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(11, activation="relu", kernel_regularizer=dense)(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", kernel_regularizer=dense)(x))


@pytest.mark.parametrize("case", CASES)
def test_losses_and_weights_equal_those_of_keras_fit(tmp_path, case):
    settings = {"data": "sample", "epochs": EPOCHS, "batch_size": BATCH, "xla": "off", "filters": "3,5,7", "units": 11}
    recipe = recipes.get("cnn_cifar10").changed((name, str(v)) for name, v in (settings | CASES[case]).items())
    twin = _twin(**CASES[case])
    start = fresh_model(recipe, DATASET.sizes)
    pair_variables(start, twin)  # copies the weights that the training starts from
    assert float(recipe.penalty(start)) > 0.02  # far above the tolerances below

    run = Run.create(tmp_path / "run", recipe)
    train(run, DATASET)
    history = run.read_history()

    loss = "sparse_categorical_crossentropy"
    twin.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"], jit_compile=False)
    twin.optimizer.build(twin.trainable_variables)  # else fit() traces the step twice
    validation = (DATASET.test.inputs / np.float32(255), DATASET.test.labels)
    for epoch, row in enumerate(history):
        batches = list(train_batches(DATASET.train, BATCH, seed=0, epoch=epoch))  # our order, Keras's fit
        images = np.concatenate([images for images, _ in batches]) / np.float32(255)
        labels = np.concatenate([labels for _, labels in batches])
        theirs = twin.fit(
            images, labels, BATCH, validation_data=validation, validation_batch_size=BATCH, shuffle=False, verbose=0
        ).history
        assert row["loss"] == pytest.approx(theirs["loss"][0], rel=1e-5)
        assert row["val_loss"] == pytest.approx(theirs["val_loss"][0], rel=1e-5)
        assert row["accuracy"] == pytest.approx(theirs["accuracy"][0], rel=1e-6)
        assert row["val_accuracy"] == pytest.approx(theirs["val_accuracy"][0], rel=1e-6)
    trained = restored_model(run, checkpoint.newest_intact(run.checkpoints)[0])
    for (path, ours), weight in zip(trained.named_variables().items(), twin.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), weight.numpy(), rtol=1e-3, atol=1e-6, err_msg=path)

    # evaluate.py's numbers hold the penalty, too; without it they are lower by just this much.
    settings = {"classes": 10, "batch_size": BATCH}
    penalty = functools.partial(recipe.penalty, trained)
    whole = evaluate(trained, DATASET.test, penalty=penalty, **settings)
    assert whole["loss"] == pytest.approx(history[-1]["val_loss"], rel=1e-6)
    bare = evaluate(trained, DATASET.test, **settings)
    assert whole["loss"] - bare["loss"] == pytest.approx(float(penalty()), rel=1e-4)
