"""Rules for numbers that come from outside; each raises UsageError with the rule and what was found."""

import math
import numbers
from typing import Any

from shmps.errors import UsageError


def whole(name: str, value: Any, least: int) -> int:
    """A whole number from `least` up that 64 bits hold; True is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise UsageError(f"{name} is a whole number from {least} up, found {value!r}")
    if int(value) >= 2**62:
        raise UsageError(f"{name} is a whole number below 2**62, found {value}")
    return int(value)


def positive(name: str, value: Any) -> float:
    if not (isinstance(value, numbers.Real) and math.isfinite(value) and float(value) > 0):
        raise UsageError(f"{name} is a finite number above 0, found {value!r}")
    return float(value)


def not_negative(name: str, value: Any) -> float:
    if not (isinstance(value, numbers.Real) and math.isfinite(value) and float(value) >= 0):
        raise UsageError(f"{name} is a finite number from 0 up, found {value!r}")
    return float(value)
