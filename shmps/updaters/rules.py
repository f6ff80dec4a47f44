"""The formulas of the updaters, for one value. Servers apply them to copies, workers in place.

    update, read, descend            kernels, the same for all rules
      paid, step, step_in_place,     call the method of the rule; numba chooses it when it compiles a kernel
      prefetch_stored

A rule is a tuple of numbers. One of them, `penalty`, is the rise of the age at an update. A rule has methods:

    paid             return the value at some age, without a penalty that it owes (see `descent`)
    step             write value and state after a gradient g; `value` is what `paid` returned
    step_in_place    the same without the value, if the value follows from the state; optional (1.6 times as
                     fast for FTRL with a million keys)
    prefetch_stored  prefetch what `paid` reads of a key; optional (FTRL's value follows from its state, and a
                     read of 4,300 keys among a million takes three quarters of the time)

The value and the state of a key are in row i of the arrays; i is the place of the key among copies, or the
key. With `scales` (n,), one per key, AdaGrad and FTRL move the value times its scale as the value itself
would move under a gradient divided by the scale; None: all 1. They are no part of the rule, since numba
counts the references to an array in a tuple at every call, which takes as long as the formula.

A rule may be in another module. After a change there delete shmps/updaters/__pycache__, because numba's cache
of the kernels notices changes of this file only.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload

from shmps.system.compiling import at, kernel
from shmps.system.prefetch import AHEAD, prefetch


@kernel
def scale_of(scales, key):
    """Return the scale of a key; 1 without scales, which numba decides when it compiles."""
    return 1.0 if scales is None else scales[at(key)]


@kernel
def prefetch_scale(scales, key):
    if scales is not None:
        prefetch(scales, key)


class SGDRule(NamedTuple):
    rate: float
    l2: float
    penalty: float
    unpenalized: int  # the key without a penalty

    @staticmethod
    @kernel
    def paid(rule, scale, key, i, d, values, state, age):
        if rule.l2 > 0 and key != rule.unpenalized and state[i, d, 0] != age:
            return values[i, d] * math.exp(state[i, d, 0] - age)
        return values[i, d]

    @staticmethod
    @kernel
    def step(rule, scale, key, i, d, value, g, values, state, age):
        keep = 1.0 if key == rule.unpenalized else 1.0 - rule.rate * rule.l2
        values[i, d] = value * keep - rule.rate * g
        if rule.l2 > 0:
            state[i, d, 0] = age + rule.penalty


@kernel
def adagrad_rate(rule, scale, squares):
    return rule.learning_rate / (scale * math.sqrt(rule.initial * scale * scale + squares))


class AdaGradRule(NamedTuple):
    learning_rate: float
    l2: float
    initial: float
    penalty: float
    unpenalized: int

    @staticmethod
    @kernel
    def paid(rule, scale, key, i, d, values, state, age):
        if rule.l2 > 0 and key != rule.unpenalized and age > state[i, d, 1]:
            # The rate is that of the last update, because only an update of the key changes it.
            rate = adagrad_rate(rule, scale, state[i, d, 0])
            return values[i, d] * (1.0 + rate * rule.l2) ** (state[i, d, 1] - age)
        return values[i, d]

    @staticmethod
    @kernel
    def step(rule, scale, key, i, d, value, g, values, state, age):
        penalty = 0.0 if key == rule.unpenalized else rule.l2
        squares = state[i, d, 0] + g * g
        rate = adagrad_rate(rule, scale, squares)
        values[i, d] = (value - rate * g) / (1.0 + rate * penalty)
        state[i, d, 0] = squares
        if rule.l2 > 0:
            state[i, d, 1] = age + rule.penalty


class FTRLRule(NamedTuple):
    inverse_alpha: float  # a division would take longer than the rest of the formula
    beta: float
    l1: float
    l2: float
    penalty: float
    unpenalized: int

    @staticmethod
    @kernel
    def paid(rule, scale, key, i, d, values, state, age):
        z, root = state[i, d, 0], math.sqrt(state[i, d, 1])
        penalized = 0.0 if key == rule.unpenalized else age
        shrunk = max(abs(z) - penalized * rule.l1, 0.0)
        return -math.copysign(shrunk, z) / (
            (rule.beta * scale + root) * scale * rule.inverse_alpha + penalized * rule.l2
        )

    @staticmethod
    @kernel
    def step(rule, scale, key, i, d, value, g, values, state, age):
        step_in_place(rule, scale, key, i, d, value, g, values, state, age)
        values[i, d] = paid(rule, scale, key, i, d, values, state, age + rule.penalty)

    @staticmethod
    @kernel
    def step_in_place(rule, scale, key, i, d, value, g, values, state, age):
        n = state[i, d, 1] + g * g
        rise = math.sqrt(n) - math.sqrt(state[i, d, 1])
        state[i, d, 0] += g - rise * scale * rule.inverse_alpha * value
        state[i, d, 1] = n

    @staticmethod
    @kernel
    def prefetch_stored(rule, key, values, state):
        prefetch(state, key)


@kernel
def _prefetch_both(rule, key, values, state):
    prefetch(values, key)
    prefetch(state, key)


def _method(name: str, default: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Return a function that calls the method `name` of its first argument, a rule.

    A rule without the method gets the `default`; if that is None, its `step`.

    It is an overload, because a kernel that takes functions as arguments is compiled again in every process:
    numba's cache recognises the type of a tuple, but no function.
    """

    def method_of(cls):
        return getattr(cls, name, default or cls.step)

    def call(rule, *arguments):  # without the JIT
        return method_of(type(rule))(rule, *arguments)

    @overload(call)
    def _(rule, *arguments):
        method = method_of(rule.instance_class)
        return lambda rule, *arguments: method(rule, *arguments)

    return call


