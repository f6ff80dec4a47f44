"""The shared memory of a cluster: parameters and mailboxes."""

import numpy as np

from shmps.ps.memory.layout import Shape
from shmps.system.memory import NamelessMemory, carve


class Store:
    """The shared arrays of a cluster, by name. The program that makes a Store closes it.

    Servers write the parameters. Workers only read them, unless they update in place (HOGWILD). Raises
    OutOfSpace if the arrays do not fit in memory.
    """

    def __init__(self, shape: Shape):
        self.shape = shape
        sizes = [carve(fields)[1] for fields in (shape.parameter_fields(), shape.mailbox_fields())]
        # One file for both, so that one check of the available memory covers all arrays.
        self._memory = NamelessMemory(sum(sizes))
        self._parameter_bytes = sizes[0]
        self._memory.use_huge_pages(carve(shape.stored_fields())[1])

    def parameters(self, writable: bool = False) -> dict[str, np.ndarray]:
        """Return views of the parameters: read-only ones, unless `writable`."""
        buffer = self._memory.all() if writable else self._memory.read_only()
        return carve(self.shape.parameter_fields(), buffer)[0]

    def mailboxes(self) -> dict[str, np.ndarray]:
        """Return writable views of the mailboxes and of the status of the nodes."""
        return carve(self.shape.mailbox_fields(), self._memory.all()[self._parameter_bytes :])[0]

    def close(self) -> None:
        """Close the file. Arrays that are views of it stay valid."""
        self._memory.close()
