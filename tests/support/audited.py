"""Small networks for tests of the audit, and the audit itself, which must leave them as they were."""

import numpy as np
import tensorflow as tf

from tfcore import random
from tfcore.inspect.audit.audit import Audit, audit
from tfcore.layers.dense import Dense
from tfcore.module import Module
from tfcore.ops.activations import relu
from tfcore.ops.losses import cross_entropy_from_logits

KEY = random.make_key(3)


def make_batches(*shape, count=3, classes=3, scale=1.0) -> list:
    """Return batches of 5 inputs, uniform in 0 .. scale, with labels."""
    generator = np.random.default_rng(1)
    return [
        (
            tf.constant(scale * generator.random((5, *shape)), tf.float32),
            tf.constant(generator.integers(0, classes, 5), tf.int32),
        )
        for _ in range(count)
    ]


def checked_audit(model, batches) -> Audit:
    """Audit, and see that no variable is another one afterwards: statistics, too."""
    before = {path: variable.numpy() for path, variable in model.named_variables().items()}
    result = audit(model, batches, cross_entropy_from_logits, key=KEY)
    for path, variable in model.named_variables().items():
        np.testing.assert_array_equal(variable.numpy(), before[path], path)
    return result


def found(result: Audit, kind: str) -> dict[str, str]:
    """Path -> reason of the findings of one kind."""
    return {finding.path: finding.reason for finding in result.findings if finding.kind == kind}


def causes_of(result: Audit) -> dict[str, str | None]:
    """Path of a variable -> path of what was proven to keep gradients from it."""
    return {finding.path: finding.cause for finding in result.findings if finding.what == "variable"}


class Network(Module):
    """Dense → `middle` → Dense on (B, 7), or on (B, T, 7) with the mean over T at the end."""

    def __init__(self, middle, width=5, after=None):
        super().__init__()
        self.first = Dense(inputs=7, units=width, key=random.fold_in(KEY, 1))
        self.middle = middle
        self.last = Dense(inputs=width if after is None else after, units=3, key=random.fold_in(KEY, 2))

    def __call__(self, x, *, training=False, key=None):
        x = self.middle(self.first(x))
        x = self.last(x)
        return tf.reduce_mean(x, axis=1) if x.shape.rank == 3 else x


class Relu(Module):
    def __call__(self, x):
        return relu(x)
