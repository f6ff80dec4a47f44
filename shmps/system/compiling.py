"""The decorator of kernels: numba compiles them, and caches the machine code on the disk.

Without a cache (no writable folder, a full disk, a damaged file) a kernel is compiled again. That is a
warning, once in a program, and no error.
"""

import contextlib
import logging
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
    """Return the decorator `numba.njit(**options)`, with a cache if one is possible."""

    def decorate(function: Callable[..., Any]) -> Any:
        kernel = njit(**options)(function)
        if isinstance(kernel, Dispatcher):  # with NUMBA_DISABLE_JIT it is the function itself
            kernel._cache = _cache_of(function)  # type: ignore[attr-defined]
        return kernel

    return decorate


def _cache_of(function: Callable[..., Any]) -> Any:
    try:
        return _Cache(function)
    except (RuntimeError, OSError) as error:  # RuntimeError: no folder that numba knows will do
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
        except Exception:  # a damaged file can raise anything; the newly compiled kernel replaces it
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _tell(f"{error.strerror}: {self.cache_path}")


def _tell(reason: str) -> None:
    """Warn once in a program, in the main process only: nodes are silent."""
    global _told
    if not _told and multiprocessing.parent_process() is None:
        _told = True
        warnings.warn(
            f"the cache of compiled kernels must be in a writable folder, got none ({reason}): kernels are "
            f"compiled at every start, which takes seconds; set NUMBA_CACHE_DIR to such a folder",
            NotCached,
            stacklevel=2,
        )


kernel: Any = compiled(error_model="numpy")  # x / 0 is inf, as in numpy

# Hot loops cast indices to `at`: a negative index counts from the end, so numba checks the sign of a signed
# index at every access (1.7 times as slow in `linear.kernels.gradient`).
at = np.uint64


def announce(*kernels: Any) -> None:
    """Log that kernels will be compiled, unless `kernels` are in the cache, or no cache is possible."""
    if not all(map(_is_kept, kernels)):
        # At this level Python shows it on stderr, if the program does not configure logging.
        logging.getLogger("shmps").warning("numba compiles the kernels: once on this machine, some seconds")


def _is_kept(kernel: Any) -> bool:
    if getattr(kernel, "signatures", True):  # this process has compiled or loaded it; without the JIT: True
        return True
    folder = getattr(getattr(kernel, "stats", None), "cache_path", None)
    name = f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__}"
    return folder is None or any(Path(folder).glob(f"{name}-*.nbi"))
