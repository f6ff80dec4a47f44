"""Actors: the processes of nodes on the machines of a Ray cluster."""

import collections
from typing import Any

from shmps.engines.wire.node import Site, live
from shmps.ps.messages import ROLES
from shmps.system import failpoints
from shmps.system.failpoints import Failpoint


class NodeActor:
    """An actor that is a node as long as a call of `live` lasts."""

    def __init__(self) -> None:
        self._name = "shmps"

    def __repr__(self) -> str:
        return self._name

    def live(self, site: Site, role: int, rank: int, life: int, points: list[Failpoint], *task: Any) -> None:
        """Run a node; see `shmps.engines.wire.node.live`."""
        import ray.util

        self._name = f"shmps {ROLES[role]} {rank}"
        for point in points:
            failpoints.arm(point.place, point.visit)
        live(site, ray.util.get_node_ip_address(), role, rank, life, *task)


class Pool:
    """Actors that run no node: workers that have finished, and spares.

    A spare makes a recovery the time of a copy, not of the start of a Python process. spares: kept on every
    machine. options: of a new actor, by role. Ray reserves no processor for a spare: it takes the place of a
    node that is gone.
    """

    def __init__(self, options: dict[int, dict[str, Any]], spares: int):
        self._options, self._spares = options, spares
        self._idle: dict[str, list[Any]] = collections.defaultdict(list)  # by machine

    def take(self, role: int, machine: str) -> Any:
        """Return an actor on a machine. The next one may be needed soon."""
        idle = self._idle[machine]
        actor = idle.pop() if idle else _actor(machine, self._options[role])
        while len(idle) < self._spares:
            idle.append(_actor(machine, self._options[role] | {"num_cpus": 0}))
        return actor

    def give_back(self, machine: str, actor: Any) -> None:
        """Take an actor whose node has finished."""
        self._idle[machine].append(actor)

    def forget(self, machine: str) -> None:
        """Forget the actors of a machine that cannot be reached."""
        self._idle.pop(machine, None)

    def close(self) -> None:
        """End all actors of the pool."""
        import ray

        for actor in [actor for idle in self._idle.values() for actor in idle]:
            ray.kill(actor)
        self._idle.clear()


def _actor(machine: str, options: dict[str, Any]) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Hard affinity alone is honoured for an actor without a processor: ray PR 25360.
    where = NodeAffinitySchedulingStrategy(machine, soft=False)
    return ray.remote(NodeActor).options(max_restarts=0, scheduling_strategy=where, **options).remote()
