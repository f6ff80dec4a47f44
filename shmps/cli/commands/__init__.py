"""The commands of `shmps`: one module each, with `run(options)`, and `add(commands)`, its arguments.

Importing numba and scipy takes a second, and `--help`, `--version` and the error for a wrong flag need
neither. So modules with an `add` import them inside functions; the arguments of `train` are in
shmps.cli.arguments.
"""

import argparse
import importlib
from collections.abc import Callable
from typing import Any

from shmps.cli import arguments, completion, config
from shmps.cli.commands import bench, convert, data, inspect, predict
from shmps.cli.early import ending_at_signals
from shmps.cli.flags import flags_of
from shmps.version import __version__


def parser() -> argparse.ArgumentParser:
    """The parser of `shmps`; what it parses has a command's `run` as `command`, and its `flags`."""
    whole = argparse.ArgumentParser(
        prog="shmps",
        description="A parameter server on one host for sparse logistic regression.",
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=__version__)
    completion.add_to(whole)
    commands = whole.add_subparsers(required=True, metavar="COMMAND", parser_class=config.Parser)
    for name, add in _ARGUMENTS.items():
        command = add(commands)
        command.set_defaults(command=_runner(name), flags=flags_of(command))
    return whole


_ARGUMENTS: dict[str, Callable[[Any], argparse.ArgumentParser]] = {
    "train": arguments.add_train,
    "predict": predict.add,
    "convert": convert.add,
    "inspect": inspect.add,
    "data": data.add,
    "bench": bench.add,
}


def _runner(name: str) -> Callable[[argparse.Namespace], None]:
    """`run` of a command's module; all that takes long to import is imported first."""

    def run(options: argparse.Namespace) -> None:
        with ending_at_signals():
            importlib.import_module("shmps.names")
            module = importlib.import_module(f"{__name__}.{name}")
        module.run(options)

    return run
