"""If memory, disk or descriptors run out, any call that fails raises OutOfSpace, with exit code 6."""

import errno
import mmap
import os
import resource

import numpy as np
import pytest

from shmps.data import mapped, npy, svmlight, text_files
from shmps.engines.processes.value_files import ValueFile
from shmps.errors import DataError, OutOfSpace
from shmps.models.formats import load, save
from shmps.models.model import Model
from shmps.system import files
from shmps.system.memory import NamelessMemory

CODES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "ulimit -f",
    errno.ENOMEM: "ulimit -v",
    errno.EMFILE: "ulimit -n",
    errno.ENFILE: "ulimit -n",
}
ROWS = "1 1:1 2:1\n0 2:1\n" * 20


def failing(code):
    def call(*args, **named):
        raise OSError(code, os.strerror(code))

    return call


def allocate():
    NamelessMemory(1 << 16).close()


def report():
    file = ValueFile()
    try:
        file.write(np.zeros(9))
    finally:
        file.close()


def read_text():
    svmlight.read("rows")


def read_folder():
    mapped.load("d")


def read_model():
    load("m")


CALLS = {
    "allocate": (os, "posix_fallocate", allocate),
    "create": (os, "memfd_create", allocate),
    "map": (mmap, "mmap", allocate),
    "report": (os, "pwrite", report),
    "text": (text_files, "open", read_text),
    "description": (mapped, "open", read_folder),
    "array": (npy, "open", read_folder),
    "mapped array": (np, "memmap", read_folder),
    "model": (files, "open", read_model),
}


IN_MEMORY = ("allocate", "create", "map", "report")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows").write_text(ROWS)
    mapped.convert("rows", "d")
    save(Model(np.ones(2), 0.0, (0, 1)), "m")


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", CALLS)
def test_every_shortage_is_named_with_its_remedy(call, code, here, monkeypatch):
    place, name, use = CALLS[call]
    with monkeypatch.context() as patched, pytest.raises(OutOfSpace) as caught:
        patched.setattr(place, name, failing(code), raising=False)
        use()
    remedy = "free some" if code == errno.ENOSPC and call in IN_MEMORY else CODES[code]
    assert os.strerror(code) in str(caught.value) and remedy in str(caught.value)
    use()


@pytest.mark.parametrize("call", ["text", "description", "array", "mapped array", "model"])
def test_other_errors_of_reading_stay_errors_of_the_data(call, here, monkeypatch):
    place, name, use = CALLS[call]
    monkeypatch.setattr(place, name, failing(errno.EACCES), raising=False)
    with pytest.raises(DataError, match="Permission denied"):
        use()


@pytest.mark.parametrize(
    "command", [["train", "--data", "./rows", "--workers", "2"], ["predict", "m", "rows", "--output", "p"]]
)
def test_a_limit_on_the_size_of_files_ends_a_command_with_6(shmps, here, command):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, before[1]))
    try:
        done = shmps(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.returncode == 6, done.stderr
    assert "File too large" in done.stderr and "ulimit -f" in done.stderr and "Traceback" not in done.stderr


def test_a_shortage_that_no_module_expects_gives_one_sentence_and_6(shmps, here, monkeypatch):
    monkeypatch.setattr("shmps.models.model.Model.predict", failing(errno.EMFILE))
    done = shmps("predict", "m", "rows")
    assert done.returncode == 6 and "Too many open files" in done.stderr and "ulimit -n" in done.stderr
