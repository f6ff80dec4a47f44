"""Download files that are known by their SHA-256: a file is whole and right, or not there."""

import hashlib
import http.client
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shmps.data.named_sets import Source
from shmps.errors import DataError, OutOfSpace
from shmps.system import atomic
from shmps.system.os_errors import shortage

TIMEOUT = 10.0  # seconds without a byte
CHUNK = 1 << 16
NO_NETWORK = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)


class Unreachable(DataError):
    """A known `file` is not there, and cannot be downloaded without a network; `reason` is one line."""

    def __init__(self, message: str, file: str, reason: str):
        super().__init__(message)
        self.file, self.reason = file, reason


def bytes_of(path: Path, source: Source, progress: bool) -> bytes:
    """Return the content of the file at `path`; download it if it is not there.

    Raises Unreachable, OutOfSpace and DataError, also if the file has another content than it must have.
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
        raise DataError(f"{path}: sha256 must be {source.sha256}, got {found}; {remedy}")


def _download(source: Source, path: Path, progress: bool) -> None:
    """Download and check, and only then give the file its name: there is never half a file."""
    try:
        # Before the folder is made: without a network nothing on the disk changes.
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
            f"{path}: the file must be there or be downloadable, got from {source.url}: {reason}; download "
            f"it on a machine with a network and put it into {path.parent}, or use the generated set "
            f"{source.stand_in}",
            path.name,
            reason,
        ) from error


def _copy(response: Any, descriptor: int, name: str, source: Source, progress: bool) -> str:
    """Write the response and return its SHA-256.

    Raises ConnectionError if the connection ends before the announced length.
    """
    announced = response.headers.get("Content-Length", "")
    digest, got = hashlib.sha256(), 0
    quiet = not (progress and sys.stderr is not None and sys.stderr.isatty())
    with (
        open(descriptor, "wb", closefd=False) as file,
        tqdm(total=source.size, desc=name, unit="B", unit_scale=True, disable=quiet) as bar,
    ):
        while got <= source.size:  # a longer file is wrong already, and could fill the disk
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
    """Turn errors of the file system into DataError and OutOfSpace."""
    try:
        yield
    except (DataError, OutOfSpace):
        raise
    except MemoryError as error:
        raise OutOfSpace(f"{path}: the file must fit in memory, got too little; free some") from error
    except OSError as error:
        if (short := shortage(error)) is not None:
            raise OutOfSpace(
                f"{path}: the data folder must have room, got {short.found} ({error.strerror}); "
                f"{short.remedy} or choose another data folder"
            ) from error
        raise DataError(
            f"{path}: the data folder must be readable, and writable for a download, got: "
            f"{error.strerror or error}; choose another data folder"
        ) from error
