"""The wire between machines: frames, greetings and connections, over real sockets of this machine."""

import os
import random
import signal
import socket

import numpy as np
import pytest

from shmps.engines.wire.frames import FrameReader, parts_of
from shmps.engines.wire.greeting import GREETING_BYTES, Endpoint, Greeting, new_token
from shmps.engines.wire.post import WirePost
from shmps.errors import WireError
from shmps.ps.messages import PULL, PUSH, SCHEDULER, SERVER, WORKER, Record, with_arrays

HOST = "127.0.0.1"
TOKEN = new_token()
LIMIT = 2**26


class Peers:
    """Makes posts that note which of their connections ended."""

    def __init__(self):
        self.posts, self.ended = [], []

    def post(self, address, life=1, limit=LIMIT, token=TOKEN):
        ended = self.ended

        class Told(WirePost):
            def lost(self, peer, its_life):
                ended.append((address, peer, its_life))

        self.posts.append(Told(address, life, token, HOST, limit=limit))
        return self.posts[-1]

    def receive(self, post, count):
        """Return so many records of a post, while all the others do what they have to do."""
        records = []
        while len(records) < count:
            for each in self.posts:
                came = each.receive_nowait()
                if each is post:
                    records += came
                else:
                    assert not came
        return records

    def turn(self):
        """Let every post do what it has to do."""
        for post in self.posts:
            post.receive_nowait()


@pytest.fixture
def peers():
    made = Peers()
    yield made
    for post in made.posts:
        post.close()


@pytest.fixture
def pair(peers):
    """A server of life 1 and a worker of life 2 that have met: the server learns of the worker's greeting."""
    server, worker = peers.post((SERVER, 0)), peers.post((WORKER, 0), life=2)
    worker.meet((SERVER, 0), server.endpoint)
    return server, worker


@pytest.mark.parametrize("seed", range(20))
def test_frames_come_as_they_were_sent_however_the_stream_is_cut(seed):
    rng = random.Random(seed)
    sent = []
    for number in range(20):
        shapes = [
            rng.choice([(0,), (1,), (7,), (1000,), (7000, 10), (3, 0, 2)]) for _ in range(rng.randrange(4))
        ]
        arrays = [np.ones(shape, rng.choice([np.int64, np.float32])) for shape in shapes]
        sent.append((Record(PUSH, 3, number), arrays))
    data = b"".join(bytes(part) for record, arrays in sent for part in parts_of(with_arrays(record, arrays)))
    here, there = socket.socketpair()
    with here, there:
        there.setblocking(False)
        reader, came, begin = FrameReader(there, LIMIT), [], 0
        while begin < len(data):
            size = rng.choice([1, 50, 72, 5000, 90_000])
            begin += here.send(data[begin : begin + size])
            came += reader.read()
        while len(came) < len(sent):
            came += reader.read()
        assert reader.is_between_frames
        here.close()
        assert reader.read() is None
    for record, (expected, arrays) in zip(came, sent, strict=True):
        assert record == expected
        for mine, its in zip(record.arrays, arrays, strict=True):
            assert mine.dtype == its.dtype and mine.shape == its.shape and np.array_equal(mine, its)


def test_nothing_is_lost_and_nothing_blocks_when_the_network_takes_no_more(peers, pair):
    server, worker = pair
    array = np.random.default_rng(0).random(2**20)  # 8 MB, more than both sockets hold
    numbers = range(8)
    for number in numbers:
        server.send((WORKER, 0), with_arrays(Record(PULL, 0, number, to=2), [array]))
        worker.send((SERVER, 0), with_arrays(Record(PUSH, 0, number, to=1), [array]))
    at_server, at_worker = [], []
    while len(at_server) < 8 or len(at_worker) < 8:
        at_server += server.receive_nowait()
        at_worker += worker.receive_nowait()
    for records in at_server, at_worker:
        assert [record.timestamp for record in records] == list(numbers)
        assert all(np.array_equal(record.arrays[0], array) for record in records)


