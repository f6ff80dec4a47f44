"""Completion in the shell: a script that bash can read, or how to get it."""

import subprocess
import sys

import pytest


def test_the_script_for_the_shell_is_one(shmps):
    pytest.importorskip("shtab")
    script = shmps("--print-completion", "bash")
    assert script.returncode == 0 and "--learning-rate" in script.stdout
    checked = subprocess.run(["bash", "-n"], input=script.stdout, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_without_shtab_it_is_said_how_to_get_it(shmps, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    done = shmps("--print-completion", "bash")
    assert done.returncode == 2 and "pip install 'shmps[completion]'" in done.stderr
