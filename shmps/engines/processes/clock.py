"""The clock of this machine, which all its processes share."""

import time


class SystemClock:
    """See `shmps.ps.engine.Clock`."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def compute(self, nonzeros: int) -> None:
        """Do nothing: the time has passed."""

    def read(self, cuts: list[int]) -> None:
        """Do nothing: the nodes share memory."""
