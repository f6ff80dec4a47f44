"""Data sets by name: found in a folder, downloaded into it, or generated in the shape of a9a."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from shmps.data import svmlight
from shmps.data.dialect import Dialect
from shmps.data.downloads import Source, Unreachable, bytes_of
from shmps.data.reading import as_training, matched, origin_of, read
from shmps.errors import DataError, UsageError

PAGE = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary"
LICENCE = (
    "UCI Adult (Becker & Kohavi 1996), CC BY 4.0; binarised by Platt (1998); "
    "distributed on the LIBSVM data page"
)

SYNTHETIC = "synth:a9a"
SOURCES: Mapping[str, Source] = {
    "a9a": Source(
        url=f"{PAGE}/a9a",
        sha256="f5d5ffd8d865ff41328e7ee043e4b020816914ff6843ff15b98905ddbedce906",
        size=2329875,
        rows=32561,
        licence=LICENCE,
        stand_in=SYNTHETIC,
    ),
    "a9a.t": Source(
        url=f"{PAGE}/a9a.t",
        sha256="1f448a153f0320399a7e40836eb207655b0bde0f21fc941cc472193daa9f5de9",
        size=1164628,
        rows=16281,
        licence=LICENCE,
        stand_in=SYNTHETIC,
    ),
}
SETS: Mapping[str, tuple[str, str]] = {"a9a": ("a9a", "a9a.t")}  # name: training and test file

# The generated set: the fields of Adult, and how many columns each has in a9a: age, workclass, fnlwgt,
# education, education-num, marital-status, occupation, relationship, race, sex, capital-gain, capital-loss,
# hours, country.
CARDINALITIES = (5, 8, 5, 16, 5, 7, 14, 6, 5, 2, 2, 2, 5, 41)
INFORMATIVE = 0.5  # share of the columns with a weight other than 0
# Slope and intercept of the planted model on a score of mean 0 and variance 1: were the score normal they
# would give 24 % positives and 85 % Bayes accuracy; the accuracy of the rows as drawn is in the note.
SLOPE, INTERCEPT = 2.34, -2.06


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth value
class Dataset:
    """X: CSR (n, d) float64 with the same d in both parts; y: (n,), labels as in the file."""

    name: str
    train_X: csr_matrix
    train_y: np.ndarray
    test_X: csr_matrix | None
    test_y: np.ndarray | None
    note: str = ""  # what a person must know: a stand-in for the set asked for, features that were dropped
    train_weights: np.ndarray | None = None  # (n,) float64, what each row's loss is multiplied by; None: 1
    test_weights: np.ndarray | None = None


def load(
    name: str | None,
    *,
    test: str | None = None,
    how: Dialect = Dialect(),  # noqa: B008  immutable
    data_dir: str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Dataset:
    """The set `name`: a known name, "synth:a9a", "-" for a text on stdin, or the path of a text or of mapped
    data; a known name goes first.

    None is a9a, or where there is no network the generated set in its stead, which `note` then says.
    `test` is the path of a test file, in place of the set's own; it is read as the training rows were. how:
    how a text is read. Raises DataError, OutOfSpace and UsageError.
    """
    if name in (None, SYNTHETIC, *SETS) and how != Dialect():
        given = {name: value for name, value in vars(how).items() if value is not None}
        said = " and ".join(f"{{{each}}}" for each in given)
        raise UsageError(
            f"{said} need a file, got the set {name or 'a9a'}; leave them out, or name a file", **given
        )
    if name is None:
        try:
            return load("a9a", test=test, data_dir=data_dir, progress=progress)
        except Unreachable as error:
            data = load(SYNTHETIC, test=test, seed=seed)
            why = f"{error.file} is neither in the data folder nor to be downloaded ({error.reason})"
            return replace(data, note=f"{why}; {data.note}")
    if name == SYNTHETIC:
        data = synthetic_a9a(seed)
    elif name in SETS:
        train_file, test_file = SETS[name]
        folder = data_folder(data_dir)
        X, y = _known(train_file, folder, progress)
        test_part = (None, None) if test is not None else _known(test_file, folder, progress)
        data = Dataset(name, X, y, *test_part)
    elif name == "-" or os.sep in name or os.path.exists(name):
        X, y, weights, _ = read(name, how)
        data = Dataset("stdin" if name == "-" else name, X, y, None, None, train_weights=weights)
    else:
        known = ", ".join([*SETS, SYNTHETIC])
        raise DataError(
            f"{name}: neither a known set nor a file; known sets: {known}; write a path as ./{name}"
        )
    if test is not None:
        test_X, test_y, weights, _ = read(test, as_training(test, origin_of(data.train_X).over(how)))
        data = replace(data, test_X=test_X, test_y=test_y, test_weights=weights)
    return _same_columns(data, test or "the test set")


def fetch(name: str, *, data_dir: str | None = None, progress: bool = False) -> list[Path]:
    """The paths of a known set's files, which are downloaded if they are not there.

    Raises DataError, also for a file that is there and is another than it should be, and OutOfSpace.
    """
    folder = data_folder(data_dir)
    for file in SETS[name]:
        bytes_of(folder / file, SOURCES[file], progress)
    return [folder / file for file in SETS[name]]


def paths(name: str, data_dir: str | None = None) -> list[str]:
    """Where the files of a known set are, or would be."""
    return [str(data_folder(data_dir) / file) for file in SETS[name]]


def data_folder(data_dir: str | None = None) -> Path:
    """Where known files are looked for, and downloaded to.

    `data_dir`, else the environment's SHMPS_DATA_DIR, else data/ of the checkout, else the user's cache.
    """
    if given := data_dir or os.environ.get("SHMPS_DATA_DIR"):
        if os.path.exists(given) and not os.path.isdir(given):
            raise DataError(f"{given}: the data folder is a folder, found a file; name another")
        return Path(given)
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "run.py").is_file() and (checkout / "setup.cfg").is_file():
        return checkout / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "shmps"


def synthetic_a9a(seed: int = 0) -> Dataset:
    """Generated data of a9a's shape: (32561, 123) and (16281, 123), 14 ones a row, labels +-1.

    Fields are independent, categories follow Zipf's law, labels a planted logistic model with about 24 %
    positives. `note` states the best accuracy that is attainable on the test rows.
    """
    if seed < 0:
        raise UsageError(f"seed must be 0 or more, found {seed}; choose another")
    rng = np.random.default_rng(seed)
    train_rows, test_rows = (SOURCES[file].rows for file in SETS["a9a"])
    rows, fields = train_rows + test_rows, len(CARDINALITIES)
    weights = rng.standard_normal(sum(CARDINALITIES)) * (rng.random(sum(CARDINALITIES)) < INFORMATIVE)
    columns = np.empty((rows, fields), np.int32)
    mean, variance, first = 0.0, 0.0, 0
    for field, size in enumerate(CARDINALITIES):
        frequency = 1 / np.arange(1, size + 1)
        frequency /= frequency.sum()
        columns[:, field] = first + np.searchsorted(np.cumsum(frequency)[:-1], rng.random(rows), side="right")
        of_field = weights[first : first + size]
        mean += float(frequency @ of_field)
        variance += float(frequency @ of_field**2 - (frequency @ of_field) ** 2)
        first += size
    score = (weights[columns].sum(axis=1) - mean) / np.sqrt(variance)
    positive = 1 / (1 + np.exp(-(SLOPE * score + INTERCEPT)))  # the score is small: exp cannot overflow
    y = np.where(rng.random(rows) < positive, 1.0, -1.0)
    train, test = (
        csr_matrix(
            (np.ones(part.size), part.ravel(), np.arange(0, part.size + 1, fields)), (len(part), first)
        )
        for part in (columns[:train_rows], columns[train_rows:])
    )
    best = bayes_accuracy(positive[train_rows:])
    chance = float(np.sqrt(best * (1 - best) / test_rows))
    note = (
        f"generated data, seed {seed}: no classifier can expect more than {best:.4f} accuracy on its test "
        f"rows, give or take {chance:.3f} by chance"
    )
    return Dataset(SYNTHETIC, train, y[:train_rows], test, y[train_rows:], note)


def bayes_accuracy(positive: np.ndarray) -> float:
    """Expected accuracy of the best classifier on rows that are positive with these probabilities (n,)."""
    return float(np.mean(np.maximum(positive, 1 - positive)))


def _same_columns(data: Dataset, test_name: str) -> Dataset:
    """The number of features comes from training; what the test rows have beyond it is dropped, and told."""
    if data.test_X is None:
        return data
    width = data.train_X.shape[1]
    test_X, dropped = matched(data.test_X, origin_of(data.train_X), width)
    told = f"{dropped} non-zeros of {test_name} lie beyond the {width} features of training and were dropped"
    notes = [data.note] * bool(data.note) + [told] * bool(dropped)
    return replace(data, test_X=test_X, note="; ".join(notes))


def _known(file: str, folder: Path, progress: bool) -> tuple[csr_matrix, np.ndarray]:
    """X and y of a known file."""
    path = folder / file
    X, y, *_ = svmlight.read_bytes(bytes_of(path, SOURCES[file], progress), str(path))
    return X, y
