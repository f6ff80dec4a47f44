"""Schedules of nodes with memories of their own: what a node knew dies with it, and others must have it.

The promises are those of `schedule`. Here a server's state counts once it is durable, so what was pulled is
checked at the end, against the states that survived. Hosts die too: a server and workers at once. A server is
killed only while all others are whole: the death of a second one is more than one replica survives.

In sync mode workers may compute what they push from what they have read. Then the weights must end with the
bits of a run without a death.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.faults.schedule import KEYS, PUSHES, Schedule, ask
from bench.faults.simulation import WAITING, Engine, Simulated
from shmps import FTRL, SYNC, AdaGrad, Cluster, Inline
from shmps.engines.inline.nodes import DIE, Node
from shmps.engines.inline.private import PrivateEngine
from shmps.engines.private import Memory
from shmps.ps.memory.parameters import Mirror
from shmps.ps.messages import SERVER, WORKER, Address
from shmps.ps.scheduler.run import RESPAWN
from shmps.ps.worker.kv import KVWorker


class PrivateSimulation(Engine, PrivateEngine):
    """The engine of a simulation, which shows the memories of its nodes.

    memories: of the last node of each address. committed: by rank, the last push that any life committed.
    """

    def __init__(self, *given: Any):
        self.memories: dict[Address, tuple[Node, Memory]] = {}
        self._committed: dict[int, int] = {}
        super().__init__(*given)

    @property
    def committed(self) -> Any:
        return self

    def __getitem__(self, worker: int) -> int:
        number = 0
        if (WORKER, worker) in self.memories:
            _, memory = self.memories[WORKER, worker]
            number = int(memory.arrays["committed"][worker])
        self._committed[worker] = number = max(number, self._committed.get(worker, 0))
        return number

    def new_memory(self, role: int, rank: int) -> Memory:
        if role == WORKER:
            self[rank]
        memory = super().new_memory(role, rank)
        self.memories[role, rank] = self._agenda.nodes[role, rank], memory
        memory.parameters.versions[:] = -1  # nothing yet
        return memory

    def part(self, server: int) -> Mirror | None:
        """Return what a server holds, if it is at work."""
        if (SERVER, server) not in self.memories:
            return None
        node, memory = self.memories[SERVER, server]
        if node is not self._agenda.nodes[SERVER, server] or node.exit_code is not None:
            return None
        return memory.parameters if memory.parameters.versions[server] >= 0 else None

    def is_whole(self, server: int) -> bool:
        """Whether a server has its partition, and the replica of its head."""
        part = self.part(server)
        head = (server - 1) % self._shape.servers
        return part is not None and int(part.replica.versions[head]) >= 0


class _PrivatelySimulated(Simulated):
    def start(self, *given: Any) -> PrivateSimulation:
        return PrivateSimulation(self._simulation, *given)


class PrivateSchedule(Schedule):
    """A schedule of servers that share no memory."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None):
        super().__init__(seed, trace)
        choose = self.random.choice
        self.policy, self.removal = RESPAWN, 0.0
        self.servers = choose((2, 2, 3))
        self.replicas = 1
        self.hosts = choose((0.0, 0.3))  # probability that workers die with a server
        self.bits = self.consistency == SYNC and choose((True, False))
        self.function = compute if self.bits else ask
        self.updater = choose((AdaGrad(0.1), FTRL(0.1, l1=0.1))) if self.bits else None
        self.pulls: list[tuple[int, np.ndarray, int, list[int], np.ndarray]] = []
        self._dying: list[Node] = []
        if self.bits:
            self.join_at, self.most_workers, self.runs = None, self.workers, 1

    def play(self) -> None:
        super().play()
        if self.bits:
            self.must(np.array_equal(self.found, _undisturbed(self)), "other bits than without a death")

    def made(self, engine: Any = None, **given: Any) -> Cluster:
        return Cluster(
            KEYS,
            servers=self.servers,
            workers=self.workers,
            max_workers=self.most_workers,
            consistency=self.consistency,
            updater=self.updater,
            max_keys=KEYS,
            replicas=self.replicas,
            engine=engine or _PrivatelySimulated(self),
            **given,
        )

    def begin(self, engine: Any) -> None:
        super().begin(engine)
        self.engine: PrivateSimulation = engine

    # The promises.

    def check_server(self, server: int) -> None:
        """Check the state of a server where it lies. A version may come again after a death."""
        part = self.engine.part(server)
        if self.bits or part is None:
            return
        version, mirror = int(part.versions[server]), self.parameters
        states = self.states[server]
        self.states[server] = {each: state for each, state in states.items() if each < version}
        self.parameters = part
        super().check_server(server)
        self.parameters = mirror

    def make(self, rank: int, number: int, life: int) -> np.ndarray:
        """Make the values of a push, the same in every life: one server may have those of a former life."""
        return super().make(rank, number, 1)

    def check_pull(self, *pull: Any) -> None:
        """Check it in the end: a state that dies with its server must not have been seen."""
        self.pulls.append(pull)  # type: ignore[arg-type]

    def check_acknowledged(self, rank: int, number: int) -> None:
        """Check nothing here: a push that is lost though it was acknowledged is missing in the end."""

    def check_end(self) -> None:
        self.found = self.cluster.weights()  # which fills the scheduler's mirror, `self.parameters`
        if self.bits:
            return
        pulls, self.pulls = self.pulls, []
        for rank, keys, number, seen, values in pulls:
            again = int(self.consistency == SYNC)  # a new life reads what was before the push that it repeats
            super().check_pull(rank, keys, number, [version - again for version in seen], values)
        super().check_end()

    # Deaths.

    def may_die(self, node: Node) -> bool:
        whole = node.role == WORKER or all(map(self.engine.is_whole, range(self.servers)))
        return whole and super().may_die(node)

    def _perhaps_crash(self) -> Any:
        return (self._dying.pop(), DIE) if self._dying else super()._perhaps_crash()

    def _crash(self, node: Node, place: str) -> None:
        """Let workers die with the server of their host."""
        super()._crash(node, place)
        if node.role == SERVER and self.random.random() < self.hosts:
            workers = [each for (role, _), each in self.nodes.items() if role == WORKER]
            for worker in workers:
                if worker.exit_code is None and self.may_die(worker) and self.random.random() < 0.5:
                    self._crash(worker, WAITING)
                    self._dying.append(worker)


def compute(kv: KVWorker, schedule: PrivateSchedule) -> None:
    """Push what follows from what was read, one push after the other."""
    for number in range(1, PUSHES + 1):
        random = np.random.default_rng([kv.rank, number])
        keys = np.flatnonzero(random.random(KEYS) < 0.5)
        if number <= kv.resumed:
            continue
        read, whole = (kv.read, kv.pull, kv.look)[random.integers(3)], random.random() < 0.3
        known = read(None if whole else keys).sum()  # of all servers
        kv.push(keys, np.sin(known + np.arange(len(keys)) + kv.rank))


def _undisturbed(schedule: PrivateSchedule) -> np.ndarray:
    """Return the weights of the same problem in one memory, where nobody dies."""
    with schedule.made(Inline()) as cluster:
        cluster.run(compute, schedule)
        return cluster.weights()
