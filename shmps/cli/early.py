"""Signals while modules are imported: nothing needs to be cleaned up yet."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


def end_at_signals() -> dict[int, object]:
    """Let Ctrl-C and SIGTERM end this process at once, silently. Return the handlers before."""
    return {
        number: signal.signal(number, lambda number, frame: os._exit(128 + number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }


@contextmanager
def ending_at_signals() -> Iterator[None]:
    """Do the same in the block: an exception that a signal raises inside an import could be lost."""
    before = end_at_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
