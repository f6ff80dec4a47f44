"""The loop of one worker, and the evaluation of the weights that it hands out."""

import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shmps.data import Batch, Batches, Rows, shard
from shmps.errors import Diverged
from shmps.kernels import gradient, margins
from shmps.metrics import Metrics, evaluate
from shmps.worker import KVWorker


@dataclass(frozen=True)
class Plan:
    """What every worker does."""

    batch_size: int  # rows; 0: the whole shard
    epochs: int
    iterations: int | None  # per worker, instead of epochs
    test_interval: int  # iterations of worker 0; 0: never
    intercept: bool
    seed: int
    slow_worker: tuple[int, float] | None = None  # rank, factor
    tick_time: float = 0.0  # seconds that a tick lasts at least

    def least_seconds(self, rank: int, computed: float) -> float:
        """From pull to push of worker `rank`, if its gradient took `computed` seconds."""
        slowness = self.slow_worker[1] if self.slow_worker and self.slow_worker[0] == rank else 1.0
        return slowness * max(computed, self.tick_time)


class Snapshot(NamedTuple):
    """A copy of the weights that worker 0 took."""

    iteration: int
    seconds: float  # since this worker began
    ticks: int  # of all workers
    weights: np.ndarray


class Account(NamedTuple):
    """What one worker did, and where its time went (seconds)."""

    began: float  # time.monotonic(), which all processes share
    ended: float
    iterations: int
    rows: int
    nonzeros: int
    computing: float
    waiting: float  # until an answer came
    slept: float


def train(kv: KVWorker, rows: Rows, num_keys: int, plan: Plan) -> Account:
    """Pull, compute a gradient, push; over this worker's shard.

    In sync mode a look after the push was acknowledged is exactly a pull, and costs no message. Raises
    Diverged when the loss is no longer finite.
    """
    held = kv.consistency.hold_pushes
    read, push = (kv.look, kv.push) if held else (kv.pull, kv.start_push)
    own = shard(rows, kv.rank, kv.num_workers)
    batches = Batches(own, plan.batch_size, num_keys, plan.intercept, plan.seed, kv.rank, kv.num_workers)
    out = np.empty(num_keys)
    iteration = row_count = nonzeros = 0
    computing = slept = 0.0
    kv.barrier()
    began, waited = time.monotonic(), kv.seconds_waiting
    for batch in _visits(batches, plan):
        iteration += 1
        weights = read(batch.keys)
        start = time.perf_counter()
        mean = out[: len(weights)]
        loss = gradient(*batch.rows, weights, plan.intercept, mean)
        spent = time.perf_counter() - start
        if not math.isfinite(loss):
            raise Diverged(
                f"the loss must stay finite, found {loss} at iteration {iteration} of worker {kv.rank}; "
                f"lower the learning rate, or scale the features to about 1"
            )
        rest = plan.least_seconds(kv.rank, spent) - spent
        if rest > 0:  # after the pull and before the push: slept after the push it would bring no delay
            time.sleep(rest)
            slept += rest
        push(batch.keys, mean, rows=batch.rows.num_rows)
        computing += spent
        row_count += batch.rows.num_rows
        nonzeros += batch.rows.nonzeros
        if kv.rank == 0 and plan.test_interval and iteration % plan.test_interval == 0:
            passed, weights = time.monotonic() - began, kv.look(np.arange(num_keys))
            kv.report(Snapshot(iteration, passed, int(kv.ticks().sum()), weights))
    kv.flush()
    ended = time.monotonic()
    return Account(
        began, ended, iteration, row_count, nonzeros, computing, kv.seconds_waiting - waited, slept
    )


def _visits(batches: Batches, plan: Plan):
    """The batches in the order of their visits."""
    left = plan.epochs * len(batches) if plan.iterations is None else plan.iterations
    epoch = 0
    while left > 0:
        for batch in batches.epoch(epoch):
            yield batch
            left -= 1
            if left == 0:
                return
        epoch += 1


def measure(rows: Rows, weights: np.ndarray, intercept: bool) -> Metrics:
    """Metrics of `weights` (n,) on `rows`."""
    out = np.empty(rows.num_rows)
    margins(rows.indptr, rows.indices, rows.data, weights, intercept, out)
    return evaluate(out, rows.labels)


def rehearse(rows: Rows, num_keys: int, plan: Plan) -> None:
    """One row's gradient in this process: what numba compiles here is there in every node forked later."""
    batches = Batches(rows.part(0, 1), plan.batch_size, num_keys, plan.intercept, 0, 0, 1)
    batch: Batch = batches[0]
    weights = np.zeros(num_keys if batch.keys is None else len(batch.keys))
    out = np.empty(len(weights))
    gradient(*batch.rows, weights, plan.intercept, out)
    weights.flags.writeable = False  # as a look is: another type to numba
    gradient(*batch.rows, weights, plan.intercept, out)
    measure(rows.part(0, 1), np.zeros(num_keys), plan.intercept)
