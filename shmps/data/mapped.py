"""Mapped data: rows on the disk in the layout that they have in memory, to be mapped instead of read.

`convert` makes a container (see `shmps.system.container`) of a text, block by block:

    NAME.shmps/
        meta.json     header, with the SHA-256 of each array
        indptr.npy    (rows + 1,) int64; row i is indptr[i] to indptr[i + 1] of indices and data
        indices.npy   (non-zeros,) int32, or int64 if the limit of an index needs it; increasing in a row
        data.npy      (non-zeros,) float64, finite
        labels.npy    (rows,) float64, finite; labels that are names: their places in `classes`
        weights.npy   (rows,) float64 from 0, factors of the rows' losses; only if the text has weights

    load(folder) -> X, y    maps indptr, indices and data, and reads labels
    X.parts(), X @ array    read and check X, a part at a time (see `shmps.data.mapped_reader`)
    rows_of(X, labels)      gives each worker a shard, which it checks and maps

The keys of the header: rows, features, nonzeros; labels, a list of [label, number of rows] in increasing
order, or null if there are too many; classes, the names of labels in the order in which they came, or null;
the dialect of the text, as `Dialect.kept` returns it. Format 1 has neither classes nor weights, and of the
dialect only label and hash_bits.

`convert` checks every entry, so `load` reads the labels alone. An index out of range would be a wrong
address, so pointers and indices are checked again before they are used. The digests are SHA-256, although
CRC-32 takes half the time, because they also tell a checkpoint's data from other data; on two cores they take
about a tenth of a conversion.
"""

import dataclasses
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
from shmps.data.mapped_reader import MappedReader
from shmps.errors import DataError
from shmps.system import atomic, files
from shmps.system.container import HEADER_LIMIT, Container
from shmps.system.os_errors import unreadable
from shmps.system.parallel import parallel_map

CONTAINER = Container("mapped data", format=2, sealed_from=1, remedy="convert the data again")
__all__ = ["convert", "describe", "load", "verify", "weights"]

META = "meta.json"
ARRAYS = {"data": "<f8", "indices": "<i4", "indptr": "<i8", "labels": "<f8"}  # the slowest to write first
_MOST_LABELS = 1000  # with more labels than this, none are counted
_PART = 2**20  # non-zeros of a product at a time


