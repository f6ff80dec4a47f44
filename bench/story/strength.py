"""Which strength of the L2 penalty should be the default: held-out log-loss of the exact optimum.

A case is a data set and a number of training rows; other rows of the set are held out. For each strength, the
optimum of mean loss + l2/2 |w|^2 (intercept without penalty; softmax with more than two classes) is found by
Newton's method, with many weights by scikit-learn's L-BFGS. The excess of a strength in a case is the
held-out log-loss, in nats per row, minus that of the best strength of the case, each the mean over splits.

Sets: the *.npz files of real/ in the data folder (CSR arrays indptr, indices, data; shape; y), a9a,
scikit-learn's small sets, and generated ones, which cover scales, noise, separability and rare positives.

Results: "cases": [{"set", "group" (real, small, generated), "rows" (of training), "features", "classes",
"log_loss": {strength: mean over splits}, "constant" (of predicting class shares)}].
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.special import logsumexp, softmax

from bench import record
from bench.timing import progress
from shmps.data import datasets
from shmps.errors import DataError

STRENGTHS: dict[str, Callable[[int], float]] = {
    "1e-06": lambda rows: 1e-6,
    "1e-05": lambda rows: 1e-5,
    "1e-04": lambda rows: 1e-4,
    "1e-03": lambda rows: 1e-3,
    "0.01/n": lambda rows: 0.01 / rows,
    "0.1/n": lambda rows: 0.1 / rows,
    "0.3/n": lambda rows: 0.3 / rows,
    "1/n": lambda rows: 1 / rows,
    "3/n": lambda rows: 3 / rows,
    "10/n": lambda rows: 10 / rows,
}
SIZES = (100, 1000, 20_000)  # of training rows; a case has at most two thirds of the set
HELD_OUT = 20_000  # at most
_MOST_WEIGHTS = 1000  # for Newton's method, which factors a square matrix of the weights
_MOST_STEPS, _TOLERANCE = 200, 1e-10
_GROUPS = ("real", "small", "generated")
_LEAST = 1e-15  # probability, as in most metrics


class Set(NamedTuple):
    name: str
    group: str
    X: Any  # (rows, features), sparse or dense
    y: np.ndarray


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    splits, sizes = (1, SIZES[:1]) if quick else (3, SIZES)
    sets = [*_real(), *_small(), *_generated()]
    cases = [(each, rows) for each in sets for rows in _sizes(each, sizes)]
    with progress("strength", len(cases)) as bar:
        found = []
        for each, rows in cases:
            found.append(_case(each, rows, splits))
            bar.update()
    return {"splits": splits, "strengths": list(STRENGTHS), "sizes": list(sizes)}, {"cases": found}


def _sizes(each: Set, sizes: tuple[int, ...]) -> list[int]:
    most = 2 * len(each.y) // 3
    return sorted({min(size, most) for size in sizes})


def _case(each: Set, rows: int, splits: int) -> dict[str, Any]:
    losses = [_split(each, rows, split) for split in range(splits)]
    mean = {name: float(np.mean([loss[name] for loss in losses])) for name in losses[0]}
    return {
        "set": each.name,
        "group": each.group,
        "rows": rows,
        "features": each.X.shape[1],
        "classes": len(np.unique(each.y)),
        "constant": mean.pop("constant"),
        "log_loss": mean,
    }


def _split(each: Set, rows: int, split: int) -> dict[str, float]:
    """Return the held-out log-loss by strength for one division of the rows, which trains on every class."""
    random, classes = np.random.default_rng([split, rows]), len(np.unique(each.y))
    order = random.permutation(len(each.y))
    first = np.unique(each.y[order], return_index=True)[1]  # a row of each class is among those to train on
    order = np.concatenate([order[first], np.delete(order, first)])
    train, test = order[:rows], order[rows : rows + HELD_OUT]
    shares = np.bincount(np.unique(each.y[train], return_inverse=True)[1], minlength=classes) / rows
    known = np.unique(each.y)
    truth = np.searchsorted(known, each.y[test])
    losses = {"constant": float(-np.log(np.maximum(shares[truth], _LEAST)).mean())}
    strengths = sorted(((strength(rows), name) for name, strength in STRENGTHS.items()), reverse=True)
    predicted = _path(each.X[train], each.y[train], [l2 for l2, _ in strengths], each.X[test])
    for (_, name), probabilities in zip(strengths, predicted, strict=True):
        own = probabilities[np.arange(len(test)), truth]
        losses[name] = float(-np.log(np.maximum(own, _LEAST)).mean())
    return losses


def _path(X: Any, y: np.ndarray, strengths: list[float], X_test: Any) -> Iterator[np.ndarray]:
    """Yield for each l2, the largest first, what its optimum predicts, (rows, classes)."""
    classes = len(np.unique(y))
    if (X.shape[1] + 1) * classes <= _MOST_WEIGHTS:
        X, X_test = (np.hstack([_dense(each), np.ones((each.shape[0], 1))]) for each in (X, X_test))
        Y, weights = np.eye(classes)[np.unique(y, return_inverse=True)[1]], np.zeros((X.shape[1], classes))
        for l2 in strengths:
            weights = _newton(X, Y, l2, weights)
            yield softmax(X_test @ weights, axis=1)
        return
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(tol=1e-7, max_iter=10_000, warm_start=True)
    for l2 in strengths:
        yield model.set_params(C=1 / (l2 * len(y))).fit(X, y).predict_proba(X_test)


def _dense(X: Any) -> np.ndarray:
    return X.toarray() if scipy.sparse.issparse(X) else X


def _newton(X: np.ndarray, Y: np.ndarray, l2: float, weights: np.ndarray) -> np.ndarray:
    """Return the weights (features, classes) of softmax from these; the last row of weights has no penalty.

    With two classes the second one alone has weights. Newton steps with a line search end when the predicted
    decrease is below _TOLERANCE. X (rows, features), Y (rows, classes): 1 for the class of the row.
    """
    (rows, features), free = X.shape, slice(1, None) if Y.shape[1] == 2 else slice(None)
    penalty = np.full((features, 1), l2)
    penalty[-1] = 0.0
    value, P = _objective(X, Y, penalty, weights)
    for _ in range(_MOST_STEPS):
        gradient = (X.T @ (P - Y) / rows + penalty * weights)[:, free]
        step = np.zeros_like(weights)
        step[:, free] = _step(X, P[:, free], penalty, gradient)
        slope = float((step[:, free] * gradient).sum())
        if slope < _TOLERANCE:
            break
        length = 1.0
        while True:
            new, P = _objective(X, Y, penalty, weights - length * step)
            if new <= value - 1e-4 * length * slope or length < 1e-9:
                break
            length /= 2
        weights, value = weights - length * step, new
    return weights


def _objective(X: np.ndarray, Y: np.ndarray, penalty: Any, weights: Any) -> tuple[float, np.ndarray]:
    """Return the objective, and the probabilities (rows, classes)."""
    margins = X @ weights
    losses = logsumexp(margins, axis=1) - (margins * Y).sum(axis=1)
    return float(losses.mean() + (penalty * weights**2).sum() / 2), softmax(margins, axis=1)


def _step(X: np.ndarray, P: np.ndarray, penalty: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the inverse of the Hessian times the gradient (features, classes)."""
    (rows, features), classes = X.shape, P.shape[1]
    hessian = np.empty((classes, features, classes, features))
    for k in range(classes):
        for j in range(k + 1):
            curvature = P[:, k] * ((k == j) - P[:, j]) / rows
            hessian[k, :, j] = hessian[j, :, k] = (X.T * curvature) @ X
        hessian[k, range(features), k, range(features)] += penalty[:, 0]
    square = hessian.reshape(classes * features, -1)
    scale = 1 / np.sqrt(np.maximum(np.diag(square), 1e-30))
    scaled = square * scale * scale[:, None] + 1e-9 * np.eye(len(square))
    solved = scale * scipy.linalg.solve(scaled, scale * gradient.T.ravel(), assume_a="pos")
    return solved.reshape(classes, features).T


