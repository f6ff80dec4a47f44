"""An array in another process: shmps, and other means of inter-process communication in plain Python.

`means()` returns measurements: functions of (parameters, keys of each request, values). A measurement pushes
`values` to the keys of each request, gets the new values back, and returns the seconds of each request.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing.managers import BaseManager
from typing import Any

import numpy as np

from shmps import ASYNC, SGD, Cluster, KVWorker

RATE = 0.1
PushPull = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of keys and values, returns the new values
Measurement = Callable[[int, list[np.ndarray], np.ndarray], np.ndarray]
SHMPS = "shmps"


class Array:
    """The array that the other process holds."""

    def __init__(self, size: int):
        self._values = np.zeros(size)

    def push_pull(self, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        self._values[keys] -= RATE * values
        return self._values[keys]


def means() -> tuple[dict[str, Measurement], list[str]]:
    """Return the measurements by name, shmps first, and the packages that are not installed."""
    packages = {
        "multiprocessing.Pipe": (_pipe, ""),
        "multiprocessing.Manager": (_manager, ""),
        "ZeroMQ, ipc": (_zeromq, "zmq"),
        "Ray": (_ray, "ray"),
    }
    missing = [package for _, package in packages.values() if package and not find_spec(package)]
    found = {name: _isolated(each) for name, (each, package) in packages.items() if package not in missing}
    return {SHMPS: _shmps, **found}, missing


def timed(push_pull: PushPull, keys: Iterable[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Return the seconds of each request."""
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
    kv.pull()  # the server maps every page of the parameters
    return timed(kv.push_pull, keys, values)


def _isolated(measure: Measurement) -> Measurement:
    """Run the measurement in a process of its own, which ends the package's threads and services."""

    def run(size: int, keys: list[np.ndarray], values: np.ndarray) -> np.ndarray:
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
            return pool.submit(measure, size, keys, values).result()

    return run


def _pipe(size: int, keys: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    client, server = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve_pipe, args=(server, size))
    process.start()

    def push_pull(some: np.ndarray, values: np.ndarray) -> np.ndarray:
        client.send((some, values))
        return client.recv()

    seconds = timed(push_pull, keys, values)
    client.send(None)
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
