"""All of a set's audit in one object, as text and as JSON."""

import dataclasses

from loops.data.dataset import Dataset
from loops.data_audit import balance, duplicates, shortcuts


@dataclasses.dataclass(frozen=True)
class Audit:
    """What was found in a set; `scores`: of a run, test accuracy by what was left out."""

    source: str
    shortcuts: shortcuts.Shortcuts
    duplicates: duplicates.Duplicates
    balance: balance.Balance
    scores: dict[str, float] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict:
        """Return what a program may ask."""
        return {
            "source": self.source,
            "majority": dict(zip(("held_out", "test"), self.shortcuts.majority, strict=True)),
            "shortcuts": [
                {"feature": one.feature, "storage": one.storage, "held_out": one.held_out, "test": one.test, "p": one.p}
                | {"leak": one in self.shortcuts.leaks, "rule": self.shortcuts.in_words(one)}
                for one in self.shortcuts.found
            ],
            "near": self.duplicates.limit,
            "duplicates": {
                name: [dataclasses.asdict(pair) for pair in getattr(self.duplicates, name)]
                for name in ("across", "train", "test")
            },
            "findings": self.balance.findings(),
            "scores": self.scores,
        }


def of(dataset: Dataset, *, seed: int = 0, limit: float | None = None) -> Audit:
    """Return the audit of a set; `limit`: likeness of near duplicates, see `duplicates.find`.

    Raises:
        ValueError: for a set of which nothing can be said, see `shortcuts.check`.
    """
    found = shortcuts.find(dataset, seed=seed)
    return Audit(dataset.source, found, duplicates.find(dataset, limit=limit), balance.find(dataset, seed=seed))


def verdict(audit: Audit) -> str:
    """Return the sentence that says it all."""
    leaks = audit.shortcuts.leaks
    if leaks:
        best = leaks[0]
        return (
            f"{best.feature} alone is right on {100 * best.test:.1f} % of the test split: how examples were stored "
            "gives their classes away"
        )
    strong = [one for one in audit.shortcuts.strong if not one.storage]
    if strong:
        return f"no leak; {strong[0].feature} alone, which may be physics, is right on {100 * strong[0].test:.1f} %"
    return "no trivial feature takes away half of the errors that naming the commonest class makes"


def text(audit: Audit, shown: int) -> str:
    """Return the report for a terminal, with so many rules and pairs."""
    found, pairs = audit.shortcuts, audit.duplicates
    lines = [audit.source, f"  {verdict(audit)}", ""]
    lines.append(f"  one feature, one rule   held out   test   p   (commonest class {found.majority[0]:.3f}, "
                 f"{found.majority[1]:.3f})")  # fmt: skip
    for one in found.found[:shown]:
        mark = "  LEAK" if one in found.leaks else ""
        lines.append(f"  {one.feature:24}{one.held_out:8.3f}{one.test:8.3f}  {one.p:.3f}{mark}")
    lines += ["", *(f"  {found.in_words(one)}" for one in found.strong)]
    lines.append("")
    for name, title in (("across", "test in train"), ("train", "within train"), ("test", "within test")):
        own = getattr(pairs, name)
        exact, other = sum(pair.exact for pair in own), sum(not pair.same_label for pair in own)
        lines.append(
            f"  duplicates {title:14}{len(own):6,} (likeness {pairs.limit} or more), {exact:,} of them exact, "
            f"{other:,} of different labels"
        )
    lines += [f"  {finding}" for finding in audit.balance.findings()]
    lines += [f"  accuracy {name:28}{value:.4f}" for name, value in audit.scores.items()]
    return "\n".join(lines) + "\n"
