"""A trained model, what it predicts, and the file that keeps it.

A model file has four parts and nothing after them:

    shmps model\\n       the magic line, the same in every version of the format
    {"format": 1, ...}\\n  the header: one line of ASCII JSON, at most 1 MiB
    weights              num_features IEEE 754 doubles of 8 bytes, little-endian
    digest               32 bytes, the SHA-256 of everything before them

The header's keys:

    format        the version of the format, 1; a change that this reader would misread gets the next number
    shmps         the version of the package that wrote the file, for people
    num_features  how many weights follow
    intercept     as `float.hex` writes it, so that it is exact
    labels        [negative, positive], each a pair: "bool", "int", "float" or "str", and the value
                  (a float again as `float.hex` writes it)
    settings      any JSON object, in the dialect of Python's json module (Infinity and NaN are allowed)

Weights and intercept are finite. Nothing in the file is code, and nothing is pickled.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from io import BufferedReader
from typing import Any

import numpy as np

from . import files
from .errors import DataError, OutOfSpace, UsageError
from .files import HEADER_LIMIT
from .metrics import sigmoid
from .version import __version__

MAGIC = b"shmps model\n"
FORMAT = 1
DIGEST_SIZE = hashlib.sha256().digest_size
WEIGHT = np.dtype("<f8")

Label = bool | int | float | str
LABEL_TYPES = (bool, int, float, str)


# No ==: arrays do not compare to one truth value, and a tolerance is the caller's choice.
@dataclass(frozen=True, eq=False)
class Model:
    """A linear classifier: positive where `X @ coefficients + intercept > 0`.

    UsageError if the coefficients are not a vector of numbers, the intercept not a number, the labels not
    two different bools, ints, floats or strings, or the settings not a dict that JSON can hold.
    """

    coefficients: np.ndarray  # (num_features,) float64
    intercept: float
    labels: tuple[Label, Label]  # (negative, positive), as the user gave them
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Everything becomes what a file can keep now, so that a saved and loaded model is the same model.
        object.__setattr__(self, "coefficients", plain_vector(self.coefficients))
        object.__setattr__(self, "intercept", plain_number(self.intercept))
        object.__setattr__(self, "labels", plain_labels(self.labels))
        object.__setattr__(self, "settings", plain_settings(self.settings))

    @property
    def num_features(self) -> int:
        return self.coefficients.size

    def decision_function(self, X: Any) -> np.ndarray:  # (n, num_features) sparse or dense -> (n,)
        """The margins `X @ coefficients + intercept`; UsageError if X has another number of columns."""
        if not hasattr(X, "shape"):
            X = np.asarray(X, dtype=np.float64)
        if len(X.shape) != 2 or X.shape[1] != self.num_features:
            found = f"{X.shape[1]} columns" if len(X.shape) == 2 else f"an array of shape {X.shape}"
            raise UsageError(
                f"X has one row per example and one column for each of the model's {self.num_features} "
                f"features, found {found}; read the data with num_features={self.num_features}"
            )
        # reshape: an np.matrix would stay two-dimensional.
        return np.asarray(X @ self.coefficients, dtype=np.float64).reshape(-1) + self.intercept

    def predict_proba(self, X: Any) -> np.ndarray:  # (n, num_features) -> (n, 2)
        """The probabilities of the negative and the positive label in every row."""
        margins = self.decision_function(X)
        # Not 1 - p: that would lose every digit of a small probability.
        return np.column_stack((sigmoid(-margins), sigmoid(margins)))

    def predict(self, X: Any) -> np.ndarray:  # (n, num_features) -> (n,) of labels
        """The label of every row: the positive one if and only if its margin is above 0."""
        choices = np.array(self.labels)
        # NumPy would make "1" of 1 beside a string and 1 of True beside a number; as objects they stay.
        if [(type(label), label) for label in choices.tolist()] != [(type(lb), lb) for lb in self.labels]:
            choices = np.array(self.labels, dtype=object)
        return choices[(self.decision_function(X) > 0).astype(np.intp)]


def plain_vector(values: Any) -> np.ndarray:
    """`values` as a contiguous float64 vector, without a copy if they are one."""
    try:
        vector = np.asarray(values, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise UsageError(f"coefficients are numbers, found something else: {error}") from error
    if vector.ndim != 1:
        raise UsageError(f"coefficients are a vector, found an array of shape {vector.shape}")
    return vector


def plain_number(value: Any) -> float:
    """The intercept as a Python float."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"the intercept is one number, found {value!r}") from error


def plain_labels(labels: Any) -> tuple[Label, Label]:
    """The two labels with NumPy scalars as the Python ones of the same value."""
    pair = labels if isinstance(labels, tuple | list | np.ndarray) else ()
    plain = tuple(label.item() if isinstance(label, np.generic) else label for label in pair)
    # A nan label would fail here too: it differs from everything, itself included.
    if (
        len(plain) != 2
        or any(type(lb) not in LABEL_TYPES or lb != lb for lb in plain)
        or plain[0] == plain[1]
    ):
        raise UsageError(
            f"labels are two different bools, ints, floats or strings: (negative, positive); found {labels!r}"
        )
    return plain


def plain_settings(settings: Any) -> dict[str, Any]:
    """A copy of the settings as JSON gives them back: tuples as lists, keys as strings."""
    if not isinstance(settings, dict):
        raise UsageError(f"settings are a dict, found {type(settings).__name__}")
    try:
        return json.loads(json.dumps(settings, default=python_scalar))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"settings hold only what JSON can, found something else: {error}") from error


