"""The loop of one worker by minibatches."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shmps.data.rows import Rows, shard
from shmps.errors import Diverged
from shmps.linear.account import COMPUTE, PULL, PUSH, SLEEP, Account, Timesheet
from shmps.linear.kernels import BLOCK
from shmps.linear.minibatches import Batch, Batches
from shmps.linear.passes import mean_gradient, measure, pieces, warm_up_gradient
from shmps.ps.updater import Step
from shmps.ps.worker.kv import KVWorker
from shmps.updaters.descent import ByRule


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
    memory: int | None = None  # bytes that a worker is not to have more of; minibatches are kept within it
    timeline: bool = False  # the workers' accounts have spans
    done: tuple[int, ...] = ()  # iterations of each worker that a checkpoint had: they are not in its account

    def evaluates(self, iteration: int) -> bool:
        return bool(self.test_interval) and iteration % self.test_interval == 0

    def copies(self, iteration: int) -> bool:
        return bool(self.checkpoint_every) and iteration % self.checkpoint_every == 0

    def least_seconds(self, rank: int, computed: float) -> float:
        """From pull to push of worker `rank`, if its gradient took `computed` seconds."""
        slowness = self.slow_worker[1] if self.slow_worker and self.slow_worker[0] == rank else 1.0
        return slowness * max(computed, self.tick_time)


class Snapshot(NamedTuple):
    """A copy of the weights that worker 0 took."""

    iteration: int
    at: float  # time.monotonic()
    ticks: int  # of all workers
    weights: np.ndarray  # (n,), or of more than two classes (n, classes)


class Way(NamedTuple):
    """How a worker goes about a minibatch: what it reads, what it computes from that, what it sends."""

    read: Callable[[Batch], np.ndarray]
    compute: Callable[[Batch, np.ndarray], float]  # returns the mean loss
    push: Callable[[Batch, Batch | None], None]  # with the batch that is read next, if it is known


def _by_push(kv: KVWorker, shape: tuple[int, ...], intercept: bool) -> Way:
    """Pull, compute a gradient, push. In sync mode a look after the push was acknowledged is exactly a pull,
    and costs no message. Else, if the next batch has the same keys (whole shards), its pull and this push are
    one request.
    """
    out = np.empty(shape)
    pulls: list[int] = []  # that of the next batch, if it was asked for
    owed = kv.updater.lazy  # by the weights that we began with, another mode's say

    def mean(batch: Batch) -> np.ndarray:
        return out if batch.keys is None else out[: len(batch.keys)]

    def read(batch: Batch) -> np.ndarray:
        nonlocal owed
        if kv.consistency.hold_pushes:
            keys = np.arange(len(out)) if owed and batch.keys is None else batch.keys
            owed = False
            return kv.look(keys)
        return kv.wait(pulls.pop()) if pulls else kv.pull(batch.keys)

    def compute(batch: Batch, weights: np.ndarray) -> float:
        return mean_gradient(batch.rows, weights, intercept, batch.rows.num_rows, mean(batch), kv.beat)

    def push(batch: Batch, following: Batch | None) -> None:
        pushed = batch.keys, mean(batch), batch.rows.num_rows
        if kv.consistency.hold_pushes:
            kv.push(*pushed)
        elif following is not None and following.keys is batch.keys:
            pulls.append(kv.start_push_pull(*pushed))
        else:
            kv.start_push(*pushed)

    return Way(read, compute, push)


def _in_place(kv: KVWorker, shape: tuple[int, ...], intercept: bool) -> Way:
    """A step per row, of the shared weights themselves: Hogwild! (Niu et al., NIPS 2011)."""
    nothing, updater = np.empty(0), kv.updater
    assert isinstance(updater, ByRule)

    def compute(batch: Batch, _: np.ndarray) -> float:
        loss = 0.0

        def update(weights: np.ndarray, state: np.ndarray, step: Step) -> float:
            nonlocal loss
            age = step.age
            for part in pieces(batch.rows, BLOCK):
                now = step._replace(age=age)
                for column, own in enumerate(_problems(part, shape)):
                    mean = updater.descend(own, intercept, weights, state, now, column)
                    loss += mean * part.num_rows / batch.rows.num_rows
                    kv.beat()
                age += updater.penalty(step) * part.num_rows
            return age - step.age

        kv.tick_in_place(update)
        return loss

    return Way(lambda batch: nothing, compute, lambda batch, following: None)


def _problems(rows: Rows, shape: tuple[int, ...]) -> Iterator[Rows]:
    """The rows as each problem sees them: one of two classes, or of more each class against the rest."""
    if len(shape) == 1:
        yield rows
    else:
        yield from map(rows.against_rest, range(shape[1]))


def train(kv: KVWorker, rows: Rows, shape: tuple[int, ...], plan: Plan) -> Account:
    """Visit the minibatches of this worker's shard; weights have the `shape` (n,), or (n, classes).

    A worker in a dead one's place, or of a training that is resumed, goes on after the pushes that count
    already. Raises Diverged when the loss is no longer finite.
    """
    num_keys = shape[0]
    way = (_in_place if kv.consistency.in_place else _by_push)(kv, shape, plan.intercept)
    iteration = row_count = nonzeros = 0
    done = plan.done[kv.rank] if plan.done else 0
    kv.barrier()
    sheet = Timesheet(kv, plan.timeline)
    visits = itertools.islice(_visits(kv, rows, shape, plan), plan.iterations)
    for batch, following, first in visits:
        if kv.stopping and iteration >= kv.resumed:
            break
        iteration += 1
        if iteration > done:
            row_count += batch.rows.num_rows
            nonzeros += batch.rows.nonzeros
        if iteration <= kv.resumed:
            kv.beat()  # a long training may take long to be passed over
            if iteration == kv.resumed and kv.rank == first and plan.evaluates(iteration):
                _have_evaluated(kv, num_keys, iteration)  # its last life may have died before it did
            continue
        sheet.lap(COMPUTE)  # the minibatch is localized when first visited
        weights = way.read(batch)
        sheet.lap(PULL)
        loss = way.compute(batch, weights)
        spent = sheet.lap(COMPUTE)
        if not math.isfinite(loss):
            raise Diverged(
                f"the loss must stay finite, found {loss} at iteration {iteration} of worker {kv.rank}; "
                f"lower the learning rate, or scale the features to about 1"
            )
        rest = plan.least_seconds(kv.rank, spent) - spent
        if rest > 0:  # after the pull and before the push: slept after the push it would bring no delay
            _sleep(kv, rest)
            sheet.lap(SLEEP)
        evaluated = kv.rank == first and plan.evaluates(iteration)
        copied = kv.rank == 0 and plan.copies(iteration)
        # What is evaluated or copied in between takes time: the next batch is read after it.
        way.push(batch, None if evaluated or copied or iteration == plan.iterations else following)
        sheet.lap(PUSH)
        if evaluated:
            _have_evaluated(kv, num_keys, iteration)
            sheet.lap(PULL)
        if copied:
            kv.flush()  # in sync mode everyone waits for this worker's next push: nothing moves
            kv.report(kv.copy_of_parameters())
            sheet.lap(PULL)
    kv.flush()
    sheet.lap(PUSH)
    return sheet.account(iteration, row_count, nonzeros)


def _have_evaluated(kv: KVWorker, num_keys: int, iteration: int) -> None:
    kv.flush()  # this worker's own push is in what is evaluated
    at, weights = time.monotonic(), kv.look(np.arange(num_keys))
    kv.report(Snapshot(iteration, at, int(kv.ticks().sum()), weights))


def _visits(
    kv: KVWorker, rows: Rows, shape: tuple[int, ...], plan: Plan
) -> Iterator[tuple[Batch, Batch | None, int]]:
    """The batches in the order of their visits, epoch by epoch, of the rows that are ours in it.

    With each the one after it, as far as it is known; and the first rank of those who divide the rows: it has
    them evaluated.
    """
    for first, batches in _divisions(kv, rows, shape, plan):
        for batch, following in itertools.pairwise(itertools.chain(batches, [None])):
            assert batch is not None
            yield batch, following, first


def _divisions(
    kv: KVWorker, rows: Rows, shape: tuple[int, ...], plan: Plan
) -> Iterator[tuple[int, Iterator[Batch]]]:
    """The first of those who divide the rows, and our batches for as long as these may be the same ranks."""

    def divided(ranks: list[int]) -> Batches:
        return Batches(
            shard(rows, ranks.index(kv.rank), len(ranks), kv.beat),
            plan.batch_size,
            shape[0],
            plan.intercept,
            plan.seed,
            kv.rank,
            ranks,
            kv.consistency.in_place,
            plan.memory,
            math.prod(shape[1:]),
        )

    epochs = range(plan.epochs) if plan.iterations is None else itertools.count()
    if not plan.elastic:
        batches = divided(list(range(kv.num_workers)))
        yield 0, itertools.chain.from_iterable(map(batches.epoch, epochs))
        return
    ranks: list[int] = []
    for epoch in epochs:
        before, everyone = ranks, kv.ranks(epoch)
        ranks = everyone[: rows.num_rows]  # each has a row at least
        if kv.rank not in ranks:
            if kv.rank in before or kv.rank in everyone:
                return  # removed, or there is no row for it
            continue  # not yet in
        if ranks != before:
            batches = divided(ranks)
        yield ranks[0], batches.epoch(epoch)


def _sleep(kv: KVWorker, seconds: float) -> None:
    while seconds > 0:
        time.sleep(min(seconds, 0.1))
        kv.beat()
        seconds -= 0.1


def warm_up(rows: Rows, shape: tuple[int, ...], plan: Plan, updater: ByRule, in_place: bool) -> None:
    """One row's gradient in this process: what numba compiles here is there in every node forked later."""
    one, num_keys = rows.example(), shape[0]
    if in_place:
        weights = np.zeros((num_keys, 1))
        state = np.zeros((*weights.shape, updater.state_width))
        updater.descend(next(_problems(one, shape)), plan.intercept, weights, state, Step(1, 0.0))
    batch: Batch = Batches(one, plan.batch_size, num_keys, plan.intercept, 0, 0, [0])[0]
    keys = num_keys if batch.keys is None else len(batch.keys)
    warm_up_gradient(batch.rows, (keys, *shape[1:]), plan.intercept)
    measure(one, np.zeros(shape), plan.intercept)
