"""A live panel in the terminal: the progress of a training, and the curves of its evaluations."""

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from shmps.linear.result import Evaluation
from shmps.ps.events import Event

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 40  # characters of a curve


def panel(title: str, say: Callable[[str], None]) -> "Panel | None":
    """Return a panel on stderr, for a with block; without a terminal or rich call `say`, and return None."""
    if not sys.stderr.isatty():
        say("the live panel needs a terminal on stderr, got none; training goes on without the panel")
        return None
    try:
        import rich  # noqa: F401
    except ImportError:
        say("the live panel needs rich, got none; pip install 'shmps[live]'; the bar is shown instead")
        return None
    return Panel(title)


class Panel:
    """A callback that shows the progress, the latest evaluation and the events.

    Draws the panel anew at every `on_progress`. It has no thread: a fork would lose it.
    """

    def __init__(self, title: str):
        from rich.console import Console
        from rich.live import Live

        self._title = title
        self._began = time.monotonic()
        self._done, self._planned = 0, 1
        self._latest: Evaluation | None = None
        self._accuracy: deque[float] = deque(maxlen=_WIDTH)
        self._log_loss: deque[float] = deque(maxlen=_WIDTH)
        self._live = Live(
            console=Console(stderr=True),
            get_renderable=self._drawn,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # nodes inherit stdout and stderr
            redirect_stderr=False,
        )

    def __enter__(self) -> "Panel":
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def on_progress(self, done: int, planned: int) -> None:
        self._done, self._planned = done, planned
        self._live.refresh()

    def on_event(self, event: Event) -> None:
        self._live.console.print(str(event), highlight=False, markup=False)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        self._latest = evaluation
        self._accuracy.append(evaluation.metrics.accuracy)
        self._log_loss.append(evaluation.metrics.log_loss)

    def _drawn(self) -> Any:
        from rich.panel import Panel as Frame
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        seconds = time.monotonic() - self._began
        grid = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=self._planned, completed=min(self._done, self._planned), width=_WIDTH)
        grid.add_row("ticks", f"{self._done:,} of {self._planned:,}", bar)
        if self._latest is None:
            grid.add_row("seconds", f"{seconds:.1f}", "no evaluation yet")
        else:
            metrics, delays = self._latest.metrics, self._latest.delays
            grid.add_row("seconds", f"{seconds:.1f}", f"{self._latest.samples_per_second:,.0f} samples/s")
            grid.add_row("accuracy", f"{metrics.accuracy:.4f}", curve(self._accuracy))
            grid.add_row("log-loss", f"{metrics.log_loss:.4f}", curve(self._log_loss))
            grid.add_row("delay", f"p50 {delays.p50}", f"p99 {delays.p99}, max {delays.max} versions")
        return Frame(grid, title=Text(self._title), title_align="left", expand=False)


def curve(values: Sequence[float]) -> str:
    """Return values as blocks of eight heights, from the least to the largest; a space for nan and inf."""
    numbers = [value for value in values if math.isfinite(value)]
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    step = (high - low) / (len(_BLOCKS) - 1) or 1.0
    return "".join(_BLOCKS[round((value - low) / step)] if math.isfinite(value) else " " for value in values)
