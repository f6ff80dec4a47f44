"""Processes: run at once and timed, looked at and signalled from outside."""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path


def at_once(count: int, prepare: Callable[[int], Callable[[], None]]) -> float:
    """Seconds from the start of the first of `count` processes to the end of the last.

    What is timed is what `prepare(rank)` returns; it is called in the process, before all begin together.
    """
    context = multiprocessing.get_context("fork")
    spans, barrier = context.SimpleQueue(), context.Barrier(count)

    def run(rank: int) -> None:
        work = prepare(rank)
        barrier.wait()
        began = time.monotonic()
        work()
        spans.put((began, time.monotonic()))

    processes = [context.Process(target=run, args=(rank,)) for rank in range(count)]
    for process in processes:
        process.start()
    began, ended = zip(*(spans.get() for _ in processes), strict=True)
    for process in processes:
        process.join()
    return max(ended) - min(began)


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
    with contextlib.suppress(OSError):  # it has ended
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # it is closed
                count += "memfd:shmps" in os.readlink(f"/proc/{pid}/fd/{name}")
    return count


def children(pid: int) -> list[int]:
    """The processes that the main thread of a process started and that are still there."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def memory_of(pid: int) -> int:
    """Bytes of anonymous and of shared memory that a process has in use; 0 if it has ended."""
    try:
        rollup, status = (Path(f"/proc/{pid}/{name}").read_text() for name in ("smaps_rollup", "status"))
    except OSError:
        return 0
    lines = (line.split() for line in (*rollup.splitlines(), *status.splitlines()))
    return sum(1024 * int(words[1]) for words in lines if words[0] in ("Anonymous:", "RssShmem:"))
