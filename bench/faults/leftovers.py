"""What stays behind after every kind of end: processes and segments, five seconds later at the most.

Each run is a script of its own in a session of its own, with two servers and two workers that push. It ends
normally, by an exception in a worker, by Ctrl-C (to the whole group, as a terminal sends it), by SIGTERM, or
by SIGKILL of a worker, of a server, of the fork server, of the scheduler (the script's process), of the
scheduler when all else was stopped, or of all at once; or a node is stopped, and then Ctrl-C comes. This is
at a random instant, in steady state or while it starts: up to SOON after so many of its nodes, at random,
have come. (Not at once: that would aim at the microseconds that `shmps.engines.processes.boot` names.)
After the death of a worker or a server the script goes on, and is then ended by SIGTERM. A process is left
if one of the session is there after GRACE seconds; a segment is left if one of them holds a nameless file of
shmps then, or if /dev/shm has one that it had not before. A script that takes DEADLINE seconds to end hangs.

Storms of signals come on top: see `bench.faults.storms`.

Results: "ends": [{"method" (of starting processes), "end", "runs", "processes", "segments", "descriptors" (of
storms), "hangs"}].
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

from tqdm import tqdm

from bench import processes
from bench.faults import storms
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
    "normal", "exception", "interrupt", "terminate", "kill worker", "kill server", "kill fork server",
    "kill scheduler", "kill scheduler of the stopped", "stop and interrupt", "kill all",
)  # fmt: skip
METHODS = {"fork": 1000, "forkserver": 100, "spawn": 100}
LEFT = ("processes", "segments", "descriptors", "hangs")
GRACE = 5.0  # seconds
DEADLINE = 60.0  # seconds: only a hang takes as long
NODES = 4
SOON, GOING = 0.01, 0.1  # seconds within which the random instant lies, while it starts and then


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    runs = {"fork": 44} if quick else METHODS
    chance = random.Random(0)
    found: dict[tuple[str, str], Counter[str]] = {}
    total = sum(runs.values()) * 2
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
    """The script, ended; what it left."""
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
            time.sleep(chance.uniform(0, SOON))
        else:
            script.stdout.readline()
            time.sleep(chance.uniform(0, GOING))
        _end(script, method, end, chance)
        try:
            script.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            for pid in _session(script.pid):  # in several groups
                processes.send(pid, signal.SIGKILL)
            return {"runs": 1, "hangs": 1}
    until = time.monotonic() + GRACE
    while (left := _session(script.pid)) and time.monotonic() < until:
        time.sleep(0.01)
    segments = sum(processes.nameless_files(pid) for pid in left) + len(set(os.listdir("/dev/shm")) - before)
    for pid in left:
        processes.send(pid, signal.SIGKILL)
    return {"runs": 1, "processes": len(left), "segments": segments}


def _end(script: subprocess.Popen[str], method: str, end: str, chance: random.Random) -> None:
    nodes = [pid for pid in _session(script.pid) if pid != script.pid]
    if end == "interrupt":
        os.killpg(script.pid, signal.SIGINT)
    elif end == "terminate":
        script.terminate()
    elif end == "kill scheduler":
        script.kill()
    elif end == "kill scheduler of the stopped":
        for pid in nodes:
            processes.send(pid, signal.SIGSTOP)
        while not all(map(_stopped, nodes)):  # a busy core may keep the signal from them
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
        forking = processes.children(script.pid) if method == "forkserver" else []
        own = sorted(set(nodes) - set(forking))
        # Servers are started first: theirs are the lower numbers.
        of_role = {"kill server": own[:2], "kill worker": own[2:], "kill fork server": forking[:1]}[end]
        if of_role:
            processes.send(chance.choice(of_role), signal.SIGKILL)
        time.sleep(chance.uniform(0, GOING))
        script.terminate()


def _stopped(pid: int) -> bool:
    """Whether the process is stopped, or has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "TtZX"
    except OSError:
        return True


def _session(session: int) -> list[int]:
    """The processes of a session that are there, zombies not counted."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has ended; a glob would raise here
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(pid))
    return found


def failed(results: dict[str, Any]) -> bool:
    """Whether anything stayed behind."""
    return any(row[name] for row in results["ends"] for name in LEFT)


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = []
    for method in dict.fromkeys(row["method"] for row in results["ends"]):
        of_method = [row for row in results["ends"] if row["method"] == method]
        totals = [sum(row[name] for row in of_method) for name in ("runs", *LEFT)]
        worst = [row["end"] for row in of_method if any(row[name] for name in LEFT)]
        rows.append([method, *totals, ", ".join(worst)])
    columns = ["start method", "runs", *(f"{name} left" for name in LEFT[:-1]), LEFT[-1], "after"]
    return (
        markdown(columns, rows)
        + f"\n\n{settings['grace_s']:g} s after the end: {', '.join(ENDS)}, a third of them while starting; "
        "and clusters in one process that are hit by a Ctrl-C, or by one every half millisecond."
    )
