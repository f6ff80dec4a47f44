"""The svmlight reader: what it accepts, what it refuses and where, and numbers to the last bit."""

import gzip
import math
import os
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT
from scipy.sparse import csr_matrix

from shmps.data import svmlight
from shmps.data.matching import fit_columns
from shmps.data.svmlight import parsing
from shmps.errors import DataError, OutOfSpace, UsageError

A9A_LINES = 500  # as much of a9a as stays quick without the JIT


def a9a() -> Path:
    """The real file, or skip."""
    folders = [os.environ.get("SHMPS_DATA_DIR"), str(ROOT / "data")]
    for folder in filter(None, folders):
        if (path := Path(folder) / "a9a").is_file():
            return path
    pytest.skip("no a9a in SHMPS_DATA_DIR or data/")


def parse(text, **options):
    """(rows as a list of {column: value}, labels as a list)."""
    X, y, *_ = svmlight.read_bytes(text, "f", **options)
    rows = [
        dict(zip(X.indices[a:b].tolist(), X.data[a:b].tolist(), strict=True))
        for a, b in zip(X.indptr[:-1], X.indptr[1:], strict=True)
    ]
    return rows, y.tolist()


def refused(text, **options) -> str:
    with pytest.raises(DataError) as caught:
        svmlight.read_bytes(text, "f", **options)
    return str(caught.value)


def bits(array):
    return np.ascontiguousarray(array, np.float64).view(np.int64)


