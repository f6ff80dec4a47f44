"""The text of a file in memory: as it lies there or unpacked, and refused in other encodings.

A text is (bytes,) uint8, read-only, and ends with LF.
"""

import bz2
import io
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

import numpy as np

from shmps.data import foreign
from shmps.errors import DataError, OutOfSpace, ShmpsError
from shmps.system.memory import available_memory
from shmps.system.os_errors import unreadable
from shmps.system.parallel import parallel_map

PART = 1 << 22  # bytes read at a time
BUFFER = 1 << 18  # and where it is copied once more: so much stays in the cache
CHUNK = 1 << 14  # bytes of an archive at a time
_XZ_MEMORY = 1 << 28  # bytes that an archive may ask for: four times what xz -9 takes


class _Gzip:
    """A stream of gzip, as those of bz2 and lzma are used."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)
        self.needs_input = True

    def decompress(self, data: bytes, most: int) -> bytes:
        """At most so many bytes; without `needs_input`, the next call gets more of them by no data."""
        text = self._stream.decompress(self._stream.unconsumed_tail + data, most)
        self.needs_input = len(text) < most and not self._stream.unconsumed_tail
        return text

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data


class Archive(NamedTuple):
    """A way of packing, and how it is unpacked."""

    mark: bytes  # that its files begin with
    kind: str
    new_stream: Callable[[], Any]


ARCHIVES = (
    Archive(b"\x1f\x8b", "gzip", _Gzip),
    Archive(b"BZh", "bzip2", bz2.BZ2Decompressor),
    Archive(b"\xfd7zXZ\0", "xz", lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)),
)
_LONGEST_MARK = max(len(archive.mark) for archive in ARCHIVES)
UTF8_MARK, UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")  # byte order marks
_TO_UTF8 = "convert it with: iconv -f UTF-16 -t UTF-8"


def read(name: str) -> np.ndarray:
    """The bytes of a file, or of a pipe. Raises DataError where it can not be read.

    On all cores, into an array, for which numpy asks for large pages: a quarter of the time of `file.read()`.
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
                f"{name}: a file stays as it is while it is read, found it cut short; read it again"
            )
        rest = file.read()  # of a pipe all, since it has no size; of a file what was added to it
    return np.concatenate((data, np.frombuffer(rest, np.uint8))) if rest else data


