"""Why a variable gets no gradient, proven and not guessed: take the suspect out, and the gradient must come.

Suspects are a layer norm over one feature (it returns its β whatever comes in), a ReLU that never fires, and a kernel
or factor that is all zero. In place of the first two the proof puts the identity, in place of the third random numbers.

Apart stand biases that nothing behind them can see: a bias of attention's keys, which adds the same number to all
scores of a query and which softmax cancels; a bias right before a batch norm, whose mean takes it along. Their
gradients are rounding noise. That is proven as well: moved at random, they leave the outputs as they were.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfcore.inspect.audit.gradients import Batch, Loss, gradients_of_batch, kept_statistics
from tfcore.inspect.graph.calls import Call, watch
from tfcore.layers.attention import Attention, MultiHeadAttention
from tfcore.layers.normalization import BatchNorm, LayerNorm
from tfcore.layers.transformer import PostNormBlock
from tfcore.module import Module

# Largest change of the logits, in units of the largest logit, that counts as rounding when a bias is moved by about 1.
UNCHANGED = 1e-3
NARROW = "layer norm over 1 feature"
PROOF_EXAMPLES = 2  # a gradient that is not exactly zero shows on any example


@dataclasses.dataclass(frozen=True)
class Suspect:
    """What may keep gradients away: `change` takes it out of the model while it is open."""

    path: str
    sort: str  # "layer norm over 1 feature"
    what: str  # "which returns its beta for every input"
    without: str  # "with the identity in its place"
    change: Callable[[], contextlib.AbstractContextManager]


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why a variable gets no gradient: a sentence, and path -> sort of what causes it, all of it together.

    Empty where no cause was found.
    """

    reason: str
    culprits: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def path(self) -> str | None:
        """The path of the cause; of several that only together are one, joined by "and"."""
        return " and ".join(self.culprits) or None


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one forward pass in training mode showed.

    Attributes:
        called: paths of the modules that were called.
        silent: names of the ReLU calls that gave zeros only.
        cancelled: path of a bias -> the sentence that says why nothing behind it can see it; not yet proven.
    """

    called: set[str]
    silent: list[str]
    cancelled: dict[str, str]


def look(model: Module, batch: Batch, *, key: tf.Tensor) -> Seen:
    """Run `model` once in training mode and return what points to causes."""
    modules = model.named_modules()
    seen = Seen(set(), [], {})
    for path, module in modules.items():
        if isinstance(module, MultiHeadAttention):
            seen.cancelled[_join(path, "key/bias")] = _softmax_cancels(path)

    def handler(call: Call):
        seen.called.add(call.path)
        if isinstance(call.callee, Attention):
            keys = call.args[1] if len(call.args) > 1 else call.kwargs["keys"]
            suspects = {f"{maker}/bias": _softmax_cancels(call.path) for maker in call.makers(keys)}
        elif isinstance(call.callee, BatchNorm) and call.kwargs.get("training"):
            why = f"{call.path}, a batch norm, subtracts the batch's mean, and this bias with it"
            suspects = {f"{maker}/bias": why for maker in call.makers(call.args[0])}
        else:
            suspects = {}
        seen.cancelled.update(suspects)
        result = call.proceed()
        if _is_relu(call) and not np.any(result):
            seen.silent.append(call.name)
        return result

    with kept_statistics(model), watch(model, handler):
        model(batch[0], training=True, key=key)
    known = model.named_trainable_variables()
    for path in [path for path in seen.cancelled if path not in known]:
        del seen.cancelled[path]
    return seen


def proven_cancelled(model: Module, batch: Batch, suspected: dict[str, str], *, key: tf.Tensor) -> dict[str, str]:
    """Return those of the suspected biases, with their reasons, that can be moved and leave the logits unchanged."""
    variables = model.named_trainable_variables()

    def logits() -> np.ndarray:
        with kept_statistics(model):
            return model(batch[0], training=True, key=key).numpy().astype(np.float64)  # (B, classes)

    before = logits()

    def hold(paths: Sequence[str]) -> bool:
        generator = np.random.default_rng(0)
        with contextlib.ExitStack() as stack:
            for path in paths:
                shift = generator.standard_normal(variables[path].shape)
                stack.enter_context(_with_value(variables[path], variables[path].numpy() + shift))
            return bool(np.abs(logits() - before).max() <= UNCHANGED * max(np.abs(before).max(), 1e-30))

    if not suspected or hold(list(suspected)):  # mostly all do, and one pass is enough
        return dict(suspected)
    return {path: reason for path, reason in suspected.items() if hold([path])}


def find_causes(model: Module, batch: Batch, loss: Loss, dead: Sequence[str], *, key: tf.Tensor) -> dict[str, Cause]:
    """Return why each of the variables `dead`, which get no gradient, gets none: proven, or that nothing was found.

    Args:
        batch: what silent ReLUs are looked for on; the proofs take its first two examples.
    """
    if not dead:
        return {}
    causes: dict[str, Cause] = {}
    with _all_branches_computed(model) as skipped:
        seen = look(model, batch, key=key)
        suspects = _suspects(model, seen)
        few = tuple(part[:PROOF_EXAMPLES] for part in batch)
        # What a cancelled bias gets is rounding noise, and no proof of anything.
        provable = [path for path in dead if path not in seen.cancelled]

        def revived(*removed: Suspect) -> dict[str, float]:
            """The norms of the gradients that come when the suspects are taken out."""
            with contextlib.ExitStack() as stack:
                for suspect in removed:
                    stack.enter_context(suspect.change())
                found = gradients_of_batch(model, few, loss, key=key)
            reached = {path: gradient for path in provable if (gradient := found[path]) is not None}
            norms = {path: float(np.linalg.norm(gradient)) for path, gradient in reached.items()}
            return {path: norm for path, norm in norms.items() if norm > 0 and path not in causes}

        for suspect in suspects:
            for path, norm in revived(suspect).items():
                causes[path] = Cause(_reason(suspect, norm, _skips(skipped, path)), {suspect.path: suspect.sort})
        if len(suspects) > 1 and not causes.keys() >= set(provable):
            names = " and ".join(suspect.path for suspect in suspects)
            for path, norm in revived(*suspects).items():
                reason = f"only with {names} all taken out does it get a gradient, of norm {norm:.2g}"
                causes[path] = Cause(reason, {suspect.path: suspect.sort for suspect in suspects})

    modules, gone = model.named_modules(), _unreached(model, batch, loss, dead, key)
    for path in (path for path in dead if path not in causes):
        owner, _, name = path.rpartition("/")
        module, kernel = modules.get(owner), causes.get(f"{owner}/kernel")
        if path in seen.cancelled and kernel is not None:
            reason = f"{kernel.reason.partition(';')[0]}; besides, {seen.cancelled[path]}"
            causes[path] = Cause(reason, kernel.culprits)
        elif name == "gamma" and isinstance(module, LayerNorm) and module.gamma.shape[0] == 1:
            text = f"{owner} is a {NARROW}: x − mean(x), which gamma multiplies, is exactly 0"
            causes[path] = Cause(text + _skips(skipped, path), {owner: NARROW})
        elif path in gone and owner and not any(f"{called}/".startswith(f"{owner}/") for called in seen.called):
            causes[path] = Cause(f"{owner} is never called in a forward pass")
        elif path in gone:
            causes[path] = Cause("no differentiable path leads from it to the loss; no reason found")
        else:
            causes[path] = Cause("its gradient is exactly 0 in every batch; no reason found")
    return causes


def _unreached(model: Module, batch: Batch, loss: Loss, dead: Sequence[str], key: tf.Tensor) -> set[str]:
    few = tuple(part[:PROOF_EXAMPLES] for part in batch)
    found = gradients_of_batch(model, few, loss, key=key)
    return {path for path in dead if found[path] is None}


def _suspects(model: Module, seen: Seen) -> list[Suspect]:
    found = []
    for path, module in model.named_modules().items():
        if isinstance(module, LayerNorm) and module.gamma.shape[0] == 1:
            found.append(_call_suspect(model, path, NARROW, "which returns its beta for every input"))
    for name in seen.silent:
        found.append(_call_suspect(model, name, "silent ReLU", "which fires for no example and at no position"))
    for path, variable in model.named_trainable_variables().items():
        if path.rpartition("/")[2] in ("kernel", "gamma", "scale") and not np.any(variable):
            what = "so that all that it multiplies is 0"
            found.append(
                Suspect(
                    path,
                    f"{path.rpartition('/')[2]} of zeros",
                    what,
                    "with random values in its place",
                    functools.partial(_with_random_values, variable),
                )
            )
    return found


def _call_suspect(model: Module, name: str, sort: str, what: str) -> Suspect:
    def handler(call: Call):
        return call.args[0] if call.name == name else call.proceed()

    return Suspect(name, sort, what, "with the identity in its place", lambda: watch(model, handler))


def _reason(suspect: Suspect, norm: float, skips: str) -> str:
    return (
        f"every path to the loss goes through {suspect.path}, a {suspect.sort}, {suspect.what}{skips}; "
        f"{suspect.without} the gradient's norm is {norm:.2g}, with it exactly 0"
    )


def _skips(skipped: list[str], path: str) -> str:
    """What to add for a variable of a block that does not even compute its constant branches."""
    inside = [block for block in skipped if path.startswith(f"{block}/")]
    return f" (so {inside[0]} skips the branch: constant_branches=skip)" if inside else ""


@contextlib.contextmanager
def _all_branches_computed(model: Module) -> Iterator[list[str]]:
    """Let blocks that skip constant branches compute them, since only then the proof can be led; yield their paths."""
    skipping = {
        path: block for path, block in model.named_modules().items() if isinstance(block, PostNormBlock) and block.skips
    }
    for block in skipping.values():
        block.skips = False
    try:
        yield list(skipping)
    finally:
        for block in skipping.values():
            block.skips = True


def _with_random_values(variable: tf.Variable) -> contextlib.AbstractContextManager:
    return _with_value(variable, 0.1 * np.random.default_rng(0).standard_normal(variable.shape))


@contextlib.contextmanager
def _with_value(variable: tf.Variable, value: np.ndarray) -> Iterator[None]:
    saved = variable.numpy()
    variable.assign(value)
    try:
        yield
    finally:
        variable.assign(saved)


def _is_relu(call: Call) -> bool:
    return getattr(call.callee, "__name__", "") == "relu"


def _softmax_cancels(attention: str) -> str:
    return f"it adds the same to all scores of a query of {attention}, and softmax cancels that"


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
