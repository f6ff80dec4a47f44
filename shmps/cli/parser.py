"""The parser of a command: argparse with flags from a TOML file, and errors of one line."""

import argparse
import difflib
import itertools
import re
import tomllib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from shmps.cli.wording import Flags, meant, nearest
from shmps.errors import DataError, UsageError
from shmps.system import files

_FLAG = re.compile(r"--?[a-zA-Z]\S*")
_NOT_GIVEN = object()


class Parser(argparse.ArgumentParser):
    """A parser that takes the flags of `--config FILE` as if they stood before the others.

    A key of the file is the name of a flag without the dashes. An error is one line: the usage of `train`
    fills a screen.
    """

    _file = ""  # the configuration file that is being parsed

    def __init__(self, *args: Any, fill: Callable[["Parser"], None] | None = None, **options: Any):
        """fill: adds the arguments, when they are first needed."""
        super().__init__(*args, **options)
        self.allow_abbrev, self._fill = False, fill

    def filled(self) -> "Parser":
        """Return this parser, with its arguments."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)
        return self

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.filled()
        parse = super().parse_known_args
        self._must_know_flags(args)
        options, rest = parse(args, namespace)
        self._must_not_be_empty(options)
        if rest:
            self._unknown(rest)
        if (path := getattr(options, "config", None)) is None:
            return options, rest
        marked, _ = parse(args, argparse.Namespace(**dict.fromkeys(vars(options), _NOT_GIVEN)))
        flags = self._flags(path, {name for name, value in vars(marked).items() if value is not _NOT_GIVEN})
        self._file = path
        self._must_not_be_empty(parse(flags)[0])  # alone: an error here is the file's
        self._file = ""
        return parse([*flags, *args], namespace)

    def _must_know_flags(self, args: Sequence[str]) -> None:
        """Refuse an unknown flag before its value is taken for an optional argument."""
        if not any(action.nargs == "?" and not action.option_strings for action in self._actions):
            return
        flags = [word for word in itertools.takewhile("--".__ne__, args) if _FLAG.fullmatch(word)]
        if unknown := [word for word in flags if word.partition("=")[0] not in self._option_string_actions]:
            self._unknown(unknown)

    def error(self, message: str) -> NoReturn:
        if self._file:
            raise UsageError(f"{self._file}: {message}")
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")

    def _must_not_be_empty(self, options: argparse.Namespace) -> None:
        """Refuse an empty value: it comes from a shell variable that is not set, and would be ignored."""
        for action in self._actions:
            if getattr(options, action.dest, None) == "":
                flag = action.option_strings[0] if action.option_strings else action.metavar
                self.error(f"argument {flag}: must not be empty, got ''; name a value, or leave it out")

    def _unknown(self, arguments: list[str]) -> NoReturn:
        first = arguments[0].partition("=")[0]
        advice = ""
        if first.startswith("-"):
            advice = nearest(first, self._option_string_actions, Flags(self))
        self.error(f"unrecognized arguments: {' '.join(arguments)}" + f"; {advice}" * bool(advice))

    def _flags(self, path: str, given: set[str]) -> list[str]:
        """Return the flags of the file, except those that exclude a flag that was `given` (its dest)."""
        known = {
            flag.removeprefix("--"): action
            for flag, action in self._option_string_actions.items()
            if flag.startswith("--") and flag not in ("--help", "--config")
        }
        flags: list[str] = []
        for key, value in read(path).items():
            if key not in known:
                same = meant(f"--{key}", self._option_string_actions, Flags(self).by_name)
                near = [flag.removeprefix("--") for flag in same if flag.removeprefix("--") in known]
                near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.0)
                raise UsageError(
                    f"{path}: keys must be flags without the dashes, got {key!r}; the nearest one is "
                    f"{near[0]!r}"
                )
            if not given & self._exclusive_with(known[key]):
                flags += _as_flags(path, key, value, known[key])
        return flags

    def _exclusive_with(self, action: argparse.Action) -> set[str]:
        """Return the dests of the flags that exclude `action`, its own included."""
        groups = [group._group_actions for group in self._mutually_exclusive_groups]
        return {other.dest for group in groups if action in group for other in group}


def read(path: str) -> dict[str, Any]:
    """Return the keys and values of a TOML file. Raises DataError if it is none."""
    with files.opened(path, "configuration") as (file, _):
        try:
            return tomllib.load(file)
        except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, or a number of too many digits
            raise DataError(f"{path}: a configuration must be TOML, got an error: {error}") from error


def _as_flags(path: str, key: str, value: Any, action: argparse.Action) -> Sequence[str]:
    try:
        text = str(value)
    except ValueError as error:  # hexadecimal with many digits
        raise UsageError(f"{path}: {key} must be one number or text, got too many digits: {error}") from error
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UsageError(f"{path}: {key} must be true or false, got {value!r}")
        no = [f"--no-{key}"] if f"--no-{key}" in action.option_strings else []
        return [f"--{key}"] if value else no
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{path}: {key} must be one number or text, got {value!r}")
    if "\0" in text:  # a command line cannot have it
        raise UsageError(f"{path}: {key} must have no null byte, got {value!r}")
    return [f"--{key}={text}"]
