"""The decisions between epochs, beside Keras's callbacks on the same values, and the schedules beside Keras's."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from loops.control import (
    BestCheckpoint,
    EarlyStopping,
    ReduceOnPlateau,
    cosine_with_warmup,
    improves,
    mode_of,
)

# Keras 3.15's own conversion of its learning rate under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
LENGTH, SEQUENCES = 30, 300


class _Model:
    """As much of a model as a callback touches."""

    def __init__(self):
        self.stop_training, self.epoch, self.saved = False, 0, []
        self.optimizer = keras.optimizers.SGD(learning_rate=0.1)

    def save(self, filepath, overwrite):
        self.saved.append(self.epoch)


def _sequences():
    """Validation losses with everything that can happen: ties, differences of just min_delta, NaN, ±inf, the huge."""
    rng = np.random.default_rng(11)
    for number in range(SEQUENCES):
        mode = ("min", "max")[number % 2]
        falling = np.linspace(0.5, 0, LENGTH) * rng.uniform(0, 2)
        noise = rng.standard_normal(LENGTH) * 10 ** rng.uniform(-9, 0)
        values = (0.5 + falling + noise) if mode == "min" else (0.5 - falling + noise)
        kind = number // 2 % 3
        if kind == 1:
            values = np.round(values, 1)  # ties, and differences of 0.1 that no binary number holds
        if kind == 2:
            strange = rng.choice([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0], LENGTH)
            values = np.where(rng.random(LENGTH) < rng.choice([0.1, 0.5]), strange, values)
        yield mode, float(rng.choice([0.0, 1e-4, 0.1])), int(rng.integers(0, 6)), values.tolist(), rng


def _callback(kind, model, **settings):
    callback = kind(monitor="val_loss", **settings)
    callback.set_model(model)
    callback.on_train_begin()
    return callback


def _through_json(control):
    """The same machine after a checkpoint: made anew, with its state."""
    fresh = type(control)(**{f.name: getattr(control, f.name) for f in dataclasses.fields(control) if f.init})
    fresh.load_state(json.loads(json.dumps(control.state())))
    return fresh


def test_early_stopping_decides_as_keras():
    stopped = 0
    for mode, min_delta, patience, values, rng in _sequences():
        model = _Model()
        settings = {"mode": mode, "min_delta": min_delta, "patience": patience}
        theirs = _callback(keras.callbacks.EarlyStopping, model, **settings)
        ours = EarlyStopping(**settings)
        restart = rng.integers(LENGTH)
        for epoch, value in enumerate(values):
            model.epoch = epoch + 1
            theirs.on_epoch_end(epoch, {"val_loss": value})
            ours.update(value)
            assert (ours.wait == 0) == (theirs.best_epoch == epoch), (settings, values, epoch)
            if epoch == restart:
                ours = _through_json(ours)
            assert ours.stopped == model.stop_training, (settings, values, epoch)
            if ours.stopped:
                stopped += 1
                break
        np.testing.assert_equal(ours.best, theirs.best)
    assert 0.3 * SEQUENCES < stopped < SEQUENCES  # both ends of the road were seen


def test_best_checkpoint_decides_as_keras():
    for mode, _, _, values, rng in _sequences():
        model = _Model()
        theirs = _callback(keras.callbacks.ModelCheckpoint, model, filepath="x.keras", save_best_only=True, mode=mode)
        ours, saved = BestCheckpoint(mode=mode), []
        restart = rng.integers(LENGTH)
        for epoch, value in enumerate(values):
            model.epoch = epoch + 1
            theirs.on_epoch_end(epoch, {"val_loss": value})
            if ours.update(value, epoch + 1):
                saved.append(epoch + 1)
            if epoch == restart:
                ours = _through_json(ours)
        assert saved == model.saved, (mode, values)
        assert ours.best_epoch == saved[-1]


def test_reduce_on_plateau_decides_as_keras():
    reductions = 0
    for mode, min_delta, patience, values, rng in _sequences():
        model = _Model()
        settings = {
            "mode": mode,
            "min_delta": min_delta,
            "patience": patience,
            "factor": float(rng.choice([0.2, 0.5, 0.9])),
            "cooldown": int(rng.integers(0, 4)),
            "min_lr": float(rng.choice([0.0, 0.01, 0.1, 0.3])),  # also where the rate begins, and above it
        }
        theirs = _callback(keras.callbacks.ReduceLROnPlateau, model, **settings)
        ours, rate = ReduceOnPlateau(**settings), float(np.float32(0.1))
        restart = rng.integers(LENGTH)
        for epoch, value in enumerate(values):
            theirs.on_epoch_end(epoch, {"val_loss": value})
            # The learning rate lives in a float32 variable on either side.
            result = ours.update(value, rate)
            reduced = float(model.optimizer.learning_rate) != rate
            assert (result != rate) == reduced, (settings, values, epoch)
            reductions += reduced
            rate = float(np.float32(result))
            assert rate == float(model.optimizer.learning_rate), (settings, values, epoch)
            if epoch == restart:
                ours = _through_json(ours)
    assert reductions > SEQUENCES


def test_the_defaults_are_keras():
    theirs, ours = keras.callbacks.ReduceLROnPlateau(), ReduceOnPlateau(mode="min", factor=0.1, patience=10)
    assert (ours.min_delta, ours.cooldown, ours.min_lr) == (theirs.min_delta, theirs.cooldown, theirs.min_lr)
    assert EarlyStopping(mode="min", patience=0).min_delta == keras.callbacks.EarlyStopping().min_delta


@pytest.mark.parametrize(
    ("mode", "value", "best", "min_delta", "expected"),
    [
        ("min", 0.1, None, 0.0, True),
        ("min", float("nan"), None, 0.0, True),
        ("min", 0.1, float("nan"), 0.0, False),
        ("min", float("nan"), 0.1, 0.0, False),
        ("min", 0.1, 0.1, 0.0, False),
        ("max", 0.1, 0.1, 0.0, False),
        ("min", 0.1 - 1e-9, 0.1, 0.0, False),  # one number in float32
        ("min", 0.7, 0.8, 0.1, False),  # 0.7 + 0.1 is below 0.8 in float64 alone
        ("max", 0.9, 0.8, 0.05, True),
        ("max", float("inf"), 1e39, 0.0, False),  # both infinite in float32
    ],
)
def test_improvement(mode, value, best, min_delta, expected):
    assert improves(value, best, mode=mode, min_delta=min_delta) is expected


def test_a_stopped_run_stays_stopped_when_resumed():
    control = EarlyStopping(mode="min", patience=2)
    for loss in (1.0, 0.5, 0.6, 0.7):
        assert not control.stopped
        control.update(loss)
    assert control.stopped
    assert _through_json(control).stopped


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (BestCheckpoint, {"mode": "auto"}, "BestCheckpoint: mode must be 'min' or 'max', got 'auto'"),
        (EarlyStopping, {"patience": -1}, "EarlyStopping: patience must be at least 0, such as 3, got -1"),
        (EarlyStopping, {"patience": 3, "min_delta": -0.1}, "min_delta must be at least 0, such as 0.0001, got -0.1"),
        (EarlyStopping, {"patience": 3, "min_delta": float("nan")}, "min_delta must be at least 0"),
        (ReduceOnPlateau, {"patience": 3, "factor": 1.0}, "factor must be above 0 and below 1, such as 0.2, got 1.0"),
        (ReduceOnPlateau, {"patience": 3, "factor": 0.0}, "factor must be above 0"),
        (ReduceOnPlateau, {"patience": -1, "factor": 0.2}, "ReduceOnPlateau: patience must be at least 0"),
        (ReduceOnPlateau, {"patience": 3, "factor": 0.2, "cooldown": -1}, "cooldown must be at least 0"),
        (ReduceOnPlateau, {"patience": 3, "factor": 0.2, "min_lr": -1e-3}, "min_lr must be at least 0"),
    ],
)
def test_refuses_impossible_settings(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(**{"mode": "min", **settings})


def test_refuses_the_state_of_another_machine():
    control = EarlyStopping(mode="min", patience=3)
    control.update(0.5)
    with pytest.raises(ValueError, match=r"BestCheckpoint: the state must hold best, best_epoch, got .*wait"):
        BestCheckpoint(mode="min").load_state(control.state())


def test_mode_of_a_metric():
    assert [mode_of(name) for name in ("val_loss", "loss", "val_accuracy", "top5_accuracy")] == [
        "min",
        "min",
        "max",
        "max",
    ]
    with pytest.raises(ValueError, match="must end in loss or accuracy, such as val_accuracy, got 'seconds'"):
        mode_of("seconds")


@pytest.mark.parametrize("warmup", [0, 7, 19])
def test_cosine_equals_keras(warmup):
    settings = {"initial_learning_rate": 0.0, "warmup_target": 0.5} if warmup else {"initial_learning_rate": 0.5}
    theirs = keras.optimizers.schedules.CosineDecay(decay_steps=60 - warmup, warmup_steps=warmup, **settings)
    ours = [cosine_with_warmup(s, learning_rate=0.5, steps=60, warmup_steps=warmup) for s in range(70)]
    np.testing.assert_allclose(ours, [float(theirs(step)) for step in range(70)], rtol=1e-5, atol=1e-6)
    assert max(ours) == ours[warmup] == 0.5
    assert ours[60:] == [0.0] * 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate must be positive, such as 0.001, got -1.0"),
        ({"warmup_steps": 10}, r"warmup_steps must be at least 0 and below steps \(10\), such as 0, got 10"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0"),
    ],
)
def test_cosine_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        cosine_with_warmup(0, **{"learning_rate": 0.1, "steps": 10, **settings})
