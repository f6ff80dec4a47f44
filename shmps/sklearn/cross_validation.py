"""LogisticRegressionCV: the penalty is chosen by cross-validation. scikit-learn is not imported for it."""

import copy
from typing import Any, Self

import numpy as np

from shmps.data.labels import Labels
from shmps.data.reading import opened
from shmps.data.rows import Rows, rows_of
from shmps.errors import warn
from shmps.linear.defaults import penalties_of
from shmps.linear.full_gradient.chains import Penalty
from shmps.linear.parameters import DECLARED, Parameters
from shmps.linear.path_parameters import PATH_DECLARED, TRAINED_WITH, PathParameters
from shmps.linear.paths import advice, train_paths
from shmps.linear.settings import Settings
from shmps.models.model import array_of
from shmps.sklearn.classifier import LinearClassifier
from shmps.sklearn.conventions import naming_parameters
from shmps.sklearn.docstring import with_parameters
from shmps.sklearn.estimator import LogisticRegression
from shmps.sklearn.folds import folds_of
from shmps.sklearn.inputs import opened_again
from shmps.sklearn.labels import scored_labels, training_labels
from shmps.sklearn.scoring import Scorer, accuracy, scorer_of
from shmps.sklearn.weights import importance_of, row_weights

_LEARNED = (
    "C_", "Cs_", "l1_ratio_", "l1_ratios_", "scores_", "coefs_paths_", "n_iter_", "coef_", "intercept_",
    "classes_", "n_features_in_", "feature_names_in_", "result_", "_settings",
)  # fmt: skip
_Fold = tuple[np.ndarray, np.ndarray]  # rows to train on, rows to score


