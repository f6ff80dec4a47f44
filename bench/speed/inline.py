"""The inline engine: the time of a request beside what the parameter server itself takes, and many workers.

Async, one server. Four measurements of REQUESTS requests of FIXED_KEYS keys each take turns, a pull and a
push apart, in processor time, since other programs on the machine would count as wall time:

    inline      `kv.pull(keys, out=out)` and `kv.push(keys, values)` by one worker of an inline cluster
    bare        the same calls of the worker's and the server's code, without an engine: the record is handed
                to `Server.handle`, and the answer to the worker
    copies      the memory copies of a request alone, by NumPy

start: a run of an empty function on WORKERS workers of an inline cluster: their threads start, enter, finish
and end. The baton: the processor time that two threads take to pass it once, by two locks.

Results, spreads over the repeats: "requests": [{"what", "pull_us", "push_us"}]; "start": {"cpu_seconds",
"wall_seconds"}; "baton_us".
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.record import markdown, shown, spread
from bench.timing import progress
from shmps import ASYNC, SGD, Cluster, Inline, KVWorker
from shmps.engines.roles import server_on, worker_on
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.parameters import Parameters
from shmps.ps.messages import Enter, Record, Start
from shmps.system.memory import carve

FIXED_KEYS, PARAMETERS = 128, 1000
WORKERS = 1000


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    repeats, requests = (2, 500) if quick else (9, 3000)
    ways = {"inline": _inline, "bare": _bare, "copies": _copies}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    starts, batons = [], []
    with progress("inline", repeats) as bar:
        for _ in range(repeats):
            for name, way in ways.items():
                spent[name].append(way(requests))
            starts.append(_start())
            batons.append(_baton(requests))
            bar.update()
    rows = []
    for name, pairs in spent.items():
        pulls, pushes = zip(*pairs, strict=True)
        rows.append({"what": name, "pull_us": spread(pulls), "push_us": spread(pushes)})
    cpu, wall = zip(*starts, strict=True)
    start = {"cpu_seconds": spread(cpu), "wall_seconds": spread(wall)}
    settings = {"keys": FIXED_KEYS, "parameters": PARAMETERS, "workers": WORKERS, "requests": requests}
    settings["repeats"] = repeats
    return settings, {"requests": rows, "start": start, "baton_us": spread(batons)}


def _keys() -> np.ndarray:
    return np.arange(FIXED_KEYS) * (PARAMETERS // FIXED_KEYS)


def _microseconds(call: Callable[[], Any], times: int) -> float:
    for _ in range(times // 10):
        call()
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times * 1e6


def _pull_and_push(kv: KVWorker, requests: int) -> tuple[float, float]:
    keys, values, out = _keys(), np.ones(FIXED_KEYS), np.empty(FIXED_KEYS)
    pull = _microseconds(lambda: kv.pull(keys, out=out), requests)
    return pull, _microseconds(lambda: kv.push(keys, values), requests)


def _inline(requests: int) -> tuple[float, float]:
    with Cluster(
        PARAMETERS, servers=1, workers=1, consistency=ASYNC, updater=SGD(0.1), engine=Inline()
    ) as cluster:
        [times] = cluster.run(_pull_and_push, requests)
    pull, push = times
    return pull, push


class _Direct:
    """A post that hands every record to the server at once, and a clock that stands still."""

    def __init__(self) -> None:
        self.server: Any = None
        self.answers: list[Record] = []

    def send(self, address: Any, record: Record) -> None:
        self.answers += [answer for _, answer in self.server.handle(record)]

    def receive_until(self, condition: Any, take: Any) -> None:
        while not condition():
            answers, self.answers = self.answers, []
            take(answers)

    def now(self) -> float:
        return 0.0

    sleep: Any = None


def _bare(requests: int) -> tuple[float, float]:
    shape = Shape(PARAMETERS, 1, 0, servers=1, workers=1, max_keys=PARAMETERS)
    fields = shape.parameter_fields(), shape.mailbox_fields()
    memory, arrays = (carve(each, bytearray(carve(each)[1]))[0] for each in fields)
    parameters, direct, updater = Parameters(shape, memory), _Direct(), SGD(0.1)
    direct.server = server_on(parameters, arrays, 0, 1, ASYNC, updater, streams=[])
    post: Any = direct
    kv = worker_on(parameters, arrays, 0, 2, 1, 0, ASYNC, updater, post, post, post)
    direct.server.handle(Record.of(Start(1), to=1))
    direct.send(None, Record.of(Enter(0, 2, 0), to=1))
    kv.enter()
    return _pull_and_push(kv, requests)


def _copies(requests: int) -> tuple[float, float]:
    """A pull gathers into the mailbox, and copies out of it; a push copies in, gathers, and scatters."""
    keys, weights, box, out = _keys(), np.zeros(PARAMETERS), np.empty(FIXED_KEYS), np.empty(FIXED_KEYS)

    def pull() -> None:
        np.take(weights, keys, out=box)
        out[:] = box

    def push() -> None:
        box[:] = out
        np.take(weights, keys, out=out)
        weights[keys] = out

    return _microseconds(pull, requests), _microseconds(push, requests)


def _start() -> tuple[float, float]:
    with Cluster(PARAMETERS, servers=1, workers=WORKERS, consistency=ASYNC, engine=Inline()) as cluster:
        began = time.process_time(), time.perf_counter()
        cluster.run(lambda kv: None)
        return time.process_time() - began[0], time.perf_counter() - began[1]


def _baton(times: int) -> float:
    mine, theirs = threading.Lock(), threading.Lock()
    mine.acquire()
    theirs.acquire()

    def other() -> None:
        for _ in range(times):
            theirs.acquire()
            mine.release()

    thread = threading.Thread(target=other)
    thread.start()
    began = time.process_time()
    for _ in range(times):
        theirs.release()
        mine.acquire()
    spent = time.process_time() - began
    thread.join()
    return spent / times / 2 * 1e6


_NAMES = {
    "inline": "inline engine",
    "bare": "worker and server, without an engine",
    "copies": "memory copies alone",
}


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = [
        [_NAMES[row["what"]], shown(row["pull_us"], ".1f"), shown(row["push_us"], ".1f")]
        for row in results["requests"]
    ]
    start = results["start"]
    cpu, wall = (shown(start[name], ".2f") for name in ("cpu_seconds", "wall_seconds"))
    return (
        f"{markdown(['', 'pull, µs', 'push, µs'], rows)}\n\n"
        f"Microseconds of processor time for a request of {settings['keys']} keys; median (min to max) of "
        f"{settings['repeats']} repeats. A run of an empty function on {settings['workers']:,} workers takes "
        f"{cpu} s of processor time and {wall} s of wall time. Two threads pass the baton in "
        f"{shown(results['baton_us'], '.1f')} µs of processor time."
    )
