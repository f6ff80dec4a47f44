"""What every engine builds for its nodes: a `Server` or a `KVWorker`, on arrays that all nodes see."""

from collections.abc import Sequence

import numpy as np

from shmps.ps.consistency import Consistency
from shmps.ps.engine import Channel, Clock, Post
from shmps.ps.memory.mailbox import Mailbox, PushLog
from shmps.ps.memory.parameters import Parameters
from shmps.ps.memory.status import Pulse
from shmps.ps.messages import WORKER
from shmps.ps.server.recorder import Recorder, Stream, StreamRecorder
from shmps.ps.server.redo_log import RedoLog
from shmps.ps.server.server import Server
from shmps.ps.updater import Updater
from shmps.ps.worker.client import Client
from shmps.ps.worker.kv import KVWorker

Arrays = dict[str, np.ndarray]  # of `Shape.mailbox_fields`


def server_on(
    parameters: Parameters,
    arrays: Arrays,
    rank: int,
    life: int,
    consistency: Consistency,
    updater: Updater,
    streams: Sequence[Stream],
    redo: RedoLog | None = None,
) -> Server:
    """Return a server on writable `parameters`. streams: see `ClusterEngine.streams`."""
    shape, redo = parameters.shape, redo or RedoLog(parameters, rank)
    return Server(
        rank=rank,
        life=life,
        parameters=parameters,
        redo=redo,
        mailboxes=[Mailbox(arrays, shape, worker, rank) for worker in range(shape.workers)],
        consistency=consistency,
        updater=updater,
        recorder=StreamRecorder(streams[rank], redo.committed) if consistency.recorded else Recorder(),
    )


def worker_on(
    parameters: Parameters,
    arrays: Arrays,
    rank: int,
    life: int,
    num_workers: int,
    tick: int,
    consistency: Consistency,
    updater: Updater,
    post: Post,
    channel: Channel,
    clock: Clock,
    log: type[PushLog] = PushLog,
) -> KVWorker:
    """Return what the function of a worker gets. parameters: read-only, unless it writes in place."""
    shape = parameters.shape
    client = Client(
        rank=rank,
        life=life,
        consistency=consistency,
        shape=shape,
        mailboxes=[Mailbox(arrays, shape, rank, server) for server in range(shape.servers)],
        log=log(arrays, rank),
        pulse=Pulse(arrays, shape, WORKER, rank),
        post=post,
        channel=channel,
        clock=clock,
    )
    return KVWorker(client, num_workers, tick, updater, parameters)
