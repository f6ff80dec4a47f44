"""Actors: the processes of nodes on the machines of a Ray cluster."""

import collections
from typing import Any

from shmps.engines.warm_up import warm_up
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
        warm_up(site.updater, site.shape.width, site.shape.dtype)  # this machine may have no kernels yet
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
        self._options, self._most = options, spares
        self._finished: dict[tuple[int, str], list[Any]] = collections.defaultdict(
            list
        )  # by role and machine
        self._spares: dict[str, list[Any]] = collections.defaultdict(list)  # by machine

    def take(self, role: int, machine: str, succeeds: bool) -> Any:
        """Return an actor on a machine. succeeds: whether for the successor of a node that died."""
        finished, spares = self._finished[role, machine], self._spares[machine]
        if finished:
            actor = finished.pop()
        elif succeeds and spares:
            actor = spares.pop()
        else:
            actor = _actor(machine, self._options[role])
        while len(spares) < self._most:
            spares.append(_actor(machine, self._options[role] | {"num_cpus": 0}))
        return actor

    def give_back(self, role: int, machine: str, actor: Any) -> None:
        """Take an actor whose node has finished."""
        self._finished[role, machine].append(actor)

    def forget(self, machine: str) -> None:
        """Forget the actors of a machine that cannot be reached."""
        self._spares.pop(machine, None)
        for each in [each for each in self._finished if each[1] == machine]:
            del self._finished[each]

    def close(self) -> None:
        """End all actors of the pool."""
        import ray

        for actors in [*self._finished.values(), *self._spares.values()]:
            for actor in actors:
                ray.kill(actor)
        self._finished.clear()
        self._spares.clear()


def _actor(machine: str, options: dict[str, Any]) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Hard affinity alone is honoured for an actor without a processor: ray PR 25360.
    where = NodeAffinitySchedulingStrategy(machine, soft=False)
    return ray.remote(NodeActor).options(max_restarts=0, scheduling_strategy=where, **options).remote()
