"""The text of a file: what is unpacked, what is read to its end, what is refused before it is parsed."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from shmps.data import mapped, svmlight, text_files
from shmps.errors import DataError, OutOfSpace
from shmps.models import formats
from shmps.models.model import Model

PACKERS = [gzip.compress, bz2.compress, lzma.compress]


def refused(data) -> str:
    with pytest.raises(DataError) as caught:
        svmlight.read_bytes(data, "f")
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_the_byte_order_mark_of_utf16_is_recognised(encoding):
    assert "UTF-16" in refused(
        ("\ufeff" if encoding.endswith("be") else "").encode(encoding) + "1".encode(encoding)
    )


@pytest.mark.parametrize("pack", PACKERS)
def test_an_archive_is_recognised_by_its_bytes_and_refused_when_truncated_or_corrupt(pack, tmp_path):
    text = b"".join(b"1 %d:%d\n" % (row, row) for row in range(1, 500))
    packed = pack(text)
    path = tmp_path / "plain.txt"
    for data in (packed, pack(text[:7]) + pack(text[7:]), packed + b"\0" * 64):
        path.write_bytes(data)
        assert svmlight.read(path)[0].nnz == 499
    for cut in (6, len(packed) // 2, len(packed) - 1):
        assert "truncated" in refused(packed[:cut])
    corrupt = bytearray(packed)
    corrupt[{gzip.compress: -6, bz2.compress: 12, lzma.compress: len(packed) // 2}[pack]] ^= 0xFF
    assert "corrupt" in refused(bytes(corrupt))
    assert "corrupt" in refused(packed + b"this is no archive member")


def test_a_path_that_is_no_readable_file_is_refused_by_name(tmp_path, monkeypatch):
    for path, word in ((tmp_path, "directory"), (tmp_path / "none", "No such file"), ("a\0b", "null byte")):
        with pytest.raises(DataError, match=word) as caught:
            svmlight.read(path)
        assert str(caught.value).startswith(f"{path}: ")

    def denied(*_, **named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(text_files, "open", denied, raising=False)
    with pytest.raises(DataError, match="Permission denied"):
        svmlight.read("f")


def test_a_pipe_is_read_to_its_end():
    out, into = os.pipe()
    with open(out, "rb") as reader, open(into, "wb") as writer:
        writer.write(b"1 1:1\n-1 2:4\n")
        writer.close()
        X, y, *_ = svmlight.read(f"/dev/fd/{reader.fileno()}")
    assert X.toarray().tolist() == [[1.0, 0.0], [0.0, 4.0]] and y.tolist() == [1.0, -1.0]


# --- archives that become much ---


def peak_of(function):
    """The most bytes of memory that a call takes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", PACKERS)
def test_an_archive_is_unpacked_a_little_at_a_time_however_small_it_is(pack, tmp_path):
    path, row = tmp_path / "rows", b"1 1:1" + b"0" * 65530 + b"\n"
    text = row * 256
    path.write_bytes(pack(text))
    read = []
    peak = peak_of(lambda: read.extend(len(text) for text, _ in text_files.blocks(str(path), 1 << 18)))
    assert sum(read) == len(text) and peak < 12 << 20  # xz takes 8 MiB whatever it unpacks


@pytest.mark.parametrize("pack", PACKERS)
def test_zeros_without_end_are_refused_before_they_fill_the_memory(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(svmlight, "BLOCK", 1 << 18)
    path = tmp_path / "zeros"
    path.write_bytes(pack(bytes(16 << 20)))

    def convert():
        with pytest.raises(DataError, match="got NUL bytes in a long line"):
            mapped.convert(path, tmp_path / "d")

    assert peak_of(convert) < 12 << 20
    assert os.listdir(tmp_path) == ["zeros"]


@pytest.mark.parametrize("pack", PACKERS)
def test_a_line_without_end_and_a_text_larger_than_the_memory_are_refused(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(svmlight, "BLOCK", 1 << 18)
    monkeypatch.setattr(text_files, "available_memory", lambda: 1 << 20)
    path = tmp_path / "line"
    path.write_bytes(pack(b"1" * (16 << 20)))
    for read in (lambda: mapped.convert(path, tmp_path / "d"), lambda: svmlight.read(path)):
        with pytest.raises(OutOfSpace, match=r"must fit in memory, got .* bytes, and 1,048,576 available"):
            read()


def test_xz_that_asks_for_much_memory_is_refused():
    packed = bytearray(lzma.compress(b"1 1:1\n"))
    end = 12 + 4 * packed[12]  # of the block's header, before its CRC-32
    packed[16] = 40  # a dictionary of 4 GiB (The .xz File Format, 5.3.1)
    packed[end : end + 4] = zlib.crc32(packed[12:end]).to_bytes(4, "little")
    assert "must take at most 256 MiB to unpack" in refused(bytes(packed))


# --- files that are no text ---


def tar(path):
    with tarfile.open(path, "w:gz") as archive:
        rows = io.BytesIO(b"1 1:1\n")
        member = tarfile.TarInfo("rows")
        member.size = len(rows.getvalue())
        archive.addfile(member, rows)


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows", "1 1:1\n")


FOREIGN = {
    "a tar archive; extract the text first: tar -xf": tar,
    "a zip archive": zipped,
    "npz": lambda path: np.savez(path.open("wb"), a=np.ones(3)),
    "a NumPy array": lambda path: np.save(path.open("wb"), np.ones(3)),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(list(range(99)))),
    "a zstd archive; unpack it first: zstd -d": lambda path: path.write_bytes(b"\x28\xb5\x2f\xfd\x24\0"),
    "Parquet; write it as CSV first": lambda path: path.write_bytes(b"PAR1\x15\4\x15"),
    "HDF5": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n\0"),
    "it is packed twice": lambda path: path.write_bytes(gzip.compress(bz2.compress(b"1 1:1\n"))),
    "a page of HTML": lambda path: path.write_text("<!DOCTYPE html>\n<title>404</title>\n"),
    "a model of shmps": lambda path: formats.save(Model(np.ones(2), 0.0, (0, 1)), path),
    "a model of liblinear": lambda path: formats.save(Model(np.ones(2), 0.0, (0, 1)), path, "liblinear"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("options", [{}, {"label": "y"}, {"hash_bits": 4}], ids=["svmlight", "csv", "hashed"])
def test_a_file_that_is_no_text_is_named_with_what_to_do(kind, options, tmp_path):
    for module in {"label": ["pyarrow"], "hash_bits": ["sklearn"]}.get(next(iter(options), ""), []):
        pytest.importorskip(module)
    FOREIGN[kind](tmp_path / "rows")
    with pytest.raises(DataError, match="rows: data must be text, got ") as caught:
        mapped.convert(tmp_path / "rows", tmp_path / "d", **options)
    assert kind in str(caught.value)
