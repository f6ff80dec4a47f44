"""The updaters against dense twins, with lazy penalties; and the settings that they refuse."""

import numpy as np
import pytest
from naive import FTRL as NaiveFTRL
from naive import SGD as NaiveSGD
from naive import AdaGrad as NaiveAdaGrad

from shmps import FTRL, SGD, AdaGrad, Step
from shmps.errors import UsageError

N, UPDATES = 9, 40

LAZY = {
    "sgd": (SGD(0.3, l2=0.1), NaiveSGD(0.3, 0.1, N)),
    "sgd 1/t": (SGD(0.9, l2=0.3, schedule="1/t"), NaiveSGD(0.9, 0.3, N, lambda t: 1 / t)),
    "sgd 1/sqrt(t)": (
        SGD(0.9, l2=0.3, schedule="1/sqrt(t)"),
        NaiveSGD(0.9, 0.3, N, lambda t: 1 / np.sqrt(t)),
    ),
    "adagrad": (AdaGrad(0.3, l2=0.1), NaiveAdaGrad(0.3, 0.1, N)),
    "ftrl": (FTRL(0.3, l1=0.02, l2=0.1), NaiveFTRL(0.3, 0.02, 0.1, N)),
}


class Table:
    """The weights and state that a server keeps, with an updater."""

    def __init__(self, updater, initial=0.0):
        self.updater, self.age = updater, 0.0
        self.values = np.full((N, 1), initial)
        self.state = np.zeros((N, 1, updater.state_width))
        updater.start(self.values, self.state)

    def push(self, keys, gradient, tick):
        values, state = self.values[keys], self.state[keys]
        step = Step(tick, self.age)
        self.updater.update(keys, gradient[:, None], values, state, step)
        self.values[keys], self.state[keys] = values, state
        self.age += self.updater.penalty(step)

    def read(self):
        values = np.empty_like(self.values)
        self.updater.read(np.arange(N), self.values, self.state, self.age, values)
        return values[:, 0]


@pytest.mark.parametrize("name", LAZY)
def test_absent_keys_owe_their_penalty_and_pay_it_when_they_are_read(name):
    updater, twin = LAZY[name]
    table, expected = Table(updater), np.zeros(N)
    random = np.random.default_rng(1)
    for tick in range(1, UPDATES + 1):
        keys = np.flatnonzero(random.random(N) < (0.3 if tick > 1 else 1.1))
        gradient = random.normal(size=len(keys))
        dense = np.zeros(N)
        dense[keys] = gradient
        expected = twin.update(expected, dense, tick)
        table.push(keys, gradient, tick)
        np.testing.assert_allclose(table.read(), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", LAZY)
def test_a_read_changes_nothing_that_is_stored(name):
    updater, _ = LAZY[name]
    table = Table(updater)
    table.push(np.arange(N), np.ones(N), 1)
    table.push(np.array([0]), np.ones(1), 2)
    before = table.values.copy()
    table.read()
    np.testing.assert_array_equal(table.values, before)


@pytest.mark.parametrize(
    "updater",
    [
        SGD(0.3, l2=0.5, unpenalized=3),
        AdaGrad(0.3, l2=0.5, unpenalized=3),
        FTRL(0.3, l1=0.5, l2=0.5, unpenalized=3),
    ],
)
def test_the_unpenalized_key_keeps_its_value_where_the_others_shrink(updater):
    table = Table(updater)
    table.push(np.arange(N), -np.ones(N), 1)
    free, penalised = table.read()[[3, 4]]
    for tick in range(2, 12):
        table.push(np.arange(N), np.zeros(N), tick)
    assert table.read()[3] == free != 0
    assert abs(table.read()[4]) < abs(penalised)


def test_ftrl_starts_from_initial_weights():
    table = Table(FTRL(0.3), initial=0.7)
    table.push(np.array([0]), np.zeros(1), 1)
    np.testing.assert_allclose(table.read(), 0.7, rtol=1e-15)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: SGD(0.0), "learning_rate"),
        (lambda: SGD(float("nan")), "learning_rate"),
        (lambda: SGD(1.0, l2=-1), "l2"),
        (lambda: SGD(2.0, l2=0.5), r"learning_rate \* l2"),
        (lambda: SGD(1.0, schedule="linear"), "schedule"),
        (lambda: AdaGrad(-1), "learning_rate"),
        (lambda: AdaGrad(1, initial=0), "initial"),
        (lambda: FTRL(alpha=0), "alpha"),
        (lambda: FTRL(beta=-1), "beta"),
        (lambda: FTRL(l1=float("inf")), "l1"),
    ],
)
def test_an_impossible_setting_is_refused_by_name(make, word):
    with pytest.raises(UsageError, match=word):
        make()
