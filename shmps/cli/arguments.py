"""The arguments of `shmps train`: those of its files, and a flag for each declared parameter that has one."""

import argparse
import dataclasses
import math
import textwrap
from typing import Any

from shmps.cli.wording import Flags
from shmps.engines.inline.machines import Machines
from shmps.linear.declaration import NODES, OUTPUT, TRAINING, Declaration
from shmps.linear.parameters import DECLARED, described, minibatch_only
from shmps.models import FORMATS

GLOSSARY = """\
words:
  key             the index of a feature; its value is a weight
  shard           the rows of a worker
  push, pull      send gradients, fetch weights
  tick, clock     one finished minibatch; the number of ticks of a worker
  sync            the gradients of a tick are averaged over the workers and applied as one
  bound           ticks that a worker may be ahead of the slowest one
  async           no bound
  hogwild         workers update the shared weights in place, without a lock: an update may be lost
  delay           versions of the weights between a pull and its push
  updater         the rule of the servers: how a gradient changes the weights

With --solver auto each of these selects minibatches, and --solver lbfgs refuses it:
{minibatch_only}

exit codes: 0 done, 1 other errors, 2 usage, 3 data missing or bad, 4 a node died or failed, 5 diverged,
6 out of memory or disk, 130 Ctrl-C, 143 SIGTERM
"""


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `train`. The `dest` of a flag is the name of the parameter."""
    parser.description = "Train sparse logistic regression with processes: a scheduler, servers and workers."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--config", metavar="FILE", help="flags from a TOML file: seed = 3, async = true; flags here go first"
    )
    _add_data(parser.add_argument_group("data"))
    sections = {name: parser.add_argument_group(name) for name in (NODES, TRAINING, OUTPUT)}
    _add_parameters(sections)
    _add_choice_of_penalty(sections[TRAINING])
    _add_output(sections[OUTPUT])
    flags = Flags(parser)
    for action in parser._actions:
        if action.dest in DECLARED:
            action.help = described(action.help or "", flags)
            action.default = DECLARED[action.dest].default
    parser.epilog = GLOSSARY.format(minibatch_only=textwrap.fill(", ".join(minibatch_only(flags)), 105))


def add_simulate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `simulate`: those of `train`, and the machines."""
    add_train(parser)
    parser.description = (
        "Train as `shmps train` does, in virtual time: every worker and server is a machine, which flags "
        "describe. The mathematics is real; the seconds are those that the machines would take."
    )
    parser.set_defaults(engine="inline")
    machines = parser.add_argument_group("machines")
    for each in dataclasses.fields(Machines):
        metavar, help = each.metadata["metavar"], f"{each.metadata['help']} (default: {each.default:g})"
        machines.add_argument(
            f"--{each.name}", dest=f"machine_{each.name}", type=float, metavar=metavar, help=help
        )
    machines.add_argument(
        "--machine-seed", type=int, default=0, metavar="N", help="seed of the times that vary (default: 0)"
    )
    machines.add_argument(
        "--measured",
        action="store_true",
        help="measure what gradients and requests take on this host, and say it; the flags above go first",
    )


def _add_data(group: Any) -> None:
    rows = group.add_mutually_exclusive_group()
    what = "a9a, synth:a9a, a text, mapped data, or - for stdin"
    rows.add_argument(
        "data", metavar="TRAIN", nargs="?", default=argparse.SUPPRESS, help=f"the rows: {what} (default: a9a)"
    )
    rows.add_argument("--data", metavar="NAME|PATH", help="the same as TRAIN")
    group.add_argument(
        "--test", metavar="PATH", help="rows to evaluate on (default: those of the set, else TRAIN)"
    )
    add_reading(group, keep=True)
    add_weights(group)
    group.add_argument(
        "--data-dir", metavar="DIR", help="the folder of named sets (default: $SHMPS_DATA_DIR, else data/)"
    )


def _add_parameters(sections: dict[str, Any]) -> None:
    exclusive: dict[str, Any] = {}
    for each in DECLARED.values():
        if each.flag is not None:
            group = sections[each.section]
            if word := each.flag.exclusive:
                group = exclusive.setdefault(word, None) or group.add_mutually_exclusive_group()
                exclusive[word] = group
            _add_flag(group, each)


