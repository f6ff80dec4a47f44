"""The checked parameters of one training, and what they say of it: solver, mode, updater, plan."""

import itertools
import numbers
from dataclasses import replace
from typing import Any

import numpy as np

from shmps.checks import bytes_of, seed_of
from shmps.errors import UsageError, named_in
from shmps.journal import Journal
from shmps.linear.callbacks import CallbackList, check_callbacks
from shmps.linear.declaration import NODES
from shmps.linear.full_gradient.problem import BINARY, ONE_AGAINST_REST, SOFTMAX
from shmps.linear.parameters import DECLARED, LEAST_BATCHES, LEAST_ROWS, Parameters
from shmps.linear.plan import Plan
from shmps.linear.recorded import take_from_journal
from shmps.linear.scaling import Moments
from shmps.ps.arguments import replicas_of
from shmps.ps.consistency import ASYNC, BOUNDED, HOGWILD, SYNC, Consistency
from shmps.ps.scheduler.run import CONTINUE
from shmps.ps.updater import Updater
from shmps.recording import Recording
from shmps.updaters.descent import FTRL, SGD, AdaGrad, ByRule
from shmps.updaters.dist_lr import DistLR

_MODES = {"sync": SYNC, "async": ASYNC, "hogwild": HOGWILD}  # and "bounded"
_DESCENTS = {"sgd": SGD, "dist-lr": DistLR}


