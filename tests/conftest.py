"""Every test leaves nothing behind: no child process, no shared-memory segment, no open nameless file."""

import gc
import multiprocessing
import os
import re
import signal
import subprocess
import time
import warnings
from pathlib import Path

import pytest
from processes import DEADLINE, nodes_of

from shmps.cli import main as cli

# The more memory a process has, the longer its forks take: three times as long with scikit-learn imported.
LARGE = re.compile(r"importorskip|from sklearn")


def pytest_collection_modifyitems(items):
    """Files whose tests import large packages come last."""
    is_large = {path: bool(LARGE.search(path.read_text())) for path in {item.path for item in items}}
    items.sort(key=lambda item: is_large[item.path])


def nameless_files() -> list[str]:
    """The memfds that this process holds open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(descriptor))
        except OSError:  # the listing's own descriptor
            continue
    return [link for link in links if "memfd:shmps" in link]


def named_segments() -> set[str]:
    # Other programs on the machine, such as joblib, make semaphores and folders there.
    names = {path.name for path in Path("/dev/shm").iterdir()}
    return {name for name in names if not name.startswith(("sem.", "joblib_"))}


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    before = named_segments()
    yield
    if nameless_files():  # held by a cycle of references, perhaps; to look for those takes 0.2 s
        gc.collect()
    assert multiprocessing.active_children() == []
    deadline = time.monotonic() + DEADLINE  # the fork server reaps its nodes when it comes to it
    while nodes_of(os.getpid()) and time.monotonic() < deadline:
        pass
    assert nodes_of(os.getpid()) == []
    assert nameless_files() == []
    assert named_segments() <= before


@pytest.fixture
def shmps(capsys, monkeypatch):
    """A command of `shmps` in this process: shmps("predict", ...) is as a process that has ended."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def run(*arguments):
        line = [*map(str, arguments)]
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # a program does not have the filters of the tests
            code = cli.main(line)
        return subprocess.CompletedProcess(line, code, *capsys.readouterr())

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)
