"""The text of a file: what is unpacked, what is read to its end, what is refused before it is parsed."""

import bz2
import gzip
import os

import pytest

from shmps.errors import DataError
from shmps.reading import svmlight, texts


def refused(data) -> str:
    with pytest.raises(DataError) as caught:
        svmlight.read_bytes(data, "f")
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_the_byte_order_mark_of_utf16_is_recognised(encoding):
    assert "UTF-16" in refused(
        ("\ufeff" if encoding.endswith("be") else "").encode(encoding) + "1".encode(encoding)
    )


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_an_archive_is_recognised_by_its_bytes_and_refused_when_truncated_or_corrupt(pack, tmp_path):
    text = b"".join(b"1 %d:%d\n" % (row, row) for row in range(1, 500))
    packed = pack(text)
    path = tmp_path / "plain.txt"
    for data in (packed, pack(text[:7]) + pack(text[7:]), packed + b"\0" * 64):
        path.write_bytes(data)
        assert svmlight.read(path)[0].nnz == 499
    for cut in (3, len(packed) // 2, len(packed) - 1):
        assert "truncated" in refused(packed[:cut])
    corrupt = bytearray(packed)
    corrupt[-6 if pack is gzip.compress else 12] ^= 0xFF
    assert "corrupt" in refused(bytes(corrupt))
    assert "corrupt" in refused(packed + b"this is no archive member")


def test_a_path_that_is_no_readable_file_is_refused_by_name(tmp_path, monkeypatch):
    for path, word in ((tmp_path, "directory"), (tmp_path / "none", "No such file"), ("a\0b", "null byte")):
        with pytest.raises(DataError, match=word) as caught:
            svmlight.read(path)
        assert str(caught.value).startswith(f"{path}: ")

    def denied(*_, **named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(texts, "open", denied, raising=False)
    with pytest.raises(DataError, match="Permission denied"):
        svmlight.read("f")


def test_a_pipe_is_read_to_its_end():
    out, into = os.pipe()
    with open(out, "rb") as reader, open(into, "wb") as writer:
        writer.write(b"1 1:1\n-1 2:4\n")
        writer.close()
        X, y, *_ = svmlight.read(f"/dev/fd/{reader.fileno()}")
    assert X.toarray().tolist() == [[1.0, 0.0], [0.0, 4.0]] and y.tolist() == [1.0, -1.0]
