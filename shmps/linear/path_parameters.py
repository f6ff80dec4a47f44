"""The parameters of a cross-validation along a path of penalties, declared as those of a training are.

What a training by full gradients needs too is taken from `linear.parameters`. No NumPy is imported here.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from shmps.checks import Rule, boolean, integer, integer_or_bool, number
from shmps.linear.declaration import Declaration, parameter
from shmps.linear.parameters import DECLARED, Parameters


def list_of(each: Rule) -> Rule:
    """Accept a list, or another collection, of one value or more, each of which `each` accepts."""

    def broken(value: Any) -> str:
        is_list = isinstance(value, Collection) and not isinstance(value, str) and len(value) > 0
        fits = is_list and not any(each.broken(one) for one in value)
        return "" if fits else f"a list, each {each.broken(None)}"

    return Rule(f"list of {each.type}", broken)


def count_or(values: Rule) -> Rule:
    """Accept an integer >= 1, or what `values` accepts."""

    def broken(value: Any) -> str:
        fits = not integer(least=1).broken(value) or not values.broken(value)
        return "" if fits else f"an integer >= 1, or {values.broken(None)}"

    return Rule(f"int or {values.type}", broken)


def _shared(name: str) -> Any:
    """Return the field of a parameter that a training has too, without what only a training needs to know."""
    [own] = (each for each in fields(Parameters) if each.name == name)
    return field(default=own.default, metadata={**own.metadata, "more": ""})


# fmt: off
@dataclass(repr=False, eq=False)
class PathParameters:
    """The parameters of LogisticRegressionCV as they were given."""

    Cs: int | Sequence[float] = parameter(
        10, count_or(list_of(number(above=0))), "the penalties to choose from, as scikit-learn has them",
        more="The factor C of the sum of the rows' losses; n stands for n numbers from 1e-4 to 1e4 at equal "
        "ratios. With the sum S of the weights of the rows that are trained on, l1 is l1_ratio / (C S) and "
        "l2 is (1 - l1_ratio) / (C S).",
        flag=None,
    )
    l1_ratios: Sequence[float] | None = parameter(
        None, list_of(number(least=0, most=1)), "the shares of the L1 penalty to choose from (default: 0)",
        flag=None,
    )
    cv: Any = parameter(
        None, Rule("int, splitter or list of pairs (train, test)", lambda value: ""),
        "the folds (default: 5)",
        more="An integer: so many folds, stratified, not shuffled. Or a splitter of scikit-learn, or the row "
        "numbers to train on and to score of each fold.",
        flag=None,
    )
    scoring: Any = parameter(
        None, Rule("str or callable", lambda value: ""), "what to choose by (default: accuracy)",
        more='"accuracy", "neg_log_loss", the name of a scorer of scikit-learn, or a function '
        "(estimator, X, y), which is given sample_weight too if `fit` is. The largest mean over the folds is "
        "chosen; of equal ones, that of the strongest penalty.",
        flag=None,
    )
    refit: bool = parameter(
        True, boolean(), "train on all rows with the chosen penalty",
        more="If not, the weights are the means over the folds of those of each fold's best penalty.",
        flag=None,
    )
    multi_class: str = _shared("multi_class")
    tol: float = parameter(
        1e-4, number(above=0), "relative tolerance on the objective, in the folds",
        more="The training on all rows has that of LogisticRegression, or this one if it is less.",
        flag=None,
    )
    iterations: int | None = parameter(
        None, integer(least=1), "the most gradients of a fit (default: 500)",
        flag=None,
    )
    fit_intercept: bool = _shared("fit_intercept")
    class_weight: dict[Any, float] | str | None = _shared("class_weight")  # noqa: RUF009
    workers: int | None = _shared("workers")
    servers: int = _shared("servers")
    on_worker_death: str = _shared("on_worker_death")
    node_timeout: float | None = _shared("node_timeout")
    start_method: str | None = _shared("start_method")
    verbose: int = parameter(
        0, integer_or_bool(least=0), "1: show a progress bar, in notebooks as a widget",
        flag=None,
    )
# fmt: on


PATH_DECLARED = {
    each.name: Declaration(each.name, each.default, **each.metadata) for each in fields(PathParameters)
}
TRAINED_WITH = tuple(name for name in PATH_DECLARED if name in DECLARED)  # parameters of a training too
