"""Files of models: round trips are exact, damage is noticed, and an older model is never lost."""

import errno
import hashlib
import json
import math
import os
import resource
import stat
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from damage import overwrite

from shmps.errors import DataError, OutOfSpace
from shmps.models.formats import FORMATS, load, save
from shmps.models.model import Model
from shmps.system.container import HEADER_LIMIT
from shmps.version import __version__

SMALL = Model(np.array([0.5, -0.0, 1 / 3]), -0.1, (-1, 1), {"lambda1": 1e-4, "mode": "async"})


def same(a, b):
    """Whether two models agree in every bit and every type."""
    return (
        a.coefficients.dtype == b.coefficients.dtype == np.float64
        and a.coefficients.tobytes() == b.coefficients.tobytes()
        and a.intercept.hex() == b.intercept.hex()
        and [(type(label), label) for label in a.labels] == [(type(label), label) for label in b.labels]
        and json.dumps(a.settings) == json.dumps(b.settings)
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.model"


@pytest.fixture
def older(path):
    """The path of a saved model."""
    save(SMALL, path)
    return path


ARRAYS = SMALL.coefficients.tobytes() + np.float64(SMALL.intercept).tobytes()


def sealed(header, arrays=ARRAYS):
    """Return the bytes of a file with any header, but with the right digest of it."""
    text = json.dumps(header).encode()
    digest = hashlib.sha256(text).hexdigest().encode()
    return b"shmps model\n" + text[:-1] + b', "sha256": "' + digest + b'"}\n' + arrays


def header_of(file):
    header = json.loads(file.read_bytes().split(b"\n")[1])
    del header["sha256"]
    return header


def with_array(header, **changes):
    """Return the header with changes in the description of the coefficients."""
    coefficients = header["arrays"]["coefficients"] | changes
    return header | {"arrays": header["arrays"] | {"coefficients": coefficients}}


# --- the round trip ---


@pytest.mark.parametrize(
    "weights",
    [
        [],
        [0.0],
        [-0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1 / 3],
        np.random.default_rng(0).integers(0, 0x7FF0 << 48, 5000, dtype=np.int64).view(np.float64),
    ],
    ids=["none", "one", "edges", "random bits"],
)
@pytest.mark.parametrize("intercept", [0.0, -0.0, 0.1, -5e-324, 1.7976931348623157e308])
def test_a_loaded_model_is_the_saved_one_in_every_bit(path, weights, intercept):
    model = Model(np.array(weights, dtype=np.float64), intercept, (0, 1), {})
    save(model, path)
    assert same(load(path), model)


@pytest.mark.parametrize(
    "labels",
    [
        (0, 1),
        (-1.0, 1.0),
        (0.1, 1e300),
        (-math.inf, math.inf),
        (False, True),
        ("no", "yes"),
        ("", "\n\0 ü 日 \udcff"),
        (1, "1"),
        (0, True),
        (-(2**63), 2**100),
        (2, 1),
    ],
    ids=repr,
)
def test_labels_keep_their_values_and_types_in_the_file_and_in_predictions(path, labels):
    save(Model(np.ones(1), 0.0, labels, {}), path)
    model = load(path)
    expected = [labels[0], labels[1]]
    for found in (list(model.labels), model.predict(np.array([[-1.0], [1.0]])).tolist()):
        assert [(type(label), label) for label in found] == [(type(label), label) for label in expected]


@pytest.mark.parametrize(
    "settings",
    [{}, {"bound": math.inf, "n": 2**80, "x": 0.1, "none": None, "deep": {"list": [1, True, "ü\n"]}}],
)
def test_settings_come_back(path, settings):
    save(Model(np.zeros(1), 0.0, (0, 1), settings), path)
    assert load(path).settings == settings


def test_the_file_is_what_the_documentation_says(older):
    magic, line, rest = older.read_bytes().split(b"\n", 2)
    assert magic == b"shmps model"
    assert json.loads(line) == {
        "format": 2,
        "shmps": __version__,
        "labels": [["int", -1], ["int", 1]],
        "settings": SMALL.settings,
        "arrays": {
            "coefficients": {"dtype": "<f8", "count": 3, "sha256": hashlib.sha256(ARRAYS[:24]).hexdigest()},
            "intercept": {"dtype": "<f8", "count": 1, "sha256": hashlib.sha256(ARRAYS[24:]).hexdigest()},
        },
        "sha256": hashlib.sha256(json.dumps(header_of(older)).encode()).hexdigest(),
    }
    assert rest == ARRAYS


def test_equal_models_make_equal_files_and_paths_may_be_strings(tmp_path):
    save(SMALL, str(tmp_path / "a"))
    save(SMALL, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert same(load(str(tmp_path / "a")), SMALL)


def test_weights_of_any_layout_are_saved_in_order(path):
    weights = np.arange(20, dtype=">f4")[::-2]
    save(Model(weights, 0.0, (0, 1), {}), path)
    assert load(path).coefficients.tolist() == weights.tolist()


# --- damage ---


# Each single bit, and all bits of a byte.
@pytest.mark.parametrize("mask", [0xFF, *(1 << bit for bit in range(8))])
def test_every_changed_byte_is_noticed(older, mask):
    good = older.read_bytes()
    for i in range(len(good)):
        overwrite(older, good[:i] + bytes([good[i] ^ mask]) + good[i + 1 :])
        with pytest.raises(DataError) as caught:
            load(older)
        assert str(caught.value).startswith(f"{older}: "), i
        assert "got" in str(caught.value), i


def test_every_truncation_is_noticed(older):
    good = older.read_bytes()
    for length in range(len(good)):
        overwrite(older, good[:length])
        with pytest.raises(DataError, match=r"a\.model: .*got"):
            load(older)


@pytest.mark.parametrize("extra", [b"\0", b"\n", b"12345678", b"x" * 32, b"x" * 5000])
def test_appended_bytes_are_noticed(older, extra):
    older.write_bytes(older.read_bytes() + extra)
    with pytest.raises(DataError, match="has grown"):
        load(older)


def test_two_models_in_one_file_are_noticed(older):
    older.write_bytes(older.read_bytes() * 2)
    with pytest.raises(DataError, match="has grown"):
        load(older)


@pytest.mark.parametrize("version", [3, 10**30])
def test_a_newer_format_says_so(older, version):
    older.write_bytes(sealed(header_of(older) | {"format": version, "arrays": "unheard of"}))
    with pytest.raises(DataError, match=f"newer format {version}; upgrade"):
        load(older)


ZERO = ["int", 0]
WRONG_LABELS = [None, 1, [], [ZERO], [ZERO, ZERO], [ZERO, ["int", True]], [ZERO, ["list", []]], ["ab", "cd"]]
WRONG_FLOATS = [[ZERO, ["float", value]] for value in ("0x1p9999", "nan", "x", 1.0)]
WRONG_HEADERS: dict[str, list] = {
    "format": [0, -1, True, 1.0, "1", None],
    "labels": [*WRONG_LABELS, *WRONG_FLOATS, {"int": 0, "str": "1"}],
    "settings": [None, [], "x"],
    "arrays": [None, [], {}, "x", {"coefficients": 3, "intercept": 1}],
}
WRONG_ARRAYS = {"count": [-1, 3.0, True, "3", None, [3]], "dtype": ["|O", "<u8", None], "sha256": [None, "x"]}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in WRONG_HEADERS.items() for v in values])
def test_a_header_with_a_wrong_value_is_refused_though_the_digest_is_right(older, key, value):
    older.write_bytes(sealed(header_of(older) | {key: value}))
    with pytest.raises(DataError, match=r"a\.model: "):
        load(older)


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in WRONG_ARRAYS.items() for v in values])
def test_a_header_that_describes_an_array_wrongly_is_refused(older, key, value):
    older.write_bytes(sealed(with_array(header_of(older), **{key: value})))
    with pytest.raises(DataError, match=r"a\.model: "):
        load(older)


