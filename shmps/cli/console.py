"""The output of a command: results go to stdout, everything else to stderr."""

import contextlib
import os
import sys

from shmps.errors import OutOfSpace


def open_streams() -> None:
    """Replace a stream that was closed before the start, which Python has as None, by /dev/null."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    with contextlib.suppress(AttributeError):  # another object in its place
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def say(message: str) -> None:
    tell(f"shmps: {message}")


def tell(line: str) -> None:
    """Print a line to stderr. If stderr has no room, a training continues nevertheless."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def output(text: str, end: str = "\n") -> None:
    """Print to stdout. Raises OutOfSpace if it is full, BrokenPipeError if it has no reader."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon_stdout()
        raise OutOfSpace(f"stdout must have room for the output, got: {error.strerror}") from error


def abandon_stdout() -> None:
    """Discard the buffer of stdout: Python would flush it at exit, and print an error."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
