"""The loop of one worker in a training by minibatches.

    rows -> shard of this rank -> Batches -> batch: keys, rows
                                               |
                    +--------------------------+
                    v                          v
    servers --pull (sync: look)--> weights -> mean gradient -> [sleep] --push--> servers
                                               ^                                    |
                                               +------------- next batch -----------+

    every test_interval     worker 0: read all weights       --report Iterate--> training process
    every checkpoint_every  worker 0: copy of the parameters --report Copy-----> training process

In hogwild mode the worker updates the shared weights in place: it neither pulls nor pushes.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from shmps.data.rows import Rows, shard
from shmps.errors import Diverged
from shmps.linear.kernels import BLOCK
from shmps.linear.minibatches import Batch, Batches
from shmps.linear.objective import mean_gradient, measure, pieces
from shmps.linear.plan import Iterate, Plan
from shmps.linear.timesheet import COMPUTE, PULL, PUSH, SLEEP, Timesheet, WorkerStats
from shmps.ps.updater import Step
from shmps.ps.worker.kv import KVWorker
from shmps.updaters.descent import ByRule


class Exchange(NamedTuple):
    """How a worker processes a minibatch: what it reads, what it computes, what it sends."""

    read: Callable[[Batch], np.ndarray]
    compute: Callable[[Batch, np.ndarray], float]  # returns the mean loss
    push: Callable[[Batch, Batch | None], None]  # also takes the batch that is read next, None if unknown


def _through_servers(kv: KVWorker, shape: tuple[int, ...], plan: Plan) -> Exchange:
    """Pull, compute a gradient, push.

    In sync mode, a look after the push is acknowledged equals a pull and costs no message. In the other
    modes, the pull for the next batch follows the push at once, so that the server answers while this worker
    localizes another batch. If the next batch has the same keys (whole shards), both are one request.
    """
    out = np.empty(shape)
    pulls: list[int] = []  # the timestamp of the pull for the next batch, once it is requested
    owed = kv.updater.lazy  # by the initial weights, if another mode trained them

    def mean(batch: Batch) -> np.ndarray:
        return out if batch.keys is None else out[: len(batch.keys)]

    def read(batch: Batch) -> np.ndarray:
        nonlocal owed
        if kv.consistency.hold_pushes:
            keys = np.arange(len(out)) if owed and batch.keys is None else batch.keys
            owed = False
            return kv.read(keys)
        return kv.wait(pulls.pop()) if pulls else kv.pull(batch.keys)

    def compute(batch: Batch, weights: np.ndarray) -> float:
        centre, out = plan.centre, mean(batch)
        if centre is not None:
            weights = centre.plain(weights, batch.keys)
        loss = mean_gradient(batch.rows, weights, plan.intercept, batch.rows.num_rows, out, kv.beat)
        if centre is not None:
            centre.centre_gradient(out, batch.keys)
        return loss

    def push(batch: Batch, following: Batch | None) -> None:
        pushed = batch.keys, mean(batch), batch.rows.num_rows
        if kv.consistency.hold_pushes:
            kv.push(*pushed)
        elif following is not None and following.keys is batch.keys:
            pulls.append(kv.start_push_pull(*pushed))
        else:
            kv.start_push(*pushed)
            if following is not None:
                pulls.append(kv.start_pull(following.keys))

    return Exchange(read, compute, push)


def _in_place(kv: KVWorker, shape: tuple[int, ...], plan: Plan) -> Exchange:
    """Update the shared weights in place, one step per row: Hogwild! (Niu et al., NIPS 2011)."""
    nothing, updater = np.empty(0), kv.updater
    assert isinstance(updater, ByRule)

    def compute(batch: Batch, _: np.ndarray) -> float:
        loss = 0.0

        def update(weights: np.ndarray, state: np.ndarray, step: Step) -> float:
            nonlocal loss
            age = step.age
            for part in pieces(batch.rows, BLOCK):
                now = step._replace(age=age)
                if plan.centre is not None:
                    part = plan.centre.centred(part)
                for column, own in enumerate(_problems(part, shape)):
                    mean = updater.descend(own, plan.intercept, weights, state, now, column)
                    loss += mean * part.num_rows / batch.rows.num_rows
                    kv.beat()
                age += updater.penalty(step) * part.num_rows
            return age - step.age

        kv.tick_in_place(update)
        return loss

    return Exchange(lambda batch: nothing, compute, lambda batch, following: None)


def _problems(rows: Rows, shape: tuple[int, ...]) -> Iterator[Rows]:
    """Yield the rows as each binary problem labels them: with more than two classes, each class against the
    rest.
    """
    if len(shape) == 1:
        yield rows
    else:
        yield from map(rows.against_rest, range(shape[1]))


def train(kv: KVWorker, rows: Rows, shape: tuple[int, ...], plan: Plan) -> WorkerStats:
    """Visit the minibatches of this worker's shard; the weights have the `shape` (n,) or (n, classes).

    A respawned worker, or a worker of a resumed training, skips the iterations whose pushes already count.
    Raises Diverged when the loss is no longer finite.
    """
    num_keys = shape[0]
    exchange = (_in_place if kv.consistency.in_place else _through_servers)(kv, shape, plan)
    iteration = row_count = nonzeros = 0
    done = plan.done[kv.rank] if plan.done else 0
    kv.barrier()
    sheet = Timesheet(kv, plan.timeline)
    for batch, following, first in itertools.islice(_visits(kv, rows, shape, plan), plan.iterations):
        if kv.stopping and iteration >= kv.resumed:
            break
        iteration += 1
        if iteration > done:
            row_count += batch.rows.num_rows
            nonzeros += batch.rows.nonzeros
        evaluated = kv.rank == first and plan.evaluates(iteration)
        if iteration <= kv.resumed:
            kv.beat()  # skipping a long training takes long
            if iteration == kv.resumed and evaluated:
                _report_weights(kv, num_keys, plan, iteration)  # the dead worker may not have reported them
            continue
        copied = kv.rank == 0 and plan.copies(iteration)
        # Evaluations and checkpoints take time: read the next batch after them.
        is_last = evaluated or copied or iteration == plan.iterations
        _visit(kv, exchange, plan, sheet, iteration, batch, None if is_last else following)
        if evaluated:
            _report_weights(kv, num_keys, plan, iteration)
            sheet.lap(PULL)
        if copied:
            kv.flush()  # in sync mode all workers wait for the next push of this one: nothing changes
            kv.report(kv.copy_of_parameters())
            sheet.lap(PULL)
    kv.flush()
    sheet.lap(PUSH)
    return sheet.stats(iteration, row_count, nonzeros)


def _visit(
    kv: KVWorker,
    exchange: Exchange,
    plan: Plan,
    sheet: Timesheet,
    iteration: int,
    batch: Batch,
    following: Batch | None,
) -> None:
    """Make one tick: read, compute, sleep if the plan asks for it, push."""
    sheet.lap(COMPUTE)  # the first visit of a minibatch localizes it
    weights = exchange.read(batch)
    sheet.lap(PULL)
    loss = exchange.compute(batch, weights)
    kv.computed(batch.rows.nonzeros)
    spent = sheet.lap(COMPUTE)
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss must stay finite, got {loss} at iteration {iteration} of worker {kv.rank}; "
            f"lower the learning rate or leave it out, or scale the features to about 1"
        )
    rest = plan.least_seconds(kv.rank, spent) - spent
    if rest > 0:  # between pull and push: a sleep after the push would add no delay
        _sleep(kv, rest)
        sheet.lap(SLEEP)
    exchange.push(batch, following)
    sheet.lap(PUSH)


def _report_weights(kv: KVWorker, num_keys: int, plan: Plan, iteration: int) -> None:
    """Report all weights for evaluation, including this worker's own pushes."""
    kv.flush()
    at, weights = kv.now(), kv.read(np.arange(num_keys))
    if plan.centre is not None:
        weights = plan.centre.plain(weights)
    # A recorded cluster starts at version 0, so that the version tells the ticks in what was pulled.
    ticks = kv.versions[0] if kv.consistency.reads_by_pull else int(kv.ticks().sum())
    kv.report(Iterate(iteration, at, ticks, weights))


