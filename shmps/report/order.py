"""The order of a recorded run, on the page of a training: whose pushes came when, and how they took turns."""

import numpy as np

from shmps.journal import Journal
from shmps.report import charts
from shmps.report.page import figures, table

_BINS = 300  # of the strip of a worker
_MOST_STRIPS = 16
_MOST_BETWEEN = 64  # pushes of others that have a bar of their own


def order(journal: Journal) -> str:
    """Return the section: a strip for each worker over the pushes at server 0, and a chart of the turns."""
    pushes = journal.pushes[journal.pushes["server"] == 0]
    workers, delays = pushes["worker"], pushes["delay"]
    if not len(pushes):
        return "<p>Nothing was pushed during this run.</p>"
    tracks, rows, between = "", [], []
    for rank in range(journal.workers):
        own = np.flatnonzero(workers == rank)
        gaps = np.diff(own) - 1
        between.append(gaps)
        if rank < _MOST_STRIPS:
            tracks += _track(rank, own, len(pushes), journal.workers)
        if len(gaps):
            usual, longest, late = np.median(gaps), gaps.max(), np.median(delays[own])
            rows.append([f"worker {rank}", f"{len(own):,}", f"{usual:.0f}", f"{longest:,}", f"{late:.0f}"])
    counts = np.bincount(np.minimum(np.concatenate(between), _MOST_BETWEEN)).tolist() or [0]
    title = "Pushes of others between two of a worker"
    last = f" The last bar has all from {_MOST_BETWEEN} on." if len(counts) > _MOST_BETWEEN else ""
    return (
        f"<p>The {len(pushes):,} pushes at server 0, from the first to the last: high where a worker pushed "
        f"more often than its share.{last}</p>"
        f"{tracks}{figures({title: charts.bar_chart('turns', title, counts, 'pushes of others')})}"
        f"{table(title, ['Worker', 'Pushes', 'Between, median', 'most', 'Delay, median'], rows)}"
    )


def _track(rank: int, own: np.ndarray, pushes: int, workers: int) -> str:
    bins = min(_BINS, pushes)
    edges = np.linspace(0, pushes, bins + 1)
    shares = np.histogram(own, edges)[0] / np.diff(edges)
    heights = np.minimum(shares * workers / 2, 1.0)  # half the height: as often as the others
    told = f"{len(own):,} of {pushes:,} pushes."
    drawn = charts.strip(f"order-{rank}", f"Pushes of worker {rank}", told, heights[:, None], ["push"])
    return f'<div class="node"><span>worker {rank}</span><div class="track">{drawn}</div></div>'
