"""Archives of one file: gzip, bzip2 and xz, recognised by first bytes and unpacked in bounded memory."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from shmps.errors import DataError

_XZ_MEMORY = 1 << 28  # bytes that an xz archive may ask for: four times what xz -9 takes


class _Gzip:
    """A stream of gzip with the interface of bz2.BZ2Decompressor, which zlib's lacks."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)
        self.needs_input = True

    def decompress(self, data: bytes, most: int) -> bytes:
        """Return at most `most` bytes. Unless `needs_input`, the next call returns more without data."""
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
    """A format of archives."""

    mark: bytes  # the first bytes of each file
    kind: str
    new_stream: Callable[[], Any]


# Not gzip.open, bz2.open and lzma.open: the last two end silently at a corrupt later member, and lzma.open
# has no limit of memory and refuses padding with zeros.
ARCHIVES = (
    Archive(b"\x1f\x8b", "gzip", _Gzip),
    Archive(b"BZh", "bzip2", bz2.BZ2Decompressor),
    Archive(b"\xfd7zXZ\0", "xz", lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)),
)
LONGEST_MARK = max(len(archive.mark) for archive in ARCHIVES)


def archive_of(head: bytes) -> Archive | None:
    """Return the format of an archive by its first bytes; None if it is none."""
    return next((archive for archive in ARCHIVES if head.startswith(archive.mark)), None)


def unpacked(parts: Iterable[bytes], archive: Archive, most: int, name: str) -> Iterator[bytes]:
    """Unpack the parts of an archive of one or more members: yield at most `most` bytes at a time."""
    stream = archive.new_stream()
    try:
        for rest in parts:
            while rest or not (stream.needs_input or stream.eof):
                if stream.eof:  # another member follows, or the zeros that pad some archives
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    stream = archive.new_stream()
                yield stream.decompress(rest, most)
                rest = stream.unused_data
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, lzma.LZMAError) and "limit" in str(error):
            raise DataError(
                f"{name}: an xz archive must take at most {_XZ_MEMORY >> 20} MiB to unpack, got one that "
                f"takes more; unpack it first: xz -d"
            ) from error
        raise DataError(
            f"{name}: a {archive.kind} archive must be intact, got it corrupt ({error}); fetch it again"
        ) from error
    if not stream.eof:
        raise DataError(f"{name}: a {archive.kind} archive must be whole, got it truncated; fetch it again")
