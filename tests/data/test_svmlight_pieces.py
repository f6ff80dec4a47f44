"""A text that is cut into pieces reads as one that is not: arrays and errors, wherever the cuts are."""

import threading

import numpy as np
import pytest

from shmps.data import svmlight
from shmps.data.svmlight import parsing
from shmps.errors import DataError, OutOfSpace
from shmps.system import parallel

ROWS = [
    (1.0, {1: 0.25, 7: -1e-7}),
    (-1.0, {}),
    (2.5, {3: 9007199254740993.0}),  # half-way between two float64: one for Python's float()
    (5e-324, {2: 0.1, 4: 0.30000000000000004, 9: 1e-310}),
    (-1.0, {1: 1.0}),
]


def line(label, features, tail=""):
    return " ".join([f"{label:.17g}", *(f"{column}:{value!r}" for column, value in features.items())]) + tail


PLAIN = [line(*row) for row in ROWS]
FORMS = {
    "plain": "\n".join(PLAIN) + "\n",
    "no newline at the end": "\n".join(PLAIN),
    "CR LF": "\r\n".join(PLAIN) + "\r\n",
    "CR LF, no newline at the end": "\r\n".join(PLAIN),
    "blank lines": "\n\n \n" + "\n\n\t\n".join(PLAIN) + "\n\n\n",
    "comments": "# a:b 1:2\n" + "".join(f"{text} # 3:4 5:6\n#:::\n" for text in PLAIN) + "# 1 1:1",
    "byte order mark": "\ufeff" + "\n".join(PLAIN) + "\n",
}


def cut_everywhere(monkeypatch, text, step=1):
    """The sizes of pieces; with a step of 1 every place of the text is asked for as the end of a piece."""
    for size in range(1, len(text) + 1, step):
        monkeypatch.setattr(parsing, "PIECE", size)
        yield size


def refusal(text):
    with pytest.raises(DataError) as caught:
        svmlight.read_bytes(text, "f")
    return str(caught.value)


@pytest.fixture(params=[1, 3], ids=["one core", "three cores"])
def number_of_cores(request, monkeypatch):
    monkeypatch.setattr(parallel, "usable_cores", lambda: request.param)


@pytest.mark.parametrize("form", FORMS)
def test_a_text_cut_anywhere_gives_the_same_arrays(form, monkeypatch, number_of_cores):
    text = FORMS[form].encode()
    for _ in cut_everywhere(monkeypatch, text):
        X, y, *_ = svmlight.read_bytes(text, "f")
        assert y.tolist() == [label for label, _ in ROWS]
        assert X.indptr.tolist() == np.cumsum([0, *(len(features) for _, features in ROWS)]).tolist()
        assert X.indices.tolist() == [column - 1 for _, features in ROWS for column in features]
        assert X.data.tolist() == [value for _, features in ROWS for value in features.values()]
        assert X.shape == (5, 9) and X.indptr.dtype == X.indices.dtype == np.int32


STARTS = {
    "text": ["spam", "ham", "spam", "Zo\xeb", "1_0"],
    "numbers with weights": ["1:0.5", "-1:2", "1:12345678901234567890123", "0:0", "+1:1e-400"],
    "text with weights": ["spam:0.5", "ham:2", "spam:1", "ham:0", "1_0:.1"],
    "nothing": ["", "", "", "", ""],
}


@pytest.mark.parametrize("starts", STARTS)
@pytest.mark.parametrize("wrong", ["", "2 3:1", "nan 3:1", "a:-1 3:1", "1 2:1 2:1", "a 3:1e999"])
def test_starts_of_rows_are_read_alike_wherever_the_text_is_cut(starts, wrong, monkeypatch, number_of_cores):
    lines = [f" {begin} {at + 1}:1 6: {at} 7:1 # x:1" for at, begin in enumerate(STARTS[starts])]
    text = "\r\n".join(["#", *lines[:3], wrong, *lines[3:]]).encode()

    def outcome():
        try:
            X, y, weights, _ = svmlight.read_bytes(text, "f", labelled=starts != "nothing")
        except DataError as error:
            return str(error)
        return X.toarray().tolist(), repr(y.tolist()), None if weights is None else weights.tolist()

    whole = outcome()
    assert whole.startswith("f:5:") if wrong else whole[0][1] == [0, 1, 0, 0, 0, 1, 1]
    for _ in cut_everywhere(monkeypatch, text, step=7):
        assert outcome() == whole


