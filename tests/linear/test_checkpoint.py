"""Checkpoints: a training that is killed and resumed ends as the one that was not; no bad file is taken."""

import contextlib
import errno
import hashlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from damage import overwrite
from problems import watching
from processes import DEADLINE, ROOT, alive, children_of

from shmps import ASYNC, BOUNDED, SGD, SYNC, Cluster, LogisticRegression, load
from shmps.errors import DataError, OutOfSpace, UsageError
from shmps.linear import checkpoint
from shmps.ps.messages import SERVER, WORKER
from shmps.ps.scheduler.run import RESPAWN
from shmps.system import atomic
from shmps.system.failpoints import Failpoint, arm

ITERATIONS = 24
FORK = multiprocessing.get_context("fork")


def some_rows():
    random = np.random.default_rng(0)
    X = random.normal(size=(61, 11)) * (random.random((61, 11)) < 0.4)
    return X, np.where(X @ random.normal(size=11) > 0, 1, 0)


X, Y = some_rows()


SETTINGS = {"solver": "minibatch", "workers": 2, "l2": 1e-5, "iterations": ITERATIONS}


def trained(**params):
    return LogisticRegression(**(SETTINGS | {"batch_size": 256} | params)).fit(X, Y)


def bits(model):
    return model.coef_.tobytes() + model.intercept_.tobytes()


def wait_for(condition):
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, "it takes too long"


def killed(folder, condition, **params):
    """A training that writes checkpoints into `folder`, killed as soon as `condition()` holds."""
    process = FORK.Process(target=trained, kwargs={"checkpoint": folder} | params)
    process.start()
    wait_for(lambda: condition() or process.exitcode is not None)
    nodes = children_of(process.pid)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    wait_for(lambda: not any(map(alive, nodes)))


def killed_by_itself(folder, place, visit, **params):
    """The same at a named place of the parent process."""

    def train():
        arm(place, visit)
        trained(checkpoint=folder, **params)

    process = FORK.Process(target=train)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


