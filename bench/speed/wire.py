"""Microseconds of a request and its answer between two processes over TCP, by ways to send them.

The request carries k keys and k values (16 k bytes), the answer k values (8 k bytes), each behind a record of
64 bytes. The client waits for each answer. Both processes run on this machine, and the ways take turns:

    shmps         `shmps.engines.wire.post.WirePost`: sockets that do not block, and epoll
    blocking      bare sockets, one peer: a limit, since a node waits for many peers at once
    asyncio       streams
    ZeroMQ        DEALER and ROUTER

Results: "points": [{"keys", "ways": [{"name", "p50_us", "p99_us", "ratio" (to shmps in the same repeat)}]}];
"missing": packages that are not installed. A tenth of the requests comes before the counted ones.
"""

import asyncio
import contextlib
import multiprocessing
import socket
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from bench.record import markdown, ratio, shown, spread
from bench.timing import progress
from shmps.engines.wire.greeting import new_token
from shmps.engines.wire.post import WirePost
from shmps.ps.messages import ANSWER, PUSH, RECORD_BYTES, SERVER, WORKER, Record, with_arrays

KEYS = (128, 10_000, 1_000_000)
SHMPS = "shmps"
HOST = "127.0.0.1"

# One end of a connection: exchange(request, answer) sends the first array, and fills the second.
Exchange = Callable[[np.ndarray, np.ndarray], None]


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    repeats, requests = (1, {128: 200, 10_000: 100, 1_000_000: 5}) if quick else (
        9, {128: 3000, 10_000: 1000, 1_000_000: 50}
    )  # fmt: skip
    ways, missing = _ways()
    points = []
    with progress("wire", len(KEYS) * repeats * len(ways)) as bar:
        for keys in KEYS:
            spent: dict[str, list[np.ndarray]] = {name: [] for name in ways}
            for _ in range(repeats):
                for name, way in ways.items():
                    spent[name].append(way(keys, requests[keys]))
                    bar.update()
            points.append({"keys": keys, "ways": [_summary(name, spent) for name in ways]})
    return {"rounds": repeats, "requests": list(requests.values())}, {"points": points, "missing": missing}


