"""The inline engine in an order that comes from a seed, with late records and crashes. `schedule` runs on it.

The engine, its nodes and its posts are those of `shmps.engines.inline`. The agenda is another one:

- It chooses at random who goes on next. A node gets all records in its inbox at once.
- A record lies in the inbox at once, or the sender keeps it and sends it later, after the sender's death, or
  never.
- A node dies while it waits, or at a failpoint of the package.
"""

import collections
import contextlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from shmps.engines.inline.agenda import Agenda, Subject
from shmps.engines.inline.engine import Inline, InlineEngine
from shmps.engines.inline.machines import Machines
from shmps.engines.inline.network import Network
from shmps.engines.inline.nodes import DIE, FAILED, Node, ServerNode
from shmps.engines.inline.site import Post
from shmps.ps.messages import ROLES, SCHEDULER, Address, Record
from shmps.system import failpoints
from shmps.system.failpoints import SERVER_PLACES, TAIL_PLACES, WORKER_PLACES

Line = tuple[Post, Address]  # from a life of a node to another node

MOST_STEPS = 20_000
_STEP = 0.01  # virtual seconds
WAITING = "between two records"  # the place of a node that dies at no failpoint
_MACHINES = Machines()
_APPLIED = "server: applied"


class Wrong(Exception):
    """A promise is broken."""


class Simulation(Agenda):
    """The events that may happen next. A random number generator chooses one of them.

    lag: probability that the sender keeps a record. echo: probability, at each step, that a record from or to
    a former life comes again, which pipes never do. haste: probability, at each step, of the next crash.
    crash_places: where nodes may die.
    """

    crash_places: tuple[str, ...] = (*SERVER_PLACES, *TAIL_PLACES, *WORKER_PLACES)

    def __init__(self, seed: int, trace: Callable[[str], None] | None):
        super().__init__(Network(_MACHINES, key_bytes=8, value_bytes=8))
        self.random, self.trace = random.Random(seed), trace
        self.lag = self.echo = self.haste = 0.0
        self.crashes_left = 0
        self.crashes: collections.Counter[tuple[int, str]] = collections.Counter()  # by role and place
        self.deaths: collections.Counter[Address] = collections.Counter()
        self.steps = self.records = 0
        self.wrong: Wrong | None = None  # the first promise that was broken
        self._kept: dict[Line, collections.deque[Any]] = {}  # without empty ones
        self._behind: list[tuple[int, Line, Record]] = []  # see `carry_behind`
        self._inboxes: dict[Address, list[Any]] = collections.defaultdict(list)
        self._own: list[tuple[Subject, Any]] = []  # see `at`
        self._went_on: Any = None  # the subject of the last event
        self._planned = {_APPLIED: 0}  # crashes: the visits that are left, by failpoint; 0: none
        self._past: list[tuple[Address, Address, Record]] = []
        self._latest: dict[tuple[Address, Address], int] = {}  # from, to: the last life whose record came

    def say(self, *words: Any) -> None:
        if self.trace is not None:
            self.trace(" ".join(map(str, words)))

    def must(self, holds: Any, otherwise: str, *evidence: Any) -> None:
        """Raise Wrong, here and in `Engine.wait`, unless something holds."""
        if not holds:
            wrong = Wrong(": ".join([otherwise, *map(str, evidence)]))
            self.wrong = self.wrong or wrong
            raise wrong

    # The methods of `Agenda`.

    def at(self, time: float, subject: Subject, event: Any) -> None:
        self._own.append((subject, event))

    def carry(self, post: Post, address: Address, event: Any, record: Record) -> None:
        line = post, address
        if line in self._kept or self.random.random() < self.lag:
            self._kept.setdefault(line, collections.deque()).append(event)
        else:
            self._arrive(post.address, address, event)

    def carry_behind(self, role: int, post: Post, address: Address, record: Record) -> None:
        self._behind.append((role, (post, address), record))
        self._carry_behind()

    def _carry_behind(self) -> None:
        """Carry the records whose sender keeps nothing for the role that they wait for."""
        behind, self._behind = self._behind, []
        for role, (post, address), record in behind:
            if any(sender is post and to[0] == role for sender, to in self._kept):
                self._behind.append((role, (post, address), record))
            else:
                self.carry(post, address, [record], record)

    def flush(self, post: Post) -> None:
        for line in [line for line in self._kept if line[0] is post]:
            while line in self._kept:
                self._send_kept(line)

    def _send_kept(self, line: Line) -> None:
        """Send the oldest event that the sender has kept."""
        event = self._kept[line].popleft()
        if not self._kept[line]:
            del self._kept[line]
        self._arrive(line[0].address, line[1], event)
        self._carry_behind()

    def _arrive(self, sender: Address, address: Address, event: Any) -> None:
        self._inboxes[address].append(event)
        for record in event if isinstance(event, list) else ():
            self.records += 1
            self._latest[sender, address] = max(record.life, self._latest.get((sender, address), 0))
            self._past.append((sender, address, record))
            if self.trace is not None:
                self.say("  ", _name(sender), "->", _name(address), record)

    @property
    def is_idle(self) -> bool:
        return not (self._kept or self._own or self._ready())

    def _ready(self) -> list[Address]:
        """Return who may read: the scheduler, and nodes that live. A server must have begun."""
        starting = [subject for subject, _ in self._own if isinstance(subject, ServerNode)]
        found = []
        for address, inbox in self._inboxes.items():
            node = self.nodes.get(address)
            is_dead = isinstance(node, Node) and node.exit_code is not None
            if inbox and not is_dead and node not in (None, *starting):
                found.append(address)
        return found

    # The choice.

    def next(self, until: float) -> tuple[Subject, Any] | None:
        with contextlib.suppress(Wrong):  # `Engine.wait` raises it: this may be the thread of a worker
            if isinstance(self._went_on, ServerNode) and self._went_on.exit_code is None:
                self.check_server(self._went_on.rank)
            while self.now < until:
                self.steps += 1
                self.now += _STEP
                self.must(self.steps < MOST_STEPS, "it has no end")
                self._perhaps_echo()
                if (coming := self._perhaps_crash() or self._choose()) is not None:
                    self._went_on = coming[0]
                    return coming
                if self.is_idle:
                    self.now = max(self.now, until)
        self._went_on = None
        return None

    def _choose(self) -> tuple[Subject, Any] | None:
        """Let the sender of a late record send it, or return an event."""
        lines, ready = list(self._kept), self._ready()
        if not (count := len(lines) + len(ready) + len(self._own)):
            return None
        at = self.random.randrange(count)
        if at < len(lines):
            self._send_kept(lines[at])
            return None
        at -= len(lines)
        if at < len(self._own):
            return self._own.pop(at)
        address = ready[at - len(self._own)]
        return self.nodes[address], self._read(address)

    def _read(self, address: Address) -> Any:
        """Take all records out of an inbox, up to a node's end; or a node's end."""
        inbox, records = self._inboxes[address], []
        self.say(_name(address), "reads")
        while inbox and isinstance(inbox[0], list):
            records += inbox.pop(0)
        return records or inbox.pop(0)

    # Crashes.

    def _perhaps_crash(self) -> tuple[Subject, Any] | None:
        """Return the end of a node that waits, or arm a failpoint for the first node there."""
        if not self.crashes_left or self.random.random() >= self.haste:
            return None
        if self.random.random() < 0.3:
            node = self.random.choice([node for node in self.nodes.values() if isinstance(node, Node)])
            if node.exit_code is None and self.may_die(node):
                self._crash(node, WAITING)
                return node, DIE
        else:
            place = self.random.choice(self.crash_places)
            self._planned[place] = self.random.choice((1, 1, 2, 3))
            failpoints.arm(place)
        return None

    def reached(self, node: Node, place: str) -> None:
        """Perhaps kill the node at work, at an armed failpoint."""
        failpoints.arm(place)
        if place == _APPLIED:
            self.check_server(node.rank)
        if left := self._planned[place]:
            self._planned[place] = left - 1
            if left == 1 and self.crashes_left and self.may_die(node):
                self._crash(node, place)
                node.die()

    def _crash(self, node: Node, place: str) -> None:
        """Note that a node dies. Each record that it has kept arrives later, or is lost."""
        self.say(ROLES[node.role], node.rank, f"(life {node.life}) dies:", place)
        self.crashes_left -= 1
        self.crashes[node.role, place] += 1
        self.deaths[node.role, node.rank] += 1
        for line in [line for line in self._kept if line[0] is node.post]:
            if self.random.random() < 0.5:
                del self._kept[line]

    def _perhaps_echo(self) -> None:
        """Let a record arrive again, if sender or addressee has a later life that is known."""
        if not self._past or not self.echo or self.random.random() >= self.echo:
            return
        sender, address, record = self.random.choice(self._past)
        node = self.nodes.get(address)
        to_former = isinstance(node, Node) and 0 < record.to < node.life
        if to_former or record.life < self._latest[sender, address]:
            self._arrive(sender, address, [record])

    # For subclasses.

    def begin(self, engine: "Engine") -> None:
        """Called with the engine before anything happens."""

    def may_die(self, node: Node) -> bool:
        """A node may die twice: at the third death without progress the scheduler gives it up."""
        return self.deaths[node.role, node.rank] < 2

    def check_server(self, server: int) -> None:
        """Called when a server has applied an update, or waits again."""


