"""The key-value store as one worker sees it. A function that runs on the cluster gets it as `kv`.

push(keys, values) -> Client.start: check, cut keys -> Requests.start: fill the mailboxes, number, commit
                                                    -> Post.send: one record for each server
wait(timestamp)    -> Post.receive -> Client.take_in -> Requests.answer -> values, callbacks
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from shmps.checks import whole
from shmps.errors import UsageError
from shmps.ps.arguments import matrix
from shmps.ps.memory.parameters import Copy, Mirror, Parameters, copy_each
from shmps.ps.messages import ALL, GROUPS, PULL, PUSH, PUSH_PULL, WORKERS
from shmps.ps.updater import Step, Updater
from shmps.ps.worker.client import Client
from shmps.ps.worker.requests import Callback


class KVWorker:
    """The key-value store as one worker sees it. Functions that run on a cluster get one.

    Keys are (k,) int64, sorted and unique; None means all keys. Values have the cluster's dtype and the shape
    (k,) if its width is 1, else (k, width). A timestamp is the number of a request of this worker. Every push
    is a tick, at every server, whichever keys it has.

    rank: this worker's rank. num_workers, num_servers: of the cluster.
    resumed: in a respawned worker, how many pushes of this rank are already committed in this run. Otherwise
    0, except in the first run of a restored Cluster: there the pushes in the copy count too.
    seconds_waiting: seconds that this worker has waited for records.
    now(), sleep(seconds): the clock that all nodes of the cluster share.

    Every method raises UsageError for arguments that break a rule, and NodeDied as soon as a node has died
    that the worker may be waiting for.

    Example (the function runs in every worker)::

        def work(kv):
            kv.push([3, 7], [1.0, 2.0])
            kv.barrier()
            return kv.pull([3, 7])
    """

    def __init__(self, client: Client, num_workers: int, tick: int, updater: Updater, parameters: Parameters):
        self.rank, self.life, self.consistency = client.rank, client.life, client.consistency
        self.num_workers, self.num_servers = num_workers, parameters.shape.servers
        self.updater, self.resumed = updater, 0
        self.now, self.sleep = client.clock.now, client.clock.sleep
        self._client, self._requests = client, client.requests
        self._pulse, self._tick = client.pulse, tick
        self._parameters, self._shape = parameters, parameters.shape

    def enter(self) -> None:
        """Take part: called once, before the function. Completes the pushes of a former life."""
        self._client.enter()
        self.resumed = self.pushes - self._tick

    @property
    def seconds_waiting(self) -> float:
        return self._client.seconds_waiting

    @property
    def pushes(self) -> int:
        """The number of this rank's last push. The first push of a run has the run's first tick plus 1."""
        return self._requests.pushes

    @property
    def versions(self) -> list[int]:
        """The version of each server's parameters that this worker has read last, by server."""
        return list(self._requests.seen)

    # Requests that wait.

    def push(self, keys: Any, values: Any, rows: float = 1.0) -> None:
        """Apply `values` to `keys`; return when every server has applied them.

        rows: the weight of this push among the pushes of its tick (sync): the rows that its mean was taken
        over.
        """
        self.wait(self.start_push(keys, values, rows))

    def pull(self, keys: Any = None, out: np.ndarray | None = None) -> np.ndarray:
        """Return the values of `keys`: a snapshot at one instant of each server.

        out: an array to put them in, contiguous and writeable.
        """
        values: np.ndarray = self.wait(self.start_pull(keys, out=out))
        return values

    def push_pull(
        self, keys: Any, values: Any, rows: float = 1.0, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Push, then pull the same keys, in one request."""
        pulled: np.ndarray = self.wait(self.start_push_pull(keys, values, rows, out=out))
        return pulled

    # The same requests, which return a timestamp at once.

    def start_push(self, keys: Any, values: Any, rows: float = 1.0, callback: Callback | None = None) -> int:
        """Start a `push`; return a timestamp to `wait` for.

        `callback(None)` runs once, inside the first call on this object after every server has answered.
        """
        return self._client.start(PUSH, keys, values, rows, callback, None)

    def start_pull(
        self, keys: Any = None, callback: Callback | None = None, out: np.ndarray | None = None
    ) -> int:
        """Start a `pull`; return a timestamp to `wait` for. A `callback` gets the values, if there is one."""
        return self._client.start(PULL, keys, None, 1.0, callback, out)

    def start_push_pull(
        self,
        keys: Any,
        values: Any,
        rows: float = 1.0,
        callback: Callback | None = None,
        out: np.ndarray | None = None,
    ) -> int:
        """Start a `push_pull`; return a timestamp to `wait` for. A `callback` gets the values."""
        return self._client.start(PUSH_PULL, keys, values, rows, callback, out)

    def wait(self, timestamp: int) -> Any:
        """Wait until every server has answered that request. Return the values of a pull, once."""
        latest = self._requests.timestamp
        if not (isinstance(timestamp, int) and 1 <= timestamp <= latest):
            raise UsageError(
                f"timestamp must be one that this worker got, from 1 to {latest}, got {timestamp!r}"
            )
        self._client.wait_until(lambda: timestamp not in self._requests.under_way)
        self._client.call_back()
        return self._requests.values.pop(timestamp, None)

    # Reading in place.

    def read(self, keys: Any = None) -> np.ndarray:
        """Return values by the fastest way that the engine has: a `look` where nodes share memory.

        On the machines of `Inline` it takes the time of a pull. Once this worker's pushes are acknowledged,
        the values are in sync mode those of a pull. In the other modes other workers' pushes may be in them
        in part, unless the run is recorded: then this is a pull. Do not write to the returned array.
        """
        if self.consistency.reads_by_pull:
            return self.pull(None if keys is None or len(keys) == self._shape.num_keys else keys)
        keys, cuts = self._cut(keys)
        if self._parameters.is_mirror and keys is not None and len(keys) <= self._shape.max_keys:
            return self.pull(keys)
        self._client.clock.read(cuts)
        return self._in_place(keys, cuts)

    def look(self, keys: Any = None) -> np.ndarray:
        """Read values without a message. `keys=None`: the shared array itself, read-only, without a copy.

        While servers write, the values may mix versions (Hogwild's read). In sync mode, once this worker's
        pushes are acknowledged, it is exactly a pull; with `keys=None` only if no penalty is owed (see
        `Updater.lazy`). Recorded runs take looks in sync mode only.
        """
        if self.consistency.reads_by_pull:
            raise UsageError(
                "a look belongs to no version, so a recorded run takes none outside sync mode; use kv.pull"
            )
        return self._in_place(*self._cut(keys))

    def _cut(self, keys: Any) -> tuple[np.ndarray | None, list[int]]:
        return (None, self._shape.bounds) if keys is None else self._client.cut(keys)

    def _in_place(self, keys: np.ndarray | None, cuts: list[int]) -> np.ndarray:
        self._client.call_back()
        if keys is None:
            self._fetch(0, self._shape.num_keys)
        else:
            self._fetch(*(int(keys[0]), int(keys[-1]) + 1) if len(keys) else (0, 0))
        self._requests.seen = self._parameters.versions.tolist()
        if keys is None:
            shared = self._parameters.weights.view()
            shared.flags.writeable = False
            return self._shape.flat(shared)
        out = np.empty((len(keys), self._shape.width))
        for server in range(self.num_servers):
            part = slice(cuts[server], cuts[server + 1])
            self._parameters.read(keys[part], server, self.updater, out[part])
        return self._shape.flat(out)

    def _fetch(self, begin: int, end: int) -> None:
        """Fill the mirror of the keys begin to end - 1, and of all clocks, where nodes share no memory."""
        if isinstance(self._parameters, Mirror):
            for sight in self._client.look(begin, end):
                copy_each(sight.arrays, self._parameters.part_of(sight.sender, begin, end))

    def copy_of_parameters(self) -> Copy:
        """Return weights, updater state and clocks, from which `Cluster(restored=...)` can go on.

        In sync mode, once this worker's pushes are acknowledged, the copy holds exactly their ticks. In the
        other modes the last pushes of other workers may be in it in part, or in it and not counted.
        """
        self._fetch(0, self._shape.num_keys)
        return self._parameters.copy(self.num_workers)

    # Writing in place, on a cluster with consistency=HOGWILD (Niu et al., NIPS 2011).

    def push_in_place(self, keys: Any, values: Any) -> None:
        """Apply `values` to `keys` at once, without a lock, a message or a server: one tick.

        If another worker changes the same keys meanwhile, one of the two changes may be lost. A worker that
        dies in the call leaves a part of the change behind, and its successor may apply the change again.
        """
        keys, _ = self._client.cut(keys)
        gradient = matrix(values, len(keys), self._shape.width)

        def update(weights: np.ndarray, state: np.ndarray, step: Step) -> float:
            values, own = weights[keys], state[keys]
            self.updater.update(keys, gradient, values, own, step)
            weights[keys], state[keys] = values, own
            return self.updater.penalty(step)

        self.tick_in_place(update)

    def tick_in_place(self, update: Callable[[np.ndarray, np.ndarray, Step], float]) -> None:
        """Call `update(weights, state, step)` on the shared arrays (n, width) and (n, width, m), as one tick.

        It must return the penalty of its updates: the amount by which they raise the age (see
        `shmps.updaters.descent`). What may be lost is said in `push_in_place`.
        """
        if not self.consistency.in_place:
            raise UsageError(
                f"updates in place need a Cluster with consistency=HOGWILD, got {self.consistency}; use push"
            )
        self._client.call_back()
        number, parameters = self._requests.pushes + 1, self._parameters
        step = Step(number, float(parameters.ages[0]))
        penalty = update(parameters.weights, self._shape.state_of(parameters.state), step)
        parameters.tick_in_place(self.rank, number, penalty)
        self._requests.pushes = number
        self._pulse.beat()

    # Waiting for each other.

    def barrier(self, group: str = WORKERS) -> None:
        """Wait until all live workers are here; with "all" also until servers have handled earlier requests.

        Deadlock: in sync and bounded mode all workers must push equally often between two barriers. A worker
        that waits here does not push, and another worker's push (sync), or its pull beyond the bound, may
        wait for that push.

        Barriers are counted from the epoch that the worker last asked `ranks` for, or from the start of the
        function. A worker that joins (see `ranks`) waits at the barriers after it has asked for its first
        epoch. It does not wait at earlier barriers, which the others have passed. A function that runs again
        in a dead worker's place does not wait at barriers that this rank has passed. It may begin with a
        later epoch, and must come to the same barriers in each epoch.
        """
        if group not in GROUPS:
            raise UsageError(
                f"group must be {' or '.join(map(repr, GROUPS))}, got {group!r}"
                + ("; servers have no barrier that a worker waits for" if group == "servers" else "")
            )
        if group == ALL:
            self._client.wait_until(lambda: not self._requests.under_way)
        message, place = self._client.meeting.enter_barrier()
        self._client.tell_scheduler(message)
        self._client.wait_until(lambda: self._client.meeting.has_opened(place))
        self._client.call_back()

    def ranks(self, epoch: int) -> list[int]:
        """Return the ranks that share the rows in `epoch` (0, 1, ...), the same to every worker that asks.

        Workers that are added, removed, or given up after their death join or leave with an epoch that nobody
        has asked for before. A worker that joins runs the function from its start: it asks for one epoch
        after another until it finds its rank, as the others did. Its ticks and barriers count from there. So
        ask for an epoch when it begins, after the barriers and pushes of the epoch before. If a worker asks
        too early, the newcomer's clock starts too early, and the others wait for it.
        """
        epoch = whole("epoch", epoch, least=0)
        self._client.tell_scheduler(self._client.meeting.ask(epoch, self._requests.pushes))
        self._client.wait_until(lambda: self._client.meeting.ranks is not None)
        return list(self._client.meeting.ranks or ())

    def ticks(self) -> np.ndarray:
        """Return the clocks of all workers at server 0, (num_workers,) int64; see `Cluster.ticks`."""
        self._fetch(0, 0)
        return self._parameters.done[0, : self.num_workers].copy()

    @property
    def stopping(self) -> bool:
        """Whether `Cluster.stop` asked the function to end. The function may look between two ticks."""
        if self._parameters.is_mirror:
            self._client.take_in_nowait()
        stops = self.consistency.stops(self.rank, self.pushes, self._pulse.stopping)
        if stops:
            self._pulse.note_stop(self.pushes)
        return stops

    def beat(self) -> None:
        """Show a sign of life. Call it in long computations; every call that waits does it too."""
        self._pulse.beat()

    def computed(self, nonzeros: int) -> None:
        """Say that this worker has computed a gradient over so many non-zeros.

        On a virtual clock (`Inline`) the time passes now that the worker's machine takes for it.
        """
        self._client.clock.compute(nonzeros)

    def report(self, value: Any) -> None:
        """Give a picklable `value` to the caller of `run` (its `on_report`) while the run goes on.

        Waits while 256 reports have not been handed over yet; after 64 MiB of reports, until all of them are.
        """
        self._client.wait_until(lambda: self._client.reports.has_room)
        self._client.tell_scheduler(self._client.reports.write(value))
        self._client.take_in_nowait()
        self._client.call_back()

    def leave(self) -> None:
        """End the part of this worker: called once, after the function."""
        self.consistency.must_be_complete(self.rank, self.pushes)
        while self._requests.pulls < self.consistency.pulls_at_the_end(self.rank, self.pushes):
            if not self._requests.pass_former():
                self.start_pull(np.empty(0, np.int64))
        self.flush()

    def flush(self) -> None:
        """Wait until every request of this worker is answered and every callback has run."""
        while self._requests.under_way or self._requests.due:  # a callback may start more
            self._client.wait_until(lambda: not self._requests.under_way)
            self._client.call_back()
