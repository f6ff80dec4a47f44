"""The first bytes of a connection: who opens it, to whom, and that both belong to one cluster."""

import hmac
import secrets
import struct
from typing import NamedTuple

from shmps.errors import WireError
from shmps.ps.messages import ROLES, Address
from shmps.version import __version__

TOKEN_BYTES = 32
_STRUCT = struct.Struct(f"<{TOKEN_BYTES}s24s4q64sq")
GREETING_BYTES = _STRUCT.size


def new_token() -> bytes:
    """Return a secret that the nodes of one cluster share. The engine hands it out when it starts a node."""
    return secrets.token_bytes(TOKEN_BYTES)


class Endpoint(NamedTuple):
    """Where a life of a node takes connections. host: an IP address."""

    host: str
    port: int
    life: int


class Greeting(NamedTuple):
    """A node opens a connection to the life `to` of another, and takes connections at `endpoint`."""

    address: Address
    endpoint: Endpoint
    to: int

    def pack(self, token: bytes) -> bytes:
        host, port, life = self.endpoint
        return _STRUCT.pack(token, __version__.encode(), *self.address, life, self.to, host.encode(), port)

    @classmethod
    def unpack(cls, data: bytes, token: bytes) -> "Greeting | None":
        """Return a greeting, or None if it comes from a stranger.

        Raises WireError if the other node has another version of shmps: the same record could mean something
        else there.
        """
        theirs, version, role, rank, life, to, host, port = _STRUCT.unpack(data)
        if not hmac.compare_digest(theirs, token):
            return None
        if (found := _text(version)) != __version__:
            raise WireError(
                f"all nodes must have the same version of shmps, got {__version__} here and {found} at "
                f"{ROLES[role]} {rank}; install one version on all machines"
            )
        return cls((role, rank), Endpoint(_text(host), port, life), to)


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")
