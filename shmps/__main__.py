"""`python -m shmps`: the command `shmps`."""

import sys

from shmps.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
