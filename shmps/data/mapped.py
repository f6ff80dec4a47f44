"""Mapped data: rows on the disk as they lie in memory, so that they are mapped instead of read.

A folder NAME.shmps/ with the arrays of a CSR matrix, each a .npy file of one dimension, little-endian:

    indptr.npy    (rows + 1,) int64; row i is indptr[i] to indptr[i + 1] of the next two
    indices.npy   (non-zeros,) int32, or int64 where the limit of an index asks for it; increasing in a row
    data.npy      (non-zeros,) float64, finite
    labels.npy    (rows,) float64, finite, as in the text; of labels that are text their places in classes
    weights.npy   (rows,) float64, from 0 up, what each row's loss is multiplied by; only if the text has some
    meta.json     one line: format, the version of the format; shmps, that of the package, for people; rows,
                  features, nonzeros; labels, a list of [label, rows that have it] in increasing order, or
                  null if there are too many; classes, the labels if they are text, in the order in which
                  they came; how the text was read, as `Dialect.kept` has it; arrays, for each {dtype, count,
                  sha256}; sha256, of the line without it

Format 1 is format 2 without classes and weights, and has of the dialect label and hash_bits alone.

What has to be looked at in every entry was, when the folder was made: opening it reads the labels alone. An
index out of range would be a wrong address, so pointers and indices are looked at again where they are used.
The sums are SHA-256 and not a CRC, though that is twice as fast, because they also are what tells a
checkpoint's data from other data; on two cores they take about a tenth of a conversion. Nothing is code, and
nothing is pickled.
"""

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from shmps.data import npy, readers, svmlight
from shmps.data.dialect import Dialect
from shmps.data.stored import Stored
from shmps.errors import DataError
from shmps.system import files, scratch
from shmps.system.cores import on_all_cores
from shmps.system.shortages import unreadable
from shmps.version import __version__

__all__ = ["convert", "describe", "load", "verify", "weights"]

FORMAT = 2
_OLDEST = 1  # that is read
META = "meta.json"
ARRAYS = {"data": "<f8", "indices": "<i4", "indptr": "<i8", "labels": "<f8"}  # the longest to write first
_MOST_LABELS = 1000  # that are counted
_PART = 2**20  # non-zeros of a product at a time


class MappedMatrix(csr_matrix):  # type: ignore[misc]  # scipy has no types
    """X (rows, features) of mapped data: an ordinary csr_matrix over read-only arrays.

    `X @ array` reads some rows at a time, as `parts` does, and checks them; other operations of scipy check
    nothing, and copy the indices, since it wants them as wide as the pointers. What comes out of an operation
    is of the same class, but has neither `folder` nor `meta`.
    """

    folder: str = ""
    meta: dict[str, Any] = {}  # noqa: RUF012  what `describe` says of the folder; empty: not all of it, or other

    @property
    def origin(self) -> Dialect:
        """How the text was read that this was made of."""
        return Dialect.of(self.meta)

    @property
    def checked_when_read(self) -> bool:
        """Whether it is all of a folder: `parts` checks its indices."""
        return bool(self.meta)

    @property
    def stored(self) -> Stored:
        return Stored(self.folder, self.meta)

    def _getnnz(self, axis: Any = None) -> Any:
        """What `nnz` is: known without a look at the pointers."""
        return self.meta["nonzeros"] if axis is None and self.meta else super()._getnnz(axis)

    def in_memory(self) -> csr_matrix:
        """A copy that has nothing to do with the folder. Raises DataError as `parts`."""
        return csr_matrix(self.stored.rows(0, self.shape[0])[::-1], self.shape)

    def parts(self) -> Iterator[csr_matrix]:
        """Its rows, some at a time, each part with little memory of its own.

        Raises DataError for a folder's rows that are damaged, or cut short meanwhile.
        """
        if self.meta:
            for begin, end, (pointers, indices, data) in self.stored.parts(_PART):
                arrays = data, indices, pointers.astype(indices.dtype)
                yield csr_matrix(arrays, (end - begin, self.shape[1]))
            return
        begin = 0
        while begin < self.shape[0]:
            first = self.indptr[begin]
            end = max(begin + 1, int(np.searchsorted(self.indptr, first + _PART, "right")) - 1)
            inside, pointers = slice(first, self.indptr[end]), self.indptr[begin : end + 1] - first
            arrays = self.data[inside], self.indices[inside], pointers.astype(self.indices.dtype)
            yield csr_matrix(arrays, (end - begin, self.shape[1]))
            begin = end

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray) and self.shape[0]:
            return np.concatenate([part @ other for part in self.parts()])
        return super().__matmul__(other)


