"""Trainings in virtual time: the mathematics is that of a training, the seconds are those of the machines."""

import json

import numpy as np
import pytest
import scipy.sparse

from shmps import LogisticRegression, Machines, simulate
from shmps.errors import UsageError
from shmps.simulation import measured

pytestmark = pytest.mark.filterwarnings("ignore::shmps.errors.NotConverged")
IDEAL = Machines(latency=0, push=0, pull=0, key=0, minibatch=1, nonzero=0)


@pytest.fixture(scope="module")
def problem():
    random = np.random.default_rng(3)
    X = scipy.sparse.random(400, 20, 0.3, format="csr", random_state=3)
    return X, (X @ random.normal(size=20) + random.normal(size=400) / 3 > 0).astype(int)


def simulated(problem, machines, workers=4, **parameters):
    given = {"solver": "minibatch", "batch_size": 0, "iterations": 10, "servers": 2}
    return simulate(*problem, machines, workers=workers, **(given | parameters))


def test_a_straggler_holds_up_sync_and_not_async(problem):
    machines = Machines(**{**vars(IDEAL), "stragglers": 0.25, "slowness": 3})
    sync, free = (simulated(problem, machines, mode=mode) for mode in ("sync", "async"))
    assert sync.seconds == free.seconds == pytest.approx(30)  # the straggler's own ticks
    assert sync.computing == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    assert free.result.delays.max > sync.result.delays.max == 0


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_iteration_takes_a_gradient_a_push_and_a_pull(problem, mode):
    far = Machines(**{**vars(IDEAL), "latency": 0.25})
    expected = 1 + 4 * 0.25 if mode == "sync" else 1 + 2 * 0.25  # async sends both at once
    assert simulated(problem, far, mode=mode).seconds == pytest.approx(10 * expected, abs=1)


def test_a_server_saturates_as_workers_become_more(problem):
    machines = Machines(**{**vars(IDEAL), "push": 0.4})
    few, many = (simulated(problem, machines, workers=workers, mode="async") for workers in (1, 10))
    assert few.seconds == pytest.approx(14) and few.serving == pytest.approx([4 / 14] * 2)
    assert many.seconds == pytest.approx(10 * 10 * 0.4, rel=0.05)  # instead of 14
    assert many.serving.min() > 0.95 and many.computing.max() < 0.3


def test_a_narrow_network_takes_longer_for_the_same_bytes(problem):
    narrow, wide = (
        simulated(problem, Machines(**{**vars(IDEAL), "bandwidth": bandwidth})) for bandwidth in (100, 1e9)
    )
    assert narrow.bytes == pytest.approx(wide.bytes, rel=0.02)  # servers that are silent are pinged
    assert wide.seconds < 10.1 < narrow.seconds
    assert wide.receiving.max() < 1e-3 < 0.1 < narrow.receiving.min() <= narrow.receiving.max() <= 1
    assert narrow.result.metrics == wide.result.metrics


def test_deaths_cost_time_and_no_push(problem):
    machines = Machines(**{**vars(IDEAL), "deaths": 200, "restart": 0.5})
    calm, deadly, again = (simulated(problem, each, iterations=40) for each in (IDEAL, machines, machines))
    assert {event.role for event in deadly.result.events} == {"worker", "server"}
    assert deadly.seconds > calm.seconds
    assert deadly.result.metrics == calm.result.metrics
    assert deadly.seconds == again.seconds


def test_the_weights_are_those_of_the_training_itself(problem):
    done = simulated(problem, Machines(variation=1.0, hiccups=0.3))
    model = LogisticRegression(
        workers=4, servers=2, solver="minibatch", batch_size=0, iterations=10, engine="inline"
    ).fit(*problem)
    assert done.result.metrics == model.result_.metrics and done.result.clock == "virtual"


def test_the_journal_of_a_simulation_is_repeated_by_processes(problem, tmp_path):
    path = tmp_path / "simulated.journal"
    given = {"workers": 3, "servers": 2, "mode": "async", "solver": "minibatch", "iterations": 15}
    machines = Machines(stragglers=0.3, slowness=4, variation=0.5)
    done = simulate(*problem, machines, record=path, **given)
    real = LogisticRegression(replay=path, **given).fit(*problem)
    assert real.result_.clock == "wall" and done.result.delays.max > 2
    assert real.result_.metrics == done.result.metrics and real.result_.delays == done.result.delays


def test_what_cannot_be_simulated_is_refused(problem):
    with pytest.raises(UsageError, match="engine must be left out"):
        simulate(*problem, engine="processes")


def test_this_host_can_be_measured():
    machines = measured()
    assert all(0 < getattr(machines, name) < 1 for name in ("minibatch", "push", "pull"))


def test_the_command_prints_what_the_machines_did(shmps, problem, tmp_path):
    X, y = problem
    path = tmp_path / "rows.svm"
    lines = (
        f"{label} " + " ".join(f"{key + 1}:{value}" for key, value in zip(row.indices, row.data, strict=True))
        for label, row in zip(y, X, strict=True)
    )
    path.write_text("\n".join(lines))
    flags = ["simulate", path, "--workers", 20, "--servers", 2, "--async", "--iterations", 5]
    flags += ["--minibatch", 2, "--latency", 0.5, "--variation", 0.1]
    told = json.loads(shmps(*flags, "--json").stdout)
    assert told["clock"] == "virtual" and told["settings"]["workers"] == 20
    assert 15 < told["simulation"]["seconds"] == told["seconds"]["train"] < 30
    assert 0.4 < told["simulation"]["computing"]["mean"] < 0.9
    table = shmps(*flags).stdout
    assert "virtual seconds" in table and "servers serve" in table
    for wrong, said in ((("--push", -1), "push must be"), (("--engine", "processes"), "--engine must be")):
        refused = shmps("simulate", path, *wrong)
        assert refused.returncode == 2 and said in refused.stderr
