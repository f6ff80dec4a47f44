"""Other solvers of regularised logistic regression that are installed, behind one interface.

They minimise the objectives of `bench.speed.problems`, without an intercept (gblinear always has one, which
the objective leaves out). The rows are in the solver's own format before the clock starts.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from bench.speed.problems import Problem

CORES = 2
PACKAGES = "liblinear-multicore", "snapml", "scikit-learn", "skglm", "xgboost", "torch"
Run = Callable[
    [Any], np.ndarray
]  # trains with a setting, returns the weights as `Problem.objective` takes them


class Peer(NamedTuple):
    package: str
    name: str
    run: Run
    settings: Sequence[Any]  # from coarse to fine
    threads: int = 1


_ROUNDS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 400, 800)
_TOLERANCES = (0.3, 0.1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
_FACTORISABLE = 2000  # the most weights for newton-cholesky: minutes and gigabytes at 10,000


def peers(problem: Problem, packages: Sequence[str] = PACKAGES) -> tuple[list[Peer], list[str]]:
    """Return the installed solvers of the problem, and the names of the packages that are not installed.

    Each class against the rest: a solver with one thread trains as many classes at once as there are cores.
    """
    each, missing = zip(*(_peers(part, packages) for part in problem.parts()), strict=True)
    if problem.kind != "rest":
        return each[0], missing[0]
    return [_combined(same) for same in zip(*each, strict=True)], missing[0]


def _combined(same: tuple[Peer, ...]) -> Peer:
    """Combine one solver's peers of all classes into one peer."""
    at_once = CORES // same[0].threads
    mapped = map if at_once == 1 else ThreadPoolExecutor(at_once).map

    def run(setting: Any) -> np.ndarray:
        return np.column_stack(list(mapped(lambda peer: peer.run(setting), same)))

    return same[0]._replace(run=run)


def _peers(problem: Problem, packages: Sequence[str]) -> tuple[list[Peer], list[str]]:
    makers = dict(zip(PACKAGES, (_liblinear, _snapml, _sklearn, _skglm, _xgboost, _torch), strict=True))
    found: list[Peer] = []
    missing = []
    for package in packages:
        try:
            found += [Peer(package, *peer) for peer in makers[package](problem)]
        except ImportError:
            missing.append(package)
    return found, missing


# Each yields the fields of Peer after the package.
Fields = tuple[str, Run, Sequence[Any]] | tuple[str, Run, Sequence[Any], int]


def _liblinear(problem: Problem) -> Iterator[Fields]:
    from liblinear import liblinearutil

    if problem.kind == "softmax":
        return
    rows = liblinearutil.problem(problem.y, problem.X)

    def trained(options: str) -> Run:
        def run(tolerance: float) -> np.ndarray:
            options_ = f"-c {problem.C} -e {tolerance} -q {options}"
            model = liblinearutil.train(rows, liblinearutil.parameter(options_))
            sign = 1.0 if model.get_labels()[0] == 1 else -1.0
            return sign * np.array(model.get_decfun()[0])

        return run

    if problem.kind == "l1":
        yield "liblinear -s 6, 2 threads", trained("-s 6 -m 2"), _TOLERANCES, 2
        yield "liblinear -s 6", trained("-s 6 -m 1"), _TOLERANCES
    else:
        yield "liblinear -s 0, 2 threads", trained("-s 0 -m 2"), _TOLERANCES, 2
        yield "liblinear -s 0", trained("-s 0 -m 1"), _TOLERANCES
        yield "liblinear -s 7 (dual)", trained("-s 7"), _TOLERANCES


def _snapml(problem: Problem) -> Iterator[Fields]:
    import snapml

    if problem.kind == "softmax":
        return
    rows, labels = problem.X.astype(np.float32), (problem.y > 0).astype(np.float32)

    def trained(dual: bool, threads: int) -> Run:
        def run(rounds: int) -> np.ndarray:
            model = snapml.LogisticRegression(
                regularizer=1 / problem.C, penalty=problem.kind, dual=dual, n_jobs=threads, max_iter=rounds,
                tol=1e-12, fit_intercept=False,
            )  # fmt: skip
            return np.asarray(model.fit(rows, labels).coef_, float).ravel()

        return run

    for dual in (False,) if problem.kind == "l1" else (True, False):
        for threads in (2, 1):
            form = "dual" if dual else "primal"
            name = f"Snap ML, {form}, {threads} thread{'s' * (threads > 1)}"
            yield name, trained(dual, threads), _ROUNDS, threads


