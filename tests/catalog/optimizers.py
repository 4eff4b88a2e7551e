"""Entries of `tfcore.optimizers`: 100 steps on random gradients beside Keras's optimizer, or beside the paper in NumPy.

Halfway the learning rate falls to a quarter, so that decay scaled by it and unscaled decay cannot be confused.
"""

from functools import partial

import keras
import numpy as np
import tensorflow as tf

from tests.catalog.entry import Case, Entry, random_array
from tests.catalog.twins import EXACT_IN_FLOAT32, keras_floatx
from tests.support.build import build
from tfcore.optimizers import updates
from tfcore.optimizers.optimizer import Adam, AdamW, Lamb, Muon, Optimizer, RmsProp, Sgd

STEPS, SHAPES = 100, ((7, 5), (3,), (2, 3, 5))
SETTINGS = {**EXACT_IN_FLOAT32, "epsilon": 1e-5}
MOMENTUM = 1 - 2.0**-3
# Keras rounds these to float32 as it does β. Without the learning rate in front λ is as much stronger as that is small.
DECAY, UNSCALED_DECAY, CLIP_NORM = 2.0**-1, 2.0**-8, 2.0**6
# One application of a formula, in the papers' letters.
ALPHA, B1, B2, EPSILON, LAMBDA, T = 0.01, 0.8, 0.95, 1e-5, 0.3, 3
RHO, MU, WIDE_EPSILON = 0.9, 0.7, 0.1  # an ε that shows where it stands
RMSPROP = {"alpha": ALPHA, "rho": RHO, "epsilon": WIDE_EPSILON}


def _fuzz(make_ours, make_theirs, dtype, settings) -> list[tuple]:
    """Feed both the same gradients, of magnitudes from 1e-4 to 1e2, and return the paired variables."""
    start = [random_array(shape, dtype, seed) for seed, shape in enumerate(SHAPES)]
    start[1][:] = 0  # a bias as it starts: without a norm for LAMB's trust ratio
    names = [f"{i}/{'kernel' if len(shape) == 2 else 'bias'}" for i, shape in enumerate(SHAPES)]
    variables = {name: tf.Variable(value) for name, value in zip(names, start, strict=True)}
    rng = np.random.default_rng(5)
    with keras_floatx(dtype):
        ours, theirs = make_ours(variables, **settings), make_theirs(start, **settings)
        for step in range(STEPS):
            if step == STEPS // 2:
                rate = settings["learning_rate"] / 4
                ours.learning_rate.assign(rate)
                theirs.set_learning_rate(rate)
            gradients = [rng.standard_normal(shape) * 10 ** rng.uniform(-4, 2) for shape in SHAPES]
            gradients = [gradient.astype(dtype.as_numpy_dtype) for gradient in gradients]
            ours.apply(dict(zip(names, map(tf.constant, gradients), strict=True)))
            theirs.apply(gradients)
    return list(zip(variables.values(), theirs.values(), strict=True))


class _Keras:
    """A Keras optimizer with its variables."""

    def __init__(self, make, start, **settings):
        self.variables = [keras.Variable(value, dtype=value.dtype.name) for value in start]
        self.optimizer = make(**settings)

    def set_learning_rate(self, rate):
        self.optimizer.learning_rate = rate

    def apply(self, gradients):
        self.optimizer.apply([tf.constant(gradient) for gradient in gradients], self.variables)

    def values(self):
        return [variable.numpy() for variable in self.variables]


class _Paper:
    """An algorithm in NumPy and float64, whatever the other side computes in."""

    def __init__(self, rule, start, *, learning_rate, **_):
        self.rule, self.t, self.alpha = rule, 0, learning_rate
        self.states = [(value.astype(np.float64), np.zeros(value.shape), np.zeros(value.shape)) for value in start]

    def set_learning_rate(self, rate):
        self.alpha = rate

    def apply(self, gradients):
        self.t += 1
        self.states = [
            self.rule(gradient.astype(np.float64), *state, self.t, self.alpha)
            for gradient, state in zip(gradients, self.states, strict=True)
        ]

    def values(self):
        return [theta for theta, _, _ in self.states]


def _mean_moments(g, m, v):
    return (
        SETTINGS["beta_1"] * m + (1 - SETTINGS["beta_1"]) * g,
        SETTINGS["beta_2"] * v + (1 - SETTINGS["beta_2"]) * g**2,
    )


def _adamw_of_tensorflow_addons(g, theta, m, v, t, alpha):
    """First the decay, without the learning rate, then Keras's Adam."""
    theta = theta - UNSCALED_DECAY * theta
    m, v = _mean_moments(g, m, v)
    alpha_t = alpha * np.sqrt(1 - SETTINGS["beta_2"] ** t) / (1 - SETTINGS["beta_1"] ** t)
    return theta - alpha_t * m / (np.sqrt(v) + SETTINGS["epsilon"]), m, v


