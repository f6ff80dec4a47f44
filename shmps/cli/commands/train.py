"""`shmps train`: progress on stderr, the table or a JSON object on stdout.

The arguments are in shmps.cli.arguments.
"""

import argparse
import contextlib
import json
import logging
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import tqdm

from shmps.cli import console
from shmps.cli.commands import penalty
from shmps.cli.commands.rows import label_text, said, weights_of
from shmps.data import datasets, named_sets
from shmps.data.dialect import origin_of
from shmps.data.labels import Labels, encoded
from shmps.errors import ShmpsError, UsageError, verbatim
from shmps.journal import Journal
from shmps.linear import checkpoint
from shmps.linear.bar import Bar
from shmps.linear.defaults import settle_workers
from shmps.linear.parameters import DECLARED, Parameters
from shmps.linear.result import Evaluation, Result
from shmps.linear.settings import Settings
from shmps.models import formats
from shmps.models.model import array_of, plain_labels
from shmps.ps.events import Event
from shmps.report import live
from shmps.report.summary import write_report
from shmps.report.timeline import write_trace
from shmps.sklearn.estimator import LogisticRegression
from shmps.sklearn.labels import known_codes, listed
from shmps.system import files
from shmps.system.parallel import usable_cores


def run(options: argparse.Namespace) -> None:
    tell(options, *trained(options))


def trained(options: argparse.Namespace) -> tuple[Result, dict[str, Any]]:
    """Train, and write the files that the options name. Return the result, and what the JSON object adds."""
    settings = _settings(options)
    penalty.check(options, settings)
    _check_before_loading(options)
    began = time.monotonic()
    dataset = datasets.load(
        options.data,
        test=options.test,
        how=said(options),
        data_dir=options.data_dir,
        seed=settings.random_state,
        progress=not options.quiet,
    )
    loaded = time.monotonic() - began
    if dataset.note and not (options.quiet and options.data):  # a substitute is always announced
        console.tell(dataset.note)
    labels, tested = _labels(dataset, options.test)
    settle_workers(settings, dataset.train_X.shape[0], dataset.train_X.nnz, len(labels.classes))
    if options.quiet:
        logging.getLogger("shmps").setLevel(logging.ERROR)
    else:
        _say_what_starts(dataset, len(labels.classes), settings)
    weights = weights_of(options.sample_weight, dataset.train_weights, len(dataset.train_y))
    if settings.early_stopping is None and not options.test:  # a named set's own test rows choose nothing
        settings.early_stopping = False
    settings.class_weight = _by_label(settings.class_weight, labels.classes)
    if options.model:
        kept = origin_of(dataset.train_X).kept() | {"multi_class": settings.classes}
        formats.check(labels.classes, options.model, options.format, kept)
    validated = penalty.choose(options, settings, dataset, labels, weights)
    estimator = LogisticRegression(**{name: getattr(settings, name) for name in DECLARED})
    title = f"{dataset.name}: {settings.consistency()}, workers: {settings.workers}"
    panel = live.panel(title, console.say) if options.live and not options.quiet else None
    with panel or _Bar(options, settings) as bar, _kept_if_stopped(options, estimator):
        settings.callbacks = [bar if _wants_evaluations(options) else _without_evaluations(bar)]
        estimator._fit(settings, dataset.train_X, labels, weights, tested, (None, None))
    result = estimator.result_.with_source(data=dataset.name, note=dataset.note, load=loaded)
    if options.model:  # before anything is printed, which may fail
        formats.save(estimator.model(), options.model, options.format)
    if options.report:
        journal = None if options.record is None else Journal.open(options.record)
        write_report(result, options.report, journal)
    if options.timeline_file:
        write_trace(result, options.timeline_file)
    return result, {"cv": validated} if validated else {}


def tell(options: argparse.Namespace, result: Result, more: dict[str, Any]) -> None:
    """Print the table, or the JSON object with `more` of it."""
    if options.json:
        console.output(json.dumps(result.to_dict() | more))
    elif not options.quiet:
        console.output(result.table())


def _settings(options: argparse.Namespace) -> Settings:
    """Return the checked settings. The `dest` of a flag is the name of its parameter."""
    given = {name: value for name, value in vars(options).items() if name in DECLARED}
    if options.bound is not None:
        given["mode"] = "bounded"
    return Settings.of(Parameters(**given, timeline=bool(options.report or options.timeline_file)))


def _wants_evaluations(options: argparse.Namespace) -> bool:
    """Return whether evaluations are asked for or shown. `--test-interval 0` asks for none."""
    if options.test_interval is not None:
        return options.test_interval > 0
    on_screen = (options.live or sys.stderr.isatty()) and not options.quiet
    return bool(options.log or options.report or on_screen)


