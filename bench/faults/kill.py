"""Random SIGKILL and SIGSTOP of servers and workers during pushes: are pushes lost, doubled or wrong?

A round is a new cluster with two servers, three workers and the updater `Add`; every worker makes ROUND
pushes. The rounds alternate between sync, bounded and async, with and without replicas. Every push adds whole
numbers that follow from (seed, rank, number), and one more key per worker counts the worker's pushes. So the
exact weights after a round are known.

Ten times per second a random node is killed or stopped. A stopped node is woken after a tenth of a second, or
not at all; in the second case the cluster takes it for hung, kills it and replaces it. The next node is hit
only after the cluster has dealt with the last one and all workers have ticked since.

Results: "rounds", "pushes", "kills", "stops" (woken), "hangs" (not woken), "deaths" by role (the cluster's
events); "lost" and "doubled" (pushes), "wrong" (coordinates), "replica" (coordinates that differ from their
copy), all of which must be 0; "pause_ms" after a server's death, from its detection to the successor's first
answer, {"p50", "p99", "max"}; "left" at the end (processes, segments), which must be 0.
"""

import multiprocessing
import os
import signal
import time
from typing import Any

import numpy as np

from bench import processes
from bench.record import markdown
from bench.timing import progress
from shmps import ASYNC, BOUNDED, SYNC, Cluster, KVWorker

KEYS, WORKERS, SERVERS, ROUND = 41, 3, 2, 3000  # KEYS is a prime, so that every stride visits different keys
MODES = (SYNC, BOUNDED(2), ASYNC)
TIMEOUT = 0.5  # seconds without a heartbeat after which a node counts as hung
KINDS = {"kills": 0.9, "stops": 0.06, "hangs": 0.04}  # probability of each
# Seconds after which the next node is hit even if the cluster reports no event.
PATIENCE = {"kills": 0.5, "stops": 0.0, "hangs": 5 * TIMEOUT}


