"""The pages say what is: commands parse, links lead somewhere, tables are those of their files, nothing is left out."""

import importlib.util
import re
import shlex
from configparser import ConfigParser
from pathlib import Path

import pytest

from loops import recipes
from loops.studies.results.files import rows_of
from loops.studies.results.pages import with_tables

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "tfcore" / "README.md",
    ROOT / "tfcore" / "inspect" / "README.md",
    ROOT / "loops" / "README.md",
    ROOT / "loops" / "recipes" / "results" / "README.md",
    ROOT / "scripts" / "README.md",
]
# What a shell finds that is not of Python; `source` and `cd` are built in.
OTHERS = {"source", "cd", "git", "ruff", "mypy", "pre-commit", "echo"}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fences(page: Path) -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands_of(page: Path) -> list[list[str]]:
    """Every command of a page as words: in `sh` blocks, and between backticks in the text.

    Lines that end in a backslash go on; `&&` joins several; a comment is left out, and so is VARIABLE=value in front.
    """
    lines = []
    for language, text in fences(page):
        if language == "sh":
            lines += text.replace("\\\n", " ").splitlines()
    for code in re.findall(r"`([^`]+)`", prose(page)):
        code = " ".join(code.split())
        if re.match(r"(\w+=\S+ )*(\.venv/bin/)?(python3?|pytest|bash|pip|source) ", code):
            lines.append(code)
    commands = []
    for line in lines:
        for part in re.split(r" && | \| ", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0], re.DOTALL):
                words = words[1:]
            if words:
                commands.append(words)
    return commands


COMMANDS = [(page, words) for page in PAGES for words in commands_of(page)]


@pytest.mark.parametrize(
    "words", [words for _, words in COMMANDS], ids=[f"{name_of(page)}: {shlex.join(words)}" for page, words in COMMANDS]
)
def test_every_command_parses(words, pytestconfig):
    check_command(words, pytestconfig)


def check_command(words: list[str], pytestconfig: pytest.Config) -> None:
    """Fail unless a command could be typed: script, module, options and files are there."""
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program in ("python", "python3"):
        check_python(arguments)
    elif program == "bash":
        script = {"scripts/gpu_check.sh": "gpu_check"}[arguments[0]]  # its options are gpu_check.py's
        parse_script(script, arguments[1:])
    elif program == "pip":
        check_pip(arguments)
    elif program == "pytest":
        known, unknown = pytestconfig._parser.parse_known_and_unknown_args(arguments)
        assert not unknown, f"pytest does not know {unknown}"
        for file in known.file_or_dir:
            assert (ROOT / file.partition("::")[0]).exists(), file
    else:
        assert program in OTHERS, f"nobody knows {program}"


def check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        module = arguments[1]
        assert module == "venv" or importlib.util.find_spec(module), module
    elif arguments[0] == "-c":
        compile(arguments[1], "the page", "exec")
    elif arguments[0].startswith("scripts/"):
        parse_script(Path(arguments[0]).stem, arguments[1:])
    else:
        assert (ROOT / arguments[0]).exists(), arguments[0]


def parse_script(script: str, arguments: list[str]) -> None:
    """Parse as the script would; a recipe's name in capitals stands for any recipe."""
    parsed = importlib.import_module(script).parser().parse_args(arguments)
    named = getattr(parsed, "recipe", None)  # several where the option may be repeated
    names = [*(named if isinstance(named, list) else [named]), *(getattr(parsed, "recipes", None) or [])]
    for name in names:
        if name is not None and name != "all" and not name.isupper() and script not in ("gpu_check", "study_cnn"):
            recipes.get(name).changed(map(setting, parsed.set))


def setting(value: str | tuple[str, str]) -> tuple[str, str]:
    """(field, text), where a script's parser has left that to later."""
    return tuple(value.split("=", 1)) if isinstance(value, str) else value


def check_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    extras = ConfigParser()
    extras.read(ROOT / "setup.cfg")
    for extra in re.findall(r"\[(.*)\]", arguments[-1]):
        for name in extra.split(","):
            assert name in extras["options.extras_require"], name