def _check_before_loading(options: argparse.Namespace) -> None:
    """Raise what can be known before a long file is read."""
    checkpoint.check(options.checkpoint, options.resume)
    if options.format and not options.model:
        raise UsageError("--format must come with a model to write, got none; add a path with --model")
    others = [options.data, options.test, options.sample_weight, options.config]
    others += [options.checkpoint, options.resume, options.replay]
    if options.data in (None, *named_sets.SETS):
        others += datasets.paths(options.data or "a9a", options.data_dir)
    for path, what in (
        (options.model, "model"),
        (options.report, "report"),
        (options.timeline_file, "timeline"),
        (options.record, "journal"),
    ):
        if path:
            files.check_target(path, what, others)
            others.append(path)


def _labels(dataset: datasets.Dataset, test: str | None) -> tuple[Labels, tuple[Any, ...] | None]:
    """Return the encoded labels of the training rows, and the rows to evaluate on, if there are any.

    Raises DataError for one class, or for other labels in the test rows. Only here their files are known.
    """
    labels = encoded(dataset.train_y, dataset.name)
    if dataset.test_y is None:
        return labels, None
    classes, name = array_of(plain_labels(labels.classes)), test or dataset.name
    codes = known_codes(dataset.test_y, len(dataset.test_y), classes, name)
    return labels, (dataset.test_X, Labels(codes, labels.classes), dataset.test_weights)


def _by_label(class_weight: dict[str, float] | str | None, labels: tuple[Any, ...]) -> Any:
    """Return weights by label from weights by the text of the label."""
    if not isinstance(class_weight, dict):
        return class_weight
    known = {label_text(label): label for label in labels}
    class_weight = {label_text(label): weight for label, weight in class_weight.items()}  # of a journal
    strange = [text for text in class_weight if text not in known]
    if strange:
        raise UsageError(
            f"{{class_weight}} must name labels of the training rows, {verbatim(listed(list(known)))}, got "
            f"{verbatim(listed(strange))}",
            class_weight=class_weight,
        )
    return {known[text]: weight for text, weight in class_weight.items()}


@contextlib.contextmanager
def _kept_if_stopped(options: argparse.Namespace, estimator: LogisticRegression) -> Iterator[None]:
    """In the block, Ctrl-C and SIGTERM write the model so far to the path of `--model`."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        if options.model:
            console.say(_written(options, estimator))
        raise


def _written(options: argparse.Namespace, estimator: LogisticRegression) -> str:
    """Write the model so far. Return what to say about it."""
    if not hasattr(estimator, "coef_"):
        return f"training had not begun: no model was written to {options.model}"
    try:
        formats.save(estimator.model(), options.model, options.format)
    except ShmpsError as error:
        return str(error)
    return f"the model after iteration {estimator.n_iter_:,} is in {options.model}"


def _say_what_starts(dataset: datasets.Dataset, classes: int, settings: Settings) -> None:
    rows, features = dataset.train_X.shape
    each = f", {classes:,} classes" if classes > 2 else ""
    console.tell(
        f"{dataset.name}: {rows:,} rows, {features:,} features, {dataset.train_X.nnz:,} non-zeros{each}; "
        f"{settings.consistency()}, workers: {settings.workers}, servers: {settings.servers}",
    )
    cores = usable_cores()
    if settings.workers > cores and settings.engine == DECLARED["engine"].default:
        console.tell(f"{settings.workers} workers share {cores} cores: they take turns")


def _without_evaluations(bar: Any) -> Any:
    """Return the callback without `on_evaluation`, which would ask for one evaluation per epoch."""
    return types.SimpleNamespace(on_progress=bar.on_progress, on_event=bar.on_event)


class _Bar(Bar):
    """The progress bar, or the log lines of dist-lr. Nothing is shown if stderr is no terminal."""

    def __init__(self, options: argparse.Namespace, settings: Settings):
        self._log, self._quiet = options.log, options.quiet
        hidden = options.quiet or options.log or not sys.stderr.isatty()
        super().__init__(settings, tqdm.tqdm, disable=hidden, leave=False)

    def on_event(self, event: Event) -> None:
        if not self._quiet:
            super().on_event(event)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        if self._log:
            clock = time.strftime("%H:%M:%S")
            console.tell(
                f"{clock} Iteration {evaluation.iteration}, accuracy: {evaluation.metrics.accuracy:g}"
            )
        super().on_evaluation(evaluation)
