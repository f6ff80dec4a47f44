"""The format "shmps": every bit of a model, the types of its labels, its settings, and digests of all of it.

A file is a container (see `shmps.system.container`) with two arrays of float64:

    coefficients   (num_features,); with more than two labels (labels, num_features), row after row
    intercept      (1,); with more than two labels (labels,)

The keys of the header:

    labels     [negative, positive], or all labels; each a pair of its type, "bool", "int", "float" or "str",
               and its value, a float as `float.hex` writes it
    settings   any JSON object

Coefficients and intercept are finite.

Format 1 is read too. Its header has num_features, and the intercept as `float.hex` writes it (a list with
more than two labels). The coefficients follow, and then the SHA-256 of all bytes before it (32 bytes).
"""

import hashlib
from io import BufferedReader
from typing import Any

import numpy as np

from shmps.models.model import LABEL_TYPES, Label, Model
from shmps.system.container import Container, raw

CONTAINER = Container("model", format=2, sealed_from=2, remedy="take a copy or train again")
START = CONTAINER.magic
_DTYPES = {"coefficients": "<f8", "intercept": "<f8"}
_DIGEST_SIZE = hashlib.sha256().digest_size  # bytes


def encode(model: Model, path: str) -> list[bytes | memoryview]:
    """Return the bytes of the model's file in order. Raises DataError for settings too long for a header."""
    keys = {"labels": [_encoded_label(label) for label in model.labels], "settings": model.settings}
    arrays = {
        name: np.ravel(getattr(model, name)).astype(dtype, copy=False) for name, dtype in _DTYPES.items()
    }
    return CONTAINER.encode(keys, arrays, path, "save in another format: NAME.npz")


def decode(file: BufferedReader, size: int, path: str) -> Model:
    """Return the model in a file of `size` bytes. Raises DataError if the file breaks a rule."""
    line, header = CONTAINER.read_header(file, path)
    with CONTAINER.rules(path):
        if header["format"] == 1:
            arrays = _arrays_of_format_1(file, size, line, header, path)
        else:
            arrays = CONTAINER.read_arrays(file, size, header, _DTYPES, path)
        labels = tuple(_decoded_label(pair) for pair in header["labels"])
        coefficients, intercept = arrays["coefficients"], arrays["intercept"]
        if len(labels) == 2:
            return Model(coefficients, intercept.item(), labels, header["settings"])
        return Model(coefficients.reshape(len(labels), -1), intercept, labels, header["settings"])


def _encoded_label(label: Label) -> list[Any]:
    """Return the type's name and the exact value: ["int", 1], ["float", "0x1.0p+0"]."""
    return [type(label).__name__, label.hex() if isinstance(label, float) else label]


def _decoded_label(pair: Any) -> Label:
    """Return the label of a pair of `_encoded_label`. Raises ValueError, TypeError or OverflowError."""
    kind, value = pair
    label = float.fromhex(value) if kind == "float" else value
    if type(label) not in LABEL_TYPES or type(label).__name__ != kind:
        raise ValueError(f"the label {value!r} must have the type {kind!r}")
    return label


def _arrays_of_format_1(
    file: BufferedReader, size: int, line: bytes, header: dict[str, Any], path: str
) -> dict[str, np.ndarray]:
    two = len(header["labels"]) == 2
    count = header["num_features"] * (1 if two else len(header["labels"]))
    arrays = CONTAINER.read_entries(file, size - _DIGEST_SIZE, {"coefficients": count}, _DTYPES, path)
    digest = hashlib.sha256(CONTAINER.magic + line)
    digest.update(raw(arrays["coefficients"]))
    if (found := file.read(_DIGEST_SIZE)) != digest.digest():
        raise CONTAINER.damaged(path, f"its SHA-256 must be {found.hex()}, got {digest.hexdigest()}")
    intercept = [header["intercept"]] if two else header["intercept"]
    return arrays | {"intercept": np.array([float.fromhex(each) for each in intercept])}
