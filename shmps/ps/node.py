"""What a node does: a server's loop, and the frame of the function that a worker runs."""

import pickle
import traceback
from collections.abc import Callable
from typing import Any

from shmps.ps.engine import Outlet, Post
from shmps.ps.memory.status import Pulse
from shmps.ps.messages import FAILED, RESULT, SCHEDULER, Message, Record
from shmps.ps.server.server import Server
from shmps.ps.worker.kv import KVWorker
from shmps.system.failpoints import reach


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


def work(
    rank: int, life: int, post: Post, last_words: Outlet, make_kv: Callable[[], KVWorker],
    function: Callable[..., Any], args: tuple[Any, ...],
) -> None:  # fmt: skip
    """Run `function(kv, *args)`; tell the scheduler its result, or the exception that it raised."""
    op = RESULT
    try:
        kv = make_kv()
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