@naming_parameters
@with_parameters(PATH_DECLARED)
class LogisticRegressionCV(LinearClassifier, PathParameters):
    """Sparse logistic regression with the penalty that scores best in a cross-validation.

    Each fold is trained with every penalty, from strong to weak ones, from the weights of the penalty before.
    The workers share the folds, and one copy of the rows. A short cross-validation stays in the calling
    process. The objective is that of LogisticRegression, by full gradients.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    C_ : float
        The chosen C; without refit the mean of the folds' best ones.
    l1_ratio_ : float
        The chosen share of the L1 penalty; without refit the mean of the folds' best ones.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray of shape (1,) or (n_classes,)
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        The names of the columns, if X has them.
    Cs_ : ndarray of shape (n_cs,)
    l1_ratios_ : ndarray of shape (n_l1_ratios,)
    scores_ : ndarray of shape (n_folds, n_l1_ratios, n_cs)
    coefs_paths_ : ndarray of shape (n_folds, n_l1_ratios, n_cs, 1 or n_classes, n_features or n_features + 1)
        The intercept comes last. These shapes are those that scikit-learn has with
        `use_legacy_attributes=False`.
    n_iter_ : ndarray of shape (n_folds, n_l1_ratios, n_cs)
        The gradients of each fit.
    result_ : shmps.linear.result.Result
        The figures of the training on all rows, if there is one.

    Examples
    --------
    >>> model = LogisticRegressionCV(Cs=[0.01, 1, 100], scoring="neg_log_loss").fit(X, y)
    >>> model.C_
    1.0
    """

    C_: float
    l1_ratio_: float
    Cs_: np.ndarray
    l1_ratios_: np.ndarray
    scores_: np.ndarray
    coefs_paths_: np.ndarray
    n_iter_: np.ndarray

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Choose the penalty, and train.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or path-like
            As `LogisticRegression.fit` takes it.
        y : array-like of shape (n_samples,)
            Labels of two classes or more. None if X is a path.
        sample_weight : array-like of shape (n_samples,), optional
            The weight of each row, in training and in scores. Those of `class_weight` count in training only;
            "balanced" ones are computed from all rows.

        Returns
        -------
        self : LogisticRegressionCV

        Raises
        ------
        UsageError, DataError, NodeDied, Diverged, OutOfSpace
            As `LogisticRegression.fit` does. The estimator is as it was before the call.

        Warns
        -----
        NotConverged
            If fits ended before they were within tol.
        """
        for each in PATH_DECLARED.values():
            each.rule.check(each.name, getattr(self, each.name))
        settings = Settings.of(Parameters(**self._shared_parameters(), solver="lbfgs"))
        learner = type(self)(**self.get_params())
        learner._learn(settings, scorer_of(self.scoring), X, y, sample_weight)
        own = {name: value for name, value in vars(self).items() if name not in _LEARNED}
        learned = {name: value for name, value in vars(learner).items() if name in _LEARNED}
        self.__dict__ = own | learned  # at once: a signal or another thread sees either of them whole
        return self

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the score that `scoring` names. y is None if X is a path.

        Raises DataError, and UsageError before `fit`.
        """
        scorer = scorer_of(self.scoring)
        if scorer is accuracy:
            return super().score(X, y, sample_weight)
        self._must_be_fitted()
        X, y, sample_weight = opened_again(X, y, sample_weight, self.n_features_in_, self._origin())
        X = self._features(X)
        return scorer(self, X, scored_labels(y, X.shape[0], self.classes_), **_weights(sample_weight))

    def _shared_parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in TRAINED_WITH}

    def _learn(self, settings: Settings, scorer: Scorer, X: Any, y: Any, sample_weight: Any) -> None:
        X, y, sample_weight = opened(X, y, sample_weight)
        matrix, origin = self._first_features(X)
        self._settings = origin.kept() | {"multi_class": settings.classes}
        labels = training_labels(y, matrix.shape[0])
        self.classes_ = array_of(labels.classes)
        importance = importance_of(sample_weight, settings.class_weight, labels.codes, self.classes_)
        rows, named = rows_of(matrix, labels.codes, importance), _named(labels, self.classes_)
        folds = folds_of(self.cv, matrix, named, importance)
        self._train_paths(settings, rows, folds)
        weights = None if sample_weight is None else row_weights(sample_weight, rows.num_rows)
        self.scores_ = self._scores(scorer, matrix, named, weights, folds)
        if not self.refit:
            self._take_means()
            return
        path, place = best_of(self.scores_.mean(axis=0), self.Cs_)
        self.C_, self.l1_ratio_ = float(self.Cs_[place]), float(self.l1_ratios_[path])
        start = self.coefs_paths_[:, path, place].mean(axis=0)
        given = self._shared_parameters() | {"tol": min(self.tol, DECLARED["tol"].default)}
        final = LogisticRegression(C=self.C_, l1_ratio=self.l1_ratio_, **given)
        init = {"coef_init": start[:, : self.n_features_in_]}
        if self.fit_intercept:
            init["intercept_init"] = start[:, -1]
        final.fit(X, labels, sample_weight, **init)
        self.coef_, self.intercept_, self.result_ = final.coef_, final.intercept_, final.result_

    def _train_paths(self, settings: Settings, rows: Rows, folds: list[_Fold]) -> None:
        """Set Cs_, l1_ratios_, coefs_paths_ and n_iter_. Warn of fits that ended early."""
        Cs: Any = self.Cs
        self.Cs_ = np.logspace(-4, 4, int(Cs)) if np.ndim(Cs) == 0 else np.array(Cs, np.float64)
        ratios = (0.0,) if self.l1_ratios is None else self.l1_ratios
        self.l1_ratios_ = np.array(ratios, np.float64)
        taken = np.zeros((len(folds), rows.num_rows), bool)
        for own, (train, _) in zip(taken, folds, strict=True):
            own[train] = True
        order = self.Cs_.argsort()
        totals = [
            float(own.sum() if rows.importance is None else rows.importance[own].sum()) for own in taken
        ]
        penalties = [
            [[Penalty(*penalties_of(C, ratio, total)) for C in self.Cs_[order]] for ratio in self.l1_ratios_]
            for total in totals
        ]
        keys = self.n_features_in_ + bool(self.fit_intercept)
        shape = (keys,) if len(self.classes_) == 2 else (keys, len(self.classes_))
        paths = train_paths(settings, rows, taken, shape, penalties)
        if said := advice(paths, settings):
            warn(said)
        as_given = order.argsort()
        weights = paths.weights.reshape(*paths.gradients.shape, keys, -1)[:, :, as_given]
        self.coefs_paths_ = np.ascontiguousarray(weights.swapaxes(-1, -2))
        self.n_iter_ = paths.gradients[:, :, as_given]

    def _scores(
        self, scorer: Scorer, X: Any, y: np.ndarray, weights: np.ndarray | None, folds: list[_Fold]
    ) -> np.ndarray:
        """Return the score of each fit on the rows of its fold, (folds, l1_ratios, Cs)."""
        scores = np.empty(self.n_iter_.shape)
        for fold, (_, test) in enumerate(folds):
            own_X, own_y = X[test], y[test]
            own_weights = _weights(None if weights is None else weights[test])
            for place in np.ndindex(scores.shape[1:]):
                fitted = copy.copy(self)
                vars(fitted).pop("feature_names_in_", None)  # which CSR rows do not have
                fitted.coef_, fitted.intercept_ = self._parts(self.coefs_paths_[fold][place])
                scores[fold][place] = scorer(fitted, own_X, own_y, **own_weights)
        return scores

    def _take_means(self) -> None:
        """Set the weights and penalties to the means over the folds of the best ones of each."""
        best = [best_of(scores, self.Cs_) for scores in self.scores_]
        self.C_ = float(np.mean([self.Cs_[place] for _, place in best]))
        self.l1_ratio_ = float(np.mean([self.l1_ratios_[path] for path, _ in best]))
        chosen = [own[place] for own, place in zip(self.coefs_paths_, best, strict=True)]
        self.coef_, self.intercept_ = self._parts(np.mean(chosen, axis=0))

    def _learned_with(self) -> dict[str, Any]:
        return self.result_.settings if hasattr(self, "result_") else self._settings

    def _parts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coef_ and intercept_ of weights with the intercepts in the last column."""
        intercept = weights[:, -1] if self.fit_intercept else np.zeros(len(weights))
        return weights[:, : self.n_features_in_], intercept


def _named(labels: Labels, classes: np.ndarray) -> np.ndarray:
    """Return the label of each row."""
    numbers: np.ndarray = (labels.codes > 0 if len(classes) == 2 else labels.codes).astype(np.intp)
    named: np.ndarray = classes[numbers]
    return named


def best_of(scores: np.ndarray, Cs: np.ndarray) -> tuple[int, int]:
    """Return the place of the largest score (paths, Cs); of equal ones, that with the least C."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    path, place = min(np.argwhere(scores == scores.max()), key=lambda each: Cs[each[1]])
    return int(path), int(place)


def _weights(sample_weight: Any) -> dict[str, Any]:
    """Return what a scorer is given beside X and y."""
    return {} if sample_weight is None else {"sample_weight": sample_weight}
