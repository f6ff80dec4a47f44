"""Files of models, in the formats that are known here.

A format is what its module has: `encode(model, path)`, the bytes of a file in their order, and
`decode(file, size, path)`, the model in it. They raise DataError: `path: rule, found`. That
weights are finite is checked here, for all of them.
"""

import os
from collections.abc import Callable, Sequence
from io import BufferedReader
from typing import Any, NamedTuple

import numpy as np

from shmps.errors import DataError, UsageError
from shmps.models.formats import liblinear, native, npz
from shmps.models.model import Label, Model
from shmps.system import files


class Format(NamedTuple):
    """How a model lies in a file."""

    suffixes: tuple[str, ...]  # of the files that are written in it where nothing else is asked for
    start: bytes  # of every file in it
    encode: Callable[[Model, str], Sequence[Any]]
    decode: Callable[[BufferedReader, int, str], Model]


FORMATS = {
    "shmps": Format((".shmps",), native.MAGIC, native.encode, native.decode),
    "liblinear": Format((".liblinear",), liblinear.START, liblinear.encode, liblinear.decode),
    "npz": Format((".npz",), npz.START, npz.encode, npz.decode),
}
DEFAULT = "shmps"
_LONGEST = -1.1e-300  # as text: an intercept may take as much room


def save(model: Model, path: str | os.PathLike[str], format: str | None = None) -> None:
    """Write the model to `path`, all of it or nothing: after any error an older file there is untouched.

    `format`: one of FORMATS; None: the one whose suffix `path` has, else "shmps".

    UsageError for what is no Model; DataError if a weight is not finite, the model has what the format can
    not hold, or the file cannot be written; OutOfSpace if the disk or the quota is full.
    """
    if not isinstance(model, Model):
        raise UsageError(
            f"a Model is saved, found {type(model).__name__}; that of an estimator is estimator.model()"
        )
    name = os.fsdecode(path)
    chosen = FORMATS[chosen_format(name, format)]
    _check_finite(model, name)
    remedy = "save again, what was at that path is untouched"
    files.write(name, chosen.encode(model, name), "the model", remedy)


def check(
    labels: tuple[Label, ...], path: str, format: str | None, settings: dict[str, Any] | None = None
) -> None:
    """Before a model is trained: DataError if the format can not hold such labels, or settings so long."""
    each = () if len(labels) == 2 else (len(labels),)
    nothing = Model(np.zeros((*each, 0)), np.full(each, _LONGEST), labels, settings or {})
    FORMATS[chosen_format(path, format)].encode(nothing, path)


def load(path: str | os.PathLike[str]) -> Model:
    """The model saved at `path`, in any of the formats: its first bytes tell in which.

    DataError if there is no such file or it breaks a rule of its format (as every changed byte of a file in
    "shmps" does); OutOfSpace if its weights do not fit into memory.
    """
    name = os.fsdecode(path)
    with files.opened(name, "model") as (file, size):
        model = FORMATS[format_of(file, name)].decode(file, size, name)
    if not model.is_finite:
        raise DataError(f"{name}: weights and intercept are finite, found some that are not")
    return model


def chosen_format(path: str, format: str | None) -> str:
    """The name of the format to write in; UsageError if there is no such."""
    if format is None:
        suffix = os.path.splitext(path)[1].lower()
        return next((name for name, known in FORMATS.items() if suffix in known.suffixes), DEFAULT)
    if format not in FORMATS:
        raise UsageError(f"format is one of {', '.join(FORMATS)}; found {format!r}")
    return format


def format_of(file: BufferedReader, path: str) -> str:
    """The name of a file's format, by its first bytes, at which it is left; DataError if it is none."""
    longest = max(len(format.start) for format in FORMATS.values())
    start = file.read(longest)
    file.seek(0)
    for name, format in FORMATS.items():
        if start.startswith(format.start):
            return name
    known = ", ".join(FORMATS)
    raise DataError(
        f"{path}: a model file starts as one of {known} does, found {start!r}; is it a model file?"
    )


def _check_finite(model: Model, path: str) -> None:
    bad = np.argwhere(~np.isfinite(model.coefficients))
    if len(bad) or not np.isfinite(model.intercept).all():
        found = (
            f"{model.coefficients[tuple(bad[0])]} for feature {bad[0][-1]} (from 0)"
            if len(bad)
            else f"the intercept {model.intercept}"
        )
        raise DataError(f"{path}: only finite weights are saved, found {found}; train with a smaller step")
