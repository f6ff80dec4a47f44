"""`shmps train`: progress on stderr, the table or a JSON object on stdout.

Its arguments are in shmps.cli.arguments.
"""

import argparse
import contextlib
import json
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import tqdm

from shmps.cli import console
from shmps.cli.commands.rows import label_text, said, weights_of
from shmps.data import datasets, named_sets
from shmps.data.dialect import origin_of
from shmps.data.labels import classes_of, encoded
from shmps.errors import DataError, ShmpsError, UsageError
from shmps.linear import checkpoint
from shmps.linear.kernels import gradient
from shmps.linear.result import Evaluation
from shmps.models import formats
from shmps.ps.events import Event
from shmps.report import live
from shmps.report.summary import write_report
from shmps.report.timeline import write_trace
from shmps.sklearn.estimator import LogisticRegression
from shmps.sklearn.labels import listed
from shmps.system import files
from shmps.system.compiling import is_kept
from shmps.system.parallel import usable_cores

_INTERVAL = 20  # iterations between evaluations


def run(options: argparse.Namespace) -> None:
    estimator = _estimator(options)
    _check_before_loading(options, estimator)
    began = time.monotonic()
    dataset = datasets.load(
        options.data,
        test=options.test,
        how=said(options),
        data_dir=options.data_dir,
        seed=options.random_state,
        progress=not options.quiet,
    )
    loaded = time.monotonic() - began
    if dataset.note and not (options.quiet and options.data):  # a substitute is always said
        console.tell(dataset.note)
    labels = _labels(dataset, options.test)
    if not options.quiet:
        _say_what_starts(dataset, len(labels), estimator)
    eval_set = None if dataset.test_X is None else (dataset.test_X, dataset.test_y, dataset.test_weights)
    weights = weights_of(options.sample_weight, dataset.train_weights, len(dataset.train_y))
    estimator.class_weight = _by_label(options.class_weight, labels)
    if options.model:
        formats.check(labels, options.model, options.format, origin_of(dataset.train_X).kept())
    title = f"{dataset.name}: {estimator.consistency()}, workers: {estimator.workers}"
    panel = live.panel(title, console.say) if options.live and not options.quiet else None
    with panel or _Bar(options, estimator) as bar, _kept_if_stopped(options, estimator):
        estimator.callbacks = [_without_evaluations(bar) if estimator.test_interval == 0 else bar]
        estimator.fit(dataset.train_X, dataset.train_y, sample_weight=weights, eval_set=eval_set)
    result = estimator.result_.with_source(data=dataset.name, note=dataset.note, load=loaded)
    if options.model:  # first: what is printed may have nowhere to go
        formats.save(estimator.model(), options.model, options.format)
    if options.report:
        write_report(result, options.report)
    if options.timeline:
        write_trace(result, options.timeline)
    if options.json:
        console.output(json.dumps(result.to_dict()))
    elif not options.quiet:
        console.output(result.table())


def _estimator(options: argparse.Namespace) -> LogisticRegression:
    """Its parameters are the flags' `dest`."""
    known = LogisticRegression().get_params()
    given = {name: value for name, value in vars(options).items() if name in known}
    given["mode"] = options.mode or ("sync" if options.bound is None else "bounded")
    given["timeline"] = bool(options.report or options.timeline)
    given["node_timeout"] = options.node_timeout or None
    if options.test_interval is None:
        given["test_interval"] = _INTERVAL
    estimator = LogisticRegression(**given)
    if options.test_interval is None and (options.log or options.live or options.report):
        estimator.test_interval = 1 if estimator.by_lbfgs() else _INTERVAL  # L-BFGS has a few tens of rounds
    return estimator


def _check_before_loading(options: argparse.Namespace, estimator: LogisticRegression) -> None:
    """All that can be said before a long file is read."""
    estimator.check()
    checkpoint.check(options.checkpoint, options.resume)
    if options.format and not options.model:
        raise UsageError("format is that of the model to be written, found no model; add a path with --model")
    others = [options.data, options.test, options.sample_weight, options.config]
    others += [options.checkpoint, options.resume]
    if options.data in (None, *named_sets.SETS):
        others += datasets.paths(options.data or "a9a", options.data_dir)
    for path, what in ((options.model, "model"), (options.report, "report"), (options.timeline, "timeline")):
        if path:
            files.check_target(path, what, others)
            others.append(path)


