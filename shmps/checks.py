"""Rules for numbers and arrays from outside; each raises UsageError with the rule and what was found."""

import math
import numbers
import re
from typing import Any

import numpy as np

from shmps.errors import UsageError
from shmps.kernels import cut

_UNITS = " KMGT"
_SIZE = re.compile(r"(\d{1,15}(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)


def whole(name: str, value: Any, least: int) -> int:
    """A whole number from `least` up that 64 bits hold; True is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise UsageError(f"{name} is a whole number from {least} up, found {value!r}")
    if int(value) >= 2**62:
        raise UsageError(f"{name} is a whole number below 2**62, found {value}")
    return int(value)


def size(name: str, value: Any) -> int:
    """Bytes, from 1 up: a whole number, or text such as 600M or 1.5G (of 1024)."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise UsageError(
                f"{name} is a number of bytes, or as in 600M and 1.5G (of 1024), found {value!r}"
            )
        value = int(float(match[1]) * 1024 ** _UNITS.index(match[2].upper() or " "))
    return whole(name, value, least=1)


def as_size(count: int) -> str:
    """So many bytes, from 1 up, in the form that `size` takes, to four digits."""
    power = min((count.bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{count / 1024**power:.4g}{_UNITS[power]}".rstrip()


def seed_of(random_state: Any) -> int:
    """A whole number from 0 up is the seed itself; None or one of numpy's generators: it is drawn.

    Raises UsageError for anything else.
    """
    if random_state is None or isinstance(random_state, np.random.Generator):
        return int(np.random.default_rng(random_state).integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    return whole("random_state", random_state, least=0)


def positive(name: str, value: Any) -> float:
    if not (isinstance(value, (float, int, numbers.Real)) and math.isfinite(value) and float(value) > 0):
        raise UsageError(f"{name} is a finite number above 0, found {value!r}")
    return float(value)


def not_negative(name: str, value: Any) -> float:
    if not (isinstance(value, numbers.Real) and math.isfinite(value) and float(value) >= 0):
        raise UsageError(f"{name} is a finite number from 0 up, found {value!r}")
    return float(value)


def replicas_of(replicas: Any, servers: int, in_place: bool) -> int:
    """0, or 1 where there is another server to keep it, and all updates pass through servers."""
    if replicas and in_place:
        raise UsageError(
            f"a replica follows what servers apply, and hogwild workers update in place; found "
            f"replicas={replicas!r}; leave out one or the other"
        )
    if replicas not in (0, 1) or replicas >= servers:
        raise UsageError(f"replicas is 0, or 1 with two servers or more; found {replicas!r} with {servers}")
    return int(replicas)


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
