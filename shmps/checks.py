"""Rules for numbers and other arguments. A broken rule is a UsageError that names the argument and its value.

A `Rule` is a value, so that the declaration of a parameter can hold it (see `shmps.linear.parameters`).
This module imports no NumPy: the command line reads the rules for `--help`.
"""

import math
import numbers
import operator
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from shmps.errors import UsageError

_UNITS = " KMGT"
_SIZE = re.compile(r"(\d{1,15}(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_LARGEST = 2**62 - 1  # 64 bits hold the sum of two
_COMPARISONS = {
    "above": (">", operator.gt), "least": (">=", operator.ge),
    "below": ("<", operator.lt), "most": ("<=", operator.le),
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A requirement on a value."""

    type: str  # as a docstring names it
    broken: Callable[[Any], str]  # what the value must be and is not, or ""
    parse: Callable[[str], Any] = str  # a flag's text to a value
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> None:
        """Raise UsageError if `value`, of the argument `name`, breaks the rule."""
        if must := self.broken(value):
            raise UsageError(f"{{{name}}} must be {must}, got {{{name}.value!r:.80}}", **{name: value})


def optional(rule: Rule) -> Rule:
    """Accept None too."""
    return replace(rule, broken=lambda value: "" if value is None else rule.broken(value))


def integer(least: int) -> Rule:
    """Accept integers >= `least`, but no bool."""

    def broken(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            return f"an integer >= {least}"
        return "" if value <= _LARGEST else "an integer < 2**62"

    return Rule("int", broken, int)


def integer_or_bool(least: int) -> Rule:
    """Accept integers >= `least`, True and False."""
    rule = integer(least)
    return replace(rule, broken=lambda value: "" if isinstance(value, bool) else rule.broken(value))


def number(of: str = "", **limits: float) -> Rule:
    """Accept finite numbers within the limits `above`, `least`, `below` and `most`. `of` names a unit."""
    must = f"a finite number{f' of {of}' if of else ''} " + " and ".join(
        f"{_COMPARISONS[kind][0]} {limit}" for kind, limit in limits.items()
    )

    def broken(value: Any) -> str:
        fits = isinstance(value, numbers.Real) and _is_finite(value)
        within = fits and all(_COMPARISONS[kind][1](value, limit) for kind, limit in limits.items())
        return "" if within else must

    return Rule("float", broken, float)


def number_or_infinity(above: float) -> Rule:
    """Accept numbers above the limit, and infinity."""
    rule = number(above=above)

    def broken(value: Any) -> str:
        return "" if isinstance(value, numbers.Real) and value == math.inf else rule.broken(value)

    return replace(rule, broken=broken)


def one_of(*choices: str) -> Rule:
    """Accept these strings."""
    must = f"one of {', '.join(choices)}"
    type = "{" + ", ".join(f'"{choice}"' for choice in choices) + "}"
    return Rule(type, lambda value: "" if isinstance(value, str) and value in choices else must, str, choices)


def boolean() -> Rule:
    """Accept True and False, and NumPy's."""

    def broken(value: Any) -> str:
        return "" if getattr(value, "ndim", 0) == 0 and value in (True, False) else "True or False"

    return Rule("bool", broken)


def path(of: str) -> Rule:
    """Accept paths. `of` names what lies there."""

    def broken(value: Any) -> str:
        return "" if isinstance(value, str | os.PathLike) and value != "" else f"the path of {of}"

    return Rule("path-like", broken)


def byte_size() -> Rule:
    """Accept a number of bytes >= 1, also as text with a unit: see `bytes_of`."""

    def broken(value: Any) -> str:
        if isinstance(value, str):
            fits = _SIZE.fullmatch(value.strip()) is not None and 1 <= bytes_of(value) <= _LARGEST
        else:
            fits = not integer(least=1).broken(value)
        return "" if fits else "a number of bytes >= 1, such as 600M or 1.5G (units of 1024)"

    return Rule("int or str", broken)


def seed() -> Rule:
    """Accept an integer >= 0, a random generator of NumPy, or None: see `seed_of`."""

    def broken(value: Any) -> str:
        return "" if value is None or _is_generator(value) else integer(least=0).broken(value)

    return Rule("int, RandomState, Generator or None", broken, int)


def whole(name: str, value: Any, least: int) -> int:
    """Return an integer >= `least` as int. Raises UsageError for anything else."""
    integer(least).check(name, value)
    return int(value)


def positive(name: str, value: Any) -> float:
    """Return a finite number > 0 as float. Raises UsageError for anything else."""
    # The fast path of every push.
    if not (isinstance(value, (float, int)) and 0 < value <= sys.float_info.max):
        number(above=0).check(name, value)
    return float(value)


def not_negative(name: str, value: Any) -> float:
    """Return a finite number >= 0 as float. Raises UsageError for anything else."""
    number(least=0).check(name, value)
    return float(value)


def bytes_of(size: int | str) -> int:
    """Return a number of bytes as an integer, also of text such as 600M or 1.5G (units of 1024)."""
    if not isinstance(size, str):
        return int(size)
    match = _SIZE.fullmatch(size.strip())
    assert match is not None
    return int(float(match[1]) * 1024 ** _UNITS.index(match[2].upper() or " "))


def as_size(count: int) -> str:
    """Return `count` bytes >= 1 as text that `bytes_of` reads, to four digits."""
    power = min((count.bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{count / 1024**power:.4g}{_UNITS[power]}".rstrip()


def seed_of(random_state: Any) -> int:
    """Return an integer as it is; draw one from a random generator of NumPy or, for None, from a new one."""
    import numpy as np

    if random_state is None or isinstance(random_state, np.random.Generator):
        return int(np.random.default_rng(random_state).integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    return int(random_state)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer or a fraction beyond float64
        return False


def _is_generator(value: Any) -> bool:
    import numpy as np

    return isinstance(value, np.random.Generator | np.random.RandomState)
