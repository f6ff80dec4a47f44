"""The layout of the memory that all nodes share: which arrays lie in it, with their types and shapes."""

import functools
from dataclasses import dataclass

import numpy as np

from shmps.checks import whole
from shmps.errors import UsageError
from shmps.system.memory import Fields

RING = 4  # redo slots of a server that has a replica
DELAY_BINS = 4096  # the last bin counts all longer delays too


@dataclass(frozen=True)
class Shape:
    """The sizes of the shared arrays. Raises UsageError for a size that breaks a rule."""

    num_keys: int
    width: int
    state_width: int
    servers: int
    workers: int
    max_keys: int
    replicas: int = 0
    slots: int = 4  # requests with keys that a worker may have under way
    dtype: type = np.float64  # of values in a mailbox; parameters are float64
    dense_slots: int = 1  # requests for all keys that a worker may have under way

    def __post_init__(self) -> None:
        for name in ("num_keys", "width", "servers", "workers", "max_keys", "slots"):
            whole(name, getattr(self, name), least=1)
        whole("dense_slots", self.dense_slots, least=0)
        if self.servers > self.num_keys:
            raise UsageError(
                f"{{servers}} must be at most the number of keys, {self.num_keys}, since each owns one, got "
                f"{{servers.value}}; use fewer",
                servers=self.servers,
            )
        if self.dtype not in (np.float64, np.float32):
            raise UsageError(f"dtype must be np.float64 or np.float32, got {self.dtype!r}")

    @functools.cached_property
    def bounds(self) -> list[int]:
        """Server s owns the keys [bounds[s], bounds[s + 1])."""
        return [self.num_keys * s // self.servers for s in range(self.servers + 1)]

    @functools.cached_property
    def mailbox_bounds(self) -> list[int]:
        """The keys of a slot for server s lie at [mailbox_bounds[s], mailbox_bounds[s + 1])."""
        bounds = self.bounds
        sizes = [min(self.max_keys, bounds[s + 1] - bounds[s]) for s in range(self.servers)]
        return [sum(sizes[:s]) for s in range(self.servers + 1)]

    def state_of(self, rows: np.ndarray) -> np.ndarray:
        """Reshape stored state (k, width * m) to (k, width, m), as updaters see it."""
        return rows.reshape(len(rows), self.width, self.state_width)

    def flat(self, values: np.ndarray) -> np.ndarray:
        """Reshape values (k, width) to (k,) if the width is 1, as users see them."""
        return values[:, 0] if self.width == 1 else values

    def stored_fields(self) -> Fields:
        """Return the first of the parameters' fields: those that are read at random, by key."""
        fields = self.parameter_fields()
        return {name: fields[name] for name in ("weights", "state")}

    def parameter_fields(self) -> Fields:
        servers, workers, ring = self.servers, self.workers, self.ring
        return {
            **self._image_fields("", self.num_keys),
            **self._image_fields("replica_", self.num_keys if self.replicas else 0),
            "delays": (np.int64, (servers, DELAY_BINS)),
            "strides": (np.float64, (workers,)),
            # The redo slots: `ring` per server, over its own range of keys.
            "redo_committed": (np.int64, (servers,)),
            "redo_count": (np.int64, (ring, servers)),
            "redo_age": (np.float64, (ring, servers)),
            "redo_checksum": (np.int64, (ring, servers)),
            "redo_done": (np.int64, (ring, servers, workers)),
            "redo_keys": (np.int64, (ring, self.num_keys)),
            "redo_values": (np.float64, (ring, self.num_keys, self.width)),
            "redo_state": (np.float64, (ring, self.num_keys, self.width * self.state_width)),
        }

    def _image_fields(self, prefix: str, n: int) -> Fields:
        shapes: dict[str, tuple[type, tuple[int, ...]]] = {
            "weights": (np.float64, (n, self.width)),
            "state": (np.float64, (n, self.width * self.state_width)),
            "versions": (np.int64, (self.servers,)),
            "ages": (np.float64, (self.servers,)),
            "done": (np.int64, (self.servers, self.workers)),
            "checksums": (np.int64, (self.servers,)),
        }
        return {prefix + name: field for name, field in shapes.items()}

    @property
    def ring(self) -> int:
        """Redo slots of a server. A slot must stay until the replica has its version."""
        return RING if self.replicas else 1

    def mailbox_fields(self) -> Fields:
        workers, room, every = self.workers, self.mailbox_bounds[-1], self.slots + self.dense_slots
        return {
            "beats": (np.int64, (self.servers + workers,)),
            "committed": (np.int64, (workers,)),
            "stopping": (np.int64, (1,)),
            "stopped": (np.int64, (workers,)),
            "numbers": (np.int64, (workers, every)),
            "pulls": (np.int64, (workers, every)),
            "sizes": (np.int64, (workers, every, self.servers)),
            "versions": (np.int64, (workers, every, self.servers)),
            "rows": (np.float64, (workers, every)),
            "keys": (np.int64, (workers, self.slots, room)),
            "values": (self.dtype, (workers, self.slots, room, self.width)),
            "all_values": (self.dtype, (workers, self.dense_slots, self.num_keys, self.width)),
        }
