"""What all scripts share: quiet TensorFlow, an allocator that keeps memory, one-line errors, --debug, --json, pictures.

Imported before TensorFlow, which the scripts import after their arguments are parsed: `--help` and a wrong argument
answer at once.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TextIO, cast

from loops.devices.allocator import keep_memory
from loops.run import disk

# TensorFlow's own log lines, of missing GPUs and CPU instructions, say nothing about the run. Its errors come as
# exceptions; what a GPU's libraries say of themselves shows with TF_CPP_MIN_LOG_LEVEL=0.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

INTERRUPTED = 130  # what a shell reports for a program stopped by Ctrl-C
READER_GONE = 141  # what a shell reports for a program stopped by a closed pipe
WRONG_INPUT = 2
FILES = ("json", "html", "markdown", "figure", "csv")  # the options by which a command writes more than it prints


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
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written: give a file in an existing folder")
    if not os.access(path if _is_device(path) else folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written: no permission to write there, give another folder")
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
        write_text(path, json.dumps(result, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; what is no file, such as /dev/stdout, as it comes."""
    if _is_device(path):
        path.write_text(text, encoding="utf-8")
    else:
        disk.write_text(path, text)


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file()


def need_matplotlib() -> None:
    """Raise ValueError, with the way out, where no pictures can be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("pictures need matplotlib, which is not installed: pip install -e '.[plots]'")


def save_figure(figure, path: Path) -> None:
    """Write a picture, whole or not at all, into a folder that is made if need be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{path.parent}: cannot be made ({error.strerror}): name another folder by --out") from error
    for text in figure.findobj(lambda part: hasattr(part, "set_text")):  # a run's name need not be UTF-8
        text.set_text(text.get_text().encode(errors="backslashreplace").decode())
    disk.write_atomically(path, lambda file: figure.savefig(file, format="png"))


def import_tensorflow_quietly() -> None:
    """Import TensorFlow without the log lines that its libraries print before they read TF_CPP_MIN_LOG_LEVEL.

    Raises:
        ValueError: if it cannot be loaded.
    """
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with _keras_put_off():
            import tensorflow as tf
    except (ImportError, OSError, MemoryError, SystemError) as error:  # a library is missing, or finds no memory
        lines = str(error).strip().splitlines()
        raise ValueError(
            f"TensorFlow cannot be loaded ({lines[0] if lines else type(error).__name__}): give it more memory "
            "(ulimit -v), or install it anew by pip install -e ."
        ) from error
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
    # Several trainings in one process trace one line of source several times; our own steps refuse a trace too many.
    tf.get_logger().addFilter(no_warning_of_traces)


@contextlib.contextmanager
def _keras_put_off() -> Iterator[None]:
    """Let TensorFlow be imported without Keras: with Matplotlib, which Keras loads, a quarter of the whole time.

    TensorFlow imports Keras for what it registers with SavedModel, and goes on where it cannot. Nothing here needs it,
    and whoever imports Keras afterwards gets the whole of it.
    """
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    if "tensorflow" in modules or "keras.src" in modules:
        yield
        return
    modules["keras.src"] = None  # Python's way to say that there is no such module
    try:
        yield
    finally:
        del modules["keras.src"]


def no_warning_of_traces(record: logging.LogRecord) -> bool:
    """Whether a line of TensorFlow's log is none of those that count how often a function was traced."""
    return "tf.function retracing" not in record.getMessage()


class Unread(io.TextIOBase):
    """Standard output of a command that also writes files: where it can print no more, it goes on without.

    The reader of a pipe (head, less) may go, or the disk that the output is sent to be full: the files are whole.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.stopped: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or, once that has failed, do nothing."""
        self._attempt(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or do nothing."""
        self._attempt(self.stream.flush)

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            self.stopped = self.stopped or error
            _discard(self.stream)  # what waits to be written fails no more


def _discard(stream: TextIO) -> None:
    """Send what is still written to a stream nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run(main: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> None:
    """Call main and exit with its code; a wrong input or a file that cannot be used ends in one line, code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else closed by the shell, or another's
            stream.reconfigure(errors="backslashreplace")  # no report is lost for a letter that a terminal lacks
    printed = sys.stdout
    if printed is not None and any(getattr(arguments, name, None) for name in FILES):
        sys.stdout = Unread(printed)
    try:
        keep_memory()
        import_tensorflow_quietly()
        code = main(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        if isinstance(sys.stdout, Unread) and sys.stdout.stopped is not None:
            raise sys.stdout.stopped
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        _discard(printed)  # it would fail once more when Python flushes it at exit
        code = READER_GONE
    except Exception as error:
        message = _message(error)
        if arguments.debug or message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        code = WRONG_INPUT
    finally:
        sys.stdout = printed
    sys.exit(code)


def _message(error: Exception) -> str | None:
    """What to tell of an error that the input or the machine is to blame for; None for a fault of the program."""
    tensorflow = sys.modules.get("tensorflow")  # not there, or half, where it cannot be loaded
    exhausted = getattr(getattr(tensorflow, "errors", None), "ResourceExhaustedError", MemoryError)
    if isinstance(error, (MemoryError, exhausted)):
        return f"out of memory: take less at once, such as a smaller --batch-size ({_one_line(error)[:200]})"
    return _one_line(error) if isinstance(error, (ValueError, OSError, FloatingPointError)) else None


def _one_line(error: Exception) -> str:
    """The error's message without line breaks, and without the number that Python prints before a system error."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(message.split())
