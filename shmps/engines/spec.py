"""What a cluster asks of any engine."""

from collections.abc import Sequence
from typing import NamedTuple

from shmps.ps.consistency import Consistency
from shmps.ps.memory.layout import Shape
from shmps.ps.updater import Updater
from shmps.system.failpoints import Failpoint


class Spec(NamedTuple):
    """The cluster that an engine is started for.

    failpoints: where nodes are to be killed. A failpoint goes to the first node of its role and rank that is
    launched. event_paths: where each server notes its events, None for memory; empty if nothing is recorded.
    """

    shape: Shape
    num_workers: int
    consistency: Consistency
    updater: Updater
    failpoints: tuple[Failpoint, ...]
    event_paths: Sequence[str | None]
