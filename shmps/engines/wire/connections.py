"""Connections carry records one way, from one life of a node to one life of another. They never block."""

import collections
import itertools
import socket
from collections.abc import Iterable

from shmps.engines.wire.frames import FrameReader
from shmps.engines.wire.greeting import GREETING_BYTES, Endpoint, Greeting
from shmps.ps.messages import Record

_PARTS = 64  # of one system call; the kernel takes 1024
# Seconds until the kernel asks whether the other end is there, and asks again; and how often. A peer that is
# busy, and reads nothing, answers.
_IDLE, _AGAIN, _TIMES = 10, 5, 3


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, _IDLE),
        (socket.TCP_KEEPINTVL, _AGAIN),
        (socket.TCP_KEEPCNT, _TIMES),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


class Outgoing:
    """A connection to one life of a node.

    It keeps what the network does not take yet, as views: an array that is sent must stay as it is until the
    addressee has answered.
    """

    def __init__(self, endpoint: Endpoint, greeting: bytes):
        self.life = endpoint.life
        family, kind, protocol, _, place = socket.getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM
        )[0]
        self.socket = socket.socket(family, kind, protocol)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(self.socket)
        self.socket.connect_ex(place)  # a failure shows when something is sent
        self._parts = collections.deque([memoryview(greeting)])

    @property
    def keeps(self) -> bool:
        """Whether some bytes have not left yet."""
        return bool(self._parts)

    def append(self, parts: Iterable[memoryview]) -> None:
        """Keep the parts of frames, for `go_on`."""
        self._parts.extend(parts)

    def go_on(self) -> None:
        """Send as much as the network takes. Raises OSError if the connection is broken."""
        parts = self._parts
        while parts:
            try:
                count = self.socket.sendmsg(itertools.islice(parts, _PARTS))
            except BlockingIOError:
                return
            while parts and count >= len(parts[0]):
                count -= len(parts.popleft())
            if count:
                parts[0] = parts[0][count:]


class Incoming:
    """A connection that another node has opened to the life `life` of this one.

    Nothing is read from it before its greeting is right. greeting: None until then.
    """

    def __init__(self, connection: socket.socket, token: bytes, life: int, limit: int):
        self.socket = connection
        self.socket.setblocking(False)
        _keep_alive(connection)
        self.greeting: Greeting | None = None
        self._token, self._life, self._data = token, life, b""
        self._frames = FrameReader(connection, limit)

    def read(self) -> list[Record] | None:
        """Read what has come; return the complete records, or None where the connection has to be closed:
        at its end, for a stranger, for another life.

        Raises OSError if the connection is broken, WireError if the other node breaks the protocol.
        """
        return self._read_greeting() if self.greeting is None else self._frames.read()

    def _read_greeting(self) -> list[Record] | None:
        try:
            data = self.socket.recv(GREETING_BYTES - len(self._data))
        except BlockingIOError:
            return []
        self._data += data
        if len(self._data) < GREETING_BYTES:
            return [] if data else None
        greeting = Greeting.unpack(self._data, self._token)
        if greeting is None or greeting.to != self._life:
            return None
        self.greeting = greeting
        return []
