"""Recorded runs that are repeated under random SIGKILLs: are all bits the same?

A run is a training by minibatches on real processes: 1 to 6 workers, 1 to 3 servers, async or with a bound of
0 to 3, on generated rows. Half of the runs are recorded, and half are repeated, while random nodes are killed
by SIGKILL: one at a time, and the next one only after all workers have ticked. A repeated run must end with
the same weights and the same updater state, and all its evaluations must have the same weights.

Schedules are the same on the inline engine, in a random order with late records and a crash at every place
(see `bench.faults.recorded`). `--seed N` prints what happens in one.

Results: "runs", "pushes" and "pulls" in their journals, "deaths" of nodes {"recorded", "repeated"},
"same_weights", "same_state", "same_curves" (of the runs), "schedules", "schedule_failures": [{"seed",
"what"}].
"""

import multiprocessing
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from bench import processes
from bench.faults.recorded import repeated
from bench.record import markdown
from bench.timing import progress
from shmps import ASYNC, BOUNDED, AdaGrad, Cluster, Consistency, Journal
from shmps.data.rows import Rows, rows_of
from shmps.linear.minibatch_worker import train
from shmps.linear.plan import Iterate, Plan
from shmps.system.parallel import usable_cores

KEYS, ROWS, BATCH = 60, 1200, 24
MOST_WORKERS, MOST_SERVERS = 6, 3
MODES: tuple[Consistency, ...] = (ASYNC, ASYNC, BOUNDED(0), BOUNDED(1), BOUNDED(3))
KILLS = 0.3  # probability at each evaluation


def replay(seed: int) -> str:
    """Record and repeat one simulated schedule and print every step; return how it ended."""
    return repeated(seed, print) or "all as promised"


class Killer:
    """Kills a random node now and then, when called with a report of worker 0."""

    def __init__(self, cluster: Cluster, random: np.random.Generator, kills: bool):
        self._cluster, self._random, self._kills = cluster, random, kills
        self._ticks = 0  # of the slowest worker at the last kill
        self.curve: dict[int, tuple[int, bytes]] = {}

    def __call__(self, rank: int, iterate: Iterate) -> None:
        self.curve.setdefault(iterate.iteration, (iterate.ticks, iterate.weights.tobytes()))
        ticks = int(self._cluster.ticks().min())
        if self._kills and ticks > self._ticks and self._random.random() < KILLS:
            self._ticks = ticks
            nodes = self._cluster.node_pids()
            processes.send(nodes[int(self._random.integers(len(nodes)))], signal.SIGKILL)


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    runs, schedules = (6, 60) if quick else (200, 10_000)
    random, rows = np.random.default_rng(0), _rows()
    found: dict[str, Any] = {"runs": runs, "pushes": 0, "pulls": 0}
    found |= {"deaths": {"recorded": 0, "repeated": 0}}
    found |= {"same_weights": 0, "same_state": 0, "same_curves": 0}
    with progress("replay", runs) as bar:
        for number in range(runs):
            _one(number, random, rows, found)
            bar.update()
    with multiprocessing.Pool(usable_cores()) as pool, progress("schedules", schedules) as bar:
        failures = []
        for seed, what in enumerate(pool.imap(repeated, range(schedules), chunksize=20)):
            if what:
                failures.append({"seed": seed, "what": what})
            bar.update()
    settings: dict[str, Any] = {
        "workers": f"1 to {MOST_WORKERS}", "servers": f"1 to {MOST_SERVERS}", "rows": ROWS, "keys": KEYS,
        "batch_size": BATCH,
    }  # fmt: skip
    return settings, found | {"schedules": schedules, "schedule_failures": failures}


def _rows() -> Rows:
    random = np.random.default_rng(0)
    X = random.normal(size=(ROWS, KEYS - 1)) * (random.random((ROWS, KEYS - 1)) < 0.2)
    return rows_of(csr_matrix(X), np.where(X @ random.normal(size=KEYS - 1) > 0, 1.0, -1.0))


def _one(number: int, random: np.random.Generator, rows: Rows, found: dict[str, Any]) -> None:
    """Record and repeat one run, and count what came out."""
    nodes = int(random.integers(1, MOST_WORKERS + 1)), int(random.integers(1, MOST_SERVERS + 1))
    mode = MODES[int(random.integers(len(MODES)))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        journal, curve, deaths = _trained(mode, nodes, random, rows, number % 2 == 1, record=True)
        journal.save(path)
        known = Journal.open(path)
    again, repeats, later = _trained(known.consistency, nodes, random, rows, number // 2 % 2 == 1)
    found["pushes"] += len(known.pushes)
    found["pulls"] += len(known.pulls)
    found["deaths"]["recorded"] += deaths
    found["deaths"]["repeated"] += later
    found["same_weights"] += again.digest["weights"] == known.digest["weights"]
    found["same_state"] += again.digest["state"] == known.digest["state"]
    found["same_curves"] += curve == repeats


def _trained(
    mode: Consistency,
    nodes: tuple[int, int],
    random: np.random.Generator,
    rows: Rows,
    kills: bool,
    record: bool = False,
) -> tuple[Journal, dict[int, tuple[int, bytes]], int]:
    """Return the journal, the iterations with their ticks and weights, and the number of deaths."""
    workers, servers = nodes
    plan = Plan(BATCH, epochs=6, iterations=None, test_interval=5, intercept=True, seed=0)
    with Cluster(
        KEYS, servers=servers, workers=workers, consistency=mode, record=record, updater=AdaGrad(0.3)
    ) as cluster:
        killer = Killer(cluster, random, kills)
        cluster.run(train, rows, (KEYS,), plan, on_report=killer, on_worker_death="respawn")
        return cluster.journal(), killer.curve, len(cluster.events)


def failed(results: dict[str, Any]) -> bool:
    same = (results[name] for name in ("same_weights", "same_state", "same_curves"))
    return any(each != results["runs"] for each in same) or bool(results["schedule_failures"])


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    deaths = results["deaths"]
    rows = [
        ["recorded and repeated runs", f"{results['runs']:,}"],
        ["pushes; pulls in the journals", f"{results['pushes']:,}; {results['pulls']:,}"],
        ["deaths while recorded; while repeated", f"{deaths['recorded']:,}; {deaths['repeated']:,}"],
        ["repeated with the same weights", f"{results['same_weights']:,}"],
        ["with the same updater state", f"{results['same_state']:,}"],
        ["with the same curve", f"{results['same_curves']:,}"],
        [
            "simulated schedules; failed",
            f"{results['schedules']:,}; {len(results['schedule_failures'])}",
        ],
    ]
    return markdown(["", "result"], rows)


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    return {name: f"{results[name]:,}" for name in ("runs", "schedules")}
