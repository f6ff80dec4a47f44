"""The arguments of `shmps train`, and its words."""

import argparse
from typing import Any

from shmps.linear.choices import (
    HOGWILD_RATES,
    LEARNING_RATES,
    OF_MINIBATCHES,
    ON_WORKER_DEATH,
    SCHEDULES,
    SOLVERS,
)
from shmps.models import FORMATS

GLOSSARY = """\
words:
  key             a feature's index; its value is a weight
  shard           a worker's rows
  push, pull      send gradients, fetch weights
  tick, clock     one finished minibatch; ticks of a worker
  sync            a tick's gradients are averaged over the workers and applied as one
  bound           ticks that a worker may be ahead of the slowest one
  async           no bound
  hogwild         workers update the shared weights in place, without a lock: an update may be lost
  delay           versions of the weights between a pull and its push
  updater         the servers' rule: how a gradient changes the weights

with --solver auto each of these selects minibatches, and --solver lbfgs refuses it: --async, --bound,
--hogwild, --updater, --learning-rate, --schedule, --batch-size, --epochs, --l1, --slow-worker, --tick-time,
--join-at, --on-worker-death continue, --replicas, --checkpoint, --resume

exit codes: 0 done, 2 usage, 3 data missing or bad, 4 a node died, 5 diverged, 6 out of memory or disk,
130 Ctrl-C, 143 SIGTERM
"""


