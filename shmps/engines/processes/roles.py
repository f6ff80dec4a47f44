"""What the processes of servers and workers run: the parts of a node over pipes and shared memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shmps.engines.processes.pipes import Inboxes, Post
from shmps.engines.processes.store import Store
from shmps.engines.processes.value_files import WorkerFiles
from shmps.ps.consistency import Consistency
from shmps.ps.memory.mailbox import Log, Mailbox
from shmps.ps.memory.parameters import Parameters
from shmps.ps.memory.status import Pulse
from shmps.ps.messages import SERVER, WORKER
from shmps.ps.node import serve, work
from shmps.ps.server.server import Server
from shmps.ps.updater import Updater
from shmps.ps.worker.kv import KVWorker


def serve_partition(
    rank: int, life: int, store: Store, inboxes: Inboxes, consistency: Consistency, updater: Updater
) -> None:
    shape, arrays = store.shape, store.mailboxes()
    mailboxes = [Mailbox(arrays, shape, worker, rank) for worker in range(shape.workers)]
    parameters = Parameters(shape, store.parameters(writable=True))
    serve(
        Server(rank, life, parameters, mailboxes, consistency, updater),
        Post(inboxes, (SERVER, rank)),
        Pulse(arrays, shape, SERVER, rank),
    )


@dataclass(frozen=True)
class Work:
    """What every worker of a cluster does around the function that it is given."""

    num_workers: int
    store: Store
    inboxes: Inboxes
    outlets: list[WorkerFiles]
    consistency: Consistency
    updater: Updater

    def __call__(
        self, rank: int, life: int, tick: int, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        shape, arrays = self.store.shape, self.store.mailboxes()
        mailboxes = [Mailbox(arrays, shape, rank, server) for server in range(shape.servers)]
        post, last_words = Post(self.inboxes, (WORKER, rank)), self.outlets[rank].last_words

        def make_kv() -> KVWorker:
            return KVWorker(
                rank,
                life,
                self.num_workers,
                tick,
                self.consistency,
                self.updater,
                Parameters(shape, self.store.parameters(writable=self.consistency.in_place)),
                mailboxes,
                Log(arrays, rank),
                Pulse(arrays, shape, WORKER, rank),
                post,
                self.outlets[rank].reports,
            )

        work(rank, life, post, last_words, make_kv, function, args)
