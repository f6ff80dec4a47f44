"""Iterations and pushes per second of a training, beside its gradient kernel and beside bare pipes.

Four measurements take turns in every repeat, so that other load on the machine hits all of them:

    loops   `iterations` iterations over whole shards: sync with 1 and with 2 servers, async with 1
    pushes  `epochs` over minibatches: sync of 256 rows, async of 256 and of 64
    kernel  `iterations` gradients over all rows, divided among as many processes as there are `cores`, at
            once: the parameter server causes the time that an iteration takes beyond that
    pipes   as many pushes as in `pushes`, through pipes with nothing behind them (see `pipes.py`)

The seconds of a training run from the first worker's start to the last worker's end. They exclude loading,
compiling and starting processes; they include the localisation of a minibatch at its first visit. One
training of each kind runs first and does not count.

What limits the trainings:

- Minibatches: the interpreter. Pull, gradient and push of 256 rows of a9a take 50 µs of one core when worker
  and server share a process without a pipe; 14 µs of that are the gradient. As processes they take about 100
  µs, with the system calls on pipes and 1.7 context switches per push: at best 20,000 pushes per second on
  two cores.
- Whole shards: the kernel alone takes 0.35 ms on two cores. A worker adds some 50 µs of its core per turn,
  and the server 28 µs per tick, during which the workers wait.

Results (all spreads over the repeats): "kernel": {"nonzeros_per_second"}. "loops": per variant {"variant",
"servers", "seconds", "iterations_per_second" (async: the mean of the workers), "nonzeros_per_second",
"kernel_ratio" (seconds divided by those of the kernel, for the same non-zeros, in the same repeat)}.
"pushes": per variant {"variant", "mode", "batch_size", "seconds", "pushes_per_second" (of all workers
together), "nonzeros_per_second", "of_pipes" (pushes per second divided by those of the bare pipes in the same
repeat)}. "pipes": {"sync", "async"}, pushes per second.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bench.record import markdown, ratio, shown, spread
from bench.speed import pipes
from bench.timing import at_once, progress
from shmps import LogisticRegression
from shmps.data import datasets
from shmps.data.rows import rows_of, shard
from shmps.linear.kernels import gradient
from shmps.linear.result import Result
from shmps.system.parallel import usable_cores

WORKERS = 4
RATE = 0.1  # of SGD without a penalty; stable with the delays of async whole shards


class Variant(NamedTuple):
    name: str
    servers: int
    mode: str
    batch_size: int  # rows; 0: a worker's whole shard


LOOPS = [
    Variant(f"{mode}, whole shards, {n} server{'s' * (n > 1)}", n, mode, 0)
    for mode, n in (("sync", 1), ("sync", 2), ("async", 1))
]
PUSHES = [
    Variant(f"{mode}, {rows} rows", 1, mode, rows)
    for mode, rows in (("sync", 256), ("async", 256), ("async", 64))
]


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    repeats, iterations, epochs = (2, 200, 4) if quick else (9, 200, 40)
    data = datasets.load(None)
    X, y = data.train_X, data.train_y
    cores = min(WORKERS, usable_cores())
    kernel: list[float] = []
    bare: dict[str, list[float]] = {"sync": [], "async": []}
    trained: dict[Variant, list[Result]] = {variant: [] for variant in LOOPS + PUSHES}
    with progress("sync", (repeats + 1) * (1 + len(trained))) as bar:
        for _ in range(repeats + 1):
            kernel.append(at_once(cores, lambda rank: _gradients(X, y, rank, cores, iterations)))
            for mode, rates in bare.items():
                rates.append(pipes.pushes_per_second(WORKERS, 32 * epochs, mode == "sync"))
            bar.update()
            for variant, results in trained.items():
                results.append(_train(variant, X, y, iterations, epochs))
                bar.update()
    series: list[list[Any]] = [kernel, *bare.values(), *trained.values()]
    for timings in series:
        del timings[0]  # the warm-up
    return {
        "data": data.name, "note": data.note, "rows": X.shape[0], "features": X.shape[1], "nonzeros": X.nnz,
        "workers": WORKERS, "updater": "sgd", "learning_rate": RATE, "iterations": iterations,
        "epochs": epochs, "repeats": repeats, "cores": cores,
    }, {
        "kernel": {"nonzeros_per_second": spread(iterations * X.nnz / seconds for seconds in kernel)},
        "loops": [_loop(variant, trained[variant], kernel) for variant in LOOPS],
        "pushes": [_pushes(variant, trained[variant], bare[variant.mode]) for variant in PUSHES],
        "pipes": {mode: spread(rates) for mode, rates in bare.items()},
    }  # fmt: skip


def _gradients(X: Any, y: np.ndarray, rank: int, cores: int, iterations: int) -> Callable[[], None]:
    rows = shard(rows_of(X, y), rank, cores)
    weights, mean = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    curvatures = np.empty(len(y))
    gradient(*rows.part(0, 1), weights, False, len(y), mean, curvatures)

    def work() -> None:
        for _ in range(iterations):
            gradient(*rows, weights, False, len(y), mean, curvatures)

    return work


def _train(variant: Variant, X: Any, y: np.ndarray, iterations: int, epochs: int) -> Result:
    estimator = LogisticRegression(
        workers=WORKERS,
        servers=variant.servers,
        mode=variant.mode,
        updater="sgd",
        learning_rate=RATE,
        l2=0.0,
        batch_size=variant.batch_size,
        epochs=epochs,
        iterations=None if variant.batch_size else iterations,
        fit_intercept=False,
    )
    return estimator.fit(X, y).result_


def _loop(variant: Variant, trained: list[Result], kernel: list[float]) -> dict[str, Any]:
    seconds = _seconds(trained)
    return {
        "variant": variant.name,
        "servers": variant.servers,
        "seconds": spread(seconds),
        "iterations_per_second": spread(
            result.ticks / WORKERS / result.seconds["train"] for result in trained
        ),
        "nonzeros_per_second": spread(result.nonzeros_per_second for result in trained),
        "kernel_ratio": ratio(seconds, kernel),
    }


def _pushes(variant: Variant, trained: list[Result], bare: list[float]) -> dict[str, Any]:
    rates = [result.ticks / result.seconds["train"] for result in trained]
    return {
        "variant": variant.name,
        "mode": variant.mode,
        "batch_size": variant.batch_size,
        "seconds": spread(_seconds(trained)),
        "pushes_per_second": spread(rates),
        "of_pipes": ratio(rates, bare),
        "nonzeros_per_second": spread(result.nonzeros_per_second for result in trained),
    }


def _seconds(trained: list[Result]) -> list[float]:
    return [result.seconds["train"] for result in trained]


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    caption = (
        f"{settings['data']}, {settings['nonzeros']:,} non-zeros, {settings['workers']} workers on "
        f"{settings['cores']} cores; median (min to max) of {settings['repeats']} repeats."
    )
    return f"{caption}\n\n{_loops_table(results)}\n\n{_pushes_table(results)}"


def _loops_table(results: dict[str, Any]) -> str:
    rows = [
        [
            loop["variant"],
            shown(loop["seconds"], ".3f"),
            shown(loop["iterations_per_second"]),
            shown(loop["nonzeros_per_second"], ".0f", 1e6),
            shown(loop["kernel_ratio"], ".2f"),
        ]
        for loop in results["loops"]
    ]
    kernel = shown(results["kernel"]["nonzeros_per_second"], ".0f", 1e6)
    headers = ["iterations", "seconds", "iterations/s", "non-zeros/s, millions", "time relative to kernel"]
    return markdown(headers, [*rows, ["the kernel alone", "", "", kernel, ""]])


def _pushes_table(results: dict[str, Any]) -> str:
    rows = [
        [
            push["variant"],
            shown(push["seconds"], ".3f"),
            shown(push["pushes_per_second"]),
            shown(push["nonzeros_per_second"], ".1f", 1e6),
            shown(push["of_pipes"], ".2f"),
        ]
        for push in results["pushes"]
    ]
    bare = [[f"{mode}, bare pipes", "", shown(rates), "", ""] for mode, rates in results["pipes"].items()]
    headers = ["minibatches", "seconds", "pushes/s", "non-zeros/s, millions", "relative to bare pipes"]
    return markdown(headers, rows + bare)
