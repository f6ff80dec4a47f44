"""The grammar of numbers, labels and weights in text, the same for all readers.

A number is written in ASCII digits: no nan, no inf, no underscores, no hexadecimal digits. A label is a
number, or text that cannot be mistaken for a number, a feature or a cell of CSV. Words are separated by
spaces and tabs. shmps.data.text_files has the rules for lines.
"""

import math
import re
import sys

from shmps.errors import NamingParameters, verbatim

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"  # for Python, and for pyarrow's RE2
_NUMBER = re.compile(NUMBER)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)(\(\w*\))?", re.IGNORECASE)
_TEXT_LABEL = re.compile(r"""(?!['"]|.*\w=)[^:,;|#]+""")
_MOST_SHOWN = 40  # characters of a word
_KINDS = {float: "a number", str: "text", type(None): "no label"}  # of labels


class Fault(NamingParameters, ValueError):
    """A word or a line breaks a rule of its format. The reader adds where: see `DataError.at`."""


def number(word: str) -> float:
    """Return the number that a word stands for, rounded as Python's `float` rounds it.

    nan if the word is no number, inf if the number is too large for a float64.
    """
    return float(word) if _NUMBER.fullmatch(word) else math.nan


def finite(what: str, word: str, remedy: str) -> float:
    """Return the number that a word stands for. Raises ValueError (`rule, got ...; remedy`) if it is none."""
    value = number(word)
    if math.isfinite(value):
        return value
    if not word:
        raise ValueError(f"a {what} must follow the colon, got nothing; {remedy}")
    if math.isinf(value):
        raise ValueError(f"numbers must fit in a float64, got {shown(word)}; rescale it")
    if _NOT_FINITE.fullmatch(word):
        raise ValueError(f"a {what} must be finite, got {shown(word)}; remove or impute it")
    raise ValueError(f"a {what} must be one decimal number, got {shown(word)}; {remedy}")


def label(word: str) -> float | str:
    """Return the label that a word stands for: its number, else the word.

    Raises ValueError if it can be no label.
    """
    value = number(word)
    if math.isfinite(value):
        return value
    if math.isinf(value) or _NOT_FINITE.fullmatch(word):
        return finite("label", word, "")
    if _TEXT_LABEL.fullmatch(word) and word.isprintable():
        return sys.intern(word)  # one str for all rows that have it
    remedy = "rename it"
    if "," in word or ";" in word:
        remedy = "if this is CSV, give {label}, the column of the labels"
    elif ":" in word or "=" in word:
        remedy = "put the label before the first feature"
    elif "|" in word:
        remedy = "put a blank before the |, and read named features with {hash_bits}"
    raise Fault(
        f"a row must start with its label, a number or text without : , ; | # or quotes, got "
        f"{verbatim(shown(word))}; {remedy}",
        label=None,
        hash_bits=None,
    )


def weight(word: str) -> float:
    """Return the weight that a word stands for. Raises ValueError if it is not a finite number >= 0."""
    value = finite("weight", word, "correct it")
    if value < 0:
        raise ValueError(f"a weight must be >= 0, got {shown(word)}; correct it, or remove the row")
    return value


def same_kind(found: float | str | None, word: str, kind: type) -> None:
    """Raise ValueError if a label is of another kind than the first of the file."""
    if type(found) is not kind:
        raise ValueError(
            f"the labels of a file must be all numbers, all text or all missing, got {_KINDS[type(found)]} "
            f"({shown(word)}) where the first row has {_KINDS[kind]}; write all labels alike"
        )


def words(line: str) -> list[str]:
    """Split a line at spaces and tabs alone, as svmlight and Vowpal Wabbit do; Unicode has more blanks."""
    return list(filter(None, line.replace("\t", " ").split(" ")))


def decoded(line: bytes) -> str:
    """Decode a line. Raises ValueError if it is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text must be ASCII or UTF-8, got {error}; convert it with: iconv -f LATIN1 -t UTF-8"
        ) from None


def shown(word: str) -> str:
    """Quote a word for a message, and shorten a long one."""
    return repr(word if len(word) <= _MOST_SHOWN else word[:_MOST_SHOWN] + "...")
