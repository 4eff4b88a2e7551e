"""Make the tables of README.md and of the results page anew, from the files in loops/recipes/results."""

from parts import command_line

EXAMPLES = """\
  python scripts/results_tables.py             write the tables into the pages that mark them
  python scripts/results_tables.py --check     write nothing; exit code 1 if a table differs from its files
"""


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a table differs")
    return parser


def main(arguments) -> int:
    from loops.run import disk
    from loops.studies.results import files, pages

    differing = []
    for page in pages.PAGES:
        before = page.read_text()
        after = pages.with_tables(before)
        name = str(page.relative_to(files.ROOT))
        if after == before:
            print(f"{name}: its tables are those of the files")
            continue
        differing.append(name)
        if arguments.check:
            print(f"{name}: a table differs from its files; run python scripts/results_tables.py")
        else:
            disk.write_text(page, after)
            print(f"{name}: written")
    command_line.write_json(arguments.json, {"differing": differing})
    return 1 if arguments.check and differing else 0


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
