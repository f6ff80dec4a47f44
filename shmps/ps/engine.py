"""The seam: what an engine implements. It runs nodes, carries records between them, and keeps the time.

                 Engine.launch, Node.kill            Post.send, Post.receive
    scheduler ------------------------------> node <-------------------------> node
        ^                                      |
        +--- Engine.wait: records, deaths -----+--- Channel: results, reports

The scheduler, servers and workers use nothing else of an engine. There are three: `shmps.engines.processes`
runs nodes as processes of this machine, connected by pipes; `shmps.engines.inline` runs them in the calling
process, in virtual time; `shmps.engines.wire` runs them on several machines, connected by TCP.
`shmps.engines.choice` has what `Cluster(engine=...)` takes.

The scheduler needs an `Engine`. `Cluster` needs a `ClusterEngine`, which also brings the memory of the nodes
and their bodies: a `Server` or a `KVWorker` on the node's Post and memory (`shmps.engines.roles`).
Parameters, mailboxes and the status of the nodes lie in memory that all nodes see (`shmps.ps.memory`).

Or every node has a memory of its own (`shmps.engines.private`). Then records carry arrays
(`messages.Parcel`): a post sends the slots of requests and answers with them (`Mailbox.pack`). The nodes are
made of `Mirror`, `PrivateRedoLog`, `Successor` and `LostLog`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from shmps.ps.messages import Address, Delivery, Record

if TYPE_CHECKING:  # they import NumPy, and `--help` must not
    from shmps.ps.memory.parameters import Parameters
    from shmps.ps.memory.status import Status
    from shmps.ps.server.recorder import Stream


class Clock(Protocol):
    """The time, on a clock that all nodes share. In a simulation it is virtual."""

    def now(self) -> float:
        """Return seconds; only differences mean anything."""

    def sleep(self, seconds: float) -> None:
        """Let the calling node wait."""

    def compute(self, nonzeros: int) -> None:
        """Let the time pass that the calling worker took for a gradient, unless it has passed already."""

    def read(self, cuts: list[int]) -> None:
        """Let the time pass that reading cuts[s] to cuts[s + 1] keys of each server s takes, if it takes any.

        Where nodes share memory it takes none.
        """


class Outbox(Protocol):
    """The way of one node to the inboxes of the others.

    - Only `flush` waits. If the addressee has no room for a record, the outbox keeps it and sends it in a
      later call that receives or flushes.
    - Records from one life of a node to one address arrive whole, once, and in the order they were sent.
    - Records that a node had not sent when it died may be lost.
    """

    def send(self, address: Address, record: Record) -> None:
        """Send a record with its arrays, if it has some, now or later."""

    def send_all(self, deliveries: list[Delivery]) -> None:
        """Send several records. Those to one address arrive together."""

    def send_behind(self, role: int, address: Address, record: Record) -> None:
        """Send a record once every earlier record to any node of `role` has left."""

    def flush(self) -> None:
        """Wait until all records have left."""


class Post(Outbox, Protocol):
    """The inbox of one node, and its way to the others. Only `receive`, `receive_until` and `flush` wait."""

    def receive(self) -> list[Record]:
        """Wait for records and return one or more."""

    def receive_until(self, condition: Callable[[], bool], take: Callable[[list[Record]], None]) -> None:
        """Wait until `condition()` holds, and give records to `take` as they arrive.

        Another thread may call both while the node waits. What they raise is raised here.
        """

    def receive_nowait(self) -> list[Record]:
        """Return the records that have arrived, perhaps none."""


class Channel(Protocol):
    """Carries values from a worker to the scheduler. The record that announces a value is sent by a Post.

    A value stays readable after the death of the worker that wrote it.
    """

    def write(self, value: Any, offset: int = 0) -> int:
        """Write a picklable value from `offset` on; return its size in bytes.

        Raises OutOfSpace if it does not fit.
        """

    def read(self, size: int, offset: int = 0) -> Any:
        """Return the value that was written there."""


class Channels(Protocol):
    """The two channels of a worker, so that its result does not overwrite a report that is not read yet."""

    @property
    def reports(self) -> Channel:
        """For the values that a worker gives to `kv.report`."""

    @property
    def outcome(self) -> Channel:
        """For the result, or the exception, of the worker's function."""


class Node(Protocol):
    """A server or worker that an engine runs."""

    role: int
    rank: int
    life: int

    @property
    def pid(self) -> int:
        """The process id; 0 where a node is no process."""

    @property
    def exit_code(self) -> int | None:
        """None while the node runs; minus the signal that ended it. Still known after `close`."""

    def kill(self) -> None:
        """Begin to end the node. No successor may be launched before `exit_code` is known."""

    def join(self, seconds: float | None = None) -> None:
        """Wait until the node has ended, at most `seconds`. Signals are delivered here, and may raise."""

    def close(self) -> None:
        """Release what the engine holds for a node that has ended. `Engine.wait` no longer returns it."""


class Engine(Protocol):
    """Launches nodes, and waits for records and deaths."""

    @property
    def post(self) -> Outbox:
        """The scheduler's way to the nodes."""

    @property
    def clock(self) -> Clock:
        """The clock that all nodes share."""

    @property
    def is_own(self) -> bool:
        """Whether this program started the engine. A fork of the program must leave the nodes alone."""

    def launch(self, role: int, rank: int, life: int, body: Callable[..., Any], *args: Any) -> Node:
        """Run the node of a body, `serve` or `work` of this engine, and watch the node from then on.

        If it raises (OSError, if a process or a descriptor is lacking), nothing runs and nothing is watched.
        """

    def wait(self, seconds: float) -> tuple[list[Record], Sequence[Node]]:
        """Wait for a record or a death, at most `seconds`; return the records, and the nodes that have ended.

        The last records of a worker come with its death or before it. Signals are delivered here: the call
        may raise KeyboardInterrupt (see `shmps.system.signals.poll`).
        """

    def close(self) -> None:
        """Release what the engine holds, after all nodes have ended."""


class ClusterEngine(Engine, Protocol):
    """An engine with the memory of one cluster, and with what its nodes run."""

    @property
    def channels(self) -> Sequence[Channels]:
        """The channels of each worker, by rank."""

    @property
    def streams(self) -> "Sequence[Stream]":
        """Where each server records its events, by rank; empty unless the consistency is recorded."""

    @property
    def serve(self) -> Callable[..., Any]:
        """The body of a server, for `launch`: serve(rank, life)."""

    @property
    def work(self) -> Callable[..., None]:
        """The body of a worker, for `launch`: work(rank, life, tick, function, args)."""

    def parameters(self) -> "Parameters":
        """Return a writable view of the parameters."""

    def status(self, parameters: "Parameters") -> "Status":
        """Return the scheduler's view of the nodes. parameters: as `parameters` returned them."""

    def empty_channels(self) -> None:
        """Give back the memory of results and reports, after the end of a run."""
