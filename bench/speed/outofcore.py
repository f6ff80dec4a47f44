"""Data that does not fit in memory: convert a text and train on it within a memory budget per process.

The text repeats rows of tf-idf-like values, as in `load`, until it is large enough. It lies in the folder for
temporary files, which needs about twice its size. Its conversion and each way of training run in a process of
their own. The benchmark reads the anonymous and shared memory of that process, its servers and its workers 20
times a second (Anonymous of /proc/PID/smaps_rollup, RssShmem of /proc/PID/status). This excludes the page
cache, which holds the data.

Results: "budget_bytes", "text_bytes", "rows", "nonzeros", "convert_seconds", "convert_peak_bytes", "open_ms",
"trainings": [{"way", "seconds", "peak_bytes": {process: peak}}].
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from bench.processes import children, memory_of
from bench.record import ROOT, markdown
from bench.speed import load
from bench.timing import progress, seconds
from shmps import LogisticRegression
from shmps.data import mapped
from shmps.errors import NotConverged, OutOfSpace

SIZE, QUICK_SIZE = 2 * 10**9, 5 * 10**7  # bytes of text
BUDGET, QUICK_BUDGET = 600 * 10**6, 130 * 10**6  # bytes per process
ROWS = 20_000  # the rows that the text repeats
SERVERS = 1
WAYS: dict[str, dict[str, Any]] = {
    "sync, minibatches of 256": {"solver": "minibatch", "epochs": 1},
    "async, minibatches of 256": {"mode": "async", "epochs": 1},
    "hogwild": {"mode": "hogwild", "epochs": 1, "updater": "sgd"},
    "lbfgs, 20 rounds": {"solver": "lbfgs", "iterations": 20, "tol": 1e-300},
}
_INTERVAL = 0.05  # seconds between two readings of memory


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    size, budget = (QUICK_SIZE, QUICK_BUDGET) if quick else (SIZE, BUDGET)
    with tempfile.TemporaryDirectory() as folder:
        free = shutil.disk_usage(folder).free
        if free < 2.5 * size:
            raise OutOfSpace(f"{folder}: outofcore needs {2.5 * size:,.0f} free bytes there, got {free:,}")
        text, data = Path(folder, "text.svm"), Path(folder, "data.shmps")
        generate(text, size)
        results = converted(text, data)
        text.unlink()
        results["trainings"] = []
        with progress("outofcore", len(WAYS)) as bar:
            for way, settings in WAYS.items():
                results["trainings"].append({"way": way} | trained(data, budget, settings))
                bar.update()
    return {"workers": 2, "servers": SERVERS}, results | {"budget_bytes": budget}


def generate(path: Path, size: int) -> None:
    """Write a text of at least `size` bytes."""
    part = path.with_suffix(".part")
    load.generate(part, ROWS)
    rows = part.read_bytes()
    part.unlink()
    with open(path, "wb") as file:
        while file.tell() < size:
            file.write(rows)


def converted(text: Path, data: Path) -> dict[str, Any]:
    """Convert the text to mapped data in a process of its own, and open it."""
    spent, peaks = watched("convert", str(text), str(data))
    open_seconds = seconds(mapped.load, data)
    X, _ = mapped.load(data)
    return {
        "open_ms": 1e3 * open_seconds,
        "text_bytes": text.stat().st_size,
        "rows": X.shape[0],
        "nonzeros": X.nnz,
        "convert_seconds": spent,
        "convert_peak_bytes": max(peaks.values()),
    }


def trained(data: Path, budget: int | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Train with 2 workers in a process of its own; return the seconds, and the peak of each process."""
    spent, peaks = watched("train", str(data), json.dumps(settings | {"memory": budget}))
    return {"seconds": spent, "peak_bytes": peaks}


def watched(*task: str) -> tuple[float, dict[str, int]]:
    """Run `main(*task)` in a process; return its seconds, and the peak memory of it and of each node."""
    peaks: dict[str, int] = {}
    command = [sys.executable, "-m", "bench.speed.outofcore", *task]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        nodes: list[int] = []
        while process.poll() is None:
            nodes += [pid for pid in children(process.pid) if pid not in nodes]
            for name, pid in {"the process itself": process.pid, **_named(nodes)}.items():
                peaks[name] = max(peaks.get(name, 0), memory_of(pid))
            time.sleep(_INTERVAL)
        assert process.stdout is not None
        printed = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
    return float(printed), peaks


def _named(nodes: list[int]) -> dict[str, int]:
    """Name the nodes: servers start first, so they have the lower process ids."""
    return {
        f"server {i}" if i < SERVERS else f"worker {i - SERVERS}": pid for i, pid in enumerate(sorted(nodes))
    }


def failed(results: dict[str, Any]) -> bool:
    """Return whether a process of a training exceeded the budget."""
    return any(
        peak > results["budget_bytes"]
        for training in results["trainings"]
        for peak in training["peak_bytes"].values()
    )


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    budget = results["budget_bytes"]
    rows = [["converting", f"{results['convert_seconds']:.1f}", f"{results['convert_peak_bytes'] / 1e6:.0f}"]]
    for training in results["trainings"]:
        peaks = training["peak_bytes"]
        shown = ", ".join(f"{name} {peak / 1e6:.0f}" for name, peak in sorted(peaks.items()))
        over = "" if max(peaks.values()) <= budget else ": OVER THE BUDGET"
        rows.append([training["way"], f"{training['seconds']:.1f}", shown + over])
    caption = (
        f"{results['text_bytes'] / 1e6:,.0f} MB of text, {results['rows']:,} rows, {results['nonzeros']:,} "
        f"non-zeros; opened in {results['open_ms']:.1f} ms; budget {budget / 1e6:.0f} MB per process."
    )
    return f"{caption}\n\n{markdown(['', 'seconds', 'peak of anonymous and shared memory, MB'], rows)}"


def main(task: str, path: str, argument: str) -> None:
    """Convert `path` to the mapped data `argument`, or train on `path` with the JSON settings `argument`."""
    if task == "convert":
        print(seconds(mapped.convert, path, argument))
    else:
        warnings.simplefilter("ignore", NotConverged)
        model = LogisticRegression(workers=2, servers=SERVERS, **json.loads(argument))
        print(seconds(model.fit, path))


if __name__ == "__main__":
    main(*sys.argv[1:])
