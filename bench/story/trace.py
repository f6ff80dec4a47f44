"""One sync and one async run under dist-lr's rules, in its log format, beside the published trace.

Each run is a command of `run.py` in a process of its own. It trains on the rows of the file in their order.

Results: {mode: {"command", "log" (the line of every 20th iteration), "curve" (see `bench.story.curves`),
"delay_p50", "delay_p99", "seconds"}}.
"""

import json
import shlex
import textwrap
from typing import Any

from tqdm import tqdm

from bench import figures
from bench.processes import run_python
from bench.story import dist_lr
from bench.story.curves import Curve, fall
from shmps.data import datasets

INTERVAL = 20  # iterations between two lines of the log
MODES = ("sync", "async")


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    data = datasets.load(None)
    l2 = dist_lr.WORKERS / len(data.train_y)
    with tqdm(MODES, desc="trace", disable=None, leave=False) as modes:
        results = {mode: _trace(_command(mode, l2)) for mode in modes}
    return dist_lr.setting(0).settings, results


def _command(mode: str, l2: float) -> list[str]:
    return [
        "run.py", "--workers", str(dist_lr.WORKERS), f"--{mode}", "--rule", "dist-lr", "--no-intercept",
        "--batch-size", "0", "--iterations", str(dist_lr.ITERATIONS), "--l2", f"{l2:.6g}",
        "--tick-time", f"{dist_lr.TICK_TIME:g}", "--test-interval", "1", "--log", "--json",
    ]  # fmt: skip


def _trace(command: list[str]) -> dict[str, Any]:
    done = run_python(command)
    result = json.loads(done.stdout)
    history = result["history"]
    lines = [line for line in done.stderr.splitlines() if " Iteration " in line]
    return {
        "command": f"python {shlex.join(command)}",
        "log": lines[INTERVAL - 1 :: INTERVAL],
        "curve": {
            "iteration": [progress["iteration"] for progress in history],
            "accuracy": [round(progress["metrics"]["accuracy"], 5) for progress in history],
        },
        "delay_p50": result["delays"]["p50"],
        "delay_p99": result["delays"]["p99"],
        "seconds": result["seconds"]["train"],
    }


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    logs = []
    for mode in MODES:
        command = textwrap.wrap(results[mode]["command"], 100, break_on_hyphens=False)
        logs.append("\n".join(["```", "$ " + " \\\n    ".join(command), *results[mode]["log"], "```"]))
    return "\n\n".join(logs)


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    asynchronous: Curve = results["async"]["curve"]
    published: Curve = {"accuracy": list(dist_lr.PUBLISHED_TRACE.values())}
    return {
        "async_fall": f"{fall(asynchronous, 0.83):.3f}",
        "published_fall": f"{fall(published, 0.83):.3f}",
        "sync_180": f"{results['sync']['curve']['accuracy'][179]:.3f}",
    }


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    figure, (panel,) = figures.panels(1, "a9a, 4 workers, dist-lr's rules: sync rises, async swings")
    for mode in reversed(MODES):  # draw the steady line last
        curve = results[mode]["curve"]
        panel.plot(curve["iteration"], curve["accuracy"], label=f"shmps, {mode}", **figures.line(mode))
    marks = dist_lr.PUBLISHED_TRACE
    panel.plot(
        [iteration + 1 for iteration in marks],
        marks.values(),
        "o",
        ms=5,
        color=figures.COLOURS["published"],
        label="published, async",
    )
    last = dist_lr.PUBLISHED["sync"]["accuracy"]
    panel.plot([181], [last], "s", ms=6, color=figures.COLOURS["sync"], mec="black", label="published, sync")
    panel.axhline(settings["majority"], **figures.REFERENCE, label='always "no"')
    panel.set(xlabel="iteration of worker 0", ylabel="accuracy on the test rows", ylim=(0.55, 0.87))
    panel.legend(loc="lower right", fontsize="small")
    return figure
