"""Throughput, memory and cost per non-zero as workers and data grow.

Rounds of `solver="lbfgs"` (full gradients, summed by one server), so nearly all the time is the kernel's.
With 1, 2, 4 and 8 workers on a set like rcv1, taking turns: non-zeros per second, and the memory that all
nodes have between them (proportional set size: pages that several share count once), beyond what the parent
had before. And with 2 workers on sets of ROW non-zeros a row, mapped from files: nanoseconds per non-zero, of
the kernel alone and of whole rounds. The files are in the temporary folder; the largest has 12 GB.

Results: "workers": [{"workers", "nonzeros_per_second", "memory_bytes"}], "nonzeros": [{"nonzeros",
"kernel_ns", "round_ns"}]: spreads; "left_out": numbers of non-zeros for which disk or memory do not suffice.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from tqdm import tqdm

from bench import wide
from bench.record import markdown, shown, spread, usable_cores
from shmps import LogisticRegression
from shmps.memory import available_memory
from shmps.result import Result

WORKERS, NONZEROS = (1, 2, 4, 8), (10**5, 10**6, 10**7, 10**8, 10**9)
ROW, FEATURES = 50, 100_000
BYTES_PER_NONZERO = 8 + 4 + 16 / ROW  # value, index, a share of the row's pointer and label
_LARGE, _FEW = 10**8, 3  # non-zeros of a set that takes seconds a round, and is visited so often
_PIECE = 10**7  # non-zeros generated at a time


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    repeats, rounds = (2, 5) if quick else (7, 20)
    X, y = wide.generate(20_000 if quick else wide.ROWS)
    sizes = NONZEROS[:3] if quick else NONZEROS
    # Read again and again, they should stay in the page cache.
    room = min(available_memory(), shutil.disk_usage(tempfile.gettempdir()).free)
    fitting = [n for n in sizes if 1.2 * n * BYTES_PER_NONZERO < room]
    by_workers: dict[int, list[tuple[Result, int]]] = {workers: [] for workers in WORKERS}
    by_size: dict[int, list[Result]] = {}
    visits = {n: repeats if n < _LARGE else min(repeats, _FEW) for n in fitting}
    total = repeats * len(WORKERS) + sum(visits.values())
    with tqdm(total=total, desc="scaling", disable=None, leave=False) as bar:
        for _ in range(repeats):
            for workers, measured in by_workers.items():
                measured.append(_train(X, y, workers, rounds))
                bar.update()
        for size in fitting:
            by_size[size] = []
            with tempfile.TemporaryDirectory(prefix="shmps-scaling-") as folder:
                data = _one_hot(size, Path(folder))
                for _ in range(visits[size]):
                    by_size[size].append(_train(*data, 2, rounds if size < _LARGE else _FEW)[0])
                    bar.update()
                del data
    return {"repeats": repeats, "rounds": rounds, "cores": usable_cores(), "nonzeros": X.nnz}, {
        "workers": [
            {
                "workers": workers,
                "nonzeros_per_second": spread(result.nonzeros_per_second for result, _ in measured),
                "memory_bytes": spread(memory for _, memory in measured),
            }
            for workers, measured in by_workers.items()
        ],
        "nonzeros": [
            {
                "nonzeros": size,
                "kernel_ns": spread(2e9 * _computing(result) / result.nonzeros for result in measured),
                "round_ns": spread(2e9 / result.nonzeros_per_second for result in measured),
            }
            for size, measured in by_size.items()
        ],
        "left_out": [n for n in sizes if n not in fitting],
    }


def _computing(result: Result) -> float:
    """Seconds of a worker, on average."""
    return result.shares["computing"] * result.seconds["train"]


def _train(X: Any, y: np.ndarray, workers: int, rounds: int) -> tuple[Result, int]:
    """The result, and the most that the nodes' memory came to while it went on."""
    before, most = _memory(), 0

    def look(done: int, planned: int) -> None:
        nonlocal most
        most = max(most, _memory() - before)

    model = LogisticRegression(workers=workers, solver="lbfgs", l2=1e-6, tol=1e-300, iterations=rounds)
    return model.fit(X, y, on_pause=look).result_, most


def _memory() -> int:
    """Proportional set size of this process and its children, in bytes."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    total = 0
    for pid in (os.getpid(), *children):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has ended
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def _one_hot(nonzeros: int, folder: Path) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """X, whose indices and values are mapped from files in `folder`, and labels at random."""
    random, rows = np.random.default_rng(0), nonzeros // ROW
    indices: np.memmap = np.memmap(folder / "indices", np.int32, "w+", shape=nonzeros)
    data: np.memmap = np.memmap(folder / "data", np.float64, "w+", shape=nonzeros)
    for begin in range(0, nonzeros, _PIECE):
        piece = indices[begin : begin + _PIECE]
        piece[:] = random.integers(0, FEATURES, len(piece), dtype=np.int32)
        data[begin : begin + _PIECE] = 1.0
    for array in (indices, data):
        array.flush()  # else it is written while time is taken
    X = scipy.sparse.csr_matrix((rows, FEATURES))  # whose constructor would look for the largest index
    X.indptr, X.indices, X.data = np.arange(0, nonzeros + 1, ROW), indices, data
    return X, np.where(random.random(rows) < 0.5, 1.0, -1.0)


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    workers = markdown(
        ["workers", "non-zeros/s, millions", "memory, MiB"],
        [
            [
                row["workers"],
                shown(row["nonzeros_per_second"], ",.0f", 1e6),
                shown(row["memory_bytes"], ",.0f", 2**20),
            ]
            for row in results["workers"]
        ],
    )
    nonzeros = markdown(
        ["non-zeros", "kernel, ns each", "rounds, ns each"],
        [
            [f"{row['nonzeros']:,}", shown(row["kernel_ns"], ".2f"), shown(row["round_ns"], ".2f")]
            for row in results["nonzeros"]
        ],
    )
    caption = (
        f"rounds over {settings['nonzeros']:,} non-zeros on {settings['cores']} cores, and over sets of "
        f"growing size with 2 workers (ns per non-zero and core); median (min to max) of "
        f"{settings['repeats']} repeats"
    )
    left = ", ".join(f"{n:,}" for n in results["left_out"])
    return f"{caption}\n\n{workers}\n\n{nonzeros}" + (
        f"\n\nleft out for want of memory or disk: {left}" if left else ""
    )