RULES = {
    "sgd": {"updater": "sgd", "l2": 0.01},
    "sgd 1/t": {"updater": "sgd", "l2": 0.01, "schedule": "1/t"},
    "adagrad": {"updater": "adagrad", "l2": 0.01},
    "ftrl": {"updater": "ftrl", "l1": 0.001, "l2": 0.01},
}
LAYOUTS = {
    "one worker, minibatches": {"workers": 1, "servers": 1, "batch_size": 8},
    "three workers, two servers, minibatches": {"workers": 3, "servers": 2, "batch_size": 8},
    "two workers, whole shards": {"workers": 2, "servers": 1, "batch_size": 0},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rule", RULES)
def test_a_killed_sync_training_ends_with_the_bits_of_the_undisturbed_one(rule, layout, tmp_path):
    params = RULES[rule] | LAYOUTS[layout]
    second = tmp_path / "checkpoint-1"
    killed(tmp_path, second.exists, checkpoint_every=1, tick_time=50.0, **params)
    resumed = trained(resume=tmp_path, **params)
    assert 2 * params["workers"] <= resumed.result_.resumed < ITERATIONS * params["workers"]
    assert resumed.n_iter_ == ITERATIONS
    assert bits(resumed) == bits(trained(**params))


@pytest.mark.parametrize("rule", RULES)
def test_it_may_be_resumed_with_another_number_of_servers(rule, tmp_path):
    params = RULES[rule] | {"workers": 2, "batch_size": 8}
    killed_by_itself(tmp_path, "scheduler: file whole", 2, checkpoint_every=7, servers=2, **params)
    undisturbed = trained(servers=2, **params)
    for servers in (1, 3):
        resumed = trained(resume=tmp_path, servers=servers, **params)
        assert resumed.result_.resumed == 7 * 2
        assert bits(resumed) == bits(undisturbed)


PLACES = [
    # Each checkpoint has six parts; the place is visited before each.
    ("scheduler: file half written", 1, None),
    ("scheduler: file half written", 9, 5),
    ("scheduler: file whole", 2, 5),
    ("scheduler: file half written", 13, 10),
    ("scheduler: file half written", 18, 10),
    ("scheduler: file whole", 3, 10),
]


@pytest.mark.parametrize(("place", "visit", "iteration"), PLACES)
def test_wherever_the_writing_is_killed_the_newest_whole_checkpoint_is_gone_on_from(
    place, visit, iteration, tmp_path
):
    params = {"workers": 2, "servers": 2, "batch_size": 8, "checkpoint_every": 5}
    killed_by_itself(tmp_path, place, visit, **params)
    if iteration is None:
        with pytest.raises(DataError, match="a whole checkpoint, got none"):
            trained(resume=tmp_path, **params)
        return
    resumed = trained(resume=tmp_path, checkpoint=tmp_path, **params)
    assert resumed.result_.resumed == 2 * iteration
    assert bits(resumed) == bits(trained(**params))
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-0", "checkpoint-1"]  # the temporary file is gone


def test_a_training_is_killed_and_resumed_again_and_again(tmp_path):
    params = {"workers": 2, "batch_size": 8}
    undisturbed = trained(**params)
    for done in (6, 12, 18):  # killed as it writes its third
        killed_by_itself(tmp_path, "scheduler: file whole", 3, checkpoint_every=3, **params)
        params["resume"] = tmp_path
        assert trained(**params).result_.resumed == 2 * done
    assert bits(trained(**params)) == bits(undisturbed)


def test_a_finished_training_is_resumed_for_more_epochs(tmp_path):
    params = {"iterations": None, "workers": 2, "batch_size": 8, "checkpoint_every": 4}
    first = trained(epochs=3, checkpoint=tmp_path, **params)  # 4 batches each
    assert bits(trained(epochs=3, resume=tmp_path, **params)) == bits(first)
    resumed, undisturbed = trained(epochs=5, resume=tmp_path, **params), trained(epochs=5, **params)
    assert bits(resumed) == bits(undisturbed)
    assert (resumed.result_.rows, resumed.result_.nonzeros) == (2 * len(Y), 2 * np.count_nonzero(X))
    assert resumed.result_.ticks == undisturbed.result_.ticks


@pytest.mark.parametrize(
    "mode", [{"mode": "async"}, {"mode": "bounded", "bound": 3}], ids=lambda m: m["mode"]
)
def test_an_async_or_bounded_training_goes_on(mode, tmp_path):
    params = mode | {"workers": 3, "servers": 2, "slow_worker": (2, 5), "tick_time": 1.0, "batch_size": 8}
    killed_by_itself(tmp_path, "scheduler: file whole", 3, checkpoint_every=4, **params)
    # The third is not in place; of the worker that took it every push counts.
    assert checkpoint.read(str(tmp_path / "checkpoint-1")).copy.ticks[0] == 8
    resumed = trained(resume=tmp_path, **params)
    assert 8 <= resumed.result_.resumed < 3 * ITERATIONS
    assert resumed.result_.ticks == 3 * ITERATIONS
    assert resumed.score(X, Y) > 0.8


# The cluster's part.


def push_until(kv, last):
    for number in range(kv.resumed, last(kv.rank)):
        kv.push(None, np.arange(5.0) * (kv.rank + number))
    kv.barrier("all")
    if kv.rank == 0:
        kv.report(kv.copy_of_parameters())
    return kv.resumed


def copy_of_a_run(last, **params):
    copies = []
    with Cluster(5, workers=3, **params) as cluster:
        cluster.run(push_until, last, on_report=lambda rank, copy: copies.append(copy))
    return copies[0]


FAILPOINTS = [(SERVER, 0, "server: half applied", 2), (WORKER, 1, "worker: committed", 2)]


@pytest.mark.parametrize("failpoint", FAILPOINTS, ids=lambda failpoint: failpoint[2])
@pytest.mark.parametrize("consistency", [ASYNC, BOUNDED(9)], ids=str)
def test_every_worker_goes_on_after_its_own_pushes_even_if_someone_dies_again(consistency, failpoint):
    copy = copy_of_a_run(lambda rank: 6 + rank, consistency=consistency)
    assert copy.ticks.tolist() == [6, 7, 8]
    with Cluster(
        5, workers=3, consistency=consistency, restored=copy, failpoints=[Failpoint(*failpoint)]
    ) as cluster:
        resumed = cluster.run(push_until, lambda rank: 12, on_worker_death=RESPAWN)
        assert resumed[::2] == [6, 8] and len(cluster.events) == 1
        assert cluster.ticks().tolist() == [12, 12, 12]
        total = sum(rank + number for rank in range(3) for number in range(12))
        assert cluster.weights().tolist() == (total * np.arange(5.0)).tolist()
        # Another run is another one: nothing of it counts yet.
        assert cluster.run(lambda kv: kv.resumed) == [0, 0, 0]


def test_a_tick_keeps_its_number_when_a_cluster_is_restored():
    updater = SGD(0.1, l2=0.01, schedule="1/t")
    copy = copy_of_a_run(lambda rank: 6, consistency=SYNC, updater=updater)
    whole = copy_of_a_run(lambda rank: 12, consistency=SYNC, updater=updater)
    later = copy_of_a_run(lambda rank: 12, consistency=SYNC, updater=updater, restored=copy)
    assert [array.tobytes() for array in later] == [array.tobytes() for array in whole]


def test_a_copy_of_another_cluster_is_refused():
    copy = copy_of_a_run(lambda rank: 1)
    for params in ({"num_keys": 6}, {"width": 2}, {"workers": 2}, {"updater": SGD(0.1, l2=0.1)}):
        with pytest.raises(UsageError, match="restored must have weights, state and ticks of the shapes"):
            Cluster(**{"num_keys": 5, "workers": 3, "restored": copy} | params)


# The files.


def test_two_generations_are_kept_and_the_older_is_overwritten(tmp_path):
    trained(checkpoint=tmp_path, checkpoint_every=6, iterations=18)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-0", "checkpoint-1"]
    resumed = trained(resume=tmp_path)
    assert resumed.result_.resumed == 2 * 18
    os.unlink(tmp_path / "checkpoint-0")  # the first, then the third
    assert trained(resume=tmp_path).result_.resumed == 2 * 12
    trained(resume=tmp_path, checkpoint=tmp_path, checkpoint_every=24)
    assert trained(resume=tmp_path).result_.resumed == 2 * 24
    os.unlink(tmp_path / "checkpoint-0")
    assert trained(resume=tmp_path).result_.resumed == 2 * 12


def test_no_checkpoint_is_written_where_none_is_due(tmp_path):
    trained(checkpoint=tmp_path / "new" / "folder", checkpoint_every=ITERATIONS + 1)
    assert os.listdir(tmp_path / "new" / "folder") == []
    trained(resume=None, checkpoint=None, checkpoint_every=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The checkpoints of one training, after 12 and 24 iterations; not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoints")
    trained(checkpoint=folder, checkpoint_every=12)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    for name in os.listdir(folder):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


DIFFERENT = [
    ({"mode": "async"}, "mode sync there and async here"),
    ({"mode": "bounded", "bound": 2}, "mode sync there and bounded 2 here"),
    ({"workers": 3}, "workers 2 there and 3 here"),
    ({"updater": "ftrl"}, "updater adagrad there and ftrl here"),
    ({"learning_rate": 0.2}, "learning_rate None, by the rows there and 0.2 here"),
    ({"l2": 0.5}, "l2 1e-05 there and 0.5 here"),
    ({"batch_size": 8}, "batch_size 256 there and 8 here"),
    ({"random_state": 1}, "random_state 0 there and 1 here"),
    ({"fit_intercept": False}, "fit_intercept True there and False here"),
    ({"iterations": 23}, r"got \[24, 24\]; raise epochs"),
    ({"iterations": None, "epochs": 23}, r"got \[24, 24\]; raise epochs"),
]


@pytest.mark.parametrize(("params", "message"), DIFFERENT)
def test_settings_that_matter_must_be_the_same(params, message, folder):
    with pytest.raises(UsageError, match=f"{folder}.*{message}"):
        trained(resume=folder, **params)


def test_other_settings_may_differ(folder):
    params = {"servers": 2, "iterations": None, "epochs": 30, "tick_time": 0.1, "slow_worker": (0, 2)}
    params |= {"test_interval": 3, "node_timeout": 9.0, "on_worker_death": "fail", "checkpoint_every": 1}
    result = trained(resume=folder, **params).result_
    assert result.resumed == 48 and result.ticks == 60
    for progress in result.history:  # a rate is of what was done since
        visited = (progress.ticks - 48) * 61 / 2
        assert progress.samples_per_second * progress.seconds == pytest.approx(visited)


def test_the_data_must_be_the_same(folder):
    row, column = np.argwhere(X)[7]
    value, swapped = X.copy(), X.copy()
    value[row, column] += 1e-12
    swapped[:, [1, 2]] = X[:, [2, 1]]
    other = {
        "a label": (X, np.where(np.arange(61) == 5, 1 - Y, Y)),
        "a value": (value, Y),
        "two columns": (swapped, Y),
        "a row": (X[:-1], Y[:-1]),
        "a feature": (np.column_stack((X, np.zeros(61))), Y),
    }
    for data in other.values():
        with pytest.raises(DataError, match=r"the data of the checkpoint, got .* there and .* here; pass"):
            LogisticRegression(resume=folder, iterations=ITERATIONS).fit(*data)


def test_parameters_that_break_a_rule_are_refused():
    for params in (
        {"checkpoint_every": 0, "checkpoint": "x"},
        {"checkpoint": 7},
        {"resume": ""},
        {"checkpoint": "x", "join_at": 2},
        {"resume": "x", "on_worker_death": "continue"},
    ):
        with pytest.raises(UsageError, match=r"checkpoint|resume"):
            trained(**params)


def test_a_folder_without_checkpoints_and_one_that_is_none(tmp_path):
    (tmp_path / "file").touch()
    for name in ("", "missing", "file"):
        with pytest.raises(DataError, match="got none; name the folder"):
            trained(resume=tmp_path / name)
    with pytest.raises(DataError, match="file: a folder for checkpoints cannot be written"):
        trained(checkpoint=tmp_path / "file")
    (tmp_path / "checkpoint-0").mkdir()
    with pytest.raises(DataError, match="regular file, got a folder"):
        trained(resume=tmp_path)


def test_two_trainings_that_write_into_one_folder_are_told_of_each_other(tmp_path):
    with contextlib.ExitStack() as other:

        def begin_to_write(progress):
            if progress.iteration == 1:
                other.enter_context(atomic.locked(str(tmp_path)))

        callbacks = [watching(begin_to_write)]
        settings = {"checkpoint": tmp_path, "checkpoint_every": 3, "callbacks": callbacks}
        model = LogisticRegression(iterations=9, test_interval=1, **settings)
        words = "one process at a time may write into it, got a second; name another"
        with pytest.raises(DataError, match=words):
            model.fit(X, Y)
    assert os.listdir(tmp_path) == []


# Damage.


def test_every_flipped_byte_and_every_truncation_is_detected(copied):
    path = copied / "checkpoint-1"
    data = path.read_bytes()
    assert checkpoint.read(str(path)).copy.ticks.tolist() == [24, 24]
    for place in range(len(data)):
        for flip in (32, 255):  # 32: another case of the same letter
            overwrite(path, data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])
            with pytest.raises(DataError, match="checkpoint-1: "):
                checkpoint.read(str(path))
        overwrite(path, data[:place])
        with pytest.raises(DataError, match="checkpoint-1: "):
            checkpoint.read(str(path))
    path.write_bytes(data + b"0")
    with pytest.raises(DataError, match="has grown"):
        checkpoint.read(str(path))


def test_a_damaged_checkpoint_is_passed_over_with_a_warning_and_then_overwritten(copied):
    path = copied / "checkpoint-1"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"checkpoint-1: .* cut short.*; resumed from .*checkpoint-0"):
        resumed = trained(resume=copied, checkpoint=copied, checkpoint_every=20)
    assert resumed.result_.resumed == 2 * 12
    assert bits(resumed) == bits(trained())
    assert checkpoint.read(str(path)).copy.ticks.tolist() == [20, 20]
    assert checkpoint.read(str(copied / "checkpoint-0")).copy.ticks.tolist() == [12, 12]


