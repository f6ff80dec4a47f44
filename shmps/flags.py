"""What a person wrote is called as they wrote it: parameters by their flags."""

import argparse
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from shmps.errors import OutOfSpace, UsageError

# name=value; a name of several words; a name that a message begins with. Others are words of English too.
_NAMES = re.compile(r"\b(\w+)=('[^']*'|\([^)]*\)|[^\s,;()]+)|\b([a-z]+(?:_[a-z]+)+)\b|^(\w+)(?= )")


def flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """The flag of every parameter, which is the `dest` of it."""
    flags = {action.dest: action.option_strings[0] for action in parser._actions if action.option_strings}
    if rate := flags.get("learning_rate"):
        flags["alpha"] = rate  # as FTRL calls it
    return {name: flag for name, flag in flags.items() if name != "mode"}


def in_flags(message: str, flags: Mapping[str, str]) -> str:
    """`l1=0.1` as --l1 0.1, `mode='async'` as --async, `node_timeout` as --node-timeout."""

    def flag(match: re.Match[str]) -> str:
        name, value = match[1] or match[3] or match[4], (match[2] or "").strip("'")
        if name == "mode" and value:
            return f"--{'bound' if value == 'bounded' else value}"
        if name not in flags:
            return match[0]
        if value in ("True", "False", "None"):
            return flags[name] if value == "True" else f"no {flags[name]}"
        return f"{flags[name]} {value}".rstrip()

    return _NAMES.sub(flag, message)


@contextmanager
def naming_flags(flags: Mapping[str, str]) -> Iterator[None]:
    """In the block errors speak of flags."""
    try:
        yield
    except (UsageError, OutOfSpace) as error:
        raise type(error)(in_flags(str(error), flags)) from error
