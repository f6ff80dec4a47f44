"""Load a data set: a named one from the data folder, downloaded into it or generated, or a file."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from shmps.data import named_sets, svmlight
from shmps.data.dialect import Dialect, origin_of
from shmps.data.downloads import Unreachable, bytes_of
from shmps.data.matching import matched
from shmps.data.reading import as_training, read
from shmps.errors import DataError, UsageError

# The columns of each field of Adult in a9a: age, workclass, fnlwgt, education, education-num, marital-status,
# occupation, relationship, race, sex, capital-gain, capital-loss, hours, country.
CARDINALITIES = (5, 8, 5, 16, 5, 7, 14, 6, 5, 2, 2, 2, 5, 41)
INFORMATIVE = 0.5  # share of the columns with a weight other than 0
# Slope and intercept of the planted model on a score of mean 0 and variance 1. With a normal score they give
# 24 % positives and 85 % Bayes accuracy; the note of the set has the accuracy of the rows as drawn.
SLOPE, INTERCEPT = 2.34, -2.06


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth value
class Dataset:
    """Training and test rows.

    X: CSR (n, d) float64, with the same d in both parts; y: (n,), labels as in the file.
    """

    name: str
    train_X: csr_matrix
    train_y: np.ndarray
    test_X: csr_matrix | None
    test_y: np.ndarray | None
    note: str = ""  # for the user: a stand-in for the set asked for, features that were dropped
    train_weights: np.ndarray | None = None  # (n,) float64, the factor of each row's loss; None: 1
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
    """Return a data set.

    name: a known name, which counts more than a file of that name; "synth:a9a"; "-" for standard input; or
    the path of a file or of mapped data. None is a9a, or without a network the generated set, as `note` then
    says. test: the path of a test file, in place of the set's own; it is read as the training rows are. how:
    how files are read. Raises DataError, OutOfSpace and UsageError.
    """
    if name in (None, named_sets.SYNTHETIC, *named_sets.SETS) and how != Dialect():
        given = {field: value for field, value in vars(how).items() if value is not None}
        fields = " and ".join(f"{{{field}}}" for field in given)
        raise UsageError(
            f"{fields} must be given for a file only, got {name or 'a9a'}; name a file, or leave it out",
            **given,
        )
    if name is None:
        try:
            return load("a9a", test=test, data_dir=data_dir, progress=progress)
        except Unreachable as error:
            data = load(named_sets.SYNTHETIC, test=test, seed=seed)
            why = f"{error.file} is not in the data folder and cannot be downloaded ({error.reason})"
            return replace(data, note=f"{why}; {data.note}")
    if name == named_sets.SYNTHETIC:
        data = synthetic_a9a(seed)
    elif name in named_sets.SETS:
        train_file, test_file = named_sets.SETS[name]
        folder = data_folder(data_dir)
        X, y = _known(train_file, folder, progress)
        test_part = (None, None) if test is not None else _known(test_file, folder, progress)
        data = Dataset(name, X, y, *test_part)
    elif name == "-" or os.sep in name or os.path.exists(name):
        X, y, weights, _ = read(name, how)
        data = Dataset("stdin" if name == "-" else name, X, y, None, None, train_weights=weights)
    else:
        known = ", ".join([*named_sets.SETS, named_sets.SYNTHETIC])
        raise DataError(
            f"{name}: data must be a known set or a file, got neither; known sets: {known}; write a path as "
            f"./{name}"
        )
    if test is not None:
        test_X, test_y, weights, _ = read(test, as_training(test, origin_of(data.train_X).over(how)))
        data = replace(data, test_X=test_X, test_y=test_y, test_weights=weights)
    return _same_columns(data, test or "the test set")


def fetch(name: str, *, data_dir: str | None = None, progress: bool = False) -> list[Path]:
    """Return the paths of the files of a known set; download those that are missing.

    Raises OutOfSpace and DataError, also if a file that is there has another content than it must have.
    """
    folder = data_folder(data_dir)
    for file in named_sets.SETS[name]:
        bytes_of(folder / file, named_sets.SOURCES[file], progress)
    return [folder / file for file in named_sets.SETS[name]]


def paths(name: str, data_dir: str | None = None) -> list[str]:
    """Return where the files of a known set are, or would be."""
    return [str(data_folder(data_dir) / file) for file in named_sets.SETS[name]]


def data_folder(data_dir: str | None = None) -> Path:
    """Return the folder of the files of known sets, to which they are downloaded.

    It is `data_dir`, else the environment's SHMPS_DATA_DIR, else data/ of the checkout, else the user's
    cache.
    """
    if given := data_dir or os.environ.get("SHMPS_DATA_DIR"):
        if os.path.exists(given) and not os.path.isdir(given):
            raise DataError(f"{given}: the data folder must be a folder, got a file; name another")
        return Path(given)
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "run.py").is_file() and (checkout / "setup.cfg").is_file():
        return checkout / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "shmps"


def synthetic_a9a(seed: int = 0) -> Dataset:
    """Generate data of a9a's shape: (32561, 123) and (16281, 123), 14 ones a row, labels +-1.

    Fields are independent, categories follow Zipf's law, and labels a planted logistic model with about 24 %
    positives. `note` states the best accuracy that is attainable on the test rows.
    """
    if seed < 0:
        raise UsageError(f"seed must be >= 0, got {seed}; choose another")
    rng = np.random.default_rng(seed)
    train_rows, test_rows = (named_sets.SOURCES[file].rows for file in named_sets.SETS["a9a"])
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
    return Dataset(named_sets.SYNTHETIC, train, y[:train_rows], test, y[train_rows:], note)


def bayes_accuracy(positive: np.ndarray) -> float:
    """Return the expected accuracy of the best classifier on rows with `positive` (n,) probabilities."""
    return float(np.mean(np.maximum(positive, 1 - positive)))


def _same_columns(data: Dataset, test_name: str) -> Dataset:
    """Give the test rows the features of training; the note says how many non-zeros that drops."""
    if data.test_X is None:
        return data
    width = data.train_X.shape[1]
    test_X, dropped = matched(data.test_X, origin_of(data.train_X), width)
    note = f"{dropped} non-zeros of {test_name} lie beyond the {width} features of training and were dropped"
    notes = [data.note] * bool(data.note) + [note] * bool(dropped)
    return replace(data, test_X=test_X, note="; ".join(notes))


def _known(file: str, folder: Path, progress: bool) -> tuple[csr_matrix, np.ndarray]:
    """Return X and y of a known file."""
    path = folder / file
    X, y, *_ = svmlight.read_bytes(bytes_of(path, named_sets.SOURCES[file], progress), str(path))
    return X, y
