"""Training by full gradients on a cluster: workers push the sums of their shards, a coordinator searches.

    worker r:   look at request and weights --> sums of the shard --push--> servers: sums
                      ^                                                        |
                      |              barrier: all workers wait                 v
    coordinator:      +---- write the next request <--- Descent.take <--- read the sums

A round is one tick in sync mode and one barrier. The coordinator runs in the scheduler's process. It reads
and writes before the barrier opens, and nothing else changes meanwhile. The state of the search is in the
process whose death ends everything. So the nodes can be killed at any instant, as in any other training: a
respawned worker computes its answer again from the request and the weights.
"""

import itertools

import numpy as np

from shmps.cluster import Cluster
from shmps.data.rows import MappedRows, Rows, shard
from shmps.linear.full_gradient.descent import Descent
from shmps.linear.full_gradient.layout import Asked, Layout
from shmps.linear.full_gradient.problem import MOST_KEYS, Ascent, Block, Curvature, Gradient, Product, Sums
from shmps.linear.full_gradient.shard import Shard, by_length, compile_sorting
from shmps.linear.objective import measure
from shmps.linear.plan import Iterate
from shmps.linear.timesheet import COMPUTE, PULL, PUSH, Timesheet, WorkerStats
from shmps.ps.messages import ALL
from shmps.ps.worker.kv import KVWorker

PER_WEIGHT = 400  # bytes of the scheduler, most of them for the memory of L-BFGS


def contribute(
    kv: KVWorker, rows: Rows, layout: Layout, test_interval: int, timeline: bool = False, sort: bool = True
) -> WorkerStats:
    """Run a worker: answer request after request with the sums of its shard, until the training ends.

    sort: whether the shard may be copied, to sort its rows by length.
    """
    problem = layout.problem
    own = shard(rows, kv.rank, kv.num_workers, kv.beat)
    if sort and not isinstance(rows, MappedRows):
        own = by_length(own)
    answers = Shard(problem, own, rows.num_rows * kv.rank // kv.num_workers, kv.beat)
    sums, keys = Sums.of(problem), np.arange(layout.num_keys)
    kv.barrier(ALL)
    sheet = Timesheet(kv, timeline)
    asked = layout.read(kv.read())
    sheet.lap(PULL)
    for number in itertools.count(1):
        if number > kv.resumed:
            assert asked.request is not None
            answers.answer(asked.request, asked.weights, sums)
            kv.computed(own.nonzeros)
            sheet.lap(COMPUTE)
            is_gradient = isinstance(asked.request, Gradient)
            if is_gradient and kv.rank == 0 and test_interval and asked.gradients % test_interval == 0:
                _report(kv, asked, problem.loss_shape)
                sheet.lap(PULL)
            begin, end = layout.keys(asked.request)
            kv.push(keys[begin:end], sums.answering(asked.request))
        kv.barrier(ALL)
        sheet.lap(PUSH)
        # A respawned worker skips the rounds that are complete.
        if number >= kv.resumed:
            asked = layout.read(kv.read())
            sheet.lap(PULL)
            if asked.request is None:
                break
    done = asked.gradients
    return sheet.stats(done, done * own.num_rows, done * own.nonzeros)


def _report(kv: KVWorker, asked: Asked, shape: tuple[int, ...]) -> None:
    """Report the weights of a gradient for evaluation."""
    weights = asked.weights.reshape(shape).copy()
    kv.report(Iterate(asked.gradients, kv.now(), asked.gradients * kv.num_workers, weights))


class Coordinator:
    """Takes the descent from round to round. Call it at every barrier of `contribute`."""

    def __init__(self, cluster: Cluster, layout: Layout, descent: Descent):
        self._cluster, self._layout, self._descent = cluster, layout, descent
        self._sums = Sums.of(layout.problem)
        self._has_begun = False

    def __call__(self) -> None:
        descent, layout = self._descent, self._layout
        if not self._has_begun:  # the first barrier: all workers have started
            self._has_begun = True
            descent.begin()
            return
        assert descent.request is not None
        self._sums.answering(descent.request)[:] = self._cluster.weights(*layout.keys(descent.request))
        descent.take(self._sums)
        self._cluster.write(layout.write(Asked(descent.request, descent.weights, descent.gradients)))


def warm_up(rows: Rows, layout: Layout) -> None:
    """Run the kernels of workers and scheduler on one row: nodes that are forked later have them compiled."""
    one, problem = rows.example(), layout.problem
    sums, weights = Sums.of(problem), np.zeros(problem.shape)
    own = Shard(problem, one, 0)
    own.answer(Gradient(weights), weights, sums)
    own.answer(Curvature(1.0, 0), weights, sums)
    if problem.ascends:
        own.answer(Ascent(1, problem.l2), weights, sums)
    if problem.blockwise:
        own.answer(Block(np.arange(problem.size)[-MOST_KEYS:], 1.0, 0, 0.0), weights, sums)
    if problem.l1 == 0:
        own.answer(Product(weights), weights, sums)
    compile_sorting(one)
    measure(one, np.zeros(problem.loss_shape), problem.intercept)
