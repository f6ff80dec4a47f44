"""Too little memory is a clear error before training starts: no OOM kill, no SIGBUS later."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shmps import memory

LIMIT = 400 * 2**20


@pytest.fixture
def small_cgroup():
    """The file that takes a process into a memory cgroup with LIMIT bytes."""
    for root, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup", root, f"shmps-test-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(LIMIT))
        except OSError:
            group.rmdir()
            continue
        yield group / "cgroup.procs"
        group.rmdir()
        return
    pytest.skip("no memory cgroup can be made here: it takes root")


def in_cgroup(procs, program):
    command = f'echo $$ > {procs} && exec "$0" -c "$1"'
    return subprocess.run(["sh", "-c", command, sys.executable, program], capture_output=True, text=True)


def test_what_does_not_fit_in_the_cgroup_is_refused_before_it_is_touched(small_cgroup):
    program = "import shmps\nwith shmps.Cluster({}) as cluster: print(cluster.weights().sum())"
    fits, does_not = (in_cgroup(small_cgroup, program.format(keys)) for keys in (100_000, 20_000_000))
    assert (fits.returncode, fits.stdout) == (0, "0.0\n"), fits.stderr
    assert does_not.returncode == 1  # a Python exception, not SIGKILL
    assert "OutOfSpace: the shared arrays must fit in memory: they need" in does_not.stderr


def test_so_it_is_on_the_command_line(small_cgroup, tmp_path):
    rows = tmp_path / "wide.svm"
    rows.write_text("1 1:1 20000000:1\n-1 2:1\n")
    arguments = ["train", "--workers", "1", "--data", str(rows)]
    program = f"from shmps import cli; raise SystemExit(cli.main({arguments}))"
    done = in_cgroup(small_cgroup, program)
    assert done.returncode == 6, done.stderr
    assert "must fit in memory" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("0::/mine", {"mine/memory.max": "1000000", "mine/memory.current": "400000", "mine/memory.stat": ""}),
        (
            "4:memory:/mine",
            {
                "memory/mine/memory.limit_in_bytes": "1000000",
                "memory/mine/memory.usage_in_bytes": "700000",
                "memory/mine/memory.stat": "total_inactive_file 300000\n",
            },
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_both_versions_of_cgroups_are_read(name, files, tmp_path, monkeypatch):
    (tmp_path / "cgroup").write_text(f"{name}\n")
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    places = {"/proc/self/cgroup": tmp_path / "cgroup", "/sys/fs/cgroup": tmp_path}
    places["/sys/fs/cgroup/memory"] = tmp_path / "memory"
    monkeypatch.setattr(memory, "Path", lambda first, *more: Path(places.get(first, first), *more))
    assert memory.available_memory() == 600_000
