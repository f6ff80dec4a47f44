"""Files that are no text, by their first bytes: what they are, and how to make a text of them."""

from typing import NamedTuple

import numpy as np

from shmps.errors import DataError

_EXTRACT, _AGAIN = "extract the text first", "unpack it first"
_TABLE = "write it as CSV first, in pandas by to_csv(index=False)"
_MATRIX = "write it as svmlight text first, by sklearn.datasets.dump_svmlight_file"
_MODEL = "name a data file; a model is the first argument of predict"


class _Kind(NamedTuple):
    mark: bytes
    name: str
    remedy: str
    at: int = 0  # where the mark is


_KINDS = (
    _Kind(b"ustar", "a tar archive", f"{_EXTRACT}: tar -xf", 257),
    _Kind(b"PK\3\4", "a zip archive (.zip, .npz, .xlsx)", f"{_EXTRACT}; {_MATRIX} where it is an .npz"),
    _Kind(b"PK\5\6", "an empty zip archive", "fetch it again"),
    _Kind(b"\x28\xb5\x2f\xfd", "a zstd archive", f"{_AGAIN}: zstd -d"),
    _Kind(b"\x04\x22\x4d\x18", "an lz4 archive", f"{_AGAIN}: lz4 -d"),
    _Kind(b"\x1f\x9d", "an archive of compress", f"{_AGAIN}: uncompress"),
    _Kind(b"7z\xbc\xaf\x27\x1c", "a 7z archive", f"{_AGAIN}: 7z x"),
    _Kind(b"Rar!\x1a\7", "a rar archive", f"{_AGAIN}: unrar x"),
    _Kind(b"\x1f\x8b", "gzip inside an archive", f"{_AGAIN}: it is packed twice"),
    _Kind(b"BZh", "bzip2 inside an archive", f"{_AGAIN}: it is packed twice"),
    _Kind(b"\xfd7zXZ\0", "xz inside an archive", f"{_AGAIN}: it is packed twice"),
    _Kind(b"PAR1", "Parquet", _TABLE),
    _Kind(b"ARROW1", "an Arrow or Feather file", _TABLE),
    _Kind(b"FEA1", "a Feather file", _TABLE),
    _Kind(b"\x89HDF\r\n\x1a\n", "HDF5", _TABLE),
    _Kind(b"SQLite format 3\0", "an SQLite database", _TABLE),
    _Kind(b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls)", _TABLE),
    _Kind(b"\x93NUMPY", "a NumPy array (.npy)", _MATRIX),
    _Kind(b"MATLAB 5.0", "a MATLAB file", _MATRIX),
    _Kind(b"\x80\4\x95", "a pickle", _MATRIX),
    _Kind(b"\x80\5\x95", "a pickle", _MATRIX),
    _Kind(b"shmps model\n", "a model of shmps", _MODEL),
    _Kind(b"shmps checkpoint\n", "a checkpoint of shmps", "name a data file; checkpoints go to --resume"),
    _Kind(b"solver_type ", "a model of liblinear", _MODEL),
    _Kind(b"<!DOCTYPE", "a page of HTML", "fetch the data itself: a server may have sent a page instead"),
    _Kind(b"<html", "a page of HTML", "fetch the data itself: a server may have sent a page instead"),
    _Kind(b"version https://git-lfs", "a pointer of Git LFS", "fetch the data itself: git lfs pull"),
)


def refuse(text: np.ndarray, name: str) -> None:
    """Raise DataError if a file's bytes, unpacked, (bytes,) uint8, begin as those of another kind of file."""
    head = text[:300].tobytes()
    for kind in _KINDS:
        if head.startswith(kind.mark, kind.at):
            raise DataError(f"{name}: data is a text, found {kind.name}; {kind.remedy}")
