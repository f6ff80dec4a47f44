"""The loop of one worker, and the evaluation of the weights that it hands out."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shmps.data import Batch, Batches, Rows, shard
from shmps.errors import Diverged
from shmps.kernels import BLOCK, gradient, margins
from shmps.metrics import Metrics, evaluate
from shmps.updaters import ByRule, Step
from shmps.worker import KVWorker

_PIECE = 2**25  # non-zeros between two signs of life: a tenth of a second


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
    checkpoint_every: int = 0  # iterations of worker 0; 0: never
    elastic: bool = False  # workers may come and go: who divides the rows is asked anew every epoch

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


class Way(NamedTuple):
    """How a worker goes about a minibatch: what it reads, what it computes from that, what it sends."""

    read: Callable[[Batch], np.ndarray]
    compute: Callable[[Batch, np.ndarray], float]  # returns the mean loss
    push: Callable[[Batch], None]


def _by_push(kv: KVWorker, num_keys: int, intercept: bool) -> Way:
    """Pull, compute a gradient, push. In sync mode a look after the push was acknowledged is exactly a pull,
    and costs no message.
    """
    read, push = (kv.look, kv.push) if kv.consistency.hold_pushes else (kv.pull, kv.start_push)
    out = np.empty(num_keys)

    def mean(batch: Batch) -> np.ndarray:
        return out if batch.keys is None else out[: len(batch.keys)]

    return Way(
        lambda batch: read(batch.keys),
        lambda batch, weights: mean_gradient(
            kv, batch.rows, weights, intercept, batch.rows.num_rows, mean(batch)
        ),
        lambda batch: push(batch.keys, mean(batch), rows=batch.rows.num_rows),  # type: ignore[arg-type]
    )


def _in_place(kv: KVWorker, num_keys: int, intercept: bool) -> Way:
    """A step per row, of the shared weights themselves: Hogwild! (Niu et al., NIPS 2011)."""
    nothing, updater = np.empty(0), kv.updater
    assert isinstance(updater, ByRule)

    def compute(batch: Batch, _: np.ndarray) -> float:
        loss = 0.0

        def update(weights: np.ndarray, state: np.ndarray, step: Step) -> float:
            nonlocal loss
            age = step.age
            for part in pieces(batch.rows, BLOCK):
                mean = updater.descend(part, intercept, weights, state, step._replace(age=age))
                loss += mean * part.num_rows / batch.rows.num_rows
                age += updater.penalty(step) * part.num_rows
                kv.beat()
            return age - step.age

        kv.tick_in_place(update)
        return loss

    return Way(lambda batch: nothing, compute, lambda batch: None)


def train(kv: KVWorker, rows: Rows, num_keys: int, plan: Plan) -> Account:
    """Visit the minibatches of this worker's shard.

    A worker in a dead one's place, or of a training that is resumed, goes on after the pushes that count
    already. Raises Diverged when the loss is no longer finite.
    """
    way = (_in_place if kv.consistency.in_place else _by_push)(kv, num_keys, plan.intercept)
    iteration = row_count = nonzeros = 0
    computing = slept = 0.0
    kv.barrier()
    began, waited = time.monotonic(), kv.seconds_waiting
    for batch, first in itertools.islice(_visits(kv, rows, num_keys, plan), plan.iterations):
        if kv.stopping:
            break
        iteration += 1
        row_count += batch.rows.num_rows
        nonzeros += batch.rows.nonzeros
        if iteration <= kv.resumed:
            if iteration == kv.resumed:  # who pushed it may have died before it had that evaluated
                _have_evaluated(kv, num_keys, plan, iteration, first, began)
            continue
        weights = way.read(batch)
        start = time.perf_counter()
        loss = way.compute(batch, weights)
        spent = time.perf_counter() - start
        if not math.isfinite(loss):
            raise Diverged(
                f"the loss must stay finite, found {loss} at iteration {iteration} of worker {kv.rank}; "
                f"lower the learning rate, or scale the features to about 1"
            )
        rest = plan.least_seconds(kv.rank, spent) - spent
        if rest > 0:  # after the pull and before the push: slept after the push it would bring no delay
            _sleep(kv, rest)
            slept += rest
        way.push(batch)
        computing += spent
        _have_evaluated(kv, num_keys, plan, iteration, first, began)
        if kv.rank == 0 and plan.checkpoint_every and iteration % plan.checkpoint_every == 0:
            kv.flush()  # in sync mode everyone waits for this worker's next push: nothing moves
            kv.report(kv.copy_of_parameters())
    kv.flush()
    ended = time.monotonic()
    return Account(
        began, ended, iteration, row_count, nonzeros, computing, kv.seconds_waiting - waited, slept
    )


def _have_evaluated(
    kv: KVWorker, num_keys: int, plan: Plan, iteration: int, first: int, began: float
) -> None:
    """Report the weights, if it is this worker's turn and the time for it."""
    if kv.rank == first and plan.test_interval and iteration % plan.test_interval == 0:
        kv.flush()  # this worker's own push is in what is evaluated
        passed, weights = time.monotonic() - began, kv.look(np.arange(num_keys))
        kv.report(Snapshot(iteration, passed, int(kv.ticks().sum()), weights))


