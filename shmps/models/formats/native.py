"""The format "shmps": every bit of a model, its labels' types and its settings, and a digest of it all.

A file has four parts and nothing after them:

    shmps model\\n       the magic line, the same in every version of the format
    {"format": 1, ...}\\n  the header: one line of ASCII JSON, at most 64 MiB
    weights              IEEE 754 doubles of 8 bytes, little-endian: num_features of two labels; of more
                         so many for each label, one after the other
    digest               32 bytes, the SHA-256 of everything before them

The header's keys:

    format        the version of the format, 1; a change that this reader would misread gets the next number
    shmps         the version of the package that wrote the file, for people
    num_features  how many weights follow, for each label where there are more than two
    intercept     as `float.hex` writes it, so that it is exact; of more than two labels a list of theirs
    labels        [negative, positive], or all of them, each a pair: "bool", "int", "float" or "str", and the
                  value (a float again as `float.hex` writes it)
    settings      any JSON object, in the dialect of Python's json module (Infinity and NaN are allowed)

Weights and intercept are finite. Nothing in the file is code, and nothing is pickled.
"""

import hashlib
import json
from io import BufferedReader
from typing import Any

import numpy as np

from shmps.errors import DataError
from shmps.models.model import LABEL_TYPES, Label, Model
from shmps.system import files
from shmps.system.files import HEADER_LIMIT
from shmps.version import __version__

MAGIC = b"shmps model\n"
FORMAT = 1
DIGEST_SIZE = hashlib.sha256().digest_size
WEIGHT = np.dtype("<f8")


def encode(model: Model, path: str) -> tuple[memoryview, ...]:
    """The bytes of the model's file in their order: magic and header, weights, digest."""
    two = len(model.labels) == 2
    header = {
        "format": FORMAT,
        "shmps": __version__,
        "num_features": model.num_features,
        "intercept": model.intercept.hex() if two else [each.hex() for each in model.intercept.tolist()],
        "labels": [encode_label(label) for label in model.labels],
        "settings": model.settings,
    }
    try:
        line = json.dumps(header).encode("ascii") + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: labels and settings hold only what JSON can: {error}") from error
    files.check_header(line, path, "save in another format: NAME.npz")
    # As bytes: a memoryview of doubles cannot be cast when there are none.
    weights = model.coefficients.astype(WEIGHT, copy=False).ravel().view(np.uint8).data
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


def decode(file: BufferedReader, size: int, path: str) -> Model:
    """The model in a file of `size` bytes, read from its beginning; DataError if it breaks a rule."""
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise DataError(f"{path}: a model file starts with {MAGIC!r}, found {magic!r}; is it a model file?")
    line = file.readline(HEADER_LIMIT)
    header = parse_header(line, path)
    features, labels = header["num_features"], len(header["labels"])
    count = features * (1 if labels == 2 else labels)
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
    weights = weights.astype(np.float64, copy=False)
    return model_of(header, weights if labels == 2 else weights.reshape(labels, features), path)


def parse_header(line: bytes, path: str) -> dict[str, Any]:
    """The header as a dict of this format's version that tells how many weights follow; DataError if not."""
    header = files.parse_header(line, path, "model", FORMAT)
    count = header.get("num_features")
    if type(count) is not int or count < 0:
        raise DataError(f"{path}: num_features in the header is an integer from 0, found {count!r}")
    labels = header.get("labels")
    if not isinstance(labels, list) or len(labels) < 2:
        raise DataError(f"{path}: labels in the header are a list of two or more, found {labels!r:.80}")
    return header


def model_of(header: dict[str, Any], weights: np.ndarray, path: str) -> Model:
    """The model of a header and weights whose digest is right, so only another writer can have erred."""
    try:
        labels = tuple(decode_label(pair) for pair in header["labels"])
        told = header["intercept"]
        intercept = float.fromhex(told) if len(labels) == 2 else [float.fromhex(each) for each in told]
        return Model(weights, intercept, labels, header["settings"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: the header breaks a rule of the format: {error!r}") from error
