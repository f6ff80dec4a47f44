"""The names that parameters have in other programs: scikit-learn, liblinear, XGBoost, LightGBM and others."""

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from shmps.errors import Named
from shmps.linear.parameters import described

ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    name: ours
    for names, ours in {
        "lr eta eta0 rate step_size learning_rate_init": ("learning_rate",),
        "alpha": ("learning_rate", "l2"),
        "reg reg_param lambda lambda_ weight_decay reg_lambda lambda_l2": ("l2",),
        "reg_alpha lambda_l1": ("l1",),
        "c cost": ("C",),
        "max_iter max_iterations n_iter num_iter num_round num_boost_round": ("iterations", "epochs"),
        "passes num_epochs n_epochs": ("epochs",),
        "optimizer rule": ("updater",),
        "n_jobs jobs threads nthread num_threads num_workers processes": ("workers",),
        "batch minibatch": ("batch_size",),
        "eps epsilon tolerance": ("tol",),
        "bias intercept": ("fit_intercept",),
        "seed random_seed": ("random_state",),
        "early_stopping_rounds patience": ("n_iter_no_change",),
    }.items()
    for name in names.split()
}
# Parameters of other programs that have no name here, and what to do about them, as templates.
_OTHERWISE = {
    "penalty": "{C} and {l1_ratio}, or {l1} and {l2}, give the penalty here; an infinite {C} is none",
    "dual": "there is no dual form here; leave it out",
    "intercept_scaling": "the intercept has no penalty here; leave it out",
    "loss": "the loss is always logistic here; leave it out",
    "shuffle": "{random_state} shuffles minibatches here; leave it out",
    "average": "weights are not averaged here; leave it out",
    "power_t": "{schedule:'1/sqrt(t)'} is its value 0.5 here, {schedule:'1/t'} is 1",
}


def otherwise(name: str, named: Callable[[str, Any], Named] = Named) -> str:
    """Return what to do about a parameter of another program that has no name here; "" if there is none."""
    return described(_OTHERWISE.get(name, ""), named)


def advice(name: str, known: Collection[str]) -> str:
    """Return what to do about a name that is none of the `known` parameters."""
    if what := otherwise(name):
        return what
    if ours := [each for each in ELSEWHERE.get(name.lower(), ()) if each in known]:
        return f"{name} is called {' or '.join(ours)} here"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"{near[0]} is near" if near else f"the parameters are {', '.join(known)}"
