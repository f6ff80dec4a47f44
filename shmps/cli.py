"""The command line: arguments in, progress and tables out."""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
import warnings
from typing import Any, NoReturn

import numpy as np
import tqdm

from shmps import datasets, live, models
from shmps.arguments import parser
from shmps.cores import usable_cores
from shmps.data import binary_labels
from shmps.errors import DataError, OutOfSpace, ShmpsError
from shmps.estimator import LogisticRegression
from shmps.events import Event
from shmps.rehearsal import is_first
from shmps.report import write_report
from shmps.result import Progress
from shmps.svmlight import fit_columns, read
from shmps.timeline import write_trace


class Terminated(BaseException):
    """SIGTERM came."""


def main(arguments: list[str] | None = None) -> int:
    """Run `shmps` with `arguments` (default: the process's); returns the exit code."""
    tqdm.tqdm.monitor_interval = 0  # no thread of its own: nodes are forked from this process
    # A stream is None where it was closed by whoever started us: what would be printed goes nowhere.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    try:
        signal.signal(signal.SIGINT, _stop)
        signal.signal(signal.SIGTERM, _stop)
        warnings.showwarning = lambda message, *where, **more: _say(str(message))
        options = parser(train, predict).parse_args(arguments)
        options.command(options)
        return 0
    except ShmpsError as error:
        return _complain(str(error), error.exit_code)
    except MemoryError:
        return _complain("out of memory: use fewer workers, a smaller --batch-size, or less data", 6)
    except KeyboardInterrupt:
        return _complain("stopped by Ctrl-C", 130)
    except Terminated:
        return _complain("stopped by SIGTERM", 143)
    except BrokenPipeError:
        # Whoever read our output has gone. Python flushes stdout once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _stop(number: int, frame: Any) -> NoReturn:
    """Once: what comes while we clean up and end changes nothing."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _say(message: str) -> None:
    _tell(f"shmps: {message}")


def _tell(line: str) -> None:
    """To stderr. Where that takes nothing, a training goes on all the same."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _output(text: str) -> None:
    """To stdout. Raises OutOfSpace where that is full; BrokenPipeError where nobody reads."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or its end would try once more
        raise OutOfSpace(f"the output must go where there is room for it: {error.strerror}") from error


def _complain(message: str, code: int) -> int:
    _say(message)
    return code


def train(options: argparse.Namespace) -> None:
    estimator = _estimator(options)
    for path in filter(None, (options.model, options.report, options.timeline)):
        _check_path(path)
    began = time.monotonic()
    dataset = datasets.load(
        options.data,
        test=options.test,
        data_dir=options.data_dir,
        seed=options.seed,
        progress=not options.quiet,
    )
    loaded = time.monotonic() - began
    if dataset.note and not (options.quiet and options.data):  # a substitute is always said
        _tell(dataset.note)
    if not options.quiet:
        _say_what_starts(options, dataset, estimator)
    eval_set = None if dataset.test_X is None else (dataset.test_X, dataset.test_y)
    _check_labels(dataset, options.test)
    title = f"{dataset.name}: {estimator.consistency()}, workers: {options.workers}"
    with (live.panel(title, _say) if options.live and not options.quiet else None) or _Bar(options) as bar:
        estimator.fit(dataset.train_X, dataset.train_y, eval_set, bar.evaluated, bar.moved, bar.happened)
    result = estimator.result_.told(data=dataset.name, note=dataset.note, load=loaded)
    if options.model:  # first: what is printed may have nowhere to go
        models.save(estimator.model(), options.model)
    if options.report:
        write_report(result, options.report)
    if options.timeline:
        write_trace(result, options.timeline)
    if options.json:
        _output(json.dumps(result.to_dict()))
    elif not options.quiet:
        _output(result.table())


def _check_labels(dataset: datasets.Dataset, test: str | None) -> None:
    """Here the files' names are known."""
    binary_labels(dataset.train_y, dataset.name)
    if dataset.test_y is None:
        return
    strange = np.setdiff1d(dataset.test_y, dataset.train_y)
    if len(strange):
        raise DataError(
            f"{test}: its labels are those of {dataset.name}, {np.unique(dataset.train_y).tolist()}, "
            f"found {strange.tolist()}"
        )


