"""Parity certificates: how far each op, layer, model and optimizer of ours lies from Keras's, per dtype.

Prints the largest relative error of the values, of the gradients, and after k training steps (20 or, for transformers,
10 beside keras.Model.fit; 100 for optimizers). Exit code 1 if one exceeds its tolerance: float32 1e-5 (gradients and
steps 1e-4), float64 1e-10. With --json, `tolerance` is that of the values.
"""

import dataclasses
import sys
from pathlib import Path

from parts import command_line

EXAMPLES = """\
  python scripts/compare_keras.py all
  python scripts/compare_keras.py models.Inn
  python scripts/compare_keras.py involve --dtype float64       every entry with that word in its name
  python scripts/compare_keras.py all --full-size --dtype float32
"""


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("names", metavar="NAME", nargs="*", default=["all"], help="all, a name, or a part of names")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="one dtype only (default: both)")
    parser.add_argument(
        "--full-size", action="store_true", help="the transformers in their published sizes, 20 steps: takes minutes"
    )
    return parser


def main(arguments) -> int:
    # The catalog belongs to the tests, which are not installed: found beside this script's folder.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import tensorflow as tf

    from tests.catalog import ENTRIES, FULL_SIZE
    from tests.catalog.entry import certify

    # A GPU would round the factors of float32 products to TF32, which is no parity.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    entries = FULL_SIZE if arguments.full_size else ENTRIES
    chosen = [name for name in entries if any(word == "all" or word in name for word in arguments.names)]
    for word in arguments.names:
        if word != "all" and not any(word in name for name in entries):
            raise ValueError(f"no entry of the catalog is named like {word!r}; compare_keras.py all lists them")
    dtypes = [arguments.dtype] if arguments.dtype else ["float32", "float64"]

    width = max(map(len, chosen))
    print(f"{'':{width}}  {'dtype':8}{'values':>10}{'gradients':>11}{'k steps':>10}")
    certificates = []
    for name in chosen:
        for dtype in dtypes:
            certificate = certify(entries[name], dtype)
            certificates.append(certificate)
            errors = (certificate.values, certificate.gradients, certificate.steps)
            columns = ["-" if error is None else f"{error:.1e}" for error in errors]
            mark = "" if certificate.ok else "  FAILED"
            print(f"{name:{width}}  {dtype:8}{columns[0]:>10}{columns[1]:>11}{columns[2]:>10}{mark}", flush=True)
    failed = [certificate for certificate in certificates if not certificate.ok]
    print(f"\n{len(certificates) - len(failed)} of {len(certificates)} certificates hold")
    command_line.write_json(arguments.json, [dataclasses.asdict(certificate) for certificate in certificates])
    return 1 if failed else 0


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
