"""Text files: read whole or in blocks of lines, unpacked if they are archives, refused in other encodings.

A text is (bytes,) uint8, read-only, and ends with LF.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import numpy as np

from shmps.data.archives import LONGEST_MARK, archive_of, unpacked
from shmps.data.unsupported import refuse_unsupported
from shmps.errors import DataError, OutOfSpace, ShmpsError
from shmps.system.memory import available_memory
from shmps.system.os_errors import unreadable
from shmps.system.parallel import parallel_map

PART = 1 << 22  # bytes per read of a whole file
BUFFER = 1 << 18  # bytes per read of a block, which is copied once more: they stay in the cache
CHUNK = 1 << 14  # bytes of an archive per step
UTF8_MARK, UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")  # byte order marks
_TO_UTF8 = "convert it with: iconv -f UTF-16 -t UTF-8"


def read(name: str) -> np.ndarray:
    """Return the bytes of a file, or of a pipe. Raises DataError if it cannot be read.

    All cores read, into an array, for which numpy asks for large pages: a quarter of the time of
    `file.read()`.
    """
    with _named_errors(name), open(name, "rb", buffering=0) as file:
        data = np.empty(os.fstat(file.fileno()).st_size, np.uint8)

        def read_part(begin: int) -> int:
            with open(name, "rb", buffering=0) as part:
                part.seek(begin)
                return part.readinto(data[begin : begin + PART].data)

        if len(data):
            file.seek(sum(parallel_map(read_part, range(0, len(data), PART))))
        if file.seekable() and file.tell() < len(data):
            raise DataError(
                f"{name}: a file must stay as it is while it is read, got it cut short; read it again"
            )
        rest = file.read()  # all of a pipe, which has no size; of a file, what was added to it
    return np.concatenate((data, np.frombuffer(rest, np.uint8))) if rest else data


def blocks(name: str, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the text of a file in parts of whole lines, and the number of bytes of the file read so far.

    A part has about `size` bytes, or one line if that is longer, and is valid until the next: the memory is
    used again. Raises DataError as `read`, and for a broken archive; OutOfSpace for a line that does not fit
    in memory.
    """
    with _named_errors(name), open(name, "rb") as file:
        archive = archive_of(file.peek(LONGEST_MARK))
        text, held, taken = np.empty(2 * size, np.uint8), 0, 0

        def parts() -> Iterator[bytes]:
            nonlocal taken
            while part := file.read(min(size, CHUNK if archive else BUFFER)):
                taken += len(part)
                yield part

        for part in parts() if archive is None else unpacked(parts(), archive, BUFFER, name):
            if held + len(part) > len(text):
                _must_be_a_line(text[:held], name)
                text = np.append(text, np.empty(len(text) + len(part), np.uint8))
            text[held : held + len(part)] = np.frombuffer(part, np.uint8)
            held += len(part)
            past = part.rfind(b"\n") + 1
            if past and held >= size:
                end = held - len(part) + past
                yield _ended(text[:end]), taken
                held -= end
                text[:held] = text[end : end + held]
        if held:
            yield _ended(text[:held]), taken


def _must_be_a_line(text: np.ndarray, name: str) -> None:
    """Raise DataError if a part that ends with a long line has NULs: an archive can expand to many of them.

    Raise OutOfSpace if no more of the line fits in memory.
    """
    if not text.all():
        start(text, name)  # this names UTF-16 and other formats
        raise DataError(
            f"{name}: text must be ASCII or UTF-8, got NUL bytes in a long line; check what wrote the file"
        )
    _must_fit(2 * len(text), name)


def _must_fit(size: int, name: str) -> None:
    """Raise OutOfSpace if `size` bytes do not fit in memory."""
    if size > (room := available_memory()):
        raise OutOfSpace(
            f"{name}: the text must fit in memory, got {size:,} bytes, and {room:,} available; check that "
            f"this is the file, or make it mapped data with shmps convert"
        )


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    try:
        yield
    except ShmpsError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise unreadable(
            error, f"{name}: data must be a readable file", "check path and permissions"
        ) from error


def text_of(data: bytes | np.ndarray, name: str) -> np.ndarray:
    """Return the text in the bytes of a file; they are not copied unless they are an archive.

    Raises DataError for a broken archive, and OutOfSpace if its text does not fit in memory.
    """
    raw = np.frombuffer(data, np.uint8)
    archive = archive_of(raw[:LONGEST_MARK].tobytes())
    if archive is not None:
        text = io.BytesIO()
        parts = (raw[at : at + CHUNK].tobytes() for at in range(0, len(raw), CHUNK))
        room = available_memory() // 2  # the parsed rows take as much again
        for part in unpacked(parts, archive, BUFFER, name):
            if text.tell() + len(part) > room:
                _must_fit(text.tell(), name)
            text.write(part)
        raw = np.frombuffer(text.getbuffer(), np.uint8)
    return _ended(raw)


def _ended(text: np.ndarray) -> np.ndarray:
    """Return the text with an LF at its end, read-only."""
    if not text.size or text[-1] != ord("\n"):
        text = np.append(text, np.frombuffer(b" \n", np.uint8))  # LF alone would complete a last CR
    text = text.view()
    text.flags.writeable = False  # one type of arrays: kernels compile once
    return text


def start(text: np.ndarray, name: str) -> int:
    """Return the offset of the first line: it follows the byte order mark of UTF-8.

    Raises DataError for the mark of UTF-16, and for formats that are no text.
    """
    refuse_unsupported(text, name)
    head = text[:3].tobytes()
    if head.startswith(UTF16_MARKS):
        raise DataError(f"{name}: text must be ASCII or UTF-8, got the byte order mark of UTF-16; {_TO_UTF8}")
    return len(UTF8_MARK) if head == UTF8_MARK else 0


def check(text: np.ndarray, name: str, lines: int = 0) -> None:
    """Raise DataError for a NUL, or a CR without LF; `lines` as in `place`."""
    ends = np.flatnonzero(text == ord("\r"))
    if (text[ends + 1] != ord("\n")).any() or not text.all():
        refuse_strange(text, name, lines)


def refuse_strange(text: np.ndarray, name: str, lines: int = 0) -> NoReturn:
    """Raise DataError for the first NUL of a text, or else its first CR without LF; `lines` as in `place`."""
    if nul := re.search(rb"\0", text.data):
        head = text[:1024] == 0
        looks_utf16 = max(head[0::2].sum(), head[1::2].sum()) >= max(2, len(head) // 4)
        got = (
            f"NUL bytes as in UTF-16; {_TO_UTF8}" if looks_utf16 else "a NUL byte; check what wrote the file"
        )
        raise DataError(f"{place(text, name, nul.start(), lines)}: text must be ASCII or UTF-8, got {got}")
    at = next(match.start() for match in re.finditer(rb"\r(?!\n)", text.data))
    raise DataError(
        f"{place(text, name, at, lines)}: lines must end with LF or CR LF, got a CR without LF; "
        f"convert the line ends"
    )


def place(text: np.ndarray, name: str, at: int, lines: int = 0) -> str:
    """Return `file:line:column`, both from 1, of the byte at offset `at`.

    lines: the number of lines of the file that precede the text.
    """
    line_ends = np.flatnonzero(text[:at] == ord("\n"))
    column = at - line_ends[-1] if len(line_ends) else at + 1
    return f"{name}:{lines + len(line_ends) + 1}:{column}"
