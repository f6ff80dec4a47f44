"""Shared mappings of files in memory, which huge pages can back.

A processor remembers the places of one or two thousand pages. Values that lie far apart are in more pages of
4 KiB than that, and then it looks up the page before it reads the value. In huge pages of 2 MiB, a server
reads and writes 4,300 keys among a million in two thirds of the time.
"""

import contextlib
import ctypes
import mmap
import os
import sys

import numpy as np

_HUGE = 2**21  # bytes of a huge page, on most machines
_MAP_FIXED = 0x10  # Linux, mman(7)
_MADV_COLLAPSE = 25  # Linux 6.1, madvise(2): also where huge pages are not enabled for shared memory
_MOST = 2**28  # bytes in huge pages: one takes a millisecond to make


class FileMapping:
    """A file, mapped at an address that is a multiple of the size of a huge page.

    bytes: the mapped bytes. The mapping ends with the last array over them.
    """

    def __init__(self, descriptor: int, size: int, writable: bool = True):
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        if sys.platform != "linux" or size < _HUGE:
            self._room, self._begin = mmap.mmap(descriptor, size, prot=protection), 0
        else:
            # Python maps at no chosen address. So it maps room enough, and the file replaces a part of that.
            private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            self._room = mmap.mmap(-1, size + _HUGE, private, protection)
            address = np.frombuffer(self._room, np.uint8).ctypes.data
            self._begin = -address % _HUGE
            _replace(address + self._begin, size, protection, descriptor)
        self.bytes = memoryview(self._room)[self._begin : self._begin + size]

    def use_huge_pages(self, size: int) -> None:
        """Move the first `size` bytes into huge pages, as far as the system gives some. Changes no byte."""
        whole = min(size, _MOST) // _HUGE * _HUGE
        if whole and hasattr(self._room, "madvise"):
            with contextlib.suppress(OSError):
                self._room.madvise(_MADV_COLLAPSE, self._begin, whole)


def _replace(address: int, size: int, protection: int, descriptor: int) -> None:
    """Map a file in the place of what is mapped at an address."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    )  # fmt: skip
    if library.mmap(address, size, protection, mmap.MAP_SHARED | _MAP_FIXED, descriptor, 0) != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
