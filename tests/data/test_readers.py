"""The table of formats: which format a file has, which options that takes, and what a new format needs."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from shmps.data import mapped, readers
from shmps.data.csv import Csv
from shmps.data.dialect import Dialect, origin_of
from shmps.data.format import Block, Format, with_origin
from shmps.data.named_text import NamedText
from shmps.data.reading import as_training, read
from shmps.data.svmlight import Svmlight
from shmps.errors import UsageError


@pytest.mark.parametrize(
    ("path", "how", "format"),
    [
        ("rows", Dialect(), Svmlight),
        ("rows.csv.svm", Dialect(zero_based=True), Svmlight),
        ("rows", Dialect(columns=("a", "b")), Svmlight),  # a model of a DataFrame
        ("rows", Dialect(hash_bits=3), NamedText),
        ("rows.CSV", Dialect(), Csv),
        ("rows.tsv.xz", Dialect(hash_bits=3), Csv),
        ("rows", Dialect(label="y"), Csv),
        ("rows", Dialect(weight_column="w", hash_bits=3), Csv),
        ("rows", Dialect(header=False), Csv),
        ("rows", Dialect(delimiter=";"), Csv),
    ],
)
def test_the_format_of_a_file_comes_from_its_name_and_its_options(path, how, format):
    assert type(readers.format_of(path, how)) is format


def test_every_option_of_a_format_is_a_field_of_the_dialect():
    fields = {field.name for field in dataclasses.fields(Dialect)}
    assert all(format.options <= fields for format in readers.FORMATS)


@pytest.mark.parametrize(
    ("path", "how", "told"),
    [
        ("rows.csv", Dialect(zero_based=True), "CSV must be read without zero_based, got zero_based=True"),
        ("rows", Dialect(zero_based=True, hash_bits=3), "text with hashed features must be read without"),
        ("rows", Dialect(keep_names=True), "keep_names must come with hash_bits"),
    ],
)
def test_an_option_that_a_reader_would_ignore_is_refused(path, how, told):
    for use in (readers.read, readers.Reader):
        with pytest.raises(UsageError, match=told):
            use(path, how)


def test_rows_for_a_model_are_read_with_the_options_of_training_that_their_format_takes():
    svmlight = Dialect(zero_based=True, weighted=True)
    csv = Dialect(label="y", delimiter=";", columns=("a",), hash_bits=3, keep_names=True, names={"a": 1})
    assert as_training("rows", svmlight) == svmlight
    assert as_training("rows.csv", svmlight) == Dialect()
    assert as_training("rows", csv) == dataclasses.replace(csv, keep_names=None, names=None)
    assert as_training("rows", Dialect(columns=("a",))) == Dialect()
    assert as_training("rows", svmlight, Dialect(zero_based=False)).zero_based is False
    assert as_training("rows.csv", svmlight, Dialect(zero_based=True)).zero_based is True  # and is refused


class Pairs(Format):
    """Two rows a line: `value value`, without labels in the file."""

    name = "pairs"
    options = frozenset({"label"})

    def sniff(self, path, how):
        return path.endswith(".pairs")

    def read_blocks(self, path, how, *, labelled, limit):
        with open(path) as file:
            for line in file:
                X = csr_matrix([[float(word)] for word in line.split()])
                yield with_origin(Block(X, np.array([0.0, 1.0]), None, 0), how.only(self.options))


def test_a_new_format_is_one_class_and_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "FORMATS", (Pairs(), *readers.FORMATS))
    path = tmp_path / "rows.pairs"
    path.write_text("1 2\n3 4\n")
    how = Dialect(label="y")
    X, y, *_ = read(path, how)
    mapped.convert(path, tmp_path / "d", how)
    for rows, labels in ((X, y), mapped.load(tmp_path / "d")):
        assert rows.toarray().tolist() == [[1], [2], [3], [4]] and labels.tolist() == [0, 1, 0, 1]
        assert origin_of(rows) == how
    with pytest.raises(UsageError, match="pairs must be read without delimiter"):
        read(path, Dialect(delimiter=";"))
