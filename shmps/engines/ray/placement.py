"""On which machine of a Ray cluster a node runs."""

from collections.abc import Sequence

from shmps.errors import UsageError
from shmps.ps.messages import SERVER, Address


class Placement:
    """Puts node r of each role on machine r, counted round the machines.

    So neighbouring servers, which keep each other's replicas, are on different machines if there are several.
    machines: ids, in an order that stays.
    """

    def __init__(self, machines: Sequence[str], servers: int):
        if not machines:
            raise UsageError("Ray must have a machine that is alive, got none; see `ray status`")
        self.machines = list(machines)
        self._servers = servers
        self._at: dict[Address, str] = {}

    def place(self, address: Address, alive: Sequence[str]) -> str:
        """Return the machine for the next life of a node. alive: the machines that may be used now.

        A server does not go to the machine of its tail, which has its replica, or of its head, whose replica
        it keeps, unless there is no other. Raises UsageError if no machine is left.
        """
        role, rank = address
        home = rank % len(self.machines)
        usable = [each for each in self.machines[home:] + self.machines[:home] if each in alive]
        if not usable:
            raise UsageError("Ray must have a machine that is alive, got none; see `ray status`")
        neighbours = {self._at.get((SERVER, (rank + step) % self._servers)) for step in (1, -1)}
        apart = [each for each in usable if each not in neighbours] if role == SERVER else usable
        self._at[address] = (apart or usable)[0]
        return self._at[address]

    @property
    def has_neighbours_together(self) -> bool:
        """Return whether two neighbouring servers begin on one machine."""
        servers, machines = self._servers, len(self.machines)
        return any(rank % machines == (rank + 1) % servers % machines for rank in range(servers))
