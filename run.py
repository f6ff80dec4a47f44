"""Train from a checkout: `python run.py --workers 4 --async` is `shmps train --workers 4 --async`."""

import sys

from shmps.cli.command import main

if __name__ == "__main__":
    sys.exit(main(["train"]))
