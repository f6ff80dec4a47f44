"""The time that the gradients of a worker take in virtual time."""

import math

import numpy as np

from shmps.engines.inline.machines import Machines


class Computing:
    """The time that the gradients of one worker take."""

    def __init__(self, machines: Machines, seed: int, rank: int, workers: int):
        self._machines = machines
        self._random = np.random.default_rng((seed, rank))
        self._factor = machines.slowness if machines.is_straggler(rank, workers) else 1.0

    def seconds(self, nonzeros: int) -> float:
        """Return the time of one gradient."""
        machines = self._machines
        seconds = self._factor * (machines.minibatch + machines.nonzero * nonzeros)
        if sigma := machines.variation:
            seconds *= math.exp(sigma * self._random.standard_normal() - sigma**2 / 2)
        if machines.hiccups and self._random.random() < machines.hiccups:
            seconds *= machines.slowness
        return seconds
