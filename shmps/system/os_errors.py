"""Translate errors of the operating system: an exhausted memory, disk or limit is OutOfSpace."""

import errno
from typing import NamedTuple

from shmps.errors import DataError, OutOfSpace, ShmpsError


class Shortage(NamedTuple):
    """An exhausted resource, as a message names it, and what to do."""

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
    """Return the shortage that caused an error; None if the error has another cause.

    in_memory: the error is about a file in memory, for which ENOSPC means too little memory.
    """
    code = errno.ENOMEM if in_memory and error.errno == errno.ENOSPC else error.errno
    return _SHORTAGES.get(code or 0)


def unreadable(error: OSError | ValueError, rule: str, remedy: str) -> ShmpsError:
    """Return the error to raise for a file that cannot be read: OutOfSpace for a shortage, else DataError.

    rule: the path, and what must hold for it; remedy: what to do if the cause is no shortage.
    """
    if isinstance(error, OSError) and (short := shortage(error)) is not None:
        return OutOfSpace(f"{rule}, got {short.found} ({error.strerror}); {short.remedy}")
    return DataError(f"{rule}, got: {getattr(error, 'strerror', None) or error}; {remedy}")