@pytest.mark.parametrize(("coefficients", "intercept"), [(2, 2), (4, 0)])
def test_arrays_that_do_not_fit_the_labels_are_refused(older, coefficients, intercept):
    cut = 8 * coefficients
    parts = {"coefficients": ARRAYS[:cut], "intercept": ARRAYS[cut:]}
    arrays = {
        name: {"dtype": "<f8", "count": len(part) // 8, "sha256": hashlib.sha256(part).hexdigest()}
        for name, part in parts.items()
    }
    assert arrays["intercept"]["count"] == intercept
    older.write_bytes(sealed(header_of(older) | {"arrays": arrays}))
    with pytest.raises(DataError, match="rules of its format"):
        load(older)


def test_a_header_with_an_unknown_kind_of_probabilities_is_refused(path):
    save(Model(np.zeros((3, 1)), np.zeros(3), (0, 1, 2), {"multi_class": "ovr"}), path)
    arrays = path.read_bytes().split(b"\n", 2)[2]
    path.write_bytes(sealed(header_of(path) | {"settings": {"multi_class": "softmin"}}, arrays))
    with pytest.raises(DataError, match=r"a\.model: .*must be 'ovr' or 'multinomial'.*got 'softmin'"):
        load(path)


@pytest.mark.parametrize("key", ["format", "labels", "settings", "arrays"])
def test_a_header_without_a_key_is_refused(older, key):
    header = header_of(older)
    del header[key]
    older.write_bytes(sealed(header))
    with pytest.raises(DataError, match=key):
        load(older)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"1",
        b"null",
        b"{",
        b"[" * 200_000,
        b"9" * 5000,
        b'{"format": 2, "count": 1' + b"0" * 5000,
        '{"format": "ü"}'.encode(),
        '{"format": 2}'.encode("utf-16"),
        b'{"format": 2}',
        b'{"sha256": "", "format": 2}',
    ],
    ids=lambda line: repr(line[:20]),
)
def test_a_header_that_is_no_object_of_ascii_json_is_refused(path, line):
    path.write_bytes(b"shmps model\n" + line + b"\n")
    with pytest.raises(DataError, match=r"a\.model: "):
        load(path)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused_in_a_file(older, weight):
    changed = np.array([0.0, weight, 0.0]).tobytes()
    header = with_array(header_of(older), sha256=hashlib.sha256(changed).hexdigest())
    older.write_bytes(sealed(header, changed + ARRAYS[24:]))
    with pytest.raises(DataError, match="finite"):
        load(older)


