"""Which key of the parameter server holds which number in a training by full gradients.

    | weights | request | vector | sums for a gradient | sums for a curvature |
      the coordinator     the workers push: a push for each request,
      writes both         and the servers keep the sum of the last tick

Every key has one value.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shmps.linear.full_gradient.problem import (
    MOST_KEYS,
    Ascent,
    Block,
    Curvature,
    Gradient,
    Problem,
    Product,
    Request,
)

_END, _GRADIENT, _CURVATURE, _BLOCK, _ASCENT, _PRODUCT = 0.0, 1.0, 2.0, 3.0, 4.0, 5.0
_REQUEST = 4  # values: what is asked for, the number of the gradient, the two fields of other requests
_OF_BLOCK = 2  # values more: how far ahead, the number of keys; then the keys


class Asked(NamedTuple):
    """What the coordinator has written: the request (None: the training has ended) and the last weights."""

    request: Request | None
    weights: np.ndarray  # (features, classes)
    gradients: int  # requested so far


@dataclass(frozen=True)
class Layout:
    """The keys of a problem."""

    problem: Problem

    @property
    def vector(self) -> int:
        """The first key of the vector of a `Product`."""
        more = _OF_BLOCK + min(self.problem.size, MOST_KEYS) if self.problem.blockwise else 0
        return self.problem.size + _REQUEST + more

    @property
    def first(self) -> int:
        """The first key of the sums for a gradient or a product."""
        return self.vector + (self.problem.size if self.problem.l1 == 0 else 0)

    @property
    def second(self) -> int:
        """The first key of the sums for a curvature."""
        return self.first + self.problem.first_order

    @property
    def num_keys(self) -> int:
        return self.second + self.problem.second_order

    def keys(self, request: Request) -> tuple[int, int]:
        """Return the first key of the sums that answer a request, and the key after the last."""
        if isinstance(request, Gradient | Ascent):
            return self.first, self.second
        if isinstance(request, Product):
            return self.first, self.first + request.count(self.problem)
        return self.second, self.second + request.count(self.problem)

    @property
    def most_keys(self) -> int:
        """The most keys of a push."""
        return max(self.problem.first_order, self.problem.second_order)

    def write(self, asked: Asked) -> np.ndarray:
        """Return the values of the weights and the request, from key 0."""
        request = asked.request
        is_product = isinstance(request, Product)
        values = np.zeros(self.first if is_product else self.vector)
        values[: self.problem.size] = asked.weights.ravel()
        own = values[self.problem.size :]
        own[:2] = _END if request is None else _GRADIENT, asked.gradients
        if isinstance(request, Curvature):
            own[0], own[2:4] = _CURVATURE, request
        elif isinstance(request, Ascent):
            own[0], own[2:4] = _ASCENT, request
        elif isinstance(request, Block):
            count = len(request.keys)
            own[0], own[2:4] = _BLOCK, (request.effort, request.number)
            own[4:6], own[6 : 6 + count] = (request.ahead, count), request.keys
        elif isinstance(request, Product):
            own[0], values[self.vector :] = _PRODUCT, request.vector.ravel()
        return values

    def initial(self, asked: Asked) -> np.ndarray:
        """Return all values before the first round, (num_keys,)."""
        values = np.zeros(self.num_keys)
        values[: self.vector] = self.write(asked)
        return values

    def read(self, values: np.ndarray) -> Asked:
        """Return what `write` wrote, from the values of all keys, as views."""
        weights = values[: self.problem.size].reshape(self.problem.shape)
        kind, gradients, one, other, *_ = own = values[self.problem.size : self.first]
        request: Request | None = Gradient(weights)
        if kind == _END:
            request = None
        elif kind == _CURVATURE:
            request = Curvature(float(one), int(other))
        elif kind == _ASCENT:
            request = Ascent(int(one), float(other))
        elif kind == _BLOCK:
            keys = own[6 : 6 + int(own[5])].astype(np.int64)
            request = Block(keys, float(one), int(other), float(own[4]))
        elif kind == _PRODUCT:
            request = Product(values[self.vector : self.first].reshape(self.problem.shape))
        return Asked(request, weights, int(gradients))
