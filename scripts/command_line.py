"""What all scripts share: quiet TensorFlow, an allocator that keeps memory, one-line errors, --debug and --json.

Imported before TensorFlow, which the scripts import after their arguments are parsed: `--help` and a wrong argument
answer at once.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from loops.allocator import keep_memory

# Warnings about missing GPUs and CPU instructions say nothing about the run; errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

INTERRUPTED = 130  # what a shell reports for a program stopped by Ctrl-C
WRONG_INPUT = 2


def stop_code(stop: BaseException) -> int:
    """The exit code after a KeyboardInterrupt or an Interrupted of the loop: 130 by Ctrl-C, 143 by SIGTERM.

    128 + the signal's number is what a shell reports for a program that a signal ended, and what Slurm and Kubernetes
    therefore read as "it was stopped", not as "it failed".
    """
    return 128 + getattr(stop, "signal", signal.SIGINT)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, `error: what, where, what to do`, exit code 2."""

    def __init__(self, description: str, examples: str):
        super().__init__(
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--json", metavar="FILE", type=writable_file, help="also write the result as JSON")
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str):
        print(f"error: {message}; see {Path(sys.argv[0]).name} --help", file=sys.stderr)
        sys.exit(WRONG_INPUT)


def writable_file(text: str) -> Path:
    """Parse a path to write to; refused now, not after an hour's work."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written: give a file in an existing folder")
    return path


def setting(text: str) -> tuple[str, str]:
    """Parse FIELD=VALUE of `--set`."""
    field, equals, value = text.partition("=")
    if not equals or not field:
        raise argparse.ArgumentTypeError(f"expected FIELD=VALUE, got {text!r}")
    return field, value


def write_json(path: Path | None, result: object) -> None:
    """Write the result where `--json` asks for it."""
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n")


def import_tensorflow_quietly() -> None:
    """Import TensorFlow without the log lines that its libraries print before they read TF_CPP_MIN_LOG_LEVEL."""
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def run(main: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> None:
    """Call main and exit with its code; a wrong input or a file that cannot be used ends in one line, code 2."""
    try:
        keep_memory()
        import_tensorflow_quietly()
        code = main(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone. Standard output would fail once more when Python flushes it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (ValueError, OSError, FloatingPointError) as error:
        if arguments.debug:
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        code = WRONG_INPUT
    sys.exit(code)


def _one_line(error: Exception) -> str:
    """The error's message without line breaks, and without the number that Python prints before a system error."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(message.split())
