"""The recorder of a server: it notes updates and answers in a stream, which outlives the server.

    push   the note, then the commit of the redo log
    pull   values into the slot, then the note, then the answer

An update is noted before it is committed. So a successor drops the note of an update that is not committed,
and every push is in the stream exactly once. A pull whose answer is noted and did not arrive is announced
again. Its values are in the slot, and the successor repeats the answer with the version in the note.
"""

import collections
import struct
from typing import Protocol

import numpy as np

from shmps.ps.consistency import Position
from shmps.ps.messages import Record
from shmps.ps.schedule import ANSWERED, EVENT, MOST_TURNS, PUSHED
from shmps.system.failpoints import reach

_EVENT = struct.Struct("<IIHHI")
_ANSWER = struct.Struct("<IIHHHh")
assert _EVENT.size == _ANSWER.size == EVENT.itemsize


class Stream(Protocol):
    """The events of one server. They outlive every life of the server."""

    def append(self, data: bytes) -> None:
        """Append an event. Raises OutOfSpace if there is no room."""

    def read(self) -> bytes:
        """Return all that was appended."""

    def cut(self, size: int) -> None:
        """Keep only the first `size` bytes."""


class Recorder:
    """What one life of a server notes; without a stream: nothing."""

    def note_update(self, version: int, update: list[Record], delays: list[int]) -> None:
        """Note an update that is about to be committed as `version`."""

    def note_answer(self, pull: Record, version: int) -> None:
        """Note that a pull is answered at the current version, before the answer is sent."""

    def version_of(self, pull: Record) -> int | None:
        """Return the version of the answer that lies in the slot of a pull; None if there is none."""
        return None

    def has_answered(self, pull: Position, version: int) -> bool:
        """Return whether a pull is answered at the current version."""
        return False


class StreamRecorder(Recorder):
    """Notes events in a stream. committed: the last version in the redo log."""

    def __init__(self, stream: Stream, committed: int):
        self._stream = stream
        # By worker and slot: the pull whose answer lies there, as number and turn; the version of the answer.
        # The slot gets another pull only after a later push of the worker, which raises the version.
        self._slots: dict[int, dict[int, tuple[int, int, int]]] = collections.defaultdict(dict)
        events = np.frombuffer(stream.read(), EVENT)
        unfinished = (events["kind"] == PUSHED) & (events["version"] > committed)
        if unfinished.any():  # the last ones: the server died before it did anything else
            events = events[: unfinished.argmax()]
            stream.cut(events.nbytes)
        answers = events[events["kind"] == ANSWERED]
        slots = (answers["value"] // MOST_TURNS).astype(np.uint16).view(np.int16)
        turns = answers["value"] % MOST_TURNS
        places = answers["worker"].astype(np.int64) * MOST_TURNS + slots.view(np.uint16)
        _, latest = np.unique(places[::-1], return_index=True)
        for at in len(answers) - 1 - latest:
            worker, number, version = (int(answers[name][at]) for name in ("worker", "number", "version"))
            self._slots[worker][int(slots[at])] = number, int(turns[at]), version

    def note_update(self, version: int, update: list[Record], delays: list[int]) -> None:
        for push, delay in zip(update, delays, strict=True):
            self._stream.append(_EVENT.pack(version, push.number, push.sender, PUSHED, delay))
        reach("server: update noted")

    def note_answer(self, pull: Record, version: int) -> None:
        worker, number, slot, turn = pull.sender, pull.number, pull.slot, pull.turn
        self._stream.append(_ANSWER.pack(version, number, worker, ANSWERED, turn, slot))
        self._slots[worker][slot] = number, turn, version
        reach("server: answer noted")

    def version_of(self, pull: Record) -> int | None:
        number, turn, version = self._slots[pull.sender].get(pull.slot, (-1, -1, -1))
        return version if number == pull.number and turn == pull.turn else None

    def has_answered(self, pull: Position, version: int) -> bool:
        return (pull.number, pull.turn, version) in self._slots[pull.worker].values()
