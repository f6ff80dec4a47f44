"""The commands of the README's section on the command line run as they stand there."""

import contextlib
import gzip
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shmps.data import datasets

README = (Path(__file__).parent.parent / "README.md").read_text()
SECTION = README.split("## From the command line\n")[1].split("\n## ")[0]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
SHELL = {"|", ">", "<", ">labels"}  # words for which it takes one


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the files that the README speaks of are, small ones; and named sets are small ones too."""
    rng = np.random.default_rng(0)
    for name in ("train.svm", "test.svm"):
        rows = [f"{i % 2} {1 + i % 2}:1 {rng.integers(3, 9)}:{rng.random():.3f}" for i in range(120)]
        text = "\n".join(rows) + "\n"
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    people = [f"0.{i % 10},{('cook', 'nurse')[i % 2]},{i % 2}" for i in range(120)]
    (tmp_path / "people.csv").write_text("\n".join(["age,job,income", *people]))
    (tmp_path / "new.csv").write_text("age,job\n0.5,cook\n")
    wine = [f"7.{i % 10};{1 + i % 3};{('no', 'yes')[i % 2]}" for i in range(120)]
    (tmp_path / "wine.csv").write_text("\n".join(["acid;trust;good", *wine]))
    iris = [f"{i % 10}.1,0.{i % 7},{('setosa', 'virginica')[i % 2]}" for i in range(120)]
    (tmp_path / "iris.data").write_text("\n".join(iris))
    (tmp_path / "weights.txt").write_text("1\n0.5\n" * 60)
    (tmp_path / "fast.toml").write_text("async = true\nworkers = 2\nlearning-rate = 0.1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHMPS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    small = {name: replace(source, rows=600) for name, source in datasets.SOURCES.items()}
    monkeypatch.setattr(datasets, "SOURCES", small)
    return tmp_path


def commands(block):
    return [shlex.split(line, comments=True) for line in block.splitlines() if line]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("#")[0].strip()[:40])
def test_every_command_of_the_readme_ends_well(folder, shmps, block):
    if not block.startswith(("shmps train train.svm --test", "python run.py")):  # they use its model
        assert shmps("train", "--data", "train.svm", "--model", "m.shmps", "--quiet").returncode == 0
    for words in commands(block):
        if SHELL & set(words) or words[:2] == ["shmps", "bench"]:
            line = " ".join(word if word in SHELL else shlex.quote(word) for word in words)
            line = re.sub(r"'>(\w+)'", r">\1", line)
            assert in_a_shell(line, folder) == 0, line
        elif words[0] == "shmps":
            done = shmps(*words[1:])
            assert done.returncode == 0, (words, done.stderr)
        else:
            assert words[:2] == ["python", "run.py"]
            done = shmps("train", *words[2:])
            assert done.returncode == 0, (words, done.stderr)


def in_a_shell(line, folder):
    """As a person runs it: with a `shmps` on the path."""
    program = folder / "bin" / "shmps"
    program.parent.mkdir(exist_ok=True)
    root = Path(__file__).parent.parent
    start = "import sys; from shmps.cli.main import main; sys.exit(main())"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{start}' \"$@\"\n")
    program.chmod(0o755)
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": path}
    return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, timeout=60).returncode


def test_there_is_an_example_of_every_command():
    found = {words[1] for block in BLOCKS for words in commands(block) if words[0] == "shmps"}
    assert found == {"train", "predict", "convert", "inspect", "data", "bench"}


def test_the_script_for_the_shell_is_one(shmps):
    with contextlib.suppress(ImportError):
        import shtab  # noqa: F401

        script = shmps("--print-completion", "bash")
        assert script.returncode == 0 and "--learning-rate" in script.stdout
        checked = subprocess.run(["bash", "-n"], input=script.stdout, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr


def test_without_shtab_it_is_said_how_to_get_it(shmps, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    done = shmps("--print-completion", "bash")
    assert done.returncode == 2 and "pip install 'shmps[completion]'" in done.stderr
