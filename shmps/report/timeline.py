"""A training's timeline in Chrome's trace event format, which ui.perfetto.dev and chrome://tracing open.

The format: Duca & Sinclair, *Trace Event Format* (Google, 2016), its JSON object form. Used here: complete
events (X) for what workers did and for how long a recovery took, instants (i) for what happened to nodes,
counters (C) for evaluations, metadata (M) for names and order.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

from shmps.errors import UsageError
from shmps.linear.result import Evaluation, Result
from shmps.linear.timesheet import ACTIVITIES, Spans
from shmps.ps.events import Event
from shmps.system import files
from shmps.version import __version__

_SCHEDULER = ("scheduler", 0)
# A node's work is the thread that has its pid, as a main thread has to viewers. Its recoveries, which may
# overlap that, are so much further on: more than there are nodes.
_RECOVERY = 10_000

Node = tuple[str, int]  # role, rank


def write_trace(result: Result, path: str) -> None:
    """Write `trace(result)` to the file `path`, whole or not at all.

    Raises UsageError as `trace` does, DataError and OutOfSpace if the file cannot be written.
    """
    text = json.dumps(trace(result), allow_nan=False, separators=(",", ":"))
    files.write(path, [text.encode()], "the timeline", "write it again")


def trace(result: Result) -> dict[str, Any]:
    """The trace: every node is a process with a thread "work", times are microseconds since the start.

    What a worker did before it died is lost with it, and a gap. Servers keep no account of their time.
    Raises UsageError if the training kept no timeline.
    """
    if result.timeline is None:
        raise UsageError("a timeline is kept by LogisticRegression(timeline=True), found none in this result")
    pids = {node: pid for pid, node in enumerate(nodes(result), start=1)}  # 0 is the idle task to viewers
    origin = min([0.0, *(event.at for event in result.events)])  # a node may die before training begins
    events: list[dict[str, Any]] = []
    for node, pid in pids.items():
        events += _names(node, pid)
    for rank, spans in result.timeline.items():
        events += _work(pids["worker", rank], spans.shifted(origin))
    for event in result.events:
        events += _happened(pids[event.role, event.rank], event, origin)
    for progress in result.history:
        events += _evaluated(pids[_SCHEDULER], progress, origin)
    for seconds, objective in result.objectives:
        events += _counter(pids[_SCHEDULER], "objective", objective, seconds - origin)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"made by": f"shmps {__version__}", "data": result.data} | _exactness(result.timeline),
    }


def nodes(result: Result) -> list[Node]:
    """Every node that took part: the scheduler, the servers, the workers."""
    ranks = set(range(result.settings["workers"])) | set(result.timeline or ())
    ranks |= {event.rank for event in result.events if event.role == "worker"}
    servers = [("server", rank) for rank in range(result.settings["servers"])]
    return [_SCHEDULER, *servers, *(("worker", rank) for rank in sorted(ranks))]


def _microseconds(seconds: float) -> float:
    return round(1e6 * seconds, 3)


def _names(node: Node, pid: int) -> Iterator[dict[str, Any]]:
    role, rank = node
    name = role if node == _SCHEDULER else f"{role} {rank}"
    yield _metadata("process_name", pid, pid, {"name": name})
    yield _metadata("process_sort_index", pid, pid, {"sort_index": pid})
    yield _metadata("thread_name", pid, pid, {"name": "work"})
    yield _metadata("thread_name", pid, pid + _RECOVERY, {"name": "recovery"})


def _metadata(name: str, pid: int, tid: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "ts": 0, "args": args}


def _work(pid: int, spans: Spans) -> Iterator[dict[str, Any]]:
    for begin, end, kind in zip(
        *(each.tolist() for each in (spans.begins, spans.ends, spans.activities)), strict=True
    ):
        yield _complete(ACTIVITIES[kind], "worker", pid, pid, begin, end)


def _complete(name: str, category: str, pid: int, tid: int, begin: float, end: float) -> dict[str, Any]:
    ts = _microseconds(begin)
    dur = round(_microseconds(end) - ts, 3)  # of rounded times: the next one begins where this ends
    return {"ph": "X", "name": name, "cat": category, "pid": pid, "tid": tid, "ts": ts, "dur": dur}


def _happened(pid: int, event: Event, origin: float) -> Iterator[dict[str, Any]]:
    args = {"tick": event.tick, "outcome": event.outcome, "text": str(event)}
    yield {
        "ph": "i",
        "s": "g" if event.exit_code is not None else "p",  # a line across all nodes, or in its own
        "name": f"{event.role} {event.rank} {event.what}",
        "cat": "event",
        "pid": pid,
        "tid": pid + _RECOVERY,
        "ts": _microseconds(event.at - origin),
        "args": args,
    }
    if event.seconds is not None:
        begin, end = event.at - origin, event.at - origin + event.seconds
        yield _complete(event.outcome, "recovery", pid, pid + _RECOVERY, begin, end) | {"args": args}


def _evaluated(pid: int, progress: Evaluation, origin: float) -> Iterator[dict[str, Any]]:
    metrics, at = progress.metrics, progress.seconds - origin
    yield from _counter(pid, "accuracy", metrics.accuracy, at)
    yield from _counter(pid, "log-loss", metrics.log_loss, at)
    yield from _counter(pid, "delay p50", progress.delays.p50, at)


def _counter(pid: int, name: str, value: float, at: float) -> Iterator[dict[str, Any]]:
    if math.isfinite(value):  # JSON has no other numbers
        yield {
            "ph": "C",
            "name": name,
            "cat": "evaluation",
            "pid": pid,
            "tid": pid,
            "ts": _microseconds(at),
            "args": {"value": float(value)},  # some are numpy's
        }


def _exactness(timeline: dict[int, Spans]) -> dict[str, str]:
    """Which workers' slices are not what came one after the other, but sums."""
    return {
        f"worker {rank}": f"before {spans.exact_from:.3f} s: what every {1000 * spans.bin:.3g} ms held"
        for rank, spans in timeline.items()
        if spans.bin
    }
