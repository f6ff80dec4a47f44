"""What cures async of its swing, at the rate at which plain async swings: each remedy beside fair sync.

All from dist-lr's start, with the learning rate 1 per push of the published table (AdaGrad and FTRL: their
defaults), whole shards, a tick time. "Stable rate" is SHARE of the limit that the trainer itself gives after
the plain run, for the delay and the curvature that it measured. Fair sync applies the mean of a tick's
gradients at the rate that the benchmark `table` would choose. A remedy is a cure if its accuracy ends within
0.002 of fair sync's or above it, swings by no more than 0.01 over the last half, and takes no more than 1.1
times the seconds of plain async of the same repeat.

Results: "rows": [{"remedy", "rate", "ratio" (seconds, to plain async), "gap" (final accuracy, to fair sync),
"final", "cures" (by the medians), and what bench.story.curves.summary says}].
"""

from typing import Any

from tqdm import tqdm

from bench import figures
from bench.record import markdown, shown, spread
from bench.story import curves, dist_lr
from bench.story.table import RATES, choose
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
    "AdaGrad": {"mode": "async", "updater": "adagrad", "learning_rate": None},
    "FTRL": {"mode": "async", "updater": "ftrl", "learning_rate": None},
}


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    seeds, rates = (1, (1.0, 2.0)) if quick else (5, RATES)
    shuffles = [dist_lr.setting(seed) for seed in range(seeds)]
    trained: dict[str, list[Result]] = {name: [] for name in (REFERENCE, *REMEDIES)}
    with tqdm(total=len(rates) + seeds * len(trained), desc="cure", disable=None, leave=False) as bar:
        fair = choose(shuffles[0], "sync", rates, bar)["rate"]
        for where in shuffles:
            trained[REFERENCE].append(where.train(mode="sync", learning_rate=fair))
            for name, parameters in REMEDIES.items():
                rate = dist_lr.RATE
                if name == STABLE:
                    measured = trained[PLAIN][-1].stability
                    assert measured is not None
                    rate = SHARE * measured.limit
                trained[name].append(where.train(**({"learning_rate": rate} | parameters)))
            bar.update(len(trained))
    settings = shuffles[0].described | {
        "seeds": seeds, "share": SHARE, "gap": GAP, "swing": SWING, "ratio": RATIO,
    }  # fmt: skip
    return settings, {"rows": [_row(name, trained) for name in trained]}


def _row(name: str, trained: dict[str, list[Result]]) -> dict[str, Any]:
    own, reference, plain = trained[name], trained[REFERENCE], trained[PLAIN]
    summary = curves.summary(own)
    ratio = spread(a.seconds["train"] / b.seconds["train"] for a, b in zip(own, plain, strict=True))
    gap = spread(a.metrics.accuracy - b.metrics.accuracy for a, b in zip(own, reference, strict=True))
    cures = gap["median"] >= -GAP and summary["swing"]["median"] <= SWING and ratio["median"] <= RATIO
    return {
        "remedy": name,
        "rate": spread(result.settings["learning_rate"] for result in own),
        "ratio": ratio,
        "gap": gap,
        "cures": cures,
        "final": spread(result.metrics.accuracy for result in own),
        **summary,
    }


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    headers = ["", "rate", "seconds", "of plain async", "final accuracy, %", "to fair sync", "swing"]
    headers += ["log-loss", "delay p50", "cure"]
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
        f"{dist_lr.told(settings)}, {settings['workers']} workers, ticks of {settings['tick_time_ms']:g} ms; "
        f"median (min to max) of {settings['seeds']} shuffles; swing: most less least accuracy over the "
        f"last half. A cure ends within {settings['gap']:g} of fair sync's accuracy, swings by no more than "
        f"{settings['swing']:g} and takes no more than {settings['ratio']:g} times plain async's time."
    )


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    remedies = results["rows"][2:]
    told = {"iterations": str(results["rows"][0]["curves"][0]["iteration"][-1])}
    told["cures"] = ", ".join(row["remedy"] for row in remedies if row["cures"]) or "nothing"
    told["failures"] = ", ".join(row["remedy"] for row in remedies if not row["cures"]) or "nothing"
    for row in results["rows"]:
        told[f"{row['remedy'].replace(' ', '_').replace('-', '_')}_swing"] = f"{row['swing']['median']:.3f}"
    return told


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    """Accuracy against iteration of the first seed."""
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
