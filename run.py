"""Train from a checkout: `python run.py --workers 4 --async` is `shmps train --workers 4 --async`."""

import os
import signal
import sys

if __name__ == "__main__":
    # Importing takes a moment, and nothing is there yet that would have to be cleaned up.
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        signal.signal(number, lambda number, frame, code=code: os._exit(code))

    from shmps.cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
