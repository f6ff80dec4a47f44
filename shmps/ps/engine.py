"""The seam: what an engine implements. It runs the nodes, carries records between them, and keeps the time.

The scheduler, servers and workers use nothing else of an engine. `shmps.engines.processes` is one, with
processes and pipes of this machine; `bench.simulation` is another, whose every choice comes from a seed.

    scheduler -- Engine.launch, end ------------> Node
        |    <-- Engine.wait: records, deaths -----'|
        '------- Post.send, send_behind -----> Post.receive
                                    Outlets.write (results, reports)
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from shmps.ps.messages import Address, Message, Record


class Post(Protocol):
    """One node's inbox, and its way to the inboxes of the others.

    - Only `receive` and `flush` wait; a record that the addressee has no room for is kept and sent later.
    - Records from one life of a node to one address arrive whole, once, and in the order they were sent.
    - What a node had not sent when it died may be lost.
    """

    def send(self, address: Address, record: Record) -> None:
        """Send a record, now or later."""

    def send_all(self, messages: list[Message]) -> None:
        """Send several records; those to one address arrive together."""

    def send_behind(self, role: int, address: Address, record: Record) -> None:
        """Send a record after all that was sent to nodes of `role` before has left."""

    def receive(self) -> list[Record]:
        """Wait for records and return them: one or more."""

    def receive_nowait(self) -> list[Record]:
        """Return the records that have arrived, perhaps none."""

    def flush(self) -> None:
        """Wait until all that was sent has left."""


class Outlet(Protocol):
    """Carries values from a worker to the scheduler. The record that announces a value is sent by a Post.

    A value stays readable after the death of the worker that wrote it.
    """

    def write(self, value: Any, offset: int = 0) -> int:
        """Write a picklable value from `offset` on; return its size in bytes.

        Raises OutOfSpace if it does not fit.
        """

    def read(self, size: int, offset: int = 0) -> Any:
        """Return the value that was written there."""


class Outlets(Protocol):
    """The two outlets of a worker: its result must not overwrite a report that is not read yet."""

    @property
    def reports(self) -> Outlet:
        """For what `kv.report` is given."""

    @property
    def last_words(self) -> Outlet:
        """For the result, or the exception, of the worker's function."""


class Node(Protocol):
    """A server or worker that an engine runs. `hung` and `pinged` are the scheduler's notes."""

    role: int
    rank: int
    life: int
    hung: bool
    pinged: bool
    has_beaten: bool

    @property
    def pid(self) -> int:
        """Of its process."""

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal that ended it."""

    @property
    def fate(self) -> str:
        """What an `Event` says of its end: "hung" or "died"."""

    def silence(self, beats: int, now: float, most: float) -> float:
        """Return the seconds since the count of beats changed; between two calls `most` at most."""

    def kill(self) -> None:
        """Begin to end it. Until `exit_code` is known it may still run: nothing may take its place."""

    def join(self, seconds: float | None = None) -> None:
        """Wait until it has ended, at most `seconds`."""

    def close(self) -> None:
        """Give up what the engine holds for a node that has ended."""


class Engine(Protocol):
    """Launches and ends nodes, and waits for records and deaths."""

    @property
    def post(self) -> Post:
        """The scheduler's."""

    @property
    def is_own(self) -> bool:
        """Whether this program started the engine; a fork of it must leave the nodes alone."""

    def now(self) -> float:
        """Return the seconds on a clock that all nodes share."""

    def launch(
        self, role: int, rank: int, life: int, beats: int, body: Callable[..., None], *args: Any
    ) -> Node:
        """Run `body(rank, life, *args)` as a node, and watch it from then on.

        beats: the count of signs of life that its predecessor left.
        """

    def wait(self, seconds: float) -> tuple[list[Record], Sequence[Node]]:
        """Wait for a record or a death, at most `seconds`; return the records, and the nodes that have ended.

        A worker's last records are among them, or came before, when its death is returned.
        """

    def forget(self, node: Any) -> None:
        """Return the node's death no more."""

    def end(self, nodes: Any) -> None:
        """Kill those that run, and wait for their exits."""

    def close(self) -> None:
        """Give up what the engine holds, after all nodes have ended."""
