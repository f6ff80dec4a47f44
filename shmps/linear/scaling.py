"""What the default learning rate of minibatches takes from the rows: it suits features of any scale.

AdaGrad and FTRL move each weight as if its feature were standardised, without a copy of the rows:

    scale_j     the root mean square of the values x_ij that are not 0; the updater divides by it
    mean_j      of the features that most rows have, if there is an intercept: these are centred.
                The rows then count as x_ij - mean_j, and the intercept as that of centred rows
    rate        factor / sqrt(mean values per row): a first step changes a margin by about the factor

SGD has one rate for all weights, factor / (mean squared norm of the rows + 4 l2), and centres nothing.

The idea is that of Ross, Mineiro & Langford (Normalized Online Learning, UAI 2013), whose scales are the
largest values so far. Here one pass before the first step finds them, and no outlier decides.
"""

import math
from typing import NamedTuple

import numpy as np

from shmps.data.rows import Rows
from shmps.system.compiling import at, kernel

FACTORS = {"sgd": 2.0, "adagrad": 1.25, "ftrl": 1.25}
HOGWILD_FACTORS = {"sgd": 0.2}  # a step is that of a row, not the mean of a minibatch
_LEAST, _MOST = 1e-100, 1e100  # a scale: its square is finite, and so is one divided by it
_ROUNDING = 1e-10  # a deviation of less than this share of the mean is the rounding of a constant


