"""What engines share whose nodes have memories of their own. Arrays travel with the records."""

from collections.abc import Sequence

import numpy as np

from shmps.engines.roles import server_on
from shmps.errors import UsageError
from shmps.ps.consistency import Consistency
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.mailbox import Mailbox
from shmps.ps.memory.parameters import Mirror
from shmps.ps.messages import ANSWER, PULL, PUSH, PUSH_PULL
from shmps.ps.node import Handler
from shmps.ps.server.private_redo_log import PrivateRedoLog
from shmps.ps.server.server import Server
from shmps.ps.server.successor import Successor
from shmps.ps.updater import Updater
from shmps.system.memory import carve

OF_SLOTS = PUSH, PULL, PUSH_PULL, ANSWER  # records whose arrays lie in a slot of a mailbox


class Memory:
    """What one node sees: the whole layout, of which it uses its own part. Other pages cost nothing."""

    def __init__(self, shape: Shape):
        self.shape = shape
        fields = shape.parameter_fields(), shape.mailbox_fields()
        (parameters, _), (self.arrays, _) = (
            carve(each, np.zeros(carve(each)[1], np.uint8).data) for each in fields
        )
        self.parameters = Mirror(shape, parameters)

    def mailboxes_of_server(self, rank: int) -> list[Mailbox]:
        """Return the mailboxes of a server, by the rank of the worker."""
        return [Mailbox(self.arrays, self.shape, worker, rank) for worker in range(self.shape.workers)]

    def mailboxes_of_worker(self, rank: int) -> list[Mailbox]:
        """Return the mailboxes of a worker, by the rank of the server."""
        return [Mailbox(self.arrays, self.shape, rank, server) for server in range(self.shape.servers)]


def must_fit(consistency: Consistency) -> None:
    """Raise UsageError for a mode that needs shared memory."""
    if consistency.in_place or consistency.recorded:
        raise UsageError(
            f"nodes with memories of their own take no hogwild workers and record no run, got "
            f"consistency={consistency}, recorded={consistency.recorded}; use engine='inline'"
        )


def server_in(
    memory: Memory,
    rank: int,
    life: int,
    consistency: Consistency,
    updater: Updater,
    first: Sequence[np.ndarray] | None,
) -> Handler:
    """Return a server. first: what its first life begins with (`Mirror.first_of`), None for a later life."""
    parameters, shape = memory.parameters, memory.shape
    redo = PrivateRedoLog(parameters, rank)

    def make_server() -> Server:
        return server_on(parameters, memory.arrays, rank, life, consistency, updater, (), redo)

    if first is None:
        return Successor(rank, life, redo, (rank + 1) % shape.servers if shape.replicas else -1, make_server)
    parameters.begin(rank, first)
    return make_server()
