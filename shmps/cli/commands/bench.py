"""`shmps bench`: the benchmarks, which only a checkout has."""

import argparse
import os
import sys
from pathlib import Path

from shmps.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the benchmarks, or run one, as `python -m bench` does in a checkout."
    parser.add_argument(
        "arguments", metavar="NAME ...", nargs=argparse.REMAINDER, help="a benchmark and its arguments"
    )


def run(options: argparse.Namespace) -> None:
    if not (ROOT / "bench" / "__main__.py").is_file():
        raise UsageError(
            f"benchmarks must run from a checkout, got shmps installed in {ROOT}; get the sources, and run "
            f"python -m bench in their folder"
        )
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # Replace this process, so that signals and the exit code are those of the benchmark.
    os.execve(
        sys.executable,
        [sys.executable, "-m", "bench", *options.arguments],
        os.environ | {"PYTHONPATH": path},
    )
