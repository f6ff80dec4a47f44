"""The control groups that this process is in: what a container may use of its machine."""

import contextlib
from pathlib import Path

ROOT = "/sys/fs/cgroup"


def cgroups(controller: str) -> list[Path]:
    """The folders of this process's cgroup and of those around it, inner ones first.

    controller: of version 1, such as "memory"; "": version 2, which has one hierarchy for all.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                own = Path(ROOT, controller, path.lstrip("/"))
                return [own, *own.parents]
    return [Path(ROOT, controller)]


def cpu_quota() -> float:
    """Cores' worth of time that the cgroups allow: the least of them; infinite where there is no limit."""
    quotas = [float("inf")]
    for folder in cgroups(""):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number, and no limit
            quota, period = map(int, (folder / "cpu.max").read_text().split())
            quotas.append(quota / period)
    for folder in cgroups("cpu"):
        with contextlib.suppress(OSError, ValueError):
            quota = int((folder / "cpu.cfs_quota_us").read_text())
            period = int((folder / "cpu.cfs_period_us").read_text())
            if quota > 0:  # -1: no limit
                quotas.append(quota / period)
    return min(quotas)