@pytest.mark.parametrize("start", [b"", b"\x80\x04", b"PK\5\6", b"shmps model\r\n", b"1 3:0.5\n", bytes(100)])
def test_a_file_of_another_kind_is_refused_by_its_first_bytes(path, start):
    path.write_bytes(start)
    with pytest.raises(DataError, match=f"must start as one of {', '.join(FORMATS)} does"):
        load(path)


@pytest.mark.parametrize("count", [10**9, 2**61, 2**63, 10**4000])
def test_a_header_cannot_ask_for_more_memory_than_the_file_has_bytes(older, count):
    older.write_bytes(sealed(with_array(header_of(older), count=count)))
    peak = peak_memory_of_refusal(older, "the header announces, got 32;|a count of entries must be")
    assert peak < 1 << 20


def test_a_header_without_an_end_is_not_read_past_its_limit(path):
    with open(path, "wb") as file:
        file.write(b"shmps model\n")
        file.truncate(1 << 30)  # a hole, which takes no space on the disk
    peak = peak_memory_of_refusal(path, "no end")
    assert peak < 8 * HEADER_LIMIT


def peak_memory_of_refusal(file, reason):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=reason):
            load(file)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "regular file"),
        (lambda path: os.mkfifo(path), "regular file"),
        (lambda path: path.symlink_to(path), "symbolic links"),
    ],
    ids=["missing", "folder", "pipe", "loop"],
)
def test_a_path_that_is_no_file_is_a_data_error_with_path_and_reason(path, make, reason):
    make(path)
    with pytest.raises(DataError, match=rf"a\.model: .*{reason}"):
        load(path)