def _labels(dataset: datasets.Dataset, test: str | None) -> tuple[Any, ...]:
    """The labels. Raises DataError for one, or others in the test: here the files' names are known."""
    _, labels = encoded(dataset.train_y, dataset.name)
    if dataset.test_y is None:
        return labels
    known = set(labels)
    strange = [label for label in classes_of(dataset.test_y) if label not in known]
    if strange:
        raise DataError(
            f"{test}: its labels are those of {dataset.name}, {listed(list(labels))}, found {listed(strange)}"
        )
    return labels


def _by_label(class_weight: dict[str, float] | str | None, labels: tuple[Any, ...]) -> Any:
    """Weights by label, of those by the labels' text."""
    if not isinstance(class_weight, dict):
        return class_weight
    known = {label_text(label): label for label in labels}
    strange = [text for text in class_weight if text not in known]
    if strange:
        raise UsageError(
            f"class_weight names labels of the training rows, {listed(list(known))}, found {listed(strange)}"
        )
    return {known[text]: weight for text, weight in class_weight.items()}


@contextlib.contextmanager
def _kept_if_stopped(options: argparse.Namespace, estimator: LogisticRegression) -> Iterator[None]:
    """In the block Ctrl-C and SIGTERM write the model so far, where one was asked for."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        if options.model:
            console.say(_written(options, estimator))
        raise


def _written(options: argparse.Namespace, estimator: LogisticRegression) -> str:
    """Write the model so far; returns what became of it."""
    if not hasattr(estimator, "coef_"):
        return f"training had not begun: no model was written to {options.model}"
    try:
        formats.save(estimator.model(), options.model, options.format)
    except ShmpsError as error:
        return str(error)
    return f"the model after iteration {estimator.n_iter_:,} is in {options.model}"


def _say_what_starts(dataset: datasets.Dataset, classes: int, estimator: LogisticRegression) -> None:
    rows, features = dataset.train_X.shape
    each = f", {classes:,} classes" if classes > 2 else ""
    console.tell(
        f"{dataset.name}: {rows:,} rows, {features:,} features, {dataset.train_X.nnz:,} non-zeros{each}; "
        f"{estimator.consistency()}, workers: {estimator.workers}, servers: {estimator.servers}",
    )
    if not is_kept(gradient):
        console.tell("numba compiles the kernels: once on this machine, some seconds")
    cores = usable_cores()
    if estimator.workers > cores:
        console.tell(f"{estimator.workers} workers share {cores} cores: they take turns")


def _without_evaluations(bar: Any) -> Any:
    """Return the callback without `on_evaluation`, which would ask for one evaluation per epoch."""
    return types.SimpleNamespace(on_progress=bar.on_progress, on_event=bar.on_event)


class _Bar:
    """The progress bar, or dist-lr's log lines; nothing where stderr is no terminal."""

    def __init__(self, options: argparse.Namespace, estimator: LogisticRegression):
        self._log, self._quiet = options.log, options.quiet
        # How many rounds it will take nobody knows.
        self._rounds_of = estimator.workers if estimator.by_lbfgs() else None
        self._bar = tqdm.tqdm(
            disable=options.quiet or options.log or not sys.stderr.isatty(),
            unit=" rounds" if self._rounds_of else " ticks",
            dynamic_ncols=True,
            leave=False,
            file=sys.stderr,
        )

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *exception) -> None:
        self._bar.close()

    def on_progress(self, done: int, planned: int) -> None:
        if self._rounds_of:
            done //= self._rounds_of
        else:
            self._bar.total = planned
        self._bar.update(done - self._bar.n)

    def on_event(self, event: Event) -> None:
        if not self._quiet:
            with contextlib.suppress(OSError):
                self._bar.write(str(event), file=sys.stderr)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        metrics, delays = evaluation.metrics, evaluation.delays
        if self._log:
            clock = time.strftime("%H:%M:%S")
            console.tell(f"{clock} Iteration {evaluation.iteration}, accuracy: {metrics.accuracy:g}")
        self._bar.set_postfix_str(
            f"accuracy {metrics.accuracy:.4f} (majority {metrics.baseline:.4f}), "
            f"loss {metrics.log_loss:.4f}, delay {delays.p50}/{delays.max}, "
            f"{evaluation.samples_per_second:,.0f} samples/s",
            refresh=False,
        )
