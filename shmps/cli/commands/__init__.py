"""The commands of `shmps`: one module each, with `run(options)`, and `add(parser)` for the arguments.

Importing numba and scipy takes a second, and `--help`, `--version` and the error for a wrong flag need
neither. So a module with an `add` imports them inside functions, and only the module of the command that is
called is imported. The arguments of `train` are in shmps.cli.arguments.
"""

import argparse
import functools
import importlib
from collections.abc import Callable

from shmps.cli import arguments, completion
from shmps.cli.early import ending_at_signals
from shmps.cli.parser import Parser
from shmps.cli.wording import Flags
from shmps.version import __version__

_COMMANDS = {
    "train": "train a model",
    "simulate": "train as on many machines, in virtual time",
    "predict": "label the rows of a file",
    "convert": "convert text into mapped data, which need not fit into memory",
    "inspect": "show what is in a model or a data file",
    "data": "list the named sets, fetch one",
    "bench": "run a benchmark (from a checkout)",
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of `shmps`. Its options have the `run` of a command as `command`, and `flags`."""
    whole = argparse.ArgumentParser(
        prog="shmps",
        description="A parameter server on one host for sparse logistic regression.",
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=__version__)
    completion.add_to(whole)
    commands = whole.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for name, help in _COMMANDS.items():
        commands.add_parser(name, help=help, fill=functools.partial(_fill, name))
    return whole


def _fill(name: str, command: Parser) -> None:
    if name in ("train", "simulate"):
        (arguments.add_train if name == "train" else arguments.add_simulate)(command)
    else:
        with ending_at_signals():
            module = importlib.import_module(f"{__name__}.{name}")
        module.add(command)
    command.set_defaults(command=_runner(name), flags=Flags(command))


def _runner(name: str) -> Callable[[argparse.Namespace], None]:
    """Return a function that imports what takes long, then the module of a command, and runs it."""

    def run(options: argparse.Namespace) -> None:
        with ending_at_signals():
            importlib.import_module("shmps.names")
            module = importlib.import_module(f"{__name__}.{name}")
        module.run(options)

    return run
