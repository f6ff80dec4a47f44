"""The estimator's docstring: its table of parameters comes from their declarations."""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import TypeVar

from shmps.linear.declaration import Declaration
from shmps.linear.parameters import described

_WIDTH = 100
_Estimator = TypeVar("_Estimator", bound=type)


def with_parameters(declared: Mapping[str, Declaration]) -> Callable[[_Estimator], _Estimator]:
    """Decorate a class: replace `{parameters}` in its docstring by their table, as numpydoc writes it."""

    def decorate(estimator: _Estimator) -> _Estimator:
        if estimator.__doc__:  # python -OO has none
            table = "\n".join(map(_entry, declared.values()))
            estimator.__doc__ = inspect.cleandoc(estimator.__doc__).replace("{parameters}", table)
        return estimator

    return decorate


def _entry(each: Declaration) -> str:
    default = f'"{each.default}"' if isinstance(each.default, str) else repr(each.default)
    type = f"{each.rule.type}, " + ("optional" if each.default is None else f"default={default}")
    unset = "" if each.unset is None else f" (default: {each.unset})"
    text = described(f"{each.help[0].upper()}{each.help[1:]}{unset}. {each.more}".strip())
    lines = textwrap.fill(text, _WIDTH, break_on_hyphens=False)
    return f"{each.name} : {type}\n{textwrap.indent(lines, '    ')}"
