"""A parameter server on one host for sparse logistic regression.

The public names are those of `shmps.names`, and the modules `shmps.callbacks`, `shmps.errors`, `shmps.mapped`
and `shmps.report`. They are imported when they are first used: the command must handle Ctrl-C during the half
second that importing numba takes.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shmps import callbacks as callbacks
    from shmps import errors as errors
    from shmps import report as report
    from shmps.names import *  # noqa: F403
    from shmps.names import __all__ as __all__
else:

    def __getattr__(name: str) -> Any:
        """Return a module or a public name."""
        if importlib.util.find_spec(f"{__name__}.{name}"):
            return importlib.import_module(f"{__name__}.{name}")
        names = importlib.import_module(f"{__name__}.names")
        if name != "__all__" and name not in names.__all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(names, name))


def __dir__() -> list[str]:
    return sorted(importlib.import_module(f"{__name__}.names").__all__)