@pytest.mark.parametrize(
    "line",
    [
        "python scripts/train.py inn_cifar10 --no-such-option",
        "python scripts/train.py no_such_recipe",
        "python scripts/train.py inn_cifar10 --set no_such_field=1",
        "python scripts/benchmark.py inn_cifar10 --set no_such_field=1",
        "python scripts/no_such_script.py",
        "python -m tests.no_such_module",
        "python tfcore/no_such_file.py",
        "bash scripts/gpu_check.sh --no-such-option",
        "pytest tests/test_no_such.py",
        "pytest --no-such-option",
        "pip install -e '.[no_such_extra]'",
        "no_such_program",
    ],
)
def test_a_command_that_cannot_be_typed_is_found(line, pytestconfig):
    with pytest.raises((AssertionError, SystemExit, ValueError, ImportError)):
        check_command(shlex.split(line), pytestconfig)


def test_all_commands_are_read(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(
        "Type `TF_X=1 python\n  scripts/a.py --b`, not `a.py`.\n"
        "```sh\nX='{1}' python scripts/a.py \\\n    --c  # why\n.venv/bin/pip install x && pytest tests | head\n```\n"
        "```text\npython is not typed here\n```\n"
    )
    assert commands_of(page) == [
        ["python", "scripts/a.py", "--c"],
        [".venv/bin/pip", "install", "x"],
        ["pytest", "tests"],
        ["head"],
        ["python", "scripts/a.py", "--b"],
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page):
    """`sh` is typed, `python` is run, `text` is read: a command in a block without a language would not be parsed."""
    for language, text in fences(page):
        assert language in ("sh", "python", "text"), text
        if language == "python":
            compile(text, str(page), "exec")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the page's headings."""
    heads = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def links(page: Path) -> list[str]:
    text = prose(page)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in links(page):
        if re.match(r"https?:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "README.md"
    page.write_text('# A head\n[a](#a-head) [b](#b) [c](no.md) ![d](README.md) <img src="no.png">\n')
    assert broken_links(page) == ["#b", "no.md", "no.png"]


def test_every_page_is_reached_from_the_first():
    reached, waiting = set(), [README]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            targets = [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
            waiting += [target for target in targets if target.name == "README.md"]
    assert reached == set(PAGES)
    written = {path for floor in ("tfcore", "loops", "scripts", "tests") for path in (ROOT / floor).rglob("README.md")}
    assert written | {README} == set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_paths_exist(page):
    for path in re.findall(r"`((?:tfcore|loops|tests|scripts)/[\w/.-]*)`", page.read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tables_are_those_of_their_files(page):
    assert with_tables(page.read_text()) == page.read_text(), "run python scripts/results_tables.py"


def test_a_table_that_differs_from_its_files_is_made_anew():
    page = "before\n<!-- table parity -->\n| old |\n<!-- end of table -->\nafter\n"
    assert f"| {rows_of('parity.csv')[1]['what']} | float64 |" in with_tables(page)
    assert with_tables(page).startswith("before\n") and with_tables(page).endswith("after\n")
    with pytest.raises(ValueError, match="no table 'parities'"):
        with_tables(page.replace("parity", "parities"))


def test_the_front_page_is_one_page():
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    first_screen = "\n".join(lines[:40])
    assert "scripts/train.py" in first_screen and "pytest" in first_screen


def test_ci_runs_the_printed_test_command():
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert command in README.read_text().splitlines()


def test_every_command_and_room_is_on_its_page():
    scripts = (ROOT / "scripts" / "README.md").read_text()
    for path in [*(ROOT / "scripts").glob("[!_]*.py"), *(ROOT / "scripts").glob("*.sh")]:
        assert f"`scripts/{path.name}`" in scripts, path
    for path in (ROOT / "scripts" / "parts").glob("[a-z]*.py"):
        assert f"`{path.name}`" in scripts, path
    for floor in ("tfcore", "tfcore/inspect", "loops"):
        page = (ROOT / floor / "README.md").read_text()
        for room in (ROOT / floor).iterdir():
            if (room / "__init__.py").exists():
                assert f"`{floor}/{room.name}/`" in page, room


def test_every_result_is_shown_or_linked():
    """A picture beside the results page that no page shows is lost."""
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    pictures = set((ROOT / "loops" / "recipes" / "results").rglob("*.png"))
    assert sorted(pictures - shown) == []
