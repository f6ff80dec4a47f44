"""Checkpoints of a training: two files in a folder. The next checkpoint overwrites the older one.

    worker 0 --report Copy--> training process --Checkpoints.write--> folder/checkpoint-0
                                                      (in turn)       folder/checkpoint-1
                                                                          |
    Cluster(restored=Copy) <-- Copy <-- resume: the newest whole file, of the same settings and data

A file is a container (see `shmps.system.container`) with the arrays of `parameters.Copy`. The header's keys:

    serial          the newer of two files has the greater one
    settings, data  what must be the same to resume
    sizes           the numbers of keys, of values and of state per key, of servers, of workers

Format 1 is read too. After its header comes a line with the CRC-32 of all before, in hexadecimal; crcs in the
header are the CRC-32 of each array.
"""

import math
import os
import zlib
from collections.abc import Sequence
from io import BufferedReader
from typing import Any, NamedTuple

import numpy as np

from shmps.data.rows import Rows, fingerprint
from shmps.errors import DataError, ShmpsError, UsageError, verbatim, warn
from shmps.linear.settings import Settings
from shmps.ps.memory.parameters import Copy
from shmps.ps.updater import Updater
from shmps.system import atomic, files
from shmps.system.container import Container, raw

CONTAINER = Container("checkpoint", format=2, sealed_from=2, remedy="resume from another one")
GENERATIONS = ("checkpoint-0", "checkpoint-1")
_DTYPES = dict(zip(Copy._fields, ("<f8", "<f8", "<f8", "<i8", "<i8"), strict=True))


class CheckpointFile(NamedTuple):
    """The content of a whole file."""

    path: str
    header: dict[str, Any]
    copy: Copy


class Checkpoints:
    """Writes the checkpoints of one training to a folder, which is created if it does not exist.

    Raises DataError if the folder is not writable.
    """

    def __init__(self, folder: str, settings: dict[str, Any], data: dict[str, Any]):
        self._folder, self._settings, self._data = folder, settings, data
        with files.naming_errors(folder, "a folder for checkpoints", "has no room", "train again"):
            os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise DataError(f"{folder}: the folder for checkpoints must be writable; name another one")
        newest = _whole(folder)[0][:1]
        self._serial = newest[0].header["serial"] if newest else -1
        self._last = os.path.basename(newest[0].path) if newest else GENERATIONS[1]

    def write(self, copy: Copy) -> None:
        """Overwrite the older generation. After any error, the newer one is unchanged.

        Raises OutOfSpace if the disk or the quota is full, DataError if writing fails otherwise.
        """
        self._serial += 1
        name = GENERATIONS[1 - GENERATIONS.index(self._last)]
        path, what = os.path.join(self._folder, name), "the checkpoint"
        remedy = "resume: the checkpoint before it is unchanged"
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
    """Return the copy in the newest whole checkpoint of `folder`; warn if another one is damaged.

    Raises DataError if there is no whole checkpoint or the data differ, UsageError if the settings differ.
    """
    whole, damaged = _whole(folder)
    if not whole:
        raise _none_whole(folder, "; ".join(map(str, damaged)) or "none")
    newest = whole[0]
    if "classes" not in newest.header["data"]:  # written before version 0.1
        data = {name: value for name, value in data.items() if name != "classes"}
    _compare(newest, "data", data, DataError)
    _compare(newest, "settings", settings, UsageError)
    for error in damaged:
        warn(f"{error}; resumed from {newest.path}")
    return newest.copy


def opened(
    settings: Settings, updater: Updater, rows: Rows, num_keys: int, classes: Sequence[Any]
) -> tuple[Checkpoints | None, Copy | None]:
    """Return where a training writes checkpoints, and the copy that it resumes from; each None if not asked.

    Raises DataError and UsageError as `resume` does, and UsageError if the checkpoint has more iterations
    than the training.
    """
    if settings.checkpoint is None and settings.resume is None:
        return None, None
    features = num_keys - int(settings.fit_intercept)
    identity = settings.kept_when_resumed(updater), fingerprint(rows, features, classes)
    copy = None
    if settings.resume is not None:
        copy = resume(os.fspath(settings.resume), *identity)
        planned = settings.ticks_planned(rows.num_rows)
        if (copy.ticks > planned).any():
            raise UsageError(
                f"{verbatim(settings.resume)}: {{resume}} must have at most {planned} iterations of the "
                f"workers, where the training ends, got {copy.ticks.tolist()}; raise {{epochs}} or "
                f"{{iterations}}",
                resume=settings.resume,
                epochs=settings.epochs,
                iterations=settings.iterations,
            )
    if settings.checkpoint is None:
        return None, copy
    return Checkpoints(os.fspath(settings.checkpoint), *identity), copy


def check(folder: str | None, resumed: str | None) -> None:
    """Check, before the data is read, that `folder` can hold checkpoints and `resumed` has some.

    Raises DataError. Damaged checkpoints are found later, by `resume`.
    """
    if folder is not None:
        files.check_folder(folder, "checkpoints")
    if resumed is not None and not any(os.path.lexists(os.path.join(resumed, name)) for name in GENERATIONS):
        raise _none_whole(resumed, "none")


def _none_whole(folder: str, got: str) -> DataError:
    return DataError(
        f"{verbatim(folder)}: {{resume}} must name a folder with a whole checkpoint, got {verbatim(got)}; "
        f"name the folder that checkpoints were written to, or start anew without {{resume}}",
        resume=folder,
    )


def _compare(checkpoint: CheckpointFile, what: str, here: dict[str, Any], kind: type[ShmpsError]) -> None:
    there = checkpoint.header[what]
    differing = [name for name in there | here if there.get(name) != here.get(name)]
    if differing:
        readable = {name: here.get(name) for name in differing if name != "sha256"}
        got = ", ".join(
            f"{{{name}}} {verbatim(f'{there.get(name)!s:.80}')} there and {{{name}.value!s:.80}} here"
            for name in readable
        )
        raise kind(
            f"{verbatim(checkpoint.path)}: a resumed training must have the {what} of the checkpoint, got "
            f"{got or 'one content there and another here'}; pass those of the checkpoint, or start anew "
            f"without {{resume}}",
            **{"resume": None} | readable,
        )


def _whole(folder: str) -> tuple[list[CheckpointFile], list[DataError]]:
    """Return the whole checkpoints of a folder, newest first, and the errors of the others."""
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


def read(path: str) -> CheckpointFile:
    """Return the checkpoint in a file. Raises DataError if a single byte differs from what was written."""
    with files.opened(path, "checkpoint") as (file, size):
        return _read(file, size, path)


def _read(file: BufferedReader, size: int, path: str) -> CheckpointFile:
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
    return CheckpointFile(path, header, copy)


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
