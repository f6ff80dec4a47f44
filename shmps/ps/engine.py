"""The seam: what an engine implements. It runs the nodes, carries records between them, and keeps the time.

The scheduler, servers and workers use nothing else of an engine. `shmps.engines.processes` is one, with
processes and pipes of this machine; `bench.simulation` is another, whose every choice comes from a seed.
An engine also brings what its nodes run: it puts a `Server` or a `KVWorker` on the node's Post and memory, as
`shmps.engines.processes.roles` does. `Cluster` makes these parts for `shmps.engines.processes`.

The scheduler launches nodes and ends them (`Engine.launch`, `end`), and waits for their records and deaths
(`Engine.wait`). Nodes send records to each other and to the scheduler (`Post`); a worker's results and
reports go through its `Outlets`. Parameters, mailboxes and the status of the nodes lie in memory that all
nodes see (`shmps.ps.memory`).
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from shmps.ps.messages import Address, Message, Record


class Post(Protocol):
    """One node's inbox, and its way to the inboxes of the others.

    - Only `receive` and `flush` wait. A record that the addressee has no room for is kept, and sent by a
      later call of `receive`, `receive_nowait` or `flush`.
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
    """The two outlets of a worker, so that its result does not overwrite a report that is not read yet."""

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
        """Begin to end it. No successor may be launched before `exit_code` is known."""

    def join(self, seconds: float | None = None) -> None:
        """Wait until it has ended, at most `seconds`. Signals are delivered here, and may raise."""

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
        """Return the seconds on a clock that all nodes share: `time.monotonic`, but in a simulation."""

    def launch(
        self, role: int, rank: int, life: int, beats: int, body: Callable[..., None], *args: Any
    ) -> Node:
        """Run `body(rank, life, *args)` as a node, and watch it from then on.

        beats: the count of signs of life that its predecessor left. If it raises (OSError, for want of a
        process or a descriptor), nothing runs and nothing is watched.
        """

    def wait(self, seconds: float) -> tuple[list[Record], Sequence[Node]]:
        """Wait for a record or a death, at most `seconds`; return the records, and the nodes that have ended.

        A worker's last records are among them, or came before, when its death is returned. Signals are
        delivered here: the call may raise KeyboardInterrupt (see `shmps.system.signals.poll`).
        """

    def forget(self, node: Any) -> None:
        """Stop returning this node's death from `wait`."""

    def end(self, nodes: Any) -> None:
        """Kill those that run, and wait for their exits."""

    def close(self) -> None:
        """Give up what the engine holds, after all nodes have ended."""
