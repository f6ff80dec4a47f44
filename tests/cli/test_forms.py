"""Files in the forms that people have: each trains and predicts unchanged, and a model remembers its form."""

import csv
import hashlib
import io
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from processes import stdin

from shmps import LogisticRegression
from shmps.errors import DataError, UsageError
from shmps.models import formats

TRAIN = ["--workers", 1, "--solver", "lbfgs", "--l2", 1e-5, "--quiet"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(seed, count=60):
    """(a, b, whether a > b), never equal."""
    random = np.random.default_rng(seed)
    pairs = [(int(a), int(b)) for a, b in random.integers(-9, 10, (4 * count, 2)) if a != b]
    return [(a, b, a > b) for a, b in pairs[:count]]


def csv_of(rows, columns, labels, delimiter=",", header=True, empty=()):
    """A table of `columns`: a, b, job (text), label, weight, each what it says of a row, or an empty cell."""
    cells = {
        "a": lambda a, b, above: a,
        "b": lambda a, b, above: b,
        "job": lambda a, b, above: f"job {a}, {'above' if above else 'below'}",
        "label": lambda a, b, above: labels[above],
        "weight": lambda a, b, above: 2.5 if above else 0.5,
    }
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    if header:
        writer.writerow(columns)
    writer.writerows(["" if name in empty else cells[name](*row) for name in columns] for row in rows)
    return out.getvalue()


def lines(rows, line):
    return "".join(line(a, b, above) + "\n" for a, b, above in rows)


TRUTH = ("FALSE", "TRUE")
YES = ("no", "yes")
SIGNS = ("-1", "1")
# name of the file: labels; flags of train; the file; flags of predict; rows to predict, without labels
FORMS = {
    "yes_no.csv": (
        YES, (),
        lambda rows: csv_of(rows, ("a", "label", "b"), YES),
        lambda rows: csv_of(rows, ("a", "b"), YES),
    ),
    "true_false.csv": (
        TRUTH, ("--label", "label"),
        lambda rows: csv_of(rows, ("label", "a", "b"), TRUTH),
        lambda rows: csv_of(rows, ("b", "a", "label"), TRUTH, empty=("label",)),
    ),
    "semicolons.csv": (
        YES, ("--delimiter", ";"),
        lambda rows: csv_of(rows, ("a", "b", "label"), YES, ";"),
        lambda rows: csv_of(rows, ("b", "a"), YES, ";"),
    ),
    "tabs.tsv": (
        SIGNS, (),
        lambda rows: csv_of(rows, ("a", "b", "label"), SIGNS, "\t"),
        lambda rows: csv_of(rows, ("a", "b"), SIGNS, "\t"),
    ),
    "tabs.data": (
        SIGNS, ("--delimiter", r"\t", "--label", "label"),
        lambda rows: csv_of(rows, ("a", "b", "label"), SIGNS, "\t"),
        lambda rows: csv_of(rows, ("b", "a"), SIGNS, "\t"),
    ),
    "iris.data": (
        ("Iris-setosa", "Iris-virginica"), ("--no-header", "--label", "-1"),
        lambda rows: csv_of(rows, ("a", "b", "label"), ("Iris-setosa", "Iris-virginica"), header=False),
        lambda rows: csv_of(rows, ("a", "b"), SIGNS, header=False),
    ),
    "label_first.csv": (
        ("0", "1"), ("--no-header", "--label", "1"),
        lambda rows: csv_of(rows, ("label", "a", "b"), ("0", "1"), header=False),
        lambda rows: csv_of(rows, ("a", "b"), SIGNS, header=False),
    ),
    "weighted.csv": (
        YES, ("--weight-column", "weight"),
        lambda rows: csv_of(rows, ("weight", "a", "b", "label"), YES),
        lambda rows: csv_of(rows, ("b", "a"), YES),
    ),
    "text.csv": (
        YES, ("--hash-bits", "12"),
        lambda rows: csv_of(rows, ("a", "job", "b", "label"), YES),
        lambda rows: csv_of(rows, ("job", "b", "label", "a"), YES, empty=("label",)),
    ),
    "text_without_header.data": (
        YES, ("--hash-bits", "12", "--no-header", "--label", "2"),
        lambda rows: csv_of(rows, ("job", "label", "a"), YES, header=False),
        lambda rows: csv_of(rows, ("job", "a"), YES, header=False),
    ),
    "importance.vw": (
        SIGNS, ("--hash-bits", "12"),
        lambda rows: lines(rows, lambda a, b, above: f"{SIGNS[above]} {1.5 + above} |n a:{a} b:{b}"),
        lambda rows: lines(rows, lambda a, b, above: f"|n b:{b} a:{a}"),
    ),
    "tags.vw": (
        SIGNS, ("--hash-bits", "12", "--keep-names"),
        lambda rows: lines(rows, lambda a, b, above: f"{SIGNS[above]} 1.0 'row{a} |n a:{a} |m b:{b}"),
        lambda rows: lines(rows, lambda a, b, above: f"'row{a} |n a:{a} |m b:{b}"),
    ),
    "words.txt": (
        YES, ("--hash-bits", "12"),
        lambda rows: lines(rows, lambda a, b, above: f"{YES[above]} a:{a} b:{b} job={above}"),
        lambda rows: lines(rows, lambda a, b, above: f"| b:{b} a:{a} job={above}"),
    ),
    "text_labels.svm": (
        YES, (),
        lambda rows: lines(rows, lambda a, b, above: f"{YES[above]} 1: {a} 2:{b}"),
        lambda rows: lines(rows, lambda a, b, above: f"1:{a} 2:{b}"),
    ),
    "label_and_weight.svm": (
        ("0", "1"), (),
        lambda rows: lines(rows, lambda a, b, above: f"{int(above)}:{1.5 + above} 1:{a} 2:{b}"),
        lambda rows: lines(rows, lambda a, b, above: f"1:{a} 2:{b}"),
    ),
    "zero_based.svm": (
        ("0", "1"), ("--zero-based",),
        lambda rows: lines(rows, lambda a, b, above: f"{int(above)} 1:{a} 2:{b}"),
        lambda rows: lines(rows, lambda a, b, above: f"1:{a} 2:{b}"),
    ),
}  # fmt: skip


def needs(name):
    if name.endswith((".csv", ".tsv", ".data")):
        pytest.importorskip("pyarrow.csv")
    if "--hash-bits" in FORMS[name][1]:
        pytest.importorskip("sklearn")


@pytest.mark.parametrize("name", FORMS)
def test_a_file_as_people_have_it_trains_and_predicts_unchanged(name, shmps, here):
    needs(name)
    labels, flags, text, unlabelled = FORMS[name]
    new = rows(1, 30)
    suffix = os.path.splitext(name)[1]
    (here / name).write_text(text(rows(0)))
    (here / f"test{suffix}").write_text(text(new))
    (here / f"new{suffix}").write_text(unlabelled(new))
    done = shmps("train", "--data", name, "--test", f"test{suffix}", *flags, "--model", "m", *TRAIN)
    assert done.returncode == 0, done.stderr
    known = shmps("predict", "m", f"test{suffix}")
    assert known.stderr.startswith("accuracy "), known.stderr
    assert float(known.stderr.split()[1]) > 0.9 and set(known.stdout.split()) == set(labels)
    done = shmps("predict", "m", f"new{suffix}")
    assert (done.returncode, done.stdout, done.stderr) == (0, known.stdout, "")
    # The same from mapped data, which trains to the same bits.
    assert shmps("convert", name, "d", *flags).returncode == 0
    assert shmps("train", "--data", "d", "--test", f"test{suffix}", "--model", "n", *TRAIN).returncode == 0
    one, other = formats.load("m"), formats.load("n")
    assert one.coefficients.tobytes() == other.coefficients.tobytes() and one.labels == other.labels
    assert one.settings == other.settings
    assert shmps("predict", "n", f"new{suffix}").stdout == known.stdout


# What a model remembers of the text of training.


def train(shmps, *flags, model="m"):
    done = shmps("train", *flags, "--model", model, *TRAIN)
    assert done.returncode == 0, done.stderr
    return formats.load(model)


def accuracy(shmps, *arguments):
    done = shmps("predict", *arguments)
    assert done.returncode == 0, done.stderr
    return float(done.stderr.split()[1])


@pytest.fixture
def zero_based(here):
    """Two files with features that count from 0: train.svm, and test.svm in which no 0 happens to be."""
    one = lambda a, b, above: f"{int(above)} 0:{a} 1:{b}"  # noqa: E731
    (here / "train.svm").write_text(lines(rows(0), one))
    (here / "test.svm").write_text(lines([(0, b, b < 0) for b in (-5, -4, -1, 1, 3, 8)], lambda a, b, above: (
        f"{int(above)} 1:{b}"
    )))  # fmt: skip
    return ["--data", "train.svm", "--zero-based"]


def test_a_model_remembers_from_where_features_count(zero_based, shmps):
    assert shmps("convert", "train.svm", "d", "--zero-based").returncode == 0
    models = [train(shmps, *data, "--test", "test.svm") for data in (zero_based, ["--data", "d"])]
    assert models[0].coefficients.tobytes() == models[1].coefficients.tobytes()
    assert models[0].settings == models[1].settings and models[0].settings["zero_based"] is True
    assert accuracy(shmps, "m", "test.svm") == 1
    assert accuracy(shmps, "m", "test.svm", "--no-zero-based") < 1
    shown = shmps("inspect", "m").stdout
    assert "(from 0, largest magnitude first)" in shown
    # A model that another program made remembers nothing: the flag says it.
    formats.save(models[0], "m.liblinear")
    assert accuracy(shmps, "m.liblinear", "test.svm", "--zero-based") == 1
    assert shmps("inspect", "train.svm", "--zero-based").returncode == 0
    done = shmps("train", "--data", "train.svm", "--quiet")
    assert done.returncode == 3 and "--zero-based" in done.stderr
    done = shmps("train", "--data", "d", "--no-zero-based")
    assert (
        done.returncode == 2
        and "as it was converted, with --zero-based True, got --no-zero-based" in done.stderr
    )


@pytest.mark.parametrize("flags", [(), ("--hash-bits", "10")], ids=["by place", "hashed"])
def test_rows_to_predict_are_matched_by_the_names_of_their_columns(flags, shmps, here):
    needs("text.csv")
    (here / "train.csv").write_text(csv_of(rows(0), ("a", "b", "label"), YES))
    model = train(shmps, "--data", "train.csv", *flags)
    assert model.settings["columns"] == ["a", "b"]
    for name, columns in {"same": ("a", "b", "label"), "turned": ("label", "b", "a")}.items():
        (here / f"{name}.csv").write_text(csv_of(rows(1), columns, YES))
    expected = shmps("predict", "m", "same.csv", "--proba").stdout
    assert shmps("predict", "m", "turned.csv", "--proba").stdout == expected
    with stdin("turned.csv"):
        assert shmps("predict", "m", "-", "--proba").stdout == expected
    wrong = csv_of(rows(1), ("a", "b", "label"), YES).replace("a,b,label", "height,b,label")
    (here / "wrong.csv").write_text(wrong)
    shmps("convert", "wrong.csv", "wrong", *flags)
    for command in (
        ["predict", "m", "wrong.csv"],
        ["predict", "m", "wrong"],
        ["train", "--data", "train.csv", "--test", "wrong.csv", *flags],
    ):
        done = shmps(*command)
        assert done.returncode == 3 and "'a', 'b', in any order" in done.stderr, done.stderr
        assert "got no 'a' and also 'height'" in done.stderr
    shmps("convert", "turned.csv", "turned", *flags)
    done = shmps("predict", "m", "turned", "--proba")
    if flags:
        assert done.stdout == expected
    else:
        assert done.returncode == 3 and "in the order 'a', 'b', got 'b', 'a'" in done.stderr
    done = shmps("train", "--data", "turned.csv", "--test", "same.csv", *flags, "--quiet", "--json")
    assert done.returncode == 0 and shmps("inspect", "m", "--top", 2).stdout.count("columns    a, b") == 1


def test_a_warm_start_goes_by_the_names_of_the_columns(here):
    needs("text.csv")
    for name, columns in {"train": ("a", "b", "label"), "turned": ("b", "label", "a")}.items():
        (here / f"{name}.csv").write_text(csv_of(rows(0), columns, YES))
    settings = {"updater": "sgd", "batch_size": 0, "iterations": 3, "warm_start": True}
    straight, turned = (LogisticRegression(**settings).fit("train.csv") for _ in range(2))
    straight.fit("train.csv")
    turned.fit("turned.csv")
    np.testing.assert_allclose(turned.coef_[:, ::-1], straight.coef_, rtol=1e-9)
    (here / "other.csv").write_text(csv_of(rows(0), ("a", "b", "label"), YES).replace("b,", "c,", 1))
    with pytest.raises(DataError, match="unseen at fit time:\n- c\n"):
        straight.fit("other.csv")


def test_rows_whose_labels_a_model_lacks_get_no_metrics_but_a_line(shmps, here):
    (here / "train").write_text("".join(f"{each} 1:{each}\n" for each in (0, 1) * 20))
    (here / "other").write_text("0 1:1\n2 1:1\n")
    train(shmps, "--data", "train")
    done = shmps("predict", "m", "other")
    assert done.returncode == 0 and done.stdout.count("\n") == 2
    assert "no metrics" in done.stderr and "1 of 2 rows have others: [2.0]" in done.stderr, done.stderr
    assert shmps("predict", "m", "other", "--quiet").stderr == ""


@pytest.mark.parametrize(("name", "flags", "found"), [("rows.csv", [], "CSV"), ("rows", [10], "hashed")])
def test_that_indices_count_from_0_is_for_svmlight_text_alone(name, flags, found, shmps, here):
    needs("text.csv")
    (here / name).write_text("a,label\n1,0\n" if found == "CSV" else "0 a:1\n1 b:1\n")
    flags = [each for bits in flags for each in ("--hash-bits", bits)]
    for command in ("train", "--data", name), ("convert", name, "d"), ("inspect", name):
        done = shmps(*command, "--zero-based", *flags)
        assert done.returncode == 2 and "--zero-based" in done.stderr and found in done.stderr, done.stderr


def test_a_model_of_svmlight_text_whose_indices_count_from_0_predicts_csv(shmps, here):
    needs("text.csv")
    (here / "train").write_text("".join(f"{each} 0:{each}\n" for each in (0, 1) * 20))
    (here / "rows").write_text("y,a\n0,0\n1,1\n")
    train(shmps, "--data", "train", "--zero-based")
    done = shmps("predict", "m", "rows", "--label", "y")
    assert (done.returncode, done.stdout) == (0, "0\n1\n"), done.stderr


def test_columns_without_a_header_are_matched_by_their_number(shmps, here):
    needs("iris.data")
    columns = ("weight", "a", "label", "b")
    (here / "train").write_text(csv_of(rows(0), columns, YES, header=False))
    flags = ["--no-header", "--label", -2, "--weight-column", 1]
    model = train(shmps, "--data", "train", *flags)
    assert {name: model.settings[name] for name in ("label", "columns", "header", "weight_column")} == {
        "label": "3", "columns": ["2", "4"], "header": False, "weight_column": "1",
    }  # fmt: skip
    assert accuracy(shmps, "m", "train") > 0.9
    (here / "new").write_text(csv_of(rows(0), ("a", "b"), YES, header=False))
    assert shmps("predict", "m", "new").stdout == shmps("predict", "m", "train").stdout
    (here / "other").write_text(csv_of(rows(0), ("a", "label", "b"), YES, header=False))
    done = shmps("predict", "m", "other")
    assert done.returncode == 3 and "or its 2 features alone, got 3 columns" in done.stderr
    done = shmps("train", "--data", "train", "--no-header")
    assert done.returncode == 3 and "--label" in done.stderr and "-1 the last" in done.stderr
    done = shmps("train", "--data", "train", "--no-header", "--label", "9")
    assert done.returncode == 3 and "from 1 to 4, got '9'" in done.stderr


def test_kept_names_show_what_hashed_features_are_called(shmps, here):
    needs("text.csv")
    hashed = pytest.importorskip("sklearn.feature_extraction").FeatureHasher(2**10)
    (here / "train.csv").write_text(csv_of(rows(0), ("a", "b", "job", "label"), YES))
    flags = ["--hash-bits", 10, "--keep-names"]
    shmps("convert", "train.csv", "d", *flags)
    models = [train(shmps, "--data", *data) for data in (["train.csv", *flags], ["d"])]
    names = models[0].settings["names"]
    assert names == models[1].settings["names"]
    for name in ("a", "b", next(name for name in names if name.startswith("job="))):
        row = hashed.transform([{name: 1.0} if "=" not in name else {name.split("=")[0]: name.split("=")[1]}])
        assert names[name] == (row.indices[0] + 1) * row.data[0]
    shown = shmps("inspect", "m").stdout
    assert all((name if names[name] > 0 else f"-1*{name}") in shown.split() for name in ("a", "b"))
    assert len(shown) < 4000  # not all names
    done = shmps("train", "--data", "train.csv", "--keep-names")
    assert done.returncode == 2 and "--keep-names" in done.stderr and "--hash-bits" in done.stderr


def test_names_of_columns_are_shown(shmps, here):
    needs("yes_no.csv")
    (here / "train.csv").write_text(csv_of(rows(0), ("a", "b", "label"), YES))
    train(shmps, "--data", "train.csv")
    largest = json.loads(shmps("inspect", "m", "--json").stdout)["largest"]
    assert {each["names"][0]: each["feature"] for each in largest} == {"a": 1, "b": 2}
    assert "columns    a, b" in shmps("inspect", "train.csv").stdout


def test_models_and_folders_of_before_are_read(shmps, here):
    """Format 1 of mapped data; models that know label and hash_bits alone."""
    needs("yes_no.csv")
    (here / "train.csv").write_text(csv_of(rows(0), ("a", "b", "label"), ("0", "1")))
    model = train(shmps, "--data", "train.csv")
    older = {name: value for name, value in model.settings.items() if name != "columns"}
    formats.save(replace(model, settings=older), "older")
    expected = shmps("predict", "m", "train.csv").stdout
    assert shmps("predict", "older", "train.csv").stdout == expected
    assert shmps("inspect", "older").returncode == 0
    shmps("convert", "train.csv", "d")
    meta = json.loads((here / "d/meta.json").read_text())
    for name in ("classes", "columns", "sha256"):
        del meta[name]
    meta |= {"format": 1, "hash_bits": None}
    meta["sha256"] = hashlib.sha256(json.dumps(meta).encode()).hexdigest()
    (here / "d/meta.json").write_text(json.dumps(meta) + "\n")
    assert shmps("inspect", "d", "--verify").returncode == 0
    assert shmps("predict", "m", "d").stdout == expected
    other = train(shmps, "--data", "d", model="n")
    assert other.coefficients.tobytes() == model.coefficients.tobytes()


# Weights.


def test_weights_from_anywhere_train_alike_and_count_in_the_accuracy(shmps, here):
    needs("weighted.csv")
    weight = lambda above: 2.5 if above else 0.5  # noqa: E731
    (here / "column.csv").write_text(csv_of(rows(0), ("a", "b", "weight", "label"), ("0", "1")))
    (here / "plain.csv").write_text(csv_of(rows(0), ("a", "b", "label"), ("0", "1")))
    (here / "weights").write_text(lines(rows(0), lambda a, b, above: str(weight(above))))
    (here / "text.svm").write_text(
        lines(rows(0), lambda a, b, above: f"{int(above)}:{weight(above)} 1:{a} 2:{b}")
    )
    sources = {
        "column": ["--data", "column.csv", "--weight-column", "weight"],
        "file": ["--data", "plain.csv", "--weights", "weights"],
        "text": ["--data", "text.svm"],
        "class": ["--data", "plain.csv", "--class-weight", "1=2.5,0=0.5"],
    }
    models = {name: train(shmps, *flags, model=name) for name, flags in sources.items()}
    unweighted = train(shmps, "--data", "plain.csv")
    for model in models.values():
        np.testing.assert_allclose(model.coefficients, models["column"].coefficients, rtol=1e-9)
        assert not np.allclose(model.coefficients, unweighted.coefficients, rtol=1e-3)
    of_column = shmps("predict", "m", "column.csv", "--weight-column", "weight").stderr
    of_file = shmps("predict", "m", "plain.csv", "--weights", "weights").stderr
    majority = sum(2.5 * above for *_, above in rows(0)) / sum(2.5 if above else 0.5 for *_, above in rows(0))
    assert of_column == of_file and f"majority {majority:.4f}" in of_file
    assert f"majority {majority:.4f}" in shmps("predict", "text", "text.svm").stderr
    done = shmps("train", *sources["column"], "--test", "column.csv", "--json", "--workers", 1)
    assert json.loads(done.stdout)["metrics"]["baseline"] == pytest.approx(majority)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--weights", "few"], 3, "few: a file of weights must have a line for each of the 60 rows, got 1"),
        (["--weights", "bad"], 3, "bad:2: a weight must be >= 0, got '-1'"),
        (["--weights", "two"], 3, "two:3: a weight must be one decimal number, got '1 2'"),
        (["--weights", "mac"], 3, "mac:1:2: lines must end with LF or CR LF"),
        (["--weights", "none"], 3, "none: "),
        (["--weights", "few", "--weight-column", "weight"], 3, "come from one place"),
        (["--weights", "zeros"], 3, "--weights must be above zero in some row, got zero weight in all"),
        (["--weight-column", "w"], 3, "weights must be in the column 'w'"),
        (["--class-weight", "yes"], 2, "--class-weight: must be balanced, or LABEL=WEIGHT"),
        (
            ["--class-weight", "maybe=2"],
            2,
            "--class-weight must name labels of the training rows, ['no', 'yes']",
        ),
        (["--delimiter", ";;"], 2, "--delimiter must be one ASCII character"),
    ],
)
def test_weights_that_are_none_are_a_sentence(flags, code, words, shmps, here):
    needs("weighted.csv")
    (here / "train.csv").write_text(csv_of(rows(0), ("a", "b", "weight", "label"), YES))
    (here / "few").write_text("1\n")
    (here / "bad").write_text("1\n-1\n")
    (here / "two").write_text("1\n\n1 2\n")
    (here / "mac").write_text("1\r2\r")
    (here / "zeros").write_text("0\n" * 60)
    done = shmps("train", "--data", "train.csv", *flags, *TRAIN)
    assert done.returncode == code and words in done.stderr, done.stderr


