"""The command line: arguments in, an exit code out."""

import signal
import warnings
from typing import Any, NoReturn

import tqdm

from shmps.cli import commands, console
from shmps.errors import Named, NamingParameters, OutOfSpace, ShmpsError
from shmps.system.os_errors import shortage


class Terminated(BaseException):
    """The process got SIGTERM."""


def main(arguments: list[str] | None = None) -> int:
    """Run `shmps` with `arguments` (default: those of the process). Return the exit code."""
    tqdm.tqdm.monitor_interval = 0  # no thread: nodes are forked from this process
    console.open_streams()
    named: Any = Named  # how messages name parameters; later: as flags of the command
    try:
        signal.signal(signal.SIGINT, _stop)
        signal.signal(signal.SIGTERM, _stop)
        options = _parsed(arguments)
        named = options.flags
        warnings.showwarning = lambda warning, *where, **more: console.say(_told(warning, named))
        options.command(options)
        return 0
    except _Ended as ended:
        return ended.exit_code
    except ShmpsError as error:
        return _complain(error.told(named), error.exit_code)
    except MemoryError:
        return _complain(
            "out of memory; free some, use fewer processes, or convert the data (shmps convert)", 6
        )
    except KeyboardInterrupt:
        return _complain("stopped by Ctrl-C", 130)
    except Terminated:
        return _complain("stopped by SIGTERM", 143)
    except BrokenPipeError:  # the reader of the output has ended
        console.abandon_stdout()
        return 1
    except OSError as error:
        if (short := shortage(error)) is None:
            raise
        return _complain(f"got {short.found} ({error}); {short.remedy}", OutOfSpace.exit_code)
    finally:
        _ignore_signals()  # the exit code is decided: a signal while Python ends must not change it


def _told(warning: Warning | str, named: Any) -> str:
    return warning.told(named) if isinstance(warning, NamingParameters) else str(warning)


class _Ended(Exception):
    """argparse has printed help, a version or an error, and ends the command."""

    def __init__(self, exit_code: int):
        self.exit_code = exit_code


def _parsed(arguments: list[str] | None) -> Any:
    try:
        return commands.parser().parse_args(arguments)
    except SystemExit as ended:
        console.output("", end="")  # raises if stdout had no room for the help, or has no reader
        raise _Ended(int(ended.code or 0)) from None


def _stop(number: int, frame: Any) -> NoReturn:
    """End the command. Later signals, during the clean-up, are ignored."""
    _ignore_signals()
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _ignore_signals() -> None:
    # Not SIG_IGN: Python prints an error for a pending signal that has no Python handler any more.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _ignore)


def _ignore(number: int, frame: Any) -> None: ...


def _complain(message: str, code: int) -> int:
    console.say(message)
    return code
