"""`shmps train --cv` and `--l2-path`: how the penalty is chosen, and what is trained with it."""

import json

import numpy as np
import pytest

PATH = [1e-4, 1e-2, 1.0]


@pytest.fixture(autouse=True)
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    lines = []
    for _ in range(120):
        x = random.normal(size=3)
        label = 1 if random.random() < 1 / (1 + np.exp(-x.sum())) else -1
        lines.append(f"{label} 1:{x[0]:.3f} 2:{x[1]:.3f} 3:{x[2]:.3f}")
    (tmp_path / "rows").write_text("\n".join(lines))


def test_the_penalty_with_the_least_log_loss_is_trained_on_all_rows(shmps):
    done = shmps("train", "rows", "--json", "--cv", 3, "--l2-path", ",".join(map(str, PATH)))
    found = json.loads(done.stdout)
    losses = np.mean(found["cv"]["log_loss"], axis=1)
    chosen = PATH[losses.argmin()]
    assert found["settings"]["l2"] == pytest.approx(chosen)
    assert found["cv"]["chosen"] == found["cv"]["C"][losses.argmin()] == pytest.approx(1 / (120 * chosen))
    assert "cross-validation of 3 penalties in 3 folds:" in done.stderr and done.stderr.count("chosen") == 1
    alone = json.loads(shmps("train", "rows", "--json", "--l2", chosen).stdout)
    assert found["metrics"]["log_loss"] == pytest.approx(alone["metrics"]["log_loss"], rel=1e-6)


def test_either_flag_has_a_default_for_the_other(shmps):
    found = json.loads(shmps("train", "rows", "--json", "--cv", 2, "--quiet").stdout)["cv"]
    assert np.shape(found["log_loss"]) == (10, 2) and found["C"][-1] == pytest.approx(1e4)
    done = shmps("train", "rows", "--l2-path", "0.1")
    assert "cross-validation of 1 penalties in 5 folds:" in done.stderr and "log-loss" in done.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--cv 1", "--cv must be an integer >= 2, got 1"),
        ("--cv 3 --async", "--cv and --l2-path need full gradients, got flags that select minibatches"),
        (
            "--cv 3 --l2 0.1",
            "--cv and --l2-path choose the penalty, got --l2 0.1; leave out one or the other",
        ),
        ("--l2-path 0.1 --C 3", "--cv and --l2-path choose the penalty, got --C 3"),
        ("--l2-path 1,x", "argument --l2-path: must be numbers > 0, such as 1e-6,1e-4,1e-2, got '1,x'"),
        ("--l2-path 1,-1", "argument --l2-path: must be numbers > 0"),
    ],
)
def test_what_does_not_go_with_a_cross_validation_is_said(shmps, flags, said):
    done = shmps("train", "rows", *flags.split())
    assert done.returncode == 2 and said in done.stderr and not done.stdout
