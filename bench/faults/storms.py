"""Clusters one after the other in one process, hit by one signal or by a storm: what does each leave behind?

While a cluster starts, runs and is cleaned up, a thread sends SIGINT to its own process at a random instant:
once, or every half millisecond from then on. After the end of the cluster the process counts its remaining
children (up to GRACE seconds later, since a fork server may take a while to reap them), and the nameless
files and descriptors beyond those of before. A life (one cluster) of over DEADLINE seconds is a hang.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from bench.record import ROOT

DEADLINE = 60.0  # seconds
GRACE = 5.0  # seconds
KINDS = ("storm", "single")
SCRIPT = """
import json, os, random, signal, sys, threading, time
from shmps import ASYNC, Cluster

armed, lasting, GRACE = False, 0.0, float(sys.argv[4])

def interrupt(number, frame):
    if armed:
        raise KeyboardInterrupt

def send(go, kind, end):
    while go.wait():
        go.clear()
        end.wait(random.uniform(0, lasting))
        if kind == "single":
            os.kill(os.getpid(), signal.SIGINT)
        while kind == "storm" and not end.wait(0.0005):
            os.kill(os.getpid(), signal.SIGINT)

def work(kv):
    for _ in range(30):
        kv.push(None, [1.0] * 9)

def life(method):
    with Cluster(9, servers=2, workers=2, consistency=ASYNC, start_method=method) as cluster:
        cluster.run(work)

def children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            found += open(f"/proc/{pid}/task/{task}/children").read().split()
        except OSError:  # the thread has ended
            pass
    return found

def left():
    # One fork server may stay, but not the processes that it has forked.
    own = children("self")
    stay = [pid for pid in own if "boot import serve" in open(f"/proc/{pid}/cmdline").read()]
    return len(own) - len(stay[:1]) + sum(len(children(pid)) for pid in stay[:1])

def descriptors():
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass
    return len(links), sum("memfd:shmps" in link for link in links)

def main(method, kind, lives):
    global armed, lasting
    signal.signal(signal.SIGINT, interrupt)
    go, end = threading.Event(), threading.Event()
    threading.Thread(target=send, args=(go, kind, end), daemon=True).start()
    life(method)  # open what stays open, such as a fork server
    began = time.monotonic()
    life(method)
    lasting = time.monotonic() - began
    most = descriptors()
    for _ in range(lives):
        end.clear()
        go.set()
        try:
            armed = True
            life(method)
            armed = False
        except KeyboardInterrupt:
            armed = False
        end.set()
        # Count beyond the maximum so far: a fork server that a signal has ended comes back in the next life.
        until = time.monotonic() + GRACE
        while left() and time.monotonic() < until:
            time.sleep(0.001)
        now = descriptors()
        more = [max(0, one - other) for one, other in zip(now, most)]
        most = [max(each) for each in zip(now, most)]
        print(json.dumps([left(), more[1], more[0]]), flush=True)

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


def run(folder: Path, method: str, kind: str, lives: int) -> dict[str, int]:
    """Run `lives` clusters; count "runs", "hangs", and the "processes", "segments" and "descriptors" left."""
    path = folder / "storm.py"
    path.write_text(SCRIPT)
    found = {"runs": 0, "processes": 0, "segments": 0, "descriptors": 0, "hangs": 0}
    with subprocess.Popen(
        [sys.executable, path, method, kind, str(lives), str(GRACE)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as script:
        assert script.stdout is not None
        watchdog = _Watchdog(script.pid)
        for line in script.stdout:
            watchdog.feed()
            left = dict(zip(("processes", "segments", "descriptors"), json.loads(line), strict=True))
            found = {name: found[name] + left.get(name, 0) for name in found}
            found["runs"] += 1
        watchdog.end()
    found["hangs"] = lives - found["runs"]
    return found


class _Watchdog:
    """Kill a process that is not fed for DEADLINE seconds; its nodes die with it."""

    def __init__(self, pid: int):
        self._pid = pid
        self._timer = self._started()

    def feed(self) -> None:
        self.end()
        self._timer = self._started()

    def end(self) -> None:
        self._timer.cancel()

    def _started(self) -> threading.Timer:
        timer = threading.Timer(DEADLINE, os.kill, (self._pid, signal.SIGKILL))
        timer.daemon = True
        timer.start()
        return timer