def _real() -> Iterator[Set]:
    folder = Path(datasets.paths("a9a", None)[0]).parent / "real"
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            X = scipy.sparse.csr_matrix((file["data"], file["indices"], file["indptr"]), file["shape"])
            yield Set(path.stem, "real", X, file["y"])
    try:
        a9a = datasets.load("a9a", progress=False)
    except DataError:
        return
    yield Set("a9a", "real", a9a.train_X, np.asarray(a9a.train_y))


def _small() -> Iterator[Set]:
    from sklearn import datasets as small
    from sklearn.preprocessing import StandardScaler

    for name in ("breast_cancer", "iris", "wine", "digits"):
        X, y = getattr(small, f"load_{name}")(return_X_y=True)
        yield Set(name, "small", X, y)
        yield Set(f"{name}, scaled", "small", StandardScaler().fit_transform(X), y)


def _generated() -> Iterator[Set]:
    random = np.random.default_rng(0)
    for name, features, signal, shift, scale in (
        ("strong, 20 features", 20, 5.0, 0.0, 1.0),
        ("weak, 20 features", 20, 0.5, 0.0, 1.0),
        ("weak, 200 features", 200, 0.5, 0.0, 1.0),
        ("noise, 50 features", 50, 0.0, 0.0, 1.0),
        ("separable, 50 features", 50, 1e6, 0.0, 1.0),
        ("rare positives", 20, 1.5, -5.0, 1.0),
        ("times 0.01", 20, 2.0, 0.0, 0.01),
        ("times 100", 20, 2.0, 0.0, 100.0),
    ):
        X = random.normal(size=(6000, features))
        truth = random.normal(size=features)
        margins = signal * X @ (truth / np.linalg.norm(truth)) + shift
        y = (margins + random.logistic(size=len(X)) > 0).astype(int)
        yield Set(name, "generated", scale * X, y)
    words = scipy.sparse.random(
        6000, 3000, density=0.01, random_state=1, data_rvs=lambda count: np.ones(count), format="csr"
    )
    margins = words @ random.normal(size=3000) * 0.5
    yield Set("3,000 words", "generated", words, (margins + random.logistic(size=6000) > 0).astype(int))


