"""CSV: what is read is what its cells say, wherever blocks are cut; what is no table is refused by line."""

import csv
import gzip
import importlib.util
import lzma
import os
import sys

import numpy as np
import pytest
from processes import stdin
from scipy.sparse import csr_matrix

from shmps import LogisticRegression
from shmps.data import csv as csv_files
from shmps.data import datasets, mapped
from shmps.data.dialect import Dialect
from shmps.data.reading import read
from shmps.errors import DataError, UsageError
from shmps.models import formats
from shmps.system.memory import own_memory

if importlib.util.find_spec("pyarrow") is None:  # each test imports it: see `conftest.LARGE`
    pytest.skip("pyarrow is not installed", allow_module_level=True)

NUMERIC = b"""\xef\xbb\xbfage,"height, cm",label ,none
39,1.5,1,0
 -0.0 ,"2e3" ,-1,0

"0",\t.5,+1 ,0
7.,0,0,-0\r
\r
1e-320,123456789012345678901234567890,1,0"""
MIXED = b"""age,job,label,city
39,nurse,1,Rome
4e1,"say ""hm"", Joe",0,
0,39,1,Zo\xc3\xab
nan,1e999,-1, Rome\xc2\xa0
1_0,0x10,2,inf
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(data, name="data.csv"):
    with open(name, "wb") as file:
        file.write(data)
    return name


def dicts(data):
    """The rows as Python's own reader has them: numbers where cells are finite ones, else text."""
    lines = [line for line in data.decode("utf-8-sig").split("\n") if line.strip("\r")]
    header, *rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    return [dict(zip(header, map(number, row), strict=True)) for row in rows]


def number(cell):
    try:
        return float(cell) if np.isfinite(float(cell)) and "_" not in cell else cell
    except ValueError:
        return cell


def same(found, expected):
    (X, y), (other_X, other_y) = found, expected
    assert X.shape == other_X.shape
    np.testing.assert_array_equal(X.indptr, other_X.indptr)
    np.testing.assert_array_equal(X.indices, other_X.indices)
    assert X.data.tobytes() == other_X.data.tobytes() and y.tolist() == list(other_y)


def both(path, **names):
    """Read, and the same converted."""
    mapped.convert(path, "data.shmps", **names)
    X, y, weights, _ = read(path, Dialect(**names))
    same(mapped.load("data.shmps"), (X, y))
    assert mapped.load("data.shmps")[0].origin.kept() == X.origin.kept()
    assert (mapped.weights("data.shmps") is None) == (weights is None)
    return X, y


@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz"), (lzma.compress, ".xz")])
@pytest.mark.parametrize("block", [1, 40, 2**22])
def test_numbers_are_features_in_the_order_of_the_columns(pack, suffix, block, monkeypatch):
    monkeypatch.setattr(csv_files, "BLOCK", block)
    X, y = both(write(pack(NUMERIC), f"DATA.CSV{suffix}"))
    rows = dicts(NUMERIC)
    expected = csr_matrix([[row[name] for name in ("age", "height, cm", "none")] for row in rows])
    same((X, y), (expected, [row["label"] for row in rows]))
    assert X.shape == (5, 3) and X.nnz == 7 and y.tolist() == [1, -1, 1, 0, 1]


@pytest.mark.parametrize("block", [1, 1000, 2**22])
def test_random_numbers_are_read_to_the_last_bit(block, monkeypatch):
    monkeypatch.setattr(csv_files, "BLOCK", block)
    random = np.random.default_rng(0)
    values = random.standard_normal((200, 9)) * 10.0 ** random.integers(-300, 300, (200, 9))
    values[random.random((200, 9)) < 0.3] = 0
    lines = [",".join(["label", *"abcdefgh"]), *(",".join(map(repr, row)) for row in values.tolist())]
    X, y = both(write("\n".join(lines).encode()))
    same((X, y), (csr_matrix(values[:, 1:]), values[:, 0]))


