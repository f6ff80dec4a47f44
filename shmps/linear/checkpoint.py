"""Checkpoints: two files in a folder, the older of which is overwritten by the next.

A file has four parts and nothing after them:

    shmps checkpoint\\n   the magic line, the same in every version of the format
    {"format": 1, ...}\\n  the header: one line of ASCII JSON, at most 64 MiB
    89abcdef\\n           the CRC-32 of what comes before, in hexadecimal
    sections             the arrays of `parameters.Copy` in their order, little-endian

The header's keys: format, the version of the format; shmps, that of the package, for people; serial, which
tells the newer of two; settings and data, what must be the same to go on; sizes, the number of keys, of
values and of state per key, of servers and workers; crcs, the CRC-32 of each section. Nothing is code, and
nothing is pickled.
"""

import json
import math
import os
import zlib
from io import BufferedReader
from typing import Any, NamedTuple

import numpy as np

from shmps.errors import DataError, ShmpsError, UsageError, verbatim, warn
from shmps.ps.memory.parameters import Copy
from shmps.system import files, scratch
from shmps.version import __version__

MAGIC = b"shmps checkpoint\n"
FORMAT = 1
GENERATIONS = ("checkpoint-0", "checkpoint-1")


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
        with files.naming_errors(path, what, "needs to last", remedy), scratch.alone_in(self._folder):
            files.write(path, self._encode(copy), what, remedy)
            self._last = name
            scratch.sync_folder(self._folder)

    def _encode(self, copy: Copy) -> list[Any]:
        (keys, width), (servers,), (workers,) = copy.weights.shape, copy.ages.shape, copy.ticks.shape
        sizes = keys, width, copy.state.shape[1], servers, workers
        sections = [
            np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8)
            for array, (dtype, _) in zip(copy, _layout(*sizes), strict=True)
        ]
        header = {
            "format": FORMAT,
            "shmps": __version__,
            "serial": self._serial,
            "settings": self._settings,
            "data": self._data,
            "sizes": sizes,
            "crcs": [zlib.crc32(section.data) for section in sections],
        }
        start = MAGIC + json.dumps(header).encode("ascii") + b"\n"
        return [start + _crc_line(start), *sections]


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
        told = {name: here.get(name) for name in differing if name != "sha256"}  # no person reads a digest
        got = ", ".join(
            f"{{{name}}} {verbatim(f'{there.get(name)!s:.80}')} there and {{{name}.value!s:.80}} here"
            for name in told
        )
        raise kind(
            f"{verbatim(checkpoint.path)}: a training goes on with the {what} that it began with, got "
            f"{got or 'one content there and another here'}; give those of the checkpoint, or begin anew "
            f"without {{resume}}",
            **{"resume": None} | told,
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
    start = file.read(len(MAGIC))
    if start != MAGIC:
        raise DataError(f"{path}: a checkpoint starts with {MAGIC!r}, found {start!r}; is it one?")
    line = file.readline(files.HEADER_LIMIT)
    if file.read(9) != _crc_line(start + line):
        raise DataError(f"{path}: the header has another CRC-32 than its own; the file is damaged")
    header = files.parse_header(line, path, "checkpoint", FORMAT)
    try:
        keys, width, state, servers, workers = header["sizes"]
        fits = (
            min(keys, width, servers, workers) >= 1
            and state >= 0
            and len(header["crcs"]) == len(Copy._fields)
        )
        layout = _layout(keys, width, state, servers, workers)
        total = sum(8 * math.prod(shape) for _, shape in layout)
        fits = fits and type(total) is type(header["serial"]) is int
        fits = fits and isinstance(header["settings"], dict) and isinstance(header["data"], dict)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: the header breaks a rule of the format: {error!r}") from error
    # Compared before anything is allocated: a header alone must not be able to ask for memory.
    if not fits or total != size - file.tell():
        raise DataError(
            f"{path}: the header announces {total} bytes, found {size - file.tell()}; the file is cut short, "
            f"has grown or is damaged"
        )
    sections = [np.empty(shape, dtype) for dtype, shape in layout]
    for name, crc, section in zip(Copy._fields, header["crcs"], sections, strict=True):
        raw = section.reshape(-1).view(np.uint8).data
        if file.readinto(raw) != len(raw) or zlib.crc32(raw) != crc:
            raise DataError(f"{path}: the section {name} has another CRC-32 than its own; it is damaged")
    return Checkpoint(path, header, Copy(*sections))


def _layout(
    keys: int, width: int, state: int, servers: int, workers: int
) -> list[tuple[str, tuple[int, ...]]]:
    """Type and shape of each section."""
    shapes: list[tuple[int, ...]] = [(keys, width), (keys, state), (servers,), (servers,), (workers,)]
    return list(zip(("<f8", "<f8", "<f8", "<i8", "<i8"), shapes, strict=True))


def _crc_line(data: bytes) -> bytes:
    return b"%08x\n" % zlib.crc32(data)
