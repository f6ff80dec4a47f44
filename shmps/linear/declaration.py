"""The means to declare parameters, as `shmps.linear.parameters` does, and the rules of single parameters.

No NumPy is imported here: the command line reads the declarations for `--help`.
"""

from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shmps.checks import Rule, integer, number, one_of, optional

NODES, TRAINING, OUTPUT = "nodes", "training", "what is shown and kept"  # the sections of `--help`
ENGINES = ("processes", "inline", "ray")
_SLOWEST = 1000  # times


@dataclass(frozen=True)
class Flag:
    """The flag of a parameter on the command line."""

    metavar: str | None = None
    names: tuple[str, ...] = ()  # default: the parameter's name
    parse: Callable[[str], Any] | None = None  # the text to a value; default: as the rule parses it
    exclusive: str = ""  # a command takes only one of the flags that have the same word here
    each: Mapping[str, str] = field(default_factory=dict)  # values that are flags of their own, with help


@dataclass(frozen=True)
class Declaration:
    """One parameter. `help` and `more` are templates that may name other parameters (see `shmps.errors`)."""

    name: str
    default: Any
    rule: Rule
    help: str  # for `--help` and the docstring; begins with a small letter, has no period
    more: str  # sentences for the docstring alone
    section: str
    flag: Flag | None  # None: only Python has the parameter
    lbfgs: tuple[Any, ...] | None  # the values that L-BFGS takes; others select minibatches. None: all
    unset: Any  # the value that None stands for in a training by minibatches


def parameter(
    default: Any,
    rule: Rule,
    help: str,
    *,
    more: str = "",
    section: str = TRAINING,
    flag: Flag | None = Flag(),
    lbfgs: tuple[Any, ...] | None = None,
    unset: Any = None,
) -> Any:
    """Return the field of a dataclass that is a parameter: see `Declaration`. A default of None is valid."""
    rule = optional(rule) if default is None else rule
    about = {"rule": rule, "help": help, "more": more, "section": section, "flag": flag, "lbfgs": lbfgs}
    return field(default=default, metadata=about | {"unset": unset})


def weights_by_label() -> Rule:
    """Accept "balanced", or a dict of weights by label."""

    def broken(value: Any) -> str:
        fits = value == "balanced" if isinstance(value, str) else isinstance(value, dict)
        return "" if fits else "'balanced' or a dict of weights by label"

    return Rule('dict or "balanced"', broken, _weights_by_text)


def _weights_by_text(text: str) -> dict[str, float] | str:
    """Return "balanced", or weights by the text of the labels."""
    if text == "balanced":
        return text
    weights = {}
    for part in text.split(","):
        label, equals, weight = part.rpartition("=")
        try:
            weights[label] = float(weight)
        except ValueError:
            equals = ""
        if not equals:
            raise ArgumentTypeError(f"must be balanced, or LABEL=WEIGHT,... such as yes=2,no=1, got {text!r}")
    return weights


def rank_and_factor() -> Rule:
    """Accept a pair: a worker's rank, and a factor from 1 up."""

    def broken(value: Any) -> str:
        try:
            rank, factor = value
            fits = isinstance(value, tuple | list) and not integer(least=0).broken(rank)
            fits = fits and not number(least=1, most=_SLOWEST).broken(factor)
        except (TypeError, ValueError):
            fits = False
        return "" if fits else f"a pair of a worker's rank and a factor from 1 to {_SLOWEST}"

    return Rule("tuple (rank, factor)", broken, _pair)


def _pair(text: str) -> tuple[int, float]:
    try:
        rank, factor = text.split(":")
        return int(rank), float(factor)
    except ValueError:
        raise ArgumentTypeError(
            f"must be RANK:FACTOR, such as 0:5 to make worker 0 five times slower, got {text!r}"
        ) from None


def engine() -> Rule:
    """Accept the names of the engines, or a value that says more of one."""
    names = one_of(*ENGINES)

    def broken(value: Any) -> str:
        if not names.broken(value):
            return ""
        from shmps.engines.choice import Engines  # imports NumPy

        return (
            ""
            if isinstance(value, Engines)
            else f"{names.broken(value)}, or a shmps.Inline, Ray or Rehearsal"
        )

    return replace(names, type=f"{names.type}, Inline, Ray or Rehearsal", broken=broken)


def list_of_callbacks() -> Rule:
    """Accept a list or a tuple. `Settings` checks the methods of the callbacks."""
    return Rule("list", lambda value: "" if isinstance(value, list | tuple) else "a list")


def seconds(text: str) -> float | None:
    """Return seconds; 0 stands for None."""
    return float(text) or None
