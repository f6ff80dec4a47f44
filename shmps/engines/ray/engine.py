"""Nodes on the machines of a Ray cluster: `Cluster(engine=Ray())`."""

import collections
import importlib.util
from typing import Any

from shmps.checks import not_negative, whole
from shmps.engines.private import must_fit
from shmps.engines.ray.actor import Pool
from shmps.engines.ray.placement import Placement
from shmps.engines.spec import Spec
from shmps.engines.warm_up import warm_up
from shmps.engines.wire.engine import WireEngine
from shmps.errors import UsageError, warn
from shmps.ps.messages import SERVER, WORKER
from shmps.ps.updater import Updater


class Ray:
    """Servers and workers are actors on the machines of a Ray cluster: `Cluster(engine=Ray())`.

    Ray places, starts and watches them. Their records go over TCP connections of their own, in the private
    network of the cluster: a secret keeps strangers out, but nothing is encrypted.

    address: as of `ray.init`, where Ray is not initialised yet; None: RAY_ADDRESS, else this machine alone. A
    Ray that runs already is used, and left running.
    machines: how many machines to use; None: all.
    cpus_per_worker, cpus_per_server: what Ray reserves for an actor.
    runtime_env: as of Ray's actors.
    spares: processes that every machine keeps, to take the place of one that dies.

    Nodes share no memory. The death of a server, or of a machine, is survived with replicas=1 and at least
    two servers, on different machines if there are several; without a replica it ends the run (NodeDied).
    Workers cannot update in place (HOGWILD), and runs cannot be recorded.

    Raises UsageError without the package ray, or if the machines lack the processors.

    Example::

        with Cluster(100, servers=2, replicas=1, engine=Ray()) as cluster:
            cluster.run(work)
    """

    clock = "wall"
    start_method = None
    may_hang = True
    shares_memory = False
    needs_shared_rows = False  # Ray's object store shares them

    def __init__(
        self,
        address: str | None = None,
        machines: int | None = None,
        cpus_per_worker: float = 1,
        cpus_per_server: float = 1,
        runtime_env: dict[str, Any] | None = None,
        spares: int = 1,
    ):
        self.spares = whole("spares", spares, least=0)
        self.address, self.runtime_env = address, runtime_env
        self.machines = None if machines is None else whole("machines", machines, least=1)
        self.cpus_per_worker = not_negative("cpus_per_worker", cpus_per_worker)
        self.cpus_per_server = not_negative("cpus_per_server", cpus_per_server)

    def __repr__(self) -> str:
        return f"Ray({'' if self.address is None else repr(self.address)})"

    def __str__(self) -> str:
        return "ray"

    def must_be_allowed(self) -> None:
        """Raise UsageError without the package ray."""
        if importlib.util.find_spec("ray") is None:
            raise UsageError("engine='ray' needs the package ray, got none; pip install 'shmps[ray]'")

    def prepare(self, updater: Updater, width: int, dtype: type) -> None:
        """Try the updater, and compile the kernels in the cache of this machine."""
        warm_up(updater, width, dtype)

    def start(self, spec: Spec) -> WireEngine:
        must_fit(spec.consistency)
        import ray

        from shmps.engines.ray.crew import RayCrew

        is_ours = not ray.is_initialized()
        if is_ours:
            ray.init(self.address, log_to_driver=True, include_dashboard=None)
        try:
            placement = self._placement(ray.nodes(), spec.shape.servers, spec.shape.workers)
            if spec.shape.replicas and len(placement.machines) > 1 and placement.has_neighbours_together:
                warn(
                    f"two servers that keep each other's replicas are on one machine, and its death ends the "
                    f"run, with {spec.shape.servers} servers on {len(placement.machines)} machines; use a "
                    f"multiple"
                )
            cpus = {SERVER: self.cpus_per_server, WORKER: self.cpus_per_worker}
            options = {role: {"num_cpus": n, "runtime_env": self.runtime_env} for role, n in cpus.items()}
            crew = RayCrew(
                placement, Pool(options, self.spares), ending=ray.shutdown if is_ours else lambda: None
            )
        except BaseException:
            if is_ours:
                ray.shutdown()
            raise
        return WireEngine(crew, spec)

    def _placement(self, found: list[dict[str, Any]], servers: int, workers: int) -> Placement:
        """Return where nodes go. found: as `ray.nodes()` returns it."""
        cpus = {each["NodeID"]: each["Resources"].get("CPU", 0.0) for each in found if each["Alive"]}
        machines = sorted(cpus)[: self.machines]
        if len(machines) < (self.machines or 0):
            raise UsageError(
                f"machines must be at most the {len(machines)} that are alive, got {self.machines}"
            )
        asked: collections.Counter[str] = collections.Counter()
        for count, each in (servers, self.cpus_per_server), (workers, self.cpus_per_worker):
            for rank in range(count):
                asked[machines[rank % len(machines)]] += each  # type: ignore[assignment]
        for machine, count in asked.items():
            if count > cpus[machine]:
                raise UsageError(
                    f"every machine of the Ray cluster must have the processors for its nodes, got "
                    f"{cpus[machine]:g} for {count:g}; use fewer workers and servers, or smaller "
                    f"cpus_per_worker and cpus_per_server"
                )
        return Placement(machines, servers)
