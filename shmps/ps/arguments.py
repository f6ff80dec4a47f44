"""Rules for the keys, values and arrays that callers pass. A broken rule raises UsageError."""

from typing import Any

import numpy as np

from shmps.errors import UsageError
from shmps.ps.kernels import cut


def sorted_keys(keys: Any, bounds: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Return keys (k,), sorted and unique, in [0, bounds[-1]), as int64. Fill `cuts`: see `kernels.cut`."""
    keys = np.asarray(keys)
    if keys.ndim != 1 or (keys.dtype.kind not in "iu" and keys.size):
        raise UsageError(f"keys must be (k,) int64, got shape {keys.shape} and dtype {keys.dtype}")
    keys = keys.astype(np.int64, copy=False)
    wrong = cut(keys, bounds, cuts)
    if wrong < 0:
        return keys
    got = f"got {keys[wrong]} at position {wrong}"
    if not 0 <= keys[wrong] < bounds[-1]:
        raise UsageError(f"keys must lie in [0, {bounds[-1]}), {got}")
    raise UsageError(f"keys must be sorted and unique, {got} after {keys[wrong - 1]}; use np.unique(keys)")


def matrix(values: Any, count: int, width: int) -> np.ndarray:
    """Return values (count, width), or (count,) if width is 1, as (count, width)."""
    try:
        values = np.asarray(values)
    except ValueError as error:
        raise UsageError(f"values must be one array of numbers: {error}") from None
    wanted = (count,) if width == 1 else (count, width)
    if values.shape not in (wanted, (count, width)):
        raise UsageError(f"values must have the shape {wanted}, got {values.shape}")
    if values.dtype.kind not in "fiub":
        raise UsageError(f"values must be float64, got dtype {values.dtype}")
    return values.reshape(count, width)


def initial_of(initial: Any, num_keys: int, width: int) -> np.ndarray:
    """Return a number as (); an array (num_keys,) (width 1) or (num_keys, width) as (num_keys, width)."""
    try:
        values = np.asarray(initial, dtype=np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"initial must be a number or an array of numbers, got {initial!r:.80}") from None
    if values.ndim == 0:
        return values
    if values.shape not in ((num_keys,), (num_keys, width)) or values.ndim == 1 < width:
        raise UsageError(
            f"initial must be a number or an array ({num_keys}, {width}), got shape {values.shape}"
        )
    return values.reshape(num_keys, width)


def writeable(out: Any, count: int, width: int, dtype: type) -> np.ndarray:
    """Return an array for answers, (count, width), or (count,) if width is 1, as (count, width)."""
    wanted = (count,) if width == 1 else (count, width)
    fits = isinstance(out, np.ndarray) and out.shape == wanted and out.dtype == dtype
    if not (fits and out.flags.c_contiguous and out.flags.writeable):
        raise UsageError(
            f"out must be a contiguous, writeable {dtype.__name__} array of shape {wanted}, got {out!r:.80}"
        )
    return out.reshape(count, width)


def replicas_of(replicas: Any, servers: int, in_place: bool) -> int:
    """Return `replicas`, which is 0, or 1 with two servers or more and updates that pass through servers."""
    if replicas and in_place:
        raise UsageError(
            "{replicas} must be 0 where hogwild workers update in place, got {replicas.value!r}: a replica "
            "follows what servers apply",
            replicas=replicas,
        )
    if replicas not in (0, 1) or replicas >= servers:
        raise UsageError(
            "{replicas} must be 0, or 1 with two servers or more, got {replicas.value!r} and {servers.given}",
            replicas=replicas,
            servers=servers,
        )
    return int(replicas)
