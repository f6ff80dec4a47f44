"""The formats of models: all of them, liblinear's text against liblinear, and archives of numpy."""

import io
import math

import numpy as np
import pytest
import scipy.sparse as sp
from damage import overwrite

import shmps
from shmps.errors import DataError, UsageError
from shmps.models.formats import FORMATS, check, load, save
from shmps.models.model import Model
from shmps.system.container import HEADER_LIMIT

TRICKY = Model(np.array([0.5, -0.0, 1 / 3, 5e-324, -1.7e308]), 0.1, (-1, 1), {"mode": "async"})


def bits(model):
    return model.coefficients.tobytes(), model.intercept.hex(), model.labels


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("intercept", [0.1, 0.0, -3.0])
@pytest.mark.parametrize("features", [0, 1, 5])
def test_every_format_keeps_weights_intercept_and_labels(tmp_path, name, intercept, features):
    model = Model(TRICKY.coefficients[:features], intercept, TRICKY.labels, TRICKY.settings)
    save(model, tmp_path / "m", name)
    assert bits(load(tmp_path / "m")) == bits(model)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("intercept", [[0.1, -0.0, 1 / 3], [0.0, 0.0, 0.0]], ids=["intercept", "none"])
@pytest.mark.parametrize("features", [0, 1, 5])
def test_every_format_keeps_models_of_more_than_two_labels(tmp_path, name, intercept, features):
    weights = np.linspace(-1, 1, 3 * features).reshape(3, features) / 3
    model = Model(weights, intercept, (-1, 0, 7), TRICKY.settings)
    save(model, tmp_path / "m", name)
    found = load(tmp_path / "m")
    assert found.labels == model.labels and found.coefficients.tobytes() == weights.tobytes()
    np.testing.assert_array_equal(found.intercept, intercept)


@pytest.mark.parametrize(
    ("file", "name", "start"),
    [
        ("m", None, b"shmps model"),
        ("m.txt", None, b"shmps model"),
        ("m.shmps", None, b"shmps model"),
        ("m.liblinear", None, b"solver_type"),
        ("m.NPZ", None, b"PK"),
        ("m.npz", "liblinear", b"solver_type"),
        ("m.txt", "npz", b"PK"),
    ],
)
def test_the_suffix_selects_the_format_unless_it_is_named(tmp_path, file, name, start):
    save(TRICKY, tmp_path / file, name)
    assert (tmp_path / file).read_bytes().startswith(start)
    assert bits(load(tmp_path / file)) == bits(TRICKY)  # the name does not matter


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(UsageError, match=f"one of {', '.join(FORMATS)}, got 'onnx'"):
        save(TRICKY, tmp_path / "m", "onnx")
    with pytest.raises(UsageError, match=r"got LogisticRegression; of an estimator save estimator.model\(\)"):
        save(shmps.LogisticRegression(), tmp_path / "m")


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_saves_weights_that_are_not_finite(tmp_path, name):
    with pytest.raises(DataError, match="finite"):
        save(Model(np.array([math.inf]), 0.0, (0, 1)), tmp_path / "m", name)
    assert list(tmp_path.iterdir()) == []


# liblinear, through one of two bindings. The official one reads files by liblinear, but needs a compiler.


class Official:
    """The binding that comes with liblinear."""

    module = "liblinear.liblinearutil"

    def __init__(self, module):
        self._liblinear = module

    def train(self, X, y, solver, bias, path):
        model = self._liblinear.train(y, X, f"-s {solver} -B {bias} -q")
        self._liblinear.save_model(str(path), model)

    def predict(self, X, path):
        """Return the labels, and the probabilities of each row by label."""
        model = self._liblinear.load_model(str(path))
        labels, _, shares = self._liblinear.predict([], X, model, "-b 1 -q")
        return labels, [dict(zip(model.get_labels(), row, strict=True)) for row in shares]


class Pyliblinear(Official):
    module = "pyliblinear"

    def _matrix(self, X, y):
        rows = [{int(at) + 1: row[at] for at in np.flatnonzero(row)} for row in X.toarray().tolist()]
        return self._liblinear.FeatureMatrix.from_iterables(y, rows)

    def train(self, X, y, solver, bias, path):
        kind = self._liblinear.Solver({0: "L2R_LR", 6: "L1R_LR", 7: "L2R_LR_DUAL"}[solver])
        matrix = self._matrix(X, y.astype(int).tolist())
        self._liblinear.Model.train(matrix, kind, bias if bias >= 0 else None).save(str(path))

    def predict(self, X, path):
        model = self._liblinear.Model.load(str(path))
        found = model.predict(self._matrix(X, [0] * X.shape[0]), label_only=False, probability=True)
        return tuple(map(list, zip(*found, strict=True)))


@pytest.fixture(params=[Official, Pyliblinear])
def liblinear(request):
    return request.param(pytest.importorskip(request.param.module, reason="it is not installed"))


