"""The machines on which an inline cluster runs: what takes how long in virtual time.

No NumPy is imported here: the command line reads the fields for `--help`.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from shmps.checks import Rule, number, number_or_infinity

_NOT_NEGATIVE, _SHARE = number(least=0), number(least=0, most=1)


def _machine(default: float, metavar: str, help: str, rule: Rule = _NOT_NEGATIVE) -> Any:
    """Return a field of `Machines`. metavar: the unit in `--help`."""
    return field(default=default, metadata={"metavar": metavar, "help": help, "rule": rule})


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

    latency: float = _machine(20e-6, "S", "of a record, from one machine to another")
    bandwidth: float = _machine(
        math.inf,
        "BYTES/S",
        "that a machine sends, and that it receives: 125e6 is 1 Gbit/s",
        number_or_infinity(above=0),
    )
    push: float = _machine(10e-6, "S", "that a server takes for a push")
    pull: float = _machine(5e-6, "S", "that a server takes for a pull")
    key: float = _machine(5e-9, "S", "that a server takes besides for each key")
    minibatch: float = _machine(30e-6, "S", "that a worker takes for a gradient")
    nonzero: float = _machine(5e-9, "S", "that a worker takes besides for each non-zero")
    variation: float = _machine(0.0, "SIGMA", "of the lognormal factor by which these times vary")
    stragglers: float = _machine(0.0, "SHARE", "of the workers, which are always slower", _SHARE)
    hiccups: float = _machine(0.0, "P", "the probability that a worker is slower for one minibatch", _SHARE)
    slowness: float = _machine(5.0, "FACTOR", "of stragglers and hiccups", number(least=1))
    deaths: float = _machine(0.0, "PER_HOUR", "of each machine")
    restart: float = _machine(1.0, "S", "from a death until the successor begins")

    def __post_init__(self) -> None:
        for each in fields(self):
            each.metadata["rule"].check(each.name, getattr(self, each.name))

    def is_straggler(self, rank: int, workers: int) -> bool:
        """Return whether the worker is one of those that are always slower."""
        return rank >= workers - round(self.stragglers * workers)
