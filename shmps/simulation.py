"""Trainings in virtual time, on machines that are described: the mathematics is real, the network simulated.

simulate(X, y, machines) -> LogisticRegression(engine=Inline(machines)).fit -> Result
                                              | Network: what every machine did
                                              v
                                          Simulation: virtual seconds, utilisation, bytes
"""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from shmps.data.rows import Rows
from shmps.engines.inline.engine import Inline
from shmps.engines.inline.machines import Machines
from shmps.engines.inline.network import Network
from shmps.engines.roles import server_on
from shmps.errors import UsageError
from shmps.linear.objective import mean_gradient
from shmps.linear.result import Result
from shmps.ps.consistency import ASYNC
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.parameters import Parameters
from shmps.ps.messages import PULL, PUSH, SERVER, WORKER, Enter, Record, Start
from shmps.sklearn.estimator import LogisticRegression
from shmps.system.memory import carve
from shmps.updaters.descent import SGD


@dataclass(frozen=True)
class Simulation:
    """A training in virtual time.

    result: that of the training; its seconds, also those of the history, are virtual.
    computing: the share of its time that each worker computed, by rank.
    serving: the share of its time that each server handled requests, by rank.
    receiving: the share of its time that each server's link received bytes, by rank.
    bytes, records: sent by all machines.
    """

    result: Result
    computing: np.ndarray  # (workers,)
    serving: np.ndarray  # (servers,)
    receiving: np.ndarray  # (servers,)
    bytes: int
    records: int

    @property
    def seconds(self) -> float:
        """The virtual seconds of the training."""
        return self.result.seconds["train"]

    def figures(self) -> dict[str, Any]:
        """Return the figures of the machines, JSON-able."""
        return {
            "seconds": self.seconds,
            "computing": spread_of(self.computing),
            "serving": spread_of(self.serving),
            "receiving": spread_of(self.receiving),
            "bytes": self.bytes,
            "records": self.records,
        }

    def lines(self) -> list[tuple[str, str]]:
        """Return the names and values that a table shows."""
        return [
            ("workers compute", _shown(self.computing)),
            ("servers serve", _shown(self.serving)),
            ("servers receive", _shown(self.receiving)),
            ("sent", f"{self.bytes:,} bytes in {self.records:,} records"),
        ]


def spread_of(shares: np.ndarray) -> dict[str, float]:
    return {"mean": float(shares.mean()), "min": float(shares.min()), "max": float(shares.max())}


def _shown(shares: np.ndarray) -> str:
    return f"{shares.mean():.1%} of the time ({shares.min():.1%} to {shares.max():.1%})"


def simulate(
    X: Any,
    y: Any,
    machines: Machines | None = None,
    *,
    seed: int = 0,
    eval_set: Any = None,
    sample_weight: Any = None,
    coef_init: Any = None,
    **parameters: Any,
) -> Simulation:
    """Train in virtual time, as so many machines would; return the result and what the machines did.

    X, y, sample_weight, eval_set, coef_init: as for `LogisticRegression.fit`.
    machines: what takes how long (default: of the order of the processes of one host).
    seed: of the times that vary. Equal seeds give equal bits.
    parameters: those of `LogisticRegression`, but no engine. `workers` and `servers` are the machines.

    Raises what `LogisticRegression.fit` raises.

    Example: how long do 100 workers take, of which one is five times slower?::

        machines = Machines(latency=100e-6, bandwidth=125e6, stragglers=0.01, slowness=5)
        for mode in ("sync", "async"):
            done = simulate(X, y, machines, workers=100, servers=4, mode=mode, solver="minibatch")
            print(mode, done.seconds, done.result.metrics.log_loss)
    """
    if "engine" in parameters:
        raise UsageError(
            f"engine must be left out of a simulation, which is inline, got {parameters['engine']!r}"
        )
    engine = Inline(machines, seed)
    estimator = LogisticRegression(engine=engine, **parameters)
    estimator.fit(X, y, sample_weight=sample_weight, eval_set=eval_set, coef_init=coef_init)
    return simulation_of(engine, estimator.result_)


def simulation_of(engine: Inline, result: Result) -> Simulation:
    """Return what the machines of the engine's last cluster did, with the result of its training."""
    if engine.network is None:
        raise UsageError(
            "a simulation needs workers and servers, got a training in this process; give workers"
        )
    network, seconds = engine.network, max(result.seconds["train"], 1e-12)
    return Simulation(
        result,
        computing=_shares(network, WORKER, "busy", seconds),
        serving=_shares(network, SERVER, "busy", seconds),
        receiving=_shares(network, SERVER, "receiving", seconds),
        bytes=sum(machine.sent for machine in network.machines.values()),
        records=sum(machine.records for machine in network.machines.values()),
    )


def _shares(network: Network, role: int, what: str, seconds: float) -> np.ndarray:
    machines = sorted(address for address in network.machines if address[0] == role)
    return np.array([getattr(network.machines[address], what) / seconds for address in machines])


# Calibration: the times of `Machines` on this host.


def measured() -> Machines:
    """Measure what gradients and requests take on this host, in processor time; return machines such as it.

    Kernels and the server's code are those of a training. The latency is not measured: it is that of a
    network. It takes about a second.
    """
    minibatch, nonzero = _line(_gradient, (256, 16_384), nonzeros=16)
    push, key = _line(lambda keys: _request(PUSH, keys), (1, 4096))
    pull, _ = _line(lambda keys: _request(PULL, keys), (1, 4096))
    return Machines(minibatch=minibatch, nonzero=nonzero, push=push, pull=pull, key=key)


def _line(measure: Any, sizes: tuple[int, int], nonzeros: int = 1) -> tuple[float, float]:
    """Return the seconds of nothing, and of each unit: a line through two measurements."""
    small, large = (measure(size) for size in sizes)
    slope = max(large - small, 0.0) / (sizes[1] - sizes[0])
    return max(small - slope * sizes[0], 1e-9), slope / nonzeros


def _gradient(num_rows: int) -> float:
    """Return the seconds of a gradient over rows with 16 non-zeros each."""
    random = np.random.default_rng(0)
    indices = np.sort(random.integers(0, 1000, (num_rows, 16)), axis=1).ravel()
    starts, labels = np.arange(0, 16 * num_rows + 1, 16), random.choice([-1.0, 1.0], num_rows)
    rows = Rows(starts, indices, np.ones(16 * num_rows), labels)
    weights, out = np.zeros(1000), np.zeros(1000)
    return _median(lambda: mean_gradient(rows, weights, False, num_rows, out))


def _request(op: int, keys: int) -> float:
    """Return the seconds that a server takes for a request of so many keys."""
    shape = Shape(2 * keys, 1, 0, servers=1, workers=1, max_keys=keys)
    fields, mailboxes = shape.parameter_fields(), shape.mailbox_fields()
    parameters = Parameters(shape, carve(fields, bytearray(carve(fields)[1]))[0])
    arrays = carve(mailboxes, bytearray(carve(mailboxes)[1]))[0]
    arrays["keys"][0, :, :keys] = np.arange(0, 2 * keys, 2)
    server = server_on(parameters, arrays, 0, 1, ASYNC, SGD(0.1), streams=())
    server.handle(Record.of(Start(1), to=1))
    server.handle(Record.of(Enter(0, 2, 0), to=1))
    number = 0

    def handle() -> None:
        nonlocal number
        number += op == PUSH
        assert server.handle(Record(op, 0, 1, 0, keys, number, server.version, 2, 1))

    return _median(handle)


def _median(function: Any, repeats: int = 200) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