class MappedLabels(np.ndarray):
    """y (rows,) of mapped data, in memory. What is made from it has neither `folder` nor `classes`."""

    folder: str = ""
    classes: list[Any] | None = None  # in increasing order; None: not known, but by looking at all


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    how: Dialect = Dialect(),  # noqa: B008  immutable
    *,
    on_progress: Callable[[int, int], None] = lambda done, planned: None,
    limit: int = svmlight.INT32_MAX,
    **said: Any,
) -> dict[str, Any]:
    """Make the folder `target` of a text, which may be packed as for `svmlight.read`; returns its `describe`.

    source: svmlight text; or with hash_bits B, text with features by name, which become 2**B (see
    shmps.data.hashing); or CSV, if its name ends with .csv or its columns are told (see
    shmps.data.tables).
    how, said: how the text is read, as one value or by the names of its fields (see
    `shmps.data.dialect.Dialect`): zero_based, label, delimiter, header, weight_column, hash_bits,
    keep_names.
    limit: of svmlight indices, as for `svmlight.read`.
    on_progress: gets how many bytes of the source have been read, and how many it has.

    Holds a few times svmlight.BLOCK bytes in memory, or the longest line; with keep_names the names too. If
    it is killed there is no `target`, but a folder .NAME.tmp beside it, which the next call removes (see
    `shmps.system.scratch`). Raises
    DataError, also if `target` is there already, OutOfSpace if the disk is full, and UsageError.
    """
    name, size = os.fspath(target), os.path.getsize(source) if os.path.exists(source) else 0
    reader = readers.Reader(source, dataclasses.replace(how, **said), limit=limit)
    dtypes = ARRAYS | {"indices": ARRAYS["indices"] if limit <= svmlight.INT32_MAX else "<i8"}
    what, remedy = "mapped data", "convert it again"
    with (
        files.naming_errors(name, what, "needs more room", remedy),
        scratch.new_folder(name) as folder,
    ):
        features, labels, classes = 0, Counter[Any](), dict[str, int]()
        with ExitStack() as stack:
            arrays = {
                array: stack.enter_context(npy.Growing(_file(folder, array), dtype))
                for array, dtype in dtypes.items()
            }
            arrays["indptr"].append(np.zeros(1))
            weights = None
            for X, y, own, done in reader:
                rows, ends = arrays["labels"].count, arrays["data"].count + X.indptr[1:].astype(np.int64)
                numbers = _numbered(y, classes)
                parts = [X.data, X.indices, ends, numbers]
                on_all_cores(npy.Growing.append, [arrays[each] for each in ARRAYS], parts)
                if own is not None and weights is None:
                    weights = stack.enter_context(npy.Growing(_file(folder, "weights"), "<f8"))
                    weights.append(np.ones(rows))
                if weights is not None:
                    weights.append(np.ones(len(y)) if own is None else own)
                features = max(features, X.shape[1])
                if len(labels) <= _MOST_LABELS:
                    found, counts = np.unique(y, return_counts=True)
                    labels.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
                on_progress(done, size)
            on_progress(size, size)  # what is behind the text in an archive
            arrays |= {} if weights is None else {"weights": weights}
            written = dict(zip(arrays, on_all_cores(npy.Growing.finish, arrays.values()), strict=True))
        meta = {
            "format": FORMAT,
            "shmps": __version__,
            "rows": written["labels"]["count"],
            "features": features,
            "nonzeros": written["data"]["count"],
            "labels": sorted(labels.items()) if len(labels) <= _MOST_LABELS else None,
            "classes": list(classes) or None,
            **reader.found.kept(),
            "arrays": written,
        }
        line = json.dumps(meta | {"sha256": _sum_of(meta)}).encode("ascii") + b"\n"
        files.check_header(line, name, "use fewer or shorter names, or leave keep_names out")
        files.write(os.path.join(folder, META), [line], what, remedy)
    return describe(target)


