"""Wall time of the whole command `run.py --workers 4 --async`, beside the imports of numba and scipy.

The two commands take turns. Each runs once before, uncounted, so that compiled code and files are cached, as
they are from the second run on. Without a9a on the disk, every run first tries to download it.

Results: "run" and "imports": {"command", "seconds"}; "ratio": run to imports within a pair. Spreads over the
pairs.
"""

import shlex
from typing import Any

from bench.processes import run_python
from bench.record import markdown, ratio, shown, spread
from bench.timing import progress, seconds
from shmps.data import datasets

COMMANDS = {
    "run": ["run.py", "--workers", "4", "--async"],
    "imports": ["-c", "import numba, scipy.sparse"],
}


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    pairs = 2 if quick else 11
    data = datasets.load(None)  # the data that the command will load
    spent: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with progress("start", (pairs + 1) * len(COMMANDS)) as bar:
        for _ in range(pairs + 1):
            for name, command in COMMANDS.items():
                spent[name].append(seconds(run_python, command))
                bar.update()
    for values in spent.values():
        del values[0]  # the warm-up
    results: dict[str, Any] = {
        name: {"command": ["python", *command], "seconds": spread(spent[name])}
        for name, command in COMMANDS.items()
    }
    results["ratio"] = ratio(spent["run"], spent["imports"])
    return {"data": data.name, "note": data.note, "pairs": pairs}, results


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = [
        [f"`{shlex.join(results[name]['command'])}`", shown(results[name]["seconds"], ".2f")]
        for name in COMMANDS
    ]
    rows.append(["ratio", shown(results["ratio"], ".2f")])
    caption = f"{settings['data']}; median (min to max) of {settings['pairs']} pairs."
    return f"{caption}\n\n{markdown(['', 'seconds'], rows)}"