def _visits(kv: KVWorker, rows: Rows, num_keys: int, plan: Plan) -> Iterator[tuple[Batch, int]]:
    """The batches in the order of their visits, epoch by epoch, of the rows that are ours in it.

    With each the first rank of those who divide the rows: it has them evaluated.
    """
    everyone = list(range(kv.num_workers))
    ranks: list[int] | None = None
    batches: Batches | None = None
    for epoch in range(plan.epochs) if plan.iterations is None else itertools.count():
        before, ranks = ranks, kv.ranks(epoch) if plan.elastic else everyone
        if kv.rank not in ranks:
            if before is not None and kv.rank in before:
                return  # removed
            continue  # not yet in
        if ranks != before:
            own = shard(rows, ranks.index(kv.rank), len(ranks))
            batches = Batches(
                own,
                plan.batch_size,
                num_keys,
                plan.intercept,
                plan.seed,
                kv.rank,
                ranks,
                kv.consistency.in_place,
            )
        assert batches is not None
        for batch in batches.epoch(epoch):
            yield batch, ranks[0]


def mean_gradient(
    kv: KVWorker, rows: Rows, weights: np.ndarray, intercept: bool, total: int, out: np.ndarray
) -> float:
    """The rows' part of the mean gradient over `total` rows into `out`; returns their part of the mean loss.

    With signs of life where it takes long.
    """
    out[:] = 0.0
    loss = 0.0
    for piece in pieces(rows, BLOCK):
        loss += gradient(*piece, weights, intercept, total, out)
        kv.beat()
    return loss


def pieces(rows: Rows, multiple: int) -> Iterator[Rows]:
    """The rows in parts between which a sign of life is due, cut at multiples of so many rows."""
    step = max(_PIECE * rows.num_rows // max(rows.nonzeros, 1) // multiple, 1) * multiple
    for begin in range(0, rows.num_rows, step):
        yield rows.part(begin, min(begin + step, rows.num_rows))


def _sleep(kv: KVWorker, seconds: float) -> None:
    while seconds > 0:
        time.sleep(min(seconds, 0.1))
        kv.beat()
        seconds -= 0.1


def measure(rows: Rows, weights: np.ndarray, intercept: bool) -> Metrics:
    """Metrics of `weights` (n,) on `rows`."""
    out = np.empty(rows.num_rows)
    margins(rows.indptr, rows.indices, rows.data, weights, intercept, out)
    return evaluate(out, rows.labels, rows.importance)


def rehearse(rows: Rows, num_keys: int, plan: Plan, updater: ByRule, in_place: bool) -> None:
    """One row's gradient in this process: what numba compiles here is there in every node forked later."""
    if in_place:
        state = np.zeros((num_keys, 1, updater.state_width))
        updater.descend(rows.part(0, 1), plan.intercept, np.zeros((num_keys, 1)), state, Step(1, 0.0))
    batches = Batches(rows.part(0, 1), plan.batch_size, num_keys, plan.intercept, 0, 0, [0])
    batch: Batch = batches[0]
    weights = np.zeros(num_keys if batch.keys is None else len(batch.keys))
    out = np.empty(len(weights))
    gradient(*batch.rows, weights, plan.intercept, 1, out)
    weights.flags.writeable = False  # as a look is: another type to numba
    gradient(*batch.rows, weights, plan.intercept, 1, out)
    measure(rows.part(0, 1), np.zeros(num_keys), plan.intercept)
