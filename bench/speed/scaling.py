"""Throughput, memory and cost per non-zero as workers and data grow.

The trainings are rounds of `solver="lbfgs"` (full gradients that one server sums), so the kernel takes nearly
all of the time. Measured are:

- with 1, 2, 4 and 8 workers on a set like rcv1, taking turns: non-zeros per second, and the memory of all
  nodes together (proportional set size: a page that several processes share counts once) beyond the memory
  that the parent had before;
- with 2 workers on sets of ROW non-zeros per row: nanoseconds per non-zero and core, of the kernel alone and
  of whole rounds.

Results: "workers": [{"workers", "nonzeros_per_second", "memory_bytes"}], "nonzeros": [{"nonzeros",
"kernel_ns", "round_ns"}]: spreads; "left_out": numbers of non-zeros that do not fit in memory.
"""

import os
from typing import Any

import numpy as np
import scipy.sparse

from bench import figures
from bench.processes import children, proportional_memory_of
from bench.record import markdown, shown, spread
from bench.speed import rcv1_like
from bench.timing import progress
from shmps import LogisticRegression
from shmps.callbacks import Callback
from shmps.linear.result import Result
from shmps.system.memory import available_memory
from shmps.system.parallel import usable_cores

WORKERS, NONZEROS = (1, 2, 4, 8), (10**5, 10**6, 10**7, 10**8, 10**9)
ROW, FEATURES = 50, 100_000
BYTES_PER_NONZERO = 8 + 4 + 16 / ROW  # value, index, a share of the row's pointer and label
_ROOM = 1.2  # the memory needed, in multiples of the data: they are drawn in place and the nodes inherit them
_LARGE, _FEW = 10**8, 3  # from _LARGE non-zeros on, rounds take seconds: at most _FEW repeats of _FEW rounds


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    repeats, rounds = (2, 5) if quick else (7, 20)
    X, y = rcv1_like.generate(20_000 if quick else rcv1_like.ROWS)
    sizes = NONZEROS[:3] if quick else NONZEROS
    fitting = [n for n in sizes if _ROOM * n * BYTES_PER_NONZERO < available_memory()]
    repeats_of = {n: repeats if n < _LARGE else min(repeats, _FEW) for n in fitting}
    by_workers: dict[int, list[tuple[Result, int]]] = {workers: [] for workers in WORKERS}
    by_size: dict[int, list[Result]] = {}
    with progress("scaling", repeats * len(WORKERS) + sum(repeats_of.values())) as bar:
        for _ in range(repeats):
            for workers, measured in by_workers.items():
                # Memory is measured in a second training, since reading it takes time of the scheduler.
                measured.append((_train(X, y, workers, rounds), _most_memory(X, y, workers)))
                bar.update()
        for size in fitting:
            data = _one_hot(size)
            by_size[size] = []
            for _ in range(repeats_of[size]):
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
    """Return the mean seconds that a worker computed."""
    return result.shares["computing"] * result.seconds["train"]


def _train(X: Any, y: np.ndarray, workers: int, rounds: int, *callbacks: Callback) -> Result:
    settings: dict[str, Any] = {"solver": "lbfgs", "l2": 1e-6, "tol": 1e-300, "iterations": rounds}
    return LogisticRegression(workers=workers, callbacks=callbacks, **settings).fit(X, y).result_


def _most_memory(X: Any, y: np.ndarray, workers: int) -> int:
    """Return the largest memory of all nodes together during a training."""
    before, most = _memory(), _MostMemory()
    _train(X, y, workers, 20, most)
    return max(0, most.bytes - before)


class _MostMemory(Callback):
    """The most memory of this process and its children at any `on_progress`."""

    bytes = 0

    def on_progress(self, done: int, planned: int) -> None:
        self.bytes = max(self.bytes, _memory())


def _memory() -> int:
    """Return the proportional set size of this process and its children in bytes."""
    return sum(map(proportional_memory_of, (os.getpid(), *children(os.getpid()))))


def _one_hot(nonzeros: int) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """Generate rows of ROW features with the value 1, and random labels."""
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
        ["non-zeros", "kernel, ns per non-zero", "rounds, ns per non-zero"],
        [
            [f"{row['nonzeros']:,}", shown(row["kernel_ns"], ".2f"), shown(row["round_ns"], ".2f")]
            for row in results["nonzeros"]
        ],
    )
    caption = (
        f"Rounds over {settings['nonzeros']:,} non-zeros on {settings['cores']} cores, and over sets of "
        f"growing size with 2 workers (ns per non-zero and core); median (min to max) of "
        f"{settings['repeats']} repeats."
    )
    left = ", ".join(f"{n:,}" for n in results["left_out"])
    return f"{caption}\n\n{workers}\n\n{nonzeros}" + (
        f"\n\nLeft out for lack of memory: {left} non-zeros." if left else ""
    )


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    figure, panels = figures.panels(2, "Full gradients on a set like rcv1", share=False)
    at = [row["workers"] for row in results["workers"]]
    for panel, name, unit, label in (
        (panels[0], "nonzeros_per_second", 1e6, "millions of non-zeros per second"),
        (panels[1], "memory_bytes", 2**20, "MiB of all nodes, shared pages counted once"),
    ):
        spreads = [row[name] for row in results["workers"]]
        figures.band(panel, at, spreads, unit, color=figures.MORE_COLOURS[0])
        panel.set(xlabel="workers", ylabel=label, xticks=at, ylim=(0, None))
    return figure
