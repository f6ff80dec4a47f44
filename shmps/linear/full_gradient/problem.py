"""The problem that full-gradient solvers solve, the requests of a search, and the sums that answer them.

    search:   Ascent(passes), Gradient(weights), Curvature(share), Gradient(weights), ...
    workers:  the sums over their rows, added up

A search is a generator: it yields requests and is sent `Sums`. It does no I/O, so it runs beside servers and
workers, in one process, and in a test.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from shmps.data.rows import Rows, lengths

BINARY, ONE_AGAINST_REST, SOFTMAX = "binary", "ovr", "multinomial"
MOST_WHOLE = 512  # features, for a matrix: it is factorised in a few ms
_MOST_ENTRIES = 2**20  # of the matrices of all classes
_PRODUCTS = 1  # of two values of a row, per non-zero, for a curvature: about the cost of a gradient
_LEAST_ROWS = 10  # per feature, that a curvature is computed from
_FEW_PRODUCTS = 2**17  # take a tenth of a millisecond
MOST_KEYS = 1024  # of a block of the Hessian


def products_of(lengths: np.ndarray, intercept: bool) -> np.ndarray:
    """Return how many products of two of its values each row has, from the numbers of its non-zeros."""
    values = lengths + float(intercept)
    return values * (values + 1) / 2


@dataclass(frozen=True)
class Problem:
    """Minimise mean loss + l2/2 |w|^2 + l1 |w|_1 over weights (features, classes).

    features counts the intercept, whose weights come last and have no penalty. classes: 1 if there are two.
    rows: of the training; the mean is over them. share: of the products of two values of a row, which a
    sample for a curvature computes usually. shards: into which the rows are divided.
    """

    loss: str  # BINARY, ONE_AGAINST_REST or SOFTMAX
    features: int
    classes: int
    rows: int
    intercept: bool
    l2: float
    l1: float = 0.0
    share: float = 1.0
    shards: int = 1

    @staticmethod
    def of(
        rows: Rows, shape: tuple[int, ...], loss: str, intercept: bool, l2: float, l1: float = 0.0
    ) -> "Problem":
        """Return the problem on `rows`, with weights of `shape`: (features,) or (features, classes)."""
        features, classes = shape if len(shape) > 1 else (*shape, 1)
        values = (part + int(intercept) for part in lengths(rows))
        products = sum(float(part @ part + part.sum()) for part in values) / 2
        rows_enough = _LEAST_ROWS * features * products / max(rows.num_rows, 1)
        enough = max(_PRODUCTS * rows.nonzeros, rows_enough, _FEW_PRODUCTS)
        share = min(enough / max(products, 1.0), 1.0)
        return Problem(loss, features, classes, rows.num_rows, intercept, l2, l1, share)

    @property
    def size(self) -> int:
        """The number of weights."""
        return self.features * self.classes

    @property
    def shape(self) -> tuple[int, int]:
        return self.features, self.classes

    @property
    def loss_shape(self) -> tuple[int, ...]:
        """The shape of the weights outside: without an axis for the classes if there are two."""
        return (self.features,) if self.loss == BINARY else self.shape

    @cached_property
    def penalty(self) -> np.ndarray:
        """The L2 penalty of each feature, (features, 1)."""
        penalty = np.full((self.features, 1), self.l2)
        if self.intercept:
            penalty[-1] = 0.0
        return penalty

    @property
    def whole(self) -> bool:
        """Whether the curvature is a matrix for each class; otherwise it is the features' moments.

        With an L1 penalty, a matrix takes a `Block`.
        """
        entries = self.classes * self.features**2
        return self.features <= MOST_WHOLE and entries <= _MOST_ENTRIES and self.l1 == 0

    @property
    def ascends(self) -> bool:
        """Whether dual ascent finds weights to start from: if features are too many for a matrix.

        The mean of the models of several shards is no better a start than zero where rows are many.
        """
        return self.loss == BINARY and self.shards == 1 and self.l1 == 0 < self.l2 and not self.whole

    @property
    def blockwise(self) -> bool:
        """Whether a search may request `Block`s.

        Without an L1 penalty: those of all weights, which have what the usual curvature leaves out.
        """
        exact = self.whole and self.loss != SOFTMAX
        return self.l1 > 0 or (self.size <= MOST_KEYS and not exact)

    @property
    def value_at_zero(self) -> float:
        """The objective of zero weights, which have equal probabilities for all classes."""
        return math.log(self.classes) if self.loss == SOFTMAX else self.classes * math.log(2)

    @property
    def first_order(self) -> int:
        """The number of sums that answer a `Gradient`."""
        return self.size + 1 + self.classes

    @property
    def second_order(self) -> int:
        """The most sums that answer a request for curvature."""
        most = Curvature(1.0, 0).count(self)
        if self.blockwise:
            most = max(most, Block(np.zeros(min(self.size, MOST_KEYS)), 0.0, 0, 0.0).count(self))
        return most


class Gradient(NamedTuple):
    """A request for loss, gradient and masses at `weights` (features, classes)."""

    weights: np.ndarray


class Ascent(NamedTuple):
    """A request for weights from which to start, of a binary problem with one shard.

    They are what `passes` passes of dual coordinate ascent come to from zero weights, with the penalty `l2`.
    The answer is in the place of the gradient.
    """

    passes: int
    l2: float


class Curvature(NamedTuple):
    """A request for the curvature at the weights of the last `Gradient`.

    share: of all products of two values of a row that are computed for a whole matrix; below 1, a sample of
    the rows is taken. number: of curvatures before this one, which seeds the sample.
    """

    share: float
    number: int

    def count(self, problem: Problem) -> int:
        """Return the number of sums that answer the request."""
        return problem.size + problem.size * (problem.features if problem.whole else 1)


class Block(NamedTuple):
    """A request for the features' moments, and a block of the Hessian, at the weights of the last `Gradient`.

    keys (m,): feature * classes + class of the block's weights; they increase, are at most MOST_KEYS and end
    with the intercepts. effort: how many products of two values of a row are computed per non-zero; a sample
    of the rows is taken if that is too few for all. number: of curvatures before this one, which seeds the
    sample. ahead: the curvature of each row is the greatest within so large a change of its margin.
    """

    keys: np.ndarray
    effort: float
    number: int
    ahead: float

    def count(self, problem: Problem) -> int:
        """Return the number of sums that answer the request."""
        return 2 * problem.size + len(self.keys) ** 2


class Product(NamedTuple):
    """A request for the Hessian of the loss times a vector, at the weights of the last `Gradient`.

    And for how much of the curvature along the vector may be lost on the way: see `kernels.fall`.
    """

    vector: np.ndarray  # (features, classes)

    def count(self, problem: Problem) -> int:
        """Return the number of sums that answer the request."""
        return problem.size + 1


Request = Gradient | Ascent | Curvature | Block | Product
Steps = Generator["Request", "Sums", None]


@dataclass
class Sums:
    """Sums over rows, in two arrays and as views of these.

    first: gradient (features, classes), loss (1,), masses (classes,): the sums of the rows' curvatures. Or
    product (features, classes) and lost (1,).
    second: squares (features, classes) of the features, weighted by the rows' curvatures; then half of each
    class's Hessian (classes, features, features), or the features' means (features, classes), weighted too,
    and after the means the lower triangle of a block of the Hessian.
    """

    problem: Problem
    first: np.ndarray
    second: np.ndarray

    @staticmethod
    def of(problem: Problem) -> "Sums":
        """Return sums that are zero, with room for the answer to any request."""
        return Sums(problem, np.zeros(problem.first_order), np.zeros(problem.second_order))

    def answering(self, request: Request) -> np.ndarray:
        """Return the sums that answer a request."""
        if isinstance(request, Gradient | Ascent):
            return self.first
        place = self.first if isinstance(request, Product) else self.second
        return place[: request.count(self.problem)]

    @property
    def gradient(self) -> np.ndarray:
        return self.first[: self.problem.size].reshape(self.problem.shape)

    @property
    def product(self) -> np.ndarray:
        return self.gradient

    @property
    def loss(self) -> float:
        return float(self.first[self.problem.size])

    @loss.setter
    def loss(self, value: float) -> None:
        self.first[self.problem.size] = value

    @property
    def lost(self) -> float:
        return self.loss

    @lost.setter
    def lost(self, value: float) -> None:
        self.loss = value

    @property
    def masses(self) -> np.ndarray:
        return self.first[self.problem.size + 1 :]

    @property
    def squares(self) -> np.ndarray:
        return self.second[: self.problem.size].reshape(self.problem.shape)

    @property
    def halves(self) -> np.ndarray:
        features, classes = self.problem.shape
        begin = self.problem.size
        return self.second[begin : begin * (features + 1)].reshape(classes, features, features)

    @property
    def means(self) -> np.ndarray:
        return self.second[self.problem.size : 2 * self.problem.size].reshape(self.problem.shape)

    def block(self, size: int) -> np.ndarray:
        """The lower triangle of the block for `size` keys, (size, size)."""
        begin = 2 * self.problem.size
        return self.second[begin : begin + size**2].reshape(size, size)


class Point(NamedTuple):
    """Weights, and what is known of the objective there."""

    weights: np.ndarray  # (features, classes)
    value: float
    gradient: np.ndarray  # of loss and L2 penalty
    masses: np.ndarray  # (classes,): the sums of the rows' curvatures


class Search(Protocol):
    """The search for a minimum: send `steps` the sums that it requests until it ends."""

    best: Point  # after the last accepted step; its value is infinite before the first sums
    gap: float  # an estimate of how far the value of `best` is above the least one
    stuck: bool  # whether the search ended because rounding let no step decrease the value

    def steps(self) -> Steps: ...
