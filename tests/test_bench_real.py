"""`bench real`: problems and their optima, the search of settings, and the table."""

import numpy as np
import pytest
import scipy.sparse

from bench import __main__ as bench
from bench.speed import packages, race, real, solvers
from bench.speed.problems import Problem, newton
from bench.speed.race import Entrant, Trial
from shmps.errors import DataError


def rows(classes=2, seed=0):
    random = np.random.default_rng(seed)
    X = scipy.sparse.csr_matrix(random.normal(size=(60, 5)) * 10.0 ** np.arange(-2, 3))
    y = random.integers(classes, size=60)
    return X, np.where(y == 1, 1.0, -1.0) if classes == 2 else y


def problem(kind, C=1.0):
    X, y = rows(3 if kind in ("softmax", "rest") else 2)
    return Problem(X, y, kind, C)


def zeros(problem):
    features = problem.X.shape[1]
    return np.zeros((features, 3) if problem.kind in ("softmax", "rest") else features)


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("kind", ["l2", "softmax", "rest"])
def test_newtons_optimum_is_proven_by_its_gap(kind, C):
    each = problem(kind, C)
    optimum = newton(each, zeros(each))
    assert 0 <= each.gap(optimum) < 1e-10 * each.objective(optimum)
    assert each.objective(optimum) < each.objective(zeros(each))
    elsewhere = 0.9 * optimum
    assert each.gap(elsewhere) >= each.objective(elsewhere) - each.objective(optimum) > 0


def test_the_least_penalty_at_which_all_weights_are_0():
    weakest = problem("l1").weakest_l1()
    below, above = problem("l1", 0.999 * weakest), problem("l1", 1.01 * weakest)
    assert below.gap(zeros(below)) == pytest.approx(0, abs=1e-12)
    assert above.gap(zeros(above)) > 1e-6


@pytest.mark.parametrize("kind", ["l2", "l1", "softmax", "rest"])
def test_every_installed_solver_comes_to_the_optimum(kind):
    pytest.importorskip("sklearn")
    each = problem(kind, 1e-3)
    found, missing = solvers.peers(each)
    assert "scikit-learn" not in missing
    start = zeros(each) if kind != "l1" else solve(found, "scikit-learn liblinear")
    best = newton(each, start)
    assert each.gap(best) < 1e-9 * each.objective(best)
    slow = "SGD", "saga", "gblinear"  # unscaled features; an intercept
    for peer in found:
        if not any(name in peer.name for name in slow):
            reached = each.objective(peer.run(peer.settings[-1]))
            assert reached == pytest.approx(each.objective(best), rel=1e-5), peer.name


def solve(found, name):
    return next(peer.run(100) for peer in found if peer.name == name)


def entrant(seconds, distances, asked):
    """A solver whose n-th setting takes n * seconds and comes within distances[n] of 100."""

    def trial(setting, most):
        asked.append(setting)
        return Trial(seconds * (setting + 1), 100 * (1 + distances[setting]))

    return Entrant(range(len(distances)), trial)


def test_the_coarsest_setting_within_each_distance_is_timed():
    asked = []
    entrants = {"a": entrant(0.001, [1, 5e-3, 5e-4, 0, 0], asked)}
    tried = race.search(entrants, 100)
    assert asked == [0, 1, 2, 3]
    times = race.race(entrants, tried, 100, 2, own="shmps")
    assert {within: each["a"][0] for within, each in times.items()} == {1e-2: 1, 1e-3: 2, 1e-6: 3}
    assert [trial.seconds for trial in times[1e-3]["a"][1]] == [0.003, 0.003]


def test_a_solver_that_is_lost_gets_no_finer_setting_and_is_timed_once():
    asked = []
    entrants = {"fast": entrant(0.1, [0], []), "slow": entrant(0.45, [5e-3, 5e-3, 0], asked)}
    times = race.race(entrants, race.search(entrants, 100), 100, 3, own="shmps")
    assert set(asked) == {0}
    assert len(times[1e-2]["fast"][1]) == 3 and len(times[1e-2]["slow"][1]) == 1
    assert "slow" not in times[1e-6]


def test_the_fastest_other_solver_is_timed_however_fast_shmps_is():
    entrants = {"shmps": entrant(0.001, [0], []), "other": entrant(0.9, [0], [])}
    times = race.race(entrants, race.search(entrants, 100), 100, 3, own="shmps")
    assert [len(times[1e-6][name][1]) for name in entrants] == [3, 3]


