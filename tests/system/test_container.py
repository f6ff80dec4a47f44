"""Headers and arrays with digests: what was written is read, and every changed byte is an error."""

import hashlib
import json

import numpy as np
import pytest
from damage import overwrite

from shmps.errors import DataError
from shmps.system.container import Container, describe

KIND = Container("thing", format=2, sealed_from=2, remedy="make it again")
ARRAYS = {"a": np.array([1.0, -0.0]), "b": np.array([], "<i8"), "c": np.array([7], "<i4")}
DTYPES = {"a": "<f8", "b": "<i8", "c": "<i4"}
KEYS = {"text": "\u00fa\ud83d", "deep": {"sha256": "x", "list": [float("inf")]}}


def read(path):
    with open(path, "rb") as file:
        _, header = KIND.read_header(file, "p")
        return header, KIND.read_arrays(file, path.stat().st_size, header, DTYPES, "p")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "p").write_bytes(b"".join(KIND.encode(KEYS, ARRAYS, "p", "use less")))
    return tmp_path / "p"


def test_what_is_read_is_what_was_written(path):
    header, arrays = read(path)
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        name: array.tobytes() for name, array in ARRAYS.items()
    }
    assert {name: header[name] for name in KEYS} == KEYS
    assert header["arrays"] == {name: describe(array) for name, array in ARRAYS.items()}
    magic, line = path.read_bytes().split(b"\n")[:2]
    told = json.loads(line)
    assert magic == b"shmps thing" and list(told)[-1] == "sha256"
    del told["sha256"]
    assert json.loads(line)["sha256"] == hashlib.sha256(json.dumps(told).encode()).hexdigest()


@pytest.mark.parametrize("flip", [32, 255, *(1 << bit for bit in range(5))])  # 32: upper case
def test_every_changed_byte_is_an_error(path, flip):
    data = path.read_bytes()
    for place in range(len(data)):
        overwrite(path, data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])
        with pytest.raises(DataError, match=r"^p: .*got"):
            read(path)


def test_every_removed_or_added_byte_is_an_error(path):
    data = path.read_bytes()
    for changed in [data[:length] for length in range(len(data))] + [data + b"\0", data * 2]:
        overwrite(path, changed)
        with pytest.raises(DataError, match=r"^p: .*got"):
            read(path)


def test_the_types_of_arrays_are_the_readers(path):
    """An array of objects would take the bytes of a file for addresses."""
    for dtype in ("|O", "<u8", "x", None):
        described = {name: describe(array) for name, array in ARRAYS.items()}
        described["a"]["dtype"] = dtype
        line = KIND.header(KEYS, described, "p", "use less")
        path.write_bytes(KIND.magic + line + b"".join(array.tobytes() for array in ARRAYS.values()))
        with pytest.raises(DataError, match=r"^p: the header must follow the rules of its format"):
            read(path)


def test_a_damaged_file_and_a_newer_one_are_told_apart(path):
    line = path.read_bytes().split(b"\n")[1] + b"\n"
    with pytest.raises(DataError, match="newer format 3; upgrade shmps"):
        KIND.parse(line.replace(b'"format": 2', b'"format": 3'), "p")
    with pytest.raises(DataError, match="the file is damaged: make it again"):
        KIND.parse(line.replace(b'"text"', b'"test"'), "p")
    assert KIND.parse(b'{"format": 1}\n', "p") == {"format": 1}  # before sealed_from
