"""Looking at processes from outside."""

import contextlib
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """The processes that any thread of `pid` started and that are still there."""
    children = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            children += [int(child) for child in path.read_text().split()]
    return children


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
