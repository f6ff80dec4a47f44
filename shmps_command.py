"""The command `shmps`: Ctrl-C or SIGTERM ends it while its modules are imported as it would later."""

import os
import signal

# Importing takes a moment, and nothing is there yet that would have to be cleaned up.
for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
    signal.signal(number, lambda number, frame, code=code: os._exit(code))

from shmps.cli import main  # noqa: E402

__all__ = ["main"]
