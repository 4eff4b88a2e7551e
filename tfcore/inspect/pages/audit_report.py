"""An audit as text for the terminal, and as one HTML page. Both are made of the same tables."""

import math
import re
import textwrap
from collections.abc import Sequence

from tfcore.inspect.audit.audit import Audit, Finding
from tfcore.inspect.columns import aligned
from tfcore.inspect.pages import page

ROWS = 24  # of a table on the terminal; the page and --json have all
Table = tuple[list[str], list[list[str]], list[bool]]  # header, rows, which rows have a finding


def audit_text(audit: Audit, title: str, *, rows: int = ROWS) -> str:
    """Return the audit as text: headline, findings, then each table, at most `rows` long."""
    parts = [textwrap.fill(title, 118), textwrap.fill(audit.headline(), 118)]
    parts += [f"findings\n{_lines(finding_lines(audit))}"] if audit.findings else []
    parts += [f"notes\n{_lines(note_lines(audit))}"] if audit.notes else []
    parts.append(_text_table("parameters, in training mode", variable_table(audit), rows))
    parts.append(_text_table("layers, in inference", layer_table(audit), rows))
    if audit.effects:
        parts.append(_text_table(_effects_title(audit), effect_table(audit), 2 * rows))
    return "\n\n".join(parts) + "\n"


def audit_html(audit: Audit, title: str, *, about: str = "") -> str:
    """Return the audit as one HTML page; about: what was audited, on which data, how."""
    parts = [page.lead(audit.headline(), bad=bool(audit.findings)), page.paragraph(about)]
    if audit.findings:
        parts += [page.heading("Findings"), page.table(["what", "why"], finding_lines(audit))]
        each = [[f.path, f.kind, f"{f.parameters:,}" if f.parameters else "", f.reason] for f in audit.findings]
        table = page.table(["variable or layer", "kind", "parameters", "reason"], each)
        parts.append(page.folded(f"each of the {len(each)} findings by itself", [table]))
    if audit.notes:
        parts += [page.heading("Notes"), page.paragraph("Worth knowing, and no fault.")]
        parts.append(page.table(["what", "why"], note_lines(audit)))
    if audit.effects:
        parts += [page.heading(_effects_title(audit).capitalize()), page.paragraph(EFFECTS)]
        parts.append(_html_table(effect_table(audit)))
    parts += [page.heading("Parameters"), page.paragraph(VARIABLES), _html_table(variable_table(audit))]
    parts += [page.heading("Layers"), page.paragraph(LAYERS), _html_table(layer_table(audit))]
    return page.page(title, parts)


EFFECTS = (
    "Each part is taken away by itself. Lost: points of accuracy, with their standard error; changed: share of the "
    "examples whose predicted class is another one."
)
VARIABLES = (
    "Gradients of the mean loss over the batches, in training mode with dropout. Gradient: RMS; relative: over that of "
    "the weights; zeros: share of the elements whose gradient is exactly 0 in every batch."
)
LAYERS = (
    "Outputs in inference. Constant: axes along which the output never varies. Silent: share of a ReLU's channels that "
    "never fire. Saturated: share of values with nearly no slope. Uniform, one-hot: share of attention rows with more "
    "than 99 % of the largest entropy, or a weight above 0.99. Beyond, below half: share of the values that overflow "
    "in float16, or that it rounds to 0."
)


def finding_lines(audit: Audit) -> list[list[str]]:
    """Return the findings in few rows (what, why): variables by what causes them, others by kind and reason."""
    lines = []
    alike: dict[tuple, dict[str, list[Finding]]] = {}  # causes at the same place of several blocks, told together
    for cause, found in audit.causes().items():
        parameters = sum(finding.parameters for finding in found)
        alike.setdefault((re.sub(r"\d+", "*", cause), len(found), parameters), {})[cause] = found
    for (_, count, parameters), causes in alike.items():
        verb = "kills" if len(causes) == 1 else "each kill"
        first = next(iter(causes.values()))
        largest = max(first, key=lambda finding: finding.parameters)
        why = f"{count} variables of {_places(first)}" + (" and so on" if len(causes) > 1 else "")
        what = f"{', '.join(causes)} {verb} {parameters:,} parameters"
        lines.append([what, f"{why}. {largest.path}: {largest.reason}"])
    alone: dict[tuple[str, str], list[Finding]] = {}
    for finding in audit.findings:
        if finding.cause is None:
            alone.setdefault((finding.kind, finding.reason), []).append(finding)
    lines += [[f"{kind}: {', '.join(f.path for f in found)}", reason] for (kind, reason), found in alone.items()]
    return lines


