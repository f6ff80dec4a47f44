"""A training as one page of HTML: charts, and the tables behind them. No script, nothing from elsewhere."""

from collections.abc import Sequence
from html import escape

import numpy as np

from shmps.journal import Journal
from shmps.linear.result import Evaluation, Result
from shmps.linear.timesheet import ACTIVITIES, COMPUTE, PULL, PUSH, SLEEP, WAIT, Spans
from shmps.ps.events import Event
from shmps.report import charts
from shmps.report.order import order
from shmps.report.page import facts, figures, page, table
from shmps.report.timeline import Node, nodes
from shmps.system import files

_BINS = 300  # of the strip that shows a worker's time
_MOST_ROWS = 200  # of a table behind a chart
_STACKED = [COMPUTE, PULL, PUSH, SLEEP, WAIT]  # from below
_SIGNS = {"joined": "+", "left": "−"}  # of deaths: a cross


def write_report(result: Result, path: str, journal: Journal | None = None) -> None:
    """Write `report(result, journal)` to the file `path`, whole or not at all.

    Raises DataError and OutOfSpace if it cannot be written.
    """
    files.write(path, [report(result, journal).encode()], "the report", "write it again")


def report(result: Result, journal: Journal | None = None) -> str:
    """The page. What every worker did when is on it if the training kept a timeline; the order of the pushes
    if it was recorded, and its `journal` is given.
    """
    title = f"Training of {result.data}" if result.data else "Training"
    sections = {
        "Result": facts(result.figures()),
        "Accuracy and loss": _learning(result),
        "Delay": _delay(result),
        **({} if journal is None else {"Order of pushes": order(journal)}),
        "Workers' time": _time(result),
        "Events": _events(result.events),
        "Settings": facts(
            (name, "none" if value is None else str(value))
            for name, value in result.settings.items()
            if name != "names"  # of hashed features: there may be millions
        ),
    }
    return page(title, _lead(result), sections)


def _lead(result: Result) -> str:
    settings, right, seconds = result.settings, result.metrics.accuracy, result.seconds["train"]
    return (
        f"{right:.2%} of the {result.measured_on} rows right after {seconds:.2f} s: "
        f"{settings['mode']}, workers: {settings['workers']}, servers: {settings['servers']}."
    )


def _learning(result: Result) -> str:
    history = result.history
    if not history:
        return (
            "<p>No evaluation was made during this training: one is made every test_interval iterations "
            f"({result.settings['test_interval']}; 0: never), and one in the end.</p>{_objective(result)}"
        )
    drawn = {}
    for name, values, level in (
        ("Accuracy", [at.metrics.accuracy for at in history], result.metrics.baseline),
        ("Log-loss", [at.metrics.log_loss for at in history], None),
    ):
        for x_name, xs in (
            ("seconds", [at.seconds for at in history]),
            ("ticks", [float(at.ticks) for at in history]),
        ):
            title, points = f"{name} against {x_name}", list(zip(xs, values, strict=True))
            drawn[title] = charts.line_chart(f"{name}-{x_name}", title, points, x_name, level)
    heads = ["Iteration", "Seconds", "Ticks", "Accuracy", "Log-loss", "AUC", "Delay p50"]
    rows = map(_evaluation, charts.thinned(history, _MOST_ROWS))
    return (
        f"<p>On the {result.measured_on} rows; ticks are those of all workers. Dashed: the share of the "
        f"largest class.</p>{figures(drawn)}{table('Evaluations', heads, rows)}{_objective(result)}"
    )


def _evaluation(progress: Evaluation) -> list[str]:
    metrics = progress.metrics
    return [
        f"{progress.iteration:,}",
        f"{progress.seconds:.3f}",
        f"{progress.ticks:,}",
        f"{metrics.accuracy:.4f}",
        f"{metrics.log_loss:.4g}",
        f"{metrics.auc:.4f}",
        f"{progress.delays.p50}",
    ]


def _objective(result: Result) -> str:
    if not result.objectives:
        return ""
    title = "Objective against seconds"
    drawn = charts.line_chart("objective", title, result.objectives, "seconds")
    rows = (
        [f"{number}", f"{seconds:.3f}", f"{value:.8g}"]
        for number, (seconds, value) in enumerate(result.objectives, start=1)
    )
    return figures({title: drawn}) + table(title, ["Round", "Seconds", "Objective"], rows)


