"""The loop of a server, and the frame around the function that a worker runs."""

import pickle
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from shmps.ps.engine import Channel, Outbox, Post
from shmps.ps.memory.status import Pulse
from shmps.ps.messages import SCHEDULER, Delivery, Failed, Record, Result
from shmps.ps.worker.kv import KVWorker
from shmps.system.failpoints import reach


class Handler(Protocol):
    """What a server's node runs: a `Server`, or what becomes one."""

    def handle(self, record: Record) -> list[Delivery]:
        """Handle a record; return the records to send."""


def serve(server: Handler, post: Post, pulse: Pulse) -> None:
    """Handle records without end: a server ends by being killed."""
    while True:
        records = post.receive()
        pulse.beat()
        handle(server, records, post)


def handle(server: Handler, records: list[Record], post: Outbox) -> None:
    """Handle records, and send the answers."""
    answers: list[Delivery] = []
    for record in records:
        reach("server: record taken")
        answers += server.handle(record)
    reach("server: before answers")
    post.send_all(answers)
    reach("server: after answers")


def work(
    rank: int,
    life: int,
    post: Post,
    outcome: Channel,
    make_kv: Callable[[], KVWorker],
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    """Run `function(kv, *args)`, and send its result, or the exception that was raised, to the scheduler.

    make_kv: makes the `kv` here, since it may raise too: it maps the parameters, which takes address space.
    """
    message: Result | Failed
    try:
        kv = make_kv()
        kv.enter()
        result = function(kv, *args)
        kv.leave()
        message = Result(outcome.write(result))
    except BaseException as exception:
        message = Failed(_write_failure(outcome, exception))
    post.send((SCHEDULER, 0), Record.of(message, rank, life))
    post.flush()


def _write_failure(outcome: Channel, exception: BaseException) -> int:
    text = "".join(traceback.format_exception(exception))
    try:
        pickle.loads(pickle.dumps(exception))
        return outcome.write((exception, text))
    except Exception:  # an exception may not survive pickling; its text does
        return outcome.write((None, text))