@pytest.mark.parametrize("block", [1, 40, 2**22])
@pytest.mark.parametrize("bits", [1, 5, 18])
def test_columns_are_hashed_as_scikit_learn_hashes_names_and_their_values(bits, block, monkeypatch):
    extraction = pytest.importorskip("sklearn.feature_extraction")
    monkeypatch.setattr(csv_files, "BLOCK", block)
    X, y = both(write(MIXED), hash_bits=bits)
    rows = dicts(MIXED)
    labels = [row.pop("label") for row in rows]
    assert rows[3] == {"age": "nan", "job": "1e999", "city": "Rome"} and rows[1]["city"] == ""
    same((X, y), (extraction.FeatureHasher(2**bits).transform(rows), labels))


def test_a_row_has_the_same_features_whatever_is_beside_it():
    pytest.importorskip("sklearn")
    header, *lines = MIXED.splitlines(keepends=True)
    X = read(write(MIXED), Dialect(hash_bits=18)).X
    for row, line in enumerate(lines):
        alone = read(write(header + line, "one.csv"), Dialect(hash_bits=18)).X
        assert (alone != X[row]).nnz == 0


def test_a_line_may_be_longer_than_a_block(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(csv_files, "BLOCK", 2**16)
    X, y, *_ = read(write(b"a,label\n" + b"x" * 2**21 + b",1\n" * 2 + b"2,0\n"), Dialect(hash_bits=4))
    assert X.nnz == 3 and y.tolist() == [1, 1, 0]


@pytest.mark.parametrize("label", ["age", "label", "none"])
def test_any_column_has_the_labels_and_says_that_it_is_csv(label):
    X, y = both(write(NUMERIC, "data.txt"), label=label)
    rows = dicts(NUMERIC)
    assert y.tolist() == [row.pop(label) for row in rows]
    assert X.toarray().tolist() == [list(row.values()) for row in rows]
    assert X.origin.label == label and mapped.describe("data.shmps")["label"] == label


def test_csv_is_what_ends_so():
    for name in ("rows.csv.svm", "csv"):
        assert read(write(b"1 1:2\n0 2:1\n", name)).X.nnz == 2


REFUSED = [
    # text, line, key words
    (b"age,income\n1,2\n", 1, "labels must be in the column 'label'|'age', 'income'|give label"),
    (b"5.1,3.5,0\n4.9,3,1\n", 1, "name the columns|'5.1', '3.5', '0'|add such a line"),
    (b"\n1,2\n", 1, "name the columns"),
    (b",a,label\n0,1,1\n", 1, "a name|column 1|index=False"),
    (b"a,b, a,label\n1,2,3,1\n", 1, "differ|'a' twice"),
    (b"label\n1\n", 1, "features|none"),
    (b"a,label\n\n1,1\n1,1,1\n", 4, "each of the 2 columns|got 3"),
    (b"a,label\n1,1\n1\n1,1\n", 3, "each of the 2 columns|got 1"),
    (b"a,label\n1,1\n \n", 3, "each of the 2 columns|got 1"),
    (b'a,label\n1,1\n"1\n",1\n', 3, "open quote|line ends"),
    (b'a,label\n1,1\n"1,1\n', 3, "open quote"),
    (b'a,"la\nbel"\n1,1\n', 1, "open quote"),
    (b"a,label\n1,1\n\n2,yes\n", 4, "label|'label'|a number, as in the rows before|'yes'|alike"),
    (b"a,label\n1,yes\n2,1\n", 3, "label|'label'|text, as in the rows before|'1'|alike"),
    (b"a,label\n1,\n", 2, "label|a number or text|''|leave the row out"),
    (b"a,label\n1,nan\n", 2, "label|'nan'"),
    (b"a,b,label\n1,2,1\r\n\r\n1,,1\r\n", 4, "'b'|finite number|''|hash_bits=18"),
    (b"a,b,label\n1,2,1\n1,red,1\nblue,1,1\n", 3, "'b'|'red'|hash_bits=18"),
    (b"a,label\n1e999,1\n", 2, "'a'|finite|'1e999'"),
    (b"a,label\n1,1\n1_0,1\n", 3, "'a'|'1_0'"),
    (b"a,label\n1,1\n\xff,1\n", 3, "UTF-8|0xff|iconv"),
    (b"\xff,label\n1,1\n", 1, "UTF-8|0xff"),
    (b"a,label\n1,1\n1\x00,1\n", "3:2", "NUL"),
    (b"a,label\n1,1\r1,1\n", "2:4", "CR without LF"),
    ("a,label\n1,1\n".encode("utf-16"), None, "UTF-16"),
    (b"", None, "at least one row"),
    (b"a,label\n\n", None, "at least one row"),
]


@pytest.mark.parametrize(("text", "line", "words"), REFUSED)
@pytest.mark.parametrize("block", [1, 2**22])
def test_what_is_no_table_is_refused_with_its_line(text, line, words, block, here, monkeypatch):
    monkeypatch.setattr(csv_files, "BLOCK", block)
    path = write(text)
    for use in (read, lambda path: mapped.convert(path, "out")):
        with pytest.raises(DataError) as caught:
            use(path)
        message = str(caught.value)
        assert message.startswith("data.csv: " if line is None else f"data.csv:{line}: "), message
        assert all(word in message for word in words.split("|")), message
    assert os.listdir(here) == ["data.csv"]


def test_blocks_are_all_that_is_in_memory(monkeypatch):
    monkeypatch.setattr(csv_files, "BLOCK", 2**16)
    write(b"a,b,c,d,label\n" + b"1.5,2.5,0,1,1\n2.5,1.25,0,2,0\n" * 200_000)
    seen: list[int] = []
    mapped.convert("data.csv", "data.shmps", on_progress=lambda done, planned: seen.append(own_memory()))
    assert len(seen) > 50 and max(seen[5:]) - seen[5] < 2**22  # of 6 MB of text, 30 MB of arrays


def test_without_pyarrow_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.csv", None)
    with pytest.raises(UsageError, match=r"pip install 'shmps\[csv\]'"):
        read(write(NUMERIC))


# Training and prediction.


def people(rows, seed, label="income"):
    """A table that can be learned, of text and numbers."""
    random = np.random.default_rng(seed)
    lines = [f"age,job,{label}" if label else "age,job"]
    for age, job in zip(random.random(rows), random.choice(["cook", "nurse", "judge"], rows), strict=True):
        lines.append(f"{age:.3f},{job}" + f",{int(age > 0.5 and job != 'cook')}" * bool(label))
    return "\n".join(lines).encode()


def points(rows, seed, label="label"):
    random = np.random.default_rng(seed)
    lines = [",".join(filter(None, ["a", label, "b"]))]
    for a, b in random.integers(-9, 9, (rows, 2)).tolist():
        lines.append(",".join([str(a), *[str(int(a > b))] * bool(label), str(b)]))
    return "\n".join(lines).encode()


TRAIN = ["--workers", 2, "--l2", 1e-5, "--solver", "lbfgs", "--intercept", "--quiet"]


def test_a_table_trains_as_its_matrix_does():
    path = write(points(300, 0))
    X, y, *_ = read(path)
    by_path, by_matrix = (
        LogisticRegression(epochs=2).fit(*data) for data in ((path,), (csr_matrix(X.toarray()), y))
    )
    assert by_path.coef_.tobytes() == by_matrix.coef_.tobytes()
    assert by_path.model().settings == by_matrix.model().settings | {
        "label": "label",
        "columns": ["a", "b"],
    }
    data = datasets.load(path, test=path)
    same((data.test_X, data.test_y), (X, y))


def test_rows_to_predict_need_no_labels(shmps):
    write(points(300, 0), "train.csv")
    flags = ["--data", "train.csv", "--test", "train.csv", "--model", "m", *TRAIN]
    assert shmps("train", *flags).returncode == 0
    with_labels = shmps("predict", "m", write(points(50, 1), "test.csv"))
    assert with_labels.stderr.startswith(("accuracy 0.9", "accuracy 1.0"))
    without = shmps("predict", "m", write(points(50, 1, label=None), "new.csv"))
    assert without.stdout == with_labels.stdout and (without.returncode, without.stderr) == (0, "")
    done = shmps("inspect", "new.csv")
    assert done.returncode == 3 and "got the columns 'a', 'b'" in done.stderr


def test_a_model_reads_rows_to_predict_as_those_it_was_trained_on(shmps):
    pytest.importorskip("sklearn")
    write(people(300, 0), "train.csv")
    write(people(50, 1), "test.csv")
    names = ["--label", "income", "--hash-bits", 10]
    assert shmps("convert", "train.csv", "train.shmps", *names).returncode == 0
    assert "1,024" in shmps("inspect", "train.csv", *names).stdout
    for data, model in (("train.csv", "m"), ("train.shmps", "other")):
        done = shmps("train", "--data", data, "--test", "test.csv", *names, "--model", model, *TRAIN)
        assert done.returncode == 0, done.stderr
    models = [formats.load(name) for name in ("m", "other")]
    assert models[0].coefficients.tobytes() == models[1].coefficients.tobytes()
    assert models[0].settings == models[1].settings
    expected = shmps("predict", "m", "test.csv")
    assert expected.stderr.startswith("accuracy 1.0") and len(expected.stdout.splitlines()) == 50
    assert shmps("convert", "test.csv", "test.shmps", *names).returncode == 0
    write(people(50, 1, label=""), "new.csv")
    for data in ("test.shmps", "new.csv"):
        assert shmps("predict", "m", data).stdout == expected.stdout
    assert shmps("predict", "m", "test.csv", "--label", "job").returncode == 3


def test_csv_from_stdin_or_of_any_name_is_read_as_that_of_training(shmps):
    write(points(300, 0), "points")
    assert shmps("train", "--data", "points", "--label", "label", "--model", "m", *TRAIN).returncode == 0
    expected = shmps("predict", "m", write(points(50, 1), "test.csv")).stdout
    write(points(50, 1, label=None), "new")
    assert shmps("predict", "m", "new").stdout == expected
    with stdin("new"):
        assert shmps("predict", "m", "-").stdout == expected


def test_names_in_any_text_are_hashed_as_the_model_has_them(shmps):
    pytest.importorskip("sklearn")
    text = b"".join(b"%d job=%d age:0.%d\n" % (i % 2, i % 2, i % 7) for i in range(60))
    write(text, "named")
    assert shmps("train", "--data", "named", "--hash-bits", 8, "--model", "m", *TRAIN).returncode == 0
    expected = shmps("predict", "m", "named").stdout
    assert expected == "0\n1\n" * 30
    with stdin("named"):
        assert shmps("predict", "m", "-").stdout == expected


def test_a_column_that_a_flag_of_predict_names_must_be_there(shmps):
    write(points(60, 0), "train.csv")
    assert shmps("train", "--data", "train.csv", "--model", "m", *TRAIN).returncode == 0
    write(b"b,a\n1,2\n", "new.csv")
    assert shmps("predict", "m", "new.csv").returncode == 0  # the model's own label column may be missing
    for flag in ("--label", "--weight-column"):
        done = shmps("predict", "m", "new.csv", flag, "nope")
        assert done.returncode == 3 and f"{flag} must name a column of the data" in done.stderr
        assert "'nope'" in done.stderr and done.stdout == ""


def test_a_message_lists_a_few_of_many_columns(shmps):
    names = [f"column{number}" for number in range(50)]
    write(f"{','.join(names)},label\n{'1,' * 50}1\n{'2,' * 50}0\n".encode(), "wide.csv")
    done = shmps("train", "--data", "wide.csv", "--label", "nope")
    assert "'column9', ... (51 columns)" in done.stderr and "column10" not in done.stderr


def test_other_columns_or_bits_than_those_of_training_are_refused(shmps):
    pytest.importorskip("sklearn")
    write(points(60, 0), "train.csv")
    assert shmps("train", "--data", "train.csv", "--model", "m", *TRAIN).returncode == 0
    wider = write(points(60, 0).replace(b"\n", b",0\n").replace(b",0\n", b",c\n", 1) + b",0", "wider.csv")
    for command in (
        ["predict", "m", wider],
        ["train", "--data", "train.csv", "--test", wider],
    ):
        done = shmps(*command)
        assert done.returncode == 3 and "of training, 'a', 'b', in any order; got also 'c'" in done.stderr
    done = shmps("predict", "m", "train.csv", "--hash-bits", 8)
    assert done.returncode == 3 and "must have the 2 features of training, got" in done.stderr
    shmps("convert", "train.csv", "train.shmps", "--hash-bits", 8)
    done = shmps("train", "--data", "train.shmps", "--hash-bits", 9)
    assert done.returncode == 2 and "converted, with --hash-bits 8, got --hash-bits 9" in done.stderr
    done = shmps("train", "--data", "a9a", "--hash-bits", 9)
    assert done.returncode == 2 and "must be given for a file only, got a9a" in done.stderr
