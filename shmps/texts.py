"""The text of a file in memory: as it lies there or unpacked, and refused in other encodings.

A text is (bytes,) uint8, read-only, and ends with LF.
"""

import bz2
import io
import os
import re
import zlib
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from shmps.errors import DataError

CHUNK = 1 << 18
ARCHIVES: tuple[tuple[bytes, str, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", "gzip", lambda: zlib.decompressobj(wbits=31)),
    (b"BZh", "bzip2", bz2.BZ2Decompressor),
)
UTF8_MARK, UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")  # byte order marks
_TO_UTF8 = "convert it with: iconv -f UTF-16 -t UTF-8"


def read(name: str) -> np.ndarray:
    """The bytes of a file, or of a pipe. Raises DataError where it can not be read.

    Into an array, for which numpy asks for large pages: half the time of `file.read()`.
    """
    try:
        with open(name, "rb") as file:
            data = np.empty(os.fstat(file.fileno()).st_size, np.uint8)
            data = data[: file.readinto(data.data)]
            rest = file.read()  # of a pipe all, since it has no size; of a file what was added to it
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{name}: data is read from a file, found: {reason}; check path and permissions"
        ) from error
    return np.concatenate((data, np.frombuffer(rest, np.uint8))) if rest else data


def text_of(data: bytes | np.ndarray, name: str) -> np.ndarray:
    """The text of a file's bytes (not copied where they are one). Raises DataError for a broken archive."""
    text = _unpacked(np.frombuffer(data, np.uint8), name)
    if not text.size or text[-1] != ord("\n"):
        text = np.append(text, np.frombuffer(b" \n", np.uint8))  # not LF alone: it would complete a last CR
    text = text.view()
    text.flags.writeable = False  # of one type, so that kernels are compiled once
    return text


def _unpacked(raw: np.ndarray, name: str) -> np.ndarray:
    """The text of a gzip or bzip2 archive of one or more members; anything else as it is."""
    head = raw[:3].tobytes()
    archive = next((known for known in ARCHIVES if head.startswith(known[0])), None)
    if archive is None:
        return raw
    _, kind, new_stream = archive
    text, stream = io.BytesIO(), new_stream()
    try:
        for at in range(0, len(raw), CHUNK):
            rest = raw[at : at + CHUNK].tobytes()
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
    return np.frombuffer(text.getbuffer(), np.uint8)


def start(text: np.ndarray, name: str) -> int:
    """Where the first line starts: after the byte order mark of UTF-8. Raises DataError for UTF-16's."""
    head = text[:3].tobytes()
    if head.startswith(UTF16_MARKS):
        raise DataError(
            f"{name}: text must be ASCII or UTF-8, found the byte order mark of UTF-16; {_TO_UTF8}"
        )
    return len(UTF8_MARK) if head == UTF8_MARK else 0


def refuse_strange(text: np.ndarray, name: str) -> NoReturn:
    """Tell the first NUL of a text, or if it has none its first CR without LF."""
    if nul := re.search(rb"\0", text.data):
        head = text[:1024] == 0
        looks_utf16 = max(head[0::2].sum(), head[1::2].sum()) >= max(2, len(head) // 4)
        found = (
            f"NUL bytes as in UTF-16; {_TO_UTF8}" if looks_utf16 else "a NUL byte; check what wrote the file"
        )
        raise DataError(f"{place(text, name, nul.start())}: text must be ASCII or UTF-8, found {found}")
    at = next(match.start() for match in re.finditer(rb"\r(?!\n)", text.data))
    raise DataError(
        f"{place(text, name, at)}: lines end with LF or CR LF, found a CR without LF; convert the line ends"
    )


def place(text: np.ndarray, name: str, at: int) -> str:
    """`file:line:column` of the byte at offset `at`, both from 1."""
    line_ends = np.flatnonzero(text[:at] == ord("\n"))
    column = at - line_ends[-1] if len(line_ends) else at + 1
    return f"{name}:{len(line_ends) + 1}:{column}"
