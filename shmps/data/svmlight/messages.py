"""Why a token breaks a rule of svmlight text: errors that say `rule, got ...; remedy`."""

import re

import numpy as np

from shmps.data import grammar
from shmps.data.svmlight.kernels import BAD_LABEL, BAD_VALUE
from shmps.errors import verbatim

_TOKEN = re.compile(rb"[^ \t\r\n#]*")
_WORD = re.compile(rb"[^ \t\r\n]*")
_OF_LIBFFM = {True: re.compile(rb"[0-9]+:[^:]+"), False: re.compile(rb"[0-9]+:[0-9]+:[^:]+")}  # a bad value
INDEX_DIGITS = 19  # digits of an index that are read: an index with more is above every limit


def token(text: np.ndarray, at: int) -> bytes:
    """Return the token that starts at offset `at`."""
    match = _TOKEN.match(text.data, at)
    return match.group() if match else b""


def word(text: np.ndarray, at: int) -> bytes:
    """As `token`, but a # is part of it."""
    match = _WORD.match(text.data, at)
    return match.group() if match else b""


def explained(fault: int, whole: bytes, base: int, limit: int, labelled: bool) -> ValueError:
    """Return why the parser stopped with `fault` at the token `whole`.

    labelled: whether the rows of the file have labels.
    """
    if fault == BAD_LABEL:
        return _bad_label(whole)
    if _OF_LIBFFM[fault == BAD_VALUE].fullmatch(whole):
        return ValueError(
            f"a feature must be index:value, got {_shown(whole)} as in libffm's field:index:value; remove "
            f"the fields"
        )
    if fault == BAD_VALUE:
        return _bad_value(whole)
    return grammar.Fault(_bad_index(whole, base, limit, labelled), hash_bits=None, zero_based=None)


def _bad_index(whole: bytes, base: int, limit: int, labelled: bool) -> str:
    """Return why the token starts with no index that may stand there, as a template."""
    got = f"got {verbatim(_shown(whole))}"
    index, colon, _ = whole.partition(b":")
    if not colon and not labelled:
        return (
            f"a row without a label must be features alone, {got} without a colon; label every row, or none"
        )
    if not colon:
        return (
            f"a feature must be index:value, {got} without a colon; add it, or hash names with {{hash_bits}}"
        )
    if index == b"qid":
        return f"rows for classification must have no query ids, {got}; remove the qid:... tokens"
    if re.fullmatch(rb"-[0-9]+", index):
        return f"indices must be {base} or more, {got}; correct the negative index"
    if not re.fullmatch(rb"[0-9]+", index):
        return f"an index must be an integer written in digits, {got}; number the features"
    number = int(index.lstrip(b"0")[:INDEX_DIGITS] or b"0")
    if number < base:
        remedy = "if they start at 0, read the file with {zero_based:True}"
        return f"indices must start at 1 in svmlight files, {got}; {remedy}"
    if number > limit:
        return f"indices must not exceed the limit {limit}, {got}; correct the index"
    return f"indices must increase within a row, {got} after an index as large or larger; sort the row"


def _shown(found: bytes) -> str:
    return grammar.shown(found.decode("utf-8", "backslashreplace"))


def _bad_value(whole: bytes) -> ValueError:
    try:
        value = grammar.decoded(whole)
        grammar.finite("value", value, "write index:value, and leave out features without a value")
    except ValueError as error:
        return error
    raise AssertionError(f"{whole!r} is a value")


def _bad_label(whole: bytes) -> ValueError:
    """Return why the token is no label of a file whose first row has a number."""
    if b":" in whole:
        return ValueError(
            f"a row must start with its label, got {_shown(whole)}; put the label before the first feature, "
            f"or if it is a label with its weight, give every row a weight (label:1)"
        )
    try:
        label = grammar.decoded(whole)
        grammar.same_kind(grammar.label(label), label, float)
    except ValueError as error:
        return error
    raise AssertionError(f"{whole!r} is a label")
