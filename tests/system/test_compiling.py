"""Kernels compile and run whether or not numba can cache them. A single warning says that it cannot."""

import errno
import os
import re
import subprocess
import sys
import warnings

import numba.core.config
import numpy as np
import pytest
from numba.core.caching import CacheImpl
from processes import ROOT

from shmps.errors import NotCached
from shmps.linear.parameters import SCHEDULES as DECLARED_SCHEDULES
from shmps.models.formats import save
from shmps.models.model import Model
from shmps.system import compiling
from shmps.system.compiling import compiled
from shmps.updaters.descent import SCHEDULES


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of numba's cache in these tests."""
    monkeypatch.setattr(compiling, "_told", False)
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def kernels():
    """Return two kernels that have not been compiled in this process."""

    def add(a, b):
        return a + b

    def multiply(a, b):
        return a * b

    return compiled()(add), compiled()(multiply)


def told_by(run):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run()
    return [str(each.message) for each in told if each.category is NotCached]


def use():
    add, multiply = kernels()
    assert (add(2, 3), multiply(2, 3)) == (5, 6)


def test_a_compiled_kernel_is_cached_and_loaded(folder):
    assert told_by(use) == []
    add, _ = kernels()
    add(2, 3)
    assert sum(add.stats.cache_hits.values()) == 1


def test_without_a_writable_folder_kernels_compile_and_one_warning_says_so(monkeypatch):
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    (message,) = told_by(use)
    assert "set NUMBA_CACHE_DIR" in message and "compiled at every start" in message


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
@pytest.mark.parametrize("call", ["replace", "makedirs"])
def test_a_disk_that_refuses_a_kernel_gives_one_warning_and_ends_nothing(call, code, folder, monkeypatch):
    add, multiply = kernels()  # the cache could still be written

    def full(*args, **named):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        (message,) = told_by(lambda: (add(2, 3), multiply(2, 3)))
    assert os.strerror(code) in message and str(folder) in message
    assert (add(2, 3), multiply(2, 3)) == (5, 6)


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], np.random.bytes])
def test_a_damaged_file_in_the_cache_is_compiled_again_and_replaced(suffix, damage, folder):
    use()
    for path in folder.rglob("*" + suffix):
        path.write_bytes(damage(path.read_bytes()) if damage is not np.random.bytes else damage(500))
    assert told_by(use) == []
    add, _ = kernels()
    add(2, 3)
    assert sum(add.stats.cache_hits.values()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_user_without_a_home_compiles(monkeypatch):
    use()  # the other user may have no right to read modules that numba imports when it compiles
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", "")
    told, ends = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.environ |= {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"}
            os.setgid(65534)
            os.setuid(65534)
            os.write(ends, "; ".join(told_by(use)).encode())
        except BaseException as error:
            os.write(ends, repr(error).encode())
        finally:
            os._exit(0)
    os.close(ends)
    with open(told) as report:
        assert report.read().count("set NUMBA_CACHE_DIR") == 1
    assert os.waitpid(child, 0)[1] == 0


def test_a_command_runs_where_nothing_can_be_cached(tmp_path):
    save(Model(np.ones(2), 0.0, (0, 1)), tmp_path / "m")
    done = subprocess.run(
        [sys.executable, "-c", "from shmps.cli.command import main; main()", "inspect", tmp_path / "m"],
        cwd=ROOT,
        env=os.environ
        | {"NUMBA_CACHE_DIR": "/proc/none", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "") and "features" in done.stdout


def test_one_module_decides_on_the_cache_of_every_kernel():
    others = [
        path.name
        for path in (ROOT / "shmps").rglob("*.py")
        if "jit(" in path.read_text() and path.name != "compiling.py"
    ]
    assert others == []


# --- commands that need no kernel ---


def test_help_and_wrong_flags_import_neither_numba_nor_scipy():
    lines = {
        "--version": 0,
        "--help": 0,
        "nonsense": 2,
        "": 2,
        **{f"{command} --help": 0 for command in ("train", "predict", "convert", "inspect", "data")},
        "train --epochs many": 2,
        "predict --speed": 2,
        "data fetch b9b": 2,
    }
    script = f"""
import sys
from shmps.cli import main as cli
for line in {list(lines)}:
    print("returned", cli.main(line.split()))
print("imported", sorted({{"numba", "scipy"}} & set(sys.modules)))
"""
    shown = subprocess.check_output(
        [sys.executable, "-c", script], cwd=ROOT, text=True, stderr=subprocess.STDOUT
    )
    assert re.findall(r"^returned (\d)", shown, re.MULTILINE) == list(map(str, lines.values()))
    assert shown.endswith("imported []\n"), shown


def test_what_flags_name_is_what_there_is():
    assert tuple(SCHEDULES) == DECLARED_SCHEDULES