def _add_flag(group: Any, each: Declaration) -> None:
    flag, name = each.flag, each.name
    assert flag is not None
    for value, help in flag.each.items():
        group.add_argument(f"--{value}", dest=name, action="store_const", const=value, help=help)
    if flag.each:
        return
    names = flag.names or (f"--{name.replace('_', '-')}",)
    help = f"{each.help}{_default(each)}"
    if each.rule.type == "bool":
        group.add_argument(*names, dest=name, action=argparse.BooleanOptionalAction, help=help)
        return
    group.add_argument(
        *names,
        dest=name,
        type=flag.parse or each.rule.parse,
        choices=each.rule.choices or None,
        metavar=flag.metavar,
        help=help,
    )


def _default(each: Declaration) -> str:
    value = each.unset if each.default is None else each.default
    if value is None or "(default" in each.help:
        return ""
    if isinstance(value, bool):
        return f" (default: {'yes' if value else 'no'})"
    return f" (default: {value:g})" if isinstance(value, float) else f" (default: {value})"


def _add_choice_of_penalty(group: Any) -> None:
    group.add_argument(
        "--cv",
        type=int,
        metavar="K",
        help="choose the penalty by the log-loss in a cross-validation of K stratified folds, then train on "
        "all rows",
    )
    group.add_argument(
        "--l2-path",
        type=_penalties,
        metavar="L2,L2,...",
        help="choose among these L2 penalties (default: those of --C 1e-4 to 1e4), in 5 folds without --cv",
    )


def _penalties(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 < value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f"must be numbers > 0, such as 1e-6,1e-4,1e-2, got {text!r}")
    return values


def _add_output(group: Any) -> None:
    group.add_argument("--model", metavar="PATH", help="write the model to this file")
    group.add_argument(
        "--format",
        choices=FORMATS,
        help="the format of the model (default: by the suffix of PATH, else shmps)",
    )
    group.add_argument(
        "--report", metavar="PATH", help="write charts and tables to this file, a page of HTML"
    )
    group.add_argument(
        "--timeline",
        dest="timeline_file",
        metavar="PATH",
        help="write what every worker did when to this file, for ui.perfetto.dev",
    )
    while_it_runs = group.add_mutually_exclusive_group()
    while_it_runs.add_argument(
        "--live", action="store_true", help="a panel with curves instead of the bar (rich)"
    )
    while_it_runs.add_argument(
        "--log", action="store_true", help="a line per evaluation, as dist-lr prints it"
    )
    group.add_argument("--json", action="store_true", help="one JSON object on stdout instead of the table")
    group.add_argument("--quiet", action="store_true", help="no bar, no table")


def add_reading(group: Any, keep: bool = False) -> None:
    """Add the flags that say how a text is read. keep: whether the command's output may keep names."""
    group.add_argument(
        "--zero-based",
        action=argparse.BooleanOptionalAction,
        help="features of svmlight text count from 0 (default: from 1, or as for the model)",
    )
    group.add_argument(
        "--label",
        metavar="COLUMN",
        help="the text is CSV, with the labels in this column (default: label); without a header, its "
        "number, 1 for the first and -1 for the last",
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
        help="the first line of CSV is a row, and columns are named by number, from 1",
    )
    group.add_argument(
        "--weight-column",
        metavar="COLUMN",
        help="the column of CSV with the weights of the rows (default: none)",
    )
    group.add_argument(
        "--hash-bits",
        type=int,
        metavar="B",
        help="hash features by name into 2**B: those of CSV, of name=value, of the text of Vowpal Wabbit",
    )

    if keep:
        group.add_argument(
            "--keep-names",
            action="store_const",
            const=True,
            help="with --hash-bits: keep the names of the features, for `inspect`",
        )


def add_weights(group: Any) -> None:
    group.add_argument(
        "--weights",
        dest="sample_weight",
        metavar="FILE",
        help="a file with a weight >= 0 for each row, one per line (default: 1, or the weights in the data)",
    )
