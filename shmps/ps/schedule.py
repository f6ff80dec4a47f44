"""The schedule of a run as data: which push became which version of a server, when each pull was answered.

    servers: events -> Stream            16 bytes each, in the order of the server
                          | Schedule.of  after the run
                          v
    Schedule: pushes, pulls, stops  ---- Replay: the consistency that repeats them

Everything else in a worker is a function of what it pulled, so the schedule determines the run. It tells
nothing of deaths: a pull that is repeated in another life gets the answer that it had.
"""

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy.sparse

from shmps.ps.consistency import Position

# An event in the stream of a server. `value` of a push: its delay. Of a pull: the turn (16 bits), then the
# mailbox slot (16 bits, signed).
EVENT = np.dtype(
    [("version", "<u4"), ("number", "<u4"), ("worker", "<u2"), ("kind", "<u2"), ("value", "<u4")]
)
PUSHED, ANSWERED = range(2)  # kinds
MOST_TURNS, MOST_VERSIONS = 2**16, 2**32

PUSHES = np.dtype(
    [("server", "<u2"), ("version", "<u4"), ("worker", "<u2"), ("number", "<u4"), ("delay", "<u4")]
)
PULLS = np.dtype(
    [("server", "<u2"), ("version", "<u4"), ("worker", "<u2"), ("number", "<u4"), ("turn", "<u2")]
)


class ServerSchedule(NamedTuple):
    """The events of one server, for the look-ups of a replay."""

    pushes: np.ndarray  # PUSHES, in the order of application
    first_push: np.ndarray  # version v has pushes[first_push[v]:first_push[v + 1]]
    pulls: np.ndarray  # PULLS, by version
    first_pull: np.ndarray  # as first_push
    places: dict[int, np.ndarray]  # by worker: its pulls in the order that it makes them, as `place_of`
    versions: dict[int, np.ndarray]  # by worker: the version of each

    def update(self, version: int) -> np.ndarray:
        """Return the pushes that became `version`, as they arrived; none after the last one."""
        return _between(self.pushes, self.first_push, version)

    def due(self, version: int) -> np.ndarray:
        """Return the pulls that were answered at `version`."""
        return _between(self.pulls, self.first_pull, version)

    def version_of(self, pull: Position) -> int | None:
        """Return the version at which a pull was answered; None if there is none like it."""
        places = self.places.get(pull.worker)
        if places is None:
            return None
        place = place_of(pull.number, pull.turn)
        found = int(places.searchsorted(place))
        if found == len(places) or places[found] != place:
            return None
        return int(self.versions[pull.worker][found])


def place_of(number, turn):
    """Return one integer for the place of a pull among the requests of its worker, 1 or more."""
    return number * MOST_TURNS + turn + 1


def _between(events: np.ndarray, first: np.ndarray, version: int) -> np.ndarray:
    return events[first[version] : first[version + 1]] if version + 1 < len(first) else events[:0]


