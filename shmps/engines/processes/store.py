"""The memory that the nodes of a cluster share."""

import numpy as np

from shmps.ps.memory.layout import Shape
from shmps.system.memory import NamelessMemory, carve


class Store:
    """The shared arrays of a cluster, by name; to be closed.

    Servers write those of the parameters; workers only read them, unless they update in place. Raises
    OutOfSpace if they do not fit in memory.
    """

    def __init__(self, shape: Shape):
        self.shape = shape
        sizes = [carve(fields)[1] for fields in (shape.parameter_fields(), shape.mailbox_fields())]
        # One piece, so that one look at the available memory decides.
        self._memory = NamelessMemory(sum(sizes))
        self._cut = sizes[0]

    def parameters(self, writable: bool = False) -> dict[str, np.ndarray]:
        buffer = self._memory.all() if writable else self._memory.read_only()
        return carve(self.shape.parameter_fields(), buffer)[0]

    def mailboxes(self) -> dict[str, np.ndarray]:
        return carve(self.shape.mailbox_fields(), self._memory.all()[self._cut :])[0]

    def close(self) -> None:
        self._memory.close()
