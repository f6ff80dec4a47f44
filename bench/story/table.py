"""The sync/async table of dist-lr: as published, and under rules that differ in synchrony alone.

Rows: dist-lr's own rules (`--rule dist-lr`), with a tick time, so that four workers overlap on fewer cores,
and at full speed, without; and the fair ones: sync applies the mean of a tick's gradients, async a quarter
of the rate per push, so that both move equally far per tick. The fair rates are chosen per mode from RATES by
the log-loss on the training rows with the first seed. The seed shuffles the rows, and so the shards; all
start at dist-lr's own weights.

Results: "rows": [{"rules": "dist-lr" or "fair", "mode", "rate" (of a tick), "tick_time_ms", "fall" (see
bench.story.curves; above 0.83 in async, 0.75 in sync), and what bench.story.curves.summary says}]; "chosen":
{mode: {"rates", "log_loss" (training), "rate"}}. At full speed evaluations come every 20 ticks,
else after each.
"""

from typing import Any

from tqdm import tqdm

from bench import figures
from bench.record import markdown, shown, spread
from bench.story import curves, dist_lr

MODES = ("sync", "async")
RATES = (0.25, 0.5, 1.0, 2.0, 2.5, 3.0, 4.0)  # of a tick: the mean step
ABOVE = {"sync": 0.75, "async": 0.83}  # where falls count from


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    seeds, rates = (2, (0.5, 1.0)) if quick else (7, RATES)
    shuffles = [dist_lr.setting(seed) for seed in range(seeds)]
    rows: list[dict[str, Any]] = []
    with tqdm(total=2 * (len(rates) + 3 * seeds), desc="table", disable=None, leave=False) as bar:
        chosen = {mode: choose(shuffles[0], mode, rates, bar) for mode in MODES}
        kinds: list[dict[str, Any]] = [
            {"updater": "dist-lr", "learning_rate": dist_lr.RATE},
            {"updater": "dist-lr", "learning_rate": dist_lr.RATE, "tick_time": 0.0, "test_interval": 20},
            {"updater": "sgd"},
        ]
        for kind in kinds:
            for mode in MODES:
                fair = kind["updater"] == "sgd"
                rate = chosen[mode]["rate"] if fair else dist_lr.RATE
                own = {"learning_rate": _per_push(mode, rate)} if fair else {}
                results = []
                for where in shuffles:
                    results.append(where.train(mode=mode, **kind, **own))
                    bar.update()
                summary = curves.summary(results)
                falls = [curves.fall(curve, ABOVE[mode]) for curve in summary["curves"]]
                rows.append(
                    {
                        "rules": "fair" if fair else "dist-lr",
                        "mode": mode,
                        "rate": rate,
                        "tick_time_ms": kind.get("tick_time", dist_lr.TICK_TIME),
                        "fall": spread(falls),
                        **summary,
                    }
                )
    settings = shuffles[0].described | {
        "iterations": dist_lr.ITERATIONS,
        "l2": shuffles[0].l2,
        "seeds": seeds,
    }
    return settings, {"rows": rows, "chosen": chosen}


def choose(where: dist_lr.Setting, mode: str, rates: tuple[float, ...], bar: tqdm) -> dict[str, Any]:
    """The rate of a tick that ends with the least log-loss on the training rows."""
    trained = where._replace(tested=(where.X, where.y))
    losses = []
    for rate in rates:
        result = trained.train(mode=mode, learning_rate=_per_push(mode, rate), test_interval=0)
        losses.append(result.metrics.log_loss)
        bar.update()
    return {"rates": list(rates), "log_loss": losses, "rate": rates[losses.index(min(losses))]}


