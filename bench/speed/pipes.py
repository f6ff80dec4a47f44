"""The limit that pipes set: processes exchange records of 64 bytes and do nothing else."""

import os
import struct
import time

_RECORD = struct.Struct("<8q")


def pushes_per_second(workers: int, pushes: int, sync: bool) -> float:
    """Measure `workers` processes that send `pushes` records each to this process, which answers.

    Sync: this process answers when every worker has sent a record, and workers wait for the answer. Async: a
    worker also sends a pull before each push, and waits only for the pull's answer. All records go through
    one inbox with plain os.read and os.write, without any array. A parameter server can at best come near
    this.
    """
    inbox, replies = os.pipe(), [os.pipe() for _ in range(workers)]
    began = time.perf_counter()
    pids = [_fork(rank, pushes, sync, inbox[1], replies[rank][0]) for rank in range(workers)]
    held: list[tuple[int, ...]] = []
    left = workers * pushes * (1 if sync else 2)
    while left:
        for record in _RECORD.iter_unpack(os.read(inbox[0], 1 << 16)):
            held.append(record)
            left -= 1
            if not sync or len(held) == workers:
                for answer in held:
                    os.write(replies[answer[1]][1], _RECORD.pack(*answer))
                held.clear()
    for pid in pids:
        os.waitpid(pid, 0)
    seconds = time.perf_counter() - began
    for ends in (inbox, *replies):
        for end in ends:
            os.close(end)
    return workers * pushes / seconds


def _fork(rank: int, pushes: int, sync: bool, inbox: int, replies: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    push, pull = 1, 2
    for number in range(pushes):
        if not sync:
            os.write(inbox, _RECORD.pack(pull, rank, number, 0, 0, 0, 0, 0))
            while all(record[0] != pull for record in _RECORD.iter_unpack(os.read(replies, 1 << 16))):
                pass
        os.write(inbox, _RECORD.pack(push, rank, number, 0, 0, 0, 0, 0))
        if sync:
            os.read(replies, 1 << 16)
    os._exit(0)
