"""Crashes, delays and leftovers of dead nodes in simulated schedules: is every push applied exactly once?

Every schedule is a cluster of 1 to 3 servers and 1 to 3 workers, which one more worker may join. It runs on
the inline engine (see `schedule` and `simulation`). Its seed determines all choices: which node runs next,
which node dies where, which record is late, and what the workers request. A failing seed replays
exactly: `python -m bench faults --seed N` prints what happens.

Results: "schedules", "records" (that arrived), "steps" (of nodes, late records and the scheduler), "seconds",
"crashes": {role: {place: count}}, "failures": [{"seed", "what"}].
"""

import collections
import multiprocessing
import time
from typing import Any

from bench.faults.schedule import KEYS, PUSHES, Schedule, failure
from bench.record import markdown
from bench.timing import progress
from shmps.ps.messages import ROLES, SERVER, WORKER
from shmps.system.parallel import usable_cores


def replay(seed: int) -> str:
    """Run one schedule and print every step; return how it ended."""
    return failure(Schedule(seed, trace=print)) or "all as promised"


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    schedules = 2_000 if quick else 100_000
    crashes: collections.Counter[tuple[int, str]] = collections.Counter()
    failures, records, steps, began = [], 0, 0, time.perf_counter()
    with multiprocessing.Pool(usable_cores()) as pool, progress("faults", schedules) as bar:
        outcomes = pool.imap(_outcome, range(schedules), chunksize=100)
        for seed, (what, crashed, arrived, taken) in enumerate(outcomes):
            if what:
                failures.append({"seed": seed, "what": what})
            crashes += crashed
            records += arrived
            steps += taken
            bar.update()
    by_role: dict[str, dict[str, int]] = {ROLES[SERVER]: {}, ROLES[WORKER]: {}}
    for (role, place), count in sorted(crashes.items()):
        by_role[ROLES[role]][place.removeprefix(f"{ROLES[role]}: ")] = count
    settings = {"keys": KEYS, "servers": "1 to 3", "workers": "1 to 3, and one that joins", "pushes": PUSHES}
    return settings, {
        "schedules": schedules,
        "records": records,
        "steps": steps,
        "seconds": time.perf_counter() - began,
        "crashes": by_role,
        "failures": failures,
    }


def _outcome(seed: int) -> tuple[str, collections.Counter[tuple[int, str]], int, int]:
    """Run one schedule; return its failure or "", crashes, records and steps."""
    schedule = Schedule(seed)
    return failure(schedule), schedule.crashes, schedule.records, schedule.steps


def failed(results: dict[str, Any]) -> bool:
    return bool(results["failures"])


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = [
        [role, place, f"{count:,}"]
        for role, places in results["crashes"].items()
        for place, count in places.items()
    ]
    failures = [
        f"Failed: `python -m bench faults --seed {each['seed']}`: {each['what']}"
        for each in results["failures"]
    ]
    return "\n\n".join(
        [
            markdown(["node that died", "where", "times"], rows),
            f"{results['schedules']:,} schedules with {results['records']:,} records in "
            f"{results['seconds']:,.0f} s; {len(failures)} failed.",
            *failures[:10],
        ]
    )
