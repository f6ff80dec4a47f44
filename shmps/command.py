"""The command `shmps`, before anything that takes a moment to import."""

import signal
import sys
from collections.abc import Sequence

from shmps.early import end_at_signals


def main(before: Sequence[str] = ()) -> int:
    """Run it with the process's arguments after those `before`; returns the exit code."""
    end_at_signals()  # until cli has handlers of its own

    from shmps.cli import main

    code = main([*before, *sys.argv[1:]])
    # All is done and said; a handler of Python's is gone before the process is.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    return code
