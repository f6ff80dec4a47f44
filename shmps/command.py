"""The command `shmps`, before anything that takes a moment to import."""

import os
import signal
import sys
from collections.abc import Sequence


def main(before: Sequence[str] = ()) -> int:
    """Run it with the process's arguments after those `before`; returns the exit code."""
    # While modules are imported nothing is there yet that would have to be cleaned up.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os._exit(128 + number))

    from shmps.cli import main

    code = main([*before, *sys.argv[1:]])
    # All is done and said; a handler of Python's is gone before the process is.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    return code
