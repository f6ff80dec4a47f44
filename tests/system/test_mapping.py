"""Mappings of files: one memory for all of them, whether huge pages back it or not."""

import gc
import mmap
import os

import numpy as np
import pytest

from shmps.system.mapping import FileMapping

HUGE = 2**21


@pytest.fixture
def file():
    if not hasattr(os, "memfd_create"):
        pytest.skip("needs nameless files")
    descriptor = os.memfd_create("test")
    os.posix_fallocate(descriptor, 0, 3 * HUGE + 5)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("size", [5, 3 * HUGE + 5])
def test_all_mappings_of_a_file_are_one_memory(file, size):
    first, second = FileMapping(file, size), FileMapping(file, size, writable=False)
    assert len(first.bytes) == len(second.bytes) == size and second.bytes.readonly
    first.bytes[0], first.bytes[-1] = 1, 2
    first.use_huge_pages(size)
    first.bytes[-2] = 3
    assert (second.bytes[0], second.bytes[-1], second.bytes[-2]) == (1, 2, 3)
    assert os.pread(file, 1, size - 1) == b"\2"


def test_a_large_file_lies_where_huge_pages_can_back_it(file):
    for writable in (True, False):
        mapping = FileMapping(file, 3 * HUGE + 5, writable)
        assert np.frombuffer(mapping.bytes, np.uint8).ctypes.data % HUGE == 0


def test_bytes_stay_mapped_as_long_as_an_array_is_over_them(file):
    array = np.frombuffer(FileMapping(file, 3 * HUGE).bytes, np.uint8)
    gc.collect()
    array[-1] = 7
    assert os.pread(file, 1, 3 * HUGE - 1) == b"\7"


def test_where_the_system_gives_no_huge_pages_nothing_changes(file):
    class Refusing(mmap.mmap):
        def madvise(self, *args):
            raise OSError(22, "Invalid argument")

    mapping = FileMapping(file, 3 * HUGE)
    mapping.bytes[-1] = 7
    mapping._room = Refusing(-1, 3 * HUGE)
    mapping.use_huge_pages(3 * HUGE)
    assert mapping.bytes[-1] == 7


def test_a_file_that_cannot_be_mapped_is_an_error(file):
    read_end, write_end = os.pipe()
    for size in (5, HUGE):
        with pytest.raises(OSError):
            FileMapping(read_end, size)
    os.close(read_end)
    os.close(write_end)