def test_weights_that_do_not_fit_into_memory_are_out_of_space(older, monkeypatch):
    def full(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(OutOfSpace, match=r"a\.model"):
        load(older)


# --- saving ---


def fails(code):
    def call(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return call


def only_the_older_model_is_left(older):
    return [entry.name for entry in older.parent.iterdir()] == [older.name] and same(load(older), SMALL)


NEWER = Model(np.arange(7.0), 2.0, ("no", "yes"), {"epochs": 3})
ERRORS = [
    (errno.ENOSPC, OutOfSpace),
    (errno.EDQUOT, OutOfSpace),
    (errno.EIO, DataError),
    (errno.EFBIG, OutOfSpace),
    (errno.ENOMEM, OutOfSpace),
    (errno.EMFILE, OutOfSpace),
]


@pytest.mark.parametrize(("code", "error"), ERRORS)
def test_an_error_at_any_write_leaves_the_older_model_and_no_other_file(older, monkeypatch, code, error):
    real, calls = os.write, []

    def write(descriptor, data):
        # Few bytes per call, as if the disk were almost full.
        calls.append(len(data))
        if len(calls) == failing:
            raise OSError(code, os.strerror(code))
        return real(descriptor, bytes(data)[:11])

    monkeypatch.setattr(os, "write", write)
    failing = 1
    while True:
        calls.clear()
        try:
            save(NEWER, older)
        except error as caught:
            assert str(older) in str(caught) and os.strerror(code) in str(caught)
            assert only_the_older_model_is_left(older)
            failing += 1
        else:
            break
    assert failing > 20  # several times in the header, and in each array
    assert same(load(older), NEWER)


@pytest.mark.parametrize(("code", "error"), ERRORS)
@pytest.mark.parametrize("call", ["open", "fsync", "link", "replace"])
def test_an_error_of_any_other_step_leaves_the_older_model_and_no_other_file(
    older, monkeypatch, call, code, error
):
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fails(code))
        with pytest.raises(error, match=rf"a\.model: .*{os.strerror(code)}"):
            save(NEWER, older)
    assert only_the_older_model_is_left(older)


def test_an_error_on_closing_comes_after_the_bytes_are_on_the_disk_and_changes_nothing(older, monkeypatch):
    real = os.close

    def close(descriptor):
        real(descriptor)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", close)
        save(NEWER, older)
    assert same(load(older), NEWER) and os.listdir(older.parent) == [older.name]


def test_an_interrupt_leaves_the_older_model_and_no_other_file(older, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save(NEWER, older)
    assert only_the_older_model_is_left(older)


def test_a_limit_of_the_system_on_file_sizes_leaves_the_older_model(older):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OutOfSpace, match=r"File too large\); raise the limit \(ulimit -f\)"):
            save(Model(np.ones(1000), 0.0, (0, 1), {}), older)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert only_the_older_model_is_left(older)


def test_bytes_are_on_the_disk_before_the_file_gets_its_name(older, monkeypatch):
    steps: list[str] = []

    def recorded(name, real):
        def call(*args):
            steps.append(name)
            return real(*args)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))
    save(NEWER, older)
    assert steps == ["fsync", "replace"]


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [0, 2, "intercept"])
def test_weights_that_are_not_finite_are_not_saved(older, weight, where):
    weights = np.zeros(3)
    if where != "intercept":
        weights[where] = weight
    model = Model(weights, weight if where == "intercept" else 0.0, (0, 1), {})
    with pytest.raises(DataError, match=rf"got .*{where}") as caught:
        save(model, older)
    assert str(weight) in str(caught.value)
    assert only_the_older_model_is_left(older)


def test_settings_past_the_header_limit_are_not_saved(older):
    with pytest.raises(DataError, match=str(HEADER_LIMIT)):
        save(Model(np.zeros(1), 0.0, (0, 1), {"note": "x" * HEADER_LIMIT}), older)
    assert only_the_older_model_is_left(older)


def test_the_longest_header_that_is_saved_is_loaded(path):
    save(Model(np.zeros(1), 0.0, (0, 1), {"note": ""}), path)
    longest = HEADER_LIMIT - len(path.read_bytes().split(b"\n")[1]) - 1
    save(Model(np.zeros(1), 0.0, (0, 1), {"note": "x" * longest}), path)
    assert len(load(path).settings["note"]) == longest


def test_a_label_that_json_cannot_hold_is_a_data_error(older):
    with pytest.raises(DataError, match="JSON"):
        save(Model(np.zeros(1), 0.0, (0, 10**5000), {}), older)
    assert only_the_older_model_is_left(older)


def test_saving_into_a_missing_folder_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="No such file or directory"):
        save(SMALL, tmp_path / "none" / "a.model")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_or_device_is_never_replaced(path, make):
    make(path)
    with pytest.raises(DataError, match="regular file"):
        save(SMALL, path)
    assert not path.is_file()
    assert list(path.parent.iterdir()) == [path]


def test_saving_to_a_symbolic_link_replaces_what_it_points_to(older, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(older)
    save(NEWER, link)
    assert link.is_symlink()
    assert same(load(older), NEWER)


def test_the_umask_decides_who_may_read_the_file(path):
    before = os.umask(0o027)
    try:
        save(SMALL, path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_name_of_the_greatest_length_can_be_saved(tmp_path):
    save(SMALL, tmp_path / ("x" * 255))
    assert same(load(tmp_path / ("x" * 255)), SMALL)


def test_readers_see_a_whole_model_while_others_save_to_the_same_path(older):
    models = [Model(np.full(2000, float(i)), float(i), (0, 1), {}) for i in range(3)]

    def save_often(model):
        for _ in range(20):
            save(model, older)

    with ThreadPoolExecutor(len(models)) as pool:
        writers = [pool.submit(save_often, model) for model in models]
        while not all(writer.done() for writer in writers):
            load(older)
    for writer in writers:
        writer.result()
    final = load(older)
    assert any(same(final, model) for model in models)
    assert os.listdir(older.parent) == [older.name]
