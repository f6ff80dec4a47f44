"""Compile the kernels of servers and workers before the nodes are forked: forks inherit compiled kernels.

While numba compiles or loads a kernel, Ctrl-C waits (`_HeldSignals`).
"""

import contextlib
import copy
import threading

import numpy as np
from numba.core import event

from shmps.ps.consistency import ASYNC, SYNC
from shmps.ps.kernels import cut
from shmps.ps.memory.layout import Shape
from shmps.ps.memory.mailbox import DENSE, Mailbox
from shmps.ps.memory.parameters import Parameters
from shmps.ps.messages import PULL, PUSH, Enter, Record, Start
from shmps.ps.server.redo_log import RedoLog, checksum
from shmps.ps.server.server import Server
from shmps.ps.updater import Updater
from shmps.system.memory import carve
from shmps.system.signals import blocked


def warm_up(updater: Updater, width: int, dtype: type = np.float64) -> None:
    """Run every kernel of servers and workers, on parameters of two keys, with values of `dtype`."""
    updater = copy.deepcopy(updater)
    shape = Shape(2, width, updater.state_width, servers=1, workers=2, max_keys=2, dtype=dtype)
    fields, mailbox_fields = shape.parameter_fields(), shape.mailbox_fields()
    memory = memoryview(bytearray(carve(fields)[1]))
    parameters = Parameters(shape, carve(fields, memory)[0])
    updater.start(parameters.weights, shape.state_of(parameters.state))
    arrays, _ = carve(mailbox_fields, bytearray(carve(mailbox_fields)[1]))
    arrays["keys"][:] = np.arange(2)
    arrays["rows"][:] = 1
    mailboxes = [Mailbox(arrays, shape, worker, 0) for worker in range(2)]
    for consistency in (SYNC, ASYNC):
        server = Server(0, 1, parameters, RedoLog(parameters, 0), mailboxes, consistency, updater)
        server.handle(Record.of(Start(workers=2), to=1))
        for worker in range(2):
            server.handle(Record.of(Enter(worker, life=1 + worker, tick=0), to=1))
        # Three ticks: both workers push the same keys, different keys, and all keys.
        for number, slot, sizes in ((1, 0, (2, 2)), (2, 0, (2, 1)), (3, DENSE, (2, 2))):
            for worker, size in enumerate(sizes):
                server.handle(Record(PUSH, worker, number, slot, size, number, life=1 + worker, to=1))
        server.handle(Record(PULL, 0, 4, 0, 2, 0, life=1, to=1))
    keys = np.arange(2)
    checksum(parameters.here, slice(0, 2))
    cut(keys, np.array(shape.bounds), np.empty(2, np.int64))
    view_of_workers = Parameters(shape, carve(fields, memory.toreadonly())[0])
    view_of_workers.read(keys, 0, updater, np.empty((2, width)))


class _HeldSignals(threading.local, event.Listener):
    """Hold Ctrl-C back until a kernel is compiled or loaded.

    A KeyboardInterrupt in a callback of LLVM would be lost. Elsewhere in the compiler it would leave a state
    that crashes later.
    """

    def __init__(self) -> None:
        self._blocks: list[contextlib.ExitStack] = []  # of this thread

    def on_start(self, event: event.Event) -> None:
        self._blocks.append(contextlib.ExitStack())
        self._blocks[-1].enter_context(blocked())

    def on_end(self, event: event.Event) -> None:
        if self._blocks:  # empty if the compilation began before this module was imported
            self._blocks.pop().close()


event.register("numba:compiler_lock", _HeldSignals())
