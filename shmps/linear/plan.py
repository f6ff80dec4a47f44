"""What the training process and its workers tell each other: the plan, and the weights to evaluate."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shmps.linear.scaling import Centre


@dataclass(frozen=True)
class Plan:
    """What every worker does in a training by minibatches."""

    batch_size: int  # rows; 0: the whole shard
    epochs: int
    iterations: int | None  # per worker, instead of epochs
    test_interval: int  # iterations of worker 0 between evaluations; 0: no evaluations
    intercept: bool
    seed: int
    slow_worker: tuple[int, float] | None = None  # rank, factor
    tick_time: float = 0.0  # the least seconds that a tick lasts
    checkpoint_every: int = 0  # iterations of worker 0 between checkpoints; 0: no checkpoints
    elastic: bool = False  # workers may join and leave: every epoch asks anew which ranks share the rows
    memory: int | None = None  # bytes that a worker may use; the minibatches that it keeps stay within them
    timeline: bool = False  # whether the workers' statistics include their time spans
    centre: Centre | None = None  # the features that are centred
    done: tuple[int, ...] = ()  # iterations of each worker in the checkpoint; its statistics exclude them

    def evaluates(self, iteration: int) -> bool:
        """Return whether worker 0 reports its weights for evaluation after `iteration`."""
        return bool(self.test_interval) and iteration % self.test_interval == 0

    def copies(self, iteration: int) -> bool:
        """Return whether worker 0 reports a copy for a checkpoint after `iteration`."""
        return bool(self.checkpoint_every) and iteration % self.checkpoint_every == 0

    def least_seconds(self, rank: int, computed: float) -> float:
        """Return the least seconds from pull to push of worker `rank` if its gradient took `computed`."""
        slowness = self.slow_worker[1] if self.slow_worker and self.slow_worker[0] == rank else 1.0
        return slowness * max(computed, self.tick_time)


class Iterate(NamedTuple):
    """The weights at one iteration of worker 0, which reports a copy of them for evaluation."""

    iteration: int
    at: float  # `kv.now()` of the worker
    ticks: int  # of all workers
    weights: np.ndarray  # (n,); with more than two classes (n, classes)
