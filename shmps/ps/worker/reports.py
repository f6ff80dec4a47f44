"""The reports of a worker on their way to the caller of `run`. A state machine; it writes to a `Channel`."""

from typing import Any

from shmps.ps.engine import Channel
from shmps.ps.messages import Report

_MOST_BYTES = 2**26  # in the channel
_MOST_UNREAD = 256  # reports


class Reports:
    """Writes values one behind the other; at the start again after all of them were handed over.

    bytes: the end of the last value.
    """

    def __init__(self, channel: Channel):
        self._channel = channel
        self.bytes = self._unread = 0

    @property
    def has_room(self) -> bool:
        return not self._unread or (self.bytes < _MOST_BYTES and self._unread < _MOST_UNREAD)

    def write(self, value: Any) -> Report:
        """Write a value and return the message that announces it. Raises OutOfSpace if it does not fit."""
        offset = self.bytes if self._unread else 0
        size = self._channel.write(value, offset)
        self.bytes = offset + size
        self._unread += 1
        return Report(size, offset)

    def handed_over(self) -> None:
        self._unread -= 1
