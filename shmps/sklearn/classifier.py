"""A linear classifier with the conventions of scikit-learn: learned attributes, and predictions."""

from typing import Any

import numpy as np
import scipy.sparse

from shmps.data.dialect import Dialect, origin_of
from shmps.data.matching import names_of, with_names
from shmps.errors import DataError, UsageError
from shmps.models.model import Model
from shmps.sklearn.conventions import Estimator, known_to_sklearn
from shmps.sklearn.inputs import check_names, matrix_of, opened_again
from shmps.sklearn.labels import scored_labels
from shmps.sklearn.start import trained
from shmps.sklearn.weights import row_weights


class LinearClassifier(Estimator):
    """`fit` sets coef_, intercept_, classes_, n_features_in_, and feature_names_in_ if columns have names.

    X is a matrix (n_samples, n_features), or the path of a data file that is read as the training rows were.
    """

    fit_intercept: bool  # a parameter
    coef_: np.ndarray  # (1, n_features_in_); with more than two classes (n_classes, n_features_in_)
    intercept_: np.ndarray  # (1,) or (n_classes,)
    classes_: np.ndarray  # (n_classes,)
    n_features_in_: int
    feature_names_in_: np.ndarray  # (n_features_in_,)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return margins (n_samples,), positive for classes_[1]; with more classes (n_samples, n_classes).

        Raises DataError, and UsageError before `fit`.
        """
        return self.model().decision_function(self._features(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities (n_samples, n_classes) of classes_.

        With more than two classes: the softmax of the margins if the effective `multi_class` of training was
        multinomial, else those of each class against the rest, divided by their sum. Raises DataError, and
        UsageError before `fit`.
        """
        return self.model().predict_proba(self._features(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithms of `predict_proba`, exact also where a probability rounds to 0."""
        return self.model().predict_log_proba(self._features(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return labels (n_samples,). Raises DataError, and UsageError before `fit`."""
        return self.model().predict(self._features(X))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy, weighted by sample_weight (n_samples,). y is None if X is a path.

        Labels that training did not have count as wrong, with a warning. Raises DataError, also for y and
        weights that `fit` refuses, and UsageError before `fit`.
        """
        self._must_be_fitted()
        X, y, sample_weight = opened_again(X, y, sample_weight, self.n_features_in_, self._origin())
        predicted = self.predict(X)
        y = scored_labels(y, len(predicted), self.classes_)
        weights = None if sample_weight is None else row_weights(sample_weight, len(y))
        return float(np.average(predicted == y, weights=weights))

    def model(self) -> Model:
        """Return the learned model, for `shmps.save`. Raises UsageError before `fit`."""
        self._must_be_fitted()
        return self._model(self.coef_, self.intercept_, self._learned_with())

    def _origin(self) -> Dialect:
        """Return how the rows of the last training were read."""
        return Dialect.of(self._learned_with())

    def _learned_with(self) -> dict[str, Any]:
        """Return the settings of the last training, as a model has them."""
        return self.result_.settings if hasattr(self, "result_") else {}

    def _model_of(self, weights: np.ndarray, settings: dict[str, Any]) -> Model:
        """Return the model of weights in the layout of training."""
        return self._model(*self._split(weights), settings)

    def _model(self, coef: np.ndarray, intercept: np.ndarray, settings: dict[str, Any]) -> Model:
        coefficients, intercept = (coef[0], intercept[0]) if len(coef) == 1 else (coef, intercept)
        return Model(coefficients, intercept, tuple(self.classes_.tolist()), settings)

    def _first_features(self, X: Any) -> tuple[scipy.sparse.csr_matrix, Dialect]:
        """Return X as a matrix, and how its rows were read. Later matrices must have the same features."""
        self.__dict__.pop("feature_names_in_", None)
        names, origin = names_of(X), origin_of(X)
        if names is not None:
            self.feature_names_in_ = names
        X = matrix_of(X)
        self.n_features_in_ = X.shape[1]
        return X, with_names(origin, names)

    def _features(self, X: Any) -> scipy.sparse.csr_matrix:
        self._must_be_fitted()
        X, *_ = opened_again(X, None, None, self.n_features_in_, self._origin(), labelled=False)
        check_names(X, getattr(self, "feature_names_in_", None))
        X = matrix_of(X)
        if X.shape[1] != self.n_features_in_:
            raise DataError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                f"features as input"
            )
        return X

    def _must_be_fitted(self) -> None:
        if not hasattr(self, "coef_"):
            raise known_to_sklearn(UsageError, "NotFittedError")(
                f"this {type(self).__name__} is not fitted yet; call fit(X, y) first"
            )

    def _keep(self, weights: np.ndarray) -> None:
        self.coef_, self.intercept_ = self._split(weights)

    def _split(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coef_ and intercept_ of weights in the layout of training: see `start.trained`."""
        rows, features = weights.reshape(len(weights), -1), self.n_features_in_
        coef = np.ascontiguousarray(rows[:features].T)
        return coef, rows[features].copy() if len(rows) > features else np.zeros(len(coef))

    def _weights(self) -> np.ndarray:
        """Return the weights in the layout of training: see `start.trained`."""
        return trained(self.coef_, self.intercept_ if self.fit_intercept else None)