def _delay(result: Result) -> str:
    counts = result.delays.histogram
    if not counts:
        return f"<p>{escape(str(result.delays))}.</p>".capitalize()
    title = "Pushes by delay"
    rows = ([f"{delay:,}", f"{count:,}"] for delay, count in enumerate(counts) if count)
    return (
        "<p>Versions of the weights between a pull and its push, for every push and server: median "
        f"{result.delays.p50}, 99th percentile {result.delays.p99}, most {result.delays.max}.</p>"
        + figures({title: charts.bar_chart("delays", title, counts, "versions")})
        + table(title, ["Delay", "Pushes"], rows)
    )


def _time(result: Result) -> str:
    timeline = result.timeline
    if timeline is None:
        return "<p>No timeline was kept during this training: ask for one (timeline).</p>"
    ends = [spans.last for spans in timeline.values()]
    end = max(result.seconds["train"], *ends, *(event.at for event in result.events))
    tracks, rows = "", []
    for node in nodes(result):
        role, rank = node
        spans = timeline.get(rank) if role == "worker" else None
        happened = [event for event in result.events if (event.role, event.rank) == node]
        if role == "worker" or happened:
            tracks += _track(node, spans, happened, end)
        if spans is not None:
            seconds = spans.within(np.array([spans.begin, spans.last]))[0]
            ran = [f"{spans.begin:.3f}", f"{spans.last:.3f}"]
            rows.append([f"worker {rank}", *ran, *(f"{seconds[kind]:.3f}" for kind in _STACKED)])
    kinds = "".join(
        f'<li><span class="{ACTIVITIES[kind]}"></span>{ACTIVITIES[kind]}</li>' for kind in _STACKED
    )
    heads = ["Node", "From", "To", *(ACTIVITIES[kind] for kind in _STACKED)]
    return (
        f"<p>What went on in every {1000 * end / _BINS:.3g} ms, stacked from below in this order. Hatched: "
        "nobody kept an account, or who did has died; a cross: a death.</p>"
        f'<ul class="legend">{kinds}<li><span class="lost"></span>no account</li></ul>'
        f"{tracks}{_axis(end)}{table('Seconds of every worker', heads, rows)}"
    )


def _track(node: Node, spans: Spans | None, happened: Sequence[Event], end: float) -> str:
    """A node's strip over the seconds from 0 to `end`, with what happened to it."""
    name, drawn = "{} {}".format(*node), ""
    if spans is not None:
        shares = spans.within(np.linspace(0.0, end, _BINS + 1))[:, _STACKED] * _BINS / end
        whole = shares.mean(axis=0)
        told = ", ".join(
            f"{ACTIVITIES[kind]} {share:.0%}" for kind, share in zip(_STACKED, whole, strict=True)
        )
        title, classes = f"Where the time of {name} went", [ACTIVITIES[kind] for kind in _STACKED]
        drawn = charts.strip(name.replace(" ", "-"), title, f"Of {end:.3g} s: {told}.", shares, classes)
    for event in happened:
        place, sign = 100 * min(max(event.at / end, 0.0), 1.0), _SIGNS.get(event.what, "✕")
        drawn += f'<span class="mark" aria-hidden="true" style="left: {place:.2f}%"><b>{sign}</b></span>'
    return f'<div class="node"><span>{name}</span><div class="track lost">{drawn}</div></div>'


def _axis(end: float) -> str:
    marks = [mark for mark in charts.scale(0.0, end, 4) if mark < 0.8 * end] + [end]
    spans = (f'<span style="left: {100 * mark / end:.2f}%">{mark:.3g} s</span>' for mark in marks)
    return f'<div class="axis" aria-hidden="true">{"".join(spans)}</div>'


def _events(events: Sequence[Event]) -> str:
    if not events:
        return "<p>No node died, hung, came or left.</p>"
    return f"<ol>{''.join(f'<li>{event.at:.3f} s: {escape(str(event))}</li>' for event in events)}</ol>"
