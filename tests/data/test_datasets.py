"""Named data sets: where they are looked for, how they are fetched, when the generated set stands in."""

import errno
import hashlib
import os
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT

from shmps.data import datasets, downloads, named_sets
from shmps.errors import DataError, OutOfSpace, UsageError

TRAIN, TEST = b"1 1:1 3:1\n-1 2:1\n", b"-1 1:1\n1 2:1 5:1 6:2\n"


def source(url: str, content: bytes) -> named_sets.Source:
    return named_sets.Source(
        url, hashlib.sha256(content).hexdigest(), len(content), 2, "any", named_sets.SYNTHETIC
    )


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """No real data folder, no proxy, and no way to the real page."""
    monkeypatch.delenv("SHMPS_DATA_DIR", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(named_sets, "SOURCES", {"a9a": source("", b""), "a9a.t": source("", b"")})


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """A folder that plays the web page, and holds small files known as a9a and a9a.t."""
    folder = tmp_path / "origin"
    folder.mkdir()
    files = {"a9a": TRAIN, "a9a.t": TEST}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    known = {name: source((folder / name).as_uri(), content) for name, content in files.items()}
    monkeypatch.setattr(named_sets, "SOURCES", known)
    return folder


@pytest.fixture
def web(monkeypatch):
    """A web server; set `web.answer` to (status, headers, body)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = self.server.answer  # type: ignore[attr-defined]
            self.send_response(status)
            for header in headers.items():
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/a9a"
        monkeypatch.setattr(named_sets, "SOURCES", {"a9a": source(url, TRAIN), "a9a.t": source(url, TRAIN)})
        yield server
        server.shutdown()
        thread.join()


def load_from(folder, name="a9a", **options):
    return datasets.load(name, data_dir=str(folder), **options)


def test_a_missing_file_is_downloaded_checked_and_then_found_without_the_network(origin, tmp_path):
    folder = tmp_path / "new" / "folder"
    first = load_from(folder)
    assert sorted(os.listdir(folder)) == ["a9a", "a9a.t"]
    for file in origin.iterdir():
        file.unlink()
    again = load_from(folder)
    for data in (first, again):
        assert data.name == "a9a"
        assert data.train_X.toarray().tolist() == [[1, 0, 1], [0, 1, 0]] and data.train_y.tolist() == [1, -1]
        assert data.test_X.toarray().tolist() == [[1, 0, 0], [0, 1, 0]] and data.test_y.tolist() == [-1, 1]
        assert (
            data.note == "2 non-zeros of the test set lie beyond the 3 features of training and were dropped"
        )


def test_a_download_over_http_with_progress_is_the_file(web, tmp_path):
    web.answer = 200, {"Content-Length": str(len(TRAIN))}, TRAIN
    assert load_from(tmp_path, progress=True).train_X.nnz == 3
    assert (tmp_path / "a9a").read_bytes() == TRAIN


@pytest.mark.parametrize("name", ["a9a", None])
@pytest.mark.parametrize("content", [b"1 1:2\n", TRAIN * 100, b"<html>log in to this network</html>"])
def test_a_wrong_checksum_of_a_download_shows_both_sums_and_keeps_nothing(name, content, origin, tmp_path):
    (origin / "a9a").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_from(tmp_path, name)
    assert not isinstance(caught.value, downloads.Unreachable)
    assert hashlib.sha256(TRAIN).hexdigest() in str(caught.value)
    assert hashlib.sha256(content).hexdigest() in str(caught.value)
    assert os.listdir(tmp_path) == ["origin"]


@pytest.mark.parametrize("name", ["a9a", None])
def test_a_wrong_checksum_of_a_file_found_shows_both_sums_and_leaves_it(name, origin, tmp_path):
    (tmp_path / "a9a").write_bytes(b"1 1:7\n")
    with pytest.raises(DataError) as caught:
        load_from(tmp_path, name)
    for part in (tmp_path / "a9a", hashlib.sha256(TRAIN).hexdigest(), hashlib.sha256(b"1 1:7\n").hexdigest()):
        assert str(part) in str(caught.value)
    assert (tmp_path / "a9a").read_bytes() == b"1 1:7\n"


ANSWERS = {
    "not found": ((404, {}, b""), "404"),
    "server error": ((503, {}, b""), "503"),
    "cut short": ((200, {"Content-Length": str(len(TRAIN))}, TRAIN[:5]), "ended after 5 of"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_without_the_network_only_the_unnamed_set_falls_back_and_says_why(case, web, tmp_path):
    web.answer, reason = ANSWERS[case]
    data = load_from(tmp_path, None)
    assert data.name == "synth:a9a" and data.train_X.shape[1] == 123
    assert reason in data.note and "generated data, seed 0" in data.note and "\n" not in data.note
    with pytest.raises(DataError) as caught:
        load_from(tmp_path, "a9a")
    for told in (str(tmp_path), named_sets.SOURCES["a9a"].url, reason, "put it into"):
        assert told in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_silence_is_no_network_and_leaves_the_disk_as_it_was(origin, tmp_path, monkeypatch):
    def silence(*_, **__):
        raise TimeoutError("timed out")

    monkeypatch.setattr(downloads.urllib.request, "urlopen", silence)
    assert "timed out" in load_from(tmp_path / "none", None).note
    assert not (tmp_path / "none").exists()


def test_the_unnamed_set_is_a9a_where_it_can_be_had(origin, tmp_path):
    assert load_from(tmp_path, None).name == "a9a"


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, OutOfSpace), (errno.EACCES, DataError), (errno.EROFS, DataError)]
)
def test_a_disk_that_refuses_is_named_and_never_falls_back(number, error, origin, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(error, match=os.strerror(number)):
        load_from(tmp_path, None)
    assert os.listdir(tmp_path) == ["origin"]


def test_a_data_folder_that_is_a_file_is_refused(origin, tmp_path):
    with pytest.raises(DataError, match="data folder"):
        load_from(origin / "a9a")


def test_the_data_folder_is_the_argument_then_the_environment_then_the_checkout_then_the_cache(
    tmp_path, monkeypatch
):
    assert datasets.data_folder() == ROOT / "data"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        datasets, "__file__", str(tmp_path / "site-packages" / "shmps" / "data" / "datasets.py")
    )
    assert datasets.data_folder() == tmp_path / "cache" / "shmps"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert datasets.data_folder() == tmp_path / ".cache" / "shmps"
    monkeypatch.setenv("SHMPS_DATA_DIR", "/from/environment")
    assert datasets.data_folder() == Path("/from/environment")
    assert datasets.data_folder("/given") == Path("/given")


def test_a_path_is_read_and_its_test_file_brought_to_the_training_width(origin):
    alone = datasets.load(str(origin / "a9a"))
    assert alone.test_X is None and alone.test_y is None and alone.note == ""
    data = datasets.load(str(origin / "a9a"), test=str(origin / "a9a.t"))
    assert data.test_X is not None and data.test_X.shape == (2, 3) and data.train_X.shape == (2, 3)
    assert data.note.startswith(f"2 non-zeros of {origin / 'a9a.t'} ")
    swapped = datasets.load(str(origin / "a9a.t"), test=str(origin / "a9a"))
    assert swapped.test_X is not None and swapped.test_X.shape == (2, 6) and swapped.note == ""


def test_a_file_in_the_working_directory_needs_no_separator_and_a_known_name_goes_first(
    origin, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_bytes(b"2 4:1\n")
    (tmp_path / "a9a").write_bytes(b"2 4:1\n")
    assert datasets.load("mine").train_y.tolist() == [2]
    assert load_from(origin).train_y.tolist() == [1, -1]
    assert datasets.load("./a9a").train_y.tolist() == [2]


def test_a_test_file_replaces_that_of_a_known_set_which_is_then_not_needed(origin, tmp_path):
    (origin / "a9a.t").unlink()
    data = load_from(tmp_path, test=str(origin / "a9a"))
    assert data.test_y.tolist() == [1, -1] and os.listdir(tmp_path / "origin") == ["a9a"]
    data = datasets.load("synth:a9a", test=str(origin / "a9a"), seed=3)
    assert data.test_X is not None and data.test_X.shape == (2, 123) and "seed 3" in data.note


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match=r"rcv1: .*a9a, synth:a9a"):
        datasets.load("rcv1")
    with pytest.raises(DataError, match="No such file"):
        datasets.load("./rcv1")


@pytest.fixture
def sizes(monkeypatch):
    known = {name: replace(source("", b""), rows=rows) for name, rows in (("a9a", 32561), ("a9a.t", 16281))}
    monkeypatch.setattr(named_sets, "SOURCES", known)


def test_the_generated_set_has_the_shape_of_a9a_with_one_category_a_field(sizes):
    data = datasets.synthetic_a9a()
    first = np.cumsum([0, *datasets.CARDINALITIES])
    assert first[-1] == 123 and min(datasets.CARDINALITIES) >= 2
    for X, y, rows in ((data.train_X, data.train_y, 32561), (data.test_X, data.test_y, 16281)):
        assert X is not None and y is not None
        assert X.shape == (rows, 123) and X.dtype == np.float64 and X.indices.dtype == np.int32
        X.check_format()
        assert np.all(X.data == 1) and np.all(np.diff(X.indptr) == 14)
        columns = X.indices.reshape(rows, 14)
        assert np.all(columns >= first[:-1]) and np.all(columns < first[1:])
        assert set(y.tolist()) == {-1.0, 1.0} and abs(np.mean(y > 0) - 0.24) < 0.02
    counts = np.bincount(data.train_X.indices, minlength=123)
    assert counts.min() > 0 and counts[first[13]] > 20 * counts[122]  # Zipf over the 41 countries


def test_the_generated_set_repeats_with_its_seed_and_changes_with_another(sizes):
    one, same, other = (datasets.load("synth:a9a", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.train_X.indices, same.train_X.indices)
    assert np.array_equal(one.train_y, same.train_y) and one.note == same.note
    assert not np.array_equal(one.train_y, other.train_y)
    with pytest.raises(UsageError, match="seed"):
        datasets.synthetic_a9a(-1)


@pytest.mark.parametrize("seed", range(3))
def test_a_good_classifier_comes_near_the_accuracy_the_note_promises(sizes, seed):
    linear_model = pytest.importorskip("sklearn.linear_model")
    data = datasets.synthetic_a9a(seed)
    promised = float(data.note.split("more than ")[1].split()[0])
    assert abs(promised - 0.85) < 0.01
    model = linear_model.LogisticRegression(max_iter=300).fit(data.train_X, data.train_y)
    assert data.test_X is not None
    assert abs(model.score(data.test_X, data.test_y) - promised) < 0.01  # 3.5 standard errors of 16281 rows


def test_the_bayes_accuracy_is_the_mean_of_the_likelier_label():
    assert datasets.bayes_accuracy(np.array([0.1, 0.5, 0.8])) == pytest.approx((0.9 + 0.5 + 0.8) / 3)


def test_the_readme_agrees_with_the_registry(monkeypatch):
    monkeypatch.undo()
    text = (ROOT / "data" / "README.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines() if "|" in line
    ]
    known = {file: (str(s.rows), str(s.size), s.url, s.sha256) for file, s in named_sets.SOURCES.items()}
    assert {row[0]: tuple(row[1:]) for row in rows[2:]} == known
    for s in named_sets.SOURCES.values():
        assert s.licence.lower() in " ".join(text.split()).lower()