class Schedule:
    """The schedule of a run.

    pushes: PUSHES (k,), in the order in which each server applied them, by server. In sync mode the pushes of
    a tick have one version; they stand in the order of arrival.
    pulls: PULLS (m,), by server, version, worker and the worker's order.
    stops: the pushes after which each worker saw that it should stop, by rank.
    """

    def __init__(self, pushes: np.ndarray, pulls: np.ndarray, stops: dict[int, int]):
        self.pushes, self.pulls, self.stops = pushes, pulls, stops
        self._at: dict[int, ServerSchedule] = {}

    @staticmethod
    def of(streams: Sequence[bytes], committed: Sequence[int], stops: dict[int, int]) -> "Schedule":
        """Return the schedule of the servers' streams.

        committed: the last version of each server. An event of a later one is of an update that a server was
        about to make when it died.
        """
        pushes, pulls = [], []
        for server, (stream, last) in enumerate(zip(streams, committed, strict=True)):
            events = np.frombuffer(stream, EVENT)
            pushed = events[(events["kind"] == PUSHED) & (events["version"] <= last)]
            pushes.append(_filled(PUSHES, pushed, server, delay=pushed["value"]))
            answered = events[events["kind"] == ANSWERED]
            pulls.append(_filled(PULLS, answered, server, turn=answered["value"] % MOST_TURNS))
        every = np.concatenate(pulls)[::-1]
        # A server may die between the note of an answer and its end. The later answer counts.
        _, latest = np.unique(every[["server", "worker", "number", "turn"]], return_index=True)
        every = every[np.sort(latest)]
        order = np.lexsort([every[name] for name in ("turn", "number", "worker", "version", "server")])
        return Schedule(np.concatenate(pushes), every[order], stops)

    @functools.cached_property
    def last(self) -> dict[int, int]:
        """The number of the last push of each worker, by rank."""
        workers, numbers = self.pushes["worker"], self.pushes["number"]
        return {int(rank): int(numbers[workers == rank].max()) for rank in np.unique(workers)}

    def at(self, server: int) -> ServerSchedule:
        """Return the events of one server."""
        if server not in self._at:
            self._at[server] = self._events_of(server)
        return self._at[server]

    def _events_of(self, server: int) -> ServerSchedule:
        pushes = self.pushes[self.pushes["server"] == server]
        pulls = self.pulls[self.pulls["server"] == server]
        places, versions = {}, {}
        for worker in np.unique(pulls["worker"]).tolist():
            own = pulls[pulls["worker"] == worker]
            place = place_of(own["number"].astype(np.int64), own["turn"])
            order = np.argsort(place)
            places[worker], versions[worker] = place[order], own["version"][order]
        return ServerSchedule(
            pushes, _first(pushes["version"]), pulls, _first(pulls["version"]), places, versions
        )

    def fault(self, servers: int, workers: int, awaited: bool = False) -> str:
        """Return what no run could have done; "" if there is nothing of the kind.

        awaited: workers wait for each pull before they make the next request, as the trainer does.
        """
        for name, events in ("pushes", self.pushes), ("pulls", self.pulls):
            for role, count in ("server", servers), ("worker", workers):
                if len(events) and events[role].max() >= count:
                    return f"{name} must name a {role} below {count}, got {events[role].max()}"
        fault = next(filter(None, map(self._fault_at, range(servers))), "")
        return fault or (
            "" if self._has_order(servers, awaited) else "no run could have this order of events"
        )

    def _has_order(self, servers: int, awaited: bool) -> bool:
        """Return whether no event has to come before itself.

        The graph has a node for each version of a server, each request of a worker, and each answer of a
        server to a pull. An edge says what comes first.
        """
        # Not at the top: it imports the solvers of scipy.sparse, which takes longer than all of shmps.ps.
        from scipy.sparse.csgraph import connected_components

        pushes, pulls = self.pushes, self.pulls
        lengths = [len(self.at(server).first_push) - 1 for server in range(servers)]
        begins = np.append(0, np.cumsum(lengths))
        keys = [
            (events["worker"].astype(np.uint64) << 48) + (events["number"].astype(np.uint64) << 16) + turn
            for events, turn in ((pushes, 0), (pulls, pulls["turn"].astype(np.uint64) + 1))
        ]
        requests, request = np.unique(np.concatenate(keys), return_inverse=True)
        request += begins[-1]
        of_push, of_pull = np.split(request, [len(pushes)])
        answer = np.arange(len(pulls)) + begins[-1] + len(requests)
        applied, read = (begins[each["server"]] + each["version"] for each in (pushes, pulls))
        last = np.isin(read, begins[1:] - 1)
        following = np.flatnonzero(np.diff(requests.astype(np.uint64) >> 48) == 0) + begins[-1]
        edges = [
            (of_push, applied),
            (of_pull, answer),
            (read, answer),
            (answer[~last], read[~last] + 1),
            (following, following + 1),
            *((np.arange(begin, end - 1), np.arange(begin + 1, end)) for begin, end in pairwise(begins)),
        ]
        if awaited:
            goes_on = np.isin(of_pull, following)
            edges.append((answer[goes_on], of_pull[goes_on] + 1))
        heads, tails = (np.concatenate(ends) for ends in zip(*edges, strict=True))
        count = int(begins[-1]) + len(requests) + len(pulls)
        graph = scipy.sparse.coo_array((np.ones(len(heads), np.int8), (heads, tails)), (count, count))
        components, _ = connected_components(graph, directed=True, connection="strong")
        return components == count

    def _fault_at(self, server: int) -> str:
        here = self.at(server)
        steps = np.diff(here.pushes["version"].astype(np.int64), prepend=0)
        if not np.isin(steps, (0, 1)).all() or (len(steps) and steps[0] != 1):
            return f"versions of server {server} must be 1, 2, ..., got a gap"
        if (here.pushes["delay"] >= here.pushes["version"]).any():
            return f"delays at server {server} must be less than the version of the push"
        for worker in {*np.unique(here.pushes["worker"]).tolist(), *here.places}:
            own = here.pushes[here.pushes["worker"] == worker]
            if not np.array_equal(own["number"], np.arange(1, len(own) + 1)):
                return f"server {server} must have the pushes 1, 2, ... of worker {worker}, got another order"
            places, versions = here.places.get(worker), here.versions.get(worker)
            if places is None or versions is None:
                continue
            after = np.append(0, own["version"])
            if versions.max() >= len(here.first_push) - 1:
                return f"the pulls of server {server} must be at its versions, got {versions.max()}"
            before = np.minimum((places - 1) // MOST_TURNS, len(own))
            if (versions < after[before]).any():
                return f"a pull of worker {worker} at server {server} must come after the worker's push"
        return ""


NOTHING = Schedule(np.empty(0, PUSHES), np.empty(0, PULLS), {})


def _filled(dtype: np.dtype, events: np.ndarray, server: int, **more: np.ndarray) -> np.ndarray:
    filled = np.zeros(len(events), dtype)
    filled["server"] = server
    for name in "version", "worker", "number":
        filled[name] = events[name]
    for name, values in more.items():
        filled[name] = values
    return filled


def _first(versions: np.ndarray) -> np.ndarray:
    """Return the index of the first entry of each version 0, 1, ..., and of the one after the last."""
    return np.searchsorted(versions, np.arange(int(versions.max(initial=0)) + 2))
