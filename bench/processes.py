"""Processes seen from outside: run a command, send a signal, read /proc."""

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.record import ROOT
from shmps.errors import ShmpsError


def run_python(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` in the root of the checkout and return its output.

    Raises ShmpsError with the command's stderr if the exit code is not 0.
    """
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        error = done.stderr.strip()[-2000:]
        raise ShmpsError(f"python {shlex.join(arguments)}: exit code {done.returncode}: {error}")
    return done


def send(pid: int, number: int) -> bool:
    """Send signal `number`; return whether the process exists."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def nameless_files(pid: int) -> int:
    """Return how many nameless shared-memory files of shmps a process holds open."""
    count = 0
    with contextlib.suppress(OSError):  # the process has ended
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # the descriptor is closed
                count += "memfd:shmps" in os.readlink(f"/proc/{pid}/fd/{name}")
    return count


def children(pid: int) -> list[int]:
    """Return the running children that the main thread of a process started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def session(leader: int) -> list[int]:
    """Return the processes of a session, without zombies."""
    return [pid for pid, state, session in _all_processes() if session == leader and state != "Z"]


def is_stopped(pid: int) -> bool:
    """Return whether the process is stopped by a signal, or has ended."""
    found = _state_and_session(pid)
    return found is None or found[0] in "TtZX"


def _all_processes() -> Iterator[tuple[int, str, int]]:
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if found := _state_and_session(pid):
            yield pid, *found


def _state_and_session(pid: int) -> tuple[str, int] | None:
    """Read fields 3 and 6 of /proc/PID/stat (proc(5)); None if the process has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return fields[0], int(fields[3])


def memory_of(pid: int) -> int:
    """Return the bytes of anonymous and shared memory that a process uses; 0 if it has ended."""
    return _memory(pid, "smaps_rollup", "Anonymous:") + _memory(pid, "status", "RssShmem:")


def proportional_memory_of(pid: int) -> int:
    """Return the proportional set size of a process in bytes; 0 if it has ended."""
    return _memory(pid, "smaps_rollup", "Pss:")


def _memory(pid: int, file: str, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(name))
