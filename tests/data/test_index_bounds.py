"""No index reaches beyond its matrix: every door looks, in memory and on the disk."""

import faulthandler
import os
import sys
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from problems import watching

from shmps import LogisticRegression
from shmps.data import mapped, mapped_reader, npy
from shmps.errors import DataError
from shmps.models import formats

ROWS, FEATURES = 60, 12
FAR = 2**31 - 1


def matrix(seed=0):
    X = scipy.sparse.random(ROWS, FEATURES, density=0.4, format="csr", random_state=seed)
    return X, np.where(np.arange(ROWS) % 2, 1.0, -1.0)


@pytest.fixture(scope="module")
def trained():
    return LogisticRegression(workers=1, epochs=1).fit(*matrix())


def put(name, place, value):
    """Changes one entry after scipy has looked."""

    def change(X):
        array = getattr(X, name).copy()
        array[place] = value
        setattr(X, name, array)

    return change


def data_cut_short(X):
    X.data = X.data[:-1]


BROKEN: dict[str, tuple[str, Any]] = {
    "the intercept's index": ("csr", put("indices", 5, FEATURES)),
    "a far index": ("csr", put("indices", 5, FAR)),
    "a negative index": ("csr", put("indices", 5, -1)),
    "pointers that fall": ("csr", put("indptr", 3, 0)),
    "pointers that start late": ("csr", put("indptr", 0, 1)),
    "pointers beyond the end": ("csr", put("indptr", -1, 10_000)),
    "fewer values than indices": ("csr", data_cut_short),
    "a row of csc": ("csc", put("indices", 5, FAR)),
    "a column of csc": ("csc", put("indptr", 3, 10_000)),
    "a block's index": ("bsr", put("indices", 1, FAR)),
    "a row of coo": ("coo", put("row", 5, ROWS)),
    "a column of coo": ("coo", put("col", 5, -1)),
    "a column of lil": ("lil", lambda X: X.rows[3].__setitem__(0, FEATURES)),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_an_index_outside_of_x_is_refused_at_every_door(broken, trained):
    kind, change = BROKEN[broken]
    X, y = matrix()
    X = X.asformat(kind)
    change(X)
    model = trained.model()
    doors = {
        "fit": lambda: LogisticRegression(workers=1).fit(X, y),
        "eval_set": lambda: LogisticRegression(workers=1).fit(*matrix(), eval_set=(X, y)),
        "partial_fit": lambda: LogisticRegression(workers=1).partial_fit(X, y, classes=[-1, 1]),
        "predict": lambda: trained.predict(X),
        "score": lambda: trained.score(X, y),
        "a model": lambda: model.predict_proba(X),
    }
    for door in doors.values():
        with pytest.raises(DataError, match=r"X(\.\w+)? must "):
            door()


def test_an_entry_outside_is_named():
    X, y = matrix()
    X.indices[7] = FEATURES
    with pytest.raises(DataError, match=r"^X.indices must be from 0 to 11, got 12 in entry 7 \(from 0\)$"):
        LogisticRegression(workers=1).fit(X, y)


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_what_lies_within_is_taken(index, trained):
    X, _ = matrix()
    expected = trained.decision_function(X)
    for kind in ("csr", "csc", "bsr", "coo", "lil", "dok", "dia"):
        other = X.asformat(kind)
        for name in {"indices", "indptr"} & vars(other).keys():
            setattr(other, name, getattr(other, name).astype(index))
        np.testing.assert_allclose(trained.decision_function(other), expected)
    spare = X.copy()  # room behind the last entry is nobody's
    spare.indices, spare.data = np.append(X.indices, index(FAR)), np.append(X.data, 1.0)
    np.testing.assert_array_equal(trained.decision_function(spare), expected)


# Mapped data.

IN_MEMORY = {"eval_set": matrix()}
TRAININGS: dict[str, dict[str, Any]] = {
    "minibatches": {"epochs": 2, "batch_size": 8},
    "whole shards": {"batch_size": 0, "iterations": 2},
    "hogwild": {"mode": "hogwild", "epochs": 2},
    "lbfgs": {"solver": "lbfgs"},
}


@pytest.fixture
def folder(tmp_path):
    X, y = matrix()
    entries = [slice(X.indptr[i], X.indptr[i + 1]) for i in range(ROWS)]
    lines = (
        f"{label} " + " ".join(f"{j + 1}:{v}" for j, v in zip(X.indices[own], X.data[own], strict=True))
        for label, own in zip(y, entries, strict=True)
    )
    (tmp_path / "data.svm").write_text("\n".join(lines) + "\n")
    mapped.convert(tmp_path / "data.svm", tmp_path / "data.shmps")
    return tmp_path / "data.shmps"


def flip(path, entry, size, bit):
    with open(path, "r+b") as file:
        file.seek(npy.HEADER + entry * size + bit // 8)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1 << bit % 8]))


FLIPPED = {
    "indices, high": ("indices.npy", 100, 4, 30, "indices must be from 0 to 11"),
    "indices, sign": ("indices.npy", 100, 4, 31, "indices must be from 0 to 11"),
    "indices, low": ("indices.npy", 100, 4, 4, "indices must be from 0 to 11"),
    "indptr, high": ("indptr.npy", 20, 8, 40, "row pointers must never fall"),
    "indptr, sign": ("indptr.npy", 20, 8, 63, "row pointers must never fall"),
    "indptr, first": ("indptr.npy", 0, 8, 2, "row pointers must start at 0"),
    "indptr, last": ("indptr.npy", ROWS, 8, 6, r"row pointers must end at \d+"),
    "indptr, end of a part": ("indptr.npy", 32, 8, 33, "row pointers must never fall"),
}


@pytest.mark.parametrize("flipped", FLIPPED)
def test_a_flipped_bit_of_mapped_data_never_reaches_a_kernel(flipped, folder, trained, monkeypatch):
    monkeypatch.setattr(mapped_reader, "_ROWS", 32)
    name, entry, size, bit, told = FLIPPED[flipped]
    flip(folder / name, entry, size, bit)
    told = rf"{name}: {told}.*; it is damaged: convert the data again"
    X, _ = mapped.load(folder)
    for params in TRAININGS.values():
        with pytest.raises(DataError, match=told):
            LogisticRegression(workers=2, **params).fit(folder, **IN_MEMORY)
    for use in (
        lambda: LogisticRegression(workers=1, epochs=1).fit(*matrix(), eval_set=(folder, None)),
        lambda: LogisticRegression(workers=1, early_stopping=True).fit(folder),
        lambda: LogisticRegression(workers=1, class_weight="balanced").fit(folder, **IN_MEMORY),
        lambda: trained.predict(X),
        lambda: trained.model().predict(X),
        lambda: X @ np.ones(FEATURES),
    ):
        with pytest.raises(DataError, match=told):
            use()


def cut_short(folder, name):
    os.truncate(os.path.join(folder, name), 200)


CUT = r"\.npy: \d+ entries of \w+ take \d+ bytes, got 200; the file was cut short"
NAMES = ["indices.npy", "data.npy", "indptr.npy"]


@pytest.fixture
def quiet_workers():
    """Without pytest's traceback of a SIGBUS."""
    faulthandler.disable()
    yield
    faulthandler.enable(sys.__stderr__)


@pytest.mark.usefixtures("quiet_workers")
@pytest.mark.parametrize("policy", ["respawn", "fail", "continue"])
@pytest.mark.parametrize("name", NAMES)
def test_data_cut_short_under_a_worker_is_named(policy, name, tmp_path):
    with open(tmp_path / "long", "w") as file:  # several pages, so that a worker dies by SIGBUS
        file.writelines(f"{i % 2} " + " ".join(f"{j}:1" for j in range(1, 13)) + "\n" for i in range(2000))
    mapped.convert(tmp_path / "long", tmp_path / "long.shmps")
    params = {"workers": 2, "mode": "async", "batch_size": 0, "iterations": 10**6, "test_interval": 1}
    X, y = matrix()

    def cut(evaluation):
        cut_short(tmp_path / "long.shmps", name)

    model = LogisticRegression(**params, on_worker_death=policy, callbacks=[watching(cut)])
    with pytest.raises(DataError, match=name[:-4] + CUT):
        model.fit(tmp_path / "long.shmps", eval_set=(X, (y > 0).astype(float)))


@pytest.mark.parametrize("name", NAMES)
def test_data_cut_short_while_it_is_evaluated_or_predicted_from_is_named(name, folder, trained):
    X, _ = mapped.load(folder)
    told = name[:-4] + CUT
    cut = watching(lambda evaluation: cut_short(folder, name))
    model = LogisticRegression(workers=1, epochs=3, test_interval=1, batch_size=0, callbacks=[cut])
    with pytest.raises(DataError, match=told):
        model.fit(*matrix(), eval_set=(folder, None))
    for use in (lambda: trained.predict(X), lambda: trained.model().decision_function(X)):
        with pytest.raises(DataError, match=told):
            use()


def test_a_file_cut_short_between_its_size_and_its_end_is_named(folder, monkeypatch):
    path, real = folder / "data.npy", npy._header

    def cut(*args):  # called when the size has been looked at
        os.truncate(path, 200)
        return real(*args)

    count = mapped.describe(folder)["nonzeros"]
    monkeypatch.setattr(npy, "_header", cut)
    with pytest.raises(DataError, match="data" + CUT):
        npy.read(path, "<f8", count, 0, count)


@pytest.mark.parametrize("command", ["train", "predict"])
def test_a_command_says_that_its_data_was_cut_short(command, shmps, folder, trained, tmp_path, monkeypatch):
    formats.save(trained.model(), tmp_path / "model")
    line = (
        ["train", "--quiet", "--data", folder]
        if command == "train"
        else ["predict", tmp_path / "model", folder]
    )
    real = mapped.load

    def load(path):
        found = real(path)
        cut_short(path, "data.npy")
        return found

    monkeypatch.setattr(mapped, "load", load)
    ended = shmps(*line)
    assert ended.returncode == 3
    assert "data.npy: " in ended.stderr and "cut short" in ended.stderr and "Traceback" not in ended.stderr
