"""The machines on which an inline cluster runs: what takes how long in virtual time."""

import collections
import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from shmps.checks import number, number_or_infinity
from shmps.ps.messages import ANSWER, PULL, PUSH, PUSH_PULL, RECORD_BYTES, Address, Record


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


class Machine:
    """One machine at work: from when on it is free, and what it did so far.

    sends, receives, handles: the virtual second from which on it can send, receive, and handle a record.
    sent: bytes. records: sent. busy: seconds of serving (a server) or computing (a worker).
    """

    __slots__ = ("busy", "handles", "receives", "records", "sends", "sent")

    def __init__(self) -> None:
        self.sends = self.receives = self.handles = self.busy = 0.0
        self.sent = self.records = 0


class Network:
    """When a record arrives, and when a server has finished with it.

    A machine sends its records one after the other, and receives them one after the other; a server handles
    them in the order of their arrival. All this is decided when a record is sent.

    now: virtual seconds at the last look. machines: by address.
    """

    def __init__(self, machines: Machines, key_bytes: int, value_bytes: int):
        self.now = 0.0
        self.machines: dict[Address, Machine] = collections.defaultdict(Machine)
        self._latency, self._seconds_of_byte = machines.latency, 1 / machines.bandwidth
        self._service = {
            PUSH: (machines.push, machines.key),
            PULL: (machines.pull, machines.key),
            PUSH_PULL: (machines.push + machines.pull, 2 * machines.key),
        }
        # Of a request with keys, and of one for all keys: the bytes that each key adds to a record.
        self._bytes = {PUSH: (key_bytes + value_bytes, value_bytes), PULL: (key_bytes, 0)}
        self._bytes[PUSH_PULL] = self._bytes[PUSH]
        self._value_bytes = value_bytes
        self._pulls: set[tuple[Machine, int, int]] = set()  # unanswered: server, worker, timestamp

    def arrival(self, now: float, sender: Machine, addressee: Machine, worker: int, record: Record) -> float:
        """Return when the addressee has the record; a server, when it has finished with it.

        worker: the rank of the worker that sends a request or gets an answer.
        """
        op, size = record.op, RECORD_BYTES
        if op == ANSWER:
            pull = sender, worker, record.timestamp
            if pull in self._pulls:
                self._pulls.discard(pull)
                size += record.size * self._value_bytes
        elif op in self._bytes:
            size += record.size * self._bytes[op][record.slot < 0]
            if op != PUSH:
                self._pulls.add((addressee, worker, record.timestamp))
        sender.records += 1
        sender.sent += size
        time = now + self._latency
        if self._seconds_of_byte:
            seconds = size * self._seconds_of_byte
            begin = sender.sends if sender.sends > now else now
            sender.sends = begin + seconds
            # The addressee's link takes the bytes as they come, after those of earlier records.
            time = max(begin + self._latency, addressee.receives) + seconds
            addressee.receives = time
        if addressee.handles > time:
            time = addressee.handles
        if op in self._service:
            request, key = self._service[op]
            seconds = request + key * record.size
            addressee.busy += seconds
            time += seconds
        addressee.handles = time  # so records arrive in the order in which they were sent
        return time
