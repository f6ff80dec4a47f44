"""Rules for the keys, values and arrays that callers pass; UsageError gives the rule and what was found."""

from typing import Any

import numpy as np

from shmps.errors import UsageError
from shmps.ps.kernels import cut


def sorted_keys(keys: Any, bounds: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Keys (k,), sorted and unique, from 0 to bounds[-1] - 1; as int64. They are cut: see `kernels.cut`."""
    keys = np.asarray(keys)
    if keys.ndim != 1 or (keys.dtype.kind not in "iu" and keys.size):
        raise UsageError(f"keys are (k,) int64, found shape {keys.shape} and dtype {keys.dtype}")
    keys = keys.astype(np.int64, copy=False)
    wrong = cut(keys, bounds, cuts)
    if wrong < 0:
        return keys
    found = f"found {keys[wrong]} at position {wrong}"
    if not 0 <= keys[wrong] < bounds[-1]:
        raise UsageError(f"keys lie in [0, {bounds[-1]}), {found}")
    raise UsageError(f"keys are sorted and unique, {found} after {keys[wrong - 1]}; use np.unique(keys)")


def matrix(values: Any, count: int, width: int) -> np.ndarray:
    """Values (count, width), or (count,) if width is 1; as (count, width)."""
    try:
        values = np.asarray(values)
    except ValueError as error:
        raise UsageError(f"values are one array of numbers: {error}") from None
    wanted = (count,) if width == 1 else (count, width)
    if values.shape not in (wanted, (count, width)):
        raise UsageError(f"values have the shape {wanted} here, found {values.shape}")
    if values.dtype.kind not in "fiub":
        raise UsageError(f"values are float64, found dtype {values.dtype}")
    return values.reshape(count, width)


def initial_of(initial: Any, num_keys: int, width: int) -> np.ndarray:
    """A number, as (); or an array (num_keys,) if width is 1, or (num_keys, width), as (num_keys, width)."""
    try:
        values = np.asarray(initial, dtype=np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"initial is a number or an array of numbers, found {initial!r:.80}") from None
    if values.ndim == 0:
        return values
    if values.shape not in ((num_keys,), (num_keys, width)) or values.ndim == 1 < width:
        raise UsageError(f"initial is a number or an array ({num_keys}, {width}), found shape {values.shape}")
    return values.reshape(num_keys, width)


def writeable(out: Any, count: int, width: int, dtype: type) -> np.ndarray:
    """An array for answers, (count, width) or (count,) if width is 1; as (count, width)."""
    wanted = (count,) if width == 1 else (count, width)
    fits = isinstance(out, np.ndarray) and out.shape == wanted and out.dtype == dtype
    if not (fits and out.flags.c_contiguous and out.flags.writeable):
        raise UsageError(
            f"out is a contiguous, writeable {dtype.__name__} array of shape {wanted}, found {out!r:.80}"
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
