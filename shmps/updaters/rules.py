"""The updaters' formulas, for one value; applied by servers to copies, and by workers in place.

A rule is a tuple of numbers, whose type says which formulas are its own (see `Formulas`). They find value and
state of a key in row i of the arrays: its place among copies, or the key itself.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload

from shmps.system.compiling import at, kernel
from shmps.updaters.prefetch import prefetch


class SGDRule(NamedTuple):
    rate: float
    l2: float
    penalty: float  # by which an update raises the age
    unpenalized: int  # the key without a penalty


@kernel
def _sgd_paid(rule, key, i, d, values, state, age):
    if rule.l2 > 0 and key != rule.unpenalized and state[i, d, 0] != age:
        return values[i, d] * math.exp(state[i, d, 0] - age)
    return values[i, d]


@kernel
def _sgd_step(rule, key, i, d, value, g, values, state, age):
    keep = 1.0 if key == rule.unpenalized else 1.0 - rule.rate * rule.l2
    values[i, d] = value * keep - rule.rate * g
    if rule.l2 > 0:
        state[i, d, 0] = age + rule.penalty


class AdaGradRule(NamedTuple):
    learning_rate: float
    l2: float
    initial: float
    penalty: float
    unpenalized: int


@kernel
def _adagrad_paid(rule, key, i, d, values, state, age):
    if rule.l2 > 0 and key != rule.unpenalized and age > state[i, d, 1]:
        # The rate has not changed since: it only does when the key is touched.
        rate = rule.learning_rate / math.sqrt(rule.initial + state[i, d, 0])
        return values[i, d] * (1.0 + rate * rule.l2) ** (state[i, d, 1] - age)
    return values[i, d]


@kernel
def _adagrad_step(rule, key, i, d, value, g, values, state, age):
    penalty = 0.0 if key == rule.unpenalized else rule.l2
    squares = state[i, d, 0] + g * g
    rate = rule.learning_rate / math.sqrt(rule.initial + squares)
    values[i, d] = (value - rate * g) / (1.0 + rate * penalty)
    state[i, d, 0] = squares
    if rule.l2 > 0:
        state[i, d, 1] = age + rule.penalty


class FTRLRule(NamedTuple):
    inverse_alpha: float  # to divide takes longer than all the rest
    beta: float
    l1: float
    l2: float
    penalty: float
    unpenalized: int


@kernel
def _ftrl_paid(rule, key, i, d, values, state, age):
    return _ftrl_weight(rule, key, state[i, d, 0], math.sqrt(state[i, d, 1]), age)


@kernel
def _ftrl_step(rule, key, i, d, value, g, values, state, age):
    _ftrl_state(rule, key, i, d, value, g, values, state, age)
    values[i, d] = _ftrl_paid(rule, key, i, d, values, state, age + rule.penalty)


@kernel
def _ftrl_state(rule, key, i, d, value, g, values, state, age):
    n = state[i, d, 1] + g * g
    rise = math.sqrt(n) - math.sqrt(state[i, d, 1])
    state[i, d, 0] += g - rise * rule.inverse_alpha * value
    state[i, d, 1] = n


@kernel
def _ftrl_ahead(weights, state, row):
    prefetch(state, row)


@kernel
def _ftrl_weight(rule, key, z, root, age):
    penalized = 0.0 if key == rule.unpenalized else age
    shrunk = max(abs(z) - penalized * rule.l1, 0.0)
    return -math.copysign(shrunk, z) / ((rule.beta + root) * rule.inverse_alpha + penalized * rule.l2)


@kernel
def _both_ahead(weights, state, row):
    prefetch(weights, row)
    prefetch(state, row)


class Formulas(NamedTuple):
    paid: Callable[..., Any]  # what a value is worth at some age, with no penalty owed (see `updaters`)
    step: Callable[..., Any]  # writes what a gradient makes of value and state
    step_in_place: Callable[..., Any]  # the same, but not of a value that follows from the state
    ahead: Callable[..., Any]  # asks for the memory that `paid` and `step_in_place` will need


_FORMULAS = {
    SGDRule: Formulas(_sgd_paid, _sgd_step, _sgd_step, _both_ahead),
    AdaGradRule: Formulas(_adagrad_paid, _adagrad_step, _adagrad_step, _both_ahead),
    FTRLRule: Formulas(_ftrl_paid, _ftrl_step, _ftrl_state, _ftrl_ahead),
}


def paid(rule, key, i, d, values, state, age):
    """The value in values[i, d] at `age`."""
    return _FORMULAS[type(rule)].paid(rule, key, i, d, values, state, age)


def step(rule, key, i, d, value, g, values, state, age):
    """Write what the gradient g makes of `value`, the one that is paid at `age`, and its state."""
    _FORMULAS[type(rule)].step(rule, key, i, d, value, g, values, state, age)


def step_in_place(rule, key, i, d, value, g, values, state, age):
    """The same where it is read again by `paid` alone."""
    _FORMULAS[type(rule)].step_in_place(rule, key, i, d, value, g, values, state, age)


def ahead(rule, weights, state, row):
    """Ask for what a step of weights[row] will need. Changes nothing."""
    _FORMULAS[type(rule)].ahead(weights, state, row)


# A function as an argument would be compiled anew by every process; a type of tuple the cache knows again.
@overload(paid)
def _paid(rule, key, i, d, values, state, age):
    formula = _FORMULAS[rule.instance_class].paid
    return lambda rule, key, i, d, values, state, age: formula(rule, key, i, d, values, state, age)


@overload(step)
def _step(rule, key, i, d, value, g, values, state, age):
    formula = _FORMULAS[rule.instance_class].step
    return lambda rule, key, i, d, value, g, values, state, age: formula(
        rule, key, i, d, value, g, values, state, age
    )


@overload(step_in_place)
def _step_in_place(rule, key, i, d, value, g, values, state, age):
    formula = _FORMULAS[rule.instance_class].step_in_place
    return lambda rule, key, i, d, value, g, values, state, age: formula(
        rule, key, i, d, value, g, values, state, age
    )


@overload(ahead)
def _ahead(rule, weights, state, row):
    formula = _FORMULAS[rule.instance_class].ahead
    return lambda rule, weights, state, row: formula(weights, state, row)


@kernel
def update(rule, keys, gradient, values, state, age):
    """One step of every value of `keys` (k,): gradient and values (k, width), state (k, width, m)."""
    for i in range(len(keys)):
        for d in range(values.shape[1]):
            value = paid(rule, keys[i], i, d, values, state, age)
            step(rule, keys[i], i, d, value, gradient[i, d], values, state, age)


@kernel
def catch_up(rule, keys, values, state, age):
    """Every value as it is worth at `age`; the state stays."""
    for i in range(len(keys)):
        for d in range(values.shape[1]):
            values[i, d] = paid(rule, keys[i], i, d, values, state, age)


@kernel
def descend(rule, indptr, indices, data, labels, importance, intercept, weights, state, age, column):
    """A step per row, with the gradient of its loss, of weights[:, column] itself; returns the mean loss.

    Nothing is locked: where others write meanwhile, one of two steps of a weight may be lost (Niu et al.,
    Hogwild!, NIPS 2011). Of a key that is twice in a row the first step of the weight is lost too.
    Loss, `importance` and `intercept` as in `kernels.gradient`.
    """
    rows, last = len(labels), len(weights) - 1
    longest = 0
    for i in range(rows):
        longest = max(longest, indptr[i + 1] - indptr[i])
    values = np.empty(longest)
    loss = bias = 0.0
    for i in range(rows):
        begin, end = at(indptr[i]), at(indptr[i + 1])
        if i + 1 < rows:  # what the next row needs, while this one is computed
            for p in range(end, at(indptr[i + 2])):
                ahead(rule, weights, state, indices[p])
        margin = 0.0
        for p in range(begin, end):
            value = paid(rule, indices[p], at(indices[p]), column, weights, state, age)
            values[p - begin] = value
            margin += data[p] * value
        if intercept:
            bias = paid(rule, last, last, column, weights, state, age)
            margin += bias
        z = labels[i] * margin
        e = math.exp(-abs(z))
        own = 1.0 if importance is None else importance[i]
        loss += own * (math.log(1.0 + e) + max(-z, 0.0))
        slope = -labels[i] * own * (e if z > 0 else 1.0) / (1.0 + e)
        for p in range(begin, end):
            g = slope * data[p]
            step_in_place(rule, indices[p], at(indices[p]), column, values[p - begin], g, weights, state, age)
        if intercept:
            step_in_place(rule, last, last, column, bias, slope, weights, state, age)
        age += rule.penalty
    return loss / rows
