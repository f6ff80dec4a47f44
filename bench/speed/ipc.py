"""An array in another process by other means than shmps, each as one would write it in Python.

`means()` gives functions of (parameters, requests: list of keys, values) that push `values` to the keys of
each request, get the new values back, and return the seconds of each.
"""

import importlib.util
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.managers import BaseManager
from typing import Any

import numpy as np

from shmps import ASYNC, SGD, Cluster, KVWorker

RATE = 0.1
PushPull = Callable[[np.ndarray, np.ndarray], np.ndarray]
OURS = "shmps"


class Array:
    """What the other process holds."""

    def __init__(self, size: int):
        self._values = np.zeros(size)

    def push_pull(self, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        self._values[keys] -= RATE * values
        return self._values[keys]


def means() -> tuple[dict[str, Callable[..., np.ndarray]], list[str]]:
    """Those that can be had, by name, shmps first; and the packages that are not installed."""
    needs = {
        "multiprocessing.Pipe": (_pipe, ""),
        "multiprocessing.Manager": (_manager, ""),
        "ZeroMQ, ipc": (_zeromq, "zmq"),
        "Ray": (_ray, "ray"),
    }
    missing = [package for _, package in needs.values() if package and not importlib.util.find_spec(package)]
    found = {name: _alone(each) for name, (each, package) in needs.items() if package not in missing}
    return {OURS: _shmps, **found}, missing


def timed(push_pull: PushPull, keys: Iterable[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Seconds of each request."""
    seconds = []
    for some in keys:
        start = time.perf_counter()
        push_pull(some, values)
        seconds.append(time.perf_counter() - start)
    return np.array(seconds)


def _shmps(size: int, keys: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    cluster = Cluster(
        size, servers=1, workers=1, consistency=ASYNC, updater=SGD(RATE), max_keys=len(values)
    )  # fmt: skip
    with cluster:
        return cluster.run(_session, keys, values)[0]


def _session(kv: KVWorker, keys: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    kv.pull()  # so that the server has every page of the parameters mapped
    return timed(kv.push_pull, keys, values)


def _alone(measure: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """In a process of its own: what a package starts in it (threads, services) goes with it."""

    def run(*args: Any) -> np.ndarray:
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
            return pool.submit(measure, *args).result()

    return run


def _pipe(size: int, keys: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve_pipe, args=(theirs, size))
    process.start()

    def push_pull(some: np.ndarray, values: np.ndarray) -> np.ndarray:
        ours.send((some, values))
        return ours.recv()

    seconds = timed(push_pull, keys, values)
    ours.send(None)
    process.join()
    return seconds


def _serve_pipe(connection: Any, size: int) -> None:
    array = Array(size)
    while (request := connection.recv()) is not None:
        connection.send(array.push_pull(*request))


def _manager(size: int, keys: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    class Manager(BaseManager): ...

    Manager.register("Array", Array)
    with Manager(ctx=multiprocessing.get_context("fork")) as manager:
        return timed(manager.Array(size).push_pull, keys, values)  # type: ignore[attr-defined]


def _zeromq(size: int, keys: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    import zmq

    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{folder}/socket"
        process = multiprocessing.Process(target=_serve_zeromq, args=(address, size))
        process.start()
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.connect(address)

            def push_pull(some: np.ndarray, values: np.ndarray) -> np.ndarray:
                socket.send_multipart([some, values], copy=False)
                return np.frombuffer(socket.recv())

            seconds = timed(push_pull, keys, values)
            socket.send(b"")
            process.join()
    return seconds


def _serve_zeromq(address: str, size: int) -> None:
    import zmq

    array = Array(size)
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.bind(address)
        while len(parts := socket.recv_multipart()) == 2:
            socket.send(array.push_pull(np.frombuffer(parts[0], np.int64), np.frombuffer(parts[1])))


def _ray(size: int, keys: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
    actor = ray.remote(Array).remote(size)
    seconds = timed(lambda *request: ray.get(actor.push_pull.remote(*request)), keys, values)
    ray.shutdown()
    return seconds