paid, step, step_in_place = map(_method, ("paid", "step", "step_in_place"))
prefetch_stored = _method("prefetch_stored", _prefetch_both)


@kernel
def update(rule, scales, keys, gradient, values, state, age):
    """Apply a gradient (k, width) to the values (k, width) and states (k, width, m) of `keys` (k,)."""
    for i in range(len(keys)):
        if i + AHEAD < len(keys):
            prefetch_scale(scales, keys[i + AHEAD])
        scale = scale_of(scales, keys[i])
        for d in range(values.shape[1]):
            value = paid(rule, scale, keys[i], i, d, values, state, age)
            step(rule, scale, keys[i], i, d, value, gradient[i, d], values, state, age)


@kernel
def read(rule, scales, keys, weights, state, age, out):
    """Write the values of `keys` (k,) at `age` to `out` (k, width)."""
    for i in range(len(keys)):
        if i + AHEAD < len(keys):
            prefetch_stored(rule, keys[i + AHEAD], weights, state)
        scale = scale_of(scales, keys[i])
        for d in range(weights.shape[1]):
            out[i, d] = paid(rule, scale, keys[i], at(keys[i]), d, weights, state, age)


@kernel
def descend(rule, scales, indptr, indices, data, labels, importance, intercept, weights, state, age, column):
    """Update weights[:, column] in place with the gradient of each row's loss; return the mean loss.

    There is no lock: if two workers write a weight at the same time, one step may be lost (Niu et al.,
    Hogwild!, NIPS 2011). If a row has a key twice, the first step of its weight is lost too.
    Loss, `importance` and `intercept` are those of `linear.kernels.gradient`.
    """
    rows, last = len(labels), len(weights) - 1
    longest = 0
    for i in range(rows):
        longest = max(longest, indptr[i + 1] - indptr[i])
    values = np.empty(longest)
    loss = bias = 0.0
    for i in range(rows):
        begin, end = at(indptr[i]), at(indptr[i + 1])
        if i + 1 < rows:  # prefetch for the next row
            for p in range(end, at(indptr[i + 2])):
                prefetch_stored(rule, indices[p], weights, state)
                prefetch_scale(scales, indices[p])
        margin = 0.0
        for p in range(begin, end):
            scale = scale_of(scales, indices[p])
            value = paid(rule, scale, indices[p], at(indices[p]), column, weights, state, age)
            values[p - begin] = value
            margin += data[p] * value
        if intercept:
            bias = paid(rule, 1.0, last, last, column, weights, state, age)
            margin += bias
        z = labels[i] * margin
        e = math.exp(-abs(z))
        own = 1.0 if importance is None else importance[i]
        loss += own * (math.log(1.0 + e) + max(-z, 0.0))
        slope = -labels[i] * own * (e if z > 0 else 1.0) / (1.0 + e)
        for p in range(begin, end):
            key, value, g = at(indices[p]), values[p - begin], slope * data[p]
            scale = scale_of(scales, key)
            step_in_place(rule, scale, key, key, column, value, g, weights, state, age)
        if intercept:
            step_in_place(rule, 1.0, last, last, column, bias, slope, weights, state, age)
        age += rule.penalty
    return loss / rows
