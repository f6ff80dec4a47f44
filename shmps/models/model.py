"""A trained model and its predictions."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
from scipy.special import expit

from shmps.data.dialect import Dialect
from shmps.data.matching import listed, names_of
from shmps.data.numeric import dense_of
from shmps.data.rows import is_finite, to_csr
from shmps.errors import DataError, UsageError
from shmps.models.links import ONE_AGAINST_REST, Link, link_of, log_losses

Label = bool | int | float | str
LABEL_TYPES = (bool, int, float, str)


# No ==: arrays do not compare to one truth value, and a tolerance is the caller's choice.
@dataclass(frozen=True, eq=False)
class Model:
    """A linear classifier.

    With two labels, it predicts the second if and only if `X @ coefficients + intercept > 0`. With more, each
    label has coefficients and an intercept, and the label with the largest margin is predicted.

    Raises UsageError if the labels are not two or more different bools, ints, floats or strings, coefficients
    and intercept are not numbers of the right shapes, or the settings are not a dict that JSON can hold, or
    name an unknown `multi_class`.
    """

    coefficients: np.ndarray  # (num_features,) float64; with more than two labels (labels, num_features)
    intercept: Any  # float; with more than two labels (labels,) float64
    labels: tuple[Label, ...]  # (negative, positive), or all labels, as the user gave them
    settings: dict[str, Any] = field(default_factory=dict)
    # How margins of more than two labels become probabilities: by the setting `multi_class`.
    link: Link = field(default=ONE_AGAINST_REST, init=False, repr=False)

    def __post_init__(self) -> None:
        # Convert to what a file can hold, so that a saved and loaded model is equal in every bit and type.
        object.__setattr__(self, "labels", plain_labels(self.labels))
        each = () if len(self.labels) == 2 else (len(self.labels),)
        object.__setattr__(self, "coefficients", plain_coefficients(self.coefficients, each))
        object.__setattr__(self, "intercept", plain_intercept(self.intercept, each))
        object.__setattr__(self, "settings", plain_settings(self.settings))
        if each:
            object.__setattr__(self, "link", link_of(self.settings))

    @property
    def num_features(self) -> int:
        return int(self.coefficients.shape[-1])

    @property
    def is_finite(self) -> bool:
        """Whether all weights and intercepts are finite."""
        return bool(np.isfinite(self.coefficients).all() and np.isfinite(self.intercept).all())

    def decision_function(self, X: Any) -> np.ndarray:  # (n, num_features) -> (n,) or (n, labels)
        """Return the margins of X, sparse or dense.

        Raises UsageError if X has another number of columns than training; DataError if the columns have
        other names, an index is out of range, or a value is not a finite real number.
        """
        names = names_of(X)
        if not scipy.sparse.issparse(X):
            X = dense_of(X, "X")
        if len(X.shape) != 2 or X.shape[1] != self.num_features:
            got = f"{X.shape[1]} columns" if len(X.shape) == 2 else f"an array of shape {X.shape}"
            raise UsageError(
                f"X must have one row per example and one column for each of the model's {self.num_features} "
                f"features, got {got}; read the data with num_features={self.num_features}"
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
        """Raise DataError if columns have `names` (features,), and those of training had others."""
        known = Dialect.of(self.settings).feature_names
        if names is not None and known is not None and names.tolist() != list(known):
            raise DataError(
                f"X must have the columns of training in their order, {listed(known)}, got "
                f"{listed(names.tolist())}; rename or reorder them"
            )

    def predict_proba(self, X: Any) -> np.ndarray:  # (n, num_features) -> (n, labels)
        """Return the probability of each label for each row. For more than two labels see `link`."""
        margins = self.decision_function(X)
        if margins.ndim == 2:
            return self.link.probabilities(margins)
        # Not 1 - p, which would lose the digits of a small probability.
        return np.column_stack((expit(-margins), expit(margins)))

    def predict_log_proba(self, X: Any) -> np.ndarray:  # (n, num_features) -> (n, labels)
        """Return the logarithms of the probabilities, which are finite even if a probability rounds to 0."""
        margins = self.decision_function(X)
        if margins.ndim == 2:
            return self.link.log_probabilities(margins)
        return np.column_stack((-log_losses(-margins), -log_losses(margins)))

    def predict(self, X: Any) -> np.ndarray:  # (n, num_features) -> (n,) of labels
        """Return the label of each row; of two, the positive one if and only if the margin is above 0."""
        margins = self.decision_function(X)
        numbers = (margins > 0).astype(np.intp) if margins.ndim == 1 else margins.argmax(axis=1)
        labels: np.ndarray = array_of(self.labels)[numbers]
        return labels


def array_of(labels: tuple[Label, ...]) -> np.ndarray:
    """Return the labels (n,), in one type if it holds all of them exactly, else as objects."""
    array = np.array(labels)
    # Beside a string numpy turns 1 into "1", beside a number True into 1; objects stay as they are.
    if [(type(label), label) for label in array.tolist()] != [(type(label), label) for label in labels]:
        return np.array(labels, dtype=object)
    return array


def plain_coefficients(values: Any, each: tuple[int, ...]) -> np.ndarray:
    """Return `values` as a contiguous float64 array (*each, num_features), without a needless copy."""
    try:
        array = np.asarray(values, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise UsageError(f"coefficients must be numbers, got others: {error}") from error
    if array.ndim != len(each) + 1 or array.shape[:-1] != each:
        raise UsageError(
            f"coefficients must be a vector with two labels, else one for each label, got an array of shape "
            f"{array.shape}"
        )
    return array


def plain_intercept(value: Any, each: tuple[int, ...]) -> Any:
    """Return `value` as a Python float, or as a contiguous float64 vector of the shape `each`."""
    try:
        return np.ascontiguousarray(value, np.float64).reshape(each) if each else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"intercept must be one number with two labels, else one for each label, got {value!r}"
        ) from error


def plain_labels(labels: Any) -> tuple[Label, ...]:
    """Return the labels, with numpy scalars as Python scalars of the same value."""
    given = labels if isinstance(labels, tuple | list | np.ndarray) else ()
    plain = tuple(label.item() if isinstance(label, np.generic) else label for label in given)
    for label in plain:
        if type(label) not in LABEL_TYPES:
            raise UsageError(
                f"labels must be bools, ints, floats or strings, got {label!r:.80} of type "
                f"{type(label).__name__}; convert the labels, for example to strings"
            )
    # nan fails here too: it differs even from itself.
    if len(plain) < 2 or any(label != label for label in plain) or len(set(plain)) < len(plain):
        raise UsageError(
            f"labels must be two or more different ones, of two the negative one first, got {labels!r:.200}"
        )
    return plain


def plain_settings(settings: Any) -> dict[str, Any]:
    """Return a copy of the settings as JSON returns them: tuples as lists, keys as strings."""
    if not isinstance(settings, dict):
        raise UsageError(f"settings must be a dict, got {type(settings).__name__}")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(settings, default=python_scalar))
        return plain
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"settings must hold only what JSON can, got: {error}") from error


def python_scalar(value: Any) -> Any:
    """Return the Python scalar of a numpy scalar. Raises TypeError for other values, as json.dumps asks."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"JSON has no {type(value).__name__}")
