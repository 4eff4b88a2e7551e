"""Curve certificates: how far each run's learning curve lies from the published one, over all epochs.

A run is set beside what its text printed, where its settings are the text's (seed, precision and devices may differ).
Exit code 1 if a validation curve is further than 0.015 (root mean square) from the published one and no note.txt in
the run's folder says why.
"""

import dataclasses
from pathlib import Path

from parts import command_line

EXAMPLES = """\
  python scripts/compare_published.py                       the runs of loops/recipes/results
  python scripts/compare_published.py runs/vit_cifar100 --figure vit.png
  python scripts/compare_published.py --markdown certificates.md
"""
RESULTS = Path(__file__).resolve().parents[1] / "loops" / "recipes" / "results"


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument(
        "runs", metavar="RUN", nargs="*", type=Path, help="run folders (default: loops/recipes/results)"
    )
    parser.add_argument(
        "--figure", metavar="FILE", type=command_line.writable_file, help="draw the curves over the published ones"
    )
    parser.add_argument(
        "--markdown", metavar="FILE", type=command_line.writable_file, help="write the table as Markdown, notes below"
    )
    return parser


def main(arguments) -> int:
    from loops.studies.certificates import LIMIT, certify, table

    folders = arguments.runs or sorted(path.parent for path in RESULTS.glob("*/recipe.json"))
    certificates = {}
    for folder in folders:
        certificate = certify(folder)
        if certificate is not None:
            certificates[folder] = certificate
        elif arguments.runs:
            raise ValueError(f"{folder}: nothing was published of its settings: name a run of a recipe as it stands")
    own = list(certificates.values())
    print(table(own), end="", flush=True)
    failed = [certificate.run for certificate in own if not certificate.ok]
    print(f"\n{len(own) - len(failed)} of {len(own)} curves are the published ones within {LIMIT}, or say why not")
    if arguments.figure is not None:
        command_line.need_matplotlib()
        command_line.save_figure(_figure(list(certificates)), arguments.figure)
    if arguments.markdown is not None:
        command_line.write_text(arguments.markdown, table(own))
    command_line.write_json(
        arguments.json, [dataclasses.asdict(certificate) | {"ok": certificate.ok} for certificate in own]
    )
    return 1 if failed else 0


def _figure(folders: list[Path]):
    from loops.recipes.published import published_runs
    from loops.run.runs import Run
    from tfcore.inspect.figures import figures

    runs = {folder.resolve().name: Run.open(folder) for folder in folders}
    published = {name: published_runs(run.recipe)[0].history() for name, run in runs.items()}
    return figures.curves({name: run.read_history() for name, run in runs.items()}, published=published)


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
