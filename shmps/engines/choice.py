"""Which engine a cluster runs on: the values of `Cluster(engine=...)`."""

from typing import Any

from shmps.engines.inline.engine import Inline
from shmps.engines.processes.engine import Processes
from shmps.engines.ray.engine import Ray
from shmps.engines.wire.local import Rehearsal
from shmps.errors import UsageError

Engines = Processes | Inline | Ray | Rehearsal


def engine_of(
    engine: Any, start_method: str | None = None, node_timeout: float | None = None, safe: bool = False
) -> Engines:
    """Return what makes the engine, for a value of `Cluster(engine=...)`.

    start_method, node_timeout: of processes; safe: see `Processes`. Raises UsageError for another engine, or
    for these with another engine.
    """
    if isinstance(engine, str) and engine == "processes":
        return Processes(start_method, safe)
    if isinstance(engine, str) and engine == "inline":
        engine = Inline()
    if isinstance(engine, str) and engine == "ray":
        engine = Ray()
    if not isinstance(engine, Engines):
        raise UsageError(
            f"engine must be 'processes', 'inline', 'ray', an Inline, Ray or Rehearsal, got {engine!r:.80}"
        )
    if start_method is not None or not (node_timeout is None or engine.may_hang):
        raise UsageError(
            f"start_method and node_timeout must be left out with the engine {engine}, got {start_method!r} "
            f"and {node_timeout!r}"
        )
    return engine