def test_small_pieces_are_cut_at_every_line(monkeypatch):
    seen, parse = [], parsing.parse
    monkeypatch.setattr(parsing, "PIECE", 1)
    monkeypatch.setattr(parsing, "parse", lambda text, *rest: seen.append(rest[:2]) or parse(text, *rest))
    svmlight.read_bytes(FORMS["plain"].encode(), "f")
    ends = np.cumsum([len(text) + 1 for text in PLAIN]).tolist()
    assert sorted(seen) == list(zip([0, *ends[:-1]], ends, strict=True))


WRONG = ["1 2:1 2:1", "nan 1:1", "1 1:2abc", "1 1:1e999", "1e999", "1 1:1\x00", "1 1:1\r 2:1"]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_fault_in_any_piece_is_told_with_its_place_in_the_file(wrong, end, monkeypatch):
    monkeypatch.setattr(parallel, "usable_cores", lambda: 3)
    for at in range(len(PLAIN) + 1):
        text = end.join([*PLAIN[:at], wrong, *PLAIN[at:]]).encode()
        whole = refusal(text)
        assert whole.startswith(f"f:{at + 1}:")
        for _ in cut_everywhere(monkeypatch, text, step=10):
            assert refusal(text) == whole


def test_of_several_faults_the_first_of_the_file_is_told(monkeypatch):
    monkeypatch.setattr(parallel, "usable_cores", lambda: 3)
    for first in ("1 1:1e999", "1 2:1 2:1"):  # seen after parsing, and by the parser
        for second in ("1 1:1e999", "1 2:1 2:1"):
            text = "\n".join([PLAIN[0], first, PLAIN[2], second, second]).encode()
            for _ in cut_everywhere(monkeypatch, text, step=4):
                assert refusal(text).startswith("f:2:")
    text = b"1 2:1 2:1\n" + PLAIN[0].encode() + b"\n1 1:1\x00\n"  # what it says of the file comes first
    for _ in cut_everywhere(monkeypatch, text):
        assert refusal(text).startswith("f:3:6: ") and "NUL" in refusal(text)


@pytest.mark.parametrize("text", [b"", b"\n", b"\r\n\r\n", b"# 1:1\n\n# 2:2", b" ", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_refused_however_it_is_cut(text, monkeypatch):
    for size in range(1, len(text) + 2):
        monkeypatch.setattr(parsing, "PIECE", size)
        assert "at least one row, got none" in refusal(text)


def test_a_line_may_be_longer_than_a_piece(monkeypatch):
    text = line(1, {column: 1.0 for column in range(1, 200)}) + "\n" + PLAIN[0]
    monkeypatch.setattr(parsing, "PIECE", 16)
    X, y, *_ = svmlight.read_bytes(text.encode(), "f")
    assert X.nnz == 201 and y.tolist() == [1.0, 1.0]


def test_no_thread_is_left_behind(monkeypatch):
    monkeypatch.setattr(parsing, "PIECE", 1)
    monkeypatch.setattr(parallel, "usable_cores", lambda: 3)
    before, inside = threading.enumerate(), set()
    parse = parsing.parse

    def seen(*arguments):
        inside.add(threading.current_thread())
        return parse(*arguments)

    monkeypatch.setattr(parsing, "parse", seen)
    svmlight.read_bytes(FORMS["plain"].encode(), "f")
    refusal(b"1 1:1\n1\nx\n1\n1\n")
    assert inside and threading.current_thread() not in inside
    assert threading.enumerate() == before


def test_too_little_memory_in_one_piece_is_out_of_space(monkeypatch, number_of_cores):
    before, parse = threading.enumerate(), parsing.parse

    def short(text, begin, *rest):
        if begin:
            raise MemoryError
        return parse(text, begin, *rest)

    monkeypatch.setattr(parsing, "PIECE", 1)
    monkeypatch.setattr(parsing, "parse", short)
    with pytest.raises(OutOfSpace, match="f: "):
        svmlight.read_bytes(FORMS["plain"].encode(), "f")
    assert threading.enumerate() == before
