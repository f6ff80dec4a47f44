"""The format "liblinear": the text that liblinear's `train` writes and its `predict` reads.

    solver_type L2R_LR
    nr_class 2
    label 1 -1          the first label is predicted if the margin is above 0
    nr_feature 123
    bias 1              the value of one more feature that every row has; below 0: no such feature
    w
    0.25                the weight of each feature, from feature 1 on, then that of the bias feature

With more than two labels, a line has the weight of each label against the rest, in the order of `label`.

The format has no settings, and labels must be whole numbers. It has no softmax either: the labels that
liblinear predicts would be the same, but its probabilities (-b 1) would not. Weights have 17 digits, so shmps
and liblinear read back the same bits.
"""

import math
from collections.abc import Sequence
from io import BufferedReader

import numpy as np

from shmps.errors import DataError, verbatim
from shmps.models.links import SOFTMAX
from shmps.models.model import Label, Model
from shmps.system.container import HEADER_LIMIT

START = b"solver_type "
LOGISTIC = ("L2R_LR", "L1R_LR", "L2R_LR_DUAL")
# The other types that liblinear's `save_model` writes, and their kinds. Regression has no line `label`.
_REGRESSION, _VECTORS = "regression, without classes", "a support vector machine, without probabilities"
_OTHERS = {
    "L2R_L2LOSS_SVC_DUAL": _VECTORS,
    "L2R_L2LOSS_SVC": _VECTORS,
    "L2R_L1LOSS_SVC_DUAL": _VECTORS,
    "MCSVM_CS": _VECTORS,
    "L1R_L2LOSS_SVC": _VECTORS,
    "L2R_L2LOSS_SVR": _REGRESSION,
    "L2R_L2LOSS_SVR_DUAL": _REGRESSION,
    "L2R_L1LOSS_SVR_DUAL": _REGRESSION,
    "ONECLASS_SVM": "one class, without another",
}
KEYS = ("solver_type", "nr_class", "label", "nr_feature", "bias")
_ONE_CLASS = "rho"  # one more line of ONECLASS_SVM
_LEAST, _MOST = -(2**31), 2**31 - 1  # bounds of labels


def encode(model: Model, path: str) -> Sequence[bytes]:
    """Return the text. Raises DataError for softmax, and labels that are not whole numbers of 32 bits."""
    if model.link == SOFTMAX:
        raise DataError(
            f"{verbatim(path)}: liblinear's probabilities are those of each class against the rest, got a "
            f"model with {{multi_class.given}}; train with {{multi_class:'ovr'}}, or save in another format",
            multi_class=SOFTMAX.name,
        )
    labels = [_whole(label, path) for label in model.labels]
    if len(labels) == 2:
        labels.reverse()
    weights = np.atleast_2d(model.coefficients).T
    bias = -1
    if np.any(model.intercept):
        bias = 1
        weights = np.vstack([weights, model.intercept])
    head = (
        f"solver_type L2R_LR\nnr_class {len(labels)}\nlabel {' '.join(map(str, labels))}\n"
        f"nr_feature {model.num_features}\nbias {bias}\nw\n"
    )
    line = "%.17g " * weights.shape[1] + "\n"
    return [head.encode("ascii"), "".join(line % tuple(row) for row in weights.tolist()).encode("ascii")]


def _whole(label: Label, path: str) -> int:
    if isinstance(label, str) or not (_LEAST <= label <= _MOST and label == int(label)):
        raise DataError(
            f"{path}: labels of liblinear must be whole numbers of 32 bits, got {label!r}; save in another "
            f"format, or train with other labels"
        )
    return int(label)


def decode(file: BufferedReader, size: int, path: str) -> Model:
    """Return the model in a text, with solver_type as its settings. Raises DataError for a wrong text."""
    head = _head(file, path)
    _check_solver(head, path)
    missing = [key for key in KEYS if key not in head]
    if missing:
        raise DataError(f"{path}: a model of liblinear must have {', '.join(KEYS)}, got no {missing[0]}")
    try:
        labels = [int(label) for label in head["label"].split()]
        features, bias = int(head["nr_feature"]), float(head["bias"])
        weights = np.array(file.read().split(), np.float64)
    except ValueError as error:
        raise DataError(f"{path}: a model of liblinear must have numbers after keys, got: {error}") from error
    _check(head, labels, features, bias, path)
    columns = 1 if len(labels) == 2 else len(labels)
    expected = (features + (bias >= 0)) * columns
    if len(weights) != expected:
        raise DataError(
            f"{path}: nr_feature, bias and label announce {expected} weights, got {len(weights)}; the file "
            f"is cut short or damaged"
        )
    rows = weights.reshape(-1, columns)
    intercept = rows[features] * bias if bias >= 0 else np.zeros(columns)
    settings = {"solver_type": head["solver_type"]}
    if columns == 1:
        return Model(rows[:features, 0].copy(), intercept[0], (labels[1], labels[0]), settings)
    # In the order of liblinear: of equal margins, shmps and liblinear take the first.
    return Model(rows[:features].T, intercept, tuple(labels), settings)


def _head(file: BufferedReader, path: str) -> dict[str, str]:
    """Return the values before the weights, by their keys."""
    head: dict[str, str] = {}
    line = b""
    for _ in range(len(KEYS) + 2):
        line = file.readline(HEADER_LIMIT)
        key, _, value = line.decode("latin-1").strip().partition(" ")
        if key == "w":
            return head
        if key not in (*KEYS, _ONE_CLASS) or key in head:
            break
        head[key] = value
    raise DataError(
        f"{path}: a model of liblinear must have {', '.join(KEYS)} once each, then w, got {line[:40]!r}"
    )


def _check_solver(head: dict[str, str], path: str) -> None:
    solver = head.get("solver_type")
    if solver not in LOGISTIC:
        kind = _OTHERS.get(solver or "", "unknown to shmps")
        raise DataError(
            f"{path}: solver_type must be one of {', '.join(LOGISTIC)}, got {solver!r} ({kind}); train with "
            f"-s 0, 6 or 7"
        )


def _check(head: dict[str, str], labels: list[int], features: int, bias: float, path: str) -> None:
    if head.get("nr_class") != str(len(labels)) or len(labels) < 2 or len(set(labels)) < len(labels):
        raise DataError(
            f"{path}: a model must have two or more classes, got nr_class {head.get('nr_class')}, label "
            f"{head['label']}"
        )
    if features < 0 or math.isnan(bias):
        raise DataError(
            f"{path}: nr_feature must be >= 0 and bias a number, got {head['nr_feature']}, {head['bias']}"
        )
