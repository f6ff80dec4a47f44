"""Text with features by name: labels, weights and rows without a label."""

import numpy as np
import pytest

from shmps.data import named_text
from shmps.data.dialect import Dialect
from shmps.data.format import INT32_MAX
from shmps.errors import DataError


@pytest.fixture
def read(tmp_path):
    """Blocks of a text, and all rows of them: (X, labels, weights) as lists."""

    def blocks(text, labelled=True):
        path = tmp_path / "rows"
        path.write_bytes(text)
        how = Dialect(hash_bits=4)
        reader = named_text.NamedText()
        found = list(reader.read_blocks(str(path), how, labelled=labelled, limit=INT32_MAX))
        weights = [np.ones(len(each.y)) if each.weights is None else each.weights for each in found]
        X = np.concatenate([each.X.toarray() for each in found])
        labels = [label for each in found for label in each.y.tolist()]
        return X.tolist(), labels, np.concatenate(weights).tolist()

    return blocks


def hashed(*rows):
    extraction = pytest.importorskip("sklearn.feature_extraction")
    return extraction.FeatureHasher(16).transform(rows).toarray().tolist()


@pytest.fixture(params=[1, 30, 1 << 22])
def block(request, monkeypatch):
    monkeypatch.setattr(named_text, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
def test_vowpal_wabbits_weights_are_the_rows(read):
    X, labels, weights = read(b"1 2.0 | a\n-1 'tag | a\n1 .5 tag| b:2\n\n+1 0 |n a\r\n1.0 |n a\n")
    assert hashed({"a": 1}, {"a": 1}, {"b": 2}, {"n^a": 1}, {"n^a": 1}) == X
    assert (labels, weights) == ([1, -1, 1, 1, 1], [2, 1, 0.5, 0, 1])


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("labels", [["spam", "ham"], ["yes", "no"], ["TRUE", "FALSE"], ["<=50K", ">50K"]])
def test_labels_may_be_text(labels, read):
    first, second = labels
    X, y, weights = read(f"{first} a b:2\n\n{second} 3 'tag | b:2\n{first} tag|n a\n{second}\n".encode())
    assert hashed({"a": 1, "b": 2}, {"b": 2}, {"n^a": 1}, {}) == X
    assert (y, weights) == ([first, second, first, second], [1, 3, 1, 1])


@pytest.mark.usefixtures("block")
def test_rows_to_predict_need_no_labels(read):
    X, y, weights = read(b"| a b\n'tag | a\n'1 |n a\n\n1| a", labelled=False)
    assert hashed({"a": 1, "b": 1}, {"a": 1}, {"n^a": 1}, {"a": 1}) == X
    assert np.isnan(y).all() and len(y) == 4 and weights == [1] * 4
    assert read(b"1 | a\n-1 | b", labelled=False)[1] == [1, -1]
    for text in (b"1 | a\n| b", b"| a\n1 | b", b"yes | a\n| b"):
        with pytest.raises(DataError, match=r"rows:2: .* all numbers, all text or all missing"):
            read(text, labelled=False)
    with pytest.raises(DataError, match=r"rows:1: .* must start with \| .*'a:1 b'"):
        read(b"a:1 b", labelled=False)


def test_blanks_are_spaces_and_tabs_alone(read):
    assert hashed({"a\xa0b": 1, "c\x0bd": 1, "e": 1}) == read("1 \ta\xa0b\tc\x0bd  e\t\r\n".encode())[0]


def test_a_label_of_other_kind_than_the_first_is_told_with_its_line(read, monkeypatch):
    monkeypatch.setattr(named_text, "BLOCK", 1)
    for text in (b"\n1 a\n\nyes a", b"yes a\nno a\n\n1 a", b"1 a\n2 a\n3 a\n1_0 a"):
        with pytest.raises(DataError, match=r"rows:4: .* all numbers, all text or all missing"):
            read(text)
