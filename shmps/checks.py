"""Rules for numbers and arrays from outside; each raises UsageError with the rule and what was found."""

import math
import numbers
import re
from typing import Any

import numpy as np

from shmps.errors import UsageError

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
