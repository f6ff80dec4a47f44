"""The commands of `shmps`: one module each, with `add(commands)`, its arguments, and `run(options)`."""

import argparse

from shmps import completion, config
from shmps.commands import bench, convert, data, inspect, predict, train
from shmps.flags import flags_of
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
    for module in (train, predict, convert, inspect, data, bench):
        command = module.add(commands)
        command.set_defaults(command=module.run, flags=flags_of(command))
    return whole
