"""Wall time of the whole command `run.py --workers 4 --async`, beside what importing numba and scipy takes.

The two commands take turns. Each runs once before, and does not count: so compiled code and files are
cached, as they are from the second run on. Where a9a is not there, every run looks for it on the network
first.

Results: "run" and "imports": {"command", "seconds"}; "ratio": run over imports of the same pair. Spreads over
the pairs.
"""

import shlex
import subprocess
import sys
import time
from typing import Any

from tqdm import tqdm

from bench.record import ROOT, markdown, shown, spread
from shmps.data import datasets
from shmps.errors import ShmpsError

COMMANDS = {
    "run": ["run.py", "--workers", "4", "--async"],
    "imports": ["-c", "import numba, scipy.sparse"],
}


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    pairs = 2 if quick else 11
    data = datasets.load(None)  # what the command will find
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tqdm(total=(pairs + 1) * len(COMMANDS), desc="start", disable=None, leave=False) as bar:
        for _ in range(pairs + 1):
            for name, command in COMMANDS.items():
                seconds[name].append(_wall_seconds(command))
                bar.update()
    for values in seconds.values():
        del values[0]  # the first time round is the warm-up
    results: dict[str, Any] = {
        name: {"command": ["python", *command], "seconds": spread(seconds[name])}
        for name, command in COMMANDS.items()
    }
    results["ratio"] = spread(
        whole / imports for whole, imports in zip(seconds["run"], seconds["imports"], strict=True)
    )
    return {"data": data.name, "note": data.note, "pairs": pairs}, results


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = [
        [f"`{shlex.join(results[name]['command'])}`", shown(results[name]["seconds"], ".2f")]
        for name in COMMANDS
    ]
    rows.append(["ratio", shown(results["ratio"], ".2f")])
    caption = f"{settings['data']}; median (min to max) of {settings['pairs']} pairs"
    return f"{caption}\n\n{markdown(['', 'seconds'], rows)}"


def _wall_seconds(command: list[str]) -> float:
    """Raises ShmpsError with the command's own words if it fails."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise ShmpsError(f"python {shlex.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
    return seconds