class Engine(InlineEngine):
    """The inline engine of a simulation."""

    def __init__(self, simulation: Simulation, *given: Any):
        super().__init__(simulation, _MACHINES, 0, *given)
        self._simulation = simulation
        self._resources.enter_context(failpoints.simulated(self.reached))
        failpoints.arm(_APPLIED)
        simulation.begin(self)

    @property
    def committed(self) -> np.ndarray:
        """The number of the last push that each worker has committed."""
        return self._arrays["committed"]

    def reached(self, place: str) -> None:
        self._simulation.reached(self._site.at_work, place)

    def wait(self, seconds: float) -> tuple[list[Record], list[Node]]:
        records, ended = super().wait(seconds)
        if self._simulation.wrong is not None:
            raise self._simulation.wrong
        for node in ended:
            who = f"{ROLES[node.role]} {node.rank}"
            self._simulation.must(node.exit_code != FAILED, f"{who} raised an exception")
        return records, ended


class Simulated(Inline):
    """The value of `Cluster(engine=...)` for a simulation."""

    def __init__(self, simulation: Simulation):
        super().__init__()
        self._simulation = simulation

    def prepare(self, *given: Any) -> None:
        """Try nothing: it is the same in every schedule."""

    def start(self, *given: Any) -> Engine:
        return Engine(self._simulation, *given)


def _name(address: Address) -> str:
    return ROLES[address[0]] if address[0] == SCHEDULER else f"{ROLES[address[0]]} {address[1]}"
