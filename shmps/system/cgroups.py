"""The control groups of this process: the limits that a container sets."""

import contextlib
from pathlib import Path

ROOT = "/sys/fs/cgroup"


def cgroups(controller: str) -> list[Path]:
    """Return the folders of this process's cgroup and of its parents, inner ones first.

    controller: a controller of version 1, such as "memory"; "": version 2, with one hierarchy for all.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                own = Path(ROOT, controller, path.lstrip("/"))
                return [own, *own.parents]
    return [Path(ROOT, controller)]


def cpu_quota() -> float:
    """Return the least quota of the cgroups, in cores; infinity if there is none."""
    quotas = [float("inf")]
    for folder in cgroups(""):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
            quota, period = map(int, (folder / "cpu.max").read_text().split())
            quotas.append(quota / period)
    for folder in cgroups("cpu"):
        with contextlib.suppress(OSError, ValueError):
            quota = int((folder / "cpu.cfs_quota_us").read_text())
            period = int((folder / "cpu.cfs_period_us").read_text())
            if quota > 0:  # -1: no limit
                quotas.append(quota / period)
    return min(quotas)
