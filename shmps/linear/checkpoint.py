"""Checkpoints: two files in a folder, the older of which is overwritten by the next.

A file is a container (see `shmps.system.container`) with the arrays of `parameters.Copy`. The keys of the
header: serial, which tells the newer of two; settings and data, what must be the same to go on; sizes, the
number of keys, of values and of state per key, of servers and workers.

Format 1 is read too. After its header comes a line with the CRC-32 of all before, in hexadecimal; crcs in the
header are the CRC-32 of each array.
"""

import math
import os
import zlib
from io import BufferedReader
from typing import Any, NamedTuple

import numpy as np

from shmps.errors import DataError, ShmpsError, UsageError, warn
from shmps.ps.memory.parameters import Copy
from shmps.system import atomic, files
from shmps.system.container import Container, raw

CONTAINER = Container("checkpoint", format=2, sealed_from=2, remedy="resume from another one")
GENERATIONS = ("checkpoint-0", "checkpoint-1")
_DTYPES = dict(zip(Copy._fields, ("<f8", "<f8", "<f8", "<i8", "<i8"), strict=True))


class Checkpoint(NamedTuple):
    """A file that is whole."""

    path: str
    header: dict[str, Any]
    copy: Copy


class Checkpoints:
    """A folder to write the checkpoints of one training into; it is made if it does not exist.

    Raises DataError if it can not be written to.
    """

    def __init__(self, folder: str, settings: dict[str, Any], data: dict[str, Any]):
        self._folder, self._settings, self._data = folder, settings, data
        with files.naming_errors(folder, "a folder for checkpoints", "has no room", "train again"):
            os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise DataError(f"{folder}: checkpoints are written into a folder that can be written to")
        newest = _whole(folder)[0][:1]
        self._serial = newest[0].header["serial"] if newest else -1
        self._last = os.path.basename(newest[0].path) if newest else GENERATIONS[1]

    def write(self, copy: Copy) -> None:
        """In place of the older generation. After any error the newer one is as it was.

        Raises OutOfSpace if the disk or the quota is full, DataError if it cannot be written otherwise.
        """
        self._serial += 1
        name = GENERATIONS[1 - GENERATIONS.index(self._last)]
        path, what = os.path.join(self._folder, name), "the checkpoint"
        remedy = "resume: the checkpoint before it is as it was"
        with files.naming_errors(path, what, "needs to last", remedy), atomic.locked(self._folder):
            files.write(path, self._encode(copy, path), what, remedy)
            self._last = name
            atomic.sync_folder(self._folder)

    def _encode(self, copy: Copy, path: str) -> list[bytes | memoryview]:
        (keys, width), (servers,), (workers,) = copy.weights.shape, copy.ages.shape, copy.ticks.shape
        header = {
            "serial": self._serial,
            "settings": self._settings,
            "data": self._data,
            "sizes": [keys, width, copy.state.shape[1], servers, workers],
        }
        arrays = {
            name: np.ravel(getattr(copy, name)).astype(dtype, copy=False) for name, dtype in _DTYPES.items()
        }
        return CONTAINER.encode(header, arrays, path, "train without a checkpoint")


def resume(folder: str, settings: dict[str, Any], data: dict[str, Any]) -> Copy:
    """What the newest whole checkpoint in `folder` holds; warns if a damaged one was passed over.

    Raises DataError if there is none or it is of other data, UsageError if it is of other settings.
    """
    whole, damaged = _whole(folder)
    if not whole:
        raise DataError(_none_whole(folder, "; ".join(map(str, damaged)) or "none"))
    newest = whole[0]
    if "classes" not in newest.header["data"]:  # as versions before 0.1 wrote it
        data = {name: value for name, value in data.items() if name != "classes"}
    _compare(newest, "data", data, DataError)
    _compare(newest, "settings", settings, UsageError)
    for error in damaged:
        warn(f"{error}; resumed from {newest.path}")
    return newest.copy


