"""Where two computations part, as text and as a page."""

import math
from collections.abc import Sequence

from tfcore.inspect.numerics.divergence import PHASES, Divergence, Tensor
from tfcore.inspect.pages import page

SHOWN = 12  # rows of the text: the worst ones; JSON has all
NAMED = 4  # of the tensors that only one side has; --json has all


def divergence_text(found: Divergence, title: str) -> str:
    """Return the verdicts and the tensors that come nearest to, or pass, what their format explains."""
    lines = [title, *(f"  {verdict.sentence}" for verdict in (found.forward, found.backward))]
    for verdict in (found.forward, found.backward):
        if verdict.tensor is not None and verdict.tensor.line:
            lines.append(f"  {verdict.tensor.name}: {verdict.tensor.line}, {verdict.tensor.formula}")
    for label, only in zip("ab", found.only, strict=True):
        if only:
            more = f" and {len(only) - NAMED} more" if len(only) > NAMED else ""
            lines.append(f"  only in {label}: {', '.join(only[:NAMED])}{more}")
    columns = f"{'error a':>9} {'error b':>9} {'b / a':>7} {'own/expl.':>9} {'amplified':>9}"
    lines += ["", f"  of {len(found.tensors)} tensors the nearest to what rounding explains", f"  {columns}"]
    for tensor in sorted(found.tensors, key=share, reverse=True)[:SHOWN]:
        quotient = "-" if tensor.quotient is None else f"{tensor.quotient:.3g}"
        most = max(tensor.a.amplification, tensor.b.amplification)
        lines.append(
            f"  {tensor.a.error:9.2e} {tensor.b.error:9.2e} {quotient:>7} {share(tensor):9.3f} {most:9.1f}  "
            f"{PHASES[tensor.kind]} of {tensor.name}"
        )
    return "\n".join(lines) + "\n"


def share(tensor: Tensor) -> float:
    """The part's own error in units of what its format explains, the larger of both sides: above 1 it is a fault."""
    return max(side.own / side.explained if side.explained else float(side.own > 0) for side in (tensor.a, tensor.b))


def divergence_html(
    found: Divergence, title: str, about: str, distances: Sequence[float] = (), growth: str = ""
) -> str:
    """Return a page: verdicts, all tensors in the order of the step, and how the weights part over some steps."""
    parts = [page.paragraph(about)]
    for verdict in (found.forward, found.backward):
        parts.append(page.lead(verdict.sentence, bad=verdict.fault))
    if distances:
        parts += [page.heading("Distance of the weights, step by step"), page.lead(growth, bad=False)]
        parts.append(_curve(distances))
    parts.append(page.heading("Every tensor, in the order of the step"))
    parts.append(
        page.paragraph(
            "Errors of a and b against float64, as shares of the largest number. Own: the part's own error from the "
            "inputs it had, in units of what its format explains; above 1 it is a fault. Amplified: by how much "
            "relative changes of its inputs are enlarged; large where a result is zero but for rounding."
        )
    )
    header = ("tensor", "error a", "error b", "b / a", "own", "amplified", "line", "formula")
    for name, kinds in (("Forward", ("forward",)), ("Backward and update", ("backward", "gradients", "after"))):
        chosen = [tensor for tensor in found.tensors if tensor.kind in kinds]
        parts += [page.heading(name), page.table(header, [_row(t) for t in chosen], bad=[share(t) > 1 for t in chosen])]
    return page.page(f"Where two computations part: {title}", parts)


def _row(tensor: Tensor) -> list[str]:
    quotient = "" if tensor.quotient is None else f"{tensor.quotient:.3g}"
    most = max(tensor.a.amplification, tensor.b.amplification)
    numbers = [f"{tensor.a.error:.2e}", f"{tensor.b.error:.2e}", quotient, f"{share(tensor):.3f}", f"{most:.1f}"]
    return [f"{PHASES[tensor.kind]} of {tensor.name}", *numbers, tensor.line, tensor.formula]


def _curve(distances: Sequence[float]) -> str:
    """The distances on a logarithmic scale, as an SVG; steps without a distance are left out."""
    points = [(step, math.log10(value)) for step, value in enumerate(distances, 1) if 0 < value < math.inf]
    if len(points) < 2:
        return page.paragraph("No curve: fewer than two steps have a distance.")
    low, high = math.floor(min(y for _, y in points)), math.ceil(max(y for _, y in points) + 1e-9)
    last = len(distances)
    places = [(60 + 520 * (x - 1) / max(last - 1, 1), 180 - 160 * (y - low) / max(high - low, 1)) for x, y in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    text = 'fill="currentColor" font-size="12"'
    return (
        '<svg viewBox="0 0 600 215" style="max-width: 600px; width: 100%" role="img" aria-label="distance by step">'
        f'<path d="M60 20V180H580" fill="none" stroke="var(--line)"/><text x="54" y="24" text-anchor="end" {text}>'
        f'1e{high}</text><text x="54" y="184" text-anchor="end" {text}>1e{low}</text>'
        f'<text x="60" y="200" {text}>step 1</text><text x="580" y="200" text-anchor="end" {text}>{last}</text>'
        f'<polyline points="{line}" fill="none" stroke="var(--mark)" stroke-width="2"/></svg>'
    )