def _summary(name: str, spent: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    percentiles = {
        f"p{q}_us": spread(1e6 * np.percentile(seconds, q) for seconds in spent[name]) for q in (50, 99)
    }
    relative = ratio(map(np.median, spent[name]), map(np.median, spent[SHMPS]))
    return {"name": name, **percentiles, "ratio": relative}


def _ways() -> tuple[dict[str, Callable[[int, int], np.ndarray]], list[str]]:
    ways: dict[str, Callable[[int, int], np.ndarray]] = {
        SHMPS: _wire,
        "blocking sockets": _blocking,
        "asyncio": _asyncio,
        "ZeroMQ": _zeromq,
    }
    missing = [] if find_spec("zmq") else ["zmq"]
    if missing:
        del ways["ZeroMQ"]
    return ways, missing


def _arrays(keys: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what a request carries, and what an answer carries."""
    return np.ones(2 * keys), np.zeros(keys)


def _timed(keys: int, requests: int, exchange: Exchange) -> np.ndarray:
    request, answer = _arrays(keys)
    seconds = []
    for _ in range(requests + requests // 10):
        begin = time.perf_counter()
        exchange(request, answer)
        seconds.append(time.perf_counter() - begin)
    return np.array(seconds[requests // 10 :])


def _beside(serve: Callable[..., None], *args: Any) -> Any:
    process = multiprocessing.get_context("fork").Process(target=serve, args=args, daemon=True)
    process.start()
    return process


def _wire(keys: int, requests: int) -> np.ndarray:
    token, (here, there) = new_token(), multiprocessing.get_context("fork").Pipe()

    def post(address: tuple[int, int]) -> WirePost:
        return WirePost(address, 1, token, HOST, limit=2**30)

    def serve() -> None:
        server = post((SERVER, 0))
        there.send(server.endpoint)
        server.meet((WORKER, 0), there.recv())
        request, answer = _arrays(keys)
        while True:
            for record in server.receive():
                request[:] = record.arrays[0]
                server.send((WORKER, 0), with_arrays(Record(ANSWER), [answer]))

    process, worker = _beside(serve), post((WORKER, 0))
    worker.meet((SERVER, 0), here.recv())
    here.send(worker.endpoint)

    def exchange(request: np.ndarray, answer: np.ndarray) -> None:
        worker.send((SERVER, 0), with_arrays(Record(PUSH), [request]))
        [record] = worker.receive()
        answer[:] = record.arrays[0]

    seconds = _timed(keys, requests, exchange)
    process.kill()
    process.join()
    worker.close()
    return seconds


def _receive_exactly(connection: socket.socket, data: memoryview) -> None:
    while data:
        data = data[connection.recv_into(data) :]


def _blocking(keys: int, requests: int) -> np.ndarray:
    header = bytes(RECORD_BYTES)

    def exchange_on(connection: socket.socket, out: np.ndarray, into: np.ndarray, begins: bool) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        parts = [memoryview(header), out.data.cast("B")]
        if begins:
            _send_all(connection, parts)
        _receive_exactly(connection, memoryview(bytearray(RECORD_BYTES)))
        _receive_exactly(connection, into.data.cast("B"))
        if not begins:
            _send_all(connection, parts)

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        request, answer = _arrays(keys)
        while True:
            exchange_on(connection, answer, request, begins=False)

    with socket.create_server((HOST, 0)) as listener:
        process = _beside(serve, listener)
        with socket.create_connection(listener.getsockname()) as connection:
            seconds = _timed(
                keys, requests, lambda request, answer: exchange_on(connection, request, answer, begins=True)
            )
            process.kill()
            process.join()
    return seconds


def _send_all(connection: socket.socket, parts: list[memoryview]) -> None:
    sent = connection.sendmsg(parts)
    for part in parts:
        if sent < len(part):
            connection.sendall(part[sent:])
        sent = max(0, sent - len(part))


def _asyncio(keys: int, requests: int) -> np.ndarray:
    header = bytes(RECORD_BYTES)

    async def answer_to(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request, answer = _arrays(keys)
        with contextlib.suppress(asyncio.IncompleteReadError):  # the client has ended
            while True:
                await reader.readexactly(RECORD_BYTES)
                request[:] = np.frombuffer(await reader.readexactly(request.nbytes))
                writer.writelines([header, answer.data])
                await writer.drain()

    async def serve(listener: socket.socket) -> None:
        server = await asyncio.start_server(answer_to, sock=listener, limit=2**24)
        await server.serve_forever()

    async def ask(address: tuple[str, int]) -> np.ndarray:
        reader, writer = await asyncio.open_connection(*address, limit=2**24)
        request, answer = _arrays(keys)
        seconds = []
        for _ in range(requests + requests // 10):
            begin = time.perf_counter()
            writer.writelines([header, request.data])
            await writer.drain()
            await reader.readexactly(RECORD_BYTES)
            answer[:] = np.frombuffer(await reader.readexactly(answer.nbytes))
            seconds.append(time.perf_counter() - begin)
        writer.close()
        return np.array(seconds[requests // 10 :])

    with socket.create_server((HOST, 0)) as listener:
        process = _beside(lambda: asyncio.run(serve(listener)))
        seconds = asyncio.run(ask(listener.getsockname()))
        process.kill()
        process.join()
    return seconds


def _zeromq(keys: int, requests: int) -> np.ndarray:
    import zmq

    header = bytes(RECORD_BYTES)
    here, there = multiprocessing.get_context("fork").Pipe()

    def serve() -> None:
        request, answer = _arrays(keys)
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            there.send(socket.bind_to_random_port(f"tcp://{HOST}"))
            while True:
                identity, _, payload = socket.recv_multipart(copy=False)
                request[:] = np.frombuffer(payload)
                socket.send_multipart([identity, header, answer], copy=False)

    process = _beside(serve)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(f"tcp://{HOST}:{here.recv()}")

        def exchange(request: np.ndarray, answer: np.ndarray) -> None:
            socket.send_multipart([header, request], copy=False)
            answer[:] = np.frombuffer(socket.recv_multipart(copy=False)[1])

        seconds = _timed(keys, requests, exchange)
        process.kill()
        process.join()
    return seconds


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    texts = [
        f"A request and its answer over TCP on one machine, in µs; median (min to max) of "
        f"{settings['rounds']} repeats.",
        markdown(
            ["keys", "way", "p50", "p99", "relative to shmps"],
            [
                (
                    f"{point['keys']:,}",
                    way["name"],
                    *(shown(way[name]) for name in ("p50_us", "p99_us")),
                    shown(way["ratio"], ".1f"),
                )
                for point in results["points"]
                for way in point["ways"]
            ],
        ),
    ]
    if results["missing"]:
        texts.append(f"Not installed: {', '.join(results['missing'])}.")
    return "\n\n".join(texts)
