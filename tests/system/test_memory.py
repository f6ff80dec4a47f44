"""Too little memory is a clear error before training starts: no OOM kill, no SIGBUS later."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shmps.system import cgroups, memory
from shmps.system.parallel import usable_cores

LIMIT = 400 * 2**20


@pytest.fixture
def small_cgroup():
    """The file that moves a process into a memory cgroup of LIMIT bytes."""
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


def test_arrays_that_do_not_fit_in_the_cgroup_are_refused_before_they_are_touched(small_cgroup):
    program = "import shmps\nwith shmps.Cluster({}) as cluster: print(cluster.weights().sum())"
    fits, does_not = (in_cgroup(small_cgroup, program.format(keys)) for keys in (100_000, 20_000_000))
    assert (fits.returncode, fits.stdout) == (0, "0.0\n"), fits.stderr
    assert does_not.returncode == 1  # a Python exception, not SIGKILL
    assert "OutOfSpace: the shared arrays must fit in memory: they need" in does_not.stderr


def test_a_command_that_does_not_fit_in_the_cgroup_ends_with_6(small_cgroup, tmp_path):
    rows = tmp_path / "wide.svm"
    rows.write_text("1 1:1 20000000:1\n-1 2:1\n")
    arguments = ["train", "--workers", "1", "--data", str(rows)]
    program = f"from shmps.cli.main import main; raise SystemExit(main({arguments}))"
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
    in_cgroups_of(tmp_path, monkeypatch)
    assert memory.available_memory() == 600_000


def in_cgroups_of(folder, monkeypatch):
    """Put this process in the cgroups that the file `cgroup` in `folder` lists; their files are there too."""
    places = {"/proc/self/cgroup": folder / "cgroup"}
    monkeypatch.setattr(cgroups, "ROOT", str(folder))
    monkeypatch.setattr(cgroups, "Path", lambda first, *more: Path(places.get(first, first), *more))


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"pod/mine/cpu.max": "150000 100000"}, 2),
        ({"pod/mine/cpu.max": "max 100000", "pod/cpu.max": "300000 100000"}, 3),
        ({"pod/mine/cpu.max": "20000 100000"}, 1),
        ({"pod/mine/cpu.max": "max 100000"}, 4),
        ({"pod/mine/cpu.max": "9900000 100000"}, 4),
        ({"cpu/docker/cpu.cfs_quota_us": "200000", "cpu/docker/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/docker/cpu.cfs_quota_us": "-1", "cpu/docker/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({}, 4),
    ],
    ids=str,
)
def test_usable_cores_are_the_lesser_of_affinity_and_quota(files, cores, tmp_path, monkeypatch):
    (tmp_path / "cgroup").write_text("5:cpuset:/else\n4:cpu,cpuacct:/docker\n0::/pod/mine\n")
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{text}\n")
    in_cgroups_of(tmp_path, monkeypatch)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 4, 6}, raising=False)
    assert usable_cores() == cores
