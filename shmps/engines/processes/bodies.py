"""What the processes of servers and workers do: put the parts together, and run."""

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shmps.engines.processes.outlet import Outlet, Outlets
from shmps.engines.processes.pipes import Inboxes, Post
from shmps.ps.consistency import Consistency
from shmps.ps.memory.layout import Store
from shmps.ps.memory.mailbox import Log, Mailbox
from shmps.ps.memory.parameters import Parameters
from shmps.ps.memory.status import Pulse
from shmps.ps.messages import FAILED, RESULT, SCHEDULER, SERVER, WORKER, Message, Record
from shmps.ps.server.partition import Server
from shmps.ps.updater import Updater
from shmps.ps.worker.kv import KVWorker
from shmps.system.failpoints import reach


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


def serve(server: Server, post: Post, pulse: Pulse) -> None:
    """Handle what arrives, for ever: a server ends by being killed."""
    while True:
        answers: list[Message] = []
        records = post.receive()
        pulse.beat()
        for record in records:
            reach("server: record taken")
            answers += server.handle(record)
        reach("server: before answers")
        post.send_all(answers)
        reach("server: after answers")


@dataclass(frozen=True)
class Work:
    """What every worker of a cluster does around the function that it is given."""

    num_workers: int
    store: Store
    inboxes: Inboxes
    outlets: list[Outlets]
    consistency: Consistency
    updater: Updater

    def __call__(
        self, rank: int, life: int, tick: int, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        shape, arrays = self.store.shape, self.store.mailboxes()
        mailboxes = [Mailbox(arrays, shape, rank, server) for server in range(shape.servers)]
        post, last_words = Post(self.inboxes, (WORKER, rank)), self.outlets[rank].last_words
        op = RESULT
        try:
            kv = KVWorker(
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
            result = function(kv, *args)
            kv.flush()
            size = last_words.write(result)
        except BaseException as exception:
            op, size = FAILED, _write_failure(last_words, exception)
        post.send((SCHEDULER, 0), Record(op, rank, size=size, life=life))
        post.flush()


def _write_failure(last_words: Outlet, exception: BaseException) -> int:
    text = "".join(traceback.format_exception(exception))
    try:
        pickle.loads(pickle.dumps(exception))
        return last_words.write((exception, text))
    except Exception:  # not every exception survives pickling; its text always does
        return last_words.write((None, text))
