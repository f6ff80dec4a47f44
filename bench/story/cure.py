"""Remedies for the swing of async, at the learning rate at which plain async swings, beside fair sync.

All runs use dist-lr's start, the learning rate of 1 per push of the published table (AdaGrad: 0.1, FTRL:
0.5), whole shards and a tick time. "Stable rate" is SHARE of the stability limit that the trainer
reports after the plain run, for the delay and the curvature that it measured. Fair sync applies the mean of a
tick's gradients at the rate that the benchmark `table` would choose.

A remedy is a cure if all of this holds:

- its final accuracy is at most 0.002 below that of fair sync;
- its accuracy swings by at most 0.01 over the last half;
- it takes at most 1.1 times the seconds of plain async in the same repeat.

Results: "rows": [{"remedy", "rate", "ratio" (of the seconds to those of plain async), "gap" (final accuracy
minus that of fair sync), "final" (accuracy), "cures" (whether it is a cure, by the medians), and the figures
of `curves.summary`}].
"""

from typing import Any

from bench import figures
from bench.record import markdown, ratio, shown, spread
from bench.story import curves, dist_lr
from bench.story.table import RATES, choose
from bench.timing import progress
from shmps.linear.result import Result

SHARE = 0.8  # of the stability limit
GAP, SWING, RATIO = 0.002, 0.01, 1.1
REFERENCE, PLAIN, STABLE = "fair sync", "plain async", "stable rate"
REMEDIES: dict[str, dict[str, Any]] = {
    PLAIN: {"mode": "async"},
    "staleness-aware": {"mode": "async", "schedule": "1/(1+delay)"},
    STABLE: {"mode": "async"},
    "bounded 0": {"mode": "bounded", "bound": 0},
    "bounded 1": {"mode": "bounded", "bound": 1},
    "AdaGrad": {"mode": "async", "updater": "adagrad", "learning_rate": 0.1},
    "FTRL": {"mode": "async", "updater": "ftrl", "learning_rate": 0.5},
}


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    seeds, rates = (1, (1.0, 2.0)) if quick else (5, RATES)
    shuffles = [dist_lr.setting(seed) for seed in range(seeds)]
    trained: dict[str, list[Result]] = {name: [] for name in (REFERENCE, *REMEDIES)}
    with progress("cure", len(rates) + seeds * len(trained)) as bar:
        fair = choose(shuffles[0], "sync", rates, bar)["rate"]
        for setting in shuffles:
            trained[REFERENCE].append(setting.train(mode="sync", learning_rate=fair))
            for name, parameters in REMEDIES.items():
                rate = dist_lr.RATE
                if name == STABLE:
                    measured = trained[PLAIN][-1].stability
                    assert measured is not None
                    rate = SHARE * measured.limit
                trained[name].append(setting.train(**({"learning_rate": rate} | parameters)))
            bar.update(len(trained))
    settings = shuffles[0].settings | {
        "seeds": seeds, "share": SHARE, "gap": GAP, "swing": SWING, "ratio": RATIO,
    }  # fmt: skip
    return settings, {"rows": [_row(name, trained) for name in trained]}


def _row(name: str, trained: dict[str, list[Result]]) -> dict[str, Any]:
    own, reference = trained[name], trained[REFERENCE]
    summary = curves.summary(own)
    slowdown = ratio(*([result.seconds["train"] for result in each] for each in (own, trained[PLAIN])))
    gap = spread(a.metrics.accuracy - b.metrics.accuracy for a, b in zip(own, reference, strict=True))
    cures = gap["median"] >= -GAP and summary["swing"]["median"] <= SWING and slowdown["median"] <= RATIO
    return {
        "remedy": name,
        "rate": spread(result.settings["learning_rate"] for result in own),
        "ratio": slowdown,
        "gap": gap,
        "cures": cures,
        "final": spread(result.metrics.accuracy for result in own),
        **summary,
    }


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    headers = ["", "rate", "seconds", "time relative to plain async", "final accuracy, %", "minus fair sync"]
    headers += ["swing", "log-loss", "delay p50", "cure"]
    rows = [
        [
            row["remedy"],
            f"{row['rate']['median']:.2g}",
            f"{row['seconds']['median']:.2f}",
            shown(row["ratio"], ".2f"),
            shown(row["final"], ".2f", 0.01),
            f"{row['gap']['median']:+.4f}",
            shown(row["swing"], ".3f"),
            f"{row['log_loss']['median']:.4f}",
            f"{row['delay_p50']['median']:.0f}",
            "" if row["remedy"] in (REFERENCE, PLAIN) else "yes" if row["cures"] else "no",
        ]
        for row in results["rows"]
    ]
    return (
        f"{markdown(headers, rows)}\n\n"
        f"{dist_lr.data_name(settings)}, {settings['workers']} workers, ticks of "
        f"{settings['tick_time_ms']:g} ms; median (min to max) of {settings['seeds']} shuffles. Swing: "
        f"maximum minus minimum accuracy over the last half. A cure ends at most {settings['gap']:g} below "
        f"fair sync's accuracy, swings by at most {settings['swing']:g} and takes at most "
        f"{settings['ratio']:g} times plain async's time."
    )


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    remedies = results["rows"][2:]
    texts = {"iterations": str(results["rows"][0]["curves"][0]["iteration"][-1])}
    texts["cures"] = ", ".join(row["remedy"] for row in remedies if row["cures"]) or "nothing"
    texts["failures"] = ", ".join(row["remedy"] for row in remedies if not row["cures"]) or "nothing"
    for row in results["rows"]:
        texts[f"{row['remedy'].replace(' ', '_').replace('-', '_')}_swing"] = f"{row['swing']['median']:.3f}"
    return texts


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    """Draw the accuracy against the iteration for the first seed."""
    figure, panels = figures.panels(2, "What cures async of its swing")
    for panel, settles in zip(panels, (False, True), strict=True):
        rows = [row for row in results["rows"] if (row["swing"]["median"] <= SWING) is settles]
        for colour, row in zip(figures.MORE_COLOURS, rows, strict=False):
            curve = row["curves"][0]
            panel.plot(curve["iteration"], curve["accuracy"], lw=1.1, color=colour, label=row["remedy"])
        panel.axhline(settings["majority"], **figures.REFERENCE, label='always "no"')
        panel.set(title="settles" if settles else "swings", xlabel="iteration of worker 0", ylim=(0.65, 0.86))
        panel.legend(loc="lower right", fontsize="small")
    panels[0].set_ylabel("accuracy on the test rows")
    return figure
