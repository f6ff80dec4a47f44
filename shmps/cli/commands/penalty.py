"""`shmps train --cv K`: the penalty is chosen by cross-validation before the training."""

import argparse
import sys
from typing import Any

import numpy as np

from shmps.cli import console
from shmps.data.datasets import Dataset
from shmps.data.labels import Labels
from shmps.errors import UsageError
from shmps.linear.defaults import penalties_of
from shmps.linear.path_parameters import PATH_DECLARED, TRAINED_WITH
from shmps.linear.settings import Settings
from shmps.models.model import array_of, plain_labels
from shmps.sklearn.cross_validation import LogisticRegressionCV, best_of
from shmps.sklearn.weights import importance_of


def check(options: argparse.Namespace, settings: Settings) -> None:
    """Raise UsageError for flags that a cross-validation excludes."""
    if options.cv is None and options.l2_path is None:
        return
    named = {"cv": options.cv, "l2_path": options.l2_path}
    if not settings.by_lbfgs():
        raise UsageError(
            "{cv} and {l2_path} need full gradients, got flags that select minibatches; leave out one or the "
            "other",
            **named,
        )
    excluded = ["l1", "l2", "C"] + ["l1_ratio"] * (options.l2_path is not None)
    if given := [name for name in excluded if getattr(settings, name)]:
        raise UsageError(
            f"{{cv}} and {{l2_path}} choose the penalty, got {{{given[0]}.given}}; leave out one or the "
            f"other",
            **named,
            **{given[0]: getattr(settings, given[0])},
        )


def choose(
    options: argparse.Namespace, settings: Settings, dataset: Dataset, labels: Labels, weights: Any
) -> dict[str, Any] | None:
    """Set the penalty to that with the least mean log-loss over the folds, and show those of all penalties.

    Return the figures for JSON, or None if the flags ask for no cross-validation.
    """
    if options.cv is None and options.l2_path is None:
        return None
    classes = array_of(plain_labels(labels.classes))
    importance = importance_of(weights, settings.class_weight, labels.codes, classes)
    total = float(len(labels.codes) if importance is None else importance.sum())
    model = LogisticRegressionCV(
        Cs=10 if options.l2_path is None else [1 / (l2 * total) for l2 in options.l2_path],
        l1_ratios=[settings.l1_ratio],
        cv=options.cv,
        scoring="neg_log_loss",
        refit=False,
        **{name: getattr(settings, name) for name in TRAINED_WITH}
        | {
            "workers": options.workers,
            "tol": max(settings.tol, PATH_DECLARED["tol"].default),
            "verbose": sys.stderr.isatty() and not options.quiet,
        },
    ).fit(dataset.train_X, labels, weights)
    losses = -model.scores_[:, 0]
    _, chosen = best_of(-losses.mean(axis=0, keepdims=True), model.Cs_)
    settings.C = float(model.Cs_[chosen])
    if not options.quiet:
        console.tell(f"cross-validation of {len(model.Cs_)} penalties in {len(losses)} folds:")
        for place in np.argsort(model.Cs_).tolist():
            l1, l2 = penalties_of(model.Cs_[place], settings.l1_ratio, total)
            sparse = f"l1 {l1:<10.4g} " if l1 else ""
            console.tell(
                f"  C {model.Cs_[place]:<10.4g} {sparse}l2 {l2:<10.4g} log-loss "
                f"{losses[:, place].mean():.4f} +- {losses[:, place].std():.4f}"
                f"{'  chosen' if place == chosen else ''}"
            )
    return {"C": model.Cs_.tolist(), "log_loss": losses.T.tolist(), "chosen": settings.C}
