"""A thousand workers in virtual time: where async wins, where sync does, where servers and links saturate.

The machines are simulated (`shmps.simulate`): one worker in a hundred is five times slower, and the times of
all vary a little. The parts, which `--parts` names, are the modules of `bench.story.virtual`:

- study: virtual seconds until the training log-loss is within 1% of the optimum's, by mode and number of
  workers. Rows, start and gradients are those of the story: a9a, whole shards. The rows stand for a set on
  which one worker takes two seconds for a gradient. More workers have smaller shards.
- networks: the same for generated click-through data and minibatches, whose pushes are large, also by the
  bandwidth of the network and the number of servers.
- stability: the highest rate at which async stays at the optimum, found by bisection, beside the limit for a
  delay of workers - 1. The story of the table rests on that limit.
- published: dist-lr's rules and four workers, whose gradients take 0.35 s on average, as published for async,
  by the variation of that time.
- validation: real processes beside the simulation of the same parameters: ticks of 50 ms, with and without a
  slow worker. It needs a quiet machine; the others do not.

Every mode has half of its highest stable rate: 2 / curvature in sync mode (of a tick), and in the others (of
a push) the limit for a delay of all other workers. The staleness-aware mode has the rate of sync, divided by
1 + the delay of each push.

Results: "study", "networks": [{"mode", "workers", "servers", "gbits", "rate", "seconds" (virtual; null: not
reached), "iterations" of worker 0, "delay_p50", "delay_max", "computing", "serving", "receiving" (mean shares
of the time: workers, servers, links of servers), "bytes", "processor_seconds" (of the simulation)}];
"stability": [{"workers", "found", "limit"}]; "published": [{"variation", "sync", "async" (each {"seconds",
"accuracy", "low", "delay_p50", "delay_max"})}]; "validation": [{"mode", "workers", "slow", "real_ms",
"simulated_ms" (per iteration), "real_delay", "simulated_delay" (p50), "real_loss", "simulated_loss"}].
"""

from types import ModuleType
from typing import Any

from bench import figures
from bench.story import dist_lr
from bench.story.virtual import networks, published, stability, study, validation
from bench.story.virtual.problem import MODES, shown_seconds
from bench.timing import progress
from shmps.errors import UsageError

PARTS: dict[str, ModuleType] = {
    "study": study, "networks": networks, "stability": stability, "published": published,
    "validation": validation,
}  # fmt: skip


def run(quick: bool, parts: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """parts: names of PARTS, separated by commas (default: all)."""
    names = parts.split(",") if parts else list(PARTS)
    if unknown := sorted(set(names) - set(PARTS)):
        raise UsageError(f"--parts must be some of {', '.join(PARTS)}, got {', '.join(unknown)}")
    cases = {name: PARTS[name].cases(quick) for name in names}
    settings = dict(dist_lr.setting(0).settings)
    results: dict[str, Any] = {}
    with progress("simulate", sum(map(len, cases.values()))) as bar:
        for name in names:
            results[name] = []
            settings |= PARTS[name].SETTINGS
            for case in cases[name]:
                results[name].append(PARTS[name].measure(*case))
                bar.update()
    return settings, results


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    return "\n\n".join(_tables(settings, results).values())


def _tables(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    tables = {name: PARTS[name].table(settings, rows) for name, rows in results.items()}
    if "networks" in results:
        tables["bandwidths"] = networks.bandwidths(settings, results["networks"])
    return tables


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    texts = _tables(settings, results) | {
        "most": f"{max(row['workers'] for row in results['study']):,}",
        "straggler_share": f"{settings['stragglers']:.0%}",
        "slowness": f"{settings['slowness']:g}",
    }
    for row in results["study"]:
        texts |= _facts_of(row, f"{_word(row['mode'])}_{row['workers']}")
    for row in results["networks"]:
        where = f"{row['workers']}_{row['servers']}_{row['gbits']:g}"
        texts |= _facts_of(row, f"click_{_word(row['mode'])}_{where}")
    ratios = [abs(row["found"] / row["limit"] - 1) for row in results["stability"]]
    texts["rates_furthest"] = f"{max(ratios):.0%}"
    texts["rates_workers"] = str(results["stability"][-1]["workers"])
    return texts | published.facts(results["published"]) | validation.facts(results["validation"])


def _word(mode: str) -> str:
    return mode.replace(" ", "_").replace("-", "_")


def _facts_of(row: dict[str, Any], name: str) -> dict[str, str]:
    shares = {f"{name}_{what}": f"{row[what]:.0%}" for what in ("computing", "serving", "receiving")}
    return shares | {name: f"{shown_seconds(row)} s"}


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    """Draw the time to the optimum on both sets, and the stable rate, against the number of workers."""
    figure, (left, middle, right) = figures.panels(3, "A thousand workers in virtual time", share=False)
    wide = [
        row
        for row in results["networks"]
        if (row["servers"], row["gbits"]) == (settings["click_servers"], settings["click_gbits"])
    ]
    _draw_seconds(left, results["study"], "a9a, small pushes")
    _draw_seconds(middle, wide, f"click-through data, large pushes, {settings['click_gbits']:g} Gbit/s")
    first = results["study"][0]
    counts = sorted({row["workers"] for row in results["study"]})
    ideal = [first["seconds"] * first["workers"] / count for count in counts]
    left.plot(counts, ideal, **figures.REFERENCE, label="one worker's time, divided")
    left.set_ylabel(f"virtual seconds to {settings['within']:.0%} of the optimum")
    narrow = [
        row
        for row in results["networks"]
        if row["gbits"] == 1 and row["servers"] == settings["click_servers"]
    ]
    for mode in networks.COMPARED:
        rows = [row for row in narrow if row["mode"] == mode]
        x, y = [row["workers"] for row in rows], [row["seconds"] for row in rows]
        middle.plot(x, y, "s--", color=_colour(mode), label=f"{mode}, 1 Gbit/s")
    for panel, place in ((left, "upper right"), (middle, "upper left")):
        panel.legend(loc=place)
    rows = results["stability"]
    counts = [row["workers"] for row in rows]
    right.plot(counts, [row["found"] for row in rows], "o", color=figures.COLOURS["async"], label="found")
    right.plot(counts, [row["limit"] for row in rows], **figures.REFERENCE, label="limit of the theory")
    right.set(xscale="log", yscale="log", xlabel="workers", ylabel="highest stable rate of a push, async")
    right.legend()
    return figure


def _colour(mode: str) -> str:
    return figures.MORE_COLOURS[list(MODES).index(mode)]


def _draw_seconds(panel: Any, rows: list[dict[str, Any]], title: str) -> None:
    for mode in MODES:
        own = [row for row in rows if row["mode"] == mode and row["seconds"] is not None]
        x, y = [row["workers"] for row in own], [row["seconds"] for row in own]
        panel.plot(x, y, "o-", color=_colour(mode), label=mode)
    panel.set(xscale="log", yscale="log", xlabel="workers", title=title)
