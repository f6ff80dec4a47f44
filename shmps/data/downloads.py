"""Files from the network, known by their sums: whole and right, or not there."""

import hashlib
import http.client
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shmps.errors import DataError, OutOfSpace
from shmps.system import atomic
from shmps.system.os_errors import shortage

TIMEOUT = 10.0  # seconds without a byte
CHUNK = 1 << 16
NO_NETWORK = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)


@dataclass(frozen=True)
class Source:
    """One file of a known set: where it comes from and how to know that it is the right one."""

    url: str
    sha256: str
    size: int  # bytes
    rows: int
    licence: str
    stand_in: str  # the name of a generated set of its shape


class Unreachable(DataError):
    """A known `file` is not there and cannot be downloaded for want of a network; `reason` is one line."""

    def __init__(self, message: str, file: str, reason: str):
        super().__init__(message)
        self.file, self.reason = file, reason


def bytes_of(path: Path, source: Source, progress: bool) -> bytes:
    """What is in the file at `path`; it is downloaded if it is not there.

    Raises DataError, also for a file that is there and is another than it should be, Unreachable, OutOfSpace.
    """
    with _disk(path):
        if not path.exists():
            _download(source, path, progress)
        data = path.read_bytes()
    remedy = (
        f"delete it to have it downloaded again, or pass its path in place of {path.name} to use it as it is"
    )
    _check(path, source, hashlib.sha256(data).hexdigest(), remedy)
    return data


def _check(path: Path | str, source: Source, found: str, remedy: str) -> None:
    if found != source.sha256:
        raise DataError(f"{path}: sha256 must be {source.sha256}, found {found}; {remedy}")


def _download(source: Source, path: Path, progress: bool) -> None:
    """Download, check, and only then give the file its name: never half a file there."""
    try:
        # Before the folder is made: without a network nothing changes on disk.
        with urllib.request.urlopen(source.url, timeout=TIMEOUT) as response:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic.replacing(str(path)) as descriptor:
                found = _copy(response, descriptor, path.name, source, progress)
                _check(source.url, source, found, f"nothing was kept; put the right file at {path}")
    except NO_NETWORK as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unreachable(
            f"{path}: not there, and {source.url} cannot be downloaded: {reason}; download it where there is "
            f"a network and put it into {path.parent}, or use the generated set {source.stand_in}",
            path.name,
            reason,
        ) from error


def _copy(response: Any, descriptor: int, name: str, source: Source, progress: bool) -> str:
    """Write what comes; its sha256. ConnectionError if the connection ended before the announced length."""
    announced = response.headers.get("Content-Length", "")
    digest, got = hashlib.sha256(), 0
    quiet = not (progress and sys.stderr is not None and sys.stderr.isatty())
    with (
        open(descriptor, "wb", closefd=False) as file,
        tqdm(total=source.size, desc=name, unit="B", unit_scale=True, disable=quiet) as bar,
    ):
        while got <= source.size:  # more is wrong already, and could fill the disk
            chunk = response.read(CHUNK)
            if not chunk:
                break
            file.write(chunk)
            digest.update(chunk)
            bar.update(len(chunk))
            got += len(chunk)
    if announced.isdigit() and got < min(int(announced), source.size):
        raise ConnectionError(f"the connection ended after {got} of {announced} bytes")
    return digest.hexdigest()


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Errors of the file system by their names."""
    try:
        yield
    except (DataError, OutOfSpace):
        raise
    except MemoryError as error:
        raise OutOfSpace(f"{path}: not enough memory to read it; free some") from error
    except OSError as error:
        if (short := shortage(error)) is not None:
            raise OutOfSpace(
                f"{path}: the data folder must have room, found {short.found} ({error.strerror}); "
                f"{short.remedy} or choose another data folder"
            ) from error
        raise DataError(
            f"{path}: the data folder must be readable, and writable for a download, found: "
            f"{error.strerror or error}; choose another data folder"
        ) from error
