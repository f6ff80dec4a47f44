"""Named failures: each says the rule, the evidence and the remedy, and knows its exit code."""

import signal
import sys
import warnings

NO_THREAD = 71  # the exit code of a node that could not start a thread; EX_OSERR of sysexits.h


class ShmpsError(Exception):
    """Anything this package refuses or reports; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(ShmpsError, ValueError):
    """An argument breaks a rule."""

    exit_code = 2


class DataError(ShmpsError, ValueError):
    """A data or model file is missing, unreadable or breaks a rule of its format."""

    exit_code = 3


class NotNumbers(DataError, TypeError):
    """Something else than numbers where numbers should be."""


class NodeDied(ShmpsError, RuntimeError):
    """A scheduler, server or worker process ended that should not have."""

    exit_code = 4

    def __init__(self, role: str, rank: int, exit_code: int):
        super().__init__(role, rank, exit_code)
        self.role, self.rank, self.node_exit_code = role, rank, exit_code

    def __str__(self) -> str:
        return (
            f"{self.role} {self.rank} died ({how_it_ended(self.node_exit_code)}) and was not replaced: start "
            "the training again; if nobody killed it on purpose, look for its last words above, or in the "
            "kernel's log (a lack of memory shows as SIGKILL, mapped data that was cut short as SIGBUS)"
        )


class WorkerFailed(ShmpsError, RuntimeError):
    """A function run on the cluster raised; carries the worker's rank and its traceback as text."""

    exit_code = 4

    def __init__(self, rank: int, traceback: str):
        super().__init__(rank, traceback)
        self.rank, self.traceback = rank, traceback

    def __str__(self) -> str:
        return f"the function raised in worker {self.rank}:\n{self.traceback.rstrip()}"


class UpdaterFailed(ShmpsError, RuntimeError):
    """An updater raised, which is this one's cause: when a cluster is made and tries it, or in a server."""

    exit_code = 4

    def __init__(self, updater: str, rank: int, cause: str):
        super().__init__(updater, rank, cause)
        self.updater, self.rank, self.cause = updater, rank, cause

    def __str__(self) -> str:
        return f"the updater {self.updater} raised {self.cause} in server {self.rank}; see above where"


class Diverged(ShmpsError, ArithmeticError):
    """Weights or loss are no longer finite."""

    exit_code = 5


class OutOfSpace(ShmpsError, MemoryError):
    """Not enough memory or disk for what was asked."""

    exit_code = 6


class NotConverged(UserWarning):
    """A solver ended before it was as near to the optimum as it was asked to come."""


class NotCached(UserWarning):
    """Compiled kernels could not be kept on the disk: the next program compiles them again."""


class WorseThanConstant(UserWarning):
    """The log-loss on the training rows is above that of giving every row the classes' shares."""


class UnstableRate(UserWarning):
    """The learning rate is above what is stable at the delay that was measured."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside this package that made the call."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def how_it_ended(exit_code: int) -> str:
    """Of a process: by a signal's name, or with a code."""
    if exit_code == NO_THREAD:
        return "it found too many processes, or threads: raise the limit (ulimit -u)"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"
