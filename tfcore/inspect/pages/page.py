"""A report as one HTML page that needs nothing else: no network, no fonts; light, dark and printed.

All text is escaped here, so that callers hand over plain text.
"""

from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --faint: #59636e; --line: #d1d9e0; --back: #ffffff;
        --stripe: #f6f8fa; --bad: #b3261e; --mark: #0b57d0; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --faint: #9aa4ae; --line: #3d444d; --back: #0d1117; --stripe: #161b22; --bad: #ff8a80;
          --mark: #8ab4f8; } }
@media print { :root { --text: #000; --faint: #333; --line: #bbb; --back: #fff; --stripe: #fff; --bad: #900;
                       --mark: #003a8c; } main { max-width: none; }
  details::details-content { content-visibility: visible; block-size: auto; } }
body { background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem; }
h1, h2 { overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.lead { font-size: 1.1rem; border-left: .3rem solid var(--mark); padding: .3rem .9rem; margin: 1rem 0; }
.lead.bad { border-color: var(--bad); }
p.faint { color: var(--faint); margin: .3rem 0 .6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 600; } thead { display: table-header-group; }
tbody tr:nth-child(even) { background: var(--stripe); } tr { break-inside: avoid; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr.bad td:first-child { color: var(--bad); font-weight: 600; }
summary { cursor: pointer; color: var(--mark); margin: .4rem 0; }
"""


def page(title: str, parts: Sequence[str], *, head: str = "") -> str:
    """Return a whole page with a title (plain text) and parts, each the HTML of a function of this file.

    `head`: HTML for the end of the page's head, such as a style of its own.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n{head}</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</main>\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """Return the heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Return a paragraph that explains, in a fainter colour."""
    return f'<p class="faint">{escape(text)}</p>'


def lead(text: str, *, bad: bool) -> str:
    """Return the sentence that says it all; `bad` marks it as an alarm."""
    return f'<p class="lead{" bad" if bad else ""}">{escape(text)}</p>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, bad: Sequence[bool] = ()) -> str:
    """Return a table of texts; a column whose cells all look like numbers is set right; bad: rows to be marked.

    Raises:
        ValueError: for a row of another length than the header.
    """
    columns = list(zip(header, *rows, strict=True))
    numeric = [bool(rows) and all(map(_is_number, cells)) for _, *cells in columns]
    marks = [*bad, *[False] * (len(rows) - len(bad))]

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=number' if right else ''}>{escape(text)}</{tag}>"
            for text, right in zip(texts, numeric, strict=True)
        )

    body = "\n".join(
        f"<tr{' class=bad' if mark else ''}>{cells('td', row)}</tr>" for row, mark in zip(rows, marks, strict=True)
    )
    head = f"<thead><tr>{cells('th', header)}</tr></thead>"
    return f'<div class="wide"><table>{head}\n<tbody>\n{body}\n</tbody></table></div>'


def folded(title: str, parts: Sequence[str]) -> str:
    """Return parts that are shown on a click."""
    return f"<details><summary>{escape(title)}</summary>\n" + "\n".join(parts) + "\n</details>"


def _is_number(text: str) -> bool:
    return text.strip("+-−±%×0123456789.,e ") == ""
