"""The format "liblinear": the text that liblinear's `train` writes and its `predict` reads.

    solver_type L2R_LR
    nr_class 2
    label 1 -1          the first one is predicted where the margin is above 0
    nr_feature 123
    bias 1              the value of one more feature, which every row has; below 0: there is none
    w
    0.25                a weight for every feature from 1 up, then the one of bias

Of a model's settings nothing is in it; labels are whole numbers. It is written with 17 digits: read back,
here or by liblinear, every weight has the same bits.
"""

import math
from collections.abc import Sequence
from io import BufferedReader

import numpy as np

from shmps.errors import DataError
from shmps.models import Label, Model

START = b"solver_type "
LOGISTIC = ("L2R_LR", "L1R_LR", "L2R_LR_DUAL")  # others have no probabilities
KEYS = ("solver_type", "nr_class", "label", "nr_feature", "bias")
_LEAST, _MOST = -(2**31), 2**31 - 1  # of labels


def encode(model: Model, path: str) -> Sequence[bytes]:
    """The text. DataError for labels that are no whole numbers of 32 bits."""
    negative, positive = (_whole(label, path) for label in model.labels)
    weights = model.coefficients.tolist()
    bias = -1
    if model.intercept:
        bias = 1
        weights.append(model.intercept)
    head = (
        f"solver_type L2R_LR\nnr_class 2\nlabel {positive} {negative}\n"
        f"nr_feature {model.num_features}\nbias {bias}\nw\n"
    )
    return [head.encode("ascii"), "".join(f"{weight:.17g} \n" for weight in weights).encode("ascii")]


def _whole(label: Label, path: str) -> int:
    if isinstance(label, str) or not (_LEAST <= label <= _MOST and label == int(label)):
        raise DataError(
            f"{path}: liblinear's labels are whole numbers of 32 bits, found {label!r}; "
            f"save in another format, or train with other labels"
        )
    return int(label)


def decode(file: BufferedReader, size: int, path: str) -> Model:
    """The model in a text, whose settings are its solver_type; DataError if it breaks a rule."""
    head = _head(file, path)
    try:
        positive, negative = map(int, head["label"].split())
        features, bias = int(head["nr_feature"]), float(head["bias"])
        weights = np.array(file.read().split(), np.float64)
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: a model of liblinear breaks a rule of the format: {error!r}") from error
    _check(head, positive, negative, features, bias, path)
    expected = features + (bias >= 0)
    if len(weights) != expected:
        raise DataError(
            f"{path}: nr_feature and bias announce {expected} weights, found {len(weights)}; the file is cut "
            f"short or damaged"
        )
    intercept = float(weights[features] * bias) if bias >= 0 else 0.0
    settings = {"solver_type": head["solver_type"]}
    return Model(weights[:features].copy(), intercept, (negative, positive), settings)


def _head(file: BufferedReader, path: str) -> dict[str, str]:
    """The values before the weights, by their keys."""
    head: dict[str, str] = {}
    line = b""
    for _ in range(len(KEYS) + 1):
        line = file.readline(1000)
        key, _, value = line.decode("latin-1").strip().partition(" ")
        if key == "w":
            return head
        if key not in KEYS or key in head:
            break
        head[key] = value
    raise DataError(
        f"{path}: a model of liblinear has {', '.join(KEYS)} once each, then w, found {line[:40]!r}; "
        f"is it one for two classes?"
    )


def _check(head: dict[str, str], positive: int, negative: int, features: int, bias: float, path: str) -> None:
    if head.get("solver_type") not in LOGISTIC:
        raise DataError(
            f"{path}: logistic regression is solver_type {', '.join(LOGISTIC)}, found "
            f"{head.get('solver_type')!r}; train with -s 0, 6 or 7"
        )
    if head.get("nr_class") != "2" or positive == negative:
        raise DataError(
            f"{path}: a model is of two classes, found nr_class {head.get('nr_class')}, label {head['label']}"
        )
    if features < 0 or math.isnan(bias):
        raise DataError(
            f"{path}: nr_feature is from 0 up and bias a number, found {head['nr_feature']}, {head['bias']}"
        )
