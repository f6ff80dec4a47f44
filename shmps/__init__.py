"""A parameter server on one host for sparse logistic regression.

What is in it is imported when it is first asked for: the command must hear Ctrl-C in the half second that
numba takes.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shmps.names import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """A module, or a public name."""
    if importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    names = importlib.import_module(f"{__name__}.names")
    if name != "__all__" and name not in names.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(names, name))


def __dir__() -> list[str]:
    return __getattr__("__all__")
