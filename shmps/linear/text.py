"""A table of two columns as text. Imports nothing else, so that `shmps --help` is quick."""

from collections.abc import Sequence


def table(lines: Sequence[tuple[str, str]]) -> str:
    """Return names and values in two columns, one pair per line."""
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)
