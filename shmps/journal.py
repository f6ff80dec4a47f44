"""The journal: the schedule of one run, with what has to be the same to repeat the run. A public class.

    Cluster(record=True).run(...) -> Cluster.journal() -> Journal.save(path)
    Journal.open(path) -> Journal.consistency -> Cluster(consistency=...)

A file is a container (see `shmps.system.container`) with the columns of `schedule.PUSHES` and `PULLS`, the
events of server 0 first. The header's keys:

    mode, bound             the consistency of the run
    sizes                   servers, workers, keys, values per key
    counts                  pushes and pulls of each server
    stops                   [worker, pushes] of each worker that was asked to stop
    complete                whether the run came to its end
    digest                  SHA-256 of the final weights, and of the state beside them
    settings, data, start   of a training: its settings, the fingerprint of its rows, the start's SHA-256

A run that goes on has a folder instead, which stays if the program is killed: see `shmps.recording`.
"""

import hashlib
import math
import os
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shmps.engines.event_file import events_in
from shmps.errors import DataError, UsageError
from shmps.ps.consistency import ASYNC, BOUNDED, SYNC, Consistency
from shmps.ps.memory.layout import DELAY_BINS
from shmps.ps.memory.parameters import Copy
from shmps.ps.replay import Replay
from shmps.ps.schedule import MOST_VERSIONS, PULLS, PUSHES, Schedule
from shmps.system import files
from shmps.system.container import Container, raw

UNFINISHED, HEADER = ".unfinished", "header"  # the end of such a folder's name, and the journal in it
CONTAINER = Container("journal", format=1, sealed_from=1, remedy="record the run again")
_COLUMNS = {
    f"{name}_{column}": dtype[column].str
    for name, dtype in (("push", PUSHES), ("pull", PULLS))
    for column in dtype.names or ()
    if column != "server"
}


