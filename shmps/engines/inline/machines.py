"""The machines on which an inline cluster runs: what takes how long in virtual time."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from shmps.checks import number, number_or_infinity


@dataclass(frozen=True)
class Machines:
    """What takes how long, in virtual seconds: the machines of `Inline`.

    Every server and worker is a machine of its own. The defaults are of the order of what the processes of
    one host take.

    latency: of a record, from one machine to another.
    bandwidth: bytes per second that a machine sends, and bytes per second that it receives.
    push, pull, key: what a server takes for a push, for a pull, and besides for each key of either.
    minibatch, nonzero: what a worker takes to compute a gradient, and besides for each non-zero.
    variation: the standard deviation of the logarithm of the factor by which these times vary (a lognormal
    factor with the mean 1); 0: they do not vary.
    stragglers: the share of the workers that are always slower, those of the highest ranks.
    hiccups: the probability that a worker is slower for one minibatch.
    slowness: the factor by which a straggler, or a hiccup, makes computing slower.
    deaths: of each machine per hour, at random. A successor begins `restart` seconds later.

    Raises UsageError for a value that breaks a rule.

    Example: workers of which one in a hundred is five times slower, on a network of 1 Gbit/s::

        Machines(latency=100e-6, bandwidth=125e6, stragglers=0.01, slowness=5)
    """

    latency: float = 20e-6
    bandwidth: float = math.inf
    push: float = 10e-6
    pull: float = 5e-6
    key: float = 5e-9
    minibatch: float = 30e-6
    nonzero: float = 5e-9
    variation: float = 0.0
    stragglers: float = 0.0
    hiccups: float = 0.0
    slowness: float = 5.0
    deaths: float = 0.0
    restart: float = 1.0

    def __post_init__(self) -> None:
        rules = {each.name: number(least=0) for each in dataclasses.fields(self)} | {
            "bandwidth": number_or_infinity(above=0),
            "stragglers": number(least=0, most=1),
            "hiccups": number(least=0, most=1),
            "slowness": number(least=1),
        }
        for name, rule in rules.items():
            rule.check(name, getattr(self, name))

    def is_straggler(self, rank: int, workers: int) -> bool:
        """Return whether the worker is one of those that are always slower."""
        return rank >= workers - round(self.stragglers * workers)


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
