"""The format of models, checkpoints and mapped data: a header and arrays, each with its SHA-256.

    a file (model, checkpoint)        a folder (mapped data)

    shmps model\\n        magic line   meta.json     header
    {"format": 2, ...}\\n  header       NAME.npy      array
    array                             NAME.npy      array
    array                             ...
    ...

The header is one line of ASCII JSON, at most HEADER_LIMIT bytes, in the dialect of Python's json module
(Infinity and NaN are allowed). Each header has these keys, and the keys of its kind after the second:

    format   version of the format; a change that an older reader would misread gets the next number
    shmps    version of the package that wrote the file, for people
    arrays   {"dtype", "count", "sha256"} of each array, by name, in the order of the file
    sha256   SHA-256 of the line without this key, which is the last one

Arrays have one dimension and are little-endian. No byte follows the last array. So a reader notices every
byte that was changed, removed or added. A file holds no code and no pickle.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from typing import Any, NamedTuple

import numpy as np

from shmps.errors import DataError
from shmps.version import __version__

HEADER_LIMIT = 1 << 26  # bytes; names of features take most of them
_MOST = 2**60  # entries of an array
_AT_ONCE = 1 << 24  # bytes that are hashed at a time
_SEAL = b', "sha256": "'


class Container(NamedTuple):
    """A kind of file or folder: its name, the versions of its format, and what to do about a damaged one."""

    what: str  # in messages, and in the magic line
    format: int  # the version that is written; versions from 1 on are read
    sealed_from: int  # the first version with a SHA-256 in the header
    remedy: str

    @property
    def magic(self) -> bytes:
        return f"shmps {self.what}\n".encode("ascii")

    def header(self, keys: Mapping[str, Any], arrays: Mapping[str, Any], path: str, remedy: str) -> bytes:
        """Return the header with `keys` for `arrays`, described as by `describe`.

        Raises DataError, with the remedy, if JSON cannot hold the keys or the line is too long to be read.
        """
        header = {"format": self.format, "shmps": __version__, **keys, "arrays": arrays}
        try:
            line = _sealed(json.dumps(header).encode("ascii"))
        except (TypeError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: the header must hold only what JSON can, got: {error}") from error
        if len(line) > HEADER_LIMIT:
            raise DataError(
                f"{path}: the header must have at most {HEADER_LIMIT} bytes, got {len(line)}; {remedy}"
            )
        return line

    def parse(self, line: bytes, path: str) -> dict[str, Any]:
        """Return the header in a line, without its SHA-256. Raises DataError for any other line."""
        try:
            if not line.endswith(b"\n"):
                raise ValueError(f"no end after {len(line)} bytes")
            header = json.loads(line.decode("ascii"))
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: the header must be a line of JSON, got {line[:40]!r}: {error}"
            ) from error
        version = header.get("format") if isinstance(header, dict) else None
        if type(version) is int and version > self.format:
            raise DataError(
                f"{path}: shmps {__version__} reads {self.what} files up to format {self.format}, got the "
                f"newer format {version}; upgrade shmps"
            )
        if type(version) is not int or version < 1:
            raise DataError(
                f"{path}: the header must have a format from 1 to {self.format}, got {version!r}; "
                f"the file is damaged"
            )
        if version >= self.sealed_from:
            # Compare bytes, not values: in JSON different bytes can have the same value.
            if line != _sealed(line.rpartition(_SEAL)[0] + b"}"):
                raise self.damaged(path, "the header must have the SHA-256 that it names, got another one")
            del header["sha256"]
        return header

    def encode(
        self, keys: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: str, remedy: str
    ) -> list[bytes | memoryview]:
        """Return the bytes of a file in their order: magic line and header, then each array.

        arrays: flat and little-endian. Raises DataError as `header`.
        """
        described = {name: describe(array) for name, array in arrays.items()}
        start = self.magic + self.header(keys, described, path, remedy)
        return [start, *(raw(array) for array in arrays.values())]

    def read_header(self, file: BufferedReader, path: str) -> tuple[bytes, dict[str, Any]]:
        """Return the header of a file, as the line and as `parse` returns it. Raises DataError."""
        magic = file.read(len(self.magic))
        if magic != self.magic:
            raise DataError(
                f"{path}: a {self.what} file must start with {self.magic!r}, got {magic!r}; is it a "
                f"{self.what} file?"
            )
        line = file.readline(HEADER_LIMIT)
        return line, self.parse(line, path)

    def read_arrays(
        self, file: BufferedReader, size: int, header: dict[str, Any], dtypes: Mapping[str, str], path: str
    ) -> dict[str, np.ndarray]:
        """Return the arrays behind a header in a file of `size` bytes. Raises DataError.

        dtypes: the dtype that each array must have. The header does not choose it: entries of some types are
        addresses.
        """
        with self.rules(path):
            described = header["arrays"]
            if {name: each["dtype"] for name, each in described.items()} != dict(dtypes):
                raise ValueError(f"arrays must be {', '.join(dtypes)} of their types, got {described!r:.200}")
            counts = {name: described[name]["count"] for name in dtypes}
        arrays = self.read_entries(file, size, counts, dtypes, path)
        for name, array in arrays.items():
            if (found := sha256(array)) != described[name].get("sha256"):
                rule = f"the SHA-256 of {name} must be {described[name].get('sha256')}, got {found}"
                raise self.damaged(path, rule)
        return arrays

    def read_entries(
        self, file: BufferedReader, end: int, counts: Mapping[str, Any], dtypes: Mapping[str, str], path: str
    ) -> dict[str, np.ndarray]:
        """Return the arrays with `counts` entries that lie between the file's position and `end`.

        Raises DataError, before it allocates memory, if they do not fill that space exactly.
        """
        wrong = [count for count in counts.values() if type(count) is not int or not 0 <= count < _MOST]
        if wrong:
            raise DataError(
                f"{path}: a count of entries must be an integer from 0 to {_MOST - 1}, got {wrong[0]!r:.40}"
            )
        total = sum(count * np.dtype(dtypes[name]).itemsize for name, count in counts.items())
        room = max(end - file.tell(), 0)
        if total != room:
            raise DataError(
                f"{path}: the arrays must take the {total} bytes that the header announces, got {room}; the "
                f"file is cut short, has grown or is damaged: {self.remedy}"
            )
        arrays = {name: np.empty(count, dtypes[name]) for name, count in counts.items()}
        for array in arrays.values():
            file.readinto(raw(array))  # if the file was cut short meanwhile, the digest will differ
        return arrays

    @contextmanager
    def rules(self, path: str) -> Iterator[None]:
        """Turn the errors that a wrong header causes in the block into DataError."""
        try:
            yield
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise DataError(
                f"{path}: the header must follow the rules of its format, got {error!r:.300}"
            ) from error

    def damaged(self, path: str, rule: str) -> DataError:
        """Return the error for a file that breaks a `rule` because it changed after it was written."""
        return DataError(f"{path}: {rule}; the file is damaged: {self.remedy}")


def _sealed(text: bytes) -> bytes:
    """Return the line of a JSON object with its SHA-256 as the last key."""
    return text[:-1] + _SEAL + hashlib.sha256(text).hexdigest().encode("ascii") + b'"}\n'


def describe(array: np.ndarray) -> dict[str, Any]:
    """Return the description of an array (k,) in a header."""
    return {"dtype": array.dtype.str, "count": len(array), "sha256": sha256(array)}


def raw(array: np.ndarray) -> memoryview:
    """Return the bytes of a contiguous array (k,)."""
    # Through uint8: a memoryview of float64 cannot be cast to bytes if it is empty.
    return array.view(np.uint8).data


def sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of the bytes of an array (k,), in hexadecimal."""
    digest = hashlib.sha256()
    step = _AT_ONCE // array.itemsize
    for begin in range(0, len(array), step):
        digest.update(raw(np.ascontiguousarray(array[begin : begin + step])))
    return digest.hexdigest()