def check(folder: str | None, resumed: str | None) -> None:
    """Before the data is read: that checkpoints can be written into `folder`, and `resumed` has some.

    Raises DataError; of damaged ones `resume` will tell.
    """
    if folder is not None:
        files.check_folder(folder, "checkpoints")
    if resumed is not None and not any(os.path.lexists(os.path.join(resumed, name)) for name in GENERATIONS):
        raise DataError(_none_whole(resumed, "none"))


def _none_whole(folder: str, found: str) -> str:
    return (
        f"{folder}: to resume takes a folder with a whole checkpoint in it, found {found}; name the folder "
        f"that checkpoints were written into, or begin anew without resume"
    )


def _compare(checkpoint: Checkpoint, what: str, here: dict[str, Any], kind: type[ShmpsError]) -> None:
    there = checkpoint.header[what]
    differing = [name for name in there | here if there.get(name) != here.get(name)]
    if differing:
        told = [name for name in differing if name != "sha256"]  # checksums say nothing to a person
        found = ", ".join(
            f"{name} {there.get(name)!s:.80} there and {here.get(name)!s:.80} here" for name in told
        )
        found = found or "one content there and another here"
        raise kind(
            f"{checkpoint.path}: a training goes on with the {what} that it began with, found {found}; "
            f"give those of the checkpoint, or begin anew without resume"
        )


def _whole(folder: str) -> tuple[list[Checkpoint], list[DataError]]:
    """The whole checkpoints in a folder, newest first, and what is wrong with the others."""
    whole, damaged = [], []
    for name in GENERATIONS:
        path = os.path.join(folder, name)
        if not os.path.lexists(path):
            continue
        try:
            whole.append(read(path))
        except DataError as error:
            damaged.append(error)
    return sorted(whole, key=lambda checkpoint: checkpoint.header["serial"], reverse=True), damaged


def read(path: str) -> Checkpoint:
    """The checkpoint in a file; DataError if a single byte of it is not as it was written."""
    with files.opened(path, "checkpoint") as (file, size):
        return _read(file, size, path)


def _read(file: BufferedReader, size: int, path: str) -> Checkpoint:
    line, header = CONTAINER.read_header(file, path)
    with CONTAINER.rules(path):
        shapes = _shapes(*header["sizes"])
        if header["format"] == 1:
            arrays = _arrays_of_format_1(file, size, line, header, path)
        else:
            arrays = CONTAINER.read_arrays(file, size, header, _DTYPES, path)
        copy = Copy(**{name: arrays[name].reshape(shape) for name, shape in shapes.items()})
        if type(header["serial"]) is not int or not all(
            isinstance(header[name], dict) for name in ("settings", "data")
        ):
            raise ValueError("serial must be an integer, settings and data objects")
    return Checkpoint(path, header, copy)


def _shapes(keys: int, width: int, state: int, servers: int, workers: int) -> dict[str, tuple[int, ...]]:
    if min(keys, width, servers, workers) < 1 or state < 0:
        raise ValueError("sizes must be positive")
    shapes = (keys, width), (keys, state), (servers,), (servers,), (workers,)
    return dict(zip(Copy._fields, shapes, strict=True))


def _arrays_of_format_1(
    file: BufferedReader, size: int, line: bytes, header: dict[str, Any], path: str
) -> dict[str, np.ndarray]:
    if file.read(9) != b"%08x\n" % zlib.crc32(CONTAINER.magic + line):
        raise CONTAINER.damaged(path, "the header must have the CRC-32 that follows it, got another one")
    counts = {name: math.prod(shape) for name, shape in _shapes(*header["sizes"]).items()}
    arrays = CONTAINER.read_entries(file, size, counts, _DTYPES, path)
    for (name, array), crc in zip(arrays.items(), header["crcs"], strict=True):
        if zlib.crc32(raw(array)) != crc:
            raise CONTAINER.damaged(path, f"{name} must have the CRC-32 in the header, got another one")
    return arrays