def test_two_damaged_checkpoints_are_both_named(copied):
    for name in ("checkpoint-0", "checkpoint-1"):
        (copied / name).write_bytes(b"shmps")
    with pytest.raises(DataError, match=r"got .*checkpoint-0: .*checkpoint-1: .*start anew"):
        trained(resume=copied)


LIES = [
    ("sizes", [2**40, 1, 1, 1, 2]),
    ("sizes", [12, 2**60, 1, 1, 2]),
    ("sizes", [0, 10**30, 1, 1, 2]),
    ("sizes", [-1, -36, 1, 1, 2]),
    ("sizes", [12.0, 2, 1, 1, 2]),
    ("sizes", [12, 1, 1, 2]),
    ("sizes", "many"),
    ("arrays", {}),
    ("arrays", {key: {"dtype": each, "count": 2**40} for key, each in checkpoint._DTYPES.items()}),
    ("serial", None),
    ("settings", 1),
    ("format", 3),
]


def test_a_header_that_lies_is_refused_and_gets_no_memory(copied):
    path = copied / "checkpoint-1"
    magic, line, arrays = path.read_bytes().split(b"\n", 2)
    header = json.loads(line)
    del header["sha256"]
    for name, value in LIES:
        text = json.dumps(header | {name: value}).encode()
        digest = hashlib.sha256(text).hexdigest().encode()
        path.write_bytes(magic + b"\n" + text[:-1] + b', "sha256": "' + digest + b'"}\n' + arrays)
        tracemalloc.start()
        with pytest.raises(DataError, match=r"checkpoint-1: "):
            checkpoint.read(str(path))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**18, (name, value)


