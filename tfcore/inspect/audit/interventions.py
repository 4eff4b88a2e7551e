"""What a part of a trained model is worth: take it away, and see how much accuracy is lost.

Order of positions, attention weights, whole blocks, single heads. Nothing is trained; what the interventions change,
they put back, also after an error. The model runs eagerly, so that each one costs a forward pass and no tracing.

Glossary: B batch, T query and S key positions, N heads, d head width.
"""

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfcore.inspect.audit.gradients import Batch
from tfcore.inspect.graph.calls import Call, outputs, watch
from tfcore.layers.attention import Attention, MultiHeadAttention
from tfcore.layers.involution import Involution
from tfcore.layers.patches import Patches
from tfcore.module import Module


@dataclasses.dataclass(frozen=True)
class Intervention:
    """A change of the model while `change()` is open.

    kind: permute, uniform, mean, drop or head; path: what it changes.
    """

    name: str
    kind: str
    path: str
    change: Callable[[], contextlib.AbstractContextManager]


@dataclasses.dataclass(frozen=True)
class Effect:
    """What an intervention did to the predictions.

    Attributes:
        name, kind, path: of the intervention.
        accuracy: with it; lost: what the model's own accuracy is above that.
        error: standard error of `lost`, from the examples that turned right or wrong.
        changed: share of the examples whose predicted class changed.
    """

    name: str
    kind: str
    path: str
    accuracy: float
    lost: float
    error: float
    changed: float


def interventions(model: Module, inputs: tf.Tensor, *, seed: int = 0) -> list[Intervention]:
    """Return all interventions that `model` has a place for, found by the types of its modules and one forward pass.

    - permute: the patches of each image, or the time steps of each series (B, T, C), in a random order of their own.
    - uniform: all weights of an attention 1/S, in each attention layer, and in all of them.
    - mean: the kernel of an involution at every position the image's mean kernel, in each involution, and in all.
    - drop: output = input, for each member of a list of layers (`blocks/3`) and what it calls its `mixer`, where the
      shapes agree.
    - head: what a head adds to the output of a multi-head attention is 0.

    Args:
        inputs: a batch (B, ...), to see shapes by.
    """
    modules = model.named_modules()
    first: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}  # path of a module -> input and output of its first call

    def handler(call: Call):
        result = call.proceed()
        if call.args and outputs(result) and isinstance(call.callee, Module):
            first.setdefault(call.path, (call.args[0], outputs(result)[0]))
        return result

    with watch(model, handler):
        model(inputs[:1], training=False)
    found = []
    patches = [path for path, module in modules.items() if isinstance(module, Patches)]
    if patches:
        found.append(_replacing(model, "permute the patches", "permute", patches[:1], _permuted_output(seed)))
    elif inputs.shape.rank == 3:
        found.append(_replacing(model, "permute the time steps", "permute", ["model"], _permuted_input(seed)))
    attentions = {path: layer for path, layer in modules.items() if isinstance(layer, Attention | MultiHeadAttention)}
    if len(attentions) > 1:
        found.append(_uniform("all attention weights uniform", attentions))
    found += [_uniform(f"uniform weights in {path}", {path: layer}) for path, layer in attentions.items()]
    involutions = {path: layer for path, layer in modules.items() if isinstance(layer, Involution)}
    if len(involutions) > 1:
        found.append(_mean("all kernels the image's mean", involutions))
    found += [_mean(f"mean kernel in {path}", {path: layer}) for path, layer in involutions.items()]
    for path, module in modules.items():
        if re.fullmatch(r"[^/]+/\d+(/mixer)?", path) and module.named_trainable_variables() and path in first:
            before, after = first[path]
            if tf.is_tensor(before) and before.shape[1:] == after.shape[1:]:
                found.append(_replacing(model, f"drop {path}", "drop", [path], _dropped))
    for path, module in modules.items():
        if isinstance(module, MultiHeadAttention):
            for head in range(module.output.kernel.shape[0]):
                found.append(_head(path, module, head))
    return found


