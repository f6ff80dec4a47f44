"""Reader of svmlight / libsvm text: `label index:value index:value ... # comment`, one row a line.

Strict on purpose: a file that is not what it claims to be is refused with the place and the remedy, never
read as something else. Numbers come out rounded as Python's `float` does, to the last bit.
"""

import bz2
import io
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

from shmps.errors import DataError, OutOfSpace, UsageError

TAB, LF, CR, SPACE, HASH, PLUS, MINUS, POINT, COLON = b"\t\n\r #+-.:"
ZERO, UPPER_E, LOWER_E = b"0Ee"

# What a number is to the parser, and what the parser stops with.
EXACT, LATE, MALFORMED = range(3)
FINE, BAD_LABEL, BAD_INDEX, BAD_VALUE = range(4)

INT32_MAX = 2**31 - 1
INDEX_CEILING = 10**18  # where 64-bit parsing of an index saturates; every limit is below it
EXPONENT_CEILING = 10**6
MANTISSA_EXACT = 2**53  # every integer up to here is a float64
TENS = np.array([float(10**k) for k in range(23)])  # powers of ten that are exact in float64
CHUNK = 1 << 18

TOKEN = re.compile(rb"[^ \t\r\n#]*")
NOT_FINITE = re.compile(rb"[+-]?(nan|inf|infinity)(\(\w*\))?", re.IGNORECASE)
ARCHIVES: tuple[tuple[bytes, str, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", "gzip", lambda: zlib.decompressobj(wbits=31)),
    (b"BZh", "bzip2", bz2.BZ2Decompressor),
)


def read(
    path: str | os.PathLike[str], *, zero_based: bool = False, limit: int = INT32_MAX
) -> tuple[csr_matrix, np.ndarray]:
    """The file as X (n, largest index) float64 with 0-based columns, and labels y (n,) float64.

    Plain text, gzip or bzip2, told apart by their first bytes. Raises DataError `file:line:column: rule,
    found; remedy` (columns count bytes from 1), and OutOfSpace where memory does not suffice.
    """
    name = os.fsdecode(path)
    try:
        with _enough_memory(name), open(name, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{name}: data is read from a file, found: {reason}; check path and permissions"
        ) from error
    return read_bytes(data, name, zero_based=zero_based, limit=limit)


def read_bytes(
    data: bytes | np.ndarray, name: str, *, zero_based: bool = False, limit: int = INT32_MAX
) -> tuple[csr_matrix, np.ndarray]:
    """As `read`, from the bytes of a file (a uint8 array is copied); `name` is for the messages."""
    if not 0 <= limit < INDEX_CEILING:
        raise UsageError(f"limit must be from 0 to 10**18 - 1, found {limit}; leave it at {INT32_MAX}")
    with _enough_memory(name):
        text = _unpacked(bytes(data), name)
        _refuse_other_encodings(text, name)
        return _parsed(text, name, 0 if zero_based else 1, limit)


def fit_columns(X: csr_matrix, num_features: int) -> tuple[csr_matrix, int]:
    """X (n, d) with exactly `num_features` columns, and how many non-zeros that dropped.

    Shares X's arrays where nothing is dropped.
    """
    if num_features < 0:
        raise UsageError(f"num_features must be 0 or more, found {num_features}; pass X.shape[1] of training")
    shape = (X.shape[0], num_features)
    if num_features >= X.shape[1]:
        return csr_matrix((X.data, X.indices, X.indptr), shape=shape), 0
    keep = X.indices < num_features
    kept_before = np.concatenate(([0], np.cumsum(keep)))
    fitted = csr_matrix((X.data[keep], X.indices[keep], kept_before[X.indptr]), shape=shape)
    return fitted, int(np.count_nonzero(X.data[~keep]))


@contextmanager
def _enough_memory(name: str) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise OutOfSpace(
            f"{name}: reading takes a few times the size of the text in memory, and there is not enough; "
            f"free some, or read a part of the file"
        ) from error


def _unpacked(raw: bytes, name: str) -> bytes:
    """The text of a gzip or bzip2 archive of one or more members; anything else as it is."""
    archive = next((known for known in ARCHIVES if raw.startswith(known[0])), None)
    if archive is None:
        return raw
    _, kind, new_stream = archive
    text, stream = io.BytesIO(), new_stream()
    try:
        for at in range(0, len(raw), CHUNK):
            rest = raw[at : at + CHUNK]
            while rest:
                if stream.eof:  # another member, or the zeros that pad some archives
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    stream = new_stream()
                text.write(stream.decompress(rest))
                rest = stream.unused_data
    except (OSError, zlib.error) as error:
        raise DataError(
            f"{name}: a {kind} archive must be intact, found it corrupt ({error}); fetch the file again"
        ) from error
    if not stream.eof:
        raise DataError(f"{name}: a {kind} archive must be whole, found it truncated; fetch the file again")
    return text.getvalue()


def _refuse_other_encodings(text: bytes, name: str) -> None:
    """NUL, a CR without LF, and UTF-16 are refused before parsing: they say most about what the file is."""
    utf16 = "convert it with: iconv -f UTF-16 -t UTF-8"
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{name}: text must be ASCII or UTF-8, found the byte order mark of UTF-16; {utf16}")
    if (at := text.find(b"\0")) >= 0:
        head = text[:1024]
        looks_utf16 = max(head[0::2].count(0), head[1::2].count(0)) >= max(2, len(head) // 4)
        found = f"NUL bytes as in UTF-16; {utf16}" if looks_utf16 else "a NUL byte; check what wrote the file"
        raise DataError(f"{_place(text, name, at)}: text must be ASCII or UTF-8, found {found}")
    if text.count(b"\r") != text.count(b"\r\n"):
        at = next(match.start() for match in re.finditer(rb"\r(?!\n)", text))
        place = _place(text, name, at)
        raise DataError(f"{place}: lines end with LF or CR LF, found a CR without LF; convert the line ends")


def _place(text: bytes, name: str, at: int) -> str:
    """`file:line:column` of the byte at offset `at`."""
    line, column = text.count(b"\n", 0, at) + 1, at - text.rfind(b"\n", 0, at)
    return f"{name}:{line}:{column}"


def _parsed(text: bytes, name: str, base: int, limit: int) -> tuple[csr_matrix, np.ndarray]:
    """X and y of the text; `base` is the smallest index allowed, and becomes column 0."""
    most_rows = text.count(b"\n") + (not text.endswith(b"\n"))
    most_entries = text.count(b":")
    index_type = np.int32 if max(limit, most_entries) <= INT32_MAX else np.int64
    labels, values = np.empty(most_rows), np.empty(most_entries)
    indices, indptr = np.empty(most_entries, index_type), np.zeros(most_rows + 1, index_type)
    # Where the numbers for Python's float() start, and what they are: entry k as k, the label of row r as ~r.
    late = np.empty((most_rows + most_entries, 2), np.int64)
    start = 3 if text.startswith(b"\xef\xbb\xbf") else 0  # the byte order mark of UTF-8
    fault, at, rows, entries, num_late, largest = _parse(
        np.frombuffer(text, np.uint8), start, base, limit, labels, indptr, indices, values, late
    )
    # Before the fault is told: a late number that overflows stands earlier in the file.
    _finish(late[:num_late], text, name, values, labels)
    if fault != FINE:
        raise DataError(f"{_place(text, name, at)}: {_explained(fault, text, at, base, limit)}")
    if rows == 0:
        raise DataError(f"{name}: a data file has at least one row, found none; check that this is the file")
    arrays = _trimmed(values, entries), _trimmed(indices, entries), _trimmed(indptr, rows + 1)
    X = csr_matrix(arrays, shape=(rows, int(largest) + 1 - base))
    X.has_canonical_format = True  # strictly increasing indices were checked; scipy need not look again
    return X, _trimmed(labels, rows)


def _finish(late: np.ndarray, text: bytes, name: str, values: np.ndarray, labels: np.ndarray) -> None:
    """Fill in the numbers that Python's float() is needed for; late is (k, 2) int64: offset, slot."""
    for begin in range(0, len(late), CHUNK):  # in parts: a list takes ten times the memory of an array
        for offset, slot in late[begin : begin + CHUNK].tolist():
            token = _token(text, offset)
            number = float(token)
            if math.isinf(number):
                place = _place(text, name, offset)
                raise DataError(f"{place}: numbers must fit in a float64, found {_shown(token)}; rescale it")
            if slot >= 0:
                values[slot] = number
            else:
                labels[~slot] = number


def _trimmed(array: np.ndarray, size: int) -> np.ndarray:
    """The first `size` elements; a copy where the upper bound was not met, so that the rest is freed."""
    return array if len(array) == size else array[:size].copy()


def _token(text: bytes, at: int) -> bytes:
    match = TOKEN.match(text, at)
    return match.group() if match else b""


def _shown(token: bytes) -> str:
    """The token for a message: quoted, at most 40 bytes of it."""
    shown = token if len(token) <= 40 else token[:40] + b"..."
    return repr(shown.decode("utf-8", "backslashreplace"))


def _explained(fault: int, text: bytes, at: int, base: int, limit: int) -> str:
    """`rule, what was found; remedy` for the token at offset `at`."""
    token = _token(text, at)
    found = f"found {_shown(token)}"
    index, colon, _ = token.partition(b":")
    if fault == BAD_VALUE:
        return _bad_number("value", token, "write index:value, and leave out features without a value")
    if fault == BAD_LABEL and colon:
        return f"a row starts with its label, {found}; put the label before the first feature"
    if fault == BAD_LABEL:
        return _bad_number("label", token, "encode classes as numbers, such as -1 and +1")
    if not colon:
        return f"a feature is index:value, {found} without a colon; write both parts"
    if index == b"qid":
        return f"query ids have no place in classification, {found}; remove the qid:... tokens"
    if re.fullmatch(rb"-[0-9]+", index):
        return f"indices must be {base} or more, {found}; correct the negative index"
    if not re.fullmatch(rb"[0-9]+", index):
        return f"an index is an integer written in digits, {found}; number the features"
    number, _ = _index(np.frombuffer(index, np.uint8), 0)
    if number < base:
        return f"indices start at 1 in svmlight files, {found}; pass zero_based=True if they start at 0"
    if number > limit:
        return f"indices must not exceed the limit {limit}, {found}; correct the index or raise limit"
    return f"indices must increase within a row, {found} after an index as large or larger; sort the row"


def _bad_number(what: str, token: bytes, remedy: str) -> str:
    """Why the token is no label or value."""
    if not token:
        return f"an index and a colon are followed by a {what}, found nothing; {remedy}"
    if NOT_FINITE.fullmatch(token):
        return f"a {what} must be finite, found {_shown(token)}; remove or impute it"
    return f"a {what} must be one decimal number, found {_shown(token)}; {remedy}"


@njit(cache=True)
def _parse(data, start, base, limit, labels, indptr, indices, values, late):
    """Fill the arrays from the text data[start:]; indptr[0] must be 0.

    Returns (fault, offset of the fault, rows, entries, late numbers, largest index or base - 1).
    """
    i, row, largest = start, 0, base - 1
    entry, num_late = np.int64(0), np.int64(0)  # typed: a literal would compile the callee twice
    while i < data.size:
        i = _blanks_end(data, i)
        if not _line_ends(data, i):
            label, stop, kind = _number(data, i)
            if kind == MALFORMED:
                return BAD_LABEL, i, row, entry, num_late, largest
            if kind == LATE:
                late[num_late, 0], late[num_late, 1] = i, ~row
                num_late += 1
            labels[row] = label
            fault, i, entry, num_late, last = _parse_features(
                data, stop, base, limit, entry, indices, values, num_late, late
            )
            if fault != FINE:
                return fault, i, row, entry, num_late, largest
            largest = max(largest, last)
            row += 1
            indptr[row] = entry
        while i < data.size and data[i] != LF:  # a comment, or the CR of CR LF
            i += 1
        i += 1
    return FINE, i, row, entry, num_late, largest


@njit(cache=True)
def _parse_features(data, i, base, limit, entry, indices, values, num_late, late):
    """The features of one row from offset i on: (fault, offset, entries, late numbers, last index)."""
    previous = base - 1
    while True:
        i = _blanks_end(data, i)
        if _line_ends(data, i):
            return FINE, i, entry, num_late, previous
        index, stop = _index(data, i)
        if stop == i or stop == data.size or data[stop] != COLON or not previous < index <= limit:
            return BAD_INDEX, i, entry, num_late, previous
        value, end, kind = _number(data, stop + 1)
        if kind == MALFORMED:
            return BAD_VALUE, stop + 1, entry, num_late, previous
        if kind == LATE:
            late[num_late, 0], late[num_late, 1] = stop + 1, entry
            num_late += 1
        indices[entry], values[entry] = index - base, value
        previous = index
        entry += 1
        i = end


@njit(cache=True)
def _number(data, start):
    """The number data[start:stop]: (value, stop, EXACT), or LATE or MALFORMED and a value without meaning.

    Exact is mantissa * 10**power where mantissa <= 2**53 and |power| <= 22: both are float64 without error,
    so that their one product or quotient is correctly rounded.
    """
    i = start
    if i < data.size and (data[i] == MINUS or data[i] == PLUS):
        i += 1
    mantissa, power, digits, exact, after_point = 0, 0, 0, True, False
    while i < data.size:
        digit = _digit(data, i)
        if digit >= 0:
            digits += 1
            power -= after_point
            exact &= mantissa <= MANTISSA_EXACT  # else the next step could leave 64 bits
            mantissa = mantissa * 10 + digit if exact else mantissa
        elif data[i] == POINT and not after_point:
            after_point = True
        else:
            break
        i += 1
    if digits and i < data.size and (data[i] == LOWER_E or data[i] == UPPER_E):
        exponent, stop = _exponent(data, i + 1)
        digits = stop - i - 1  # none: malformed
        power += exponent
        exact &= abs(exponent) < EXPONENT_CEILING
        i = stop
    if digits == 0 or not (_line_ends(data, i) or data[i] == SPACE or data[i] == TAB):
        return 0.0, i, MALFORMED
    if not exact or mantissa > MANTISSA_EXACT or abs(power) > 22:
        return 0.0, i, LATE
    value = mantissa / TENS[-power] if power < 0 else mantissa * TENS[power]
    return -value if data[start] == MINUS else value, i, EXACT


@njit(cache=True)
def _exponent(data, start):
    """(exponent, stop) of `5`, `+5` or `-5`, saturated; stop == start where there is none."""
    i = start
    if i < data.size and (data[i] == MINUS or data[i] == PLUS):
        i += 1
    exponent, stop = _index(data, i)
    if stop == i:
        return 0, start
    exponent = min(exponent, EXPONENT_CEILING)
    return -exponent if data[start] == MINUS else exponent, stop


@njit(cache=True)
def _index(data, i):
    """(integer, stop) of the digits at i, saturated at INDEX_CEILING; stop == i where there are none."""
    value = 0
    while i < data.size:
        digit = _digit(data, i)
        if digit < 0:
            break
        value = value * 10 + digit if value < INDEX_CEILING // 10 else INDEX_CEILING
        i += 1
    return value, i


@njit(cache=True)
def _digit(data, i):
    """The decimal digit at i, or -1; as int64, since uint8 would wrap."""
    digit = np.int64(data[i]) - ZERO
    return digit if 0 <= digit <= 9 else -1


@njit(cache=True)
def _blanks_end(data, i):
    """The first offset from i on that is neither space nor tab."""
    while i < data.size and (data[i] == SPACE or data[i] == TAB):
        i += 1
    return i


@njit(cache=True)
def _line_ends(data, i):
    """Whether the row is over at i: the end of the line or of the file, or a comment."""
    return i >= data.size or data[i] == LF or data[i] == CR or data[i] == HASH
