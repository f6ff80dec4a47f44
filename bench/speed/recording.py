"""The cost of recording a run: each pair trains one pass with a journal and one without, in turns.

A pass goes once over rows of the kind of `bench.speed.clicks`, async, with two workers and minibatches of
BATCH rows. A first pair does not count.

Results: "seconds", "processor_seconds": spreads of the ratio, with by without a journal, of the training's
wall time and of the processor time of all nodes; "bytes_per_event" of the journal's file.
"""

import os
import resource
import tempfile
from typing import Any

import numpy as np

from bench.record import markdown, shown, spread
from bench.speed.clicks import clicks
from bench.timing import progress
from shmps import Journal, LogisticRegression

WORKERS, BATCH = 2, 256


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    rows, repeats = (100_000, 2) if quick else (1_000_000, 9)
    X, y = clicks(rows, seed=0)
    seconds, spent = [], []
    with tempfile.TemporaryDirectory() as folder, progress("recording", repeats + 1) as bar:
        path = os.path.join(folder, "journal")
        for number in range(repeats + 1):
            pair = {}
            for recorded in (True, False) if number % 2 else (False, True):
                pair[recorded] = _pass(X, y, path if recorded else None)
            if number:
                seconds.append(pair[True][0] / pair[False][0])
                spent.append(pair[True][1] / pair[False][1])
            bar.update()
        journal = Journal.open(path)
        bytes_per_event = os.path.getsize(path) / (len(journal.pushes) + len(journal.pulls))
    settings = {"rows": rows, "workers": WORKERS, "batch_size": BATCH, "repeats": repeats}
    return settings, {
        "seconds": spread(seconds),
        "processor_seconds": spread(spent),
        "bytes_per_event": bytes_per_event,
    }


def _pass(X: Any, y: np.ndarray, record: str | None) -> tuple[float, float]:
    """Train for one pass; return the wall time of the training, and the processor time of the nodes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    estimator = LogisticRegression(
        mode="async", workers=WORKERS, updater="ftrl", learning_rate=4.0, l2=0.0, batch_size=BATCH, epochs=1,
        fit_intercept=False, test_interval=0, record=record,
    ).fit(X, y)  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return estimator.result_.seconds["train"], spent


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = [
        ["wall time, with by without a journal", shown(results["seconds"], ".3f")],
        ["processor time of the nodes, with by without", shown(results["processor_seconds"], ".3f")],
        ["bytes per event in the file", f"{results['bytes_per_event']:.1f}"],
    ]
    return markdown(["", "result"], rows)
