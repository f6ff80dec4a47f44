"""A table of two columns, as text and as HTML. Imports next to nothing, so that `shmps --help` is quick."""

from collections.abc import Sequence
from html import escape


def table(lines: Sequence[tuple[str, str]]) -> str:
    """Return names and values in two columns, one pair per line."""
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def html_table(lines: Sequence[tuple[str, str]]) -> str:
    """Return the same as HTML, for notebooks."""
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in lines)
    return f"<table><tbody>{rows}</tbody></table>"
