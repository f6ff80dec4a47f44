"""No traceback reaches a person, whatever a command is given, and whatever becomes of its output."""

import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT, alive

from shmps.models import formats
from shmps.models.model import Model

READ = ("0", "63")  # its number on x86-64, on aarch64
ROWS = "".join(f"{i % 2} {1 + i % 2}:1\n" for i in range(40))
BAD = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "loop": lambda path: path.symlink_to(path),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "cut gzip": lambda path: path.write_bytes(gzip.compress(ROWS.encode())[:-20]),
    "only magic": lambda path: path.write_bytes(b"shmps model\n"),
    "only liblinear": lambda path: path.write_bytes(b"solver_type L2R_LR\n"),
    "only zip": lambda path: path.write_bytes(b"PK\3\4" + bytes(100)),
}
USES = {
    "train": ("train", "--quiet", "--data", "./bad"),
    "test": ("train", "--quiet", "--data", "rows", "--test", "bad"),
    "resume": ("train", "--quiet", "--data", "rows", "--resume", "bad"),
    "config": ("train", "--config", "bad"),
    "predict": ("predict", "model", "bad"),
    "model": ("predict", "bad", "rows"),
    "inspect": ("inspect", "bad"),
    "verify": ("inspect", "--verify", "bad"),
    "convert": ("convert", "bad", "out"),
    "hashed": ("convert", "bad", "out", "--hash-bits", "8"),
    "csv": ("train", "--quiet", "--data", "./bad", "--label", "y"),
    "hashed csv": ("convert", "bad", "out", "--label", "y", "--hash-bits", "8"),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows").write_text(ROWS)
    formats.save(Model(np.array([-1.0, 1.0]), 0.0, (0.0, 1.0)), "model")
    return tmp_path


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("use", USES)
def test_a_bad_file_is_a_sentence_that_names_it(shmps, here, use, bad):
    if (use, bad) == ("config", "empty"):
        pytest.skip("an empty configuration is one")
    if "hashed" in use:
        pytest.importorskip("sklearn")
    if "csv" in use:
        pytest.importorskip("pyarrow.csv")
    BAD[bad](here / "bad")
    done = shmps(*USES[use])
    assert done.returncode == 3 and done.stdout == "", done.stderr
    assert done.stderr.startswith("shmps: ") and "bad" in done.stderr
    assert not (here / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("use", USES)
def test_a_file_that_may_not_be_read_is_a_sentence(shmps, here, use):
    (here / "bad").write_text(ROWS)
    (here / "bad").chmod(0)
    done = shmps(*USES[use])
    assert done.returncode == 3 and "bad" in done.stderr


PRINTING = {
    "help": ["--help"],
    "predict": ["predict", "model", "rows"],
    "inspect": ["inspect", "model"],
    "data": ["data"],
}


def process(arguments, **streams):
    program = "import sys; from shmps.cli.main import main; sys.exit(main())"
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    environment.pop("PYTHONUNBUFFERED", None)  # argparse ignores what it can not write at once
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        **streams,
    )


@pytest.mark.parametrize("arguments", PRINTING.values(), ids=PRINTING)
def test_an_output_that_nobody_reads_ends_quietly(arguments):
    read, write = os.pipe()
    os.close(read)
    with process(arguments, stdout=write) as ended:
        os.close(write)
        errors = ended.stderr.read()
    assert ended.returncode == 1 and b"Traceback" not in errors and b"Exception" not in errors, errors


@pytest.mark.parametrize("arguments", PRINTING.values(), ids=PRINTING)
def test_an_output_without_room_is_a_sentence(arguments):
    with open("/dev/full", "w") as full, process(arguments, stdout=full) as ended:
        errors = ended.stderr.read()
    assert ended.returncode == 6 and b"No space left" in errors
    assert b"Traceback" not in errors and b"Exception" not in errors


def test_a_closed_stdin_is_a_sentence(here):
    with process(["predict", "model", "-"], preexec_fn=lambda: os.close(0), stdout=subprocess.PIPE) as ended:
        errors = ended.stderr.read()
    assert ended.returncode == 3 and b"closed" in errors and b"Traceback" not in errors


@pytest.mark.parametrize("arguments", [["predict", "model", "-"], ["convert", "-", "out"]], ids=" ".join)
def test_ctrl_c_while_it_reads_is_a_sentence(here, arguments):
    with process(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as waiting:
        waiting.stdin.write(b"1 1:1\n")
        waiting.stdin.flush()
        until_it_reads(waiting.pid)
        waiting.send_signal(signal.SIGINT)
        errors = waiting.stderr.read()
        waiting.stdin.close()
    assert waiting.returncode == 130 and errors == b"shmps: stopped by Ctrl-C\n"
    assert sorted(path.name for path in here.iterdir()) == ["model", "rows"]


def until_it_reads(pid):
    """The process sleeps in a read of its pipe."""
    while not reading(pid):
        assert alive(pid)


def reading(pid):
    number, *arguments = Path(f"/proc/{pid}/syscall").read_text().split()
    try:
        return number in READ and "pipe" in os.readlink(f"/proc/{pid}/fd/{int(arguments[0], 16)}")
    except FileNotFoundError:  # it has closed what it read meanwhile
        return False


@pytest.mark.parametrize(
    "program",
    [["run.py"], ["-c", "from shmps.cli.command import main; main()", "data"], ["-m", "shmps", "data"]],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_modules_are_imported_ends_quietly(here, number, code, program):
    (here / "numba.py").write_text("import sys\nprint('importing', flush=True)\nsys.stdin.read()\n")
    path = os.pathsep.join([str(here), str(ROOT), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, *program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as importing:
        assert importing.stdout.readline() == b"importing\n"
        importing.send_signal(number)
        errors = importing.stderr.read()
        importing.stdin.close()
    assert (importing.returncode, errors) == (code, b"")
