"""The post of a node whose peers are on other machines: a listener, and one connection to each peer.

    send --> Outgoing: one life of a peer --> TCP --> Incoming of the peer --> receive
               keeps what the network
               does not take yet

No cycle of full connections can stop the cluster, for the reason that holds for pipes (`processes.pipes`): a
node never waits for one connection, and goes on reading from all others.

A node knows at the start where the scheduler takes connections. The scheduler introduces nodes to each other
when they greet it, and a node also learns from a greeting where its sender takes connections. What is sent
before that waits. A connection belongs to two lives, so nothing reaches a life that follows another.

Posts send each other records of their own, with a negative `op`. The receiver's post handles them:

    INTRODUCE    a life of a node takes connections there
    ECHO         answer with ECHOED: everything before it has arrived
    ENDED        a connection with a life of a node has ended
    BEAT         a sign of life
"""

import select
import socket
import time
from collections.abc import Callable

from shmps.engines.wire.connections import Incoming, Outgoing
from shmps.engines.wire.frames import parts_of
from shmps.engines.wire.greeting import Endpoint, Greeting
from shmps.ps.messages import SCHEDULER, Address, Delivery, Record

INTRODUCE, ECHO, ECHOED, ENDED, BEAT = range(-5, 0)

_STRANGERS = 64  # connections without a greeting that are kept open
# Edge-triggered: an event when the network takes more, after it has refused something; and at the end.
_OUT = select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_BROKEN = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_BEAT = 0.2  # seconds between two signs of life


class SchedulerGone(BaseException):
    """The scheduler has ended, or the network on the way to it is broken: this node ends too."""