@dataclass(frozen=True, eq=False)
class Journal:
    """The schedule of one run: which push became which version, and at which version each pull was answered.

    pushes: structured array (k,) with the fields server, version, worker, number, delay, in the order in
    which each server applied them. number: 1, 2, ... for each worker. delay: versions since the pull.
    pulls: structured array (m,) with the fields server, version, worker, number, turn. number: the pushes of
    the worker before the pull. turn: its pulls since that push.
    stops: the pushes after which a worker saw that it should stop, by rank; {} if nobody was asked to.
    mode: the consistency of the run, without its order. servers, workers, num_keys, width: of the cluster.
    complete: whether the run came to its end.
    digest: SHA-256 of the final "weights", and of the "state" beside them (updater, ages, versions, clocks);
    {} if the program was killed.
    settings, data, start: of a training its settings, the fingerprint of its rows, and the SHA-256 of the
    weights that it starts from; otherwise empty.

    Example::

        with Cluster(100, consistency=ASYNC, record=True) as cluster:
            cluster.run(work)
            cluster.journal().save("run.journal")
        journal = Journal.open("run.journal")
        with Cluster(100, consistency=journal.consistency) as cluster:
            cluster.run(work)
            assert cluster.journal().digest == journal.digest
    """

    schedule: Schedule = field(repr=False)
    mode: Consistency
    servers: int
    workers: int
    num_keys: int
    width: int
    complete: bool
    digest: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    start: str = ""

    @property
    def pushes(self) -> np.ndarray:
        return self.schedule.pushes

    @property
    def pulls(self) -> np.ndarray:
        return self.schedule.pulls

    @property
    def stops(self) -> dict[int, int]:
        return self.schedule.stops

    @property
    def consistency(self) -> Replay:
        """The consistency that repeats this run, for a `Cluster` with the same nodes and keys.

        Raises UsageError if the run was broken off: some pushes had reached only a part of the servers.
        """
        if not self.complete:
            raise UsageError(
                "a replay needs the journal of a run that came to its end, got one that was broken off; "
                "record the run again"
            )
        shape = self.servers, self.workers, self.num_keys, self.width
        return Replay(self.mode.bound, self.mode.hold_pushes, schedule=self.schedule, shape=shape)

    @property
    def delays(self) -> np.ndarray:
        """The histogram of the delays, as `Cluster.delays` returns it: (4096,) int64."""
        delays = np.minimum(self.pushes["delay"], DELAY_BINS - 1)
        return np.bincount(delays, minlength=DELAY_BINS)

    def to_pandas(self) -> Any:
        """Return pushes and pulls as one DataFrame, by server and version. Needs pandas.

        Column `event` is "push" or "pull". A pull has no delay, and a push no turn: they are NaN.
        """
        import pandas

        tables = [pandas.DataFrame(self.pushes), pandas.DataFrame(self.pulls)]
        events = pandas.concat(tables, keys=["push", "pull"], names=["event", None])
        events = events.reset_index(level="event").reset_index(drop=True)
        return events.sort_values(["server", "version"], kind="stable", ignore_index=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the journal to a file, whole or not at all.

        Raises DataError if it cannot be written, OutOfSpace if the disk is full.
        """
        path = os.fspath(path)
        counts = [
            [int((events["server"] == server).sum()) for events in (self.pushes, self.pulls)]
            for server in range(self.servers)
        ]
        header = {
            "mode": "sync" if self.mode.hold_pushes else "async",
            "bound": None if self.mode.hold_pushes or math.isinf(self.mode.bound) else int(self.mode.bound),
            "sizes": [self.servers, self.workers, self.num_keys, self.width],
            "counts": counts,
            "stops": sorted(self.stops.items()),
            "complete": self.complete,
            "digest": self.digest,
            "settings": self.settings,
            "data": self.data,
            "start": self.start,
        }
        columns = {
            name: np.ascontiguousarray((self.pushes if name.startswith("push") else self.pulls)[name[5:]])
            for name in _COLUMNS
        }
        remedy = "train again without a journal"
        files.write(path, CONTAINER.encode(header, columns, path, remedy), "the journal", remedy)

    @staticmethod
    def open(path: str | os.PathLike[str]) -> "Journal":
        """Return the journal in a file, or in the folder PATH.unfinished that a killed program has left.

        Raises DataError if it is no journal, if a single byte of a file differs from what was written, or if
        no run could have had this order.
        """
        path = os.fspath(path)
        if os.path.isdir(path):
            journal = _unfinished(path)
        else:
            _must_be_there(path)
            journal = _read(path)
        if fault := journal.schedule.fault(journal.servers, journal.workers):
            raise DataError(f"{path}: {fault}; {CONTAINER.remedy}")
        return journal

    def must_be_of(self, data: dict[str, Any], path: str) -> None:
        """Raise DataError unless `data` is the fingerprint of the rows that the run was trained on."""
        differing = [name for name in self.data | data if self.data.get(name) != data.get(name)]
        if differing:
            got = ", ".join(
                f"{name} {self.data.get(name)} there and {data.get(name)} here"
                for name in differing
                if name != "sha256"
            )
            raise DataError(
                f"{path}: a replay must have the rows of the journal, got "
                f"{got or 'one content there and another here'}; replay with the data that was recorded"
            )


def event_paths(folder: str, servers: int) -> list[str]:
    """Return where the events of each server are, in the folder of a run that goes on."""
    return [os.path.join(folder, f"events-{server}") for server in range(servers)]


def _must_be_there(path: str) -> None:
    if not os.path.exists(path) and os.path.isdir(path + UNFINISHED):
        raise DataError(
            f"{path}: the journal must be there, got only {path}{UNFINISHED}, of a program that goes on or "
            f"was killed; name that folder"
        )


def _read(path: str) -> Journal:
    with files.opened(path, "journal") as (file, size):
        _, header = CONTAINER.read_header(file, path)
        arrays = CONTAINER.read_arrays(file, size, header, _COLUMNS, path)
    with CONTAINER.rules(path):
        return _journal_of(header, arrays)


def _unfinished(folder: str) -> Journal:
    """Return the journal of a killed run. The last update of each server may not have been applied."""
    journal = _read(os.path.join(folder, HEADER))
    streams = []
    for path in event_paths(folder, journal.servers):
        with files.opened(path, "journal") as (file, _), CONTAINER.rules(path):
            streams.append(events_in(file.read()))
    with CONTAINER.rules(folder):
        return replace(journal, schedule=Schedule.of(streams, [MOST_VERSIONS] * journal.servers, {}))


def _journal_of(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Journal:
    servers, workers, num_keys, width = header["sizes"]
    pushes, pulls = (
        _rows(dtype, name, arrays, [int(each[at]) for each in header["counts"]])
        for at, (name, dtype) in enumerate((("push", PUSHES), ("pull", PULLS)))
    )
    if len(header["counts"]) != servers or min(servers, workers, num_keys, width) < 1:
        raise ValueError(f"sizes and counts of {servers} servers")
    bound, digest = header["bound"], header["digest"]
    mode = {"sync": SYNC, "async": ASYNC}[header["mode"]] if bound is None else BOUNDED(bound)
    if not all(type(header[name]) is dict for name in ("digest", "settings", "data")):
        raise ValueError("digest, settings and data must be objects")
    return Journal(
        Schedule(pushes, pulls, {int(rank): int(pushes) for rank, pushes in header["stops"]}),
        mode,
        servers,
        workers,
        num_keys,
        width,
        bool(header["complete"]),
        digest,
        header["settings"],
        header["data"],
        header["start"],
    )


def _rows(dtype: np.dtype, name: str, arrays: dict[str, np.ndarray], counts: list[int]) -> np.ndarray:
    """Return the rows of a table from its columns; `counts` of each server."""
    servers = np.repeat(np.arange(len(counts), dtype=np.uint16), counts)
    rows = np.empty(len(servers), dtype)
    rows["server"] = servers
    for column in dtype.names or ():
        if column != "server":
            rows[column] = arrays[f"{name}_{column}"]
    return rows


def digest_of(copy: Copy) -> dict[str, str]:
    """Return the SHA-256 of the weights of a copy, and of what is beside them."""
    state = hashlib.sha256()
    for array in (copy.state, copy.ages, copy.versions, copy.ticks):
        state.update(raw(array.ravel()))
    weights = hashlib.sha256(raw(copy.weights.ravel()))
    return {"weights": weights.hexdigest(), "state": state.hexdigest()}
