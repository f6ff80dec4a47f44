"""The decorator of kernels: numba compiles them, and keeps what it compiled on the disk where it can.

Where it can not (no folder that can be written to, a full disk, a damaged file), a kernel is compiled again:
that is told once, and is no error.
"""

import contextlib
import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache, NullCache
from numba.core.dispatcher import Dispatcher

from shmps.errors import NotCached

_told = False


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit(**options)`, with a cache where there can be one."""

    def decorate(function: Callable[..., Any]) -> Any:
        kernel = njit(**options)(function)
        if isinstance(kernel, Dispatcher):  # it is the function itself where NUMBA_DISABLE_JIT is set
            kernel._cache = _cache_of(function)  # type: ignore[attr-defined]
        return kernel

    return decorate


def _cache_of(function: Callable[..., Any]) -> Any:
    try:
        return _Cache(function)
    except (RuntimeError, OSError) as error:  # RuntimeError: numba has tried all folders that it knows
        return _NoCache(str(error))


class _NoCache(NullCache):
    def __init__(self, reason: str):
        self._reason = reason

    def save_overload(self, sig, data):
        _tell(self._reason)


class _Cache(FunctionCache):
    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except OSError:
            return None
        except Exception:  # a damaged file can raise anything; what is compiled now takes its place
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _tell(f"{error.strerror}: {self.cache_path}")


def _tell(reason: str) -> None:
    """Once in a program: its nodes are silent."""
    global _told
    if not _told and multiprocessing.parent_process() is None:
        _told = True
        warnings.warn(
            f"what numba compiles must be kept in a folder that can be written to, found none ({reason}): it "
            f"is compiled at every start, which takes seconds; set NUMBA_CACHE_DIR to such a folder",
            NotCached,
            stacklevel=2,
        )


kernel: Any = compiled(error_model="numpy")  # x / 0 is inf, as in numpy

# Indices are cast to `at` where a loop is hot: numba lets a signed index count from the end, and looks at its
# sign every time (1.7 times as slow in `linear.kernels.gradient`).
at = np.uint64


def is_kept(kernel: Any) -> bool:
    """Whether numba keeps a compiled `kernel` on the disk, or cannot keep any."""
    folder = kernel.stats.cache_path
    name = f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__}"
    return folder is None or any(Path(folder).glob(f"{name}-*.nbi"))
