"""Train from a checkout: `python run.py --workers 4 --async` is `shmps train --workers 4 --async`."""

import os
import signal
import sys

# Importing takes a moment; Ctrl-C or SIGTERM in it ends the command as it would later.
for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
    signal.signal(number, lambda number, frame, code=code: os._exit(code))

from shmps.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
