"""The clock of this machine, which all its processes share."""

import time


class SystemClock:
    """See `shmps.ps.engine.Clock`."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