def _per_push(mode: str, rate: float) -> float:
    """In async every worker's push moves the weights: a share each of the step of a tick."""
    return rate if mode == "sync" else rate / dist_lr.WORKERS


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    headers = ["rules", "mode", "seconds", *(f"accuracy at {mark}, %" for mark in dist_lr.MARKS)]
    headers += ["least and most, last half", "log-loss", "delay p50", "p99"]
    published = [
        ["published", mode, f"{of['seconds']:.0f}", "", f"{100 * of['accuracy']:.1f}", *[""] * 5]
        for mode, of in dist_lr.PUBLISHED.items()
    ]
    rows = [
        [
            f"fair, rate {row['rate']:g}" if row["rules"] == "fair" else row["rules"] + _speed(row),
            row["mode"],
            shown(row["seconds"], ".2f"),
            *(shown(row["accuracy"][str(mark)], ".1f", 0.01) for mark in dist_lr.MARKS),
            f"{100 * row['low']['min']:.1f} to {100 * row['high']['max']:.1f}",
            shown(row["log_loss"], ".3f"),
            shown(row["delay_p50"], ".0f"),
            shown(row["delay_p99"], ".0f"),
        ]
        for row in results["rows"]
    ]
    rates = ", ".join(f"{rate:g}" for rate in results["chosen"]["sync"]["rates"])
    *marks, last = map(str, dist_lr.MARKS)
    caption = (
        f"{dist_lr.told(settings)}, {settings['workers']} workers, one server, "
        f"{settings['iterations']} iterations of whole shards; accuracy on the test rows after "
        f'{", ".join(marks)} and {last} iterations of worker 0 (always answering "no" scores '
        f"{100 * settings['majority']:.1f} %), log-loss at the end; median (min to max) of "
        f"{settings['seeds']} shuffles of the rows. A tick lasts at least {settings['tick_time_ms']:g} ms, "
        f"slept between pull and push, so that the workers overlap on fewer cores as they would on as "
        f"many; not so at full speed, where the last half is seen every 20 iterations only. Fair rates "
        f"(the step of a tick) are the best of {rates} by training loss."
    )
    return f"{markdown(headers, published + rows)}\n\n{caption}"


def _speed(row: dict[str, Any]) -> str:
    return "" if row["tick_time_ms"] else ", full speed"


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    """What the story tells of it."""
    told = {"majority": f"{100 * settings['majority']:.1f} %"}
    for mode, published in dist_lr.PUBLISHED.items():
        told[f"published_{mode}_seconds"] = f"{published['seconds']:.0f} s"
        told[f"published_{mode}_accuracy"] = f"{100 * published['accuracy']:.1f} %"
    for row in results["rows"]:
        name = f"{row['rules'].replace('-', '_')}_{row['mode']}" + ("" if row["tick_time_ms"] else "_fast")
        told[f"{name}_seconds"] = f"{row['seconds']['median']:.2f} s"
        told[f"{name}_180"] = f"{100 * row['accuracy']['180']['median']:.1f} %"
        told[f"{name}_low"] = f"{100 * row['low']['min']:.1f} %"
        told[f"{name}_delay"] = f"{row['delay_p50']['median']:.0f}"
    return told


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    """Accuracy against iteration of every seed, dist-lr's rules beside the fair ones."""
    figure, panels = figures.panels(2, "Four workers on a9a: synchrony alone costs next to nothing")
    for panel, rules in zip(panels, ("dist-lr", "fair"), strict=True):
        for row in reversed(results["rows"]):  # the steady lines on top
            if row["rules"] == rules and row["tick_time_ms"]:
                for number, curve in enumerate(row["curves"]):
                    label = None if number else f"{row['mode']}, {settings['seeds']} shuffles"
                    panel.plot(
                        curve["iteration"], curve["accuracy"], label=label, **figures.line(row["mode"], 0.4)
                    )
        panel.axhline(settings["majority"], **figures.REFERENCE, label='always "no"')
        panel.set(title=f"{rules} rules", xlabel="iteration of worker 0", ylim=(0.6, 0.87))
        panel.legend(loc="lower right")
    panels[0].set_ylabel("accuracy on the test rows")
    return figure
