"""Inboxes and mailboxes, with real processes and real pipes."""

import multiprocessing
import os
import resource
import signal

import numpy as np
import pytest

from shmps.engines.event_file import EventFile
from shmps.engines.processes.pipes import Inboxes, Post
from shmps.engines.processes.store import Store
from shmps.errors import OutOfSpace
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.mailbox import DENSE, Mailbox
from shmps.ps.messages import PULL, PUSH, RECORD_BYTES, SCHEDULER, SERVER, WORKER, Record, pack, unpack
from shmps.system.memory import NamelessMemory, available_memory, carve

fork = multiprocessing.get_context("fork")


@pytest.fixture
def inboxes():
    made = Inboxes(servers=1, workers=3)
    yield made
    made.close()


def test_a_record_is_64_bytes_and_comes_back_as_it_was():
    record = Record(PUSH, 1, 2**40, 3, 4, 2**62, 6, 7)
    assert len(pack(record)) == RECORD_BYTES == 64
    assert unpack(pack(record) * 2) == [record, record]


def test_many_writers_need_no_lock(inboxes):
    def write(rank):
        post = Post(inboxes, (WORKER, rank))
        for number in range(300):
            post.send((SERVER, 0), Record(PUSH, rank, number))

    writers = [fork.Process(target=write, args=(rank,)) for rank in range(3)]
    for writer in writers:
        writer.start()
    post, arrived = Post(inboxes, (SERVER, 0)), {0: [], 1: [], 2: []}
    while sum(map(len, arrived.values())) < 900:
        for record in post.receive():
            arrived[record.sender].append(record.timestamp)
    for writer in writers:
        writer.join()
    assert all(numbers == list(range(300)) for numbers in arrived.values())


def test_a_full_pipe_blocks_nobody_and_loses_nothing(inboxes):
    server, worker = Post(inboxes, (SERVER, 0)), Post(inboxes, (WORKER, 0))
    records = 5000  # a pipe takes about a thousand
    for number in range(records):
        server.send((WORKER, 0), Record(PULL, 0, number))
        worker.send((SERVER, 0), Record(PUSH, 0, number))
    got = {PULL: [], PUSH: []}
    while len(got[PULL]) < records or len(got[PUSH]) < records:
        for record in worker.receive_nowait() + server.receive_nowait():
            got[record.op].append(record.timestamp)
    assert got[PULL] == got[PUSH] == list(range(records))


def test_a_node_that_waits_for_an_answer_also_sends_its_kept_records(inboxes):
    def echo():
        post, records = Post(inboxes, (SERVER, 0)), []
        while len(records) < 3000:  # answers only after all have come
            records += post.receive()
        post.send_all([((WORKER, 0), record) for record in records])
        post.flush()

    post, got = Post(inboxes, (WORKER, 0)), []
    for number in range(3000):
        post.send((SERVER, 0), Record(PUSH, 0, number))
    process = fork.Process(target=echo)
    process.start()
    while len(got) < 3000:
        got += [record.timestamp for record in post.receive()]
    process.join()
    assert got == list(range(3000))


def test_a_record_sent_behind_others_waits_for_them_and_its_sender_does_not(inboxes):
    scheduler, server, worker = (
        Post(inboxes, address) for address in ((SCHEDULER, 0), (SERVER, 0), (WORKER, 0))
    )
    for number in range(2000):
        scheduler.send((SERVER, 0), Record(PUSH, 0, number))
    for number in (1, 2):
        scheduler.send_behind(SERVER, (WORKER, 0), Record(PULL, 0, number))
    scheduler.send_behind(WORKER, (WORKER, 0), Record(PULL, 0, 0))  # behind nothing
    got = []
    while len(got) < 3:
        server.receive_nowait()
        assert scheduler.receive_nowait() == []
        got += [record.timestamp for record in worker.receive_nowait()]
        assert got == [0] or not scheduler._kept
    assert got == [0, 1, 2]


def test_a_mailbox_is_seen_by_both_sides():
    shape = Shape(num_keys=10, width=2, state_width=0, servers=2, workers=2, max_keys=4)
    store = Store(shape)

    def fill():
        box = Mailbox(store.mailboxes(), shape, 1, 1)
        box.keys[2][:] = [5, 6, 8, 9]
        box.values[2][:] = 3.5
        box.values[DENSE][:] = 4.5

    process = fork.Process(target=fill)
    process.start()
    process.join()
    box = Mailbox(store.mailboxes(), shape, 1, 1)
    assert box.keys[2].tolist() == [5, 6, 8, 9]
    assert (box.values[2] == 3.5).all() and box.values[2].shape == (4, 2)
    assert (box.values[DENSE] == 4.5).all() and box.values[DENSE].shape == (5, 2)
    other = Mailbox(store.mailboxes(), shape, 1, 0)
    assert not any(np.any(values) for values in other.values)
    store.close()


def test_workers_cannot_write_parameters():
    store = Store(Shape(4, 1, 0, 1, 1, 4))
    weights = store.parameters()["weights"]
    with pytest.raises(ValueError, match="read-only"):
        weights[0] = 1.0
    with pytest.raises(ValueError, match="WRITEABLE"):
        weights.flags.writeable = True
    store.close()


def test_an_array_does_not_outlive_its_memory():
    memory = NamelessMemory(4096)
    [array] = carve({"a": (np.float64, (4,))}, memory.all())[0].values()
    array[:] = 2.0
    memory.close()
    assert array.tolist() == [2.0] * 4


def test_too_little_memory_is_an_error_before_anything_is_allocated():
    with pytest.raises(OutOfSpace, match="MiB are available"):
        NamelessMemory(available_memory() + 2**30)


def test_the_events_of_a_killed_server_are_whole_and_its_successor_goes_on_after_them():
    file, count = EventFile(), 40_000  # more than fit without growing

    def serve(begin):
        assert len(file.read()) == 16 * begin
        for number in range(begin, begin + count):
            file.append(number.to_bytes(16, "little"))
        os.kill(os.getpid(), signal.SIGKILL)

    for begin in (0, count):
        process = fork.Process(target=serve, args=(begin,))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert np.frombuffer(file.read(), np.int64)[::2].tolist() == list(range(2 * count))
    file.cut(32)
    file.append(bytes(16))
    assert np.frombuffer(file.read(), np.int64).tolist() == [0, 0, 1, 0, 0, 0]
    file.close()


def test_a_journal_that_has_no_room_is_an_error_and_keeps_what_it_has():
    file, noted = EventFile(), 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, limits[1]))
    try:
        with pytest.raises(OutOfSpace, match=r"the journal of a server must fit in memory, .* \(ulimit -f\)"):
            while noted < 2**20:
                file.append(bytes([1] * 2**12))
                noted += 2**12
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 2**17 < noted < 2**19 and file.read() == bytes([1] * noted)
    file.append(b"2" * 16)
    assert file.read() == bytes([1] * noted) + b"2" * 16
    file.close()
