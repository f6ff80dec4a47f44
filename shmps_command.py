"""The command `shmps`: outside of the package, whose modules take a moment to import."""

import os
import signal
import sys
from collections.abc import Sequence


def main(before: Sequence[str] = ()) -> int:
    """Run it with the process's arguments after those `before`; returns the exit code."""
    # While modules are imported nothing is there yet that would have to be cleaned up.
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        signal.signal(number, lambda number, frame, code=code: os._exit(code))

    from shmps.cli import main

    return main([*before, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