def note_lines(audit: Audit) -> list[list[str]]:
    """Return the notes as rows (what, why), those of one sort in one row."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for note in audit.notes:
        words = tuple(word for word in note.reason.split() if "/" not in word and "%" not in word)
        groups.setdefault((note.kind, *words), []).append(note)
    return [[f"{found[0].kind}: {_many([note.path for note in found])}", found[0].reason] for found in groups.values()]


def variable_table(audit: Audit) -> Table:
    """Return a row for each trained variable."""
    kinds, accused = audit.kinds, {finding.path for finding in audit.findings if finding.what == "variable"}
    header = ["variable", "shape", "parameters", "gradient", "relative", "zeros", ""]
    rows = [
        [
            entry.path,
            "×".join(map(str, entry.shape)),
            f"{entry.parameters:,}",
            _number(entry.rms),
            _number(entry.relative) if entry.relative is not None else "",
            _share(entry.zero_share),
            kinds.get(entry.path, ""),
        ]
        for entry in audit.variables
    ]
    return header, rows, [entry.path in accused for entry in audit.variables]


def layer_table(audit: Audit) -> Table:
    """Return a row for each call of a layer or activation."""
    accused = {finding.path for finding in audit.findings if finding.what == "layer"}
    header = ["layer", "kind", "output", "largest", "constant over", "silent", "saturated", "uniform", "one-hot"]
    header += ["beyond half", "below half"]
    rows = [
        [
            layer.name,
            layer.kind,
            "×".join(map(str, layer.shape)),
            _number(layer.largest),
            ", ".join(layer.constant),
            *(_share(value) for value in (layer.silent, layer.saturated, layer.uniform, layer.one_hot)),
            *(_share(value) if value else "" for value in (layer.overflow, layer.underflow)),
        ]
        for layer in audit.layers
    ]
    return header, rows, [layer.name in accused for layer in audit.layers]


def effect_table(audit: Audit) -> Table:
    """Return a row for each intervention."""
    header = ["intervention", "accuracy", "lost", "± error", "changed"]
    rows = [
        [
            effect.name,
            f"{effect.accuracy:.1%}",
            f"{100 * effect.lost:+.1f}",
            f"{100 * effect.error:.1f}",
            f"{effect.changed:.1%}",
        ]
        for effect in audit.effects
    ]
    return header, rows, [False] * len(rows)


def _effects_title(audit: Audit) -> str:
    return f"interventions; accuracy without: {audit.accuracy:.1%}"


def _html_table(table: Table) -> str:
    header, rows, bad = table
    return page.table(header, rows, bad=bad)


def _text_table(title: str, table: Table, limit: int) -> str:
    """The table in aligned columns. One that is too long keeps the rows with findings before others."""
    header, rows, bad = table
    kept = sorted(sorted(range(len(rows)), key=lambda i: (not bad[i], i))[:limit])
    filled = [i for i, name in enumerate(header) if i == 0 or any(rows[k][i] for k in kept)]
    shown = [[row[i] for i in filled] for row in [header, *(rows[k] for k in kept)]]
    lines = aligned(shown, lambda column, cell: column > 0)
    more = [f"... and {len(rows) - len(kept)} more: see --html or --json"] if len(rows) > len(kept) else []
    return "\n".join([title, *(f"  {line}" for line in [*lines, *more])])


def _lines(rows: Sequence[Sequence[str]]) -> str:
    wrapped = [(textwrap.fill(what, 112), textwrap.fill(why, 112)) for what, why in rows]
    return "\n".join(f"{textwrap.indent(what, '  ')}\n{textwrap.indent(why, '      ')}" for what, why in wrapped)


def _places(found: Sequence[Finding]) -> str:
    """The layers that own the variables, those inside another one left out."""
    owners = {finding.path.rpartition("/")[0] or "the model" for finding in found}
    parents = {owner.rpartition("/")[0] for owner in owners}
    several = {parent for parent in parents if parent and sum(o.startswith(f"{parent}/") for o in owners) > 1}
    several = {parent for parent in several if not all(o.startswith(f"{parent}/") for o in owners)}
    kept = {next((parent for parent in several if owner.startswith(f"{parent}/")), owner) for owner in owners}
    return _many(sorted(kept))


def _many(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.3g}" if value == 0 or not math.isfinite(value) or 1e-3 <= abs(value) < 1e5 else f"{value:.1e}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"
