"""Shared memory without a name, which cannot leak even if all processes are killed at once."""

import contextlib
import os
from collections.abc import Mapping
from multiprocessing import reduction
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np

from shmps.errors import OutOfSpace
from shmps.system.cgroups import cgroups
from shmps.system.mapping import FileMapping
from shmps.system.os_errors import shortage

_LINE = 64  # bytes in a cache line: no two arrays share one

Fields = Mapping[str, tuple[type, tuple[int, ...]]]


class NamelessMemory(SharedMemory):
    """Shared memory over a file without a name. Processes inherit it, or get its descriptor.

    On Linux the file is a memfd. Elsewhere it is a named segment whose name is removed at once, so that only
    a kill between these two calls leaks it. Pages are allocated at once, so that too little memory is an
    error here and not a SIGBUS later.

    Raises OutOfSpace if less than `size` bytes are available.
    """

    _close = staticmethod(os.close)  # when Python exits, the names of this module may go before this object

    def __init__(self, size: int):
        must_be_available(size)
        descriptor = -1
        try:
            descriptor = _nameless_file(size)
            allocate(descriptor, size)
            self._attach(descriptor, size)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            if (short := shortage(error, in_memory=True)) is None:
                raise
            raise _refused(size, f"got {short.found} ({error.strerror}); {short.remedy}, or") from error

    def _attach(self, descriptor: int, size: int) -> None:
        self._mapping = FileMapping(descriptor, size)  # first: if it raises, the caller closes it
        self._fd, self._size, self._name = descriptor, size, "nameless"
        self._buf = self._mapping.bytes

    def close(self) -> None:
        """Close the descriptor. The mapping ends with the last array over it, never before."""
        self._buf = self._mapping = None  # type: ignore[assignment]
        if self._fd >= 0:
            self._close(self._fd)
            self._fd = -1

    def unlink(self) -> None:
        """Do nothing: there is no name."""

    def all(self) -> memoryview:
        """Return the bytes, to read and write."""
        assert self._buf is not None, "closed"
        return self._buf

    def use_huge_pages(self, size: int) -> None:
        """Move the first `size` bytes into huge pages, if there are some: they are read at random."""
        self._mapping.use_huge_pages(size)

    def read_only(self) -> memoryview:
        """Return a second mapping of the same bytes, which is read-only."""
        return FileMapping(self._fd, self._size, writable=False).bytes

    def __reduce__(self):
        return _received, (reduction.DupFd(self._fd), self._size)


def _received(descriptor, size: int) -> NamelessMemory:
    memory = NamelessMemory.__new__(NamelessMemory)
    memory._attach(descriptor.detach(), size)
    return memory


def _nameless_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("shmps")
    named = SharedMemory(create=True, size=size)
    named.unlink()
    descriptor = os.dup(named._fd)  # type: ignore[attr-defined]
    named.close()
    return descriptor


def allocate(descriptor: int, size: int) -> None:
    """Let a file have `size` bytes, all of them allocated if the system can do that. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def carve(fields: Fields, buffer=None) -> tuple[dict[str, np.ndarray], int]:
    """Lay out `fields` (name -> dtype, shape) one after the other in `buffer`.

    Return the arrays by name (none without a buffer) and the number of bytes that they need. `np.frombuffer`
    keeps the mapping alive, so an array cannot outlive its memory.
    """
    arrays: dict[str, np.ndarray] = {}
    offset = 0
    for name, (dtype, shape) in fields.items():
        count = int(np.prod(shape, dtype=np.int64))
        if buffer is not None:
            flat: np.ndarray = np.frombuffer(buffer, dtype, count, offset) if count else np.empty(0, dtype)
            arrays[name] = flat.reshape(shape)
        offset += -(-count * np.dtype(dtype).itemsize // _LINE) * _LINE
    return arrays, max(offset, _LINE)


def must_be_available(size: int) -> None:
    """Raise OutOfSpace if less than `size` bytes are available."""
    available = available_memory()
    if size > available:
        raise _refused(size, f"{available / 2**20:,.1f} MiB are available;")


def available_memory() -> int:
    """Return the bytes that this process may still allocate: the least that the machine and cgroups leave."""
    return min([_machine_available(), *_cgroup_available()])


def own_memory() -> int:
    """Return the bytes of anonymous and shared memory that this process uses; 0 if the system does not tell.

    The page cache does not count, because the kernel takes it back when it needs the memory.
    """
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return sum(
            1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:"))
        )
    return 0


def _machine_available() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cgroup_available() -> list[int]:
    """Return the bytes that each enclosing memory cgroup leaves (version 2, then 1); [] if there is none."""
    left = []
    for controller, limit, usage in (
        ("", "memory.max", "memory.current"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        for folder in cgroups(controller):
            # "max" is no number, and a missing file is no limit.
            with contextlib.suppress(OSError, ValueError):
                used = int((folder / usage).read_text()) - _reclaimable(folder)
                left.append(int((folder / limit).read_text()) - used)
    return left


def _reclaimable(cgroup: Path) -> int:
    """Return the bytes of the page cache that count as used, but that the kernel gives back when needed."""
    for line in (cgroup / "memory.stat").read_text().splitlines():
        if line.startswith(("inactive_file ", "total_inactive_file ")):
            return int(line.split()[1])
    return 0


def _refused(size: int, got: str) -> OutOfSpace:
    return OutOfSpace(
        f"the shared arrays must fit in memory: they need {size / 2**20:,.1f} MiB, {got} use fewer "
        f"workers, keys or a smaller max_keys"
    )