def _sklearn(problem: Problem) -> Iterator[Fields]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = problem.X, problem.y

    def trained(solver: str) -> Run:
        def run(rounds: int) -> np.ndarray:
            model = LogisticRegression(
                C=problem.C, l1_ratio=float(problem.kind == "l1"), solver=solver, max_iter=rounds, tol=1e-12,
                fit_intercept=False, random_state=0,
            )  # fmt: skip
            return _columns(model.fit(X, y).coef_)

        return run

    def sgd(rounds: int) -> np.ndarray:
        alpha = 1 / (problem.C * len(y))
        model = SGDClassifier("log_loss", alpha=alpha, max_iter=rounds, tol=None, fit_intercept=False)
        return _columns(model.set_params(random_state=0).fit(X, y).coef_)

    if problem.kind == "l1":
        fitting = ["liblinear", "saga"]
    else:
        fitting = ["lbfgs", "newton-cg", "saga"]
        outputs = len(np.unique(y)) if problem.kind == "softmax" else 1
        if X.shape[1] * outputs <= _FACTORISABLE:
            fitting.append("newton-cholesky")
    if problem.kind == "l2":
        fitting.append("liblinear")
        yield "scikit-learn SGDClassifier", sgd, _ROUNDS[:9]
    for solver in fitting:
        yield f"scikit-learn {solver}", trained(solver), _ROUNDS


def _columns(coefficients: np.ndarray) -> np.ndarray:
    return coefficients[0] if len(coefficients) == 1 else coefficients.T


def _skglm(problem: Problem) -> Iterator[Fields]:
    from skglm import datafits, penalties, solvers

    if problem.kind == "softmax":
        return
    X, strength = problem.X.tocsc(), 1 / (problem.C * len(problem.y))

    def solved(solver: Any, penalty: Any) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rounds that did not converge
            return solver.solve(X, problem.y, datafits.Logistic(), penalty)[0]

    def lbfgs(rounds: int) -> np.ndarray:
        return solved(solvers.LBFGS(max_iter=rounds, tol=1e-12), penalties.L2(strength))

    def prox_newton(tolerance: float) -> np.ndarray:
        solver = solvers.ProxNewton(tol=tolerance * strength, fit_intercept=False)
        return solved(solver, penalties.L1(strength))

    if problem.kind == "l1":
        yield "skglm ProxNewton", prox_newton, _TOLERANCES
    else:
        yield "skglm LBFGS", lbfgs, _ROUNDS


def _xgboost(problem: Problem) -> Iterator[Fields]:
    import xgboost

    X, y, joint = problem.X, problem.y, problem.kind == "softmax"
    classes = int(y.max()) + 1 if joint else 1
    matrix = xgboost.DMatrix(X, label=y if joint else (y > 0).astype(float), nthread=2)
    settings = {
        "booster": "gblinear", "eta": 0.5, "nthread": 2, "base_score": 0.5,
        "alpha" if problem.kind == "l1" else "lambda": 1 / (problem.C * len(y)),
        "objective": "multi:softprob" if joint else "binary:logistic",
    } | ({"num_class": classes} if joint else {})  # fmt: skip

    def trained(updater: str) -> Run:
        def run(rounds: int) -> np.ndarray:
            model = xgboost.train(settings | {"updater": updater}, matrix, num_boost_round=rounds)
            lines = model.get_dump()[0].split()
            weights = np.array(lines[lines.index("weight:") + 1 :], float)
            return weights.reshape(-1, classes) if joint else weights

        return run

    for updater in ("shotgun", "coord_descent"):
        yield f"xgboost gblinear {updater}, 2 threads", trained(updater), _ROUNDS[:12], 2


def _torch(problem: Problem) -> Iterator[Fields]:
    import torch

    if problem.kind == "l1":
        return
    torch.set_num_threads(2)
    X, y, C = problem.X, problem.y, problem.C
    rows = torch.sparse_csr_tensor(
        torch.from_numpy(X.indptr.astype(np.int64)), torch.from_numpy(X.indices.astype(np.int64)),
        torch.from_numpy(X.data), X.shape, check_invariants=False,
    )  # fmt: skip
    columns, labels = rows.t().to_sparse_csr(), torch.from_numpy(y)
    one_hot: Any = torch.nn.functional.one_hot(labels).double() if problem.kind == "softmax" else None

    def binary(weights: Any) -> tuple[Any, Any]:
        margins = labels * (rows @ weights)
        return torch.nn.functional.softplus(-margins).sum(), -labels * torch.sigmoid(-margins)

    def softmax(weights: Any) -> tuple[Any, Any]:
        margins = rows @ weights
        loss = torch.nn.functional.cross_entropy(margins, labels, reduction="sum")
        return loss, torch.softmax(margins, 1) - one_hot

    loss_and_slopes = binary if one_hot is None else softmax
    shape = X.shape[1] if one_hot is None else (X.shape[1], one_hot.shape[1])

    def run(rounds: int) -> np.ndarray:
        weights = torch.zeros(shape, dtype=torch.float64)
        weights.grad = torch.zeros_like(weights)
        search = torch.optim.LBFGS([weights], max_iter=rounds, line_search_fn="strong_wolfe")

        def closure() -> Any:
            loss, slopes = loss_and_slopes(weights)
            weights.grad = weights + C * (columns @ slopes)
            return 0.5 * torch.square(weights).sum() + C * loss

        search.step(closure)
        return weights.detach().numpy()

    yield "PyTorch L-BFGS, 2 threads", run, _ROUNDS, 2
