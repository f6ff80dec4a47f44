"""`shmps bench`: the benchmarks, which are in a checkout only."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from shmps.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]


def add(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "bench",
        help="run a benchmark (from a checkout)",
        description="List the benchmarks, or run one, as `python -m bench` does in a checkout.",
        allow_abbrev=False,
    )
    parser.add_argument("arguments", metavar="NAME ...", nargs=argparse.REMAINDER, help="what it takes")
    return parser


def run(options: argparse.Namespace) -> None:
    if not (ROOT / "bench" / "__main__.py").is_file():
        raise UsageError(
            f"benchmarks run from a checkout, found shmps installed in {ROOT}; get the sources, and run "
            f"python -m bench in their folder"
        )
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # In place of this process: signals and exit code are the benchmark's own.
    os.execve(
        sys.executable,
        [sys.executable, "-m", "bench", *options.arguments],
        os.environ | {"PYTHONPATH": path},
    )
