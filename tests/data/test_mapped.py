"""Mapped data: a conversion is complete or absent, equals a read of the text, and opens without a read."""

import bz2
import errno
import gzip
import hashlib
import itertools
import json
import lzma
import multiprocessing
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from bench.speed import outofcore
from shmps import LogisticRegression
from shmps.data import datasets, mapped, npy, svmlight
from shmps.data.kernels import take_rows
from shmps.data.labels import codes_of, encoded
from shmps.data.matching import fit_columns
from shmps.data.rows import Rows, fingerprint, is_finite, rows_of, to_csr
from shmps.errors import DataError, OutOfSpace, UsageError
from shmps.linear import kernels, minibatches
from shmps.linear.full_gradient.kernels import moments
from shmps.system.memory import own_memory

ROWS, FEATURES = 300, 40
PARAMS: dict[str, Any] = {"batch_size": 16, "epochs": 2}


def text(rows=ROWS, labels=(-1, 1), seed=0):
    random = np.random.default_rng(seed)
    X = scipy.sparse.random(rows, FEATURES, density=0.2, format="csr", random_state=seed)
    X.data = random.standard_normal(X.nnz)
    lines = []
    for i in range(rows):
        part = slice(X.indptr[i], X.indptr[i + 1])
        entries = zip(X.indices[part].tolist(), X.data[part].tolist(), strict=True)
        lines.append(
            f"{random.choice(labels)} " + " ".join(f"{index + 1}:{value!r}" for index, value in entries)
        )
    return "\n".join(lines).encode() + b"\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """The path of a text of several blocks."""
    monkeypatch.setattr(svmlight, "BLOCK", 4000)
    path = tmp_path / "data.svm"
    path.write_bytes(text())
    return path


@pytest.fixture
def folder(source, tmp_path):
    mapped.convert(source, tmp_path / "data.shmps")
    return tmp_path / "data.shmps"


def same(found, expected):
    (X, y), (other_X, other_y) = found, expected
    assert X.shape == other_X.shape and X.indices.dtype == other_X.indices.dtype
    for array, other in ((X.indptr, other_X.indptr), (X.indices, other_X.indices)):
        np.testing.assert_array_equal(array, other)
    assert X.data.tobytes() == other_X.data.tobytes() and y.tobytes() == other_y.tobytes()


PACKED = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("block", [1, 4000, 2**24])
def test_what_is_converted_is_what_would_have_been_read(packed, block, tmp_path, monkeypatch):
    monkeypatch.setattr(svmlight, "BLOCK", block)
    source, target = tmp_path / "data", tmp_path / "data.shmps"
    source.write_bytes(PACKED[packed](b"\xef\xbb\xbf# comment\n" + text(60)))
    seen = []
    meta = mapped.convert(source, target, on_progress=lambda *told: seen.append(told))
    same(mapped.load(target), svmlight.read(source)[:2])
    assert seen == sorted(seen) and seen[-1] == (source.stat().st_size,) * 2
    X, y, *_ = svmlight.read(source)
    assert (meta["rows"], meta["features"], meta["nonzeros"]) == (*X.shape, X.nnz)
    assert dict(meta["labels"]) == {-1.0: (y == -1).sum(), 1.0: (y == 1).sum()}
    assert meta == mapped.describe(target)
    mapped.verify(target)
    for name in ("indptr", "indices", "data"):  # other programs can read them
        np.testing.assert_array_equal(np.load(target / f"{name}.npy"), getattr(X, name))


def test_options_are_those_of_the_reader(tmp_path):
    source = tmp_path / "data"
    source.write_bytes(b"2 0:1 5000000000:2\n\n1\n")
    options = {"zero_based": True, "limit": 2**40}
    mapped.convert(source, tmp_path / "data.shmps", **options)
    X, y = mapped.load(tmp_path / "data.shmps")
    same((X, y), svmlight.read(source, **options)[:2])
    assert X.indices.dtype == np.int64 and X.shape == (2, 5_000_000_001) and y.tolist() == [2, 1]


def test_a_fault_is_told_with_its_line_and_leaves_nothing(source, tmp_path):
    whole = source.read_bytes()
    for wrong in (b"1 2:1 2:1\n", b"1 1:1e999\n", b"1 1:1\x00\n", b"no\n"):
        source.write_bytes(whole + wrong)
        with pytest.raises(DataError) as reading:
            svmlight.read(source)
        with pytest.raises(DataError) as converting:
            mapped.convert(source, tmp_path / "data.shmps")
        assert str(converting.value) == str(reading.value) and f":{ROWS + 1}:" in str(reading.value)
    source.write_bytes(b"# nothing\n" * 1000)
    with pytest.raises(DataError, match="at least one row"):
        mapped.convert(source, tmp_path / "data.shmps")
    with pytest.raises(DataError, match="No such file"):
        mapped.convert(tmp_path / "none", tmp_path / "data.shmps")
    assert os.listdir(tmp_path) == ["data.svm"]


def test_an_existing_file_or_folder_is_not_overwritten(source, folder):
    before = mapped.describe(folder)
    for target in (folder, source):
        with pytest.raises(DataError, match="must be free, got an existing one; remove it or name"):
            mapped.convert(source, target)
    assert mapped.describe(folder) == before


def test_two_conversions_to_one_name_do_not_meet(source, tmp_path):
    target = tmp_path / "data.shmps"

    def another(done, planned):
        with pytest.raises(DataError, match="one process at a time may make it"):
            mapped.convert(source, target)

    mapped.convert(source, target, on_progress=another)
    same(mapped.load(target), svmlight.read(source)[:2])


def convert_and_die(source, target):
    mapped.convert(source, target, on_progress=lambda done, planned: os.kill(os.getpid(), signal.SIGKILL))


def test_a_conversion_that_is_killed_leaves_what_the_next_one_removes(source, tmp_path):
    target = tmp_path / "data.shmps"
    process = multiprocessing.get_context("fork").Process(target=convert_and_die, args=(source, target))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process.close()
    assert sorted(os.listdir(tmp_path)) == [".data.shmps.tmp", "data.svm"]
    mapped.convert(source, target)
    assert sorted(os.listdir(tmp_path)) == ["data.shmps", "data.svm"]
    assert len(os.listdir(target)) == 5
    same(mapped.load(target), svmlight.read(source)[:2])


def test_an_interrupt_leaves_nothing(source, tmp_path):
    def interrupt(done, planned):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mapped.convert(source, tmp_path / "data.shmps", on_progress=interrupt)
    assert os.listdir(tmp_path) == ["data.svm"]


@pytest.mark.parametrize(
    ("call", "visit"), [("write", 1), ("write", 9), ("fsync", 3), ("fsync", 5), ("rename", 1)]
)
def test_a_full_disk_is_an_error_and_leaves_nothing(call, visit, source, tmp_path, monkeypatch):
    real, calls = getattr(os, call), []

    def full(*args):
        calls.append(args)
        if len(calls) >= visit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(OutOfSpace, match=r"mapped data needs .* full .*; make room and convert it again"):
            mapped.convert(source, tmp_path / "data.shmps")
    assert os.listdir(tmp_path) == ["data.svm"]


@pytest.mark.parametrize("params", [PARAMS, PARAMS | {"batch_size": 0}, {"solver": "lbfgs"}])
def test_training_from_mapped_data_gives_the_bits_of_training_in_memory(params, source, folder):
    def trained(X, y=None, eval_set=None):
        model = LogisticRegression(**params).fit(X, y, eval_set=eval_set)
        return model.coef_.tobytes(), model.intercept_.tobytes(), model.result_.metrics

    in_memory = trained(*svmlight.read(source)[:2])
    assert trained(folder) == trained(str(source)) == trained(*mapped.load(folder)) == in_memory
    assert trained(folder, eval_set=(folder, None)) == in_memory


def test_rows_go_to_a_spawned_process_by_the_name_of_their_folder(folder):
    X, y = mapped.load(folder)
    assert len(pickle.dumps(rows_of(X, encoded(y, "y")[0]))) < 2000
    forked, spawned = (
        LogisticRegression(**PARAMS, workers=1, start_method=method).fit(folder)
        for method in ("fork", "spawn")
    )
    assert spawned.coef_.tobytes() == forked.coef_.tobytes()


def test_weights_of_rows_go_to_a_spawned_process_with_them(folder):
    X, y = mapped.load(folder)
    importance = np.random.default_rng(0).random(ROWS)
    rows = rows_of(X, encoded(y, "y")[0], importance)
    assert len(pickle.dumps(rows)) < 2000 + importance.nbytes
    there = pickle.loads(pickle.dumps(rows))
    assert there.importance.tolist() == importance.tolist() and there.labels.tolist() == rows.labels.tolist()
    assert fingerprint(there, FEATURES, [0, 1]) == fingerprint(
        rows_of(X.in_memory(), rows.labels, importance), FEATURES, [0, 1]
    )


@pytest.mark.parametrize("labels", ["one's own", "of more classes", "too many to be listed"])
def test_labels_that_are_not_the_folders_go_to_a_spawned_process_with_the_rows(labels, folder, tmp_path):
    X, y = mapped.load(folder)
    if labels == "one's own":
        codes = encoded(np.arange(ROWS) % 2, "y")[0]
    elif labels == "of more classes":
        codes = codes_of(y, [-1.0, 0.0, 1.0])
    else:
        (tmp_path / "many").write_bytes(b"".join(b"%d 1:1\n" % (7 * label) for label in range(1500)))
        mapped.convert(tmp_path / "many", tmp_path / "many.shmps")
        X, y = mapped.load(tmp_path / "many.shmps")
        codes = encoded(y, "y")[0]
    there = pickle.loads(pickle.dumps(rows_of(X, codes)))
    assert there.labels.tolist() == codes.tolist()
    assert there.data.tobytes() == X.data.tobytes()


def test_a_path_brings_its_labels(source, folder):
    with pytest.raises(UsageError, match=r"y must be None for .*, which has the labels"):
        LogisticRegression().fit(folder, np.ones(ROWS))
    with pytest.raises(DataError, match="only the path of a data file brings its own labels"):
        LogisticRegression().fit(svmlight.read(source)[0])


def test_a_training_that_began_in_memory_goes_on_from_mapped_data(source, folder, tmp_path):
    kept, X, y = tmp_path / "kept", *svmlight.read(source)[:2]
    undisturbed = LogisticRegression(**PARAMS).fit(X, y)
    LogisticRegression(**PARAMS | {"epochs": 1}, checkpoint=kept, checkpoint_every=5).fit(X, y)
    resumed = LogisticRegression(**PARAMS, resume=kept).fit(folder)
    assert resumed.result_.resumed and resumed.coef_.tobytes() == undisturbed.coef_.tobytes()
    labels, _ = encoded(y, "y")
    assert fingerprint(rows_of(X, labels), FEATURES, [0, 1]) == fingerprint(
        rows_of(mapped.load(folder)[0], labels), FEATURES, [0, 1]
    )


@pytest.mark.parametrize("labels", [(0, 1), (1, 2)])
def test_any_two_labels_are_kept(labels, tmp_path):
    source, folder = tmp_path / "data", tmp_path / "data.shmps"
    source.write_bytes(text(labels=labels))
    mapped.convert(source, folder)
    assert mapped.load(folder)[1].classes == list(labels)
    one, other = (LogisticRegression(**PARAMS).fit(path) for path in (source, folder))
    assert other.classes_.tolist() == list(labels) and one.coef_.tobytes() == other.coef_.tobytes()
    assert (
        LogisticRegression(**PARAMS).fit(source, eval_set=(folder, None)).result_.metrics
        == one.result_.metrics
    )


@pytest.mark.filterwarnings("ignore:y has 1,500 classes")
def test_other_numbers_of_labels_are_kept_and_trained_against_each_other(tmp_path):
    for count in (3, 1500):
        source, folder = tmp_path / f"{count}", tmp_path / f"{count}.shmps"
        source.write_bytes(b"".join(b"%d 1:1\n" % label for label in range(count)))
        meta = mapped.convert(source, folder)
        assert meta["labels"] == ([[0.0, 1], [1.0, 1], [2.0, 1]] if count == 3 else None)
        assert mapped.load(folder)[1].tolist() == list(range(count))
        model = LogisticRegression(epochs=1).fit(folder)
        assert model.classes_.tolist() == list(range(count)) and model.coef_.shape == (count, 1)


def test_a_folder_is_a_data_set(source, folder):
    data = datasets.load(str(folder), test=str(folder))
    assert data.name == str(folder) and data.note == ""
    for part in ((data.train_X, data.train_y), (data.test_X, data.test_y)):
        same(part, svmlight.read(source)[:2])


def test_a_part_of_a_matrix_does_not_pass_for_the_folder(folder):
    X, y = mapped.load(folder)
    assert X[:10].meta == {} == (X * 2).meta and y[:10].classes is None
    few = LogisticRegression(**PARAMS).fit(X[:100], y[:100])
    assert few.n_features_in_ == FEATURES
    assert type(rows_of(X[:10], y[:10])) is Rows
    with pytest.raises(ValueError, match="read-only"):
        X.data[0] = 1.0


def test_a_product_takes_a_part_of_the_rows_at_a_time(source, folder, monkeypatch):
    X, weights = mapped.load(folder)[0], np.random.default_rng(0).standard_normal(FEATURES)
    several = np.random.default_rng(1).standard_normal((FEATURES, 3))
    of_several, parts = svmlight.read(source)[0] @ several, []
    expected = svmlight.read(source)[0] @ weights
    for part in (1, 7, 1000, 2**20):
        monkeypatch.setattr(mapped, "_PART", part)
        assert (X @ weights).tobytes() == expected.tobytes()
        with monkeypatch.context() as patched:
            patched.setattr(mapped.MappedMatrix, "parts", lambda X, part=X.parts: parts.append(X) or part())
            assert (X @ several).tobytes() == of_several.tobytes()
        assert parts.pop() is X
        assert max(each.nnz for each in X.parts()) <= max(part, np.diff(X.indptr).max())
    model = LogisticRegression(**PARAMS).fit(folder)
    np.testing.assert_array_equal(
        model.decision_function(X), model.decision_function(svmlight.read(source)[0])
    )


def test_columns_are_added_without_a_copy(folder):
    X, y = mapped.load(folder)
    wide, dropped = fit_columns(X, FEATURES + 2)
    assert wide.shape == (ROWS, FEATURES + 2) and dropped == 0 and X.shape == (ROWS, FEATURES)
    assert wide.indices is X.indices and rows_of(wide, y).data.base is not None
    narrow, dropped = fit_columns(X, FEATURES - 1)
    assert narrow.shape == (ROWS, FEATURES - 1) and narrow.nnz + dropped == X.nnz


# Damaged folders.


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("name", ["indptr", "indices", "data", "labels"])
def test_verify_names_the_file_that_is_damaged(name, folder):
    path = folder / f"{name}.npy"
    for at in (npy.HEADER, path.stat().st_size - 1):
        flip(path, at)
        mapped.load(folder)  # reads no entry
        with pytest.raises(
            DataError, match=f"{name}.npy: the SHA-256 .*; the file is damaged: convert the data again"
        ):
            mapped.verify(folder)
        flip(path, at)
    mapped.verify(folder)


@pytest.mark.parametrize("name", ["indptr", "indices", "data", "labels"])
def test_an_array_of_another_size_or_kind_is_refused(name, folder):
    path = folder / f"{name}.npy"
    whole = path.read_bytes()
    for changed in (whole[:-1], whole[:200], b"", whole + b"\0"):
        path.write_bytes(changed)
        with pytest.raises(
            DataError, match=rf"{name}.npy: \d+ entries .* take {len(whole)} bytes, got .*convert"
        ):
            mapped.load(folder)
    path.write_bytes(whole[:20] + b"x" + whole[21:])
    with pytest.raises(DataError, match=f"{name}.npy: the header must be that of .*convert the data again"):
        mapped.load(folder)
    path.unlink()
    with pytest.raises(DataError, match=f"{name}.npy: .*No such file.*convert the data again"):
        mapped.load(folder)


def test_another_version_or_a_damaged_description_is_refused(folder):
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    newer = json.dumps(meta | {"format": mapped.CONTAINER.format + 1}) + "\n"
    for line, told in {
        newer: "newer format 3; upgrade shmps",
        json.dumps(meta | {"features": 7}) + "\n": "damaged: convert the data again",
        "{}\n": "got None",
        path.read_text()[:-1]: "no end",
        "": "no end",
    }.items():
        path.write_text(line)
        for look in (mapped.load, mapped.describe, mapped.verify):
            with pytest.raises(DataError, match=told):
                look(folder)
    path.unlink()
    for place in (folder, folder / "none", folder / "data.npy"):
        with pytest.raises(DataError, match=r"mapped data must be a folder with meta.json .*; make one with"):
            mapped.load(place)


# Large data.


def write_sparse(path, dtype, count, entries):
    """Write a .npy file of `count` zeros, in holes, with some entries {position: value}."""
    kind = np.dtype(dtype)
    with open(path, "wb") as file:
        file.write(npy._header(kind, count))
        file.truncate(npy.HEADER + count * kind.itemsize)
        for position, value in entries.items():
            file.seek(npy.HEADER + position * kind.itemsize)
            file.write(kind.type(value).tobytes())


MANY = 2**31 + 10


@pytest.fixture
def large(folder):
    """A folder with two rows, of which the second lies beyond 2**31 non-zeros."""
    meta = json.loads((folder / "meta.json").read_text())
    last = {MANY - 2: 3, MANY - 1: 5}
    entries = {
        "indptr": (3, {1: MANY - 2, 2: MANY}),
        "indices": (MANY, last),
        "data": (MANY, {position: float(value) for position, value in last.items()}),
        "labels": (2, {0: -1.0, 1: 1.0}),
    }
    for name, (count, found) in entries.items():
        meta["arrays"][name]["count"] = count
        write_sparse(folder / f"{name}.npy", meta["arrays"][name]["dtype"], count, found)
    del meta["sha256"]
    meta |= {"rows": 2, "nonzeros": MANY}
    meta["sha256"] = hashlib.sha256(json.dumps(meta).encode()).hexdigest()
    (folder / "meta.json").write_text(json.dumps(meta) + "\n")
    return folder


def test_opening_looks_at_no_entries_and_has_no_copies(large):
    mapped.load(large)
    before = own_memory()
    X, y = mapped.load(large)
    X = to_csr(X)
    assert is_finite(X)
    rows = rows_of(X, encoded(y, "y")[0])
    assert own_memory() - before < 2**20  # of 25 GB
    assert X.nnz == rows.nonzeros == MANY and X.indices.dtype == np.int32 and y.classes == [-1.0, 1.0]


def test_kernels_reach_beyond_two_to_the_31_non_zeros(large):
    rows = rows_of(*mapped.load(large))
    second, weights = rows.part(1, 2), np.arange(FEATURES) / 100
    out, margin = np.zeros(FEATURES), np.empty(1)
    kernels.margins(second.indptr, second.indices, second.data, weights, False, margin)
    assert margin[0] == pytest.approx(3 * 0.03 + 5 * 0.05)
    kernels.gradient(*second, weights, False, 1, out, np.empty(second.num_rows))
    assert np.flatnonzero(out).tolist() == [3, 5]
    assert out[3] == pytest.approx(-3 / (1 + np.exp(margin[0]))) and second.nonzeros == 2
    indptr, indices, data = take_rows(rows.indptr, rows.indices, rows.data, np.array([1, 1]))
    assert indptr.tolist() == [0, 2, 4] and indices.tolist() == [3, 5] * 2 and data.tolist() == [3, 5] * 2
    squares, means = np.zeros((2, FEATURES, 1))
    moments(second.indptr, second.indices, second.data, np.ones((1, 1)), False, squares, means)
    assert squares[3] == 9 and squares[5] == 25


def test_every_process_stays_within_its_memory_whatever_the_size_of_the_data(tmp_path):
    source, folder = tmp_path / "data.svm", tmp_path / "data.shmps"
    row = " ".join(f"{index}:1" for index in range(1, 101))
    source.write_text("".join(f"{label} {row}\n" for label in (-1, 1)) * 60_000)
    settings = {"epochs": 3, "batch_size": 1000}  # two epochs keep all rows: long enough to be measured
    mapped.convert(source, folder)
    LogisticRegression(**settings).fit(folder)  # to compile takes memory
    unbounded = outofcore.trained(folder, None, settings)["peak_bytes"]
    budget = max(unbounded.values()) - 2**24
    assert sorted(unbounded) == ["server 0", "the process itself", "worker 0", "worker 1"]
    bounded = outofcore.trained(folder, budget, settings)["peak_bytes"]
    assert sorted(bounded) == sorted(unbounded) and max(bounded.values()) <= budget


@pytest.mark.parametrize("way", ["whole shards", "a checkpoint"])
def test_no_process_takes_more_for_its_weights_than_is_asked_for(way, folder, tmp_path):
    features, own = 1_000_000, tmp_path / "wide.shmps"
    (tmp_path / "wide").write_bytes(b"".join(b"%d 1:1 %d:1\n" % (i % 3, features) for i in range(60)))
    mapped.convert(tmp_path / "wide", own)
    settings: dict[str, Any] = {"batch_size": 0, "iterations": 4}
    if way == "a checkpoint":
        settings = {"iterations": 4, "test_interval": 2, "checkpoint": str(tmp_path / "kept")}
        settings["checkpoint_every"] = 2
    LogisticRegression(**settings).fit(own)  # to compile takes memory
    with pytest.raises(OutOfSpace) as refused:
        LogisticRegression(**settings | {"checkpoint": None}, memory=1).fit(own)
    asked = int(str(refused.value).split("at least ")[1].split("M")[0]) * 2**20 - own_memory()
    few, many = (
        max(outofcore.trained(each, None, settings)["peak_bytes"].values()) for each in (folder, own)
    )
    assert many - few <= asked


def peak_memory(anew=False):
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return 1024 * int(line.split()[1])


def test_minibatches_are_counted_in_the_memory_that_is_asked_for():
    count, length, size = 60, 40_000, 20
    indices = np.tile(np.arange(length, dtype=np.int32), count)
    indptr = np.arange(0, count * length + 1, length)
    X = scipy.sparse.csr_matrix((np.ones(count * length), indices, indptr), (count, length))
    y, entries = np.arange(count) % 2 * 2.0 - 1, size * length
    taken = entries * minibatches._PER_ENTRY
    with pytest.raises(OutOfSpace, match=r"minibatches of 800,000 values .*, or a smaller batch_size"):
        LogisticRegression(batch_size=size, memory=own_memory() + taken).fit(X, y)
    kernels = 2**23  # for the scales of the features, compiled after own_memory has been asked
    LogisticRegression(batch_size=1, iterations=1, memory=own_memory() + kernels + taken).fit(X, y)
    batches = minibatches.Batches(rows_of(X, y), size, length, False, 0, 0, [0], memory=1)
    before = peak_memory(anew=True)
    for _pair in itertools.pairwise(itertools.chain(batches.epoch(0), batches.epoch(1))):
        assert peak_memory() - before <= taken


def test_too_little_memory_is_refused_before_anything_starts(folder):
    with pytest.raises(
        OutOfSpace, match=r"memory must be at least \d+M for 300 rows and 41 keys .*, got 1.5K; allow more"
    ):
        LogisticRegression(memory=1536).fit(folder)
    for wrong in (0, "0", "much", 1.5):
        with pytest.raises(UsageError, match="memory must be a number of bytes"):
            LogisticRegression(memory=wrong).fit(folder)


# Features by name.

HASHED = b"""1 age:39 job=nurse city=Rome
-1 1.0 'tag |a age:39 nurse:0.5 |b:2 x:1.5 y

