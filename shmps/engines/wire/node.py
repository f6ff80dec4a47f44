"""What the process of a node runs: a server or a worker on a memory of its own, and a post."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shmps.engines.private import OF_SLOTS, Memory, server_in
from shmps.engines.processes.clock import SystemClock
from shmps.engines.roles import worker_on
from shmps.engines.wire.channels import Channels
from shmps.engines.wire.greeting import Endpoint
from shmps.engines.wire.post import SchedulerGone, WirePost
from shmps.ps.consistency import Consistency
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.mailbox import LostLog
from shmps.ps.memory.status import Pulse
from shmps.ps.messages import ANSWER, SCHEDULER, SERVER, Address, Record
from shmps.ps.node import serve, work
from shmps.ps.updater import Updater
from shmps.ps.worker.kv import KVWorker

LIMIT = 2**40  # bytes of the arrays of one record: a node that has greeted is trusted


@dataclass(frozen=True)
class Site:
    """What all nodes of a cluster know. token: see `wire.greeting`. scheduler: where it takes connections."""

    shape: Shape
    num_workers: int
    consistency: Consistency
    updater: Updater
    token: bytes = field(repr=False)
    scheduler: Endpoint


class WirePulse(Pulse):
    """A sign of life is a record, now and then."""

    def __init__(self, post: WirePost, memory: Memory):
        super().__init__(memory.arrays, memory.shape, *post.address)
        self.beat = post.beat  # type: ignore[method-assign]


def live(site: Site, host: str, role: int, rank: int, life: int, *task: Any) -> None:
    """Run a node until it has done its task, or the scheduler has ended.

    task: of a server see `_serve`, of a worker `_work`.
    """
    post = WirePost((role, rank), life, site.token, host, limit=LIMIT)
    try:
        post.meet((SCHEDULER, 0), site.scheduler)
        (_serve if role == SERVER else _work)(site, post, *task)
    except SchedulerGone:
        pass
    finally:
        post.close()


def _serve(site: Site, post: WirePost, first: Sequence[np.ndarray] | None) -> None:
    """Serve a partition without end. first: see `server_in`."""
    memory, (_, rank) = Memory(site.shape), post.address
    mailboxes = memory.mailboxes_of_server(rank)

    def dress(address: Address, record: Record) -> Record:
        return mailboxes[address[1]].pack(record) if record.op == ANSWER else record

    post.dress = dress
    server = server_in(memory, rank, post.life, site.consistency, site.updater, first)
    serve(server, post, WirePulse(post, memory))


def _work(site: Site, post: WirePost, tick: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Run a worker's function, from this tick on."""
    memory, (_, rank) = Memory(site.shape), post.address
    mailboxes, channels = memory.mailboxes_of_worker(rank), Channels()

    def dress(address: Address, record: Record) -> Record:
        return mailboxes[address[1]].pack(record) if record.op in OF_SLOTS else channels.pack(record)

    post.dress = dress

    def make_kv() -> KVWorker:
        return worker_on(
            memory.parameters,
            memory.arrays,
            rank,
            post.life,
            site.num_workers,
            tick,
            site.consistency,
            site.updater,
            post,
            channels.reports,
            SystemClock(),
            LostLog,
            WirePulse(post, memory),
        )

    work(rank, post.life, post, channels.outcome, make_kv, function, args)
