"""The command `shmps`, before anything that takes a moment to import."""

import signal
import sys
from collections.abc import Sequence

from shmps.cli.early import end_at_signals


def main(before: Sequence[str] = ()) -> int:
    """Run it with the process's arguments after those `before`; returns the exit code."""
    end_at_signals()  # until cli has handlers of its own

    from shmps.cli.main import main

    code = main([*before, *sys.argv[1:]])
    # All is done and said; a handler of Python's is gone before the process is. A signal that is blocked in
    # this thread comes to another one, of a library, say: so they are ignored as well.
    numbers = (signal.SIGINT, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    return code