class Moments(NamedTuple):
    """Sums over rows with the weights s_i: how often each feature is not 0, and the squares of its values."""

    counts: np.ndarray  # (n,) sum_i s_i [x_ij != 0]
    squares: np.ndarray  # (n,) sum_i s_i x_ij^2
    total: float  # sum_i s_i

    @staticmethod
    def of(rows: Rows, num_features: int) -> "Moments":
        """Return the moments of the rows, in one pass."""
        counts, squares = np.zeros((2, num_features))
        for part in rows.parts():
            _add(part.indptr, part.indices, part.data, part.importance, counts, squares)
        total = rows.num_rows if rows.importance is None else rows.importance.sum()
        return Moments(counts, squares, float(total))

    def plus(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of rows."""
        return Moments(self.counts + other.counts, self.squares + other.squares, self.total + other.total)

    def rate(self, updater: str, in_place: bool, intercept: bool, l2: float) -> float:
        """Return the learning rate of an updater on the rows."""
        factor = (FACTORS | HOGWILD_FACTORS if in_place else FACTORS)[updater]
        sums = self.squares if updater == "sgd" else self.counts
        # Without zeros, so that features which do not occur change no bit of the sum.
        per_row = float(sums[sums > 0].sum()) / self.total + intercept
        if updater == "sgd":
            per_row += 4 * l2  # a quarter of this bounds the curvature of loss and penalty
        if not 0 < per_row < _MOST:
            return factor
        return factor / (per_row if updater == "sgd" else math.sqrt(per_row))

    def scales(self, intercept: bool) -> np.ndarray:
        """Return the scale of each key; that of the intercept is 1, as that of a feature without values."""
        scales = np.ones(len(self.counts) + intercept)
        found = np.flatnonzero(self.counts)
        scales[found] = np.clip(np.sqrt(self.squares[found] / self.counts[found]), _LEAST, _MOST)
        return scales


class Centre(NamedTuple):
    """The features that are centred: x_ij counts as x_ij - mean_j. The intercept's key is the last.

    Weights are stored as those of centred rows: the intercept is higher by sum_j mean_j w_j.
    """

    keys: np.ndarray  # (c,) int64, increasing
    means: np.ndarray  # (c,)
    order: np.ndarray  # (n,) int32: where each key is among `keys`, -1 if it is not

    @staticmethod
    def of(rows: Rows, moments: Moments, scales: np.ndarray) -> "Centre | None":
        """Choose the features that at least half of the rows have; None if there are none.

        Set their scales to their standard deviations.
        """
        keys = np.flatnonzero(2 * moments.counts >= moments.total)
        if not len(keys):
            return None
        order = np.full(len(scales), -1, np.int32)
        order[keys] = np.arange(len(keys))
        # About the first value, since the difference of two large sums would be rounding.
        firsts, sums, squares, counts = np.full(len(keys), np.nan), *np.zeros((3, len(keys)))
        for part in rows.parts():
            _add_deviations(
                part.indptr, part.indices, part.data, part.importance, order, firsts, sums, squares, counts
            )
        absent = moments.total - counts
        shifts = (sums - absent * firsts) / moments.total
        variances = (squares + absent * firsts**2) / moments.total - shifts**2
        means = firsts + shifts
        deviations, sizes = np.sqrt(np.maximum(variances, 0.0)), np.abs(means)
        constant = deviations <= _ROUNDING * sizes
        scales[keys] = np.clip(np.where(constant, sizes, deviations), _LEAST, _MOST)
        return Centre(keys, means, order)

    def places(self, keys: np.ndarray | None) -> np.ndarray:
        """Return where the centred keys are among `keys`, which has all of them; None: all keys."""
        return self.keys if keys is None else np.searchsorted(keys, self.keys)

    def stored(self, weights: np.ndarray) -> np.ndarray:
        """Return a copy of weights (n,) or (n, classes) for centred rows."""
        return self._moved(weights, self.keys, 1.0)

    def plain(self, weights: np.ndarray, keys: np.ndarray | None = None) -> np.ndarray:
        """Return a copy of stored weights, of `keys`, for the rows as they are."""
        return self._moved(weights, self.places(keys), -1.0)

    def _moved(self, weights: np.ndarray, places: np.ndarray, sign: float) -> np.ndarray:
        weights = weights.copy()
        # No dot product: the bits of BLAS may depend on where the arrays lie.
        weights[-1] += sign * (weights[places].T * self.means).sum(axis=-1)
        return weights

    def centre_gradient(self, gradient: np.ndarray, keys: np.ndarray | None) -> None:
        """Turn the gradient of the plain weights of `keys` into that of the stored ones."""
        gradient[self.places(keys)] -= np.multiply.outer(self.means, gradient[-1])

    def centred(self, rows: Rows) -> Rows:
        """Return a copy of the rows in which centred features are centred, and present in every row."""
        indptr, indices, data = _centred(
            rows.indptr, rows.indices, rows.data, self.keys, self.means, self.order
        )
        for array in (indptr, indices, data):
            array.flags.writeable = False  # see `data.rows_of`
        return Rows(indptr, indices, data, rows.labels, rows.importance)


@kernel
def _add(indptr, indices, data, importance, counts, squares):
    """Add the rows' part of the `Moments`."""
    for i in range(len(indptr) - 1):
        own = 1.0 if importance is None else importance[i]
        for p in range(at(indptr[i]), at(indptr[i + 1])):
            if data[p] != 0:
                counts[at(indices[p])] += own
                squares[at(indices[p])] += own * data[p] * data[p]


@kernel
def _add_deviations(indptr, indices, data, importance, order, firsts, sums, squares, counts):
    """Of the features that `order` places, c: note the first value that is not 0, and add up the deviations
    d of the others from it, s_i d and s_i d^2, and their counts s_i. The last four are (c,).
    """
    for i in range(len(indptr) - 1):
        own = 1.0 if importance is None else importance[i]
        for p in range(at(indptr[i]), at(indptr[i + 1])):
            place = order[at(indices[p])]
            if place >= 0 and data[p] != 0:
                if np.isnan(firsts[place]):
                    firsts[place] = data[p]
                deviation = data[p] - firsts[place]
                sums[place] += own * deviation
                squares[place] += own * deviation * deviation
                counts[place] += own


@kernel
def _centred(indptr, indices, data, keys, means, order):
    """Copy the rows, the centred features (c,) first: return their indptr, indices and data."""
    rows, count = len(indptr) - 1, len(keys)
    most = indptr[-1] - indptr[0] + rows * count
    out_indptr, out_indices, out = np.empty(rows + 1, np.int64), np.empty(most, indices.dtype), np.empty(most)
    end = 0
    for i in range(rows):
        begin, out_indptr[i] = end, end
        for c in range(count):
            out_indices[begin + c], out[begin + c] = keys[c], -means[c]
        end += count
        for p in range(at(indptr[i]), at(indptr[i + 1])):
            place = order[at(indices[p])]
            if place >= 0:
                out[begin + place] += data[p]
            else:
                out_indices[end], out[end] = indices[p], data[p]
                end += 1
    out_indptr[rows] = end
    return out_indptr, out_indices[:end], out[:end]
