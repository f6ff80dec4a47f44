"""What is said of a token that breaks a rule of svmlight text: `rule, what was found; remedy`."""

import re

import numpy as np

from shmps.reading.svmlight_kernels import BAD_LABEL, BAD_VALUE

_TOKEN = re.compile(rb"[^ \t\r\n#]*")
_NOT_FINITE = re.compile(rb"[+-]?(nan|inf|infinity)(\(\w*\))?", re.IGNORECASE)
_MOST_SHOWN = 40  # bytes of a token
_MOST_READ = 19  # digits of an index: from so many on it is above every limit


def token(text: np.ndarray, at: int) -> bytes:
    """The token that starts at offset `at`."""
    match = _TOKEN.match(text.data, at)
    return match.group() if match else b""


def shown(found: bytes) -> str:
    """A token for a message: quoted, and not all of a long one."""
    some = found if len(found) <= _MOST_SHOWN else found[:_MOST_SHOWN] + b"..."
    return repr(some.decode("utf-8", "backslashreplace"))


def explained(fault: int, whole: bytes, base: int, limit: int) -> str:
    """What is wrong with the token `whole`, for which the parser stopped with `fault`."""
    found = f"found {shown(whole)}"
    index, colon, _ = whole.partition(b":")
    if fault == BAD_VALUE:
        return _bad_number("value", whole, "write index:value, and leave out features without a value")
    if fault == BAD_LABEL and colon:
        return f"a row starts with its label, {found}; put the label before the first feature"
    if fault == BAD_LABEL and b"," in whole:
        return f"a row starts with its label, {found}; of CSV name the labels' column by --label (label=...)"
    if fault == BAD_LABEL:
        return _bad_number("label", whole, "encode classes as numbers, such as -1 and +1")
    if not colon:
        return f"a feature is index:value, {found} without a colon; add it, or hash by name with --hash-bits"
    if index == b"qid":
        return f"query ids have no place in classification, {found}; remove the qid:... tokens"
    if re.fullmatch(rb"-[0-9]+", index):
        return f"indices must be {base} or more, {found}; correct the negative index"
    if not re.fullmatch(rb"[0-9]+", index):
        return f"an index is an integer written in digits, {found}; number the features"
    number = int(index.lstrip(b"0")[:_MOST_READ] or b"0")
    if number < base:
        remedy = "if they start at 0, convert with --zero-based (zero_based=True)"
        return f"indices start at 1 in svmlight files, {found}; {remedy}"
    if number > limit:
        return f"indices must not exceed the limit {limit}, {found}; correct the index or raise limit"
    return f"indices must increase within a row, {found} after an index as large or larger; sort the row"


def _bad_number(what: str, whole: bytes, remedy: str) -> str:
    """Why the token is no label or value."""
    if not whole:
        return f"an index and a colon are followed by a {what}, found nothing; {remedy}"
    if _NOT_FINITE.fullmatch(whole):
        return f"a {what} must be finite, found {shown(whole)}; remove or impute it"
    return f"a {what} must be one decimal number, found {shown(whole)}; {remedy}"