def rows_of(classes):
    """Return sparse rows (200, 6), some of them empty, and labels (200,), of which 3 is the first."""
    rng = np.random.default_rng(1)
    X = sp.random(200, 6, 0.5, "csr", random_state=rng)
    y = np.array([3, -1, 5])[np.argmax(X @ rng.normal(size=(6, classes)), axis=1)]
    return X, np.append(3, y[1:])


def assert_alike(model, X, labels, shares):
    assert model.predict(X).tolist() == labels
    theirs = [[row[label] for label in model.labels] for row in shares]
    np.testing.assert_allclose(model.predict_proba(X), theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("intercept", [True, False])
def test_liblinear_predicts_the_same_from_a_file_of_shmps(tmp_path, liblinear, classes, intercept):
    X, y = rows_of(classes)
    params = {"workers": 1, "solver": "lbfgs", "multi_class": "ovr", "fit_intercept": intercept}
    ours = shmps.LogisticRegression(**params).fit(X, y)
    save(ours.model(), tmp_path / "m.liblinear")
    assert_alike(ours.model(), X, *liblinear.predict(X, tmp_path / "m.liblinear"))


@pytest.mark.parametrize("solver", [(0, -1), (0, 1), (6, 2.5), (7, -1)], ids=["L2", "bias", "L1", "dual"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("sign", [1, -1])  # the first of two labels is the larger one, or the smaller one
def test_shmps_predicts_the_same_from_a_file_of_liblinear(tmp_path, liblinear, solver, classes, sign):
    X, y = rows_of(classes)
    liblinear.train(X, y * sign, *solver, tmp_path / "m")
    model = load(tmp_path / "m")
    assert sorted(model.labels) == sorted(set((y * sign).tolist()))
    assert model.settings["solver_type"] in ("L2R_LR", "L1R_LR", "L2R_LR_DUAL")
    assert_alike(model, X, *liblinear.predict(X, tmp_path / "m"))


GOOD = "solver_type L2R_LR\nnr_class 2\nlabel 1 -1\nnr_feature 2\nbias -1\nw\n0.5 \n-2 \n"


def test_the_text_is_liblinears(tmp_path):
    save(Model(np.array([0.5, -2.0]), 0.0, (-1.0, 1.0)), tmp_path / "m.liblinear")
    assert (tmp_path / "m.liblinear").read_text() == GOOD


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("L2R_LR", "L2R_L3LOSS", r"got 'L2R_L3LOSS' \(unknown to shmps\); train with -s 0, 6 or 7"),
        ("nr_class 2", "nr_class 3", "two or more classes, got nr_class 3"),
        ("label 1 -1", "label 1 1", "got nr_class 2, label 1 1"),
        ("label 1 -1", "label 1 -1 0", "got nr_class 2, label 1 -1 0"),
        ("nr_class 2\nlabel 1 -1", "nr_class 3\nlabel 1 -1 0", "announce 6 weights, got 2"),
        ("label 1 -1\n", "", "got no label"),
        ("nr_feature 2\n", "", "got no nr_feature"),
        ("bias -1", "bias -1\nrho 1\nrho 1", "once each"),
        ("nr_feature 2", "nr_feature 3", "announce 3 weights, got 2"),
        ("nr_feature 2", "nr_feature -1", "must be >= 0"),
        ("nr_feature 2", "nr_feature " + "9" * 900, "announce 9+ weights"),
        ("bias -1", "bias 1", "announce 3 weights, got 2"),
        ("bias -1", "bias nan", "a number"),
        ("bias -1", "bias -1\nbias -1", "once each"),
        ("bias -1", "rho 1", "got no bias"),
        ("bias -1", "gamma 1", r"once each, .*got b'gamma 1"),
        ("0.5", "inf", "finite"),
        ("0.5", "x", "must have numbers after keys, got: .*'x"),
        ("label 1 -1", "label 1 yes", "must have numbers after keys, got: .*'yes'"),
        ("\nw\n", "\n", "once each, then w"),
    ],
)
def test_a_text_that_breaks_a_rule_is_refused(tmp_path, old, new, words):
    (tmp_path / "m").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(DataError, match=f"m: .*{words}"):
        load(tmp_path / "m")


# liblinear's solvers by number, with the names of linear.cpp.
SOLVERS = {
    1: "L2R_L2LOSS_SVC_DUAL", 2: "L2R_L2LOSS_SVC", 3: "L2R_L1LOSS_SVC_DUAL", 4: "MCSVM_CS",
    5: "L1R_L2LOSS_SVC", 11: "L2R_L2LOSS_SVR", 12: "L2R_L2LOSS_SVR_DUAL", 13: "L2R_L1LOSS_SVR_DUAL",
    21: "ONECLASS_SVM",
}  # fmt: skip


@pytest.mark.parametrize("number", SOLVERS)
def test_models_of_liblinears_other_solvers_are_refused_by_their_kind(tmp_path, number):
    text = GOOD.replace("L2R_LR", SOLVERS[number])
    if number >= 11:
        text = text.replace("label 1 -1\n", "")
    if number == 21:
        text = text.replace("bias -1", "bias -1\nrho 0.5")
    (tmp_path / "m").write_text(text)
    kind = "support vector" if number < 10 else "regression" if number < 20 else "one class"
    with pytest.raises(DataError, match=rf"got '{SOLVERS[number]}' \(.*{kind}.*\); train with -s 0, 6 or 7"):
        load(tmp_path / "m")


@pytest.mark.parametrize("number", [1, 4, 5, 11, 13])
def test_models_of_other_solvers_that_liblinear_wrote_are_refused(tmp_path, number):
    liblinear = pytest.importorskip("pyliblinear", reason="it is not installed")
    matrix = liblinear.FeatureMatrix.from_iterables([1, -1, 1], [{1: 1.0}, {2: 1.0}, {1: 2.0}])
    liblinear.Model.train(matrix, liblinear.Solver(SOLVERS[number])).save(str(tmp_path / "m"))
    with pytest.raises(DataError, match=rf"got '{SOLVERS[number]}'"):
        load(tmp_path / "m")


@pytest.mark.parametrize("labels", [("no", "yes"), (0.5, 1.0), (0, 2**31), (-math.inf, math.inf)])
def test_labels_that_liblinear_cannot_hold_are_refused(tmp_path, labels):
    with pytest.raises(DataError, match="whole numbers of 32 bits, got"):
        save(Model(np.zeros(1), 0.0, labels), tmp_path / "m.liblinear")


# Archives of numpy.


@pytest.mark.parametrize(
    "labels", [(0, 1), (-1.0, 1.0), (False, True), ("nein", "ja ü"), (-(2**63), 2**63 - 1)]
)
def test_an_archive_keeps_labels_types_and_settings(tmp_path, labels):
    model = Model(np.ones(1), 0.5, labels, {"bound": math.inf, "deep": {"list": [1, None, "ü"]}})
    save(model, tmp_path / "m.npz")
    again = load(tmp_path / "m.npz")
    assert [(type(label), label) for label in again.labels] == [(type(label), label) for label in labels]
    assert again.settings == model.settings


@pytest.mark.parametrize("labels", [(1, "1"), (0, 2**64), ("a", "a\0"), (0, 0.5)])
def test_labels_that_no_array_of_one_type_holds_are_refused(tmp_path, labels):
    with pytest.raises(DataError, match="of one type"):
        save(Model(np.zeros(1), 0.0, labels), tmp_path / "m.npz")


def test_an_archive_is_read_by_numpy_alone(tmp_path):
    save(TRICKY, tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as archive:
        assert sorted(archive) == ["coefficients", "intercept", "labels", "settings"]
        assert archive["coefficients"].tobytes() == TRICKY.coefficients.tobytes()


def test_no_damage_of_an_archive_is_a_traceback_or_another_model(tmp_path):
    save(TRICKY, tmp_path / "good.npz")
    good, path = (tmp_path / "good.npz").read_bytes(), tmp_path / "m.npz"
    path.touch()
    damaged = [good[:cut] for cut in range(0, len(good), 3)]
    damaged += [good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :] for at in range(len(good))]
    refused = 0
    for data in damaged:
        overwrite(path, data)
        try:
            assert bits(load(path)) == bits(TRICKY)  # bytes without a meaning, such as a time
        except DataError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ")
    assert refused > len(good)


@pytest.mark.parametrize(
    "arrays",
    [
        {"coefficients": np.ones((2, 2))},
        {"coefficients": np.array([object()])},
        {"coefficients": np.array([math.nan])},
        {"labels": np.array([0, 1, 2])},
        {"settings": np.array("[")},
        {"settings": np.array("[]")},
        {"intercept": np.array(["x"])},
        {},
    ],
    ids=repr,
)
def test_an_archive_of_something_else_is_refused(tmp_path, arrays):
    good = {
        "coefficients": np.ones(1),
        "intercept": 0.0,
        "labels": np.array([0, 1]),
        "settings": np.array("{}"),
    }
    made = io.BytesIO()
    np.savez(made, **(good | arrays if arrays else {"x": np.ones(1)}))
    (tmp_path / "m").write_bytes(made.getvalue())
    with pytest.raises(DataError, match="m: "):
        load(tmp_path / "m")


def test_settings_that_no_header_holds_are_refused_before_training(tmp_path):
    labels, settings = tuple(map(float, range(22_000))), {"columns": ["x" * HEADER_LIMIT]}
    check(labels, str(tmp_path / "model"), None)
    with pytest.raises(DataError, match=r"the header must have at most .*, got .*; save in another format"):
        check(labels, str(tmp_path / "model"), None, settings)
    check(labels, str(tmp_path / "model.npz"), None, settings)