def _lamb_of_the_paper(g, theta, m, v, t, alpha):
    """Algorithm 2, line by line."""
    m, v = _mean_moments(g, m, v)
    m_hat, v_hat = m / (1 - SETTINGS["beta_1"] ** t), v / (1 - SETTINGS["beta_2"] ** t)
    r = m_hat / (np.sqrt(v_hat) + SETTINGS["epsilon"])
    direction = r + DECAY * theta
    length, long = np.sqrt(np.sum(theta**2)), np.sqrt(np.sum(direction**2))
    return theta - alpha * (length / long if length > 0 and long > 0 else 1.0) * direction, m, v


class _KerasMuon(keras.optimizers.Muon):
    """Keras's, with its root of the size in the variables' dtype: it takes that of a float32 number."""

    def lr_adjust(self, x):
        return x * np.sqrt(max(x.shape)).astype(x.dtype.as_numpy_dtype) * self.rms_rate


def _muon(g, velocity):
    """One application to a convolution's kernel, as a matrix."""
    delta, velocity = updates.muon(g, velocity, alpha=ALPHA, mu=MU, iterations=5, rms=0.25)
    return delta, velocity, updates.orthogonalized(tf.reshape(g, [-1, 5]), 3)


def _muon_formula(g, velocity):
    twin = _KerasMuon(rms_rate=0.25)
    velocity = MU * velocity + g
    matrix = tf.reshape(g + MU * velocity, [-1, 5])
    delta = -ALPHA * twin.lr_adjust(twin.zeropower_via_newtonschulz5(matrix, 5))
    return tf.reshape(delta, g.shape), velocity, twin.zeropower_via_newtonschulz5(tf.reshape(g, [-1, 5]), 3)


def _muon_entry() -> Entry:
    def case(dtype):
        arrays = tuple(random_array((3, 2, 7, 5), dtype, seed) for seed in range(2))
        ours = partial(build, Muon, momentum=MOMENTUM, rms=0.25, weight_decay=DECAY)
        theirs = partial(
            _Keras,
            lambda beta_1, beta_2, **settings: _KerasMuon(
                **settings,
                adam_beta_1=beta_1,
                adam_beta_2=beta_2,
                momentum=MOMENTUM,
                rms_rate=0.25,
                weight_decay=DECAY,
                adam_weight_decay=DECAY,
            ),
        )
        return Case(_muon, _muon_formula, arrays, steps=lambda: _fuzz(ours, theirs, dtype, SETTINGS))

    return Entry("optimizers.Muon 100 steps", (Muon, updates.muon, updates.orthogonalized), case)


def _moments_of(g, m, v):
    """(m, v, m̂, √v̂) after step T; differentiable."""
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g**2
    return m, v, m / (1 - B1**T), tf.sqrt(v / (1 - B2**T))


def _adam_formula(g, m, v):
    m, v, m_hat, root = _moments_of(g, m, v)
    # ε̂ below the bias correction is ε̂ / √(1 − β₂ᵗ) beside √v̂.
    return -ALPHA * m_hat / (root + EPSILON / np.sqrt(1 - B2**T)), m, v


def _adamw_formula(rate, g, theta, m, v):
    delta, m, v = _adam_formula(g, m, v)
    return delta - rate * theta, m, v


def _lamb_formula(g, theta, m, v):
    m, v, m_hat, root = _moments_of(g, m, v)
    update = m_hat / (root + EPSILON) + LAMBDA * theta
    return -ALPHA * tf.sqrt(tf.reduce_sum(theta**2) / tf.reduce_sum(update**2)) * update, m, v


def _clip(g, theta, m, v):
    # One bound that shortens and one that does not.
    found = [updates.clip_by_global_norm({"g": g, "theta": theta, "m": m, "v": v}, bound) for bound in (2.0, 200.0)]
    return [(list(clipped.values()), norm) for clipped, norm in found]


def _clip_formula(*tensors):
    return [tf.clip_by_global_norm(tensors, bound) for bound in (2.0, 200.0)]


def _entry(name, proves, ours, theirs, make_ours, make_theirs):
    """One application of a formula, values and gradients, and the 100 steps of the class."""

    def case(dtype):
        gradient, theta, m, v = (random_array((7,), dtype, seed) for seed in range(4))
        inputs = (gradient, m, v**2) if theirs is _adam_formula else (gradient, theta, m, v**2)
        return Case(partial(ours, dtype), theirs, inputs, steps=lambda: _fuzz(make_ours, make_theirs, dtype, SETTINGS))

    return Entry(f"optimizers.{name} 100 steps", proves, case)


def _apply(formula, settings, dtype, *tensors):
    step = {"t": tf.constant(T), "alpha": tf.constant(ALPHA, dtype)}
    return formula(*tensors, **step, beta_1=B1, beta_2=B2, epsilon=EPSILON, **settings)


def _formula(formula, **settings):
    return partial(_apply, formula, settings)


