"""Signals while modules are imported: there is nothing yet that would have to be cleaned up."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


def end_at_signals() -> dict[int, object]:
    """Let Ctrl-C and SIGTERM end this process at once, without a word; returns the handlers before."""
    return {
        number: signal.signal(number, lambda number, frame: os._exit(128 + number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }


@contextmanager
def ending_at_signals() -> Iterator[None]:
    """The same in the block. An exception that is raised in an import could be lost there."""
    before = end_at_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
