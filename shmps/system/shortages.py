"""The errors of the system that mean that memory, disk, processes or descriptors have run out."""

import errno
from typing import NamedTuple

from shmps.errors import DataError, OutOfSpace, ShmpsError


class Shortage(NamedTuple):
    """What has run out, in the words of a message."""

    found: str
    remedy: str


_DISK = Shortage("the disk full", "make room")
_DESCRIPTORS = Shortage("too many open files", "raise the limit (ulimit -n)")
_SHORTAGES = {
    errno.ENOSPC: _DISK,
    errno.EDQUOT: Shortage("the disk quota full", "make room"),
    errno.EFBIG: Shortage("a limit on the size of files", "raise the limit (ulimit -f)"),
    errno.ENOMEM: Shortage("too little memory", "free some (or raise the limit: ulimit -v)"),
    errno.EMFILE: _DESCRIPTORS,
    errno.ENFILE: _DESCRIPTORS,
    errno.EAGAIN: Shortage("too many processes", "raise the limit (ulimit -u)"),
}


def shortage(error: OSError, in_memory: bool = False) -> Shortage | None:
    """The shortage behind an error of the system; None: the error has another cause.

    in_memory: of a file in memory, which has no disk that could be full.
    """
    code = errno.ENOMEM if in_memory and error.errno == errno.ENOSPC else error.errno
    return _SHORTAGES.get(code or 0)


def unreadable(error: OSError | ValueError, rule: str, remedy: str) -> ShmpsError:
    """What to raise where something cannot be read: OutOfSpace for a shortage, else DataError.

    rule: what is read, and by what name; remedy: what to do unless it is a shortage.
    """
    if isinstance(error, OSError) and (short := shortage(error)) is not None:
        return OutOfSpace(f"{rule}, found {short.found} ({error.strerror}); {short.remedy}")
    return DataError(f"{rule}, found: {getattr(error, 'strerror', None) or error}; {remedy}")
