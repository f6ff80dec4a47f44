"""Which key of the parameter server holds which number in a training by full gradients.

    | weights | request | sums for a gradient | sums for a curvature |
      the coordinator     the workers push: a push for each request,
      writes both         and the servers keep the sum of the last tick

Every key has one value.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shmps.linear.full_gradient.problem import Curvature, Gradient, Problem, Request

_END, _GRADIENT, _CURVATURE = 0.0, 1.0, 2.0
_REQUEST = 4  # values: what is asked for, the number of the gradient, share and number of a curvature


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
    def first(self) -> int:
        """The first key of the sums for a gradient."""
        return self.problem.size + _REQUEST

    @property
    def second(self) -> int:
        """The first key of the sums for a curvature."""
        return self.first + self.problem.first_order

    @property
    def num_keys(self) -> int:
        return self.second + self.problem.second_order

    def keys(self, request: Request) -> tuple[int, int]:
        """Return the first key of the sums that answer a request, and the key after the last."""
        if isinstance(request, Gradient):
            return self.first, self.second
        return self.second, self.num_keys

    @property
    def most_keys(self) -> int:
        """The most keys of a push."""
        return max(self.problem.first_order, self.problem.second_order)

    def write(self, asked: Asked) -> np.ndarray:
        """Return the values of the weights and the request, from key 0."""
        request = asked.request
        if isinstance(request, Curvature):
            values = [_CURVATURE, asked.gradients, *map(float, request)]
        else:
            values = [_END if request is None else _GRADIENT, asked.gradients, 0.0, 0.0]
        return np.concatenate([asked.weights.ravel(), values])

    def initial(self, weights: np.ndarray) -> np.ndarray:
        """Return all values before the first round, (num_keys,): the first request is that for a gradient."""
        values = np.zeros(self.num_keys)
        values[: self.first] = self.write(Asked(Gradient(weights), weights, 1))
        return values

    def read(self, values: np.ndarray) -> Asked:
        """Return what `write` wrote, from the values of all keys, as views."""
        weights = values[: self.problem.size].reshape(self.problem.shape)
        kind, gradients, share, number = values[self.problem.size : self.first].tolist()
        if kind == _END:
            return Asked(None, weights, int(gradients))
        request = Curvature(share, int(number)) if kind == _CURVATURE else Gradient(weights)
        return Asked(request, weights, int(gradients))
