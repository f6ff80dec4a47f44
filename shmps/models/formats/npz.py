"""The format "npz": arrays for NumPy's `load`, without pickles.

coefficients (num_features,) and intercept () float64, labels (2,), negative and positive; of more than two
labels (labels, num_features), (labels,) and (labels,); labels are of one type. settings (), a line of JSON.
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
# What zipfile and NumPy raise for an archive that is damaged, or another's.
DAMAGE = (
    ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError,
    RuntimeError, SyntaxError, TypeError, UnicodeError, tokenize.TokenError, OverflowError,
)  # fmt: skip


def encode(model: Model, path: str) -> Sequence[memoryview]:
    """The archive, uncompressed. DataError for labels that one array can not hold."""
    labels = array_of(model.labels)
    if labels.dtype.kind == "O":
        raise DataError(
            f"{path}: labels in an array are of one type, and whole ones of 64 bits, found "
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
    """The model in an archive; DataError if it breaks a rule."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            found = {key: archive[key] for key in KEYS}
        settings = json.loads(str(found["settings"]))
        return Model(found["coefficients"], found["intercept"], found["labels"], settings)
    except UsageError as error:
        raise DataError(f"{path}: a model's archive breaks a rule of the format: {error}") from error
    except DAMAGE as error:
        raise DataError(
            f"{path}: a model's archive has {', '.join(KEYS)} as arrays, found it damaged or another's: "
            f"{str(error) or type(error).__name__}"
        ) from error
