"""How to train: the parameters of the estimator, their rules, and what they become."""

import inspect
import itertools
import numbers
import os
from collections.abc import Sequence
from typing import Any

from shmps.checks import not_negative, positive, seed_of, size, whole
from shmps.errors import UsageError
from shmps.linear.callbacks import CallbackList, check_callbacks
from shmps.linear.choices import HOGWILD_RATES, LEARNING_RATES, OF_MINIBATCHES, ON_WORKER_DEATH, SOLVERS
from shmps.linear.plan import Plan
from shmps.ps.arguments import replicas_of
from shmps.ps.consistency import ASYNC, BOUNDED, HOGWILD, SYNC, Consistency
from shmps.ps.scheduler.run import CONTINUE, FAIL, RESPAWN
from shmps.ps.updater import Updater
from shmps.updaters.descent import FTRL, SGD, AdaGrad, ByRule
from shmps.updaters.dist_lr import DistLR

# The values with which L-BFGS can be asked for, of the other parameters that it does not take as they are.
_OF_LBFGS: dict[str, tuple[Any, ...]] = {
    "mode": ("sync",), "l1": (0,), "slow_worker": (None,), "tick_time": (0,), "join_at": (None,),
    "on_worker_death": (RESPAWN, FAIL), "replicas": (0,), "checkpoint": (None,), "resume": (None,),
}  # fmt: skip
MODES = {"sync": SYNC, "async": ASYNC, "hogwild": HOGWILD}  # and "bounded"
_SLOWEST = 1000  # times
_LONGEST = 60_000  # ms
_DESCENTS = {"sgd": SGD, "dist-lr": DistLR}


