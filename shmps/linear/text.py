"""Figures as text."""

from collections.abc import Sequence


def table(lines: Sequence[tuple[str, str]]) -> str:
    """Names and what they are, in two columns."""
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)