class MappedMatrix(csr_matrix):  # type: ignore[misc]  # scipy has no types
    """X (rows, features) of mapped data: an ordinary csr_matrix over read-only arrays.

    `X @ array` reads X in `parts` and checks them. Other operations of scipy check nothing, and copy the
    indices, because scipy gives them the type of the pointers. Results of operations are MappedMatrix too,
    but without `folder` and `meta`.
    """

    folder: str = ""
    meta: dict[str, Any] = {}  # noqa: RUF012  as `describe` returns it; empty unless this is a whole folder

    @property
    def origin(self) -> Dialect:
        """The dialect of the text that the folder was made of."""
        return Dialect.of(self.meta)

    @property
    def checked_when_read(self) -> bool:
        """Return whether this is a whole folder, whose indices `parts` checks."""
        return bool(self.meta)

    @property
    def reader(self) -> MappedReader:
        return MappedReader(self.folder, self.meta)

    def _getnnz(self, axis: Any = None) -> Any:
        """Return `nnz` without a look at the pointers."""
        return self.meta["nonzeros"] if axis is None and self.meta else super()._getnnz(axis)

    def in_memory(self) -> csr_matrix:
        """Return a copy that does not depend on the folder. Raises DataError as `parts`."""
        return csr_matrix(self.reader.rows(0, self.shape[0])[::-1], self.shape)

    def parts(self) -> Iterator[csr_matrix]:
        """Yield the rows in order, some at a time, so that a part takes little memory.

        Raises DataError if the files of a whole folder are damaged or were cut short.
        """
        if self.meta:
            for begin, end, (pointers, indices, data) in self.reader.parts(_PART):
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
    """y (rows,) of mapped data, in memory. Arrays made from it have neither `folder` nor `classes`."""

    folder: str = ""
    classes: list[Any] | None = None  # in increasing order; None: unknown without a look at all labels


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    how: Dialect = Dialect(),  # noqa: B008  immutable
    *,
    on_progress: Callable[[int, int], None] = lambda done, planned: None,
    limit: int = svmlight.INT32_MAX,
    **said: Any,
) -> dict[str, Any]:
    """Make the folder `target` of a text, and return its description, as `describe` does.

    source: svmlight text; with hash_bits B, text with features by name, which become 2**B (see
    shmps.data.hashing); CSV, if the name ends with .csv or the columns are named (see shmps.data.csv). The
    text may be packed as for `svmlight.read`.
    how, said: the dialect of the text, as one value or by the names of its fields (see
    `shmps.data.dialect.Dialect`): zero_based, label, delimiter, header, weight_column, hash_bits,
    keep_names.
    limit: of svmlight indices, as for `svmlight.read`.
    on_progress: called with the bytes of the source that were read, and the bytes that it has.

    Takes memory for a few times svmlight.BLOCK bytes, or for the longest line; with keep_names for the names
    too. A conversion that is killed leaves no `target`, but a folder .NAME.tmp beside it, which the next call
    removes (see `shmps.system.atomic`).

    Raises DataError, also if `target` exists; OutOfSpace if the disk is full; UsageError.
    """
    name, size = os.fspath(target), os.path.getsize(source) if os.path.exists(source) else 0
    reader = readers.Reader(source, dataclasses.replace(how, **said), limit=limit)
    what, remedy = "mapped data", "convert it again"
    with (
        files.naming_errors(name, what, "needs more room", remedy),
        atomic.new_folder(name) as folder,
    ):
        with ExitStack() as stack:
            writer = _Writer(folder, limit, stack)
            for X, y, own, done in reader:
                writer.append(X, y, own)
                on_progress(done, size)
            on_progress(size, size)  # an archive may have bytes behind the text
            keys, arrays = writer.finish()
        shorter = "use fewer or shorter names, or leave keep_names out"
        line = CONTAINER.header(keys | reader.found.kept(), arrays, name, shorter)
        files.write(os.path.join(folder, META), [line], what, remedy)
    return describe(target)