def test_a_column_of_names_as_labels_is_told(shmps, here):
    (here / "names.svm").write_text("".join(f"name{at} 1:1 {at + 2}:1\n" for at in range(101)))
    done = shmps("train", "--data", "names.svm", "--iterations", 1, "--workers", 1)
    assert "202 non-zeros, 101 classes;" in done.stderr
    assert "101 classes in 101 rows" in done.stderr and "another column" in done.stderr
    (here / "letters.svm").write_text("".join(f"{at % 26} 1:1 {at % 26 + 2}:1\n" for at in range(52)))
    done = shmps("train", "--data", "letters.svm", "--iterations", 1, "--workers", 1)
    assert "26 classes;" in done.stderr and "another column" not in done.stderr


@pytest.mark.filterwarnings("always")
def test_a_model_remembers_that_labels_had_weights(shmps, here):
    (here / "train.svm").write_text("1:0.5 3:1 5:1\n-1:2 1:1 4:1\n" * 10)
    (here / "positive").write_text("1:0.5 3:1 5:1\n")  # one label with a weight, or three features
    (here / "weightless").write_text("1 3:1 5:1\n")
    assert shmps("convert", "train.svm", "d").returncode == 0
    for data in ("train.svm", "d"):
        done = shmps("train", "--data", data, "--test", "positive", "--model", "m", *TRAIN)
        assert done.returncode == 0, done.stderr
        done = shmps("predict", "m", "positive")
        assert done.returncode == 0 and "read as features without labels" in done.stderr
        assert "accuracy 1.0000" in shmps("predict", "m", "weightless").stderr
        assert "accuracy 1.0000" in shmps("predict", "m", "train.svm").stderr


