"""The values that flags and parameters take by name: known without numba and scipy, so that help is quick."""

from typing import Any

from shmps.ps.scheduler.run import CONTINUE, FAIL, RESPAWN

ON_WORKER_DEATH = (RESPAWN, CONTINUE, FAIL)
SOLVERS = ("auto", "lbfgs", "minibatch")
# What only minibatches have, and the value of each where None is given. The updater has a rate of its own.
OF_MINIBATCHES: dict[str, Any] = {
    "updater": "adagrad", "learning_rate": None, "schedule": "constant", "batch_size": 256, "epochs": 10,
}  # fmt: skip
# Rates that work on a9a in sync and in async mode; dist-lr's is the one its table was made with.
LEARNING_RATES = {"sgd": 0.5, "adagrad": 0.1, "ftrl": 0.5, "dist-lr": 1.0}
HOGWILD_RATES = {"sgd": 0.02, "ftrl": 0.1}  # where a step is a row's, and not a minibatch's mean
SCHEDULES = ("constant", "1/t", "1/sqrt(t)", "1/(1+delay)")