def blocks(name: str, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """The text of a file in parts of whole lines, and how many of the file's bytes were read for it.

    Parts have about `size` bytes, or one line where that is longer, and last until the next is asked for: the
    memory is used again. Raises DataError as `read`, and for a broken archive, and OutOfSpace for a line that
    does not fit in memory.
    """
    with _named_errors(name), open(name, "rb") as file:
        head = file.peek(_LONGEST_MARK)
        archive = next((known for known in ARCHIVES if head.startswith(known.mark)), None)
        text, held, taken = np.empty(2 * size, np.uint8), 0, 0

        def parts() -> Iterator[bytes]:
            nonlocal taken
            while part := file.read(min(size, CHUNK if archive else BUFFER)):
                taken += len(part)
                yield part

        for part in parts() if archive is None else _unpacked(parts(), archive, name):
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
        start(text, name)  # which names UTF-16 and other kinds of files
        raise DataError(
            f"{name}: text must be ASCII or UTF-8, found NUL bytes in a long line; check what wrote the file"
        )
    _must_fit(2 * len(text), name)


def _must_fit(size: int, name: str) -> None:
    """Raises OutOfSpace."""
    if size > (room := available_memory()):
        raise OutOfSpace(
            f"{name}: what is read must fit in memory, found {size:,} bytes, and {room:,} available; check "
            f"that this is the file, or make it mapped data with shmps convert"
        )


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    try:
        yield
    except ShmpsError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise unreadable(error, f"{name}: data is read from a file", "check path and permissions") from error


def text_of(data: bytes | np.ndarray, name: str) -> np.ndarray:
    """The text of a file's bytes (not copied where they are one).

    Raises DataError for a broken archive, and OutOfSpace where what is in it does not fit in memory.
    """
    raw = np.frombuffer(data, np.uint8)
    head = raw[:_LONGEST_MARK].tobytes()
    archive = next((known for known in ARCHIVES if head.startswith(known.mark)), None)
    if archive is not None:
        text = io.BytesIO()
        parts = (raw[at : at + CHUNK].tobytes() for at in range(0, len(raw), CHUNK))
        room = available_memory() // 2  # what is parsed takes as much again
        for part in _unpacked(parts, archive, name):
            if text.tell() + len(part) > room:
                _must_fit(text.tell(), name)
            text.write(part)
        raw = np.frombuffer(text.getbuffer(), np.uint8)
    return _ended(raw)


def _ended(text: np.ndarray) -> np.ndarray:
    """With an LF at its end, and read-only."""
    if not text.size or text[-1] != ord("\n"):
        text = np.append(text, np.frombuffer(b" \n", np.uint8))  # not LF alone: it would complete a last CR
    text = text.view()
    text.flags.writeable = False  # of one type, so that kernels are compiled once
    return text


def _unpacked(parts: Iterable[bytes], archive: Archive, name: str) -> Iterator[bytes]:
    """What the parts of an archive of one or more members become: at most BUFFER bytes at a time."""
    stream = archive.new_stream()
    try:
        for rest in parts:
            while rest or not (stream.needs_input or stream.eof):
                if stream.eof:  # another member, or the zeros that pad some archives
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    stream = archive.new_stream()
                yield stream.decompress(rest, BUFFER)
                rest = stream.unused_data
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, lzma.LZMAError) and "limit" in str(error):
            raise DataError(
                f"{name}: an xz archive takes at most {_XZ_MEMORY >> 20} MiB to unpack, found one that takes "
                f"more; unpack it first: xz -d"
            ) from error
        raise DataError(
            f"{name}: a {archive.kind} archive must be intact, found it corrupt ({error}); fetch it again"
        ) from error
    if not stream.eof:
        raise DataError(f"{name}: a {archive.kind} archive must be whole, found it truncated; fetch it again")


def start(text: np.ndarray, name: str) -> int:
    """Where the first line starts: after the byte order mark of UTF-8.

    Raises DataError for UTF-16's, and for files that are no text.
    """
    foreign.refuse(text, name)
    head = text[:3].tobytes()
    if head.startswith(UTF16_MARKS):
        raise DataError(
            f"{name}: text must be ASCII or UTF-8, found the byte order mark of UTF-16; {_TO_UTF8}"
        )
    return len(UTF8_MARK) if head == UTF8_MARK else 0


def check(text: np.ndarray, name: str, lines: int = 0) -> None:
    """Raises DataError for a NUL, or a CR without LF; `lines` as in `place`."""
    ends = np.flatnonzero(text == ord("\r"))
    if (text[ends + 1] != ord("\n")).any() or not text.all():
        refuse_strange(text, name, lines)


def refuse_strange(text: np.ndarray, name: str, lines: int = 0) -> NoReturn:
    """Tell the first NUL of a text, or if it has none its first CR without LF; `lines` as in `place`."""
    if nul := re.search(rb"\0", text.data):
        head = text[:1024] == 0
        looks_utf16 = max(head[0::2].sum(), head[1::2].sum()) >= max(2, len(head) // 4)
        found = (
            f"NUL bytes as in UTF-16; {_TO_UTF8}" if looks_utf16 else "a NUL byte; check what wrote the file"
        )
        raise DataError(
            f"{place(text, name, nul.start(), lines)}: text must be ASCII or UTF-8, found {found}"
        )
    at = next(match.start() for match in re.finditer(rb"\r(?!\n)", text.data))
    raise DataError(
        f"{place(text, name, at, lines)}: lines end with LF or CR LF, found a CR without LF; "
        f"convert the line ends"
    )


def place(text: np.ndarray, name: str, at: int, lines: int = 0) -> str:
    """`file:line:column` of the byte at offset `at`, both from 1; `lines` of the file precede the text."""
    line_ends = np.flatnonzero(text[:at] == ord("\n"))
    column = at - line_ends[-1] if len(line_ends) else at + 1
    return f"{name}:{lines + len(line_ends) + 1}:{column}"
