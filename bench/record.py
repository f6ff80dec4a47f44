"""The results file of a benchmark, and the spreads and tables in it.

`bench/results/NAME.json` (NAME-quick.json for a run with few repeats) is one JSON object:

    name      the benchmark
    quick     true for a quick run; do not quote such figures
    date      the end of the run: UTC, ISO 8601
    commit    {"hash", "dirty"} of the working tree at the end of the run. dirty: a file outside of the
              results differs from that commit or is not in it. Both are null outside of a git checkout
    machine   {"cpu", "cores", "usable_cores" (by this process), "memory_bytes", "kernel"}
    versions  {"python", "numpy", "scipy", "numba", "shmps"}
    settings  the parameters of the run
    results   the measurements; the docstring of the benchmark's module describes them
    kept      {name: {"date", "commit", "machine", "versions"}} of the results that are of an earlier run,
              since this one measured only parts of the benchmark

A quantity that was measured in several repeats is a spread: {"median", "min", "max", "values"}, with the
values in the order of measurement. Where a quantity has a unit, its name ends with the unit.
"""

import datetime
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy
import scipy

import shmps
from shmps.system.parallel import usable_cores

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
_RUN = ("date", "commit", "machine", "versions")


def path_of(name: str, quick: bool) -> Path:
    """Return the path of a results file."""
    return RESULTS / f"{name}{'-quick' if quick else ''}.json"


def save(
    name: str, settings: dict[str, Any], results: dict[str, Any], quick: bool, partly: bool = False
) -> Path:
    """Write the results file and return its path. partly: keep the file's results of other parts."""
    path = path_of(name, quick)
    content: dict[str, Any] = {
        "name": name,
        "quick": quick,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": _machine(),
        "versions": {
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "scipy": scipy.__version__,
            "numba": numba.__version__,
            "shmps": shmps.__version__,
        },
        "settings": settings,
        "results": results,
        "kept": {},
    }
    if partly:
        _keep(json.loads(path.read_text()), content)
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path


def _keep(earlier: dict[str, Any], content: dict[str, Any]) -> None:
    """Add what an earlier run measured and this one did not."""
    run, before = {name: earlier[name] for name in _RUN}, earlier.get("kept", {})
    content["kept"] = {
        name: before.get(name, run) for name in earlier["results"] if name not in content["results"]
    }
    for name in ("settings", "results"):
        content[name] = earlier[name] | content[name]


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Summarise the values of several repeats for the results file."""
    values = [float(value) for value in values]
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "values": values}


def ratio(numerators: Iterable[float], denominators: Iterable[float]) -> dict[str, Any]:
    """Return the spread of the ratios within each repeat, so that a slow minute of the machine cancels."""
    return spread(a / b for a, b in zip(numerators, denominators, strict=True))


def shown(spread: dict[str, Any], form: str = ",.0f", unit: float = 1.0) -> str:
    """Format a spread as `median (min to max)`, in multiples of `unit`, each number with `form`."""
    median, least, most = (format(spread[name] / unit, form) for name in ("median", "min", "max"))
    return f"{median} ({least} to {most})"


def markdown(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table: the first column is left-aligned, the others are right-aligned."""
    lines = [list(headers), *(list(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        [
            f"{row[0]:<{widths[0]}}",
            *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        for row in lines
    ]
    rule = ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    head, *body = (f"| {' | '.join(row)} |" for row in aligned)
    return "\n".join([head, f"|{'|'.join(rule)}|", *body])


def _machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _commit() -> dict[str, Any]:
    head = _git("rev-parse", "HEAD")
    # The results of an earlier benchmark do not make the tree dirty.
    changes = _git("status", "--porcelain", "--", ".", ":(exclude)bench/results")
    return {"hash": head, "dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
