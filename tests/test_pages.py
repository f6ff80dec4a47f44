"""The pages: their snippets run and print what is shown; the paths, names and links in them exist."""

import contextlib
import gzip
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import DEADLINE

import shmps as package
from bench import __main__ as bench
from shmps.data import named_sets

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
# All but the findings, which `python -m bench report` makes.
DOCS = [
    page for page in sorted((ROOT / "docs").rglob("*.md")) if "findings" not in str(page.relative_to(ROOT))
]
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS]
ABOUT_CODE = [page for page in PAGES if page.parent.name in ("build", "design") or page.parent == ROOT]
BLOCK = re.compile(r"^```(python|sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SET_UP = ("[ -d .venv ]", "python3 -m venv", "pip install", ".venv/bin/")  # not run; the first by .ci/run

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path) -> list[tuple[str, int, str]]:
    """Return the language, the line number and the text of each snippet."""
    text = page.read_text()
    return [(found[1], text.count("\n", 0, found.start(2)), found[2]) for found in BLOCK.finditer(text)]


def in_backticks(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text()))


def commands(text: str) -> list[list[str]]:
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if not line.startswith(SET_UP)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the pages name. They, and the named data sets, are small."""
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
    small = {name: replace(source, rows=600) for name, source in named_sets.SOURCES.items()}
    monkeypatch.setattr(named_sets, "SOURCES", small)
    return tmp_path


@each_page
def test_the_snippets_of_a_page_run_in_order(page, folder, shmps):
    names, printed, before = {"__name__": "page"}, io.StringIO(), ""
    for language, line, text in blocks(page):
        if language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * line + text, page, "exec"), names)
        elif language == "sh":
            for words in commands(text):
                run(words, folder, shmps)
        elif before == "python":
            assert printed.getvalue() == text, f"{page}:{line}"
        before = language


def run(words: list[str], folder: Path, shmps) -> None:
    """Run a command: in this process, unless it is a pipeline, or `bench`, which replaces its process, or is
    given a limit on the memory of its process.
    """
    if words[:2] == ["python", "run.py"]:
        words = ["shmps", "train", *words[2:]]
    target = words.pop() if words[-1].startswith(">") else None
    if "|" in words or words[1] == "bench" or "--memory" in words:
        done = in_a_shell(" ".join(word if word == "|" else shlex.quote(word) for word in words), folder)
    else:
        assert words[0] == "shmps", f"{words} is no command that a test runs"
        done = shmps(*words[1:])
    assert done.returncode == 0, (words, done.stderr)
    if target is not None:
        (folder / target[1:]).write_text(done.stdout)


def in_a_shell(line: str, folder: Path) -> subprocess.CompletedProcess:
    """Run a line in bash, with a `shmps` on the path."""
    program = folder / "bin" / "shmps"
    program.parent.mkdir(exist_ok=True)
    start = "import sys; from shmps.cli.main import main; sys.exit(main())"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{start}' \"$@\"\n")
    program.chmod(0o755)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": path}
    return subprocess.run(
        ["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=DEADLINE
    )


def test_there_is_an_example_of_every_command():
    lines = [words for page in PAGES for language, _, text in blocks(page) if language == "sh"
             for words in commands(text)]  # fmt: skip
    assert {words[1] for words in lines if words[0] == "shmps"} == {
        "train", "simulate", "predict", "convert", "inspect", "data", "bench",
    }  # fmt: skip


def test_the_readme_fits_in_150_lines():
    assert len(README.read_text().splitlines()) <= 150


@each_page
def test_the_paths_on_a_page_exist(page):
    ours = re.compile(
        r"(shmps|bench|tests|docs|data|\.ci)/[\w./-]*|[A-Z]+\.md|run\.py|setup\.cfg|pyproject\.toml"
    )
    paths = [path for path in in_backticks(page) if ours.fullmatch(path)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", ABOUT_CODE, ids=lambda page: page.name)
def test_the_names_of_code_on_a_page_exist(page):
    """Classes and attributes in backticks, and the first column of tables, occur in the package."""
    sources = [*(ROOT / "shmps").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    known = {word for source in sources for word in re.findall(r"\w+", source.read_text())}
    names = [name for name in in_backticks(page) if re.fullmatch(r"[A-Z]\w+(\.\w+)*", name)]
    for column in re.findall(r"^\|([^|]*)\|", page.read_text(), re.MULTILINE):
        names += re.findall(r"`(\w+)`", column)
    assert [name for name in names if not known.issuperset(name.split("."))] == []


@each_page
def test_the_benchmarks_on_a_page_exist(page):
    listed = {line.split()[0] for line in bench.listing().splitlines()}
    assert set(re.findall(r"python -m bench (\w+)", page.read_text())) <= listed


@each_page
def test_the_links_of_a_page_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!http)([^)#\s]*)(?:#([\w-]+))?\)", text):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_reference_has_every_public_name():
    reference = (ROOT / "docs" / "api.rst").read_text()
    names = [name for name in package.__all__ if name != "__version__"]
    assert [name for name in names if not re.search(rf"\b{name}\b", reference)] == []
