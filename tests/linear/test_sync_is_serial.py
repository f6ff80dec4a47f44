"""Promise 1: in sync mode the weights are those of a serial loop, to the bit, with any number of servers."""

import itertools

import numpy as np
import pytest
from naive import FTRL as NaiveFTRL
from naive import SGD as NaiveSGD
from naive import AdaGrad as NaiveAdaGrad
from naive import Add as NaiveAdd
from naive import mean_of, sum_of

from shmps import FTRL, SGD, AdaGrad, Add, Cluster

NUM_KEYS, TICKS = 37, 12

# name -> (the updater, its naive twin over (keys, width), how a tick is reduced)
RULES = {
    "add": (Add(), lambda n: NaiveAdd(), sum_of),
    "sgd": (SGD(0.3, l2=0.01), lambda n: NaiveSGD(0.3, 0.01, n), mean_of),
    "sgd 1/t": (SGD(0.3, schedule="1/t"), lambda n: NaiveSGD(0.3, 0.0, n, lambda t: 1.0 / t), mean_of),
    "adagrad": (AdaGrad(0.3, l2=0.01), lambda n: NaiveAdaGrad(0.3, 0.01, n), mean_of),
    "ftrl": (FTRL(0.3, l1=0.001, l2=0.01), lambda n: NaiveFTRL(0.3, 0.001, 0.01, n), mean_of),
}


def part(rank, tick, width, every_key):
    """What worker `rank` pushes at `tick`: keys, a factor and a target per key, rows."""
    random = np.random.default_rng([rank, tick])
    keys = np.arange(NUM_KEYS)
    if not every_key:
        keys = np.flatnonzero(random.random(NUM_KEYS) < 0.4)
    return keys, random.normal(size=(len(keys), width)), 1.0 + rank


def work(kv, width, every_key):
    for tick in range(TICKS):
        keys, targets, rows = part(kv.rank, tick, width, every_key)
        weights = kv.pull(keys).reshape(len(keys), width)
        gradient = 0.1 * weights - targets
        kv.push(keys, gradient[:, 0] if width == 1 else gradient, rows=rows)


def serial(workers, width, twin, reduce, every_key):
    weights = np.full((NUM_KEYS, width), 0.0)
    for tick in range(TICKS):
        gradients, rows = [], []
        for rank in range(workers):
            keys, targets, count = part(rank, tick, width, every_key)
            gradient = np.zeros_like(weights)
            gradient[keys] = 0.1 * weights[keys] - targets
            gradients.append(gradient)
            rows.append(count)
        weights = twin.update(weights, reduce(gradients, rows), tick + 1)
    return weights


def trained(workers, servers, width, updater, every_key):
    with Cluster(NUM_KEYS, width=width, servers=servers, workers=workers, updater=updater) as cluster:
        cluster.run(work, width, every_key)
        return cluster.weights().reshape(NUM_KEYS, width)


def assert_same_bits(found, expected):
    # + 0.0: a zero has two signs, and only one value
    assert (found + 0.0).tobytes() == (expected + 0.0).tobytes()


# Every two of the three settings meet.
CASES = [
    (rule, workers, 1 + (i + j) % 3) for i, rule in enumerate(RULES) for j, workers in enumerate([1, 2, 4])
]


@pytest.mark.parametrize(("rule", "workers", "servers"), CASES)
def test_sync_has_the_bits_of_the_serial_loop(rule, workers, servers):
    updater, twin, reduce = RULES[rule]
    expected = serial(workers, 1, twin((NUM_KEYS, 1)), reduce, every_key=True)
    assert_same_bits(trained(workers, servers, 1, updater, every_key=True), expected)


@pytest.mark.parametrize("rule", RULES)
def test_sync_has_the_bits_of_the_serial_loop_with_four_values_per_key(rule):
    updater, twin, reduce = RULES[rule]
    expected = serial(4, 4, twin((NUM_KEYS, 4)), reduce, every_key=True)
    assert_same_bits(trained(4, 3, 4, updater, every_key=True), expected)


@pytest.mark.parametrize("rule", ["add", "sgd 1/t"])
def test_sync_has_the_bits_of_the_serial_loop_with_some_keys_per_push(rule):
    updater, twin, reduce = RULES[rule]
    expected = serial(4, 1, twin((NUM_KEYS, 1)), reduce, every_key=False)
    assert_same_bits(trained(4, 2, 1, updater, every_key=False), expected)


@pytest.mark.parametrize(("rule", "width"), [*zip(RULES, itertools.cycle([1, 4]), strict=False)])
def test_sync_has_the_same_bits_twice_in_a_row_and_with_other_servers(rule, width):
    updater = RULES[rule][0]
    first = trained(4, 2, width, updater, every_key=False)
    assert_same_bits(trained(4, 2, width, updater, every_key=False), first)
    assert_same_bits(trained(4, 1, width, updater, every_key=False), first)
