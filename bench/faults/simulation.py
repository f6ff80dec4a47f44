"""A simulated engine: nodes in one process, and every choice comes from a seed. `schedule` runs on it.

The scheduler, servers and workers are those of the package. The engine differs in three ways:

- A process is a thread that runs alone, from one wait for records to the next.
- A pipe is a list. A record lies in the inbox at once, or the sender's process keeps it and writes it later,
  after the sender's death, or never.
- SIGKILL is an exception. It is raised in a node that waits, or that reaches a failpoint of the package.
"""

import collections
import random
import threading
from collections.abc import Callable
from typing import Any

from shmps.ps.messages import ROLES, SCHEDULER, Address, Delivery, Record
from shmps.system.failpoints import SERVER_PLACES, TAIL_PLACES, WORKER_PLACES, arm

Line = tuple[Address, int, Address]  # from a life of a node to another node

MOST_STEPS = 20_000
_STEP = 0.001  # virtual seconds
WAITING = "between two records"  # the place of a node that dies at no failpoint


class Wrong(Exception):
    """A promise is broken."""


class Killed(BaseException):
    """Ends a node's thread, as SIGKILL ends a process."""


class Post:
    """A node's pipes; see `shmps.ps.engine.Post`."""

    def __init__(self, simulation: "Simulation", me: Address, life: int = 0):
        self._simulation, self._me, self._life = simulation, me, life

    def send(self, address: Address, record: Record) -> None:
        self.send_all([(address, record)])

    def send_all(self, deliveries: list[Delivery]) -> None:
        """Write the records to one address as one."""
        parcels: dict[Address, list[Record]] = {}
        for address, record in deliveries:
            parcels.setdefault(address, []).append(record)
        simulation = self._simulation
        simulation.must_live(self._me, self._life)
        for address, parcel in parcels.items():
            line = (self._me, self._life, address)
            if line in simulation.kept or simulation.random.random() < simulation.lag:
                simulation.kept.setdefault(line, collections.deque()).append(parcel)
            else:
                simulation.arrive(self._me, address, parcel)

    def send_behind(self, role: int, address: Address, record: Record) -> None:
        self._simulation.behind.append((self, role, address, record))
        self._simulation.send_behind()

    def keeps(self, role: int) -> bool:
        """Return whether a record to nodes of `role` is on its way."""
        return any(
            line[:2] == (self._me, self._life) and line[2][0] == role for line in self._simulation.kept
        )

    def receive(self) -> list[Record]:
        while not self._simulation.inboxes[self._me]:
            self._simulation.running.wait()
        return self.receive_nowait()

    def receive_until(self, condition: Callable[[], bool], take: Callable[[list[Record]], None]) -> None:
        while not condition():
            take(self.receive())

    def receive_nowait(self) -> list[Record]:
        inbox = self._simulation.inboxes[self._me]
        records = list(inbox)
        inbox.clear()
        return records

    def flush(self) -> None:
        simulation = self._simulation
        for line in [line for line in simulation.kept if line[:2] == (self._me, self._life)]:
            while line in simulation.kept:
                simulation.deliver(line)