def add_train(commands: Any) -> argparse.ArgumentParser:
    """The parser of `train`. What it parses is named as the estimator's parameters are, where it is one."""
    parser = commands.add_parser(
        "train",
        help="train a model",
        description="Train sparse logistic regression with a scheduler, servers and workers, all processes.",
        epilog=GLOSSARY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    parser.add_argument(
        "--config", metavar="FILE", help="flags from a TOML file: seed = 3, async = true; flags here go first"
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        metavar="NAME|PATH",
        help="a9a, synth:a9a, a text, mapped data, or - for stdin (default: a9a)",
    )
    data.add_argument(
        "--test", metavar="PATH", help="rows to evaluate on (default: the set's own, else --data)"
    )
    add_reading(data, keep=True)
    add_weights(data)
    data.add_argument(
        "--data-dir", metavar="DIR", help="where named sets are (default: $SHMPS_DATA_DIR, else data/)"
    )

    nodes = parser.add_argument_group("nodes")
    nodes.add_argument("--workers", type=int, default=4, metavar="N", help="worker processes (default: 4)")
    nodes.add_argument("--servers", type=int, default=1, metavar="N", help="server processes (default: 1)")
    mode = nodes.add_mutually_exclusive_group()
    mode.add_argument(
        "--sync", dest="mode", action="store_const", const="sync", help="tick by tick (default)"
    )
    mode.add_argument("--async", dest="mode", action="store_const", const="async", help="nobody waits")
    mode.add_argument(
        "--hogwild",
        dest="mode",
        action="store_const",
        const="hogwild",
        help="workers update in place, without a lock, a step per row",
    )
    mode.add_argument("--bound", type=int, metavar="K", help="at most K ticks ahead of the slowest worker")
    nodes.add_argument(
        "--slow-worker",
        type=_rank_and_factor,
        metavar="RANK:FACTOR",
        help="make a straggler: it sleeps before its push",
    )
    nodes.add_argument(
        "--tick-time",
        type=float,
        default=0.0,
        metavar="MS",
        help="a tick lasts at least so long; the rest is slept before the push (default: 0)",
    )
    nodes.add_argument(
        "--on-worker-death",
        choices=ON_WORKER_DEATH,
        default=ON_WORKER_DEATH[0],
        help="start it again, let the others go on, or end (default: respawn)",
    )
    nodes.add_argument(
        "--join-at", type=int, metavar="EPOCH", help="one more worker comes in with this epoch"
    )
    nodes.add_argument(
        "--replicas",
        type=int,
        default=0,
        metavar="N",
        help="1: servers keep copies of each other's partitions (default: 0)",
    )
    nodes.add_argument(
        "--node-timeout",
        type=float,
        default=60.0,
        metavar="S",
        help="replace a node that shows no sign of life for S seconds (default: 60; 0: never)",
    )
    nodes.add_argument(
        "--memory",
        metavar="SIZE",
        help="the most memory that a process may use, such as 600M (default: no limit)",
    )
    nodes.add_argument(
        "--start-method", choices=("fork", "forkserver", "spawn"), help="of processes (default: fork)"
    )

    training = parser.add_argument_group("training")
    passes = training.add_mutually_exclusive_group()
    passes.add_argument(
        "--epochs", type=int, metavar="N", help=f"passes over the rows (default: {OF_MINIBATCHES['epochs']})"
    )
    passes.add_argument(
        "--iterations",
        type=int,
        metavar="N",
        help="minibatches per worker, instead of epochs; of lbfgs: rounds at most (default: 100)",
    )
    training.add_argument(
        "--solver",
        choices=SOLVERS,
        default=SOLVERS[0],
        help="full gradients under L-BFGS, or minibatches under the updater; auto: L-BFGS, unless a flag "
        "asks for minibatches, see below (default: auto)",
    )
    training.add_argument(
        "--tol",
        type=float,
        default=1e-6,
        metavar="TOL",
        help="relative tolerance on the objective: L-BFGS ends when its estimated gap is within it (default: "
        "1e-6)",
    )
    training.add_argument(
        "--batch-size",
        type=int,
        metavar="ROWS",
        help=f"0: the whole shard (default: {OF_MINIBATCHES['batch_size']})",
    )
    rates = ", ".join(f"{rate:g} for {name}" for name, rate in LEARNING_RATES.items())
    rates += "; with --hogwild " + ", ".join(f"{rate:g} for {name}" for name, rate in HOGWILD_RATES.items())
    training.add_argument(
        "--updater",
        "--rule",
        choices=tuple(LEARNING_RATES),
        help=f"how servers apply gradients (default: {OF_MINIBATCHES['updater']})",
    )
    training.add_argument("--learning-rate", type=float, metavar="RATE", help=f"(default: {rates})")
    training.add_argument(
        "--schedule",
        choices=SCHEDULES,
        help=f"of sgd's rate; t in ticks, delay in versions (default: {OF_MINIBATCHES['schedule']})",
    )
    training.add_argument(
        "--l1", type=float, default=0.0, metavar="L1", help="L1 penalty, ftrl only (default: 0)"
    )
    training.add_argument("--l2", type=float, default=1e-5, metavar="L2", help="L2 penalty (default: 1e-5)")
    training.add_argument(
        "--intercept", dest="fit_intercept", action="store_true", help="learn an intercept, without a penalty"
    )
    training.add_argument(
        "--class-weight",
        type=_class_weights,
        metavar="WEIGHTS",
        help="a weight for each label, such as yes=2,no=1 (default: 1); balanced: equal class totals",
    )
    training.add_argument(
        "--seed",
        dest="random_state",
        type=int,
        default=0,
        metavar="N",
        help="of the minibatches (default: 0)",
    )

    shown = parser.add_argument_group("what is shown and kept")
    shown.add_argument(
        "--test-interval",
        type=int,
        metavar="N",
        help="iterations between evaluations; 0: none (default: 20; 1 for L-BFGS with --log, --live or "
        "--report)",
    )
    shown.add_argument(
        "--checkpoint",
        metavar="DIR",
        help="keep there what was learned, the last two times; overwrites what is there",
    )
    shown.add_argument(
        "--checkpoint-every",
        type=int,
        default=100,
        metavar="N",
        help="iterations between checkpoints (default: 100)",
    )
    shown.add_argument("--resume", metavar="DIR", help="go on from the newest whole checkpoint there")
    shown.add_argument("--model", metavar="PATH", help="write the model there")
    shown.add_argument(
        "--format", choices=FORMATS, help="of the model (default: by the suffix of PATH, else shmps)"
    )
    shown.add_argument("--report", metavar="PATH", help="write charts and tables there, one page of HTML")
    shown.add_argument(
        "--timeline", metavar="PATH", help="write what every worker did when there, for ui.perfetto.dev"
    )
    while_it_runs = shown.add_mutually_exclusive_group()
    while_it_runs.add_argument(
        "--live", action="store_true", help="a panel with curves instead of the bar (rich)"
    )
    while_it_runs.add_argument(
        "--log", action="store_true", help="a line per evaluation, as dist-lr prints it"
    )
    shown.add_argument("--json", action="store_true", help="one JSON object on stdout instead of the table")
    shown.add_argument("--quiet", action="store_true", help="no bar, no table")
    return parser


def add_reading(group: Any, keep: bool = False) -> None:
    """How a text is read: of every command that reads one. keep: whether what it makes keeps names."""
    group.add_argument(
        "--zero-based",
        action=argparse.BooleanOptionalAction,
        help="features of svmlight text count from 0 (default: from 1, or as the model's did)",
    )
    group.add_argument(
        "--label",
        metavar="COLUMN",
        help="the text is CSV, with the labels in this column (default: label); without a header its number: "
        "1 is the first, -1 the last",
    )
    group.add_argument(
        "--delimiter",
        metavar="CHAR",
        help="the character between the cells of CSV, such as ; or tab (default: a comma, in .tsv a tab)",
    )
    group.add_argument(
        "--no-header",
        dest="header",
        action="store_const",
        const=False,
        help="the first line of CSV is a row: columns are called by their numbers, from 1",
    )
    group.add_argument(
        "--weight-column", metavar="COLUMN", help="the column of CSV with the rows' weights (default: none)"
    )
    group.add_argument(
        "--hash-bits",
        type=int,
        metavar="B",
        help="hash features by name into 2**B: those of CSV, of name=value, of Vowpal Wabbit's text",
    )

    if keep:
        group.add_argument(
            "--keep-names",
            action="store_const",
            const=True,
            help="with --hash-bits: keep the names of the features, which `inspect` then shows",
        )


def add_weights(group: Any) -> None:
    group.add_argument(
        "--weights",
        dest="sample_weight",
        metavar="FILE",
        help="a file with a weight >= 0 for each row, one per line (default: 1, or the weights in the data)",
    )


def _class_weights(text: str) -> dict[str, float] | str:
    """`balanced`, or weights by the text of the labels."""
    if text == "balanced":
        return text
    weights = {}
    for part in text.split(","):
        label, equals, weight = part.rpartition("=")
        try:
            weights[label] = float(weight)
        except ValueError:
            equals = ""
        if not equals:
            raise argparse.ArgumentTypeError(
                f"balanced, or LABEL=WEIGHT,... as in yes=2,no=1; found {text!r}"
            )
    return weights


def _rank_and_factor(text: str) -> tuple[int, float]:
    try:
        rank, factor = text.split(":")
        return int(rank), float(factor)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"RANK:FACTOR, as in 0:5 for a worker 0 five times slower; found {text!r}"
        ) from None