def test_names_are_kept_of_hashed_features_alone(shmps, here):
    (here / "train.svm").write_text("1 3:1\n-1 1:1\n" * 9)
    done = shmps("train", "--data", "train.svm", "--keep-names", *TRAIN)
    assert done.returncode == 2 and "--keep-names must come with --hash-bits" in done.stderr


@pytest.mark.parametrize("form", ["yes=9,no=1", "balanced"])
def test_classes_have_weights_by_the_text_of_their_labels(form, shmps, here):
    needs("yes_no.csv")
    few = [row for row in rows(0, 200) if not row[2]] + [row for row in rows(0, 200) if row[2]][:9]
    (here / "train.csv").write_text(csv_of(few, ("a", "label"), YES))
    train(shmps, "--data", "train.csv")
    plain = shmps("predict", "m", "train.csv").stdout.split()
    train(shmps, "--data", "train.csv", "--class-weight", form)
    assert shmps("predict", "m", "train.csv").stdout.split().count("yes") > plain.count("yes")


def test_training_reads_stdin(shmps, here):
    (here / "train.svm").write_text(lines(rows(0), lambda a, b, above: f"{int(above)} 1:{a} 2:{b}"))
    expected = train(shmps, "--data", "train.svm")
    with stdin("train.svm"):
        model = train(shmps, "--data", "-", model="n")
    assert model.coefficients.tobytes() == expected.coefficients.tobytes()