# A full disk.


def full(monkeypatch, call, visit):
    """The `visit`-th call of os.<call> that has to do with a checkpoint finds the disk full."""
    real, calls = getattr(os, call), []

    def of_a_checkpoint(first, flags=0):
        if call == "open":
            return flags & os.O_TMPFILE == os.O_TMPFILE
        # As Linux shows a file without a name: FOLDER/#NUMBER (deleted).
        return call != "write" or "/#" in os.readlink(f"/proc/self/fd/{first}")

    def failing(*args, **named):
        concerned = of_a_checkpoint(*args[:2])
        calls.append(args) if concerned else None
        if concerned and len(calls) == visit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **named)

    monkeypatch.setattr(os, call, failing)


# Of the third checkpoint: it has six parts, and its folder is synced after it.
STEPS = [
    ("open", 3),
    *(("write", visit) for visit in range(13, 19)),
    ("fsync", 5),
    ("fsync", 6),
    ("replace", 3),
]


@pytest.mark.parametrize(("call", "visit"), STEPS)
def test_a_full_disk_ends_the_training_and_leaves_the_checkpoint_before(call, visit, tmp_path):
    params = {"checkpoint": tmp_path, "checkpoint_every": 5}
    with pytest.MonkeyPatch.context() as patched:
        full(patched, call, visit)
        with pytest.raises(
            OutOfSpace, match=r"checkpoint-0: the checkpoint needs .* full.*; make room and resume"
        ):
            trained(**params)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-0", "checkpoint-1"]
    resumed = trained(resume=tmp_path, **params)
    in_place = (call, visit) == ("fsync", 6)  # only whether it would outlast a crash was in doubt
    assert resumed.result_.resumed == 2 * (15 if in_place else 10)
    assert bits(resumed) == bits(trained())