class _Writer:
    """Writes the arrays of a folder, block by block. The files stay open until `stack` closes."""

    def __init__(self, folder: str, limit: int, stack: ExitStack):
        self._folder, self._stack = folder, stack
        self._features = 0
        self._labels = Counter[Any]()
        self._classes = dict[str, int]()  # name -> place
        dtypes = ARRAYS | {"indices": ARRAYS["indices"] if limit <= svmlight.INT32_MAX else "<i8"}
        self._arrays = {name: self._opened(name, dtype) for name, dtype in dtypes.items()}
        self._arrays["indptr"].append(np.zeros(1))

    def _opened(self, name: str, dtype: str) -> npy.Growing:
        return self._stack.enter_context(npy.Growing(_file(self._folder, name), dtype))

    def append(self, X: csr_matrix, y: np.ndarray, weights: np.ndarray | None) -> None:
        """Write the rows of a block. Without weights each row has the weight 1."""
        arrays = self._arrays
        rows, ends = arrays["labels"].count, arrays["data"].count + X.indptr[1:].astype(np.int64)
        parts = [X.data, X.indices, ends, self._numbered(y)]
        parallel_map(npy.Growing.append, [arrays[name] for name in ARRAYS], parts)
        if weights is not None and "weights" not in arrays:
            arrays["weights"] = self._opened("weights", "<f8")
            arrays["weights"].append(np.ones(rows))
        if "weights" in arrays:
            arrays["weights"].append(np.ones(len(y)) if weights is None else weights)
        self._features = max(self._features, X.shape[1])
        if len(self._labels) <= _MOST_LABELS:
            found, counts = np.unique(y, return_counts=True)
            self._labels.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    def _numbered(self, y: np.ndarray) -> np.ndarray:
        """Return labels (n,) as numbers. A name becomes its place among the classes."""
        if y.dtype.kind != "O":
            return y
        found, places = np.unique(y, return_inverse=True)
        numbers = [self._classes.setdefault(each, len(self._classes)) for each in found]
        return np.array(numbers, np.float64)[places]

    def finish(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return keys of the header, and the descriptions of the arrays, which are on the disk now."""
        finished = parallel_map(npy.Growing.finish, self._arrays.values())
        arrays = dict(zip(self._arrays, finished, strict=True))
        counted = len(self._labels) <= _MOST_LABELS
        keys = {
            "rows": arrays["labels"]["count"],
            "features": self._features,
            "nonzeros": arrays["data"]["count"],
            "labels": sorted(self._labels.items()) if counted else None,
            "classes": list(self._classes) or None,
        }
        return keys, arrays


def load(path: str | os.PathLike[str]) -> tuple[MappedMatrix, MappedLabels]:
    """Return X (rows, features) float64 and y (rows,) of a folder, without a look at the entries of X.

    y is in memory: float64, or names as objects. For weights see `weights`.

    Raises DataError if the folder, or a file in it, does not have the form and size that `convert` gave it.
    """
    meta = describe(path)
    reader = MappedReader(os.path.abspath(path), meta)
    indptr, indices, data = (
        npy.mapped(_file(path, name), meta["arrays"][name]["dtype"], meta["arrays"][name]["count"])
        for name in ("indptr", "indices", "data")
    )
    # Not from the arrays: scipy would copy the indices to the type of the pointers, int64.
    X = MappedMatrix((meta["rows"], meta["features"]))
    X.indptr, X.indices, X.data = indptr, indices, data
    X.has_canonical_format = True
    X.folder, X.meta = reader.folder, meta
    labels = reader.entries("labels", 0, meta["arrays"]["labels"]["count"])
    if classes := meta.get("classes"):
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
            raise DataError(
                f"{_file(path, 'labels')}: labels must be places in the {len(classes)} classes, got others; "
                f"convert the data again"
            )
        labels = np.array(classes, object)[labels.astype(np.intp)]
    y = labels.view(MappedLabels)
    y.folder = X.folder
    y.classes = None if meta["labels"] is None else [label for label, _ in meta["labels"]]
    return X, y


def weights(path: str | os.PathLike[str]) -> np.ndarray | None:
    """Return the factor of each row's loss, (rows,) float64; None if the text gave no weights."""
    file = describe(path)["arrays"].get("weights")
    if file is None:
        return None
    return npy.read(_file(path, "weights"), file["dtype"], file["count"], 0, file["count"])


def verify(path: str | os.PathLike[str]) -> None:
    """Check every byte of a folder. Raises DataError, which names the file, if a byte has changed."""
    for name, file in describe(path)["arrays"].items():
        found = npy.stored_sha256(_file(path, name), file["dtype"], file["count"])
        if found != file["sha256"]:
            raise DataError(
                f"{_file(path, name)}: the SHA-256 of the entries must be {file['sha256']}, got {found}; the "
                f"file is damaged: convert the data again"
            )


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the header of a folder. Raises DataError if it is missing, damaged or of a newer format."""
    place = os.path.join(path, META)
    try:
        with open(place, "rb") as file:
            line = file.readline(HEADER_LIMIT)
    except OSError as error:
        rule = f"{os.fspath(path)}: mapped data must be a folder with {META} and its arrays"
        raise unreadable(error, rule, "make one with shmps convert") from error
    return CONTAINER.parse(line, place)


def _file(folder: str | os.PathLike[str], array: str) -> Path:
    return Path(folder, f"{array}.npy")
