"""Completion in the shell, by a script from shtab (https://docs.iterative.ai/shtab)."""

import argparse
from collections.abc import Iterator
from typing import Any, NoReturn

from shmps.cli import console
from shmps.errors import UsageError

SHELLS = ("bash", "zsh", "tcsh")
_FILES, _FOLDERS = ("PATH", "FILE", "MODEL", "DATA", "NAME|PATH", "TRAIN"), ("DIR",)  # metavars


def add_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--print-completion",
        action=_Print,
        choices=SHELLS,
        help="print the script that makes the shell complete commands and flags",
    )


class _Print(argparse.Action):
    """Print the script for the whole parser, and end."""

    def __call__(
        self, parser: argparse.ArgumentParser, options: Any, shell: Any, flag: Any = None
    ) -> NoReturn:
        try:
            import shtab
        except ImportError as error:
            raise UsageError(f"{flag} needs shtab: pip install 'shmps[completion]'") from error
        for action in _actions(parser):
            if action.metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.metavar in _FOLDERS:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        console.output(shtab.complete(parser, shell))
        parser.exit()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the actions of a parser and of the parsers of its commands."""
    for action in parser._actions:
        yield action
        if action.nargs == argparse.PARSER and isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from _actions(command.filled())
