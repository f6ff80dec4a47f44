"""The command `shmps`, before anything that takes long to import."""

import signal
import sys
from collections.abc import Sequence

from shmps.cli.early import end_at_signals


def main(before: Sequence[str] = ()) -> int:
    """Run it with the arguments `before`, then those of the process. Return the exit code."""
    end_at_signals()  # until cli.main installs its handlers

    from shmps.cli.main import main

    code = main([*before, *sys.argv[1:]])
    # The exit code is decided. Python removes its handlers before the process ends, so block the signals; a
    # signal that is blocked in this thread goes to another one, of a library, so ignore them as well.
    numbers = (signal.SIGINT, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    return code
