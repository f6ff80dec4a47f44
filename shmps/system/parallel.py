"""The CPU cores of this process, and a kernel on all of them."""

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shmps.system.cgroups import cpu_quota


def usable_cores() -> int:
    """Return how many cores this process may use: the least of its affinity and the quotas of its cgroups.

    A quota of two and a half cores counts as three.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, cpu_quota())))


def parallel_map(kernel: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
    """Return `list(map(kernel, *arguments))`, with one call at a time per usable core.

    The kernel should release the GIL. All threads have ended when the function returns or raises, because
    nodes are forked from this process.
    """
    calls = list(zip(*arguments, strict=True))
    threads = min(usable_cores(), len(calls))
    if threads < 2:
        return [kernel(*call) for call in calls]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda call: kernel(*call), calls))