# Messages.


@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        ("a;b;label\n1;2;yes\n", (), "the columns look separated by ';': say so with --delimiter ;"),
        ("a\tb\tlabel\n1\t2\t1\n", (), "--delimiter tab"),
        (
            "a,b,target\n1,2,1\n",
            (),
            "give --label, the column of the labels, or say that line 1 is a row: --no-header\n",
        ),
        ("5.1,3.5,1\n", (), "--no-header"),
        ("5.1,3.5,yes\n4,3,no\n", (), "--no-header"),
        (
            "a,job,label\n1,nurse,1\n",
            (),
            "'job' must be a finite number, got 'nurse'; correct it, or hash text with --hash-bits 18, or",
        ),
        ("a,label\n1,yes\n2,\n", (), "train.csv:3: a label in the column 'label' must be a number or text"),
        (
            "a,label\n1,yes\n2,1\n",
            (),
            "train.csv:3: a label in the column 'label' must be text, as in the rows before",
        ),
        (
            "1,yes\n2,1\n",
            ("--no-header", "--label", "2"),
            "train.csv:2: a label in the column '2' must be text",
        ),
    ],
)
def test_a_table_in_another_form_is_told_with_the_flag_that_reads_it(text, flags, words, shmps, here):
    needs("yes_no.csv")
    (here / "train.csv").write_text(text)
    done = shmps("train", "--data", "train.csv", *flags)
    assert done.returncode == 3 and words in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 0:1\n", "got '0:1'; if they start at 0, read the file with --zero-based\n"),
        ("1 {job}\n", "got '{job}' without a colon; add it, or hash names with --hash-bits\n"),
        ("a;{b} 1:1\n", "quotes, got 'a;{b}'; if this is CSV, give --label, the column of the labels\n"),
        ("3:1 5:2\n1:1\n", "give the weights apart, with --weights\n"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_told_with_the_flag_that_helps(text, words, shmps, here):
    (here / "rows").write_text(text)
    done = shmps("train", "./rows")
    assert done.returncode == 3 and done.stderr.endswith(words), done.stderr


# From Python, and when training is interrupted.


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_paths_are_read_as_the_training_rows_were(here):
    needs("weighted.csv")
    (here / "train.csv").write_text(csv_of(rows(0), ("a", "b", "label"), YES))
    (here / "test.csv").write_text(csv_of(rows(1), ("label", "b", "a"), YES))
    (here / "new.csv").write_text(csv_of(rows(1), ("b", "a"), YES))
    (here / "wrong.csv").write_text("a,c,label\n1,2,yes\n2,1,no\n")
    model = LogisticRegression(solver="lbfgs", workers=1).fit("train.csv", eval_set=("test.csv", None))
    X = np.array([(a, b) for a, b, _ in rows(1)], float)
    assert (
        model.predict("new.csv").tolist() == model.predict("test.csv").tolist() == model.predict(X).tolist()
    )
    assert model.score("test.csv") == model.result_.metrics.accuracy > 0.9
    for use in (model.predict, lambda path: LogisticRegression().fit("train.csv", eval_set=(path, None))):
        with pytest.raises(DataError, match="got no 'b' and also 'c'"):
            use("wrong.csv")


def test_weights_in_a_file_are_those_of_its_rows(here):
    one = lambda a, b, above: f"{int(above)}:{1 + above} 1:{a} 2:{b}"  # noqa: E731
    (here / "weighted.svm").write_text(lines(rows(0), one))
    X = np.array([(a, b) for a, b, _ in rows(0)], float)
    y = np.array([float(above) for *_, above in rows(0)])
    by_path = LogisticRegression(solver="lbfgs", workers=1).fit("weighted.svm", eval_set="weighted.svm")
    by_matrix = LogisticRegression(solver="lbfgs", workers=1).fit(X, y, 1 + y, eval_set=(X, y, 1 + y))
    assert by_path.coef_.tobytes() == by_matrix.coef_.tobytes()
    assert by_path.result_.metrics == by_matrix.result_.metrics
    assert by_path.score("weighted.svm") == by_matrix.score(X, y, 1 + y)
    with pytest.raises(UsageError, match="come from one place"):
        by_path.fit("weighted.svm", sample_weight=y)


def test_a_model_that_an_interrupt_left_remembers_its_text(shmps, here, monkeypatch):
    needs("semicolons.csv")
    (here / "train.csv").write_text(csv_of(rows(0), ("a", "b", "label"), YES, ";"))

    def stop(bar, evaluation):
        raise KeyboardInterrupt

    monkeypatch.setattr("shmps.cli.commands.train._Bar.on_evaluation", stop)
    flags = ["--delimiter", ";", "--epochs", 50, "--batch-size", 10, "--test-interval", 7, "--workers", 1]
    done = shmps("train", "--data", "train.csv", *flags, "--model", "m", "--quiet")
    assert done.returncode == 130 and "the model after iteration " in done.stderr
    assert formats.load("m").settings["delimiter"] == ";"
    assert accuracy(shmps, "m", "train.csv") > 0.5


class Table:
    """As much of a DataFrame as is looked at."""

    def __init__(self, values, columns):
        self.values, self.columns, self.shape = np.array(values, float), columns, (len(values), len(columns))

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


def ab_table(rows, columns):
    return Table([[{"a": a, "b": b}[name] for name in columns] for a, b, _ in rows], list(columns))


def test_rows_are_matched_by_name_whether_a_dataframe_or_csv_was_trained_on(shmps, here):
    train, y = rows(1), [above for *_, above in rows(1)]
    (here / "ba.csv").write_text(csv_of(train, ("b", "label", "a"), ("False", "True")))
    of_table = LogisticRegression(workers=1).fit(ab_table(train, "ab"), np.array(y).astype(str))
    of_csv = LogisticRegression(workers=1).fit("ba.csv")
    assert of_csv.feature_names_in_.tolist() == ["b", "a"]
    assert of_table.score("ba.csv") == of_table.score(ab_table(train, "ab"), np.array(y).astype(str)) > 0.9
    formats.save(of_table.model(), "m.shmps")
    predicted = shmps("predict", "m.shmps", "ba.csv")
    assert predicted.stdout.split() == of_table.predict(ab_table(train, "ab")).tolist()
    evaluated = LogisticRegression(workers=1).fit(
        ab_table(train, "ab"), np.array(y).astype(str), eval_set="ba.csv"
    )
    assert evaluated.result_.metrics.accuracy > 0.9
    for model, order in ((of_table, "ba"), (of_csv, "ab"), (of_table.model(), "ba"), (of_csv.model(), "ab")):
        with pytest.raises(DataError, match="order"):
            model.predict(ab_table(train, order))
    assert of_csv.model().predict(ab_table(train, "ba")).tolist() == of_csv.predict("ba.csv").tolist()


def test_a_model_of_a_dataframe_reads_svmlight_text_by_place(here):
    model = LogisticRegression(workers=1).fit(ab_table(rows(1), "ab"), [above for *_, above in rows(1)])
    (here / "x.svm").write_text(lines(rows(2), lambda a, b, above: f"1:{a} 2:{b}"))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        found = model.predict("x.svm")
    assert found.tolist() == model.predict(ab_table(rows(2), "ab")).tolist()


WITHOUT_HEADER = [*TRAIN, "--no-header", "--data", "train.csv", "--model", "m.shmps"]


@pytest.mark.parametrize("columns", [("label", "a", "b", "weight"), ("weight", "a", "b", "label")])
def test_without_a_header_it_must_be_known_which_columns_are_missing(shmps, here, columns):
    (here / "train.csv").write_text(csv_of(rows(1), columns, SIGNS, header=False))
    label, weight = (columns.index(name) + 1 for name in ("label", "weight"))
    flags = ["--label", label, "--weight-column", weight - 5]  # the same column, counted from the last
    assert shmps("train", *WITHOUT_HEADER, *flags).returncode == 0
    for others in (columns, ("a", "b")):
        (here / "new.csv").write_text(csv_of(rows(2), others, SIGNS, header=False))
        expected = [SIGNS[above] for *_, above in rows(2)]
        found = shmps("predict", "m.shmps", "new.csv").stdout.split()
        assert np.mean(np.array(found) == expected) > 0.9
    for others in (columns[:-1], columns[1:]):
        (here / "new.csv").write_text(csv_of(rows(2), others, SIGNS, header=False))
        refused = shmps("predict", "m.shmps", "new.csv")
        assert refused.returncode == 3
        assert "the 4 columns of training, or its 2 features alone, got 3 columns" in refused.stderr


def test_labels_and_weights_are_two_columns(shmps, here):
    (here / "train.csv").write_text(csv_of(rows(1), ("a", "b", "label"), ("1", "2")))
    refused = shmps("train", *TRAIN, "--data", "train.csv", "--weight-column", "label")
    assert refused.returncode == 3
    assert "labels and weights must be two columns, got 'label' for both" in refused.stderr
