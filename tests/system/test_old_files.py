"""Files that shmps 0.1.0 wrote (see tests/old_files/make.py) load, and every changed byte is an error."""

import hashlib
import json
import zlib

import numpy as np
import pytest
from damage import overwrite
from old_files.make import TEXT
from processes import ROOT

from shmps.data import mapped
from shmps.errors import DataError
from shmps.linear import checkpoint
from shmps.models.formats import load, save
from shmps.models.links import ONE_AGAINST_REST
from shmps.version import __version__

OLD = ROOT / "tests" / "old_files"
MODELS = "two-labels.shmps", "three-labels.shmps"


@pytest.fixture
def path(tmp_path):
    (tmp_path / "p").touch()
    return tmp_path / "p"


def damaged(data):
    yield from (data[:length] for length in range(len(data)))
    yield from (data + b"\0", data * 2)
    for flip in (1, 32, 255):  # 32: another case of the same letter
        for place in range(len(data)):
            yield data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]


def test_models_load_in_every_bit(path):
    two, three = (load(OLD / name) for name in MODELS)
    assert two.coefficients.tobytes() == np.array([0.5, -0.0, 1 / 3]).tobytes()
    assert (two.intercept, two.labels) == (-0.1, ("no", 1.5))
    assert two.settings == {"mode": "async", "bound": np.inf}
    assert three.coefficients.tobytes() == np.array([[0.5, -0.0], [1 / 3, 5e-324], [-2, 1e308]]).tobytes()
    assert (three.intercept.tolist(), three.labels) == ([0.1, -0.0, 3.0], (-1, 0, 7))
    assert three.link == ONE_AGAINST_REST
    for model in (two, three):
        save(model, path)
        assert path.read_bytes().split(b"\n")[1].startswith(b'{"format": 2')
        assert load(path).coefficients.tobytes() == model.coefficients.tobytes()
        assert (load(path).labels, load(path).settings) == (model.labels, model.settings)


@pytest.mark.parametrize("name", MODELS)
def test_every_damage_of_a_model_is_an_error(name, path):
    for data in damaged((OLD / name).read_bytes()):
        overwrite(path, data)
        with pytest.raises(DataError, match=r"p: .*got"):
            load(path)


WRONG_IN_MODELS = [
    ("num_features", [-1, 3.0, True, "3", None, [3], 2**61, 10**4000]),
    ("labels", [None, 1, [], [["int", 0]], [["int", 0], ["int", True]], ["ab", "cd"]]),
    ("intercept", [None, 1.0, "x", "nan", "0x1p9999", []]),
    ("settings", [None, []]),
]


@pytest.mark.parametrize(("key", "value"), [(key, each) for key, wrong in WRONG_IN_MODELS for each in wrong])
def test_a_wrong_header_of_a_model_is_an_error_though_the_digest_is_right(key, value, path):
    magic, line, rest = (OLD / MODELS[0]).read_bytes().split(b"\n", 2)
    body = b"\n".join([magic, json.dumps(json.loads(line) | {key: value}).encode(), rest[:-32]])
    path.write_bytes(body + hashlib.sha256(body).digest())
    with pytest.raises(DataError, match="p: "):
        load(path)


def test_a_checkpoint_loads_in_every_bit_and_every_damage_is_an_error(path):
    found = checkpoint.read(str(OLD / "checkpoint-0"))
    assert found.header["serial"] == 0 and found.header["settings"] == {"mode": "sync", "workers": 2}
    assert found.copy.weights.tolist() == [[0.5], [-1 / 3], [0.25]]
    assert found.copy.state.tolist() == [[1e-4], [2.0], [0.0]]
    assert (found.copy.ages.tolist(), found.copy.versions.tolist()) == ([1.5], [7])
    assert found.copy.ticks.tolist() == [3, 4]
    for data in damaged((OLD / "checkpoint-0").read_bytes()):
        overwrite(path, data)
        with pytest.raises(DataError, match=r"p: .*got"):
            checkpoint.read(str(path))


WRONG_IN_CHECKPOINTS = [
    ("sizes", [[2**40, 1, 1, 1, 2], [3, 2**60, 1, 1, 2], [3.0, 1, 1, 1, 2], [-3, -1, 1, 1, 2], "many", None]),
    ("crcs", [[], None]),
    ("serial", [None]),
    ("settings", [1]),
]


@pytest.mark.parametrize(
    ("key", "value"), [(key, each) for key, wrong in WRONG_IN_CHECKPOINTS for each in wrong]
)
def test_a_wrong_header_of_a_checkpoint_is_an_error_though_the_crc_is_right(key, value, path):
    magic, line, _, rest = (OLD / "checkpoint-0").read_bytes().split(b"\n", 3)
    start = magic + b"\n" + json.dumps(json.loads(line) | {key: value}).encode() + b"\n"
    path.write_bytes(start + b"%08x\n" % zlib.crc32(start) + rest)
    with pytest.raises(DataError, match="p: "):
        checkpoint.read(str(path))


def test_mapped_data_loads_and_a_conversion_still_writes_the_same_bytes(tmp_path):
    folder = OLD / "rows.shmps"
    mapped.verify(folder)
    X, y = mapped.load(folder)
    assert X.toarray().tolist() == [[0.5, 0, -2], [0, 1e-3, 0], [1, 0, 0]] and y.tolist() == [1, -1, 1]
    (tmp_path / "text").write_text(TEXT)
    mapped.convert(tmp_path / "text", tmp_path / "d")
    newer, older = mapped.describe(tmp_path / "d"), mapped.describe(folder)
    assert list(newer.items()) == list((older | {"shmps": __version__}).items())
    for path in folder.glob("*.npy"):  # with their headers, which depend on the version of numpy
        assert (tmp_path / "d" / path.name).read_bytes() == path.read_bytes()
