"""The audit: which parts of a model do nothing, and why.

Parameters are looked at in training mode, where gradients tell (`gradients`, `causes`), layers in inference
(`activity`), and what a part is worth by taking it away (`interventions`). Every threshold is a constant below, chosen
so that what is healthy is not accused. What is worth knowing and no fault is a note.

Kinds of findings. Variables: `unreached` (no path leads from it to the loss), `zero` (its gradient is exactly zero in
every batch), `constant` (the same for all batches), `vanishing`, `exploding`. Layers: `constant` (over the batch, the
positions or the channels, though its input is not), `dead relu`, `saturated`, `uniform attention`, `one-hot attention`,
`overflow` (of float16), `not finite`. Notes: `cancelled` (a bias that nothing behind it can see), `underflow`.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from tfcore import random
from tfcore.inspect.audit.activity import ATTENTION_EXAMPLES, Activity, measure_activity
from tfcore.inspect.audit.causes import find_causes, look, proven_cancelled
from tfcore.inspect.audit.gradients import Batch, Gradient, Loss, measure_gradients
from tfcore.inspect.audit.interventions import Effect, interventions, measure_effects
from tfcore.module import Module

VANISHING, EXPLODING = 1e-5, 1e3  # of the median RMS gradient of all variables of one name; healthy: 6e-4 to 20
LARGE = 1.0  # an RMS gradient up to this has not exploded, whatever the others are
COMPARABLE = 3  # so many variables of one name are needed to say that one of them is unlike the others
SILENT = 0.75  # a ReLU layer more of whose channels never fire; in a trained, healthy ConvNet up to 39 %
SATURATED = 0.9  # of a sigmoid's or tanh's values
UNEVEN = 1e-3  # weights that differ from 1/S by no more than this, relatively, prefer no key to another
ONE_HOT = 0.9  # of an attention's rows
UNDERFLOW = 0.5  # of a layer's values that are not 0


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that does nothing or too much: a variable or a layer, and why.

    Attributes:
        what: "variable" or "layer"; path: which one; kind: see above; reason: in words.
        cause: path of the layer or variable that causes it, where one was proven to; of several that only together
            do, joined by "and".
        parameters: how many the variable holds; 0 for a layer.
    """

    what: str
    path: str
    kind: str
    reason: str
    cause: str | None = None
    parameters: int = 0

    def to_json(self) -> dict:
        """Return the finding as JSON values, the path under the name of what it is."""
        values = {self.what: self.path, "kind": self.kind, "reason": self.reason, "cause": self.cause}
        return {**values, "parameters": self.parameters} if self.what == "variable" else values


