"""Formats of other programs that are refused, by their first bytes, with advice how to make text of them."""

from typing import NamedTuple

import numpy as np

from shmps.errors import DataError

_EXTRACT, _UNPACK = "extract the text first", "unpack it first"
_TABLE = "write it as CSV first, in pandas by to_csv(index=False)"
_MATRIX = "write it as svmlight text first, by sklearn.datasets.dump_svmlight_file"
_MODEL = "name a data file; a model is the first argument of predict"
_PACKED_TWICE = f"{_UNPACK}: it is packed twice"
_FETCH = "fetch the data itself: a server may have sent a page instead"


class _Unsupported(NamedTuple):
    mark: bytes
    name: str
    remedy: str
    at: int = 0  # the offset of the mark


_UNSUPPORTED = (
    _Unsupported(b"ustar", "a tar archive", f"{_EXTRACT}: tar -xf", 257),
    _Unsupported(b"PK\3\4", "a zip archive (.zip, .npz, .xlsx)", f"{_EXTRACT}; if it is an .npz, {_MATRIX}"),
    _Unsupported(b"PK\5\6", "an empty zip archive", "fetch it again"),
    _Unsupported(b"\x28\xb5\x2f\xfd", "a zstd archive", f"{_UNPACK}: zstd -d"),
    _Unsupported(b"\x04\x22\x4d\x18", "an lz4 archive", f"{_UNPACK}: lz4 -d"),
    _Unsupported(b"\x1f\x9d", "an archive of compress", f"{_UNPACK}: uncompress"),
    _Unsupported(b"7z\xbc\xaf\x27\x1c", "a 7z archive", f"{_UNPACK}: 7z x"),
    _Unsupported(b"Rar!\x1a\7", "a rar archive", f"{_UNPACK}: unrar x"),
    _Unsupported(b"\x1f\x8b", "gzip inside an archive", _PACKED_TWICE),
    _Unsupported(b"BZh", "bzip2 inside an archive", _PACKED_TWICE),
    _Unsupported(b"\xfd7zXZ\0", "xz inside an archive", _PACKED_TWICE),
    _Unsupported(b"PAR1", "Parquet", _TABLE),
    _Unsupported(b"ARROW1", "an Arrow or Feather file", _TABLE),
    _Unsupported(b"FEA1", "a Feather file", _TABLE),
    _Unsupported(b"\x89HDF\r\n\x1a\n", "HDF5", _TABLE),
    _Unsupported(b"SQLite format 3\0", "an SQLite database", _TABLE),
    _Unsupported(b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls)", _TABLE),
    _Unsupported(b"\x93NUMPY", "a NumPy array (.npy)", _MATRIX),
    _Unsupported(b"MATLAB 5.0", "a MATLAB file", _MATRIX),
    _Unsupported(b"\x80\4\x95", "a pickle", _MATRIX),
    _Unsupported(b"\x80\5\x95", "a pickle", _MATRIX),
    _Unsupported(b"shmps model\n", "a model of shmps", _MODEL),
    _Unsupported(
        b"shmps checkpoint\n", "a checkpoint of shmps", "name a data file; checkpoints go to --resume"
    ),
    _Unsupported(b"shmps journal\n", "a journal of shmps", "name a data file; journals go to --replay"),
    _Unsupported(b"solver_type ", "a model of liblinear", _MODEL),
    _Unsupported(b"<!DOCTYPE", "a page of HTML", _FETCH),
    _Unsupported(b"<html", "a page of HTML", _FETCH),
    _Unsupported(b"version https://git-lfs", "a pointer of Git LFS", "fetch the data itself: git lfs pull"),
)


def refuse_unsupported(text: np.ndarray, name: str) -> None:
    """Raise DataError if the unpacked bytes of a file, (bytes,) uint8, begin as one of these formats does."""
    head = text[:300].tobytes()
    for format in _UNSUPPORTED:
        if head.startswith(format.mark, format.at):
            raise DataError(f"{name}: data must be text, got {format.name}; {format.remedy}")
