"""A training and its journal: which settings a replay takes from it, what may differ, how it came out."""

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shmps.errors import DataError, ReplayDiffers, UsageError, verbatim
from shmps.journal import Journal
from shmps.linear.parameters import DECLARED
from shmps.system.container import raw

if TYPE_CHECKING:
    from shmps.linear.settings import Settings

# Who asks for what, and when: a replay has these in common with the run.
FIXED = (
    "workers", "servers", "mode", "bound", "batch_size", "epochs", "iterations", "test_interval",
    "fit_intercept", "random_state", "multi_class", "class_weight", "early_stopping", "validation_fraction",
    "n_iter_no_change", "tol",
)  # fmt: skip
# What is computed: a replay may have others.
FREE = ("updater", "learning_rate", "schedule", "l1", "l2")


@dataclass(frozen=True)
class Replayed:
    """How a replay came out."""

    journal: str  #: path
    same: bool  #: whether weights and updater state have the bits of the recorded run
    differing: dict[str, tuple[Any, Any]]  #: settings by name: in the recorded run, here

    def __str__(self) -> str:
        ended = "the same bits as" if self.same else "other bits than"
        others = [
            f"{name} {'the default' if here is None else here} instead of "
            f"{'the default' if there is None else there}"
            for name, (there, here) in self.differing.items()
        ]
        return f"{ended} {self.journal}" + f", with {', '.join(others)}" * bool(others)

    @property
    def advice(self) -> ReplayDiffers | None:
        """What to do about other bits under the same settings; None if there is nothing to explain."""
        if self.same or self.differing:
            return None
        return ReplayDiffers(
            f"{verbatim(self.journal)}: {{replay}} must end with the digest of the journal, got another one "
            f"from the same settings and rows; replay with the versions of shmps, NumPy and numba that "
            f"recorded it, on such a processor",
            replay=self.journal,
        )


def kept(settings: "Settings") -> dict[str, Any]:
    """Return the settings of a training for its journal, as JSON has them."""
    values = {name: settings.held(name) for name in (*FIXED, *FREE)}
    values["multi_class"] = settings.classes
    values["random_state"] = int(values["random_state"])
    weights = values["class_weight"]
    if isinstance(weights, dict):
        values["class_weight"] = [[_plain(label), float(weight)] for label, weight in weights.items()]
    return values


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


def take_from_journal(settings: "Settings") -> None:
    """Open the journal that the settings name, and take its settings unless others are given.

    Raises DataError if there is no whole journal of a training. Raises UsageError for a given setting that a
    replay cannot change.
    """
    assert settings.replay is not None
    path = os.fspath(settings.replay)
    journal = settings.journal = Journal.open(path)
    if not journal.settings:
        raise UsageError(
            f"{verbatim(path)}: {{replay}} must name the journal of a training, got that of another function "
            f"of a Cluster; use `Cluster(consistency=journal.consistency)`",
            replay=settings.replay,
        )
    if not journal.complete:
        raise UsageError(
            f"{verbatim(path)}: {{replay}} must name the journal of a training that came to its end, got one "
            f"that was broken off; record the training again",
            replay=settings.replay,
        )
    if fault := journal.schedule.fault(journal.servers, journal.workers, awaited=True):
        raise DataError(f"{path}: {fault}; record the run again")
    given = {name for name in DECLARED if getattr(settings, name) != DECLARED[name].default}
    for name in (*FIXED, *FREE):
        there = journal.settings[name]
        if name == "class_weight" and isinstance(there, list):
            there = dict(map(tuple, there))
        if name not in given:
            if name not in ("l1", "l2") or not given & {"C", "l1_ratio"}:
                setattr(settings, name, there)
        elif name in FIXED and getattr(settings, name) != there:
            raise UsageError(
                f"{verbatim(path)}: a replay must have {{{name}}} of the recorded run, "
                f"{verbatim(f'{there!s:.80}')}, got {{{name}.value}}; leave it out",
                **{name: getattr(settings, name)},
            )


def start_of(weights: np.ndarray) -> str:
    """Return the SHA-256 of the weights that a training starts from."""
    return hashlib.sha256(raw(np.ravel(weights))).hexdigest()


def outcome(settings: "Settings", run: Journal) -> Replayed:
    """Return how the replay came out whose own journal is `run`."""
    there = settings.journal
    assert there is not None and settings.replay is not None
    differing = {
        name: (there.settings[name], run.settings[name])
        for name in FREE
        if there.settings[name] != run.settings[name]
    }
    if there.start != run.start:
        differing["start"] = there.start[:8], run.start[:8]
    return Replayed(os.fspath(settings.replay), there.digest == run.digest, differing)