class Settings:
    """The parameters of a training: what each means is told by `shmps.LogisticRegression`."""

    def __init__(
        self,
        workers: int = 2,
        servers: int = 1,
        mode: str = "sync",
        bound: int | None = None,
        solver: str = "auto",
        updater: str | None = None,
        learning_rate: float | None = None,
        schedule: str | None = None,
        l1: float = 0.0,
        l2: float = 1e-5,
        batch_size: int | None = None,
        epochs: int | None = None,
        iterations: int | None = None,
        tol: float = 1e-6,
        n_iter_no_change: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | str | None = None,
        warm_start: bool = False,
        test_interval: int = 0,
        slow_worker: tuple[int, float] | None = None,
        tick_time: float = 0.0,
        on_worker_death: str = RESPAWN,
        join_at: int | None = None,
        replicas: int = 0,
        node_timeout: float | None = 60.0,
        random_state: Any = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 100,
        resume: str | os.PathLike[str] | None = None,
        memory: int | str | None = None,
        start_method: str | None = None,
        timeline: bool = False,
        callbacks: Sequence[Any] | None = None,
    ):
        """The parameters, as they are: they are checked by `check`, or when training begins."""
        self.workers = workers
        self.servers = servers
        self.mode = mode
        self.bound = bound
        self.solver = solver
        self.updater = updater
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.l1 = l1
        self.l2 = l2
        self.batch_size = batch_size
        self.epochs = epochs
        self.iterations = iterations
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.test_interval = test_interval
        self.slow_worker = slow_worker
        self.tick_time = tick_time
        self.on_worker_death = on_worker_death
        self.join_at = join_at
        self.replicas = replicas
        self.node_timeout = node_timeout
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.resume = resume
        self.memory = memory
        self.start_method = start_method
        self.timeline = timeline
        self.callbacks = callbacks

    def check(self) -> None:
        """Raises UsageError for parameters that break a rule: what `fit` would say without its data."""
        for name in ("workers", "servers"):
            whole(name, getattr(self, name), least=1)
        consistency = self.consistency()
        replicas_of(self.replicas, self.servers, consistency.in_place)
        self.plan()
        self.make_updater(unpenalized=-1)
        self.by_lbfgs()
        self._check_stopping()

    def settled(self) -> "Settings":
        """A copy, checked and with a seed that is a number. Raises as `check` does."""
        if self._is_kept() and not isinstance(self.random_state, numbers.Integral):
            raise UsageError(
                f"a training goes on with the random_state that it began with, found {self.random_state!r}"
            )
        params = {name: getattr(self, name) for name in inspect.signature(Settings).parameters}
        settings = Settings(**params | {"random_state": seed_of(self.random_state)})
        settings.check()
        return settings

    def _is_kept(self) -> bool:
        return self.checkpoint is not None or self.resume is not None

    def _check_stopping(self) -> None:
        if self.n_iter_no_change is not None:
            whole("n_iter_no_change", self.n_iter_no_change, least=1)
        if not 0 < positive("validation_fraction", self.validation_fraction) < 1:
            raise UsageError(f"validation_fraction lies between 0 and 1, found {self.validation_fraction!r}")
        check_callbacks(self.callbacks)

    def held(self, name: str) -> Any:
        """The value of a parameter in minibatches: what was given, or the default that None stands for."""
        value = getattr(self, name)
        return OF_MINIBATCHES.get(name) if value is None else value

    def by_lbfgs(self) -> bool:
        """Whether L-BFGS solves it. Raises UsageError if it is asked for together with what it cannot do."""
        if self.solver not in SOLVERS:
            raise UsageError(f"solver is one of {', '.join(SOLVERS)}; found {self.solver!r}")
        positive("tol", self.tol)
        allowed = _OF_LBFGS | dict.fromkeys(OF_MINIBATCHES, (None,))
        wrong = [
            f"{name}={getattr(self, name)!r}"
            for name, values in allowed.items()
            if getattr(self, name) not in values
        ]
        if self.solver == "lbfgs" and wrong:
            raise UsageError(
                f"lbfgs takes the same full steps of all workers in sync mode, at a length of its own; found "
                f"{', '.join(wrong)}; leave that out, or use solver='minibatch'"
            )
        return self.solver != "minibatch" and not wrong

    def consistency(self) -> Consistency:
        """The mode as a value. Raises UsageError if mode and bound contradict each other."""
        if self.mode not in (*MODES, "bounded"):
            raise UsageError(f"mode is one of {', '.join(MODES)}, bounded; found {self.mode!r}")
        if (self.bound is not None) != (self.mode == "bounded"):
            raise UsageError(
                f"a bound goes with mode='bounded' only; found mode={self.mode!r}, bound={self.bound!r}"
            )
        if self.bound is not None:
            return BOUNDED(self.bound)
        return MODES[self.mode]

    def plan(self) -> Plan:
        if self.iterations is not None:
            whole("iterations", self.iterations, least=1)
        self._check_nodes()
        elastic = self.join_at is not None or self.on_worker_death == CONTINUE
        self._check_checkpoints(elastic)
        every = whole("checkpoint_every", self.checkpoint_every, least=1)
        return Plan(
            batch_size=whole("batch_size", self.held("batch_size"), least=0),
            epochs=whole("epochs", self.held("epochs"), least=1),
            iterations=self.iterations,
            test_interval=whole("test_interval", self.test_interval, least=0),
            intercept=bool(self.fit_intercept),
            seed=seed_of(self.random_state),
            slow_worker=self.slow_worker,
            tick_time=self._tick_time(),
            checkpoint_every=0 if self.checkpoint is None else every,
            elastic=elastic,
            memory=None if self.memory is None else size("memory", self.memory),
            timeline=bool(self.timeline),
        )

    def _check_nodes(self) -> None:
        """Who takes part, and what becomes of one that dies or is slow."""
        if self.join_at is not None:
            whole("join_at", self.join_at, least=0)
            epochs = whole("epochs", self.held("epochs"), least=1)
            if self.iterations is None and self.join_at >= epochs:
                raise UsageError(
                    f"join_at is one of the epochs 0 to {epochs - 1}, found {self.join_at}; "
                    f"ask for more epochs, or an earlier one"
                )
        if self.on_worker_death not in ON_WORKER_DEATH:
            raise UsageError(
                f"on_worker_death is one of {', '.join(ON_WORKER_DEATH)}; found {self.on_worker_death!r}"
            )
        if self.node_timeout is not None:
            positive("node_timeout", self.node_timeout)
        if self.slow_worker is None:
            return
        found = repr(self.slow_worker)
        try:
            rank, factor = self.slow_worker
            found = f"rank {rank} and factor {factor:g}"
            fits = 0 <= rank < self.workers and 1 <= factor <= _SLOWEST
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise UsageError(
                f"slow_worker is a rank below workers={self.workers} and a factor from 1 to {_SLOWEST}, "
                f"found {found}"
            )

    def _check_checkpoints(self, elastic: bool) -> None:
        for name in ("checkpoint", "resume"):
            folder = getattr(self, name)
            if not (folder is None or isinstance(folder, str | os.PathLike)) or folder == "":
                raise UsageError(f"{name} is the path of a folder, found {folder!r}")
        if elastic and self._is_kept():
            raise UsageError(
                "a checkpoint is of workers that neither come nor go, found join_at="
                f"{self.join_at!r}, on_worker_death={self.on_worker_death!r}; leave out one or the other"
            )

    def kept_when_resumed(self, updater: Updater) -> dict[str, Any]:
        """What must be the same for a training to go on from a checkpoint of it."""
        plan = self.plan()
        return {
            "mode": str(self.consistency()),
            "workers": int(self.workers),
            "updater": self.held("updater"),
            "batch_size": plan.batch_size,
            "random_state": plan.seed,
            "fit_intercept": plan.intercept,
        } | vars(updater)

    def _tick_time(self) -> float:
        """In seconds."""
        milliseconds = not_negative("tick_time", self.tick_time)
        if milliseconds > _LONGEST:
            raise UsageError(f"tick_time is at most {_LONGEST} ms, found {milliseconds:g}")
        return milliseconds / 1000

    def make_updater(self, unpenalized: int) -> ByRule:
        kind, schedule = self.held("updater"), self.held("schedule")
        if kind not in LEARNING_RATES:
            raise UsageError(f"updater is one of {', '.join(LEARNING_RATES)}; found {kind!r}")
        if self.l1 and kind != "ftrl":
            raise UsageError(f"l1 needs updater='ftrl', found {kind!r} with l1={self.l1}")
        if schedule != "constant" and kind not in _DESCENTS:
            raise UsageError(f"a schedule needs updater='sgd', found {kind!r} with {schedule!r}")
        in_place = self.consistency().in_place
        if in_place and (kind == "dist-lr" or schedule == "1/(1+delay)"):
            raise UsageError(
                f"hogwild workers push nothing that dist-lr's rules or the schedule 1/(1+delay) could go by; "
                f"found updater={kind!r}, schedule={schedule!r}; use others"
            )
        rates = LEARNING_RATES | (HOGWILD_RATES if in_place else {})
        rate = rates[kind] if self.learning_rate is None else self.learning_rate
        if kind == "ftrl":
            return FTRL(rate, l1=self.l1, l2=self.l2, unpenalized=unpenalized)
        if kind == "adagrad":
            initial = 1.0 if in_place else 1e-4  # beside the squares of a row's gradient, or of a mean's
            return AdaGrad(rate, l2=self.l2, initial=initial, unpenalized=unpenalized)
        descent = _DESCENTS[kind]
        return descent(rate, l2=self.l2, schedule=schedule, unpenalized=unpenalized)

    def evaluated_every(self, rows: int) -> int:
        """Return the iterations of worker 0 between evaluations; 0: no evaluations.

        Callbacks without a `test_interval` run once per epoch (L-BFGS: once per round), and at least once at
        the end.
        """
        stops_early = self.early_stopping or self.n_iter_no_change is not None
        if not (stops_early or CallbackList(self.callbacks).needs_evaluations):
            return self.test_interval
        if self.by_lbfgs():
            return self.test_interval or 1
        return min(self.test_interval or self.ticks_per_epoch(rows)[0], self.ticks_planned(rows)[0])

    def ticks_per_epoch(self, rows: int) -> list[int]:
        """Of each worker."""
        cuts = [rows * rank // self.workers for rank in range(self.workers + 1)]
        sizes, rows_of_one = (end - begin for begin, end in itertools.pairwise(cuts)), self.held("batch_size")
        return [-(-size // rows_of_one) if rows_of_one else 1 for size in sizes]

    def ticks_planned(self, rows: int) -> list[int]:
        """Of each worker."""
        return [self.iterations or self.held("epochs") * ticks for ticks in self.ticks_per_epoch(rows)]