def _rmsprop_formula(g, n):
    n = RHO * n + (1 - RHO) * g**2
    return -ALPHA * g / tf.sqrt(n + WIDE_EPSILON), n


def _centered_formula(g, n, mean):
    n, mean = RHO * n + (1 - RHO) * g**2, RHO * mean + (1 - RHO) * g
    return -ALPHA * g / tf.sqrt(n - mean**2 + WIDE_EPSILON), n, mean


def _momentum_formula(delta, velocity):
    return (MU * velocity + delta,) * 2


def _nesterov_formula(delta, velocity):
    return MU * (MU * velocity + delta) + delta, MU * velocity + delta


# Our rule: its constants, the formula, and its inputs made of three arrays (a mean square is at least the mean's).
RULES = {
    updates.sgd: ({"alpha": ALPHA}, lambda g: -ALPHA * g, lambda a, b, c: (a,)),
    updates.momentum: ({"mu": MU}, _momentum_formula, lambda a, b, c: (a, b)),
    updates.nesterov: ({"mu": MU}, _nesterov_formula, lambda a, b, c: (a, b)),
    updates.rmsprop: (RMSPROP, _rmsprop_formula, lambda a, b, c: (a, b**2)),
    updates.rmsprop_centered: (RMSPROP, _centered_formula, lambda a, b, c: (a, b**2 + c**2, c)),
}


def _descent(name, rule, ours, theirs, **settings):
    """One application of a rule, values and gradients, and the 100 steps of the class beside Keras's."""
    constants, formula, inputs = RULES[rule]

    def case(dtype):
        arrays = inputs(*(random_array((7,), dtype, seed) for seed in range(3)))
        steps = partial(_fuzz, partial(build, ours), partial(_Keras, theirs), dtype, settings)
        return Case(partial(rule, **constants), formula, arrays, steps=steps)

    return Entry(f"optimizers.{name} 100 steps", (ours, rule), case)


_sgd = partial(_descent, ours=Sgd, theirs=keras.optimizers.SGD, learning_rate=2.0**-10)
_rmsprop = partial(
    _descent,
    ours=RmsProp,
    theirs=keras.optimizers.RMSprop,
    learning_rate=2.0**-10,
    rho=1 - 2.0**-3,
    epsilon=2.0**-17,
)
ENTRIES = [
    _sgd("Sgd", updates.sgd),
    _sgd("Sgd momentum", updates.momentum, momentum=MOMENTUM),
    _sgd("Sgd Nesterov", updates.nesterov, momentum=MOMENTUM, nesterov=True),
    _rmsprop("RmsProp", updates.rmsprop),
    _rmsprop("RmsProp momentum", updates.rmsprop, momentum=MOMENTUM),
    _rmsprop("RmsProp centered", updates.rmsprop_centered, centered=True),
    _rmsprop("RmsProp centered momentum", updates.rmsprop_centered, centered=True, momentum=MOMENTUM),
    _entry(
        "Adam",
        (Optimizer, Adam, updates.adam),
        _formula(updates.adam),
        _adam_formula,
        partial(build, Adam),
        partial(_Keras, keras.optimizers.Adam),
    ),
    _entry(
        "AdamW scaled decay",
        (AdamW, updates.adamw),
        _formula(updates.adamw, weight_decay=LAMBDA, decay="scaled"),
        partial(_adamw_formula, ALPHA * LAMBDA),
        partial(build, AdamW, weight_decay=DECAY),
        partial(_Keras, partial(keras.optimizers.AdamW, weight_decay=DECAY)),
    ),
    _entry(
        "AdamW unscaled decay",
        (AdamW, updates.adamw),
        _formula(updates.adamw, weight_decay=LAMBDA, decay="unscaled"),
        partial(_adamw_formula, LAMBDA),
        partial(build, AdamW, weight_decay=UNSCALED_DECAY, decay="unscaled"),
        partial(_Paper, _adamw_of_tensorflow_addons),
    ),
    _muon_entry(),
    # Keras's Lamb decays outside the trust ratio: without decay the two must agree.
    _entry(
        "Lamb",
        (Lamb, updates.lamb),
        _formula(updates.lamb, weight_decay=LAMBDA),
        _lamb_formula,
        partial(build, Lamb),
        partial(_Keras, keras.optimizers.Lamb),
    ),
    _entry(
        "Lamb with decay",
        (Lamb, updates.lamb),
        _formula(updates.lamb, weight_decay=LAMBDA),
        _lamb_formula,
        partial(build, Lamb, weight_decay=DECAY),
        partial(_Paper, _lamb_of_the_paper),
    ),
    _entry(
        "clip_by_global_norm",
        (updates.clip_by_global_norm,),
        lambda dtype, *tensors: _clip(*tensors),
        _clip_formula,
        partial(build, Adam, clip_norm=CLIP_NORM),
        partial(_Keras, partial(keras.optimizers.Adam, global_clipnorm=CLIP_NORM)),
    ),
]