def test_records_of_one_call_leave_together_and_in_order(peers, pair):
    server, worker = pair
    records = [Record(PULL, 0, number, to=2) for number in range(1000)]
    server.send_all([((WORKER, 0), record) for record in records])
    assert peers.receive(worker, 1000) == records


def test_what_is_sent_before_the_endpoint_is_known_waits_for_it(peers):
    server, worker = peers.post((SERVER, 0)), peers.post((WORKER, 0))
    values = np.arange(5.0)
    worker.send((SERVER, 0), with_arrays(Record(PUSH, 0, 1, to=1), [values]))
    worker.send((SERVER, 0), Record(PUSH, 0, 2, to=1))
    worker.meet((SERVER, 0), server.endpoint)
    worker.send((SERVER, 0), Record(PUSH, 0, 3, to=1))
    came = peers.receive(server, 3)
    assert [record.timestamp for record in came] == [1, 2, 3]
    assert came[0].arrays[0].tolist() == values.tolist()


def test_what_was_kept_for_a_life_does_not_reach_the_next(peers, pair):
    _, worker = pair
    worker.receive_nowait()
    array = np.zeros(2**22)
    for number in range(4):
        worker.send((SERVER, 0), with_arrays(Record(PUSH, 0, number, to=1), [array]))
    successor = peers.post((SERVER, 0), life=5)
    worker.send((SERVER, 0), Record(PUSH, 0, 10, to=5))
    worker.meet((SERVER, 0), successor.endpoint)
    [record] = peers.receive(successor, 1)
    assert record.timestamp == 10


def test_a_connection_to_a_former_life_at_the_same_place_is_refused(peers):
    server, worker = peers.post((SERVER, 0), life=7), peers.post((WORKER, 0))
    worker.meet((SERVER, 0), server.endpoint._replace(life=3))
    worker.send((SERVER, 0), Record(PUSH, 0, 1, to=3))
    while not peers.ended:
        assert not server.receive_nowait()
        worker.receive_nowait()
    assert peers.ended == [((WORKER, 0), (SERVER, 0), 3)]


def test_a_stranger_is_not_heard_and_shuts_nobody_out(peers, pair):
    server, worker = pair
    stranger = peers.post((WORKER, 1), token=new_token())
    stranger.meet((SERVER, 0), server.endpoint)
    stranger.send((SERVER, 0), Record(PUSH, 1, 66, to=1))
    silent = [socket.create_connection(server.endpoint[:2]) for _ in range(300)]
    late = peers.post((WORKER, 2))
    late.meet((SERVER, 0), server.endpoint)
    late.send((SERVER, 0), Record(PUSH, 2, 1, to=1))
    worker.send((SERVER, 0), Record(PUSH, 0, 1, to=1))
    came = {record.sender for record in peers.receive(server, 2)}
    assert came == {0, 2}
    while ((WORKER, 1), (SERVER, 0), 1) not in peers.ended:
        peers.turn()
    for each in silent:
        each.close()


def test_another_version_is_named(peers, monkeypatch):
    server = peers.post((SERVER, 0))
    monkeypatch.setattr("shmps.engines.wire.greeting.__version__", "9.9.9")
    worker = peers.post((WORKER, 4))
    worker.meet((SERVER, 0), server.endpoint)
    worker.flush()
    monkeypatch.undo()
    with pytest.raises(WireError, match=r"same version of shmps, got .* here and 9\.9\.9 at worker 4"):
        server.receive()


def test_arrays_above_the_limit_are_not_read(peers):
    server, worker = peers.post((SERVER, 0), limit=100), peers.post((WORKER, 0))
    worker.meet((SERVER, 0), server.endpoint)
    worker.send((SERVER, 0), with_arrays(Record(PUSH, to=1), [np.zeros(13)]))
    worker.flush()
    with pytest.raises(WireError, match="arrays of 100 bytes in all, got 1 of 104"):
        server.receive()


