"""`bench blocks`: delayed block proximal gradient comes to the optimum; the table has what was measured."""

import numpy as np
import pytest
import scipy.sparse

from bench.speed import block_proximal, blocks
from bench.speed.block_proximal import EVERY_BLOCK, Plan
from bench.speed.problems import Problem


def problem(share):
    random = np.random.default_rng(0)
    X = scipy.sparse.random(200, 24, 0.1, "csr", random_state=random)
    y = np.where(X @ random.standard_normal(24) + 0.1 * random.standard_normal(200) > 0, 1.0, -1.0)
    return Problem(X, y, "l1", Problem(X, y, "l1", 1.0).weakest_l1() / share)


@pytest.mark.parametrize(("delay", "rate"), [(0, 1.0), (2, 1.0), (EVERY_BLOCK, 0.5)])
def test_it_comes_to_the_optimum_with_any_delay(delay, rate):
    each = problem(share=0.3)
    plan = Plan(1 / (each.C * len(each.y)), delay, rate)
    weights, passes = block_proximal.train(
        each.X, each.y, plan, lambda passes: len(passes) == 60, workers=2, servers=3
    )
    assert 0 <= each.gap(weights) <= 1e-6 * each.objective(weights)
    assert passes[-1].objective * each.C * len(each.y) == pytest.approx(each.objective(weights), rel=1e-9)
    assert 0 < np.count_nonzero(weights) < 24 and passes[-1].active < 1


def test_each_contestant_is_timed_to_each_distance(monkeypatch):
    monkeypatch.setattr(blocks, "STEPS", [(1.0, 1.0), (1.0, 0.3)])
    each = problem(share=0.5)
    measured = blocks.measure(each.X, each.y, 0.5, repeats=1)
    assert measured["gap"] < 1e-6 and 0 < measured["weights"] < 24
    about = {"data": "small", "share": 0.1} | measured
    lines = blocks.table({}, {"problems": [about]}).splitlines()
    assert len(lines) == 3 + len(blocks.WITHIN) and "- |" not in "".join(lines[2:])
    for own in measured["contestants"].values():
        times = [own[f"{within:g}"]["rounds"]["median"] for within in blocks.WITHIN]
        assert times == sorted(times)
