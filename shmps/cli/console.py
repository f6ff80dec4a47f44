"""What a command prints: results to stdout, everything else to stderr."""

import contextlib
import os
import sys

from shmps.errors import OutOfSpace


def open_streams() -> None:
    """A stream is None where it was closed by whoever started us: what would be printed goes nowhere."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    with contextlib.suppress(AttributeError):  # a stand-in
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def say(message: str) -> None:
    tell(f"shmps: {message}")


def tell(line: str) -> None:
    """To stderr. Where that takes nothing, a training goes on all the same."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def output(text: str, end: str = "\n") -> None:
    """To stdout. Raises OutOfSpace where that is full; BrokenPipeError where nobody reads."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon_stdout()
        raise OutOfSpace(f"the output must go where there is room for it: {error.strerror}") from error


def abandon_stdout() -> None:
    """What is still in its buffer goes nowhere, when Python flushes it on its way out."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