REFUSED = [
    # text, line:column, key words
    (b"1 1:1\n1 0:1", "2:3", "start at 1|'0:1'|zero_based=True"),
    (b"1 0:3:0.5 1:7:1", "1:3", "'0:3:0.5'|libffm|remove the fields"),
    (b"1 1:3:0.5 1:7:1", "1:5", "'3:0.5'|libffm|remove the fields"),
    (b"1 -1:1", "1:3", "1 or more|'-1:1'|negative"),
    (b"1 2147483648:1", "1:3", "limit 2147483647|2147483648|correct the index"),
    (b"1 99999999999999999999999999999999:1", "1:3", "limit|9999"),
    (b"1 18446744073709551617:1", "1:3", "limit|18446744073709551617"),  # 2**64 + 1 would wrap to 1
    (b"1 4294967297:1", "1:3", "limit|4294967297"),  # 2**32 + 1 would wrap to 1
    (b"1 " + b"9" * 5000 + b":1", "1:3", "limit|..."),
    (b"1 1.5:1", "1:3", "integer|'1.5:1'"),
    (b"1 a:1", "1:3", "integer|'a:1'"),
    (b"1 +1:1", "1:3", "integer|'+1:1'"),
    (b"1 :1", "1:3", "integer|':1'"),
    (b"1 0x1:1", "1:3", "integer|'0x1:1'"),
    (b"1 2:1 2:1", "1:7", "increase|'2:1'|sort"),
    (b"1 3:1 2:1", "1:7", "increase|'2:1'|sort"),
    (b"1 3:", "1:5", "value|nothing"),
    (b"1 3: 4:1", "1:6", "value|'4:1'"),
    (b"1 3: \n1", "1:5", "value|nothing"),
    (b"1 3:  #4", "1:5", "value|nothing"),
    (b"1 3 :4", "1:3", "colon|'3'"),
    (b"1 3:#2", "1:5", "value|nothing"),
    (b"1 3", "1:3", "colon|'3'"),
    (b"1 1:1 3 4:1", "1:7", "colon|'3'"),
    (b"1 1:1\n  3:1", "2:3", "label|'3:1'"),
    (b"1 1:1\nyes 1:1", "2:1", "all numbers|got text ('yes')|alike"),
    (b"1 1:1\n0x1 1:1", "2:1", "got text ('0x1')"),
    (b"1 1:1\n1_0 1:1", "2:1", "got text ('1_0')"),
    (b"yes 1:1\n\n-1 1:1", "3:1", "got a number ('-1') where the first row has text"),
    (b"yes 1:1\nnan 1:1", "2:1", "label|finite|'nan'"),
    (b"C# 1:1", "1:1", "label|'C#'|rename"),
    (b"a 1:1\nC# 1:1", "2:1", "label|'C#'|rename"),
    (b"'a' 1:1", "1:1", "label|quotes"),
    (b"a\x0b 1:1", "1:1", "label"),
    (b"a\xff 1:1", "1:1", "UTF-8|0xff|iconv"),
    (b"a;2 1:1", "1:1", "label|'a;2'|CSV|give label"),
    (b"1|ns age:39", "1:1", "label|'1|ns'|hash_bits"),
    (b"\n3:1 5:2\n1:1", "2:1", "label|'3:1'|before the first feature|sample_weight"),
    (b"a:1 5:2\nb 1:1", "2:1", "every row|weight|'b'"),
    (b"a:1 5:2\nb:-1 1:1", "2:1", "weight|>= 0|'-1'"),
    (b"a:1 5:2\nb:inf 1:1", "2:1", "weight|finite|'inf'"),
    (b"a:1 5:2\nb:1e999 1:1", "2:1", "float64|'1e999'"),
    (b"a: 5:2", "1:1", "weight|nothing"),
    (b"a:1 5:2\n1:1 1:1", "2:1", "got a number ('1')"),
    (b"1,2 1:1", "1:1", "label|'1,2'|CSV|give label"),
    (b"nan 1:1", "1:1", "label|finite|'nan'"),
    (b"-Infinity 1:1", "1:1", "label|finite"),
    (b"1 1:nan", "1:5", "value|finite|'nan'"),
    (b"1 1:NaN(7)", "1:5", "value|finite"),
    (b"1 1:+inf", "1:5", "value|finite"),
    (b"1 1:-INF", "1:5", "value|finite"),
    (b"1 1:infinity", "1:5", "value|finite"),
    (b"1 1:1e999", "1:5", "float64|'1e999'"),
    (b"-1e999 1:1", "1:1", "float64|'-1e999'"),
    (b"1 1:1e99999999999999999999", "1:5", "float64"),
    (b"1 1:1e999 0:1", "1:5", "float64"),  # the first fault in the file is the one told
    (b"1 1:2abc", "1:5", "decimal|'2abc'"),
    (b"1 1:2:3", "1:5", "index:value|'2:3'|libffm"),
    (b"1 1:0x1", "1:5", "decimal|'0x1'"),
    (b"1 1:1_000", "1:5", "decimal|'1_000'"),
    (b"1 1:+", "1:5", "decimal|'+'"),
    (b"1 1:.", "1:5", "decimal|'.'"),
    (b"1 1:e5", "1:5", "decimal|'e5'"),
    (b"1 1:1e", "1:5", "decimal|'1e'"),
    (b"1 1:1e-", "1:5", "decimal|'1e-'"),
    (b"1 1:1e1.5", "1:5", "decimal|'1e1.5'"),
    (b"1 1:1.2.3", "1:5", "decimal|'1.2.3'"),
    (b"1 1:+-1", "1:5", "decimal|'+-1'"),
    (b"1 1:\xd9\xa1", "1:5", "decimal"),  # an Arabic digit, which float() would take
    (b"1 1:1\x0b2:1", "1:5", "decimal"),
    (b"1 qid:3 1:1", "1:3", "query|'qid:3'|remove"),
    (b"1 1:1\r1 2:1\r", "1:6", "CR without LF|convert"),
    (b"1 1:1\r\n1 1:1\r", "2:6", "CR without LF"),
    (b"1 1:1\n1 \x001:1", "2:3", "NUL"),
    (b"1 1:1 # \x00", "1:9", "NUL"),
    ("1 1:1\n".encode("utf-16-le"), "1:2", "NUL|UTF-16|iconv"),
    ("1 1:1\n".encode("utf-16-be"), "1:1", "NUL|UTF-16|iconv"),
    (b"\xef\xbb\xbf1 0:1", "1:6", "start at 1"),
    (b"1 |ns age:39", "1:3", "without a colon|hash_bits"),
]


@pytest.mark.parametrize(("text", "place", "words"), REFUSED, ids=[repr(text[:30]) for text, _, _ in REFUSED])
def test_a_broken_rule_is_told_with_its_place_and_what_was_found(text, place, words):
    message = refused(text)
    assert message.startswith(f"f:{place}: ")
    assert all(word in message for word in words.split("|")), message
    assert ", got " in message and "; " in message and len(message) < 300


@pytest.mark.parametrize("text", [b"", b"\n\n", b"# only a comment\n", b"\xef\xbb\xbf", gzip.compress(b"")])
def test_a_file_without_rows_is_refused(text):
    assert refused(text).startswith("f: a data file must have at least one row, got none; ")