def python_scalar(value: Any) -> Any:
    """The Python scalar of a NumPy one; TypeError for anything else, as json.dumps wants it."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not one of JSON's types")


def save(model: Model, path: str | os.PathLike) -> None:
    """Write the model to `path`, all of it or nothing: after any error an older file there is untouched.

    DataError if a weight is not finite, the header is over its limit, or the file cannot be written;
    OutOfSpace if the disk or the quota is full.
    """
    target = os.path.realpath(os.fsdecode(path))
    if os.path.exists(target) and not os.path.isfile(target):
        raise DataError(f"{path}: a model is saved to a regular file, found something else there")
    remedy = "save again, what was at that path is untouched"
    files.write(os.fsdecode(path), encode(model, path), "the model", remedy)


def encode(model: Model, path: str | os.PathLike) -> tuple[memoryview, ...]:
    """The bytes of the model's file in their order: magic and header, weights, digest."""
    bad = np.flatnonzero(~np.isfinite(model.coefficients))
    if bad.size or not np.isfinite(model.intercept):
        found = (
            f"{model.coefficients[bad[0]]} for feature {bad[0]} (from 0)"
            if bad.size
            else (f"the intercept {model.intercept}")
        )
        raise DataError(f"{path}: only finite weights are saved, found {found}; train with a smaller step")
    header = {
        "format": FORMAT,
        "shmps": __version__,
        "num_features": model.num_features,
        "intercept": model.intercept.hex(),
        "labels": [encode_label(label) for label in model.labels],
        "settings": model.settings,
    }
    try:
        line = json.dumps(header).encode("ascii") + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: labels and settings hold only what JSON can: {error}") from error
    if len(line) > HEADER_LIMIT:
        raise DataError(
            f"{path}: labels and settings fit into a header of {HEADER_LIMIT} bytes, found {len(line)}"
        )
    # As bytes: a memoryview of doubles cannot be cast when there are none.
    weights = model.coefficients.astype(WEIGHT, copy=False).view(np.uint8).data
    digest = hashlib.sha256(MAGIC + line)
    digest.update(weights)
    return memoryview(MAGIC + line), weights, memoryview(digest.digest())


def encode_label(label: Label) -> list[Any]:
    """The type's name and the value, exact: ["int", 1], ["float", "0x1.0p+0"]."""
    return [type(label).__name__, label.hex() if isinstance(label, float) else label]


def decode_label(pair: Any) -> Label:
    """The label of a pair of `encode_label`; ValueError, TypeError or OverflowError if it is none."""
    kind, value = pair
    label = float.fromhex(value) if kind == "float" else value
    if type(label) not in LABEL_TYPES or type(label).__name__ != kind:
        raise ValueError(f"the label {value!r} is not of the type {kind!r}")
    return label


def load(path: str | os.PathLike) -> Model:
    """The model saved at `path`.

    DataError if there is no such file or a single byte of it is not as `save` wrote it; OutOfSpace if its
    weights do not fit into memory.
    """
    name = os.fsdecode(path)
    try:
        files.must_be_regular(name, "model")
        with open(name, "rb") as file:
            return read_model(file, os.fstat(file.fileno()).st_size, name)
    except OSError as error:
        raise DataError(f"{name}: the model cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise OutOfSpace(f"{name}: the model's weights do not fit into memory") from error


def read_model(file: BufferedReader, size: int, path: str) -> Model:
    """The model in a file of `size` bytes, read from its beginning; DataError if it breaks a rule."""
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise DataError(f"{path}: a model file starts with {MAGIC!r}, found {magic!r}; is it a model file?")
    line = file.readline(HEADER_LIMIT)
    header = parse_header(line, path)
    count = header["num_features"]
    # Compared before anything is allocated: a header alone must not be able to ask for memory.
    room = size - file.tell() - DIGEST_SIZE
    if room != count * WEIGHT.itemsize:
        raise DataError(
            f"{path}: the header announces {count} weights of 8 bytes, found {max(room, 0)} bytes for them; "
            f"the file is cut short, has grown or is damaged"
        )
    weights = np.empty(count, dtype=WEIGHT)
    raw = weights.view(np.uint8).data
    file.readinto(raw)
    digest = hashlib.sha256(magic + line)
    digest.update(raw)
    found = file.read(DIGEST_SIZE)
    if found != digest.digest():
        raise DataError(
            f"{path}: a model file ends with the SHA-256 of what comes before, {digest.hexdigest()}, "
            f"found {found.hex()}; the file is damaged, take a copy or train again"
        )
    return decode(header, weights.astype(np.float64, copy=False), path)


def parse_header(line: bytes, path: str) -> dict[str, Any]:
    """The header as a dict of this format's version with a sane `num_features`; DataError if it is not."""
    header = files.parse_header(line, path, "model", FORMAT)
    count = header.get("num_features")
    if type(count) is not int or count < 0:
        raise DataError(f"{path}: num_features in the header is an integer from 0, found {count!r}")
    return header


def decode(header: dict[str, Any], weights: np.ndarray, path: str) -> Model:
    """The model of a header and weights whose digest is right, so only another writer can have erred."""
    try:
        negative, positive = map(decode_label, header["labels"])
        intercept = float.fromhex(header["intercept"])
        model = Model(weights, intercept, (negative, positive), header["settings"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: the header breaks a rule of the format: {error!r}") from error
    if not (np.isfinite(intercept) and np.isfinite(weights).all()):
        raise DataError(f"{path}: weights and intercept are finite, found some that are not")
    return model
