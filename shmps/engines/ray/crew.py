"""A crew of Ray actors: an actor for each node, and a thread that waits for their ends.

RayCrew.start --> actor.live.remote(...) --> the node, until it ends
                      | ObjectRef
                      v
the watching thread: ray.wait --> a pipe --> RayCrew.fileno, RayCrew.ended
"""

import contextlib
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
import ray.util
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from shmps.engines.ray.actor import Pool
from shmps.engines.ray.placement import Placement
from shmps.engines.wire.node import Site
from shmps.ps.messages import ROLES, Address
from shmps.system.failpoints import Failpoint

log = logging.getLogger("shmps.ray")

_MOST_TOLD = 4096  # ends of nodes between two looks
_LOOK = 0.1  # seconds until the watching thread sees new actors
_SUSPECT = 30.0  # seconds in which a machine that could not be reached gets no node


class RayNode:
    """See `shmps.ps.engine.Node`. A node that cannot be reached counts as dead: others refuse its life."""

    pid = 0

    def __init__(
        self, role: int, rank: int, life: int, machine: str, actor: Any, tell: Callable[["RayNode"], None]
    ):
        self.role, self.rank, self.life, self.machine, self.actor = role, rank, life, machine, actor
        self.exit_code: int | None = None
        self.is_closed = False
        self._tell, self._has_ended = tell, threading.Event()

    def end(self, exit_code: int) -> None:
        """Note the end, unless it is known."""
        if self.exit_code is None:
            self.exit_code = exit_code
            self._has_ended.set()
            self._tell(self)

    def kill(self) -> None:
        if self.exit_code is None:
            ray.kill(self.actor)
            self.end(-signal.SIGKILL)

    def join(self, seconds: float | None = None) -> None:
        self._has_ended.wait(seconds)

    def close(self) -> None:
        self.is_closed = True


class RayCrew:
    """See `shmps.engines.wire.engine.Crew`.

    ending: called in the end.
    """

    def __init__(self, placement: Placement, pool: Pool, ending: Callable[[], None]):
        self.host = ray.util.get_node_ip_address()
        self._placement, self._pool, self._ending = placement, pool, ending
        self._running: dict[Any, RayNode] = {}  # by the ObjectRef of `NodeActor.live`
        self._to_replace: set[Address] = set()  # nodes that died
        self._told: queue.SimpleQueue[RayNode] = queue.SimpleQueue()  # of the ends, by the watching thread
        self._ended: list[RayNode] = []
        # What lies in Ray's object store, by id, and its ObjectRef.
        self._stored: dict[int, tuple[Any, Any]] = {}
        self._suspects: dict[str, float] = {}  # machines, and until when
        self._bell, self._ring = os.pipe()  # a byte for each of these
        os.set_blocking(self._bell, False)
        self._closing = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="shmps-ray", daemon=True)
        self._watching.start()

    def start(
        self, site: Site, role: int, rank: int, life: int, failpoints: list[Failpoint], *task: Any
    ) -> RayNode:
        machine = self._placement.place((role, rank), self._alive())
        actor = self._pool.take(role, machine, succeeds=(role, rank) in self._to_replace)
        self._to_replace.discard((role, rank))
        node = RayNode(role, rank, life, machine, actor, self._note_end)
        call = actor.live.remote(
            self._stored_once(site), role, rank, life, failpoints, *map(self._stored_once, task)
        )
        self._running[call] = node
        log.info("%s %d, life %d, on machine %s", ROLES[role], rank, life, machine)
        return node

    def _alive(self) -> list[str]:
        now = time.monotonic()
        alive = [each["NodeID"] for each in ray.nodes() if each["Alive"]]
        return [each for each in alive if self._suspects.get(each, 0.0) < now] or alive

    def _stored_once(self, value: Any) -> Any:
        """Return an ObjectRef of a value that several nodes get, such as the rows: one copy per machine."""
        if value is None or isinstance(value, int):
            return value
        if id(value) not in self._stored:
            self._stored[id(value)] = value, ray.put(value)
        return self._stored[id(value)][1]

    def _watch(self) -> None:
        """Wait for the ends of nodes."""
        while not self._closing.is_set():
            calls = list(self._running)
            if not calls:
                self._closing.wait(_LOOK)
                continue
            with contextlib.suppress(RayError):
                for call in ray.wait(calls, timeout=_LOOK)[0]:
                    node = self._running.pop(call)
                    node.end(self._exit_code(node, call))

    def _exit_code(self, node: RayNode, call: Any) -> int:
        try:
            ray.get(call)
        except ActorUnavailableError:
            self._suspects[node.machine] = time.monotonic() + _SUSPECT
            return -signal.SIGKILL
        except RayActorError:
            return -signal.SIGKILL
        except Exception:
            log.exception("%s %d raised", ROLES[node.role], node.rank)
            return 1
        return 0

    def _note_end(self, node: RayNode) -> None:
        self._told.put(node)
        os.write(self._ring, b".")

    def fileno(self) -> int:
        return self._bell

    def ended(self) -> list[RayNode]:
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell, _MOST_TOLD)
        while not self._told.empty():
            node = self._told.get()
            self._ended.append(node)
            if node.exit_code == 0:
                self._pool.give_back(node.role, node.machine, node.actor)
                continue
            self._to_replace.add((node.role, node.rank))
            if node.machine in self._suspects:
                self._pool.forget(node.machine)
        self._ended = [node for node in self._ended if not node.is_closed]
        return self._ended

    def forget_arguments(self) -> None:
        self._stored.clear()

    def close(self) -> None:
        self._closing.set()
        self._watching.join()
        for node in self._running.values():
            node.kill()
        for end in self._bell, self._ring:
            os.close(end)
        self._stored.clear()
        self._pool.close()
        self._ending()