def _numbered(y: np.ndarray, classes: dict[str, int]) -> np.ndarray:
    """Labels (n,) as numbers: text as its place in `classes`, which grows."""
    if y.dtype.kind != "O":
        return y
    found, places = np.unique(y, return_inverse=True)
    return np.array([classes.setdefault(each, len(classes)) for each in found], np.float64)[places]


def load(path: str | os.PathLike[str]) -> tuple[MappedMatrix, MappedLabels]:
    """X (rows, features) float64 and y (rows,) of a folder; of X without a look at its entries.

    y is float64, or the labels as text, in memory. For weights see `weights`.

    Raises DataError where the folder, or the sizes of what is in it, are not as `convert` made them.
    """
    meta = describe(path)
    stored = Stored(os.path.abspath(path), meta)
    indptr, indices, data = (
        npy.mapped(_file(path, name), meta["arrays"][name]["dtype"], meta["arrays"][name]["count"])
        for name in ("indptr", "indices", "data")
    )
    # Not from the arrays: scipy would make indices int64 where the pointers are, in a copy.
    X = MappedMatrix((meta["rows"], meta["features"]))
    X.indptr, X.indices, X.data = indptr, indices, data
    X.has_canonical_format = True
    X.folder, X.meta = stored.folder, meta
    labels = stored.entries("labels", 0, meta["arrays"]["labels"]["count"])
    if classes := meta.get("classes"):
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
            raise DataError(f"{_file(path, 'labels')}: its labels are no classes; convert the data again")
        labels = np.array(classes, object)[labels.astype(np.intp)]
    y = labels.view(MappedLabels)
    y.folder = X.folder
    y.classes = None if meta["labels"] is None else [label for label, _ in meta["labels"]]
    return X, y


def weights(path: str | os.PathLike[str]) -> np.ndarray | None:
    """What each row's loss is multiplied by, (rows,) float64; None where the text gave no weights."""
    file = describe(path)["arrays"].get("weights")
    if file is None:
        return None
    return npy.read(_file(path, "weights"), file["dtype"], file["count"], 0, file["count"])


def verify(path: str | os.PathLike[str]) -> None:
    """Look at every byte. Raises DataError, which names the file, if one is not as it was written."""
    for name, file in describe(path)["arrays"].items():
        found = npy.stored_sha256(_file(path, name), file["dtype"], file["count"])
        if found != file["sha256"]:
            raise DataError(
                f"{_file(path, name)}: the SHA-256 of its entries is {file['sha256']}, found {found}; it is "
                f"damaged: convert the data again"
            )


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What meta.json says. Raises DataError if it is missing, damaged or of another version of the format."""
    place = os.path.join(path, META)
    try:
        with open(place, "rb") as file:
            line = file.readline(files.HEADER_LIMIT)
    except OSError as error:
        rule = f"{os.fspath(path)}: mapped data is a folder with {META} and four arrays"
        raise unreadable(error, rule, "make one with shmps convert") from error
    meta = files.parse_header(line, place, "mapped data", FORMAT, _OLDEST)
    if meta.pop("sha256", None) != _sum_of(meta):
        raise DataError(
            f"{place}: its SHA-256 is another than its own; it is damaged: convert the data again"
        )
    return meta


def _sum_of(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta).encode("ascii")).hexdigest()


def _file(folder: str | os.PathLike[str], array: str) -> Path:
    return Path(folder, f"{array}.npy")