class WirePost:
    """The inbox of one node, and its way to the others (`shmps.ps.engine.Post`).

    address, life: of this node. token: see `new_token`. host, port: where it takes connections; an IP address
    that the other machines reach, and 0 for any port. limit: the most bytes of the arrays of one record.

    dress: gives a record, on its way to an address, the arrays that it carries. They are not copied, and have
    to stay as they are until the addressee has answered.

    Raises OSError if the host or the port cannot be used.
    """

    def __init__(self, address: Address, life: int, token: bytes, host: str, port: int = 0, *, limit: int):
        self.address, self.life = address, life
        self.dress: Callable[[Address, Record], Record] = lambda address, record: record
        self._token, self._limit = token, limit
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=1024)
        self._listener.setblocking(False)
        self.endpoint = Endpoint(host, self._listener.getsockname()[1], life)
        self._lives: dict[Address, int] = {}  # the last known ones
        self._outgoing: dict[Address, Outgoing] = {}
        self._address_of: dict[int, Address] = {}  # by the descriptor of an outgoing connection
        self._early: dict[Address, list[tuple[int, list[memoryview]]]] = {}  # for lives that are on their way
        self._incoming: dict[int, Incoming] = {}  # by descriptor
        self._arrived: list[Record] = []
        self._behind: list[tuple[set[int], Address, Record]] = []  # after these echoes
        self._asked: dict[int, tuple[Address, int]] = {}  # for echoes, by number: a life of a peer
        self._echoes = 0  # the number of the last one
        self._closed: set[int] = set()  # descriptors, while events are handled that came before
        self._beat_at = 0.0
        self._ready = select.epoll()
        self._ready.register(self._listener, select.EPOLLIN)

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to receive, or more to send."""
        return self._ready.fileno()

    # The way out.

    def meet(self, address: Address, endpoint: Endpoint) -> bool:
        """Open a connection to a life of a peer, unless a later one is known; return whether it is new."""
        if endpoint.life <= self._lives.get(address, -1):
            return False
        self.forget(address)
        self._lives[address] = endpoint.life
        greeting = Greeting(self.address, self.endpoint, endpoint.life)
        outgoing = self._outgoing[address] = Outgoing(endpoint, greeting.pack(self._token))
        self._address_of[outgoing.socket.fileno()] = address
        self._ready.register(outgoing.socket, _OUT)
        for life, parts in self._early.pop(address, ()):
            self._keep(address, life, parts)
        self._go_on(address)
        self._no_echo(address, endpoint.life - 1)
        return True

    def forget(self, address: Address) -> None:
        """Close the connection to a peer, and drop what it keeps."""
        if outgoing := self._outgoing.pop(address, None):
            del self._address_of[outgoing.socket.fileno()]
            self._close(outgoing.socket)

    def _close(self, connection: socket.socket) -> None:
        """Close a connection, and hear no more of it: a process that was forked may keep it open."""
        self._closed.add(connection.fileno())
        self._ready.unregister(connection)
        connection.close()

    def send(self, address: Address, record: Record) -> None:
        """Send a record with its arrays, now or later; never wait."""
        self._append(address, record)
        self._go_on(address)

    def send_all(self, deliveries: list[Delivery]) -> None:
        """Send several records. Those to one address leave together."""
        for address, record in deliveries:
            self._append(address, record)
        for address in {address for address, _ in deliveries}:
            self._go_on(address)

    def send_behind(self, role: int, address: Address, record: Record) -> None:
        """Send a record once every earlier record to any node of `role` has arrived there."""
        echoes = set()
        lives = {peer: outgoing.life for peer, outgoing in self._outgoing.items()}
        lives |= {peer: early[-1][0] for peer, early in self._early.items()}
        for peer, life in lives.items():
            if peer[0] == role:
                self._echoes += 1
                echoes.add(self._echoes)
                self._asked[self._echoes] = peer, life
                self.send(peer, Record(ECHO, timestamp=self._echoes, life=self.life, to=life))
        self._behind.append((echoes, address, record))
        self._send_behind()

    def _send_behind(self) -> None:
        while self._behind and not self._behind[0][0] & self._asked.keys():
            _, address, record = self._behind.pop(0)
            self.send(address, record)

    def _no_echo(self, address: Address, last: int) -> None:
        """Expect no echo of the lives of a peer up to the `last`, which are over."""
        over = [number for number, (peer, life) in self._asked.items() if peer == address and life <= last]
        for number in over:
            del self._asked[number]
        self._send_behind()

    def beat(self) -> None:
        """Give the scheduler a sign of life, if the last one was a while ago."""
        if (now := time.monotonic()) > self._beat_at + _BEAT:
            self._beat_at = now
            self.send((SCHEDULER, 0), Record(BEAT))

    def _append(self, address: Address, record: Record) -> None:
        self._keep(address, record.to, parts_of(self.dress(address, record)))

    def _keep(self, address: Address, life: int, parts: list[memoryview]) -> None:
        """Keep a frame for a life of a peer, unless the life is over."""
        if life > self._lives.get(address, -1):
            self._early.setdefault(address, []).append((life, parts))
        elif (outgoing := self._outgoing.get(address)) is not None and outgoing.life == life:
            outgoing.append(parts)

    def _go_on(self, address: Address) -> None:
        """Send what is kept for a peer, as far as the network takes it."""
        if (outgoing := self._outgoing.get(address)) is None:
            return
        try:
            outgoing.go_on()
        except OSError:
            self._lose(address, outgoing.life)

    def _lose(self, address: Address, life: int) -> None:
        """Note the end of a connection from or to a life, and send it nothing more."""
        if (outgoing := self._outgoing.get(address)) is not None and outgoing.life == life:
            self.forget(address)
        self._no_echo(address, life)
        self.lost(address, life)

    def lost(self, address: Address, life: int) -> None:
        """Tell the scheduler: the peer has ended, or the network between the two is broken.

        Raises SchedulerGone if the peer was the scheduler.
        """
        if address[0] == SCHEDULER:
            raise SchedulerGone
        self.send((SCHEDULER, 0), Record(ENDED, size=life, number=self.life))

    # The way in.

    def receive(self) -> list[Record]:
        """Wait for records and return them: one or more."""
        while not self._arrived:
            self._poll(-1)
        return self._take()

    def receive_until(self, condition: Callable[[], bool], take: Callable[[list[Record]], None]) -> None:
        """Wait until `condition()` holds, and give records to `take` as they arrive."""
        while not condition():
            take(self.receive())

    def receive_nowait(self) -> list[Record]:
        """Return the records that have arrived, perhaps none."""
        self._poll(0)
        return self._take()

    def flush(self) -> None:
        """Wait until every record to a known peer has left."""
        while any(outgoing.keeps for outgoing in self._outgoing.values()):
            self._poll(-1)

    def close(self) -> None:
        """Close all connections. What has not left is dropped: see `flush`."""
        for address in list(self._outgoing):
            self.forget(address)
        for incoming in self._incoming.values():
            self._close(incoming.socket)
        self._listener.close()
        self._ready.close()

    def _take(self) -> list[Record]:
        arrived, self._arrived = self._arrived, []
        return arrived

    def _poll(self, seconds: float) -> None:
        """Wait for something to do, at most `seconds` (-1: no limit), and do it."""
        self._closed.clear()
        for descriptor, event in self._ready.poll(seconds):
            if descriptor in self._closed:  # another connection may have the number already
                continue
            if descriptor in self._incoming:
                self._read(descriptor)
            elif descriptor == self._listener.fileno():
                self._accept()
            else:
                address = self._address_of[descriptor]
                if event & _BROKEN:
                    self._lose(address, self._outgoing[address].life)
                else:
                    self._go_on(address)

    def _accept(self) -> None:
        """Take a connection. Of those that say nothing, only the last ones are kept."""
        connection, _ = self._listener.accept()
        self._incoming[connection.fileno()] = Incoming(connection, self._token, self.life, self._limit)
        self._ready.register(connection, select.EPOLLIN)
        strangers = [each for each, incoming in self._incoming.items() if incoming.greeting is None]
        for descriptor in strangers[:-_STRANGERS]:
            self._close(self._incoming.pop(descriptor).socket)

    def _read(self, descriptor: int) -> None:
        incoming = self._incoming[descriptor]
        knew = incoming.greeting
        try:
            records = incoming.read()
        except OSError:
            records = None
        greeting = incoming.greeting
        if greeting is not None and knew is None:
            self.greeted(greeting.address, greeting.endpoint)
        if records is None:
            del self._incoming[descriptor]
            self._close(incoming.socket)
            if greeting is not None:
                self._lose(greeting.address, greeting.endpoint.life)
        elif greeting is not None:
            self.heard(greeting.address, greeting.endpoint.life)
            for record in records:
                if record.op < 0:
                    self.handle(greeting.address, record)
                else:
                    self._arrived.append(record)

    def greeted(self, address: Address, endpoint: Endpoint) -> None:
        """Meet a peer that has opened a connection."""
        self.meet(address, endpoint)

    def heard(self, address: Address, life: int) -> None:
        """Note that a life of a peer has sent something."""

    def handle(self, address: Address, record: Record) -> None:
        """Handle a record that a post has sent."""
        if record.op == ECHO:
            self.send(address, Record(ECHOED, timestamp=record.timestamp, to=record.life))
        elif record.op == ECHOED:
            self._asked.pop(record.timestamp, None)
            self._send_behind()
        elif record.op == INTRODUCE:
            role, rank, life, port = record[2:6]
            self.meet((role, rank), Endpoint(bytes(record.arrays[0]).decode(), port, life))
