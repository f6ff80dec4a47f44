"""Files of models.

Each format in `shmps.models.FORMATS` is a module in this folder. It has:

    START                      the first bytes of every file
    encode(model, path)        return the bytes of the file, in parts
    decode(file, size, path)   return the model in an open file of `size` bytes

Both functions raise DataError: `path: rule, got ...`. The functions here check, for all formats, that weights
are finite. A format's name is also the suffix of its files.
"""

import importlib
import os
from io import BufferedReader
from typing import Any

import numpy as np

from shmps.errors import DataError, UsageError
from shmps.models import FORMATS
from shmps.models.model import Label, Model
from shmps.system import files

DEFAULT = FORMATS[0]
_MODULES: dict[str, Any] = {name: importlib.import_module(f"{__name__}.{name}") for name in FORMATS}


def save(model: Model, path: str | os.PathLike[str], format: str | None = None) -> None:
    """Write the model to `path`. After any error an older file there is as it was.

    format: one of FORMATS; None: the suffix of `path`, else "shmps".

    Raises UsageError if `model` is not a Model; DataError if a weight is not finite, the format cannot hold
    the model, or the file cannot be written; OutOfSpace if the disk or the quota is full.
    """
    if not isinstance(model, Model):
        raise UsageError(
            f"model must be a Model, got {type(model).__name__}; of an estimator save estimator.model()"
        )
    name = os.fsdecode(path)
    chosen = _MODULES[chosen_format(name, format)]
    _check_finite(model, name)
    remedy = "save again, what was at that path is untouched"
    files.write(name, chosen.encode(model, name), "the model", remedy)


def check(
    labels: tuple[Label, ...], path: str, format: str | None, settings: dict[str, Any] | None = None
) -> None:
    """Raise DataError, before a training, if the format cannot hold such labels or settings."""
    each = () if len(labels) == 2 else (len(labels),)
    without_features = Model(np.zeros((*each, 0)), np.zeros(each), labels, settings or {})
    _MODULES[chosen_format(path, format)].encode(without_features, path)


def load(path: str | os.PathLike[str]) -> Model:
    """Return the model in the file `path`. The first bytes tell the format.

    Raises DataError if there is no such file, or if it breaks a rule of its format; with the format "shmps"
    every changed byte does. Raises OutOfSpace if the weights do not fit into memory.
    """
    name = os.fsdecode(path)
    with files.opened(name, "model") as (file, size):
        model: Model = _MODULES[format_of(file, name)].decode(file, size, name)
    if not model.is_finite:
        raise DataError(f"{name}: weights and intercept must be finite, got others; train again")
    return model


def chosen_format(path: str, format: str | None) -> str:
    """Return the name of the format to write. Raises UsageError if `format` is unknown."""
    if format is None:
        suffix = os.path.splitext(path)[1].lower().removeprefix(".")
        return suffix if suffix in FORMATS else DEFAULT
    if format not in FORMATS:
        raise UsageError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    return format


def format_of(file: BufferedReader, path: str) -> str:
    """Return the name of the format by the first bytes of a file, and leave the file at its beginning.

    Raises DataError if the file is not a model.
    """
    start = file.read(max(len(module.START) for module in _MODULES.values()))
    file.seek(0)
    for name, module in _MODULES.items():
        if start.startswith(module.START):
            return name
    known = ", ".join(FORMATS)
    raise DataError(
        f"{path}: a model file must start as one of {known} does, got {start!r}; is it a model file?"
    )


def _check_finite(model: Model, path: str) -> None:
    bad = np.argwhere(~np.isfinite(model.coefficients))
    if len(bad) or not np.isfinite(model.intercept).all():
        got = (
            f"{model.coefficients[tuple(bad[0])]} for feature {bad[0][-1]} (from 0)"
            if len(bad)
            else f"the intercept {model.intercept}"
        )
        raise DataError(f"{path}: saved weights must be finite, got {got}; train with a smaller step")