def test_the_solver_with_the_shortest_fits_comes_first_and_a_fit_that_takes_for_ever_is_ended():
    order = []

    def solver(name, *seconds):
        def trial(setting, most):
            order.append(name)
            return Trial(*((seconds[setting], 200) if seconds[setting] <= most else (np.inf, np.inf)))

        return Entrant(range(len(seconds)), trial)

    entrants = {"slow": solver("slow", 0.01, 6, 6), "stuck": solver("stuck", 1e9, 0)}
    entrants["fast"] = entrant(0.02, [1, 1, 0], order)
    tried = race.search(entrants, 100, 1.0)
    assert order == ["slow", "stuck", 0, "slow", 1, 2]
    assert [len(tried[name]) for name in entrants] == [2, 1, 3]


def test_a_package_goes_on_after_a_fit_that_was_ended():
    pytest.importorskip("sklearn")
    with packages.packages(["scikit-learn"]) as [package]:
        package.take(problem("l1"))
        trial = package.entrants()["scikit-learn liblinear"].trial
        assert trial(1, 0.0).seconds == np.inf
        assert trial(100, np.inf).objective < problem("l1").objective(zeros(problem("l1")))


def measured(where, ratio, whole=True, other="peer", newton=0.0):
    spread = {"median": 1.0, "min": 1.0, "max": 1.0, "values": [1.0]}
    entry = {
        "tol": 0.1 if whole else None, "whole": spread if whole else None, "other": other, "ratio": ratio,
        "seconds": {"shmps": 1.0} | ({other: ratio or 1.0} if other else {}),
    }  # fmt: skip
    each = {"set": where, "problem": "L2, C = 1", "kind": "l2", "newton": newton, "gap": 0.0}
    return each | {"within": {"0.01": entry}}


def table(*problems):
    results = {"problems": list(problems), "packages": {"peer": "peer"}, "missing": ["torch"]}
    return real.table({"repeats": 5}, results)


def test_the_table_has_the_mean_the_worst_set_and_who_wins():
    lines = table(measured("a", 4.0), measured("b", 0.25, newton=1e-7), measured("c", None, other=None))
    row = [cell.strip() for cell in lines.splitlines()[2].strip("|").split("|")]
    assert row == ["L2, C = 1", "0.01", "3", "1.00", "0.25", "b", "2"]
    assert "- L2, C = 1, within 0.01: b (peer, 0.25)" in lines
    assert "differ, by over 1e-08: b, L2, C = 1 (1e-07)" in lines
    assert "Not installed: torch" in lines


def test_a_distance_that_only_another_solver_reaches_is_lost():
    lines = table(measured("a", 2.0), measured("b", None, whole=False))
    assert "b (peer, shmps does not come within)" in lines
    assert lines.splitlines()[2].endswith("1 |")


def write(folder, name="small", classes=2):
    X, y = rows(classes)
    parts = {"indptr": X.indptr, "indices": X.indices, "data": X.data, "shape": X.shape}
    np.savez(folder / f"{name}.npz", y=y, **parts)


def test_every_set_of_the_folder_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(solvers, "PACKAGES", ())
    write(tmp_path)
    (tmp_path / "text.svm").write_text("".join(f"{i % 3 % 2} 1:{i % 5} 3:{i % 7}\n" for i in range(40)))
    (tmp_path / "README.md").write_text("not a set")
    settings, results = real.run(quick=True, data_dir=str(tmp_path))
    assert {each["set"] for each in results["problems"]} == {"small", "text"}
    for each in results["problems"]:
        assert each["newton"] < 1e-8 and each["gap"] < 1e-8
        assert each["within"]["1e-06"]["whole"] and each["within"]["1e-06"]["other"] is None
    assert "Not installed" not in real.table(settings, results)


def test_a_set_of_several_classes_has_softmax_and_each_class_against_the_rest(tmp_path):
    write(tmp_path, classes=3)
    X, y = real.load(tmp_path / "small.npz")
    assert [each.kind for _, each in real._problems(X, y, quick=True)] == ["softmax", "rest"]


def test_a_folder_without_the_sets_asked_for_is_an_error(tmp_path, capsys):
    with pytest.raises(DataError, match="the folder must hold sets as"):
        real.run(quick=True, data_dir=str(tmp_path))
    write(tmp_path)
    with pytest.raises(DataError, match="the sets are small, got large"):
        real.run(quick=True, data_dir=str(tmp_path), sets="large")
    with pytest.raises(SystemExit):
        bench.main(["table", "--sets", "small"])
    assert "--sets is only for real, blocks, cv, got 'table'" in capsys.readouterr().err