def deltas(seed: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys and values of all pushes of a worker, (ROUND, 9): 8 keys, and 1 at KEYS + rank."""
    random = np.random.default_rng([seed, rank])
    first, stride = random.integers(0, KEYS, (ROUND, 1)), random.integers(1, KEYS, (ROUND, 1))
    keys = np.sort((first + stride * np.arange(8)) % KEYS, axis=1)
    count = np.full((ROUND, 1), KEYS + rank)
    values = np.hstack([random.integers(1, 1000, (ROUND, 8)), np.ones((ROUND, 1))])
    return np.hstack([keys, count]), values.astype(float)


def push_all(kv: KVWorker, seed: int) -> None:
    keys, values = deltas(seed, kv.rank)
    for number in range(kv.resumed, ROUND):
        if number % 3 == 0:
            kv.start_push(keys[number], values[number])
        elif number % 3 == 1:
            kv.push_pull(keys[number], values[number])
        else:
            kv.push(keys[number], values[number])
            kv.pull(keys[number])


def expected(seed: int) -> np.ndarray:
    total = np.zeros(KEYS + WORKERS)
    for rank in range(WORKERS):
        np.add.at(total, *deltas(seed, rank))
    return total


class Killer:
    """Kill, stop and wake nodes of a cluster, one at a time. `Cluster.run` calls it every 100 ms."""

    def __init__(self, cluster: Cluster, random: np.random.Generator, counts: dict[str, int]):
        self._cluster, self._random, self.counts = cluster, random, counts
        self._stopped: int | None = None
        self._events, self._until, self._ticks = 0, 0.0, -1  # at the last hit

    def __call__(self) -> None:
        if self._stopped is not None:
            processes.send(self._stopped, signal.SIGCONT)
            self._stopped = None
        events = len(self._cluster.events)
        if events == self._events and time.monotonic() < self._until:
            return  # the cluster has not dealt with the last hit
        ticks = int(self._cluster.ticks().min())
        if ticks <= self._ticks:
            return  # after three deaths without a tick the cluster gives a node up
        self._events, self._ticks = events, ticks
        nodes = self._cluster.node_pids()
        pid = nodes[int(self._random.integers(len(nodes)))]
        kind = str(self._random.choice(list(KINDS), p=list(KINDS.values())))
        if not processes.send(pid, signal.SIGKILL if kind == "kills" else signal.SIGSTOP):
            return
        self.counts[kind] += 1
        self._stopped = pid if kind == "stops" else None
        # The death of a worker that has finished causes no event, so don't wait for one for ever.
        self._until = time.monotonic() + PATIENCE[kind]


def run(quick: bool, minutes: float | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    minutes = minutes or (0.5 if quick else 15.0)
    random, seed = np.random.default_rng(), int(time.time())
    counts = dict.fromkeys(KINDS, 0)
    found = {"lost": 0, "doubled": 0, "wrong": 0, "replica": 0}
    deaths, pauses, rounds = {"server": 0, "worker": 0}, [], 0
    end = time.monotonic() + 60 * minutes
    with progress("kill", round(60 * minutes), "s") as bar:
        while time.monotonic() < end:
            with Cluster(
                KEYS + WORKERS,
                servers=SERVERS,
                workers=WORKERS,
                consistency=MODES[rounds % len(MODES)],
                replicas=rounds // len(MODES) % 2,
                node_timeout=TIMEOUT,
            ) as cluster:
                _round(cluster, seed + rounds, Killer(cluster, random, counts), found)
                for event in cluster.events:
                    deaths[event.role] += 1
                    if event.role == "server":
                        pauses.append(1000 * (event.seconds or 0.0))
            rounds += 1
            bar.update(round(60 * minutes - (end - time.monotonic())) - bar.n)
    return {"minutes": minutes, "seed": seed, "workers": WORKERS, "servers": SERVERS, "round": ROUND}, {
        "rounds": rounds, "pushes": rounds * WORKERS * ROUND, **counts, "deaths": deaths, **found,
        "pause_ms": {
            "p50": float(np.percentile(pauses, 50)), "p99": float(np.percentile(pauses, 99)),
            "max": max(pauses),
        },
        "left": {
            "processes": len(multiprocessing.active_children()),
            "segments": processes.nameless_files(os.getpid()),
        },
    }  # fmt: skip


def _round(cluster: Cluster, seed: int, killer: Killer, found: dict[str, int]) -> None:
    cluster.run(push_all, seed, on_pause=killer, on_worker_death="respawn")
    wrong = cluster.weights() - expected(seed)
    missing = wrong[KEYS:]
    found["wrong"] += int(np.count_nonzero(wrong))
    found["lost"] += int(-missing[missing < 0].sum())
    found["doubled"] += int(missing[missing > 0].sum())
    found["replica"] += cluster.replica_differences()


def failed(results: dict[str, Any]) -> bool:
    counts = [results[name] for name in ("lost", "doubled", "wrong", "replica")]
    return any(counts) or any(results["left"].values())


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    pause = results["pause_ms"]
    rows = [
        ["minutes", f"{settings['minutes']:g}"],
        ["pushes", f"{results['pushes']:,}"],
        ["kills; stops; hangs", f"{results['kills']:,}; {results['stops']:,}; {results['hangs']:,}"],
        [
            "deaths of servers; of workers",
            f"{results['deaths']['server']:,}; {results['deaths']['worker']:,}",
        ],
        ["pushes lost; doubled", f"{results['lost']}; {results['doubled']}"],
        ["coordinates wrong; different in the replica", f"{results['wrong']}; {results['replica']}"],
        ["pause after a server's death, ms", f"p50 {pause['p50']:.0f}, p99 {pause['p99']:.0f}"],
        ["processes left; segments left", f"{results['left']['processes']}; {results['left']['segments']}"],
    ]
    return markdown(["", "result"], rows)


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    return {name: f"{results[name]:,}" for name in ("pushes", "kills", "lost", "doubled")}
