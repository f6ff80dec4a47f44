"""Frames: a record, and the arrays that it carries.

    | bytes of the arrays, number of arrays | record | a description of each array | the arrays |

Numbers are little-endian.
"""

import math
import socket
import struct

import numpy as np

from shmps.errors import WireError
from shmps.ps.messages import RECORD_BYTES, Record, pack, unpack, with_arrays

_COUNTS = struct.Struct("<QQ")
_ARRAY = struct.Struct("<c3q")  # dtype, shape; -1 for an axis that the array lacks
_DTYPES = {char.encode(): np.dtype(char) for char in "?bBhHiIqQfd"}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}  # numpy's two types for int64 are equal
_MISSING = [(-1,) * (3 - axes) for axes in range(4)]
_HEADER_BYTES = _COUNTS.size + RECORD_BYTES
_MOST_ARRAYS = 32
READ_BYTES = 2**16  # of one call; larger arrays are read into their own memory


def parts_of(record: Record) -> list[memoryview]:
    """Return the frame of a record as parts to be sent one after another. The arrays are not copied.

    The arrays must be C-contiguous, and have at most three axes.
    """
    size, head, parts = 0, [b"", pack(record)], [memoryview(b"")]
    for array in record.arrays:
        head.append(_ARRAY.pack(_CODES[array.dtype], *array.shape, *_MISSING[array.ndim]))
        if array.size:  # `cast` refuses shapes with a 0
            size += array.nbytes
            parts.append(array.data.cast("B"))
    head[0] = _COUNTS.pack(size, len(record.arrays))
    parts[0] = memoryview(b"".join(head))
    return parts


class FrameReader:
    """Cuts what comes from a socket that does not block into records with their arrays.

    limit: the most bytes of the arrays of one record. The arrays stay valid.
    """

    def __init__(self, connection: socket.socket, limit: int):
        self._connection, self._limit = connection, limit
        self._rest = b""  # the begin of the next frame
        self._head: bytes | None = None  # of the frame whose arrays are being read
        self._body, self._count = memoryview(b""), 0  # of these arrays, and how many bytes have come

    @property
    def is_between_frames(self) -> bool:
        return self._head is None and not self._rest

    def read(self) -> list[Record] | None:
        """Read what has come; return the complete records, or None at the end of the stream.

        To be called when the socket is readable. Raises WireError for what is no frame, OSError if the
        connection is broken.
        """
        if self._head is None:
            try:
                data = self._connection.recv(READ_BYTES)
            except BlockingIOError:
                return []
            return self._cut(self._rest + data) if data else None
        try:
            while self._count < len(self._body):
                count = self._connection.recv_into(self._body[self._count :])
                if not count:
                    return None
                self._count += count
        except BlockingIOError:
            return []
        record, self._head = _record(self._head, self._body), None
        return [record]

    def _cut(self, data: bytes) -> list[Record]:
        records: list[Record] = []
        view, begin = memoryview(data), 0
        while len(data) - begin >= _HEADER_BYTES:
            size, count = _COUNTS.unpack_from(data, begin)
            if size > self._limit or count > _MOST_ARRAYS:
                raise WireError(
                    f"a record must carry at most {_MOST_ARRAYS} arrays of {self._limit} bytes in all, got "
                    f"{count} of {size}"
                )
            body_begin = begin + _HEADER_BYTES + count * _ARRAY.size
            if body_begin > len(data):
                break
            head, body = data[begin:body_begin], view[body_begin : body_begin + size]
            begin = body_begin + len(body)
            if len(body) < size:
                self._head, self._count = head, len(body)
                self._body = np.empty(size, np.uint8).data  # `bytearray` would fill it with zeros
                self._body[: self._count] = body
            else:
                records.append(_record(head, body))
        self._rest = data[begin:]
        return records


def _record(head: bytes, body: memoryview) -> Record:
    """Return a record with its arrays, which are views of `body`. Raises WireError if they do not fit it."""
    [record] = unpack(head[_COUNTS.size : _HEADER_BYTES])
    arrays, begin = [], 0
    try:
        for code, *axes in _ARRAY.iter_unpack(head[_HEADER_BYTES:]):
            dtype, shape = _DTYPES[code], axes[: 3 - axes.count(-1)]
            size = math.prod(shape)
            flat = np.frombuffer(body, dtype, size, begin) if size else np.empty(0, dtype)
            arrays.append(flat if len(shape) == 1 else flat.reshape(shape))
            begin += flat.nbytes
    except (KeyError, ValueError) as error:
        raise WireError(
            f"a record must come with its arrays, got {record} with others ({error!r})"
        ) from error
    return with_arrays(record, arrays) if arrays else record
