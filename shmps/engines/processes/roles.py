"""What the processes of servers and workers run: a `Server` or a `KVWorker` on pipes and shared memory."""

from collections.abc import Callable
from typing import Any

from shmps.engines.processes.clock import SystemClock
from shmps.engines.processes.event_file import EventFile
from shmps.engines.processes.pipes import Inboxes, Post
from shmps.engines.processes.store import Store
from shmps.engines.processes.value_files import WorkerFiles
from shmps.ps.consistency import Consistency
from shmps.ps.memory.mailbox import Mailbox, PushLog
from shmps.ps.memory.parameters import Parameters
from shmps.ps.memory.status import Pulse
from shmps.ps.messages import SERVER, WORKER
from shmps.ps.node import serve, work
from shmps.ps.server.recorder import Recorder, StreamRecorder
from shmps.ps.server.redo_log import RedoLog
from shmps.ps.server.server import Server
from shmps.ps.updater import Updater
from shmps.ps.worker.client import Client
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
    redo = RedoLog(parameters, rank)
    server = Server(
        rank=rank,
        life=life,
        parameters=parameters,
        redo=redo,
        mailboxes=[Mailbox(arrays, shape, worker, rank) for worker in range(shape.workers)],
        consistency=consistency,
        updater=updater,
        recorder=StreamRecorder(streams[rank], redo.committed) if consistency.recorded else Recorder(),
    )
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
    shape, arrays = store.shape, store.mailboxes()
    post = Post(inboxes, (WORKER, rank))

    def make_kv() -> KVWorker:
        parameters = Parameters(shape, store.parameters(writable=consistency.in_place))
        client = Client(
            rank=rank,
            life=life,
            consistency=consistency,
            shape=shape,
            mailboxes=[Mailbox(arrays, shape, rank, server) for server in range(shape.servers)],
            log=PushLog(arrays, rank),
            pulse=Pulse(arrays, shape, WORKER, rank),
            post=post,
            channel=channels[rank].reports,
            clock=SystemClock(),
        )
        return KVWorker(client, num_workers, tick, updater, parameters)

    work(rank, life, post, channels[rank].outcome, make_kv, function, args)