def _check_path(path: str) -> None:
    """Before training, not after it."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(
            f"{path}: what is kept is written to a regular file, found something else; name another"
        )
    folder = os.path.dirname(os.path.abspath(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(
            f"{path}: what is kept is written into a folder that exists and can be written to; make {folder}"
        )


def predict(options: argparse.Namespace) -> None:
    model = models.load(options.model)
    X, _ = read(options.data)
    X, dropped = fit_columns(X, model.num_features)
    if dropped:
        _say(
            f"dropped {dropped} non-zeros of {options.data}: their features are not in the model",
        )
    if options.proba:
        _output("\n".join(f"{share:.17g}" for share in model.predict_proba(X)[:, 1]))
    else:
        _output("\n".join(_label(label) for label in model.predict(X)))


def _label(label: Any) -> str:
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _estimator(options: argparse.Namespace) -> LogisticRegression:
    estimator = LogisticRegression(
        workers=options.workers,
        servers=options.servers,
        mode=options.mode or ("sync" if options.bound is None else "bounded"),
        bound=options.bound,
        solver=options.solver,
        tol=options.tol,
        updater=options.updater,
        learning_rate=options.learning_rate,
        schedule=options.schedule,
        l1=options.l1,
        l2=options.l2,
        batch_size=options.batch_size,
        epochs=10 if options.epochs is None else options.epochs,
        iterations=options.iterations,
        fit_intercept=options.intercept,
        test_interval=options.test_interval,
        slow_worker=options.slow_worker,
        tick_time=options.tick_time,
        on_worker_death=options.on_worker_death,
        join_at=options.join_at,
        replicas=options.replicas,
        node_timeout=options.node_timeout or None,
        random_state=options.seed,
        checkpoint=options.checkpoint,
        checkpoint_every=options.checkpoint_every,
        resume=options.resume,
        start_method=options.start_method,
        timeline=bool(options.report or options.timeline),
    )
    estimator.check()  # before a long file is read
    return estimator


def _say_what_starts(
    options: argparse.Namespace, dataset: datasets.Dataset, estimator: LogisticRegression
) -> None:
    rows, features = dataset.train_X.shape
    _tell(
        f"{dataset.name}: {rows:,} rows, {features:,} features, {dataset.train_X.nnz:,} non-zeros; "
        f"{estimator.consistency()}, workers: {options.workers}, servers: {options.servers}",
    )
    if is_first():
        _tell("numba compiles the kernels: once on this machine, some seconds")
    cores = usable_cores()
    if options.workers > cores:
        _tell(f"{options.workers} workers share {cores} cores: they take turns")


class _Bar:
    """The progress bar, or dist-lr's log lines; nothing where stderr is no terminal."""

    def __init__(self, options: argparse.Namespace):
        self._log, self._quiet = options.log, options.quiet
        silent = options.quiet or options.log or not sys.stderr.isatty()
        self._bar = tqdm.tqdm(disable=silent, unit=" ticks", dynamic_ncols=True, leave=False, file=sys.stderr)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *exception) -> None:
        self._bar.close()

    def moved(self, done: int, planned: int) -> None:
        self._bar.total = planned
        self._bar.update(done - self._bar.n)

    def happened(self, event: Event) -> None:
        if not self._quiet:
            with contextlib.suppress(OSError):
                self._bar.write(str(event), file=sys.stderr)

    def evaluated(self, progress: Progress) -> None:
        metrics, delays = progress.metrics, progress.delays
        if self._log:
            clock = time.strftime("%H:%M:%S")
            _tell(f"{clock} Iteration {progress.iteration}, accuracy: {metrics.accuracy:g}")
        self._bar.set_postfix_str(
            f"accuracy {metrics.accuracy:.4f} (majority {metrics.baseline:.4f}), "
            f"loss {metrics.log_loss:.4f}, delay {delays.p50}/{delays.max}, "
            f"{progress.samples_per_second:,.0f} samples/s",
            refresh=False,
        )