class Node:
    """A thread that runs between `go` and `wait`; see `shmps.ps.engine.Node`."""

    pid = 0

    def __init__(self, simulation: "Simulation", role: int, rank: int, life: int, body: Callable[[], None]):
        self.role, self.rank, self.life = role, rank, life
        self.exit_code: int | None = None
        self.noticed = False  # whether the scheduler knows that the node has ended
        self._simulation, self._body = simulation, body
        self._thread: threading.Thread | None = None
        self._run, self._back = threading.Lock(), threading.Lock()  # held by the thread that waits for it
        self._run.acquire()
        self._back.acquire()
        self._error: BaseException | None = None

    def __str__(self) -> str:
        return f"{ROLES[self.role]} {self.rank} (life {self.life})"

    @property
    def ready(self) -> bool:
        has_records = bool(self._simulation.inboxes[self.role, self.rank])
        return self.exit_code is None and (has_records or self._thread is None)

    @property
    def is_unnoticed(self) -> bool:
        """Whether the node has ended and the scheduler does not know."""
        return self.exit_code is not None and not self.noticed

    def go(self) -> None:
        """Let the node run until it waits or ends."""
        self._simulation.running = self
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, daemon=True)
            self._thread.start()
        else:
            self._run.release()
        self._back.acquire()
        if self.exit_code is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Let the simulation go on. The code in the node calls it."""
        self._back.release()
        self._run.acquire()
        if self.exit_code is not None:
            raise Killed

    def kill(self) -> None:
        if self.exit_code is None:
            self.exit_code = -9
            if self._thread is not None:
                self.go()

    def join(self, seconds: float | None = None) -> None: ...

    def close(self) -> None:
        self.noticed = True

    def _live(self) -> None:
        try:
            self._body()
            self.exit_code = 0
        except Killed:
            self.exit_code = -9
        except BaseException as error:
            self.exit_code, self._error = 1, error
        self._back.release()


class Clock:
    """Every step of the simulation takes _STEP seconds; see `shmps.ps.engine.Clock`."""

    def __init__(self, simulation: "Simulation"):
        self._simulation = simulation

    def now(self) -> float:
        return _STEP * self._simulation.steps

    def sleep(self, seconds: float) -> None: ...
    def compute(self, nonzeros: int) -> None: ...
    def read(self, cuts: list[int]) -> None: ...


class Engine:
    """The engine of a simulation: a turn of the scheduler's loop is a step; see `shmps.ps.engine.Engine`."""

    is_own = True

    def __init__(self, simulation: "Simulation"):
        self._simulation = simulation
        self.post, self.clock = Post(simulation, (SCHEDULER, 0)), Clock(simulation)

    def launch(self, role: int, rank: int, life: int, body: Callable[..., None], *args: Any) -> Node:
        node = Node(self._simulation, role, rank, life, lambda: body(rank, life, *args))
        self._simulation.nodes[role, rank] = node
        return node

    def wait(self, seconds: float) -> tuple[list[Record], list[Node]]:
        return self._simulation.step(may_idle=not seconds)

    def close(self) -> None: ...


