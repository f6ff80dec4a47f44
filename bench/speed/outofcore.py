"""Data that does not fit in memory: a text is converted, and trained from within a budget per process.

The text is rows of tf-idf-like values, as in `load`, written over and over until it is large enough, into
the folder for temporary files (which takes about twice its size). It is converted, and trained from in a
process of its own for each way of training: that process, its servers and its workers are looked at 20 times
a second for their anonymous and shared memory (Anonymous of /proc/PID/smaps_rollup, RssShmem of
/proc/PID/status). The page cache, in which the data is, is not in it.

Results: "budget_bytes", "text_bytes", "rows", "nonzeros", "convert_seconds", "convert_peak_bytes", "open_ms",
"trainings": [{"way", "seconds", "peak_bytes": {process: its peak}}].
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

from tqdm import tqdm

from bench.processes import children, memory_of
from bench.record import ROOT, markdown
from bench.speed import load
from shmps import LogisticRegression
from shmps.data import mapped
from shmps.errors import NotConverged, OutOfSpace

SIZE, QUICK_SIZE = 2 * 10**9, 5 * 10**7  # bytes of text
BUDGET, QUICK_BUDGET = 600 * 10**6, 130 * 10**6  # bytes of a process
ROWS = 20_000  # that are written over and over
SERVERS = 1
WAYS: dict[str, dict[str, Any]] = {
    "sync, minibatches of 256": {"solver": "minibatch", "epochs": 1},
    "async, minibatches of 256": {"mode": "async", "epochs": 1},
    "hogwild": {"mode": "hogwild", "epochs": 1, "updater": "sgd"},
    "lbfgs, 20 rounds": {"solver": "lbfgs", "iterations": 20, "tol": 1e-300},
}
_INTERVAL = 0.05  # seconds between two looks


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    size, budget = (QUICK_SIZE, QUICK_BUDGET) if quick else (SIZE, BUDGET)
    with tempfile.TemporaryDirectory() as folder:
        free = shutil.disk_usage(folder).free
        if free < 2.5 * size:
            raise OutOfSpace(f"{folder}: outofcore needs {2.5 * size:,.0f} bytes there, found {free:,} free")
        text, data = Path(folder, "text.svm"), Path(folder, "data.shmps")
        generate(text, size)
        results = converted(text, data)
        text.unlink()
        results["trainings"] = [
            {"way": way} | trained(data, budget, settings)
            for way, settings in tqdm(WAYS.items(), disable=None)
        ]
    return {"workers": 2, "servers": SERVERS}, results | {"budget_bytes": budget}


def generate(path: Path, size: int) -> None:
    """Text of at least `size` bytes."""
    part = path.with_suffix(".part")
    load.generate(part, ROWS)
    rows = part.read_bytes()
    part.unlink()
    with open(path, "wb") as file:
        while file.tell() < size:
            file.write(rows)


def converted(text: Path, data: Path) -> dict[str, Any]:
    """The text as mapped data, in a process of its own."""
    seconds, peaks = watched("convert", str(text), str(data))
    began = time.perf_counter()
    X, _ = mapped.load(data)
    return {
        "open_ms": 1e3 * (time.perf_counter() - began),
        "text_bytes": text.stat().st_size,
        "rows": X.shape[0],
        "nonzeros": X.nnz,
        "convert_seconds": float(seconds),
        "convert_peak_bytes": max(peaks.values()),
    }


def trained(data: Path, budget: int | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds, and the peak of each process, of a training of 2 workers."""
    seconds, peaks = watched("train", str(data), json.dumps(settings | {"memory": budget}))
    return {"seconds": float(seconds), "peak_bytes": peaks}


def watched(*task: str) -> tuple[str, dict[str, int]]:
    """What a process printed, and the most memory that it and each of its children had, by what they are."""
    peaks: dict[str, int] = {}
    command = [sys.executable, "-m", "bench.speed.outofcore", *task]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        nodes: list[int] = []  # in the order in which they were started: servers first
        while process.poll() is None:
            nodes += [pid for pid in children(process.pid) if pid not in nodes]
            for name, pid in {"the process itself": process.pid, **_named(nodes)}.items():
                peaks[name] = max(peaks.get(name, 0), memory_of(pid))
            time.sleep(_INTERVAL)
        assert process.stdout is not None
        printed = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return printed, peaks


def _named(nodes: list[int]) -> dict[str, int]:
    return {
        f"server {i}" if i < SERVERS else f"worker {i - SERVERS}": pid for i, pid in enumerate(sorted(nodes))
    }


def failed(results: dict[str, Any]) -> bool:
    """Whether a process of a training had more than the budget."""
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
        f"non-zeros; opened in {results['open_ms']:.1f} ms; budget {budget / 1e6:.0f} MB a process"
    )
    return f"{caption}\n\n{markdown(['', 'seconds', 'peak of anonymous and shared memory, MB'], rows)}"


def _main(task: str, path: str, argument: str) -> None:
    began = time.perf_counter()
    if task == "convert":
        mapped.convert(path, argument)
    else:
        warnings.simplefilter("ignore", NotConverged)
        LogisticRegression(workers=2, servers=SERVERS, **json.loads(argument)).fit(path)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    _main(*sys.argv[1:])