def excess(case: dict[str, Any]) -> dict[str, float]:
    """Return the held-out log-loss by strength, minus that of the best strength of the case."""
    least = min(case["log_loss"].values())
    return {name: loss - least for name, loss in case["log_loss"].items()}


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    cases = results["cases"]
    found = [excess(case) for case in cases]
    rows = []
    for name in settings["strengths"]:
        own = [each[name] for each in found]
        worst = cases[int(np.argmax(own))]
        groups = [[each[name] for each in _of(cases, found, group)] for group in _GROUPS]
        rows.append(
            [
                name, f"{np.mean(own):.3f}", f"{np.quantile(own, 0.9):.3f}", f"{max(own):.3f}",
                f"{worst['set']}, {worst['rows']:,}", *(f"{max(group):.3f}" for group in groups if group),
            ]
        )  # fmt: skip
    headers = ["l2", "mean", "90 % of cases", "worst", "set and rows of the worst"]
    headers += [f"worst, {group}" for group in _GROUPS if _of(cases, found, group)]
    caption = (
        f"Excess of the held-out log-loss over that of the best strength, in nats per row, in {len(cases)} "
        f"cases: {len({case['set'] for case in cases})} data sets, with up to "
        f"{', '.join(f'{size:,}' for size in settings['sizes'])} training rows (n), mean of "
        f"{settings['splits']} splits each."
    )
    return f"{record.markdown(headers, rows)}\n\n{caption}"


def _of(cases: list[dict[str, Any]], found: list[Any], group: str) -> list[Any]:
    return [each for case, each in zip(cases, found, strict=True) if case["group"] == group]


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    """Return the table of the real sets with most rows, and the worst excess by strength."""
    largest = {case["set"]: case for case in results["cases"] if case["group"] == "real"}
    names = settings["strengths"]
    rows = [
        [case["set"], f"{case['rows']:,}", f"{case['constant']:.4f}"]
        + [f"{case['log_loss'][name]:.4f}" for name in names]
        for case in largest.values()
    ]
    texts = {"real": record.markdown(["set", "rows", "no model", *names], rows)}
    for name in names:
        worst = max(excess(case)[name] for case in results["cases"])
        texts[f"worst_{name.replace('/', '_')}"] = f"{worst:.2f}"
    return texts