def test_too_little_memory_is_out_of_space(monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(parsing, "parse", no_memory)
    with pytest.raises(OutOfSpace, match="f: "):
        svmlight.read_bytes(b"1 1:1", "f")


@pytest.mark.parametrize(
    ("text", "rows", "labels"),
    [
        (b"1 1:1", [{0: 1.0}], [1.0]),
        (b"\xef\xbb\xbf+1 1:1\n", [{0: 1.0}], [1.0]),
        (b"# head\n\n1 1:1 # tail 2:x\n  \t \n-1 2:2#x\n", [{0: 1.0}, {1: 2.0}], [1.0, -1.0]),
        (b"1 1:1\r\n\r\n-1 2:2\r\n", [{0: 1.0}, {1: 2.0}], [1.0, -1.0]),
        (b"  1   1:1\t\t2:2  \n", [{0: 1.0, 1: 2.0}], [1.0]),
        (b"1\n0 2:1\n-1", [{}, {1: 1.0}, {}], [1.0, 0.0, -1.0]),
        (b"2.5 007:0", [{6: 0.0}], [2.5]),
        (b"1 1:1.e1 2:.5 3:-.5e-1 4:+1E+2 5:1.", [{0: 10.0, 1: 0.5, 2: -0.05, 3: 100.0, 4: 1.0}], [1.0]),
        (b"# \xe9\xff any bytes\n1", [{}], [1.0]),
        (b"1 1: .5 2:\t \t3 4:1", [{0: 0.5, 1: 3.0, 3: 1.0}], [1.0]),  # as liblinear reads it
    ],
)
def test_what_the_format_allows_is_read(text, rows, labels):
    assert parse(text) == (rows, labels)


def test_zero_based_files_keep_their_columns():
    assert parse(b"1 0:1 2:1", zero_based=True) == ([{0: 1.0, 2: 1.0}], [1.0])
    assert "0 or more" in refused(b"1 -1:1", zero_based=True)


def test_the_width_is_the_largest_index_and_the_limit_holds_exactly():
    assert svmlight.read_bytes(b"1 5:1 7:1\n1 2:1", "f")[0].shape == (2, 7)
    assert svmlight.read_bytes(b"1", "f")[0].shape == (1, 0)
    assert svmlight.read_bytes(b"1 7:1", "f", limit=7)[0].shape == (1, 7)
    assert "limit 6" in refused(b"1 7:1", limit=6)
    with pytest.raises(UsageError, match="limit"):
        svmlight.read_bytes(b"1", "f", limit=10**18)


def test_indices_are_32_bits_where_they_fit_and_64_where_not():
    X, *_ = svmlight.read_bytes(b"1 1:1 2147483647:1", "f")
    assert X.indices.dtype == X.indptr.dtype == np.int32 and X.shape[1] == 2**31 - 1
    X, *_ = svmlight.read_bytes(b"1 1:1 5000000000:1", "f", limit=10**10)
    assert X.indices.dtype == np.int64 and X.indices.tolist() == [0, 4999999999]
    X, *_ = svmlight.read_bytes(b"1 1:1", "f", limit=10**10)
    assert X.indices.dtype == np.int32
    X, *_ = svmlight.read_bytes(b"1 2147483647:1", "f", zero_based=True)
    assert X.shape[1] == 2**31 and X.indices.tolist() == [2**31 - 1]


HARD = """
    0 -0 +0.0 1 -1 0.1 .1 1. 1e22 1e23 1e-22 1e-23 9007199254740992 9007199254740993 9007199254740991e22
    9007199254740993e-5 4503599627370497.5 1797693134862315.7e293 2.2250738585072014e-308 5e-324 2e-324 1e-400
    0e999 123456789012345678 1234567890123456789 12345678901234567890123 0.000000000000000000000000000001
    18446744073709551616 9223372036854775808 8.5e0 1e+5 1E-05 3.141592653589793238462643383279
    0.30000000000000004 6.02214076e+23 179769313486231570000e288 100000000000000000000000
    000000000000000000000000000001.5 0.0012345678901234567 0.00000000000000000000123456789012345678
    5e125 69e267 999e-26 7861e-34 75569e-54 928609e-61 9210917e80 84863171e114 653777767e27 5232604057e-29
    27235667517e-59 653532977297e-63 3142213164987e-44 46202199371337e-62 231010996856685e-63
    9324754620109615e32 78459735791271921e49 272104041512242479e60 6802601037806061975e58
    99999999999999999e64 999999999999999999e-64 100000000000000000e-17 500000000000000000e-18
"""  # some of them close to the middle of two float64 (Paxson, A Program for Testing IEEE Conversion, 1991)


def test_every_number_equals_pythons_float_to_the_last_bit():
    rng = np.random.default_rng(0)
    tokens = [*HARD.split(), "0." + "0" * 1000001 + "1e1000002", "1" + "0" * 400 + "e-400"]
    for value in (rng.standard_normal(400) * 10.0 ** rng.integers(-300, 300, 400)).tolist():
        tokens += [repr(value), f"{value:.3e}", f"{value:.25e}"]
    for mantissa in rng.integers(0, 2**54, 300).tolist():
        tokens += [
            f"{mantissa}e{rng.integers(-30, 30)}",
            f"{mantissa / 2**20:.8f}",
            f"-{mantissa}.{mantissa % 7}",
        ]
    for value in rng.random(300).tolist():  # the middle of two float64, as near as 17 and 18 digits come
        middle = (Decimal(value) + Decimal(math.nextafter(value, 2))) / 2
        tokens += [f"{middle:.{digits}e}" for digits in (16, 17)]
    exact = np.array([float(token) for token in tokens])
    X, y, *_ = svmlight.read_bytes("\n".join(f"{token} 3:{token}" for token in tokens).encode(), "f")
    assert np.array_equal(bits(y), bits(exact))
    assert np.array_equal(bits(X.data), bits(exact))


def assert_agrees_with_sklearn(path):
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    X, y, *_ = svmlight.read(path)
    expected_X, expected_y = sklearn_datasets.load_svmlight_file(str(path), zero_based=False)
    assert X.shape == expected_X.shape
    assert np.array_equal(X.indptr, expected_X.indptr) and np.array_equal(X.indices, expected_X.indices)
    assert np.array_equal(bits(X.data), bits(expected_X.data)) and np.array_equal(bits(y), bits(expected_y))


def test_a9a_reads_as_scikit_learn_reads_it(tmp_path):
    path = a9a()
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        path = tmp_path / "head"
        path.write_bytes(b"".join(a9a().read_bytes().splitlines(keepends=True)[:A9A_LINES]))
    assert_agrees_with_sklearn(path)


def test_generated_files_read_as_scikit_learn_reads_them(tmp_path):
    rng = np.random.default_rng(1)
    lines = []
    for row in range(300):
        columns = np.flatnonzero(rng.random(60) < 0.2) + 1
        forms = ("{:.17g}", "{:+.3e}", "{:.30f}", "{:E}", "{:.0f}")
        values = rng.standard_normal(len(columns)) * 10.0 ** rng.integers(-12, 12, len(columns))
        features = [f"{c}:{forms[(c + row) % 5].format(v)}" for c, v in zip(columns, values, strict=True)]
        lines.append(" ".join([str(rng.choice([-1, 1])), *features]))
    path = tmp_path / "generated"
    path.write_text("\n".join(lines))
    assert_agrees_with_sklearn(path)


def test_a_uint8_array_reads_as_its_bytes():
    X, y, *_ = svmlight.read_bytes(np.frombuffer(b"-1 2:4", np.uint8), "f")
    assert X.toarray().tolist() == [[0.0, 4.0]] and y.tolist() == [-1.0]


def test_fitting_columns_widens_and_narrows_and_counts_the_non_zeros_dropped():
    dense = np.array([[1.0, 0, 2], [0, 3, 0], [0, 0, 4]])
    X = csr_matrix(dense)
    wide, dropped = fit_columns(X, 5)
    assert dropped == 0 and np.array_equal(wide.toarray(), np.pad(dense, ((0, 0), (0, 2))))
    narrow, dropped = fit_columns(X, 2)
    assert dropped == 2 and np.array_equal(narrow.toarray(), dense[:, :2])
    assert fit_columns(X, 0)[0].shape == (3, 0)
    zero_stored = csr_matrix((np.array([1.0, 0.0]), np.array([0, 2]), np.array([0, 2])), shape=(1, 3))
    assert fit_columns(zero_stored, 2)[1] == 0
    with pytest.raises(UsageError, match="num_features"):
        fit_columns(X, -1)


def rows_of(text, **options):
    """(values (rows, columns), labels, weights) as lists."""
    X, y, weights, taken = svmlight.read_bytes(text, "f", **options)
    assert taken == len(text) and len(y) == X.shape[0]
    return X.toarray().tolist(), y.tolist(), weights if weights is None else weights.tolist()


@pytest.mark.parametrize(
    "labels", [["spam", "ham"], ["yes", "no"], ["TRUE", "FALSE"], ["+", "-"], ["<=50K", ">50K"]]
)
def test_labels_may_be_text(labels):
    text = f"# x\n\n{labels[0]} 1:1\n \t{labels[1]} 2:2 # no\r\n{labels[1]}".encode()
    X, y, weights = rows_of(text)
    assert (X, y, weights) == ([[1, 0], [0, 2], [0, 0]], [labels[0], labels[1], labels[1]], None)
    assert svmlight.read_bytes(text, "f").y.dtype == object


def test_what_only_looks_like_a_number_is_text_and_equal_numbers_are_one_label():
    assert rows_of("1_0 1:1\n0x10 1:1\n\uff11 1:1\nZo\xeb 1:1".encode())[1] == [
        "1_0",
        "0x10",
        "\uff11",
        "Zo\xeb",
    ]
    assert len(np.unique(svmlight.read_bytes(b"1 1:1\n+1 1:1\n1.0 1:1\n10e-1 1:1\n01", "f").y)) == 1


@pytest.mark.parametrize(
    ("text", "labels", "weights"),
    [
        (b"1:0.5 1:1\n1:2 3:1\n-1:0 2:1", [1, 1, -1], [0.5, 2, 0]),
        (b"2:0.5 3:1\n1:1 3:1 # c\n-1:1e-1", [2, 1, -1], [0.5, 1, 0.1]),  # the last row tells
        (b"0:3 4:1\n1:1 2:1", [0, 1], [3, 1]),  # 0 is no index where they start at 1
        (b"spam:3 4:1\nham:0.25", ["spam", "ham"], [3, 0.25]),
        (b"1.5:3 4:1\n2:12345678901234567890123", [1.5, 2], [3, 12345678901234567890123.0]),
    ],
)
@pytest.mark.parametrize("labelled", [True, False])
def test_a_weight_may_follow_the_label(text, labels, weights, labelled):
    assert rows_of(text, labelled=labelled)[1:] == (labels, weights)


@pytest.mark.parametrize(
    "text", [b"1:0.5 3:1\n2: .5", b"0:0.5 1:1\n0:1 3:1", b"#\n5:1", b"1: 0.5\n2:1 3:1\n"]
)
def test_rows_to_predict_need_no_labels(text):
    zero_based = text.startswith(b"0")
    X, y, weights = rows_of(text, labelled=False, zero_based=zero_based)
    with_labels = b"\n".join(b"1 " + line for line in text.splitlines() if line != b"#")
    assert rows_of(with_labels, zero_based=zero_based)[0] == X
    assert np.isnan(y).all() and weights is None
    assert "put the label before the first feature" in refused(text, zero_based=zero_based)
    assert rows_of(b"1 1:1\n2 1:1", labelled=False)[1] == [1, 2]
    assert "label every row, or none" in refused(b"3:1\n1 3:1", labelled=False)
    assert "before the first feature" in refused(b"1 3:1\n3:1", labelled=False)


@pytest.mark.parametrize("block", [1, 10, 1 << 24])
def test_labels_are_of_one_kind_across_blocks(block, tmp_path, monkeypatch):
    monkeypatch.setattr(svmlight, "BLOCK", block)
    path = tmp_path / "rows"

    def read(text, **options):
        path.write_bytes(text)
        blocks = list(svmlight.read_blocks(path, **options))
        return np.concatenate([each.y for each in blocks]).tolist()

    assert read(b"\n\nspam 1:1\n\n\nham 2:1\nspam") == ["spam", "ham", "spam"]
    assert np.isnan(read(b"1:1\n\n2:1\n3:1", labelled=False)).all()
    for text, place in [(b"\n\nspam 1:1\n# x\nham\n1 1:1", 6), (b"1 1:1\n2\nspam", 3), (b"a:1 1:1\n\nb", 3)]:
        with pytest.raises(DataError, match=rf"rows:{place}:1: "):
            read(text)
    for text in (b"1:1\n1 1:1", b"1:1\n\n1", b"1 1:1\n1:1"):
        with pytest.raises(DataError, match="label"):
            read(text, labelled=False)