@dataclasses.dataclass
class Audit:
    """All that an audit found.

    Attributes:
        total: parameters of the model; trained: those that gradients are meant to update.
        dead: parameters of the variables that get no gradient, those only `cancelled` not counted.
        cancelled: parameters of biases without any effect, whose gradients are rounding noise. In a layer that is
            dead as a whole, such a bias counts as dead.
        examples: how many were looked at.
        variables, layers: the tables.
        culprits: path of what keeps gradients away -> what it is, such as "layer norm over 1 feature".
        accuracy, effects: of the interventions; None and [] where there were none.
    """

    total: int
    trained: int
    dead: int
    cancelled: int
    examples: int
    variables: list[Gradient]
    layers: list[Activity]
    findings: list[Finding]
    notes: list[Finding]
    culprits: dict[str, str]
    accuracy: float | None = None
    effects: list[Effect] = dataclasses.field(default_factory=list)

    @property
    def kinds(self) -> dict[str, str]:
        """Path of a variable -> the kind of its finding or note."""
        return {entry.path: entry.kind for entry in (*self.findings, *self.notes) if entry.what == "variable"}

    def causes(self) -> dict[str, list[Finding]]:
        """Return path of a cause -> the findings about variables that it was proven to cause."""
        found: dict[str, list[Finding]] = {}
        for finding in self.findings:
            if finding.cause is not None and finding.what == "variable":
                found.setdefault(finding.cause, []).append(finding)
        return found

    def headline(self) -> str:
        """Return the result in a sentence or two."""
        others = [finding for finding in self.findings if finding.kind not in ("zero", "unreached")]
        sentences = []
        if self.dead:
            share = 100 * self.dead / self.total
            text = f"{self.dead:,} of {self.total:,} parameters ({share:.1f} %) receive no gradient"
            explained = sum(finding.parameters for found in self.causes().values() for finding in found)
            partly = 0 < explained < self.dead
            if partly:
                text += f", {explained:,} of them"
            for number, sort in enumerate(sorted(set(self.culprits.values()))):
                paths = [path for path, what in self.culprits.items() if what == sort]
                text += f" {'and' if number else 'because of'} {len(paths)} × {sort} ({', '.join(paths)})"
            if partly:
                text += f", {self.dead - explained:,} without a proven cause"
            sentences.append(text)
        if others:
            parts = sorted({finding.kind for finding in others})
            counts = {kind: sum(finding.kind == kind for finding in others) for kind in parts}
            sentences.append("found: " + ", ".join(f"{count} × {kind}" for kind, count in counts.items()))
        if not sentences:
            sentences.append(f"nothing is wrong: gradients reach all {self.trained:,} trained parameters")
        everywhere = next((effect for effect in self.effects if effect.kind == "uniform"), None)
        if everywhere is not None and self.accuracy is not None:
            sentences.append(
                f"with all attention weights uniform the accuracy goes from {100 * self.accuracy:.1f} to "
                f"{100 * everywhere.accuracy:.1f} %, and {100 * everywhere.changed:.1f} % of the predictions change"
            )
        return "; ".join(sentences)

    def to_json(self) -> dict:
        """Return everything as JSON values; numbers that are not finite become None."""
        kinds = self.kinds
        parameters = {name: getattr(self, name) for name in ("total", "dead", "trained", "cancelled")}
        variables = [
            {**dataclasses.asdict(entry), "parameters": entry.parameters, "kind": kinds.get(entry.path)}
            for entry in self.variables
        ]
        return _finite(
            {
                "headline": self.headline(),
                "parameters": parameters,
                "examples": self.examples,
                "findings": [finding.to_json() for finding in self.findings],
                "causes": [
                    {
                        "path": cause,
                        "what": " and ".join(dict.fromkeys(self.culprits[path] for path in cause.split(" and "))),
                        "variables": [finding.path for finding in found],
                    }
                    for cause, found in self.causes().items()
                ],
                "notes": [note.to_json() for note in self.notes],
                "variables": variables,
                "layers": [dataclasses.asdict(layer) for layer in self.layers],
                "accuracy": self.accuracy,
                "interventions": [dataclasses.asdict(effect) for effect in self.effects],
            }
        )


def audit(model: Module, batches: Sequence[Batch], loss: Loss, *, key: tf.Tensor) -> Audit:
    """Look at every variable and every layer of a model; its weights and statistics stay as they are.

    Args:
        batches: (inputs (B, ...) as the model takes them, labels (B,)), at least two, each of at least two examples.
        loss: loss(labels, logits (B, classes)) -> (B,), without penalties: a decayed weight is none that is used.
        key: of the random layers; batch i has fold_in(key, i).

    Raises:
        ValueError: for fewer than two batches, or a batch of fewer than two examples.
    """
    if len(batches) < 2 or min(len(batch[0]) for batch in batches) < 2:
        sizes = ", ".join(str(len(batch[0])) for batch in batches)
        raise ValueError(f"an audit needs two batches of two examples at least, got batches of: {sizes or 'none'}")
    gradients = measure_gradients(model, batches, loss, key=key)
    first_key = random.fold_in(key, 0)
    suspected = {
        path: reason
        for path, reason in look(model, batches[0], key=first_key).cancelled.items()
        if not _kernel_is_dead(gradients, path)
    }
    cancelled = proven_cancelled(model, batches[0], suspected, key=first_key)
    dead = [path for path, entry in gradients.items() if entry.none and path not in cancelled]
    causes = find_causes(model, batches[0], loss, dead, key=first_key)

    findings = [
        Finding(
            "variable",
            path,
            "unreached" if gradients[path].rms is None else "zero",
            cause.reason,
            cause.path,
            gradients[path].parameters,
        )
        for path, cause in causes.items()
    ]
    findings.sort(key=lambda finding: dead.index(finding.path))
    findings += _unlike_neighbours([entry for path, entry in gradients.items() if path not in cancelled])
    layers = measure_activity(model, [batch[0] for batch in batches])
    findings += _findings_of_layers(layers)
    notes = [
        Finding("variable", path, "cancelled", reason, None, gradients[path].parameters)
        for path, reason in cancelled.items()
    ]
    for layer in layers:
        if layer.underflow > UNDERFLOW:  # no fault before statistics and weights are learned
            reason = f"{layer.underflow:.0%} of its values that are not 0 become 0 in float16"
            notes.append(Finding("layer", layer.name, "underflow", reason))
    return Audit(
        total=sum(math.prod(variable.shape) for variable in model.named_variables().values()),
        trained=sum(entry.parameters for entry in gradients.values()),
        dead=sum(gradients[path].parameters for path in dead),
        cancelled=sum(note.parameters for note in notes),
        examples=sum(len(batch[0]) for batch in batches),
        variables=list(gradients.values()),
        layers=layers,
        findings=findings,
        notes=notes,
        culprits={path: sort for cause in causes.values() for path, sort in cause.culprits.items()},
    )


