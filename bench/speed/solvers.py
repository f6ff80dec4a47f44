"""Other solvers of L2-regularised logistic regression that are installed, behind one interface.

All minimise 1/2 |w|^2 + C sum_i log(1 + exp(-y_i x_i.w)) with C = 1 and no intercept (gblinear always has
one, which counts in its favour). The rows are in the solver's own format before the clock starts.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

CORES = 2
Run = Callable[[Any], np.ndarray]  # trains with a setting, returns the weights (features,)


class Peer(NamedTuple):
    name: str
    run: Run
    settings: Sequence[Any]  # from coarse to fine
    threads: int = 1


_ROUNDS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 400, 800)
_TOLERANCES = (0.3, 0.1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)


def peers(X: Any, problems: list[np.ndarray]) -> tuple[list[Peer], list[str]]:
    """Return the installed solvers, and the names of the packages that are not installed.

    problems: the labels (rows,), -1 and +1, of each binary problem. The weights are (features, problems). A
    solver with one thread trains as many problems at once as there are cores.
    """
    each, missing = zip(*(_peers(X, y) for y in problems), strict=True)
    return [_combined(same) for same in zip(*each, strict=True)], missing[0]


def _combined(same: tuple[Peer, ...]) -> Peer:
    """Combine one solver's peers of all problems into one peer."""
    at_once = min(len(same), CORES // same[0].threads)
    mapped = map if at_once == 1 else ThreadPoolExecutor(at_once).map

    def run(setting: Any) -> np.ndarray:
        return np.column_stack(list(mapped(lambda peer: peer.run(setting), same)))

    return same[0]._replace(run=run)


def _peers(X: Any, y: np.ndarray) -> tuple[list[Peer], list[str]]:
    found: list[Peer] = []
    missing = []
    for package, make in (
        ("liblinear-multicore", _liblinear),
        ("snapml", _snapml),
        ("scikit-learn", _sklearn),
        ("xgboost", _xgboost),
        ("torch", _torch),
    ):
        try:
            found += make(X, y)
        except ImportError:
            missing.append(package)
    return found, missing


def _liblinear(X: Any, y: np.ndarray) -> Iterator[Peer]:
    from liblinear import liblinearutil

    problem = liblinearutil.problem(y, X)

    def trained(options: str) -> Run:
        def run(tolerance: float) -> np.ndarray:
            model = liblinearutil.train(problem, liblinearutil.parameter(f"-c 1 -e {tolerance} -q {options}"))
            sign = 1.0 if model.get_labels()[0] == 1 else -1.0
            return sign * np.array(model.get_decfun()[0])

        return run

    yield Peer("liblinear-multicore -s 0, 2 threads", trained("-s 0 -m 2"), _TOLERANCES, 2)
    yield Peer("liblinear -s 0", trained("-s 0 -m 1"), _TOLERANCES)
    yield Peer("liblinear -s 7 (dual)", trained("-s 7"), _TOLERANCES)


def _snapml(X: Any, y: np.ndarray) -> Iterator[Peer]:
    import snapml

    rows, labels = X.astype(np.float32), (y > 0).astype(np.float32)

    def trained(dual: bool, threads: int) -> Run:
        def run(rounds: int) -> np.ndarray:
            model = snapml.LogisticRegression(
                regularizer=1.0, dual=dual, n_jobs=threads, max_iter=rounds, tol=1e-12, fit_intercept=False
            )
            return np.asarray(model.fit(rows, labels).coef_, float).ravel()

        return run

    for dual, threads in ((True, 2), (False, 2), (False, 1)):
        form = "dual" if dual else "primal"
        name = f"Snap ML, {form}, {threads} thread{'s' * (threads > 1)}"
        yield Peer(name, trained(dual, threads), _ROUNDS, threads)


def _sklearn(X: Any, y: np.ndarray) -> Iterator[Peer]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    warnings.simplefilter("ignore", ConvergenceWarning)

    def trained(solver: str) -> Run:
        def run(rounds: int) -> np.ndarray:
            model = LogisticRegression(
                C=1.0, solver=solver, max_iter=rounds, tol=1e-12, fit_intercept=False, random_state=0
            )
            return model.fit(X, y).coef_.ravel()

        return run

    def sgd(rounds: int) -> np.ndarray:
        model = SGDClassifier(
            "log_loss", alpha=1 / len(y), max_iter=rounds, tol=None, fit_intercept=False, random_state=0
        )
        return model.fit(X, y).coef_.ravel()

    yield Peer("scikit-learn saga", trained("saga"), _ROUNDS)
    yield Peer("scikit-learn lbfgs", trained("lbfgs"), _ROUNDS)
    yield Peer("scikit-learn SGDClassifier", sgd, _ROUNDS[:9])


def _xgboost(X: Any, y: np.ndarray) -> Iterator[Peer]:
    import xgboost

    matrix, n = xgboost.DMatrix(X, label=(y > 0).astype(float), nthread=2), X.shape[1]
    settings = {
        "booster": "gblinear", "updater": "shotgun", "objective": "binary:logistic", "lambda": 1 / len(y),
        "eta": 0.5, "nthread": 2, "base_score": 0.5,
    }  # fmt: skip

    def run(rounds: int) -> np.ndarray:
        model = xgboost.train(settings, matrix, num_boost_round=rounds)
        lines = model.get_dump()[0].split()
        return np.array(lines[lines.index("weight:") + 1 :], float)[:n]

    yield Peer("xgboost gblinear shotgun, 2 threads", run, _ROUNDS[:12], 2)


def _torch(X: Any, y: np.ndarray) -> Iterator[Peer]:
    import torch

    torch.set_num_threads(2)
    rows = torch.sparse_csr_tensor(
        torch.from_numpy(X.indptr.astype(np.int64)), torch.from_numpy(X.indices.astype(np.int64)),
        torch.from_numpy(X.data), X.shape, check_invariants=False,
    )  # fmt: skip
    columns, labels = rows.t().to_sparse_csr(), torch.from_numpy(y)

    def run(rounds: int) -> np.ndarray:
        weights = torch.zeros(X.shape[1], dtype=torch.float64)
        weights.grad = torch.zeros_like(weights)
        search = torch.optim.LBFGS([weights], max_iter=rounds, line_search_fn="strong_wolfe")

        def closure() -> Any:
            margins = labels * (rows @ weights)
            weights.grad = weights - columns @ (labels * torch.sigmoid(-margins))
            return 0.5 * weights @ weights + torch.nn.functional.softplus(-margins).sum()

        search.step(closure)
        return weights.detach().numpy()

    yield Peer("PyTorch L-BFGS, 2 threads", run, _ROUNDS, 2)