def measure_effects(
    model: Module,
    batches: Sequence[Batch],
    chosen: Iterable[Intervention],
    *,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[float, list[Effect]]:
    """Return the model's accuracy over the batches, and what each of the interventions does to it.

    progress: wraps the interventions, such as tqdm.
    """
    labels = np.concatenate([batch[1].numpy() for batch in batches])  # (n,)

    def predictions() -> np.ndarray:
        return np.concatenate([model(batch[0], training=False).numpy().argmax(axis=-1) for batch in batches])  # (n,)

    own = predictions()
    right = own == labels
    effects = []
    for intervention in progress(list(chosen)):
        with intervention.change():
            found = predictions()
        turned = right.astype(int) - (found == labels)  # (n,): 1 became wrong, −1 became right
        error = float(turned.std() / math.sqrt(len(turned)))
        accuracy, changed = float((found == labels).mean()), float((found != own).mean())
        name = (intervention.name, intervention.kind, intervention.path)
        effects.append(Effect(*name, accuracy, float(turned.mean()), error, changed))
    return float(right.mean()), effects


def _replacing(
    model: Module, name: str, kind: str, paths: Sequence[str], make: Callable[[], Callable[[Call], object]]
) -> Intervention:
    """An intervention that lets the calls of `paths` go through make()(call)."""

    @contextlib.contextmanager
    def change() -> Iterator[None]:
        replace = make()

        def handler(call: Call):
            return replace(call) if call.path in paths else call.proceed()

        with contextlib.ExitStack() as stack:
            stack.enter_context(watch(model, handler))
            yield

    return Intervention(name, kind, ", ".join(paths), change)


def _permuted_output(seed: int):
    def make():
        generator = np.random.default_rng(seed)
        return lambda call: _permute(call.proceed(), generator)

    return make


def _permuted_input(seed: int):
    def make():
        generator = np.random.default_rng(seed)

        def replace(call: Call):
            permuted = dataclasses.replace(call, args=(_permute(call.args[0], generator), *call.args[1:]))
            return permuted.proceed()

        return replace

    return make


def _permute(x: tf.Tensor, generator: np.random.Generator) -> tf.Tensor:
    """The positions of x (B, T, C) in an order of its own for each example."""
    orders = np.stack([generator.permutation(x.shape[1]) for _ in range(x.shape[0])])  # (B, T)
    return tf.gather(x, orders, axis=1, batch_dims=1)


def _uniform(name: str, layers: dict[str, Attention | MultiHeadAttention]) -> Intervention:
    """All weights 1/S: the softmax of scores that are all 0; S the keys that a query may attend to."""

    @contextlib.contextmanager
    def change() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for layer in layers.values():
                stack.enter_context(_without_scale(layer))
            yield

    return Intervention(name, "uniform", ", ".join(layers), change)


def _mean(name: str, layers: dict[str, Involution]) -> Intervention:
    """The control of `Involution`, in its place."""

    @contextlib.contextmanager
    def change() -> Iterator[None]:
        before = {path: layer.formulation for path, layer in layers.items()}
        for layer in layers.values():
            layer.formulation = "mean"
        try:
            yield
        finally:
            for path, layer in layers.items():
                layer.formulation = before[path]

    return Intervention(name, "mean", ", ".join(layers), change)


@contextlib.contextmanager
def _without_scale(layer: Attention | MultiHeadAttention) -> Iterator[None]:
    if isinstance(layer, MultiHeadAttention):
        scale, layer.scale = layer.scale, 0.0
        try:
            yield
        finally:
            layer.scale = scale
    else:  # it is learned
        learned = layer.scale.numpy()
        layer.scale.assign(0.0)
        try:
            yield
        finally:
            layer.scale.assign(learned)


def _dropped():
    def replace(call: Call):
        result = call.proceed()
        if tf.is_tensor(result):
            return call.args[0]
        return type(result)([call.args[0], *result[1:]])  # an involution returns its kernel, too

    return replace


def _head(path: str, layer: MultiHeadAttention, head: int) -> Intervention:
    @contextlib.contextmanager
    def change() -> Iterator[None]:
        # In the weights and not by interception: folded attention never has a head's output by itself.
        saved = layer.output.kernel.numpy()  # (N, d, D)
        without = saved.copy()
        without[head] = 0
        layer.output.kernel.assign(without)
        try:
            yield
        finally:
            layer.output.kernel.assign(saved)

    return Intervention(f"zero head {head} of {path}", "head", path, change)
