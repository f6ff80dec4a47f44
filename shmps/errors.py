"""Errors and warnings. A message states what must hold, what was got, and what to do.

A message may name parameters. Then it is a template for `str.format`, with the parameters as keywords::

    raise UsageError("{workers} must be an integer >= 1, got {workers.value!r}", workers=workers)

Python shows `workers must be an integer >= 1, got 0`, the command line `--workers must be ...`, and a caller
finds `error.parameters == {"workers": 0}`.
"""

import ast
import pickle
import signal
import sys
import warnings
from collections.abc import Callable
from string import Formatter
from typing import Any

__all__ = [
    "DataError", "Diverged", "NodeDied", "NotCached", "NotConverged", "NotNumbers", "OutOfSpace",
    "ReplayDiffers", "ShmpsError", "UnstableRate", "UpdaterFailed", "UsageError", "WireError",
    "WorkerFailed", "WorseThanConstant",
]  # fmt: skip

NO_THREAD = 71  # the exit code of a node that could not start a thread; EX_OSERR of sysexits.h


class Named:
    """A parameter in the template of a message.

    `{workers}` is the parameter's name, `{workers.value}` its value, `{workers.given}` both as Python code,
    and `{workers:2}` the same with the value 2.
    """

    def __init__(self, name: str, value: Any):
        self.name, self.value = name, value

    @property
    def given(self) -> str:
        return self.set_to(self.value)

    def set_to(self, value: Any) -> str:
        return f"{self.name}={literal(value)}"

    def __format__(self, code: str) -> str:
        return self.set_to(ast.literal_eval(code)) if code else self.name


def literal(value: Any) -> str:
    """Return a value as Python code, floats with six digits, and cut to 80 characters."""
    return f"{value:g}" if isinstance(value, float) else f"{value!r:.80}"


def verbatim(text: object) -> str:
    """Return a text as a template shows it, with braces too: a path, a label."""
    return str(text).replace("{", "{{").replace("}", "}}")


def named_in(template: str) -> set[str]:
    """Return the parameters that a template names."""
    return {field.partition(".")[0] for _, field, _, _ in Formatter().parse(template) if field}


class NamingParameters(Exception):
    """An error or a warning. With `parameters`, the message is a template that names them."""

    def __init__(self, *args: Any, **parameters: Any):
        self.parameters = parameters
        if parameters:
            self._template = str(args[0])
            args = (self.told(Named),)
        super().__init__(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave out parameters that cannot be pickled: an error must reach the caller of its worker."""
        state = vars(self)
        try:
            pickle.dumps(self.parameters)
        except Exception:
            state = state | {"parameters": {}}
        return type(self), self.args, state

    @property
    def template(self) -> str:
        """The message as a template, in which parameters have their names in braces."""
        return self._template if self.parameters else verbatim(self)

    def told(self, named: Callable[[str, Any], Named]) -> str:
        """Return the message with each parameter as `named(name, value)` formats it."""
        if not self.parameters:
            return str(self)
        return self._template.format(**{name: named(name, value) for name, value in self.parameters.items()})


class ShmpsError(NamingParameters):
    """The base class of the package's errors. The command line ends with their `exit_code`."""

    exit_code = 1


class UsageError(ShmpsError, ValueError):
    """An argument breaks a rule."""

    exit_code = 2


class DataError(ShmpsError, ValueError):
    """A data or model file is missing, unreadable, or breaks a rule of its format."""

    exit_code = 3

    @classmethod
    def at(cls, place: str, fault: ValueError) -> "DataError":
        """Return an error with the message of `fault`, after the place where it was found."""
        if isinstance(fault, NamingParameters):
            return cls(f"{verbatim(place)}: {fault.template}", **fault.parameters)
        return cls(f"{place}: {fault}")


class NotNumbers(DataError, TypeError):
    """Data that must be numbers is something else."""


class NodeDied(ShmpsError, RuntimeError):
    """A scheduler, server or worker process died and was not replaced."""

    exit_code = 4

    def __init__(self, role: str, rank: int, exit_code: int):
        super().__init__(role, rank, exit_code)
        self.role, self.rank, self.node_exit_code = role, rank, exit_code

    def __str__(self) -> str:
        return (
            f"{self.role} {self.rank} died ({how_it_ended(self.node_exit_code)}) and was not replaced: start "
            "the training again; if nobody killed it on purpose, look for its output above, or in the "
            "kernel's log (a lack of memory shows as SIGKILL, mapped data that was cut short as SIGBUS)"
        )


class WorkerFailed(ShmpsError, RuntimeError):
    """A function that ran on the cluster raised. It has the worker's rank and the traceback as text."""

    exit_code = 4

    def __init__(self, rank: int, traceback: str):
        super().__init__(rank, traceback)
        self.rank, self.traceback = rank, traceback

    def __str__(self) -> str:
        return f"the function raised in worker {self.rank}:\n{self.traceback.rstrip()}"


class UpdaterFailed(ShmpsError, RuntimeError):
    """An updater raised, in the trial when a cluster is made or in a server. `cause` is text."""

    exit_code = 4

    def __init__(self, updater: str, rank: int, cause: str):
        super().__init__(updater, rank, cause)
        self.updater, self.rank, self.cause = updater, rank, cause

    def __str__(self) -> str:
        return f"the updater {self.updater} raised {self.cause} in server {self.rank}; see above where"


class WireError(ShmpsError, RuntimeError):
    """A node on another machine breaks the protocol."""

    exit_code = 4


class Diverged(ShmpsError, ArithmeticError):
    """The weights or the loss are no longer finite."""

    exit_code = 5


class OutOfSpace(ShmpsError, MemoryError):
    """Memory or disk space is not enough for the request."""

    exit_code = 6


class NotConverged(NamingParameters, UserWarning):
    """A solver ended before its objective was within the tolerance of the optimum."""


class NotCached(NamingParameters, UserWarning):
    """Compiled kernels could not be saved to disk, so that the next program compiles them again."""


class WorseThanConstant(NamingParameters, UserWarning):
    """The log-loss on the training rows is above that of the constant model, which predicts class shares."""


class ReplayDiffers(NamingParameters, UserWarning):
    """A replay under the recorded settings ended with other bits than the recorded run."""


class UnstableRate(NamingParameters, UserWarning):
    """The learning rate is above the highest stable one at the measured delay."""


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside this package that called it. A Warning has a category of its own."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def how_it_ended(exit_code: int) -> str:
    """Return how a process ended, by its exit code or the name of the signal."""
    if exit_code == NO_THREAD:
        return "it found too many processes, or threads: raise the limit (ulimit -u)"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"