class Simulation:
    """The nodes, the records between them, and the choice of what happens next.

    lag: probability that the sender keeps a record. echo: probability, at each step, that a record from or to
    a former life comes again, which pipes never do. haste: probability, at each step, of the next crash.
    crash_places: where nodes may die.
    """

    crash_places: tuple[str, ...] = (*SERVER_PLACES, *TAIL_PLACES, *WORKER_PLACES)

    def __init__(self, seed: int, trace: Callable[[str], None] | None):
        self.random, self.trace = random.Random(seed), trace
        self.lag = self.echo = self.haste = 0.0
        self.crashes_left = 0
        self.crashes: collections.Counter[tuple[int, str]] = collections.Counter()  # by role and place
        self.deaths: collections.Counter[Address] = collections.Counter()
        self.steps = self.records = 0
        self.kept: dict[Line, collections.deque[list[Record]]] = {}  # without empty ones
        self.behind: list[tuple[Post, int, Address, Record]] = []  # see `send_behind`
        self.inboxes: dict[Address, list[Record]] = collections.defaultdict(list)
        self.nodes: dict[Address, Node] = {}  # the last one of each rank
        self.running: Any = None
        self._for_scheduler: tuple[list[Record], list[Node]] = [], []
        self._past: list[tuple[Address, Address, Record]] = []
        self._latest: dict[tuple[Address, Address], int] = {}  # from, to: the last life whose record was read

    def say(self, *words: Any) -> None:
        if self.trace is not None:
            self.trace(" ".join(map(str, words)))

    def arrive(self, sender: Address, address: Address, parcel: list[Record]) -> None:
        self.inboxes[address] += parcel
        self.records += len(parcel)
        self._latest[sender, address] = max(parcel[0].life, self._latest.get((sender, address), 0))
        for record in parcel:
            self._past.append((sender, address, record))
            if self.trace is not None:
                self.say("  ", _name(sender), "->", _name(address), record)

    def step(self, may_idle: bool) -> tuple[list[Record], list[Node]]:
        """Do one of all the things that may happen next; return what the scheduler gets to know of it.

        may_idle: whether the scheduler has something to do if nothing happens. Else that raises Wrong.
        """
        self.steps += 1
        self._for_scheduler = [], []
        if self.crashes_left and self.random.random() < self.haste:
            self._plan_crash()
        if self.echo and self._past and self.random.random() < self.echo:
            self._echo(*self.random.choice(self._past))
        nodes = self.nodes.values()
        choices: list[tuple[Callable[..., None], Any]] = [
            *((self.deliver, line) for line in self.kept),
            *((self._let_go, node) for node in nodes if node.ready),
            *((self._notice, node) for node in nodes if node.is_unnoticed),
        ]
        if self.inboxes[SCHEDULER, 0]:
            choices.append((self._read, None))
        if not choices and may_idle:
            return self._for_scheduler
        if not choices or self.steps > MOST_STEPS:
            raise Wrong("all messages are delivered, and somebody waits" if not choices else "it has no end")
        act, subject = self.random.choice(choices)
        act(subject)
        return self._for_scheduler

    def deliver(self, line: Line) -> None:
        """Write the oldest records that the sender has kept."""
        parcel = self.kept[line].popleft()
        if not self.kept[line]:
            del self.kept[line]
        self.arrive(line[0], line[2], parcel)
        self.send_behind()

    def send_behind(self) -> None:
        """Send the records whose sender has no other record on its way to the role that they wait for."""
        behind, self.behind = self.behind, []
        for post, role, address, record in behind:
            if post.keeps(role):
                self.behind.append((post, role, address, record))
            else:
                post.send(address, record)

    def must_live(self, address: Address, life: int) -> None:
        """Raise Killed in a dead node that still runs: `ps.node.work` catches every exception."""
        node = self.nodes.get(address)
        if node is not None and node.life == life and node.exit_code is not None:
            raise Killed

    def _let_go(self, node: Node) -> None:
        self.say(node, "goes on")
        node.go()
        if node.exit_code is None:
            self.paused(node)

    def _notice(self, node: Node) -> None:
        """Tell the scheduler of this death, or of all deaths at once."""
        all_at_once = self.random.random() < 0.3
        ended = [each for each in self.nodes.values() if each.is_unnoticed] if all_at_once else [node]
        self.say("the scheduler notices the death of", *ended)
        self._for_scheduler = Post(self, (SCHEDULER, 0)).receive_nowait(), ended

    def _read(self, _: None) -> None:
        self.say("the scheduler reads")
        self._for_scheduler = Post(self, (SCHEDULER, 0)).receive_nowait(), []

    def _echo(self, sender: Address, address: Address, record: Record) -> None:
        """Let a record arrive again, if sender and addressee have later lives that are known."""
        addressee = self.nodes.get(address)
        if record.life < self._latest[sender, address] or (addressee and 0 < record.to < addressee.life):
            self.arrive(sender, address, [record])

    # Crashes.

    def _plan_crash(self) -> None:
        """Kill a node that waits, or arm a failpoint for the first node that reaches it."""
        if self.random.random() < 0.3:
            node = self.random.choice(list(self.nodes.values()))
            if node.exit_code is None and self.may_die(node):
                self._crash(node, WAITING)
                node.kill()
        else:
            arm(self.random.choice(self.crash_places), self.random.choice((1, 1, 2, 3)))

    def reached(self, place: str) -> None:
        """Kill the running node at an armed failpoint."""
        if self.crashes_left and self.may_die(self.running):
            self._crash(self.running, place)
            self.running.exit_code = -9
            raise Killed

    def _crash(self, node: Node, place: str) -> None:
        self.say(node, "dies:", place)
        self.crashes_left -= 1
        self.crashes[node.role, place] += 1
        self.deaths[node.role, node.rank] += 1
        for line in [line for line in self.kept if line[:2] == ((node.role, node.rank), node.life)]:
            if self.random.random() < 0.5:
                del self.kept[line]

    # For subclasses.

    def may_die(self, node: Node) -> bool:
        """A node may die twice: at the third death without progress the scheduler gives it up."""
        return self.deaths[node.role, node.rank] < 2

    def paused(self, node: Node) -> None:
        """Called when a node waits again."""


def _name(address: Address) -> str:
    return ROLES[address[0]] if address[0] == SCHEDULER else f"{ROLES[address[0]]} {address[1]}"
