"""A trained model, and what it predicts."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shmps.errors import UsageError
from shmps.metrics import sigmoid

Label = bool | int | float | str
LABEL_TYPES = (bool, int, float, str)


# No ==: arrays do not compare to one truth value, and a tolerance is the caller's choice.
@dataclass(frozen=True, eq=False)
class Model:
    """A linear classifier: positive where `X @ coefficients + intercept > 0`.

    UsageError if the coefficients are not a vector of numbers, the intercept not a number, the labels not
    two different bools, ints, floats or strings, or the settings not a dict that JSON can hold.
    """

    coefficients: np.ndarray  # (num_features,) float64
    intercept: float
    labels: tuple[Label, Label]  # (negative, positive), as the user gave them
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Everything becomes what a file can keep now, so that a saved and loaded model is the same model.
        object.__setattr__(self, "coefficients", plain_vector(self.coefficients))
        object.__setattr__(self, "intercept", plain_number(self.intercept))
        object.__setattr__(self, "labels", plain_labels(self.labels))
        object.__setattr__(self, "settings", plain_settings(self.settings))

    @property
    def num_features(self) -> int:
        return self.coefficients.size

    def decision_function(self, X: Any) -> np.ndarray:  # (n, num_features) sparse or dense -> (n,)
        """The margins `X @ coefficients + intercept`; UsageError if X has another number of columns."""
        if not hasattr(X, "shape"):
            X = np.asarray(X, dtype=np.float64)
        if len(X.shape) != 2 or X.shape[1] != self.num_features:
            found = f"{X.shape[1]} columns" if len(X.shape) == 2 else f"an array of shape {X.shape}"
            raise UsageError(
                f"X has one row per example and one column for each of the model's {self.num_features} "
                f"features, found {found}; read the data with num_features={self.num_features}"
            )
        # reshape: an np.matrix would stay two-dimensional.
        return np.asarray(X @ self.coefficients, dtype=np.float64).reshape(-1) + self.intercept

    def predict_proba(self, X: Any) -> np.ndarray:  # (n, num_features) -> (n, 2)
        """The probabilities of the negative and the positive label in every row."""
        margins = self.decision_function(X)
        # Not 1 - p: that would lose every digit of a small probability.
        return np.column_stack((sigmoid(-margins), sigmoid(margins)))

    def predict(self, X: Any) -> np.ndarray:  # (n, num_features) -> (n,) of labels
        """The label of every row: the positive one if and only if its margin is above 0."""
        return array_of(self.labels)[(self.decision_function(X) > 0).astype(np.intp)]


def array_of(labels: tuple[Label, Label]) -> np.ndarray:
    """The labels (2,), of their own type if one holds both exactly, else as objects."""
    array = np.array(labels)
    # NumPy would make "1" of 1 beside a string and 1 of True beside a number; as objects they stay.
    if [(type(label), label) for label in array.tolist()] != [(type(label), label) for label in labels]:
        return np.array(labels, dtype=object)
    return array


def plain_vector(values: Any) -> np.ndarray:
    """`values` as a contiguous float64 vector, without a copy if they are one."""
    try:
        vector = np.asarray(values, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise UsageError(f"coefficients are numbers, found something else: {error}") from error
    if vector.ndim != 1:
        raise UsageError(f"coefficients are a vector, found an array of shape {vector.shape}")
    return vector


def plain_number(value: Any) -> float:
    """The intercept as a Python float."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"the intercept is one number, found {value!r}") from error


def plain_labels(labels: Any) -> tuple[Label, Label]:
    """The two labels with NumPy scalars as the Python ones of the same value."""
    pair = labels if isinstance(labels, tuple | list | np.ndarray) else ()
    plain = tuple(label.item() if isinstance(label, np.generic) else label for label in pair)
    # A nan label would fail here too: it differs from everything, itself included.
    if (
        len(plain) != 2
        or any(type(lb) not in LABEL_TYPES or lb != lb for lb in plain)
        or plain[0] == plain[1]
    ):
        raise UsageError(
            f"labels are two different bools, ints, floats or strings: (negative, positive); found {labels!r}"
        )
    return plain


def plain_settings(settings: Any) -> dict[str, Any]:
    """A copy of the settings as JSON gives them back: tuples as lists, keys as strings."""
    if not isinstance(settings, dict):
        raise UsageError(f"settings are a dict, found {type(settings).__name__}")
    try:
        return json.loads(json.dumps(settings, default=python_scalar))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"settings hold only what JSON can, found something else: {error}") from error


def python_scalar(value: Any) -> Any:
    """The Python scalar of a NumPy one; TypeError for anything else, as json.dumps wants it."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not one of JSON's types")
