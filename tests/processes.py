"""Looking at processes from outside."""

import contextlib
import os
import pty
import subprocess
import termios
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEADLINE = 300.0  # seconds for what takes a few on an idle machine: only a hang takes as long


def children_of(pid: int) -> list[int]:
    """The processes that any thread of `pid` started and that are still there."""
    children = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
                found = Path(f"/proc/{pid}/task/{task}/children").read_text()
                children += [int(child) for child in found.split()]
    return children


def nodes_of(pid: int) -> list[int]:
    """The nodes among the descendants of `pid`: its forks, new interpreters, what a server forked."""
    nodes = []
    for child in children_of(pid):
        command = _command(child)
        if "boot import serve" in command:
            nodes += children_of(child)
        elif command == _command(pid) or "boot import main" in command:
            nodes.append(child)
    return nodes


def _command(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return "gone"


def alive(pid: int) -> bool:
    """Whether a thread of the process is left: its first may be a zombie while another ends."""
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    threads = int(others[16])
    return state != "Z" or threads > 1


def on_terminal(command, columns):
    """What a command, run in the root of the checkout, writes to stderr if that is a terminal so wide."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, columns))
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end has gone
                break
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


@contextlib.contextmanager
def stdin(path):
    """The file in the place of this process's stdin."""
    kept = os.dup(0)
    with open(path, "rb") as file:
        os.dup2(file.fileno(), 0)
        try:
            yield
        finally:
            os.dup2(kept, 0)
            os.close(kept)
