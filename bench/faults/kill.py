"""Random SIGKILL and SIGSTOP of servers and workers while pushes go on: what is lost, doubled or wrong.

Rounds of ROUND pushes per worker, sync, bounded and async in turn, with and without replicas, two servers and
three workers, updater `Add`. What a push adds is a whole number that follows from (seed, rank, number), and
one more key counts the pushes of its worker: so what must be there after a round can be computed to the last
bit. Ten times per second one node, any, is killed; or it is stopped, and woken after a tenth of a second, or
not at all: then it is taken for hung, killed, and replaced. One at a time: the next when the last was dealt
with, and everyone has ticked since.

Results: "rounds", "pushes", "kills", "stops" (woken), "hangs" (not woken), "deaths" by role, as the cluster
told of them; "lost" and "doubled" (pushes), "wrong" (coordinates), "replica" (coordinates that differ from
their copy), all of which must be 0; "pause_ms" of a server's death, from its notice to its successor's first
answer, {"p50", "p99", "max"}; "left" (processes, segments) at the end, 0.
"""

import multiprocessing
import os
import signal
import time
from typing import Any

import numpy as np
from tqdm import tqdm

from bench import processes
from bench.record import markdown
from shmps import ASYNC, BOUNDED, SYNC, Cluster, KVWorker

KEYS, WORKERS, SERVERS, ROUND = 41, 3, 2, 3000  # a prime, so that every stride visits different keys
MODES = (SYNC, BOUNDED(2), ASYNC)
TIMEOUT = 0.5  # seconds without a sign of life


def deltas(seed: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of all pushes of a worker, (ROUND, 9): eight keys, and its count at KEYS + rank."""
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
    """Kills, stops and wakes nodes of a cluster, one at a time; called now and then by `run`."""

    def __init__(self, cluster: Cluster, random: np.random.Generator, counts: dict[str, int]):
        self._cluster, self._random, self.counts = cluster, random, counts
        self._stopped: int | None = None
        self._dealt_with, self._until, self._ticks = 0, 0.0, -1

    def __call__(self) -> None:
        if self._stopped is not None:
            processes.send(self._stopped, signal.SIGCONT)
            self._stopped = None
        events = len(self._cluster.events)
        if events == self._dealt_with and time.monotonic() < self._until:
            return  # the last is not dealt with
        ticks = int(self._cluster.ticks().min())
        if ticks <= self._ticks:
            return  # three deaths without a tick would be one too many
        self._dealt_with, self._ticks = events, ticks
        nodes = self._cluster.node_pids()
        pid = nodes[int(self._random.integers(len(nodes)))]
        kind = self._random.choice(["kills", "stops", "hangs"], p=[0.9, 0.06, 0.04])
        if not processes.send(pid, signal.SIGKILL if kind == "kills" else signal.SIGSTOP):
            return
        self.counts[kind] += 1
        self._stopped = pid if kind == "stops" else None
        # A worker that had finished is missed by nobody: then no event comes.
        self._until = time.monotonic() + (0.0 if kind == "stops" else 0.5 if kind == "kills" else 5 * TIMEOUT)


def run(quick: bool, minutes: float | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    minutes = minutes or (0.5 if quick else 15.0)
    random, seed = np.random.default_rng(), int(time.time())
    counts = {"kills": 0, "stops": 0, "hangs": 0}
    found = {"lost": 0, "doubled": 0, "wrong": 0, "replica": 0}
    deaths, pauses, rounds = {"server": 0, "worker": 0}, [], 0
    end = time.monotonic() + 60 * minutes
    with tqdm(total=round(60 * minutes), desc="kill", unit="s", disable=None, leave=False) as bar:
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
        ["wrong coordinates; other in the replica", f"{results['wrong']}; {results['replica']}"],
        ["pause after a server's death, ms", f"p50 {pause['p50']:.0f}, p99 {pause['p99']:.0f}"],
        ["processes; segments left", f"{results['left']['processes']}; {results['left']['segments']}"],
    ]
    return markdown(["", "found"], rows)
