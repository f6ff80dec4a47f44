"""Flags from a TOML file: its keys are the flags' names without the dashes, its values theirs."""

import argparse
import difflib
import tomllib
from collections.abc import Sequence
from typing import Any, NoReturn

from shmps.cli.flags import flags_of, meant, nearest
from shmps.errors import DataError, UsageError
from shmps.system import files


class Parser(argparse.ArgumentParser):
    """A parser that takes the flags of `--config FILE` as if they stood before the others.

    What is wrong is told in a line: the usage of `train` fills a screen.
    """

    _file = ""  # whose flags are being parsed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        parse = super().parse_known_args
        options, rest = parse(args, namespace)
        self._must_not_be_empty(options)
        if rest:
            self._unknown(rest)
        if (path := getattr(options, "config", None)) is None:
            return options, rest
        marked, _ = parse(args, argparse.Namespace(**dict.fromkeys(vars(options), _NOT_GIVEN)))
        flags = self._flags(path, {name for name, value in vars(marked).items() if value is not _NOT_GIVEN})
        self._file = path
        self._must_not_be_empty(parse(flags)[0])  # alone: what is wrong here is the file's fault
        self._file = ""
        return parse([*flags, *args], namespace)

    def error(self, message: str) -> NoReturn:
        if self._file:
            raise UsageError(f"{self._file}: {message}")
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")

    def _must_not_be_empty(self, options: argparse.Namespace) -> None:
        """An empty value is a shell variable that was not set: without a word there would be no model."""
        for action in self._actions:
            if getattr(options, action.dest, None) == "":
                flag = action.option_strings[0] if action.option_strings else action.metavar
                self.error(f"argument {flag}: must not be empty, got ''; name a value, or leave it out")

    def _unknown(self, arguments: list[str]) -> NoReturn:
        first, equals, _ = arguments[0].partition("=")
        advice = nearest(first, self._option_string_actions, flags_of(self))
        if (
            not advice
            and not first.startswith("-")
            and not equals
            and "--data" in self._option_string_actions
        ):
            advice = f"rows are named by a flag: --data {first}"
        self.error(f"unrecognized arguments: {' '.join(arguments)}" + f"; {advice}" * bool(advice))

    def _flags(self, path: str, given: set[str]) -> list[str]:
        """The file's flags, without those that exclude one that is `given` (by its dest)."""
        known = {
            flag.removeprefix("--"): action
            for flag, action in self._option_string_actions.items()
            if flag.startswith("--") and flag not in ("--help", "--config")
        }
        flags: list[str] = []
        for key, value in read(path).items():
            if key not in known:
                same = meant(f"--{key}", self._option_string_actions, flags_of(self))
                near = [flag.removeprefix("--") for flag in same]
                near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.0)
                raise UsageError(
                    f"{path}: keys are flags' names without the dashes, found {key!r}; the nearest one is "
                    f"{near[0]!r}"
                )
            if not given & self._exclusive_with(known[key]):
                flags += _as_flags(path, key, value, takes_value=known[key].nargs != 0)
        return flags

    def _exclusive_with(self, action: argparse.Action) -> set[str]:
        """The dests of a group of which only one may be given, its own included."""
        groups = [group._group_actions for group in self._mutually_exclusive_groups]
        return {other.dest for group in groups if action in group for other in group}


_NOT_GIVEN = object()


def read(path: str) -> dict[str, Any]:
    """The file's keys and values. Raises DataError for what is no TOML."""
    with files.opened(path, "configuration") as (file, _):
        try:
            return tomllib.load(file)
        except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, or a number of too many digits
            raise DataError(f"{path}: a configuration is TOML, found it broken: {error}") from error


def _as_flags(path: str, key: str, value: Any, takes_value: bool) -> Sequence[str]:
    try:
        text = str(value)
    except ValueError as error:  # of many hexadecimal digits
        raise UsageError(f"{path}: {key} is one number or text, found too many digits: {error}") from error
    if not takes_value:
        if not isinstance(value, bool):
            raise UsageError(f"{path}: {key} is true or false, found {value!r}")
        return [f"--{key}"] if value else []
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{path}: {key} is one number or text, found {value!r}")
    if "\0" in text:  # which no command line can have
        raise UsageError(f"{path}: {key} has no null byte, found {value!r}")
    return [f"--{key}={text}"]
