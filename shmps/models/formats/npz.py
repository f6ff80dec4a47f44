"""The format "npz": an archive that `numpy.load` reads, without pickles.

coefficients   (num_features,) float64; with more than two labels (labels, num_features)
intercept      () float64; with more than two labels (labels,)
labels         (labels,), of one type; of two, the negative one is the first
settings       () text, a line of JSON
"""

import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from io import BufferedReader

import numpy as np

from shmps.errors import DataError, UsageError
from shmps.models.model import Model, array_of

START = b"PK\3\4"
KEYS = ("coefficients", "intercept", "labels", "settings")
# The errors that zipfile and numpy raise for a damaged archive, or one of other arrays.
DAMAGE = (
    ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError,
    RuntimeError, SyntaxError, TypeError, UnicodeError, tokenize.TokenError, OverflowError,
)  # fmt: skip


def encode(model: Model, path: str) -> Sequence[memoryview]:
    """Return the archive, uncompressed. Raises DataError for labels that no array of one type can hold."""
    labels = array_of(model.labels)
    if labels.dtype.kind == "O":
        raise DataError(
            f"{path}: labels in an array must be of one type, and integers of 64 bits, got "
            f"{model.labels!r:.200}; save in another format"
        )
    archive = io.BytesIO()
    np.savez(
        archive,
        coefficients=model.coefficients,
        intercept=np.float64(model.intercept),
        labels=labels,
        settings=np.array(json.dumps(model.settings)),
    )
    return [archive.getbuffer()]


def decode(file: BufferedReader, size: int, path: str) -> Model:
    """Return the model in an archive. Raises DataError if the archive breaks a rule."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            found = {key: archive[key] for key in KEYS}
        settings = json.loads(str(found["settings"]))
        return Model(found["coefficients"], found["intercept"], found["labels"], settings)
    except UsageError as error:
        raise DataError(f"{path}: the archive breaks a rule of the format: {error}") from error
    except DAMAGE as error:
        raise DataError(
            f"{path}: the archive must have the arrays {', '.join(KEYS)}, got a damaged archive or other "
            f"arrays: {str(error) or type(error).__name__}"
        ) from error