class Settings(Parameters):
    """The parameters of one training. Make them with `of`, which checks them.

    asks_for_nodes: whether a parameter was given that only matters to workers and servers.
    journal: that of the run to repeat, if there is one. recording: of the run to record.
    """

    asks_for_nodes = False
    journal: Journal | None = None
    recording: Recording | None = None

    workers: int  # these two may be None until the rows are known: see `shmps.linear.defaults`
    l2: float

    @classmethod
    def of(cls, given: Parameters) -> "Settings":
        """Return a checked copy, with a random_state that is an integer. Raises UsageError."""
        settings = cls(**{name: getattr(given, name) for name in DECLARED})
        settings._check_each()
        if settings.replay is not None:
            take_from_journal(settings)
            settings._check_each()
        settings._check_together()
        settings.random_state = seed_of(settings.random_state)
        nodes = (each for each in DECLARED.values() if each.section == NODES)
        settings.asks_for_nodes = any(getattr(settings, each.name) != each.default for each in nodes)
        return settings

    def _check_each(self) -> None:
        for each in DECLARED.values():
            each.rule.check(each.name, getattr(self, each.name))

    def _check_together(self) -> None:
        """Check the rules that relate several parameters."""
        if (self.bound is not None) != (self.mode == "bounded"):
            raise self._error(
                "{bound} and {mode:'bounded'} need each other, got {mode.given} and {bound.given}; give both "
                "or none"
            )
        self._check_recording()
        replicas_of(self.replicas, self.servers, self.consistency().in_place)
        self._check_penalties()
        self._check_solver()
        self._check_classes()
        self.check_slow_worker()
        self._check_joining()
        self._check_engine()
        self._check_checkpoints()
        self._check_updater()
        check_callbacks(self.callbacks)

    def _check_penalties(self) -> None:
        relative = {"C": self.C is not None, "l1_ratio": self.l1_ratio}
        per_row = {"l1": self.l1, "l2": self.l2 is not None}
        if any(relative.values()) and any(per_row.values()):
            got = [name for name, given in (relative | per_row).items() if given]
            raise self._error(
                f"{{C}} and {{l1_ratio}} are another form of {{l1}} and {{l2}}, got "
                f"{', '.join(f'{{{name}.given}}' for name in got)}; give one form or the other"
            )

    def _check_solver(self) -> None:
        refused = self._refused_by_lbfgs()
        if self.solver == "lbfgs" and refused:
            named = ", ".join(f"{{{name}.given}}" for name in refused)
            raise self._error(
                f"{{solver:'lbfgs'}} takes the same full steps of all workers in sync mode, got {named}; "
                f"leave that out, or use {{solver:'minibatch'}}"
            )

    def _check_classes(self) -> None:
        if self.multi_class == SOFTMAX and not self.by_lbfgs():
            raise self._error(
                "{multi_class:'multinomial'} needs full gradients, got minibatches; use {multi_class:'ovr'}, "
                "or leave minibatches for {solver:'lbfgs'}"
            )

    def _refused_by_lbfgs(self) -> list[str]:
        limited = [each for each in DECLARED.values() if each.lbfgs is not None]
        return [each.name for each in limited if getattr(self, each.name) not in (each.lbfgs or ())]

    def check_slow_worker(self) -> None:
        """Raise UsageError if there is no worker of that rank; no error while the number is not settled."""
        if self.slow_worker is not None and self.workers is not None and self.slow_worker[0] >= self.workers:
            raise self._error(
                "{slow_worker} must name a rank below {workers.given}, got rank {slow_worker.value[0]}"
            )

    def _check_joining(self) -> None:
        epochs = self.held("epochs")
        if self.join_at is not None and self.iterations is None and self.join_at >= epochs:
            raise self._error(
                "{join_at} must be less than {epochs.given}, got {join_at.value}; raise {epochs} or lower it",
                epochs=epochs,
            )

    def _check_engine(self) -> None:
        if self.engine == DECLARED["engine"].default:
            return
        given = [
            f"{{{name}.given}}"
            for name in ("start_method", "node_timeout")
            if getattr(self, name) != DECLARED[name].default
        ]
        if given:
            raise self._error(
                f"{{start_method}} and {{node_timeout}} are of processes, got {' and '.join(given)} with "
                f"{{engine.given}}; leave them out, or the engine"
            )

    def _check_checkpoints(self) -> None:
        if self.checkpoint is None and self.resume is None:
            return
        if self.elastic:
            raise self._error(
                "{checkpoint} and {resume} need workers that neither join nor leave, got {join_at.given} and "
                "{on_worker_death.given}; leave out one or the other"
            )
        if not isinstance(self.random_state, numbers.Integral):
            raise self._error(
                "{random_state} must be an integer with {checkpoint} or {resume}, got "
                "{random_state.value!r}; give the seed that the training begins with"
            )

    def _check_recording(self) -> None:
        if self.record is None and self.replay is None:
            return
        refused = [("mode", self.mode == "hogwild"), ("join_at", self.join_at is not None)]
        refused += [
            ("on_worker_death", self.on_worker_death == CONTINUE),
            ("resume", self.resume is not None),
        ]
        got = [f"{{{name}.given}}" for name, is_refused in refused if is_refused]
        if got:
            raise self._error(
                f"{{record}} and {{replay}} need updates that follow one another, and workers that stay from "
                f"the start to the end, got {', '.join(got)}; leave that out, or the journal"
            )

    def _check_updater(self) -> None:
        given = {"updater": self.held("updater"), "schedule": self.held("schedule")}
        for name in "l1", "l1_ratio":
            if getattr(self, name) and given["updater"] != "ftrl" and not self.by_lbfgs():
                raise self._error(
                    f"{{{name}}} needs {{updater:'ftrl'}} with minibatches, got {{{name}.value}} with "
                    f"{{updater.given}}; leave minibatches for {{solver:'lbfgs'}}, or use that updater",
                    **given,
                )
        if given["schedule"] != "constant" and given["updater"] not in _DESCENTS:
            raise self._error(
                "{schedule} needs {updater:'sgd'}, got {schedule.given} with {updater.given}", **given
            )
        by_push = given["updater"] == "dist-lr" or given["schedule"] == "1/(1+delay)"
        if by_push and self.consistency().in_place:
            raise self._error(
                "{updater:'dist-lr'} and {schedule:'1/(1+delay)'} need pushes, which hogwild workers do not "
                "make, got {updater.given}, {schedule.given}; use others",
                **given,
            )
        self.make_updater(unpenalized=-1)  # which checks the product of rate and penalty

    def _error(self, message: str, **values: Any) -> UsageError:
        """Return an error with the parameters that `message` names. `values` go before the given ones."""
        names = sorted(named_in(message))
        return UsageError(message, **{name: values.get(name, getattr(self, name)) for name in names})

    def held(self, name: str) -> Any:
        """Return a parameter's value in a training by minibatches: as given, or what None stands for."""
        value = getattr(self, name)
        return DECLARED[name].unset if value is None else value

    def minibatch_values(self) -> dict[str, Any]:
        """Return the effective values of the parameters for which None stands for another value."""
        return {each.name: self.held(each.name) for each in DECLARED.values() if each.unset is not None}

    def by_lbfgs(self) -> bool:
        """Return whether L-BFGS is the solver."""
        return self.solver != "minibatch" and not self._refused_by_lbfgs()

    @property
    def classes(self) -> str:
        """What a model of more than two classes learns: the value of multi_class that is not "auto"."""
        if self.multi_class != "auto":
            return self.multi_class
        return SOFTMAX if self.by_lbfgs() else ONE_AGAINST_REST

    def loss_of(self, weights: np.ndarray) -> str:
        """Return the loss of a training with weights (features,), or (features, classes)."""
        return BINARY if weights.ndim == 1 else self.classes

    @property
    def rate_by_rows(self) -> bool:
        """Return whether the rows decide the learning rate of minibatches."""
        return self.learning_rate is None and self.updater != "dist-lr" and not self.by_lbfgs()

    @property
    def scales_features(self) -> bool:
        """Return whether each feature has a step size of its own, by the scale of its values."""
        return self.rate_by_rows and self.held("updater") != "sgd"

    @property
    def elastic(self) -> bool:
        """Return whether workers may join and leave."""
        return self.join_at is not None or self.on_worker_death == CONTINUE

    def consistency(self) -> Consistency:
        """Return the mode as a value."""
        if self.journal is not None:
            return self.journal.consistency
        mode = BOUNDED(self.bound) if self.bound is not None else _MODES[self.mode]
        return mode if self.record is None else replace(mode, recorded=True)

    def plan(self) -> Plan:
        """Return what every worker does in a training by minibatches."""
        return Plan(
            batch_size=int(self.held("batch_size")),
            epochs=int(self.held("epochs")),
            iterations=self.iterations,
            test_interval=self.test_interval or 0,
            intercept=bool(self.fit_intercept),
            seed=self.random_state,
            slow_worker=self.slow_worker,
            tick_time=self.tick_time / 1000,
            checkpoint_every=0 if self.checkpoint is None else int(self.checkpoint_every),
            elastic=self.elastic,
            memory=None if self.memory is None else bytes_of(self.memory),
            timeline=bool(self.timeline),
        )

    def kept_when_resumed(self, updater: Updater) -> dict[str, Any]:
        """Return what must be the same for a training to continue from a checkpoint of this one."""
        plan = self.plan()
        kept = {
            "mode": str(self.consistency()),
            "workers": int(self.workers),
            "updater": self.held("updater"),
            "batch_size": plan.batch_size,
            "random_state": plan.seed,
            "fit_intercept": plan.intercept,
        } | vars(updater)
        return kept | {"learning_rate": "None, by the rows"} if self.rate_by_rows else kept

    def make_updater(self, unpenalized: int, moments: Moments | None = None) -> ByRule:
        """Return the servers' rule. `unpenalized` is the key of the intercept, or -1.

        moments: those of the rows, by which `rate_by_rows` chooses the rate; None: any rate.
        """
        kind, in_place, intercept = (
            self.held("updater"),
            self.consistency().in_place,
            bool(self.fit_intercept),
        )
        rate, l2 = self.learning_rate or 1.0, self.l2 or 0.0
        if self.rate_by_rows:
            rate = 1e-9 if moments is None else moments.rate(kind, in_place, intercept, l2)
        if kind == "ftrl":
            beta = 0.01 if self.rate_by_rows else 1.0
            return FTRL(rate, beta, l1=self.l1, l2=l2, unpenalized=unpenalized)
        if kind == "adagrad":
            initial = 1.0 if in_place else 1e-4  # beside the squared gradient of a row, or of a mean of rows
            return AdaGrad(rate, l2=l2, initial=initial, unpenalized=unpenalized)
        descent = _DESCENTS[kind]
        return descent(rate, l2=l2, schedule=self.held("schedule"), unpenalized=unpenalized)

    def evaluated_every(self, rows: int) -> int:
        """Return the iterations of worker 0 between evaluations; 0: no evaluations.

        Without a `test_interval`, one evaluation is made per epoch (L-BFGS: per round) if callbacks or early
        stopping need them, and at least one by the end.
        """
        if self.journal is not None:
            return int(self.test_interval or 0)  # an evaluation is a pull, and those are in the journal
        stops_early = self.early_stopping or self.n_iter_no_change is not None
        if not (stops_early or CallbackList(self.callbacks).needs_evaluations):
            return self.test_interval or 0
        if self.by_lbfgs():
            return self.test_interval or 1
        return min(self.test_interval or self.ticks_per_epoch(rows)[0], self.ticks_planned(rows)[0])

    def rows_of_batch(self, rows: int) -> int:
        """Return the batch size: as given, or one of which each worker has LEAST_BATCHES in an epoch, but not
        less than LEAST_ROWS.
        """
        if self.batch_size is not None:
            return self.batch_size
        return max(LEAST_ROWS, min(int(self.held("batch_size")), rows // (self.workers * LEAST_BATCHES)))

    def ticks_per_epoch(self, rows: int) -> list[int]:
        """Return the ticks of each worker."""
        cuts = [rows * rank // self.workers for rank in range(self.workers + 1)]
        sizes, rows_of_one = (end - begin for begin, end in itertools.pairwise(cuts)), self.held("batch_size")
        return [-(-size // rows_of_one) if rows_of_one else 1 for size in sizes]

    def ticks_planned(self, rows: int) -> list[int]:
        """Return the ticks of each worker in the whole training."""
        return [self.iterations or self.held("epochs") * ticks for ticks in self.ticks_per_epoch(rows)]
