"""Lines of HLO as people have them: a module cut out of what stands around it, comments out, broken lines joined."""

import ast
import dataclasses
import re
from collections.abc import Iterator, Sequence

_LOG = r"[IWEF]\d{4,8} [^\]\n]*\] ?"  # before every line of a log
_START = re.compile(rf"\s*(?:{_LOG}|>)?\s*HloModule\s+(?P<name>[^\s,]+)\s*(?:,.*|/[/*].*)?$")
_PREFIX = re.compile(_LOG)
_MARK = re.compile(r'"(?:[^"\\]|\\.)*"|/\*|//')
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[(){}\[\]]', re.DOTALL)
_INSTRUCTION = re.compile(r'(?:ROOT\s+)?%?[^\s=,(){}\[\]"]+\s*=\s*(?=\(|[a-z][\w\-]*[\[(]|$)')
_OPERANDS = re.compile(r"[\s\])}][a-z][\w\-]*\(")
_ROW = re.compile(r'\d+ ["{]')
_COMPUTATION = re.compile(r"(?:ENTRY\s+)?%?[\w.\-]+\s*(?:[({]|$)")
TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
# What else people hand over: (how it begins or what it has in it, what it is and what to do).
_OTHERS = (
    (r"\s*module\b.*\{|.*\b(?:stablehlo|mhlo|func\.func)\b", "StableHLO, which XLA has not compiled yet: take the "
     "optimized HLO, such as jax.jit(f).lower(...).compile().as_text()"),
    (r"\s*BufferAssignment:", "a buffer assignment, which has no instructions: take the *after_optimizations.txt "
     "beside it"),
    (r"\s*HloLiveRange", "live ranges, which have no instructions: take the *after_optimizations.txt beside them"),
    (r"\s*Memory Space:", "a memory report, which has no instructions: take the *after_optimizations.txt beside it"),
    (r"; ModuleID|\s*source_filename =|\s*target triple", "LLVM's code of a kernel: take the *after_optimizations.txt "
     "beside it"),
    (r"\s*<(?:!doctype|html|svg)", "a page, not HLO: take the text that it was made from"),
    (r"\s*digraph", "a drawing (Graphviz), not HLO: take the *after_optimizations.txt beside it"),
    (r"\s*\{ *lambda", "a jaxpr, which XLA has not compiled: take jax.jit(f).lower(...).compile().as_text()"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ModuleText:
    """The lines of one module, from line `first` of the text on (from 1)."""

    name: str
    first: int
    lines: Sequence[str]


def module_texts(text: str) -> list[ModuleText]:
    """Return the modules that stand in a text, without the prose, the fences and the marks of a log around them.

    Raises:
        ValueError: for a text that holds no HLO, saying what it is.
    """
    text = _printed(text.removeprefix("\ufeff"))
    lines = text.replace("\r\n", "\n").split("\n")
    starts = [
        (at, found["name"]) for at, line in enumerate(lines) if "HloModule" in line and (found := _START.match(line))
    ]
    if not starts:
        if not any(line.rstrip().endswith("{") and _COMPUTATION.match(line.strip()) for line in lines):
            raise ValueError(_what_it_is(text))
        if any(re.match(pattern, text, re.IGNORECASE) for pattern, _ in _OTHERS) or "stablehlo." in text:
            raise ValueError(_what_it_is(text))
        starts = [(0, "")]
    modules = []
    for (begin, name), end in zip(starts, [*(at for at, _ in starts[1:]), len(lines)], strict=True):
        part = lines[begin:end]
        fence = next((at for at, line in enumerate(part) if line.strip().startswith("```")), len(part))
        if _PREFIX.match(part[0].strip()):
            part = [_PREFIX.sub("", line.strip(), count=1) for line in part]
        modules.append(ModuleText(name, begin + 1, [line.lstrip("> ") for line in part[:fence]]))
    return modules


def _printed(text: str) -> str:
    """The text behind a Python repr of it: 'HloModule m\\n\\nENTRY ...'."""
    stripped = text.strip()
    if "\n" not in stripped and "\\n" in stripped and re.match(r"b?['\"]", stripped):
        try:
            value = ast.literal_eval(stripped)
        except (SyntaxError, ValueError):
            return text
        return value.decode(errors="replace") if isinstance(value, bytes) else value
    return text


def _what_it_is(text: str) -> str:
    if not text.strip():
        return "an empty file, not HLO: was the dump written to its end?"
    for pattern, words in _OTHERS:
        if re.match(pattern, text, re.IGNORECASE):
            return f"this is {words}"
    if "stablehlo." in text or "mhlo." in text:
        return f"this is {_OTHERS[0][1]}"
    first = next(line for line in text.splitlines() if line.strip()).strip()
    return f"line 1 is not HLO, and no HloModule follows: {first[:80]!r}; an HLO text begins with 'HloModule NAME'"


def logical_lines(module: ModuleText) -> Iterator[tuple[int, str]]:
    """Yield (line of the text, header, row of a table, instruction or closing bracket) without comments, each whole.

    Raises:
        ValueError: for a line that is none of these, and for a text that ends inside of a computation.
    """
    pending: list[str] = []
    begin, depth, commented = 0, -1, False  # depth: open brackets of what is pending, -1: not counted yet
    where, entered = "", False  # the computation that is open; whether the entry has been seen
    for number, raw in enumerate(module.lines, module.first):
        line = raw
        if commented or "/*" in raw or "//" in raw:
            line, commented = _uncommented(raw, commented)
        line = line.strip()
        if not line or (line[0] == "#" and depth <= 0):
            continue
        if where and _INSTRUCTION.match(line):
            if pending:
                yield begin, " ".join(pending)
            pending, begin, depth = [line], number, -1
        elif where:
            depth = _open("\n".join(pending)) if depth < 0 else depth
            if pending and (depth > 0 or line[0] in ",)" or pending[-1][-1] in ",=" or not _has_operands(pending)):
                pending.append(line)
                depth += _open(line)
            elif line[0] == "}":
                if pending:
                    yield begin, " ".join(pending)
                yield number, "}"
                pending, where, depth = [], "", -1
            else:
                raise not_hlo(number, line)
        elif line in TABLES or _ROW.match(line):
            yield number, line
        else:
            begin = begin if pending else number
            pending.append(line)
            whole = " ".join(pending)
            if line[-1] == "{" and _COMPUTATION.match(whole) and _open(whole) == 1:
                where, entered = whole, entered or whole.startswith("ENTRY")
                yield begin, whole
                pending = []
            elif whole.startswith("HloModule"):
                if _open(whole) == 0 and line[-1] != ",":
                    yield begin, whole
                    pending = []
            elif not _COMPUTATION.match(whole):
                if not entered:
                    raise not_hlo(begin, whole)
                pending = []  # prose behind the module
    if where:
        name = where.removeprefix("ENTRY").split("(")[0].strip("{ ")
        raise ValueError(
            f"the text is cut off: it ends at line {module.first + len(module.lines) - 1} inside of the computation "
            f"{name}; was the dump written to its end?"
        )
    if pending and not entered:
        raise not_hlo(begin, pending[0])


def not_hlo(number: int, line: str, reason: str = "") -> ValueError:
    """The error that names a line."""
    short = line.split("\n")[0]
    short = short if len(short) <= 160 else f"{short[:160]} …"
    return ValueError(f"line {number} is not HLO that this parser knows{f' ({reason})' * bool(reason)}: {short}")


def _has_operands(lines: list[str]) -> bool:
    """Whether what has been read of an instruction got as far as its operands."""
    return len(lines) > 1 or _OPERANDS.search(lines[0]) is not None


def _open(text: str) -> int:
    """How many more brackets open than close, outside of quotes."""
    marks = [found[0] for found in _BRACKET.finditer(text)]
    return sum((mark in "({[") - (mark in ")}]") for mark in marks if mark[0] != '"')


def _uncommented(line: str, inside: bool) -> tuple[str, bool]:
    """(a line without comments, whether a comment goes on behind it)."""
    kept, at = "", 0
    while True:
        if inside:
            end = line.find("*/", at)
            if end < 0:
                return kept, True
            at, inside = end + 2, False
        found = _MARK.search(line, at)
        if found is None:
            return kept + line[at:], False
        if found[0] == "//":
            return kept + line[at : found.start()], False
        inside = found[0] == "/*"
        kept += line[at : found.start() if inside else found.end()]
        at = found.end()
