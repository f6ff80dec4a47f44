"""The parameters of a training, each declared once: type, default, rule, help, section, flag, solver.

Everything else comes from here:

    Parameters --> sklearn/estimator.py   the constructor of LogisticRegression, and its docstring
               --> cli/arguments.py       the flags, their help, the keys of a configuration file
               --> linear/settings.py     the checks, and what L-BFGS refuses

No NumPy is imported here: the command line reads the declarations for `--help`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any

from shmps.checks import (
    boolean,
    byte_size,
    integer,
    integer_or_bool,
    number,
    number_or_infinity,
    one_of,
    optional,
    path,
    seed,
)
from shmps.errors import Named, named_in
from shmps.linear.declaration import (
    NODES,
    OUTPUT,
    Declaration,
    Flag,
    engine,
    list_of_callbacks,
    parameter,
    rank_and_factor,
    seconds,
    weights_by_label,
)
from shmps.ps.scheduler.run import CONTINUE, FAIL, RESPAWN

SCHEDULES = ("constant", "1/t", "1/sqrt(t)", "1/(1+delay)")
UPDATERS = ("sgd", "adagrad", "ftrl", "dist-lr")
LEAST_BATCHES = 20  # of a worker in an epoch, if batch_size is None
LEAST_ROWS = 64  # of such a batch: with fewer, the messages take longer than the gradient


# fmt: off
@dataclass(repr=False, eq=False)
class Parameters:
    """The parameters as they were given. `shmps.linear.settings.Settings` has checked ones."""

    workers: int | None = parameter(
        None, integer(least=1), "worker processes (default: the usable cores, fewer where rows are few)",
        more="Usable are the cores in the affinity of the process and the quota of its cgroup. Results have "
        "the same bits on other machines if the number is given.",
        section=NODES, flag=Flag("N"),
    )
    servers: int = parameter(
        1, integer(least=1), "server processes",
        section=NODES, flag=Flag("N"),
    )
    mode: str = parameter(
        "sync", one_of("sync", "async", "bounded", "hogwild"), "how far workers wait for each other",
        more="sync: after every minibatch. bounded: see {bound}. async: never. hogwild: workers update the "
        "shared weights in place, without a lock, one step per row, so that an update may be lost [1]_.",
        section=NODES, lbfgs=("sync",), flag=Flag(exclusive="mode", each={
            "sync": "workers wait for each other after every minibatch (default)",
            "async": "workers never wait for each other",
            "hogwild": "workers update the weights in place, without a lock, one step per row",
        }),
    )
    bound: int | None = parameter(
        None, integer(least=0), "bounded mode: ticks that a worker may be ahead of the slowest one",
        more="Bounded mode needs it, other modes refuse it [2]_.",
        section=NODES, flag=Flag("K", exclusive="mode"),
    )
    solver: str = parameter(
        "auto", one_of("auto", "lbfgs", "minibatch"),
        "full gradients, or minibatches under the updater; auto: full gradients, unless a parameter selects "
        "minibatches, see below",
        more="Any of these selects minibatches, and lbfgs refuses it: {minibatch_only}. Where the default is "
        "None, giving the effective default ({batch_size:256}) counts too. lbfgs: see "
        "`shmps.linear.full_gradient` [3]_.",
    )
    updater: str | None = parameter(
        None, one_of(*UPDATERS), "the rule by which servers apply gradients",
        more="See [4]_ and [5]_; for dist-lr, `shmps.updaters.dist_lr`.",
        lbfgs=(None,), unset="adagrad", flag=Flag(names=("--updater", "--rule")),
    )
    learning_rate: float | None = parameter(
        None, number(above=0), "the step size of all features (default: each has its own, by the "
        "scale of its values; sgd: one by the norms of the rows; dist-lr: 1)",
        more="The default centres the features that most rows have, if there is an intercept: see "
        "`shmps.linear.scaling` [6]_.",
        lbfgs=(None,), flag=Flag("RATE"),
    )
    schedule: str | None = parameter(
        None, one_of(*SCHEDULES), "how the rate of sgd and dist-lr changes: t in ticks, delay in versions",
        more="t counts the ticks of this call.",
        lbfgs=(None,), unset="constant",
    )
    multi_class: str = parameter(
        "auto", one_of("auto", "multinomial", "ovr"),
        "with more than two classes: their joint probabilities (softmax), or one class against the rest; "
        "auto: multinomial, with minibatches ovr",
    )
    l1: float = parameter(
        0.0, number(least=0), "L1 penalty; with minibatches it needs {updater:'ftrl'}",
        flag=Flag("L1"),
    )
    l2: float | None = parameter(
        None, number(least=0), "L2 penalty (default: that of {C:1}; 0 with {l1})",
        more="`partial_fit`: 1e-05 by default, since a part does not tell how many rows there will be.",
        flag=Flag("L2"),
    )
    C: float | None = parameter(
        None, number_or_infinity(above=0),
        "the penalty as scikit-learn and liblinear have it, instead of {l1} and {l2}: the factor of the sum "
        "of the rows' losses (default: 1); inf: no penalty",
        more="With the sum S of the rows' weights, {l1} is l1_ratio / (C S), {l2} is (1 - l1_ratio) / (C S).",
        flag=Flag("C"),
    )
    l1_ratio: float = parameter(  # a number by default: `SelectFromModel` compares it with 1
        0.0, number(least=0, most=1), "with {C}: the share of the L1 penalty",
        flag=Flag("SHARE"),
    )
    batch_size: int | None = parameter(
        None, integer(least=0), "rows of a minibatch; 0: the worker's whole shard",
        more=f"None: fewer, but at least {LEAST_ROWS}, if a worker would have fewer than {LEAST_BATCHES} "
        "minibatches. In hogwild mode: rows of a tick.",
        lbfgs=(None,), unset=256, flag=Flag("ROWS"),
    )
    epochs: int | None = parameter(
        None, integer(least=1), "passes over the rows by minibatches",
        lbfgs=(None,), unset=10, flag=Flag("N", exclusive="length"),
    )
    iterations: int | None = parameter(
        None, integer(least=1),
        "minibatches per worker, instead of {epochs}; L-BFGS: the most rounds (default: 500)",
        flag=Flag("N", exclusive="length"),
    )
    tol: float = parameter(
        1e-6, number(above=0),
        "relative tolerance on the objective: L-BFGS ends when its estimated gap to the optimum is within it",
        more="If L-BFGS ends earlier, it warns (NotConverged). With {n_iter_no_change}, an evaluation makes "
        "progress if its log-loss is lower by more than this share.",
        flag=Flag("TOL"),
    )
    certificate: bool = parameter(
        False, boolean(), "compute an upper bound of the distance to the least objective, by duality",
        more="It is `result_.gap`, and takes two more passes over the rows. {tol} is compared with an "
        "estimate, which costs nothing. Without a penalty there is no bound: it is infinite.",
        flag=None,
    )
    n_iter_no_change: int | None = parameter(
        None, integer(least=1), "stop after this many evaluations in a row without progress",
        more="None: never; with {early_stopping}, after those of 5 epochs (L-BFGS: after 5).",
        flag=None,
    )
    early_stopping: bool | None = parameter(
        None, boolean(),
        "stop when the log-loss on an evaluation set makes no more progress, and keep the best weights "
        "(default: minibatches do, if there is one)",
        more="Without an eval_set, True holds out {validation_fraction} of each class.",
    )
    validation_fraction: float = parameter(
        0.1, number(above=0, below=1), "the share of the rows that {early_stopping} holds out",
        flag=None,
    )
    fit_intercept: bool = parameter(
        True, boolean(), "learn an intercept, which has no penalty",
        flag=Flag(names=("--intercept",)),
    )
    class_weight: dict[Any, float] | str | None = parameter(
        None, weights_by_label(),
        "the weight of each label (default: 1); balanced: every class has the same total weight",
        more="The dict may name labels that do not occur in y.",
        flag=Flag("LABEL=WEIGHT,..."),
    )
    warm_start: bool = parameter(
        False, boolean(), "`fit` begins at the coef_ and intercept_ of the fit before",
        more="Features are matched by name where they have names. The updater's state begins anew.",
        flag=None,
    )
    test_interval: int | None = parameter(
        None, integer(least=0),
        "iterations of worker 0 between evaluations; 0: none (default: one evaluation per epoch, of L-BFGS "
        "per round, if something shows or uses them)",
        more="Callbacks with on_evaluation or on_model, {early_stopping} and {n_iter_no_change} use them. If "
        "one of these is used, 0 has the effect of None, and minibatches are evaluated at least once.",
        section=OUTPUT, flag=Flag("N"),
    )
    slow_worker: tuple[int, float] | None = parameter(
        None, rank_and_factor(), "make a worker slower by a factor: it sleeps before its pushes",
        section=NODES, lbfgs=(None,), flag=Flag("RANK:FACTOR"),
    )
    tick_time: float = parameter(
        0.0, number(of="milliseconds", least=0, most=60_000),
        "milliseconds that a tick lasts at least; the rest is slept before the push",
        more="On few cores this simulates more workers than cores, since sleeping needs no core.",
        section=NODES, lbfgs=(0,), flag=Flag("MS"),
    )
    on_worker_death: str = parameter(
        RESPAWN, one_of(RESPAWN, CONTINUE, FAIL),
        "start a dead worker again, let the others continue, or end the training",
        more="continue: the others share the rows from the next epoch on.",
        section=NODES, lbfgs=(RESPAWN, FAIL),
    )
    join_at: int | None = parameter(
        None, integer(least=0), "the epoch, counted from 0, at which one more worker joins",
        section=NODES, lbfgs=(None,), flag=Flag("EPOCH"),
    )
    replicas: int = parameter(
        0, integer(least=0), "1: every server keeps a copy of another one's partition (takes two servers)",
        section=NODES, lbfgs=(0,), flag=Flag("N"),
    )
    node_timeout: float | None = parameter(
        60.0, optional(number(above=0)),
        "replace a node that shows no sign of life for this many seconds (0, in Python None: never)",
        section=NODES, flag=Flag("S", parse=seconds),
    )
    random_state: Any = parameter(
        0, seed(), "seed of the minibatches, their order, and the rows that are held out",
        more="In sync mode equal seeds give equal bits, also where a callback stops the training; not with "
        "{updater:'dist-lr'} and several workers, which applies the push that arrives last.",
        flag=Flag("N", names=("--seed",)),
    )
    checkpoint: str | PathLike[str] | None = parameter(
        None, path("a folder"),
        "write checkpoints into this folder, which keeps two; existing ones are overwritten",
        section=OUTPUT, lbfgs=(None,), flag=Flag("DIR"),
    )
    checkpoint_every: int = parameter(
        100, integer(least=1), "iterations of worker 0 between checkpoints",
        section=OUTPUT, flag=Flag("N"),
    )
    resume: str | PathLike[str] | None = parameter(
        None, path("a folder"), "go on from the newest whole checkpoint in this folder",
        more="What callbacks and {early_stopping} have seen is not in a checkpoint: they begin anew.",
        section=OUTPUT, lbfgs=(None,), flag=Flag("DIR"),
    )
    record: str | PathLike[str] | None = parameter(
        None, path("a file"),
        "write the journal of the training into this file: the order of all updates and answers",
        more="Not with {mode:'hogwild'}, {join_at}, {on_worker_death:'continue'} and {resume}. A training "
        "that is broken off leaves a journal too; a killed program leaves the folder FILE.unfinished.",
        section=OUTPUT, lbfgs=(None,), flag=Flag("FILE"),
    )
    replay: str | PathLike[str] | None = parameter(
        None, path("a file"),
        "repeat the training of this journal to the bit; its settings are taken unless others are given",
        more="updater, learning_rate, schedule and penalties may differ: then the same order is kept, and "
        "`result_.replayed` tells what differed. The rows must be the same. A parameter that is given its "
        "default counts as not given.",
        section=OUTPUT, lbfgs=(None,), flag=Flag("FILE"),
    )
    memory: int | str | None = parameter(
        None, byte_size(), "the most memory that a process may use, such as 600M (default: no limit)",
        more="Bytes, or text with a unit (of 1024). Own and shared memory count; the page cache, and data "
        "that was in memory before, do not. Minibatches that do not fit are rebuilt at each visit. "
        "None: no limit; kept minibatches take at most half of the available memory.",
        section=NODES, flag=Flag("SIZE"),
    )
    engine: Any = parameter(
        "processes", engine(),
        "what runs workers and servers: processes, or the calling process by turns, in virtual time",
        more="inline: equal seeds give equal bits in every mode, and nothing is started; the seconds of "
        "results are virtual. See `shmps.Inline` for machines of which workers and servers take the time.",
        section=NODES,
    )
    start_method: str | None = parameter(
        None, one_of("fork", "forkserver", "spawn"), "how processes are started (default: the system's way)",
        more="By default a program with other threads that may compute uses forkserver.",
        section=NODES,
    )
    verbose: int = parameter(
        0, integer_or_bool(least=0), "1: show a progress bar, in notebooks as a widget",
        more="Each epoch (L-BFGS: round) is evaluated for it, as for a callback.",
        flag=None,
    )
    timeline: bool = parameter(
        False, boolean(), "record what every worker did when, for result_.timeline",
        more="It takes under 1 MB per worker, however long the training is.",
        flag=None,
    )
    callbacks: Sequence[Any] | None = parameter(
        None, list_of_callbacks(), "objects whose methods run in this process during the training",
        more="Each has at least one of on_start, on_progress, on_event, on_evaluation and on_model. An "
        "on_evaluation that returns True stops the training. See `shmps.callbacks.Callback` for when each "
        "runs, and `shmps.callbacks` for ready ones.",
        flag=None,
    )
# fmt: on


DECLARED = {each.name: Declaration(each.name, each.default, **each.metadata) for each in fields(Parameters)}


def described(text: str, named: Callable[[str, Any], Named] = Named) -> str:
    """Return a template of a declaration with the parameters as `named(name, default)` formats them."""
    names = named_in(text)
    mentioned: dict[str, Any] = {
        each: named(each, DECLARED[each].default) for each in names & DECLARED.keys()
    }
    if "minibatch_only" in names:
        mentioned["minibatch_only"] = ", ".join(minibatch_only(named))
    return text.format(**mentioned)


def minibatch_only(named: Callable[[str, Any], Named] = Named) -> list[str]:
    """Return what selects minibatches: a parameter, or those of its values that L-BFGS does not take."""
    found = []
    for each in DECLARED.values():
        if each.lbfgs is None:
            continue
        parameter = named(each.name, each.default)
        refused = [choice for choice in each.rule.choices if choice not in each.lbfgs]
        if each.default in refused or len(refused) in (0, len(each.rule.choices)):
            found.append(parameter.name)
        else:
            found += [parameter.set_to(choice) for choice in refused]
    return found