def intervene(
    audit: Audit, model: Module, batches: Sequence[Batch], *, progress: Callable[[Iterable], Iterable] = iter
) -> None:
    """Add to an audit what each possible intervention costs in accuracy over the batches (inputs, labels)."""
    chosen = interventions(model, batches[0][0])
    audit.accuracy, audit.effects = measure_effects(model, batches, chosen, progress=progress)


def _kernel_is_dead(gradients: dict[str, Gradient], path: str) -> bool:
    kernel = gradients.get(f"{path.rpartition('/')[0]}/kernel")
    return kernel is not None and kernel.none


def _unlike_neighbours(entries: Sequence[Gradient]) -> list[Finding]:
    """Findings about gradients that are there: not finite, the same for all batches, or of another order of size."""
    alive = [(entry, entry.rms) for entry in entries if not entry.none and entry.rms is not None]
    found = []
    for entry, rms in alive:
        name = entry.path.rpartition("/")[2]
        same = [other_rms for other, other_rms in alive if other.path.rpartition("/")[2] == name and other.finite]
        median = _usual(same) if len(same) >= COMPARABLE else None
        kind = None
        if not entry.finite:
            kind, reason = "exploding", "its gradient holds NaN or infinity"
        elif entry.constant:
            kind, reason = "constant", "its gradient is the same for all batches, though their examples differ"
        elif median and not VANISHING * median <= rms <= EXPLODING * median:
            kind = "vanishing" if rms < median else "exploding"
            reason = f"its RMS gradient {rms:.1e} is {rms / median:.1e} times the median of all {name}s"
        if kind is not None:
            found.append(Finding("variable", entry.path, kind, reason, None, entry.parameters))
    return found


def _usual(values: Sequence[float]) -> float:
    """The median; of two sorts far apart, of which none is large, the upper one's: it is the others that vanish."""
    median = statistics.median(values)
    above = [value for value in values if value > EXPLODING * median]
    return statistics.median(above) if above and max(above) <= LARGE else median


def _findings_of_layers(layers: Sequence[Activity]) -> list[Finding]:
    """Findings about what the calls give; of a chain of constant calls, the first."""
    accused = [layer for layer in layers if layer.silent == 1.0 or layer.lost]
    explained = {parent for layer in accused for parent in layer.parents}  # by a part of theirs
    found = []
    for layer in layers:
        lost = () if layer.name in explained else layer.lost
        reasons = []
        if not layer.finite:
            reasons.append(("not finite", "its output holds NaN or infinity"))
        elif layer.silent is not None and layer.silent > SILENT:
            some = "none" if layer.silent == 1 else f"{1 - layer.silent:.0%}"
            text = f"{some} of its {layer.shape[-1]} channels ever fires, over all examples and positions"
            reasons.append(("dead relu", text))
        elif lost:
            text = f"its output does not vary over the {' and the '.join(lost)}, though its input does"
            reasons.append(("constant", text + _why_constant(layer)))
        if layer.saturated is not None and layer.saturated > SATURATED:
            reasons.append(("saturated", f"at {layer.saturated:.0%} of its values the derivative is nearly 0"))
        if layer.uneven is not None and layer.uneven < UNEVEN:
            text = f"no weight differs from 1/S by more than {layer.uneven:.0e} of it: no query prefers a key"
            reasons.append(("uniform attention", text))
        if layer.one_hot is not None and layer.one_hot > ONE_HOT:
            text = f"{layer.one_hot:.0%} of its rows (of {ATTENTION_EXAMPLES} examples a batch) look at a single key"
            reasons.append(("one-hot attention", text))
        if layer.overflow > 0 and layer.finite:
            text = f"{layer.overflow:.2%} of its values are beyond float16, the largest is {layer.largest:.3g}"
            reasons.append(("overflow", text))
        found += [Finding("layer", layer.name, kind, reason) for kind, reason in reasons]
    return found


def _why_constant(layer: Activity) -> str:
    narrow = layer.kind == "LayerNorm" and layer.shape[-1] == 1
    return ": a layer norm over 1 feature returns its beta" if narrow else ""


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