0 | plain name=value:2
1 1.0 tag|a age:1e-3
-1
1 Zo\xc3\xab:1 Zo\xc3\xab:2
"""
FEATURE_DICTS = [
    {"age": 39.0, "job": "nurse", "city": "Rome"},
    {"a^age": 39.0, "a^nurse": 0.5, "b^x": 3.0, "b^y": 2.0},
    {"plain": 1.0, "name=value": 2.0},
    {"a^age": 1e-3},
    {},
    {"Zo\xeb": 3.0},
]


@pytest.mark.parametrize("bits", [1, 5, 18, 30])
def test_names_are_hashed_as_scikit_learn_does(bits, tmp_path):
    extraction = pytest.importorskip("sklearn.feature_extraction")
    source, folder = tmp_path / "data.vw", tmp_path / "data.shmps"
    source.write_bytes(gzip.compress(HASHED))
    mapped.convert(source, folder, hash_bits=bits)
    X, y = mapped.load(folder)
    expected = extraction.FeatureHasher(2**bits).transform(FEATURE_DICTS)
    assert X.shape == expected.shape and mapped.describe(folder)["hash_bits"] == bits
    np.testing.assert_array_equal(X.indptr, expected.indptr)
    np.testing.assert_array_equal(X.indices, expected.indices)
    assert X.data.tobytes() == expected.data.tobytes() and y.tolist() == [1, -1, 0, 1, -1, 1]


@pytest.mark.parametrize("bits", [7, 22])
def test_every_name_falls_where_murmurhash3_says(bits, tmp_path):
    utils = pytest.importorskip("sklearn.utils")
    names = [f"name{i}={i % 7}" for i in range(500)]
    (tmp_path / "data").write_text("".join(f"1 {name}\n" for name in names))
    mapped.convert(tmp_path / "data", tmp_path / "data.shmps", hash_bits=bits)
    X, _ = mapped.load(tmp_path / "data.shmps")
    hashes = [utils.murmurhash3_32(name) for name in names]
    assert X.indices.tolist() == [abs(h) % 2**bits for h in hashes]
    assert X.data.tolist() == [1.0 if h >= 0 else -1.0 for h in hashes]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"yes a", r"all numbers, .* got text \('yes a'\)"),
        (b"1 a:b", "a value must be one decimal number, got 'b'"),
        (b"1 a:nan", "a value must be finite, got 'nan'"),
        (b"1 a:", "a value must follow the colon, got nothing"),
        (b"1 user:123_456", "one decimal number, got '123_456'"),
        ("1 a:\uff11".encode(), "one decimal number, got '\uff11'"),
        ("\uff11 a".encode(), "all numbers, .* got text"),
        (b"1_0 a", "all numbers, .* got text"),
        (b"1e999 a", "fit in a float64, got '1e999'"),
        (b"inf a", "a label must be finite, got 'inf'"),
        (b"1,a", "got '1,a'; if this is CSV, give label"),
        (b"1:2 a", "got '1:2'; put the label"),
        (b"job=nurse a", "got 'job=nurse'; put the label"),
        (b"1\x0b a", r"got '1\\x0b'"),
        (b"1 x | a", "a weight must be one decimal number, got 'x'"),
        (b"1 -2 | a", "a weight must be >= 0, got '-2'"),
        (b"1 nan | a", "a weight must be finite"),
        (b"1 1 0.5 | a", r"got '1 1 0.5'; leave a base .* out"),
        (b"'tag | a", "a row must start with its label"),
        (b"1| a", r"a row must start with its label, got '1\| a'; put a label and a blank before \|"),
        (b"| a", "a row must start with its label"),
        (b"1 a\xff", "UTF-8, .*0xff.* iconv"),
        (b"1 a\r1 b", "CR without LF"),
        (b"1 a\0", "NUL"),
    ],
)
def test_a_line_that_breaks_a_rule_is_named(line, told, tmp_path):
    pytest.importorskip("sklearn")
    (tmp_path / "data").write_bytes(b"1 a\n\n" + line + b"\n")
    with pytest.raises(DataError, match=f"data:3(:[0-9]+)?: .*{told}"):
        mapped.convert(tmp_path / "data", tmp_path / "data.shmps", hash_bits=5)
    assert os.listdir(tmp_path) == ["data"]


def test_hashing_needs_scikit_learn_and_sensible_bits(source, tmp_path, monkeypatch):
    for bits in (0, 31, 1.5):
        with pytest.raises(UsageError, match="hash_bits must be an integer from 1 to 30"):
            mapped.convert(source, tmp_path / "data.shmps", hash_bits=bits)
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction", None)
    with pytest.raises(UsageError, match=r"pip install 'shmps\[sklearn\]'"):
        mapped.convert(source, tmp_path / "data.shmps", hash_bits=5)
    assert os.listdir(tmp_path) == ["data.svm"]


@pytest.mark.parametrize("names", [("0", "1", "2"), ("-1", "1"), ("3", "5", "9")])
@pytest.mark.parametrize("value", [-2.0, 0.5, 1e300, np.nan, np.inf])
def test_training_refuses_a_label_of_no_class(tmp_path, names, value):
    (tmp_path / "x.svm").write_text("".join(f"{name} 1:1\n{name} 2:1\n" for name in names))
    mapped.convert(tmp_path / "x.svm", tmp_path / "d")
    labels = np.load(tmp_path / "d" / "labels.npy", mmap_mode="r+")
    labels[1] = value
    labels.flush()
    with pytest.raises(DataError, match="convert the data again"):
        LogisticRegression(workers=1).fit(tmp_path / "d")
