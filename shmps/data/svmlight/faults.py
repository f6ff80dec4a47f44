"""What is said of a token that breaks a rule of svmlight text: `rule, what was found; remedy`."""

import re

import numpy as np

from shmps.data import grammar
from shmps.data.svmlight.kernels import BAD_LABEL, BAD_VALUE

_TOKEN = re.compile(rb"[^ \t\r\n#]*")
_WORD = re.compile(rb"[^ \t\r\n]*")
INDEX_DIGITS = 19  # of an index that are read: from so many on it is above every limit


def token(text: np.ndarray, at: int) -> bytes:
    """The token that starts at offset `at`."""
    match = _TOKEN.match(text.data, at)
    return match.group() if match else b""


def word(text: np.ndarray, at: int) -> bytes:
    """As `token`, but a # is part of it."""
    match = _WORD.match(text.data, at)
    return match.group() if match else b""


def shown(found: bytes) -> str:
    """A token for a message: quoted, and not all of a long one."""
    return grammar.shown(found.decode("utf-8", "backslashreplace"))


def explained(fault: int, whole: bytes, base: int, limit: int, labelled: bool) -> str:
    """What is wrong with the token `whole`, for which the parser stopped with `fault`.

    labelled: whether the rows of the file have labels.
    """
    found = f"found {shown(whole)}"
    index, colon, _ = whole.partition(b":")
    if fault == BAD_LABEL:
        return _bad_label(whole)
    if re.fullmatch(rb"[0-9]+:[^:]+" if fault == BAD_VALUE else rb"[0-9]+:[0-9]+:[^:]+", whole):
        return f"a feature is index:value, {found} as in libffm's field:index:value; remove the fields"
    if fault == BAD_VALUE:
        return _bad_value(whole)
    if not colon and not labelled:
        return f"a row without a label is features alone, {found} without a colon; label every row, or none"
    if not colon:
        return f"a feature is index:value, {found} without a colon; add it, or hash by name with --hash-bits"
    if index == b"qid":
        return f"query ids have no place in classification, {found}; remove the qid:... tokens"
    if re.fullmatch(rb"-[0-9]+", index):
        return f"indices must be {base} or more, {found}; correct the negative index"
    if not re.fullmatch(rb"[0-9]+", index):
        return f"an index is an integer written in digits, {found}; number the features"
    number = int(index.lstrip(b"0")[:INDEX_DIGITS] or b"0")
    if number < base:
        remedy = "if they start at 0, convert with --zero-based (zero_based=True)"
        return f"indices start at 1 in svmlight files, {found}; {remedy}"
    if number > limit:
        return f"indices must not exceed the limit {limit}, {found}; correct the index"
    return f"indices must increase within a row, {found} after an index as large or larger; sort the row"


def _bad_value(whole: bytes) -> str:
    try:
        word = grammar.decoded(whole)
        grammar.finite("value", word, "write index:value, and leave out features without a value")
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{whole!r} is a value")


def _bad_label(whole: bytes) -> str:
    """Why the token is no label of a file whose first row has a number."""
    if b":" in whole:
        return (
            f"a row starts with its label, found {shown(whole)}; put the label before the first feature, or "
            f"if it is a label with its weight, give every row a weight (label:1)"
        )
    try:
        word = grammar.decoded(whole)
        grammar.same_kind(grammar.label(word), word, float)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{whole!r} is a label")
