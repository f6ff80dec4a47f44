"""The progress bar of a training, as a callback: the command line and `verbose` show it."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from shmps.linear.result import Evaluation
from shmps.linear.settings import Settings
from shmps.ps.events import Event


class Bar:
    """A callback that shows the ticks (L-BFGS: rounds), the latest evaluation, and the events.

    tqdm: the class of the bar, options: of its constructor.
    """

    def __init__(self, settings: Settings, tqdm: Any, **options: Any):
        # L-BFGS has no total: the number of rounds is not known before.
        self._rounds_of = settings.workers if settings.by_lbfgs() else None
        unit = " rounds" if self._rounds_of else " ticks"
        self._bar = tqdm(unit=unit, dynamic_ncols=True, file=sys.stderr, **options)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def on_progress(self, done: int, planned: int) -> None:
        if self._rounds_of:
            done //= self._rounds_of
        else:
            self._bar.total = planned
        self._bar.update(done - self._bar.n)

    def on_event(self, event: Event) -> None:
        with contextlib.suppress(OSError):
            self._bar.write(str(event), file=sys.stderr)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        metrics, delays = evaluation.metrics, evaluation.delays
        self._bar.set_postfix_str(
            f"accuracy {metrics.accuracy:.4f} (majority {metrics.baseline:.4f}), "
            f"loss {metrics.log_loss:.4f}, delay {delays.p50}/{delays.max}, "
            f"{evaluation.samples_per_second:,.0f} samples/s",
            refresh=False,
        )


@contextlib.contextmanager
def shown_if_verbose(settings: Settings) -> Iterator[None]:
    """In the block, a training by `settings` shows a bar on stderr or in the notebook, if they ask for it."""
    if not settings.verbose:
        yield
        return
    with Bar(settings, _bar_without_thread()) as bar:
        settings.callbacks = [*(settings.callbacks or ()), bar]
        yield


@contextlib.contextmanager
def fits_shown(verbose: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of the fits done and planned of a cross-validation. If `verbose`, it shows a bar."""
    if not verbose:
        yield lambda done, planned: None
        return
    with _bar_without_thread()(unit=" fits", dynamic_ncols=True, file=sys.stderr, leave=False) as bar:

        def show(done: int, planned: int) -> None:
            bar.total = planned
            bar.update(done - bar.n)

        yield show


def _bar_without_thread() -> Any:
    """Return tqdm for a terminal or a notebook, without its thread: nodes are forked from this process."""
    import tqdm.auto

    class Quiet(tqdm.auto.tqdm):  # type: ignore[type-arg, misc]
        monitor_interval = 0

    return Quiet
