"""The cores of this machine, and one kernel on all of them."""

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shmps.system.cgroups import cpu_quota


def usable_cores() -> int:
    """Cores that this process may use: the least of its affinity and of the quotas of its cgroups.

    A quota of two and a half cores counts as three.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, cpu_quota())))


def on_all_cores(kernel: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
    """`list(map(kernel, *arguments))`, as many calls at a time as there are cores.

    For kernels that let go of the interpreter. The threads have ended when it returns or raises: nodes are
    forked from this process.
    """
    calls = list(zip(*arguments, strict=True))
    threads = min(usable_cores(), len(calls))
    if threads < 2:
        return [kernel(*call) for call in calls]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda call: kernel(*call), calls))
