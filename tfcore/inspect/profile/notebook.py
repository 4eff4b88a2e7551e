"""A step in a notebook: what it adds up to, its heaviest kernels and layers, as HTML that needs nothing else."""

from collections.abc import Callable, Sequence
from html import escape

from tfcore.inspect.hlo.buffers import Memory
from tfcore.inspect.hlo.cost import Cost
from tfcore.inspect.hlo.kernels import Kernel

ROWS = 10  # of kernels, of layers


def notebook_html(
    kernels: Sequence[Kernel],
    totals: Cost | None,
    memory: Memory | None,
    us: Callable[[Kernel], float | None],
    step_us: float | None,
) -> str:
    """Return the HTML of a step; `us` gives a kernel's microseconds, None where no time was taken."""
    timed = any(us(kernel) is not None for kernel in kernels)
    facts = [f"{len(kernels):,} {'kernels' if totals is not None else 'operations'}"]
    if totals is not None:
        facts += [f"{totals.flops:,} FLOP", f"{totals.bytes:,} bytes moved"]
        facts += [f"{memory.peak_bytes:,} bytes at the peak ({memory.method})"] if memory else []
        facts += [] if totals.counted else ["some work has no formula and is uncounted"]
    facts += [f"{step_us / 1000:,.3g} ms a step"] if step_us is not None else []
    ranked = sorted(kernels, key=lambda kernel: (-(us(kernel) or 0.0), -kernel.bytes, -kernel.flops))
    layers: dict[str, list[Kernel]] = {}
    for kernel in ranked:
        layers.setdefault(kernel.layer or "(unknown)", []).append(kernel)

    def numbers(group: Sequence[Kernel]) -> list[str]:
        time = [f"{sum(us(kernel) or 0.0 for kernel in group):,.1f}"] if timed else []
        return [*time, f"{sum(x.flops for x in group):,}", f"{sum(x.bytes for x in group):,}"]

    head = [*(["µs"] if timed else []), "FLOP", "bytes"]
    rows = [[x.name, *numbers([x]), x.layer, x.phase, x.source.rpartition("/")[2]] for x in ranked[:ROWS]]
    order = sorted(layers.items(), key=lambda pair: -sum((us(x) or 0.0) if timed else x.bytes for x in pair[1]))
    sums = [[name, *numbers(group), f"{len(group):,}"] for name, group in order[:ROWS]]
    parts = [f"<p>{escape(', '.join(facts))}</p>", _table(["kernel", *head, "layer", "phase", "line"], rows)]
    return "<div>" + "".join([*parts, _table(["layer", *head, "kernels"], sums)]) + "</div>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