def test_what_has_left_arrives_though_the_sender_has_ended(peers, pair):
    server, worker = pair
    worker.send((SERVER, 0), with_arrays(Record(PUSH, 0, 1, to=1), [np.zeros(10)]))
    worker.flush()
    peers.posts.remove(worker)
    worker.close()
    [record] = server.receive()
    assert record.timestamp == 1
    while len(peers.ended) < 2:  # from the worker, and to it
        server.receive_nowait()
    assert set(peers.ended) == {((SERVER, 0), (WORKER, 0), 2)}


def test_a_record_goes_behind_all_that_was_sent_to_the_servers(peers):
    scheduler, worker = peers.post((SCHEDULER, 0), life=0), peers.post((WORKER, 0), life=9)
    servers = [peers.post((SERVER, rank), life=rank + 1) for rank in range(2)]
    scheduler.meet((WORKER, 0), worker.endpoint)
    for rank, server in enumerate(servers):
        scheduler.meet((SERVER, rank), server.endpoint)
        scheduler.send((SERVER, rank), with_arrays(Record(PUSH, to=rank + 1), [np.zeros(2**20)]))
    scheduler.send_behind(SERVER, (WORKER, 0), Record(PULL, to=9))
    seen = set()
    while True:
        for rank, server in enumerate(servers):
            seen.update(rank for _ in server.receive_nowait())
        scheduler.receive_nowait()
        if worker.receive_nowait():
            break
    assert seen == {0, 1}


def test_a_death_is_told_with_the_life(peers):
    server = peers.post((SERVER, 0))
    ready, told = os.pipe()
    pid = os.fork()
    if not pid:
        worker = WirePost((WORKER, 0), 3, TOKEN, HOST, limit=LIMIT)
        worker.meet((SERVER, 0), server.endpoint)
        worker.send((SERVER, 0), Record(PUSH, 0, 1, to=1))
        worker.flush()
        os.write(told, b".")
        signal.pause()
    assert os.read(ready, 1) == b"."
    os.close(ready)
    os.close(told)
    server.receive()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while not peers.ended:
        server.receive_nowait()
    assert set(peers.ended) == {((SERVER, 0), (WORKER, 0), 3)}


def test_what_is_sent_to_the_dead_is_dropped(peers):
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]
    server = peers.post((SERVER, 0))
    server.meet((WORKER, 0), Endpoint(HOST, port, 4))
    server.send((WORKER, 0), Record(PULL, to=4))
    while not peers.ended:
        server.receive_nowait()
    assert peers.ended == [((SERVER, 0), (WORKER, 0), 4)]
    server.send((WORKER, 0), Record(PULL, to=4))
    server.flush()


def test_a_greeting_has_one_length_and_comes_back():
    greeting = Greeting((SCHEDULER, 0), Endpoint("2001:db8::1", 65535, 2**40), 7)
    data = greeting.pack(TOKEN)
    assert len(data) == GREETING_BYTES
    assert Greeting.unpack(data, TOKEN) == greeting
    assert Greeting.unpack(data, new_token()) is None


def test_a_record_does_not_wait_for_the_echo_of_a_server_that_has_ended(peers):
    scheduler, worker = peers.post((SCHEDULER, 0), life=0), peers.post((WORKER, 0), life=9)
    server = peers.post((SERVER, 0), life=1)
    scheduler.meet((WORKER, 0), worker.endpoint)
    scheduler.meet((SERVER, 0), server.endpoint)
    scheduler.send_behind(SERVER, (WORKER, 0), Record(PULL, to=9))
    peers.posts.remove(server)
    server.close()
    [record] = peers.receive(worker, 1)
    assert record.op == PULL


def test_a_record_does_not_wait_for_the_echo_of_a_life_that_never_greeted(peers):
    scheduler, worker = peers.post((SCHEDULER, 0), life=0), peers.post((WORKER, 0), life=9)
    scheduler.meet((WORKER, 0), worker.endpoint)
    scheduler.send((SERVER, 0), Record(PUSH, to=1))
    scheduler.send_behind(SERVER, (WORKER, 0), Record(PULL, to=9))
    successor = peers.post((SERVER, 0), life=3)
    scheduler.meet((SERVER, 0), successor.endpoint)
    [record] = peers.receive(worker, 1)
    assert record.op == PULL
