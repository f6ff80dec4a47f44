"""What a number, a label and a weight are in a text: one grammar for all readers.

A number is written in ASCII digits: neither nan nor inf, no underscores, no hexadecimal digits. A label is a
number, or text that a number, a feature or a cell of CSV can not be mistaken for. Words are separated by
spaces and tabs. Lines are the matter of shmps.data.texts.
"""

import math
import re
import sys

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"  # for Python, and for pyarrow's RE2
_NUMBER = re.compile(NUMBER)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)(\(\w*\))?", re.IGNORECASE)
_TEXT_LABEL = re.compile(r"""(?!['"]|.*\w=)[^:,;|#]+""")
_MOST_SHOWN = 40  # characters of a word
KINDS = {float: "a number", str: "text", type(None): "no label"}  # what the labels of a file may be


def number(word: str) -> float:
    """The number that a word is, rounded as Python's `float` does, or inf if it is too large for a float64.

    nan for any other word.
    """
    return float(word) if _NUMBER.fullmatch(word) else math.nan


def finite(what: str, word: str, remedy: str) -> float:
    """The number that the word is. Raises ValueError (`rule, found; remedy`) where it is none."""
    found = number(word)
    if math.isfinite(found):
        return found
    if not word:
        raise ValueError(f"a {what} follows the colon, found nothing; {remedy}")
    if math.isinf(found):
        raise ValueError(f"numbers must fit in a float64, found {shown(word)}; rescale it")
    if _NOT_FINITE.fullmatch(word):
        raise ValueError(f"a {what} must be finite, found {shown(word)}; remove or impute it")
    raise ValueError(f"a {what} must be one decimal number, found {shown(word)}; {remedy}")


def label(word: str) -> float | str:
    """The label that a word is: its number, or else the word. Raises ValueError where it can be no label."""
    found = number(word)
    if math.isfinite(found):
        return found
    if math.isinf(found) or _NOT_FINITE.fullmatch(word):
        return finite("label", word, "")
    if _TEXT_LABEL.fullmatch(word) and word.isprintable():
        return sys.intern(word)  # one str for all rows that have it
    remedy = "rename it"
    if "," in word or ";" in word:
        remedy = "of CSV name the labels' column by --label (label=...)"
    elif ":" in word or "=" in word:
        remedy = "put the label before the first feature"
    elif "|" in word:
        remedy = "put a blank before the |, and read named features with --hash-bits (hash_bits=...)"
    raise ValueError(
        f"a row starts with its label, a number or text without : , ; | # or quotes, found {shown(word)}; "
        f"{remedy}"
    )


def weight(word: str) -> float:
    """The weight that a word is. Raises ValueError where it is not a finite number >= 0."""
    found = finite("weight", word, "correct it")
    if found < 0:
        raise ValueError(f"a weight must be 0 or more, found {shown(word)}; correct it, or remove the row")
    return found


def same_kind(found: float | str | None, word: str, kind: type) -> None:
    """Raises ValueError where a label is of another kind than the first of the file."""
    if type(found) is not kind:
        raise ValueError(
            f"the labels of a file must be all numbers, all text or all missing, found {KINDS[type(found)]} "
            f"({shown(word)}) where the first row has {KINDS[kind]}; write all labels alike"
        )


def words(line: str) -> list[str]:
    """What stands between blanks: spaces and tabs, as in svmlight and Vowpal Wabbit; no others of Unicode."""
    return list(filter(None, line.replace("\t", " ").split(" ")))


def decoded(line: bytes) -> str:
    """A line as text. Raises ValueError where it is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text must be ASCII or UTF-8, found {error}; convert it with: iconv -f LATIN1 -t UTF-8"
        ) from None


def shown(word: str) -> str:
    """A word for a message: quoted, and not all of a long one."""
    return repr(word if len(word) <= _MOST_SHOWN else word[:_MOST_SHOWN] + "...")
