"""The command line: arguments in, an exit code out."""

import signal
import warnings
from typing import Any, NoReturn

import tqdm

from shmps.cli import commands, console
from shmps.cli.flags import in_flags, naming_flags
from shmps.errors import OutOfSpace, ShmpsError
from shmps.system.os_errors import shortage


class Terminated(BaseException):
    """SIGTERM came."""


def main(arguments: list[str] | None = None) -> int:
    """Run `shmps` with `arguments` (default: the process's); returns the exit code."""
    tqdm.tqdm.monitor_interval = 0  # no thread of its own: nodes are forked from this process
    console.open_streams()
    try:
        signal.signal(signal.SIGINT, _stop)
        signal.signal(signal.SIGTERM, _stop)
        options = _parsed(arguments)
        warnings.showwarning = lambda text, *where, **more: console.say(in_flags(str(text), options.flags))
        with naming_flags(options.flags):
            options.command(options)
        return 0
    except _Said as said:
        return said.exit_code
    except ShmpsError as error:
        return _complain(str(error), error.exit_code)
    except MemoryError:
        return _complain(
            "out of memory; free some, use fewer processes, or convert the data (shmps convert)", 6
        )
    except KeyboardInterrupt:
        return _complain("stopped by Ctrl-C", 130)
    except Terminated:
        return _complain("stopped by SIGTERM", 143)
    except BrokenPipeError:  # whoever read our output has gone
        console.abandon_stdout()
        return 1
    except OSError as error:
        if (short := shortage(error)) is None:
            raise
        return _complain(f"found {short.found} ({error}); {short.remedy}", OutOfSpace.exit_code)
    finally:
        _hear_no_more()  # all is done and said: what comes while Python ends changes nothing


class _Said(Exception):
    """argparse has printed all that there is to say."""

    def __init__(self, exit_code: int):
        self.exit_code = exit_code


def _parsed(arguments: list[str] | None) -> Any:
    try:
        return commands.parser().parse_args(arguments)
    except SystemExit as ended:
        console.output("", end="")  # a help that finds no room, or no reader, is told here
        raise _Said(int(ended.code or 0)) from None


def _stop(number: int, frame: Any) -> NoReturn:
    """Once: what comes while we clean up and end changes nothing."""
    _hear_no_more()
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _hear_no_more() -> None:
    # Not SIG_IGN: Python complains of a signal that has come and finds no function to handle it.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _ignore)


def _ignore(number: int, frame: Any) -> None: ...


def _complain(message: str, code: int) -> int:
    console.say(message)
    return code
