"""What stays behind after every kind of end: processes and segments, five seconds later at the most.

Each run is a script of its own in a session of its own, with two servers and two workers that push. It ends
normally, by an exception in a worker, by Ctrl-C (to the whole group, as a terminal sends it), by SIGTERM, or
by SIGKILL of a worker, of a server, of the scheduler (the script's process), or of all at once; at a random
instant, in steady state or while it starts: when so many of its nodes, at random, have come. After a
worker's or server's death the script goes on, and is then ended by SIGTERM. A process is left if one of the
session is there after GRACE seconds; a segment is left if one of them holds a nameless file of shmps then, or
if /dev/shm has one that it had not before.

Results: "ends": [{"method" (of starting processes), "end", "runs", "processes", "segments"}].
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bench import processes
from bench.record import ROOT, markdown

SCRIPT = """
import sys
from shmps import ASYNC, Cluster

def work(kv, end):
    kv.report(None)
    for step in range(50 if end == "normal" else 10**9):
        kv.push(None, [1.0] * 9)
        if end == "exception" and step == 20:
            raise RuntimeError("on purpose")

if __name__ == "__main__":
    with Cluster(9, servers=2, workers=2, consistency=ASYNC, start_method=sys.argv[1]) as cluster:
        going = lambda rank, value: print("going", flush=True)
        cluster.run(work, sys.argv[2], on_worker_death="respawn", on_report=going)
"""
ENDS = (
    "normal", "exception", "interrupt", "terminate",
    "kill worker", "kill server", "kill scheduler", "kill all",
)  # fmt: skip
METHODS = {"fork": 1000, "forkserver": 64, "spawn": 64}
GRACE = 5.0  # seconds
DEADLINE = 60.0  # seconds: only a hang takes as long
NODES = 4
GOING = 0.1  # seconds within which the random instant lies


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    runs = {"fork": 48} if quick else METHODS
    chance = random.Random(0)
    found = {(method, end): [0, 0, 0] for method in runs for end in ENDS}
    total = sum(runs.values())
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=total, desc="leftovers", disable=None, leave=False) as bar,
    ):
        path = Path(folder, "script.py")
        path.write_text(SCRIPT)
        for method, count in runs.items():
            for number in range(count):
                end = ENDS[number % len(ENDS)]
                left = _run(path, method, end, starting=number % 3 == 0, chance=chance)
                found[method, end] = [a + b for a, b in zip(found[method, end], (1, *left), strict=True)]
                bar.update()
    ends = [
        {"method": method, "end": end, "runs": runs, "processes": processes, "segments": segments}
        for (method, end), (runs, processes, segments) in found.items()
    ]
    return {"grace_s": GRACE, "servers": 2, "workers": 2}, {"ends": ends}


def _run(path: Path, method: str, end: str, starting: bool, chance: random.Random) -> tuple[int, int]:
    """The script, ended; the processes and segments that it left."""
    before = set(os.listdir("/dev/shm"))
    with subprocess.Popen(
        [sys.executable, path, method, end],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as script:
        assert script.stdout is not None
        if starting:
            most = chance.randrange(NODES + 1)
            # Before them, most of the time goes into imports.
            while len(_session(script.pid)) <= most and script.poll() is None:
                time.sleep(0.001)
        else:
            script.stdout.readline()
            time.sleep(chance.uniform(0, GOING))
        _end(script, end, chance)
        try:
            script.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(script.pid, signal.SIGKILL)
            return 1, 0
    until = time.monotonic() + GRACE
    while (left := _session(script.pid)) and time.monotonic() < until:
        time.sleep(0.01)
    segments = sum(processes.nameless_files(pid) for pid in left) + len(set(os.listdir("/dev/shm")) - before)
    for pid in left:
        processes.send(pid, signal.SIGKILL)
    return len(left), segments


def _end(script: subprocess.Popen[str], end: str, chance: random.Random) -> None:
    nodes = [pid for pid in _session(script.pid) if pid != script.pid]
    if end == "interrupt":
        os.killpg(script.pid, signal.SIGINT)
    elif end == "terminate":
        script.terminate()
    elif end == "kill scheduler":
        script.kill()
    elif end == "kill all":
        for pid in chance.sample([script.pid, *nodes], 1 + len(nodes)):
            processes.send(pid, signal.SIGKILL)
    elif end.startswith("kill"):
        # Servers are started first: theirs are the lower numbers.
        of_role = sorted(nodes)[:2] if end == "kill server" else sorted(nodes)[2:]
        if of_role:
            processes.send(chance.choice(of_role), signal.SIGKILL)
        time.sleep(chance.uniform(0, GOING))
        script.terminate()


def _session(session: int) -> list[int]:
    """The processes of a session that are there, zombies not counted."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def failed(results: dict[str, Any]) -> bool:
    """Whether anything stayed behind under fork; what the other methods promise is what is measured."""
    return any(row["processes"] or row["segments"] for row in results["ends"] if row["method"] == "fork")


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = []
    for method in dict.fromkeys(row["method"] for row in results["ends"]):
        of_method = [row for row in results["ends"] if row["method"] == method]
        totals = [sum(row[name] for row in of_method) for name in ("runs", "processes", "segments")]
        worst = [row["end"] for row in of_method if row["processes"] or row["segments"]]
        rows.append([method, *totals, ", ".join(worst)])
    return (
        markdown(["start method", "runs", "processes left", "segments left", "after"], rows)
        + f"\n\n{settings['grace_s']:g} s after the end: {', '.join(ENDS)}; a third of them while starting."
    )
