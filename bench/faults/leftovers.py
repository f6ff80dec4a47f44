"""Processes and segments that stay behind after every kind of end, at most five seconds later.

Each run is a script in a session of its own, with two servers and two workers that push. A script ends:

- normally, or by an exception in a worker;
- by Ctrl-C (to the whole process group, as a terminal sends it), or by SIGTERM;
- by SIGKILL of a worker, of a server, of the fork server, of the scheduler (the script's process), of the
  scheduler after all other processes were stopped, or of all processes at once;
- by Ctrl-C after a node was stopped.

The end comes at a random instant: in steady state, or during the start, up to SOON seconds after a random
number of nodes have appeared. (Not at once: that would aim at the microseconds that
`shmps.engines.processes.boot` names.) After the death of a worker or a server the script goes on until
SIGTERM.

A process is left if it belongs to the session and runs after GRACE seconds. A segment is left if such a
process holds a nameless file of shmps, or if /dev/shm has a new file. A script hangs if it takes DEADLINE
seconds to end. `bench.faults.storms` adds clusters under storms of signals.

Results: "ends": [{"method" (the start method), "end", "runs", "processes", "segments", "descriptors" (storms
only), "hangs"}].
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench import processes
from bench.faults import storms
from bench.record import ROOT, markdown
from bench.timing import progress

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
    "normal", "exception", "interrupt", "terminate", "kill worker", "kill server", "kill fork server",
    "kill scheduler", "kill scheduler of the stopped", "stop and interrupt", "kill all",
)  # fmt: skip
METHODS = {"fork": 1000, "forkserver": 100, "spawn": 100}
LEFT = ("processes", "segments", "descriptors", "hangs")
GRACE = 5.0  # seconds
DEADLINE = 60.0  # seconds
NODES = 4
SOON, GOING = 0.01, 0.1  # longest random delay in seconds, during the start and in steady state


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    runs = {"fork": 44} if quick else METHODS
    chance = random.Random(0)
    found: dict[tuple[str, str], Counter[str]] = {}
    total = sum(runs.values()) * 2
    with tempfile.TemporaryDirectory() as folder, progress("leftovers", total) as bar:
        path = Path(folder, "script.py")
        path.write_text(SCRIPT)
        for method, count in runs.items():
            for number in range(count):
                end = ENDS[number % len(ENDS)]
                left = _run(path, method, end, starting=number % 3 == 0, chance=chance)
                found.setdefault((method, end), Counter()).update(left)
                bar.update()
            for kind in storms.KINDS:
                lives = count // len(storms.KINDS)
                found[method, kind] = Counter(storms.run(Path(folder), method, kind, lives))
                bar.update(lives)
    ends = [
        {"method": method, "end": end} | {name: left[name] for name in ("runs", *LEFT)}
        for (method, end), left in found.items()
    ]
    return {"grace_s": GRACE, "servers": 2, "workers": 2}, {"ends": ends}


def _run(path: Path, method: str, end: str, starting: bool, chance: random.Random) -> dict[str, int]:
    """Run the script and end it; count what it left."""
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
            # Until the first node appears, the script spends most of its time on imports.
            while len(processes.session(script.pid)) <= most and script.poll() is None:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, SOON))
        else:
            script.stdout.readline()
            time.sleep(chance.uniform(0, GOING))
        _end(script, method, end, chance)
        try:
            script.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            for pid in processes.session(script.pid):  # they are in several process groups
                processes.send(pid, signal.SIGKILL)
            return {"runs": 1, "hangs": 1}
    until = time.monotonic() + GRACE
    while (left := processes.session(script.pid)) and time.monotonic() < until:
        time.sleep(0.01)
    segments = sum(processes.nameless_files(pid) for pid in left) + len(set(os.listdir("/dev/shm")) - before)
    for pid in left:
        processes.send(pid, signal.SIGKILL)
    return {"runs": 1, "processes": len(left), "segments": segments}


def _end(script: subprocess.Popen[str], method: str, end: str, chance: random.Random) -> None:
    nodes = [pid for pid in processes.session(script.pid) if pid != script.pid]
    if end == "interrupt":
        os.killpg(script.pid, signal.SIGINT)
    elif end == "terminate":
        script.terminate()
    elif end == "kill scheduler":
        script.kill()
    elif end == "kill scheduler of the stopped":
        for pid in nodes:
            processes.send(pid, signal.SIGSTOP)
        while not all(map(processes.is_stopped, nodes)):  # a busy core may delay the signal
            time.sleep(0.001)
        script.kill()
    elif end == "stop and interrupt":
        if nodes:
            processes.send(chance.choice(nodes), signal.SIGSTOP)
        time.sleep(chance.uniform(0, GOING))
        script.send_signal(signal.SIGINT)
    elif end == "kill all":
        for pid in chance.sample([script.pid, *nodes], 1 + len(nodes)):
            processes.send(pid, signal.SIGKILL)
    elif end.startswith("kill"):
        fork_server = processes.children(script.pid) if method == "forkserver" else []
        own = sorted(set(nodes) - set(fork_server))
        # Servers start first, so they have the lower process ids.
        of_role = {"kill server": own[:2], "kill worker": own[2:], "kill fork server": fork_server[:1]}[end]
        if of_role:
            processes.send(chance.choice(of_role), signal.SIGKILL)
        time.sleep(chance.uniform(0, GOING))
        script.terminate()


def failed(results: dict[str, Any]) -> bool:
    """Return whether anything stayed behind."""
    return any(row[name] for row in results["ends"] for name in LEFT)


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = []
    for method in dict.fromkeys(row["method"] for row in results["ends"]):
        of_method = [row for row in results["ends"] if row["method"] == method]
        totals = [sum(row[name] for row in of_method) for name in ("runs", *LEFT)]
        worst = [row["end"] for row in of_method if any(row[name] for name in LEFT)]
        rows.append([method, *totals, ", ".join(worst)])
    columns = ["start method", "runs", *(f"{name} left" for name in LEFT[:-1]), LEFT[-1], "failing ends"]
    caption = (
        f"Counted {settings['grace_s']:g} s after the end. Ends: {', '.join(ENDS)}, a third of them during "
        f"the start; and clusters in one process that get one Ctrl-C, or one every half millisecond."
    )
    return f"{markdown(columns, rows)}\n\n{caption}"
