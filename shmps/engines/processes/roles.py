"""What the processes of servers and workers run, on pipes and shared memory."""

from collections.abc import Callable
from typing import Any

from shmps.engines.event_file import EventFile
from shmps.engines.processes.clock import SystemClock
from shmps.engines.processes.pipes import Inboxes, Post
from shmps.engines.processes.store import Store
from shmps.engines.processes.value_files import WorkerFiles
from shmps.engines.roles import server_on, worker_on
from shmps.ps.consistency import Consistency
from shmps.ps.memory.parameters import Parameters
from shmps.ps.memory.status import Pulse
from shmps.ps.messages import SERVER, WORKER
from shmps.ps.node import serve, work
from shmps.ps.updater import Updater
from shmps.ps.worker.kv import KVWorker


def serve_partition(
    rank: int,
    life: int,
    *,
    store: Store,
    inboxes: Inboxes,
    consistency: Consistency,
    updater: Updater,
    streams: list[EventFile],
) -> None:
    shape, arrays = store.shape, store.mailboxes()
    parameters = Parameters(shape, store.parameters(writable=True))
    server = server_on(parameters, arrays, rank, life, consistency, updater, streams)
    serve(server, Post(inboxes, (SERVER, rank)), Pulse(arrays, shape, SERVER, rank))


def work_on(
    rank: int,
    life: int,
    tick: int,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    num_workers: int,
    store: Store,
    inboxes: Inboxes,
    channels: list[WorkerFiles],
    consistency: Consistency,
    updater: Updater,
) -> None:
    post = Post(inboxes, (WORKER, rank))

    def make_kv() -> KVWorker:
        return worker_on(
            Parameters(store.shape, store.parameters(writable=consistency.in_place)),
            store.mailboxes(),
            rank,
            life,
            num_workers,
            tick,
            consistency,
            updater,
            post,
            channels[rank].reports,
            SystemClock(),
        )

    work(rank, life, post, channels[rank].outcome, make_kv, function, args)
