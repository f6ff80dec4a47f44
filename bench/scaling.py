"""Throughput, memory and cost per non-zero as workers and data grow.

Rounds of `solver="lbfgs"` (full gradients, summed by one server), so nearly all the time is the kernel's.
With 1, 2, 4 and 8 workers on a set like rcv1, taking turns: non-zeros per second, and the memory that all
nodes have between them (proportional set size: pages that several share count once), beyond what the parent
had before. And with 2 workers on sets of ROW non-zeros a row: nanoseconds per non-zero, of the kernel alone
and of whole rounds.

Results: "workers": [{"workers", "nonzeros_per_second", "memory_bytes"}], "nonzeros": [{"nonzeros",
"kernel_ns", "round_ns"}]: spreads; "left_out": numbers of non-zeros that memory does not allow.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from tqdm import tqdm

from bench import figures, wide
from bench.record import markdown, shown, spread, usable_cores
from shmps import LogisticRegression
from shmps.callbacks import Callback
from shmps.linear.result import Result
from shmps.system.memory import available_memory

WORKERS, NONZEROS = (1, 2, 4, 8), (10**5, 10**6, 10**7, 10**8, 10**9)
ROW, FEATURES = 50, 100_000
BYTES_PER_NONZERO = 8 + 4 + 16 / ROW  # value, index, a share of the row's pointer and label
_ROOM = 1.2  # times the data: they are drawn in place, and inherited by the nodes
_LARGE, _FEW = 10**8, 3  # from so many non-zeros on: few visits of few rounds, which take seconds


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    repeats, rounds = (2, 5) if quick else (7, 20)
    X, y = wide.generate(20_000 if quick else wide.ROWS)
    sizes = NONZEROS[:3] if quick else NONZEROS
    fitting = [n for n in sizes if _ROOM * n * BYTES_PER_NONZERO < available_memory()]
    visits = {n: repeats if n < _LARGE else min(repeats, _FEW) for n in fitting}
    by_workers: dict[int, list[tuple[Result, int]]] = {workers: [] for workers in WORKERS}
    by_size: dict[int, list[Result]] = {}
    total = repeats * len(WORKERS) + sum(visits.values())
    with tqdm(total=total, desc="scaling", disable=None, leave=False) as bar:
        for _ in range(repeats):
            for workers, measured in by_workers.items():
                # Memory in a training of its own: to look at it takes the scheduler's time.
                measured.append((_train(X, y, workers, rounds), _most_memory(X, y, workers)))
                bar.update()
        for size in fitting:
            data = _one_hot(size)
            by_size[size] = []
            for _ in range(visits[size]):
                by_size[size].append(_train(*data, 2, rounds if size < _LARGE else _FEW))
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


def _train(X: Any, y: np.ndarray, workers: int, rounds: int, *callbacks: Callback) -> Result:
    settings: dict[str, Any] = {"solver": "lbfgs", "l2": 1e-6, "tol": 1e-300, "iterations": rounds}
    return LogisticRegression(workers=workers, callbacks=callbacks, **settings).fit(X, y).result_


def _most_memory(X: Any, y: np.ndarray, workers: int) -> int:
    """The most that the nodes' memory comes to in a training."""
    before, most = _memory(), _MostMemory()
    _train(X, y, workers, 20, most)
    return max(0, most.bytes - before)


class _MostMemory(Callback):
    """The most memory of this process and its children at any `on_progress`."""

    bytes = 0

    def on_progress(self, done: int, planned: int) -> None:
        self.bytes = max(self.bytes, _memory())


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


def _one_hot(nonzeros: int) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    random, rows = np.random.default_rng(0), nonzeros // ROW
    indices = random.integers(0, FEATURES, nonzeros, dtype=np.int32)
    X = scipy.sparse.csr_matrix((rows, FEATURES))
    X.indptr, X.indices, X.data = np.arange(0, nonzeros + 1, ROW), indices, np.ones(nonzeros)
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
        f"\n\nleft out for want of memory: {left}" if left else ""
    )


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    figure, panels = figures.panels(2, "Full gradients on a set like rcv1", share=False)
    at = [row["workers"] for row in results["workers"]]
    for panel, name, unit, label in (
        (panels[0], "nonzeros_per_second", 1e6, "millions of non-zeros per second"),
        (panels[1], "memory_bytes", 2**20, "MiB of all nodes, shared pages counted once"),
    ):
        spreads = [row[name] for row in results["workers"]]
        panel.plot(at, [each["median"] / unit for each in spreads], "o-", color=figures.MORE_COLOURS[0])
        least, most = ([each[end] / unit for each in spreads] for end in ("min", "max"))
        panel.fill_between(at, least, most, color=figures.MORE_COLOURS[0], alpha=0.2, lw=0)
        panel.set(xlabel="workers", ylabel=label, xticks=at, ylim=(0, None))
    return figure
