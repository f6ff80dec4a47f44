"""Processes and what they hold, looked at and signalled from outside."""

import os
from pathlib import Path


def send(pid: int, number: int) -> bool:
    """A signal; whether there was a process to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def nameless_files(pid: int) -> int:
    """How many nameless files of shmps a process holds open."""
    count = 0
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            count += "memfd:shmps" in os.readlink(path)
        except OSError:
            continue
    return count
