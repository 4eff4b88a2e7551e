"""Where two computations part, as text."""

from tfcore.inspect.numerics.divergence import PHASES, Divergence, Tensor

SHOWN = 12  # rows of the text: the worst ones; JSON has all


def divergence_text(found: Divergence, title: str) -> str:
    """Return the verdicts and the tensors that come nearest to, or pass, what their format explains."""
    lines = [title, *(f"  {verdict.sentence}" for verdict in (found.forward, found.backward))]
    for verdict in (found.forward, found.backward):
        if verdict.tensor is not None and verdict.tensor.line:
            lines.append(f"  {verdict.tensor.name}: {verdict.tensor.line}, {verdict.tensor.formula}")
    for label, only in zip("ab", found.only, strict=True):
        if only:
            lines.append(f"  only in {label}: {', '.join(only)}")
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
