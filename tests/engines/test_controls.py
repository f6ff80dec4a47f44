"""Controls on real processes: without one part of the protocol, the checks of test_recovery fail."""

import contextlib
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from mutants import without_done, without_fencing, without_shipping_again, without_the_redo_slot
from test_recovery import KEYS, PUSHES, WORKERS, add_deltas, expected

from shmps import ASYNC, Cluster
from shmps.ps.messages import SERVER
from shmps.ps.scheduler.run import RESPAWN
from shmps.system.failpoints import Failpoint, simulated

LOST = 5.0  # seconds to wait for a write that may not come; only a broken variant takes as long


def is_exact(failpoint):
    with Cluster(
        KEYS, servers=2, workers=WORKERS, replicas=1, consistency=ASYNC, failpoints=[failpoint]
    ) as cluster:
        cluster.run(add_deltas, on_worker_death=RESPAWN)
        assert len(cluster.events) == 1
        return (cluster.weights() == expected()).all() and cluster.replica_differences() == 0


CONTROLS = [
    (without_the_redo_slot, "server: half applied"),
    (without_done, "server: applied"),
    (without_shipping_again, "server: applied"),
]


@pytest.mark.parametrize(("mutant", "place"), CONTROLS, ids=lambda value: getattr(value, "__name__", value))
def test_one_kill_shows_what_is_missing(mutant, place, monkeypatch):
    # The last update: no later update can repair it.
    failpoint = Failpoint(SERVER, 1, place, WORKERS * PUSHES)
    assert is_exact(failpoint)
    mutant(monkeypatch)
    assert not is_exact(failpoint)


def push_and_wake(kv, stopped):
    """Push 1, 2, ... 12 to every key; then wake the stopped server, and see whether it writes."""
    for number in range(1, 13):
        kv.push(None, np.full(KEYS, float(number)))
    with contextlib.suppress(ProcessLookupError):
        os.kill(stopped, signal.SIGCONT)
        until = time.monotonic() + LOST
        while (kv.look() == 78.0).all() and time.monotonic() < until:
            pass
        os.kill(stopped, signal.SIGKILL)  # otherwise it reads records for its successor


def woken_servers_write():
    """Stop a server just before its fifth commit; replace it; wake it after the twelfth. Does it write?"""

    def stop(place):
        os.kill(os.getpid(), signal.SIGSTOP)

    failpoint = Failpoint(SERVER, 0, "server: slot written", 5)
    with (
        simulated(stop),
        Cluster(
            KEYS,
            servers=2,
            workers=1,
            replicas=1,
            consistency=ASYNC,
            node_timeout=0.5,
            failpoints=[failpoint],
        ) as cluster,
    ):
        stopped = cluster.node_pids()[0]
        cluster.run(push_and_wake, stopped)
        assert "hung" in [event.what for event in cluster.events]
        return not (cluster.weights() == 78.0).all()


def test_a_stopped_server_that_is_not_killed_before_it_is_replaced_writes_again(monkeypatch):
    assert not woken_servers_write()
    without_fencing(monkeypatch)
    assert woken_servers_write()
    for node in multiprocessing.active_children():
        node.join()  # reap the server that was replaced
