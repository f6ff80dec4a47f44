"""A trained model, and what it predicts."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse

from shmps.data.dialect import Dialect
from shmps.data.numeric import dense_of
from shmps.data.reading import names_of
from shmps.data.rows import is_finite, to_csr
from shmps.data.tables import listed
from shmps.errors import DataError, UsageError
from shmps.models.metrics import log_losses, log_shares_of_classes, shares_of_classes, sigmoid

Label = bool | int | float | str
LABEL_TYPES = (bool, int, float, str)


# No ==: arrays do not compare to one truth value, and a tolerance is the caller's choice.
@dataclass(frozen=True, eq=False)
class Model:
    """A linear classifier. Of two labels it says the second where `X @ coefficients + intercept > 0`; of more
    each has coefficients and an intercept of its own, and the largest of their margins tells which.

    UsageError if the labels are not two or more different bools, ints, floats or strings, coefficients and
    intercept not numbers in the shapes that go with them, or the settings not a dict that JSON can hold.
    """

    coefficients: np.ndarray  # (num_features,) float64; of more than two labels (labels, num_features)
    intercept: Any  # float; of more than two labels (labels,) float64
    labels: tuple[Label, ...]  # (negative, positive), or all of them, as the user gave them
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Everything becomes what a file can keep now, so that a saved and loaded model is the same model.
        object.__setattr__(self, "labels", plain_labels(self.labels))
        each = () if len(self.labels) == 2 else (len(self.labels),)
        object.__setattr__(self, "coefficients", plain_coefficients(self.coefficients, each))
        object.__setattr__(self, "intercept", plain_intercept(self.intercept, each))
        object.__setattr__(self, "settings", plain_settings(self.settings))

    @property
    def num_features(self) -> int:
        return int(self.coefficients.shape[-1])

    @property
    def is_finite(self) -> bool:
        """Whether all weights and intercepts are."""
        return bool(np.isfinite(self.coefficients).all() and np.isfinite(self.intercept).all())

    def decision_function(self, X: Any) -> np.ndarray:  # (n, num_features) -> (n,) or (n, labels)
        """The margins, of X sparse or dense.

        Raises UsageError if X has another number of columns; DataError if they have other names than those of
        training, an index is outside of them, or a value is no finite real number.
        """
        names = names_of(X)
        if not scipy.sparse.issparse(X):
            X = dense_of(X, "X")
        if len(X.shape) != 2 or X.shape[1] != self.num_features:
            found = f"{X.shape[1]} columns" if len(X.shape) == 2 else f"an array of shape {X.shape}"
            raise UsageError(
                f"X has one row per example and one column for each of the model's {self.num_features} "
                f"features, found {found}; read the data with num_features={self.num_features}"
            )
        self._must_have_names(names)
        is_complex, is_sparse = X.dtype.kind == "c", scipy.sparse.issparse(X)
        if is_sparse and not is_complex:
            X = to_csr(X)
        if is_complex or not (is_finite(X) if is_sparse else np.isfinite(X).all()):
            raise DataError(
                "X must have finite real values, got nan, inf or complex ones; impute or drop them"
            )
        products = np.asarray(X @ np.ascontiguousarray(self.coefficients.T), np.float64)
        margins: np.ndarray = products + self.intercept
        return margins

    def _must_have_names(self, names: np.ndarray | None) -> None:
        """Raises DataError if the columns of some rows have `names` (features,), and training had others."""
        known = Dialect.of(self.settings).feature_names
        if names is not None and known is not None and names.tolist() != list(known):
            raise DataError(
                f"X must have the columns of training in their order, {listed(known)}, got "
                f"{listed(names.tolist())}; rename or reorder them"
            )

    def predict_proba(self, X: Any) -> np.ndarray:  # (n, num_features) -> (n, labels)
        """The probability of each label in every row; of more than two see `metrics.shares_of_classes`."""
        margins = self.decision_function(X)
        if margins.ndim == 2:
            return shares_of_classes(margins)
        # Not 1 - p: that would lose every digit of a small probability.
        return np.column_stack((sigmoid(-margins), sigmoid(margins)))

    def predict_log_proba(self, X: Any) -> np.ndarray:  # (n, num_features) -> (n, labels)
        """The logarithms of these probabilities, finite also where a probability rounds to 0."""
        margins = self.decision_function(X)
        if margins.ndim == 2:
            return log_shares_of_classes(margins)
        return np.column_stack((-log_losses(-margins), -log_losses(margins)))

    def predict(self, X: Any) -> np.ndarray:  # (n, num_features) -> (n,) of labels
        """The label of every row: of two the positive one if and only if its margin is above 0."""
        margins = self.decision_function(X)
        numbers = (margins > 0).astype(np.intp) if margins.ndim == 1 else margins.argmax(axis=1)
        labels: np.ndarray = array_of(self.labels)[numbers]
        return labels


def array_of(labels: tuple[Label, ...]) -> np.ndarray:
    """The labels (n,), of their own type if one holds them all exactly, else as objects."""
    array = np.array(labels)
    # NumPy would make "1" of 1 beside a string and 1 of True beside a number; as objects they stay.
    if [(type(label), label) for label in array.tolist()] != [(type(label), label) for label in labels]:
        return np.array(labels, dtype=object)
    return array


def plain_coefficients(values: Any, each: tuple[int, ...]) -> np.ndarray:
    """`values` as a contiguous float64 array (*each, num_features), without a copy if they are one."""
    try:
        array = np.asarray(values, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise UsageError(f"coefficients are numbers, found something else: {error}") from error
    if array.ndim != len(each) + 1 or array.shape[:-1] != each:
        raise UsageError(
            f"coefficients are a vector of two labels, else one for each label, found an array of shape "
            f"{array.shape}"
        )
    return array


def plain_intercept(value: Any, each: tuple[int, ...]) -> Any:
    """A Python float, or a contiguous float64 vector of the shape `each`."""
    try:
        return np.ascontiguousarray(value, np.float64).reshape(each) if each else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"the intercept is one number of two labels, else one for each label, found {value!r}"
        ) from error


def plain_labels(labels: Any) -> tuple[Label, ...]:
    """The labels with NumPy scalars as the Python ones of the same value."""
    given = labels if isinstance(labels, tuple | list | np.ndarray) else ()
    plain = tuple(label.item() if isinstance(label, np.generic) else label for label in given)
    # A nan label would fail here too: it differs from everything, itself included.
    if (
        len(plain) < 2
        or any(type(label) not in LABEL_TYPES or label != label for label in plain)
        or len(set(plain)) < len(plain)
    ):
        raise UsageError(
            f"labels are two or more different bools, ints, floats or strings: (negative, positive), or all; "
            f"found {labels!r:.200}"
        )
    return plain


def plain_settings(settings: Any) -> dict[str, Any]:
    """A copy of the settings as JSON gives them back: tuples as lists, keys as strings."""
    if not isinstance(settings, dict):
        raise UsageError(f"settings are a dict, found {type(settings).__name__}")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(settings, default=python_scalar))
        return plain
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"settings hold only what JSON can, found something else: {error}") from error


def python_scalar(value: Any) -> Any:
    """The Python scalar of a NumPy one; TypeError for anything else, as json.dumps wants it."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not one of JSON's types")