def test_bytes_are_on_the_disk_before_the_file_gets_its_name_and_the_name_after(tmp_path, monkeypatch):
    steps = []

    def recorded(name, real):
        def call(descriptor, *args):
            where = descriptor if isinstance(descriptor, str) else os.readlink(f"/proc/self/fd/{descriptor}")
            steps.append((name, re.sub(r"(#|shmps-)[0-9a-f]+", r"\1N", os.path.basename(where))))
            return real(descriptor, *args)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))
    trained(checkpoint=tmp_path, checkpoint_every=ITERATIONS)
    assert steps == [("fsync", "#N (deleted)"), ("replace", ".shmps-N.tmp"), ("fsync", tmp_path.name)]


# From the command line.


def run(*arguments, **options):
    command = [sys.executable, "run.py", "--quiet", "--workers", "2", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, **options)


def test_the_command_line_resumes_to_the_same_model(tmp_path):
    data, folder, model = tmp_path / "train.svm", tmp_path / "kept", tmp_path / "model"
    lines = [f"{1 if i % 3 else 0} {1 + i % 3}:1 {4 + i % 5}:0.5" for i in range(60)]
    data.write_text("\n".join(lines))
    same = ["--data", data, "--iterations", 100, "--intercept", "--checkpoint", folder, "--model", model]
    with run(*same, "--checkpoint-every", 2, "--tick-time", 100) as process:
        wait_for((folder / "checkpoint-0").exists)
        process.kill()
    assert process.returncode == -signal.SIGKILL and not model.exists()
    with run(*same, "--resume", folder) as process:
        assert process.wait(DEADLINE) == 0, process.stderr.read()
    undisturbed = LogisticRegression(solver="minibatch", workers=2, iterations=100).fit(data)
    assert load(model).coefficients.tobytes() == undisturbed.coef_.tobytes()
    assert load(model).intercept == undisturbed.intercept_[0]
