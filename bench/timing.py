"""Timing: one call, several processes at once; and the progress bar of a benchmark."""

import multiprocessing
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm


def seconds(call: Callable[..., Any], *args: Any) -> float:
    """Return the wall time of one call."""
    began = time.perf_counter()
    call(*args)
    return time.perf_counter() - began


def at_once(count: int, prepare: Callable[[int], Callable[[], None]]) -> float:
    """Return the seconds from the start of the first of `count` processes to the end of the last.

    Each process calls `prepare(rank)`, waits for the others, and then calls what `prepare` returned. Only
    that second call is timed.
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


def progress(name: str, total: int | None = None, unit: str = "it") -> Any:
    """Return a progress bar that is hidden without a terminal and cleared at the end."""
    return tqdm(total=total, desc=name, unit=unit, disable=None, leave=False)