def _visits(
    kv: KVWorker, rows: Rows, shape: tuple[int, ...], plan: Plan
) -> Iterator[tuple[Batch, Batch | None, int]]:
    """Yield this worker's batches in the order of their visits, epoch by epoch.

    With each batch yield the batch after it (None if unknown), and the first of the ranks that share the
    rows: that worker reports weights for evaluation.
    """
    for first, batches in _divisions(kv, rows, shape, plan):
        for batch, following in itertools.pairwise(itertools.chain(batches, [None])):
            assert batch is not None
            yield batch, following, first


def _divisions(
    kv: KVWorker, rows: Rows, shape: tuple[int, ...], plan: Plan
) -> Iterator[tuple[int, Iterator[Batch]]]:
    """Yield the first of the ranks that share the rows, and this worker's batches while those ranks last.

    That is once for the whole training, or once per epoch if workers may join and leave.
    """

    def divided(ranks: list[int]) -> Batches:
        return Batches(
            shard(rows, ranks.index(kv.rank), len(ranks), kv.beat),
            plan.batch_size,
            shape[0],
            plan.intercept,
            plan.seed,
            kv.rank,
            ranks,
            contiguous=kv.consistency.in_place,
            memory=plan.memory,
            problems=math.prod(shape[1:]),
            always=() if plan.centre is None else plan.centre.keys,
            once=plan.epochs == 1 and plan.iterations is None,
        )

    epochs = range(plan.epochs) if plan.iterations is None else itertools.count()
    if not plan.elastic:
        batches = divided(list(range(kv.num_workers)))
        yield 0, itertools.chain.from_iterable(map(batches.epoch, epochs))
        return
    ranks: list[int] = []
    for epoch in epochs:
        before, everyone = ranks, kv.ranks(epoch)
        ranks = everyone[: rows.num_rows]  # every rank has at least one row
        if kv.rank not in ranks:
            if kv.rank in before or kv.rank in everyone:
                return  # removed, or there is no row for this worker
            continue  # not joined yet
        if ranks != before:
            batches = divided(ranks)
        yield ranks[0], batches.epoch(epoch)


def _sleep(kv: KVWorker, seconds: float) -> None:
    """Sleep, and beat every 0.1 s."""
    while seconds > 0:
        kv.sleep(min(seconds, 0.1))
        kv.beat()
        seconds -= 0.1


def warm_up(rows: Rows, shape: tuple[int, ...], plan: Plan, updater: ByRule, in_place: bool) -> None:
    """Compute one row's gradient in this process: nodes that are forked later have the kernels compiled."""
    one, num_keys = rows.example(), shape[0]
    if in_place:
        if plan.centre is not None:
            one = plan.centre.centred(one)
        weights = np.zeros((num_keys, 1))
        state = np.zeros((*weights.shape, updater.state_width))
        updater.descend(next(_problems(one, shape)), plan.intercept, weights, state, Step(1, 0.0))
    batch: Batch = Batches(one, plan.batch_size, num_keys, plan.intercept, 0, 0, [0])[0]
    own = (num_keys if batch.keys is None else len(batch.keys), *shape[1:])
    mean_gradient(batch.rows, np.zeros(own), plan.intercept, 1, np.empty(own))
    measure(one, np.zeros(shape), plan.intercept)
