"""The sync/async table of dist-lr: as published, and under rules that differ only in synchrony.

Rows:

- dist-lr's own rules (`--rule dist-lr`), with a tick time, so that four workers overlap on fewer cores;
- the same rules at full speed, without a tick time;
- fair rules: sync applies the mean of a tick's gradients, and async applies every push at a quarter of the
  rate, so that both move equally far per tick. The fair rate of a mode is the one of RATES with the least
  log-loss on the training rows for the first seed.

The seed shuffles the rows, and therefore the shards. All runs start at dist-lr's own weights. At full speed
every 20th tick is evaluated, otherwise every tick.

Results: "rows": [{"rules": "dist-lr" or "fair", "mode", "rate" (of a tick), "tick_time_ms", "fall" (see
`curves.fall`; above 0.83 in async, 0.75 in sync), and the figures of `curves.summary`}]; "chosen": {mode:
{"rates", "log_loss" (training), "rate"}}.
"""

from typing import Any

from tqdm import tqdm

from bench import figures
from bench.record import markdown, shown, spread
from bench.story import curves, dist_lr
from bench.timing import progress

MODES = ("sync", "async")
RATES = (0.25, 0.5, 1.0, 2.0, 2.5, 3.0, 4.0)  # of a tick: the mean step
ABOVE = {"sync": 0.75, "async": 0.83}  # the accuracy from which a fall counts
RULES: list[dict[str, Any]] = [
    {"updater": "dist-lr", "learning_rate": dist_lr.RATE},
    {"updater": "dist-lr", "learning_rate": dist_lr.RATE, "tick_time": 0.0, "test_interval": 20},
    {"updater": "sgd"},
]


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    seeds, rates = (2, (0.5, 1.0)) if quick else (7, RATES)
    shuffles = [dist_lr.setting(seed) for seed in range(seeds)]
    with progress("table", len(MODES) * (len(rates) + len(RULES) * seeds)) as bar:
        chosen = {mode: choose(shuffles[0], mode, rates, bar) for mode in MODES}
        rows = [_row(shuffles, mode, rules, chosen, bar) for rules in RULES for mode in MODES]
    settings = shuffles[0].settings | {
        "iterations": dist_lr.ITERATIONS, "l2": shuffles[0].l2, "seeds": seeds,
    }  # fmt: skip
    return settings, {"rows": rows, "chosen": chosen}


def choose(setting: dist_lr.Setting, mode: str, rates: tuple[float, ...], bar: tqdm) -> dict[str, Any]:
    """Find the rate of a tick whose training ends with the least log-loss on the training rows."""
    trained = setting._replace(tested=(setting.X, setting.y))
    losses = []
    for rate in rates:
        result = trained.train(mode=mode, learning_rate=_per_push(mode, rate), test_interval=0)
        losses.append(result.metrics.log_loss)
        bar.update()
    return {"rates": list(rates), "log_loss": losses, "rate": rates[losses.index(min(losses))]}


def _per_push(mode: str, rate: float) -> float:
    """Convert the rate of a tick: in async each worker's push applies its share of the step."""
    return rate if mode == "sync" else rate / dist_lr.WORKERS


def _row(
    shuffles: list[dist_lr.Setting], mode: str, rules: dict[str, Any], chosen: dict[str, Any], bar: tqdm
) -> dict[str, Any]:
    fair = rules["updater"] == "sgd"
    rate = chosen[mode]["rate"] if fair else dist_lr.RATE
    if fair:
        rules = rules | {"learning_rate": _per_push(mode, rate)}
    results = []
    for setting in shuffles:
        results.append(setting.train(mode=mode, **rules))
        bar.update()
    summary = curves.summary(results)
    return {
        "rules": "fair" if fair else "dist-lr",
        "mode": mode,
        "rate": rate,
        "tick_time_ms": rules.get("tick_time", dist_lr.TICK_TIME),
        "fall": spread(curves.fall(curve, ABOVE[mode]) for curve in summary["curves"]),
        **summary,
    }


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    headers = ["rules", "mode", "seconds", *(f"accuracy at {mark}, %" for mark in dist_lr.MARKS)]
    headers += ["min and max, last half", "log-loss", "delay p50", "p99"]
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
        f"{dist_lr.data_name(settings)}, {settings['workers']} workers, one server, "
        f"{settings['iterations']} iterations of whole shards. Accuracy on the test rows after "
        f'{", ".join(marks)} and {last} iterations of worker 0 (always answering "no" scores '
        f"{100 * settings['majority']:.1f} %); log-loss at the end; median (min to max) of "
        f"{settings['seeds']} shuffles of the rows. A tick lasts at least {settings['tick_time_ms']:g} ms: "
        f"workers sleep between pull and push, so that they overlap on fewer cores as they would on as many "
        f"as there are workers. At full speed there is no sleep, and only every 20th iteration of the last "
        f"half is evaluated. The fair rates (the step of a tick) are the best of {rates} by training loss."
    )
    return f"{markdown(headers, published + rows)}\n\n{caption}"


def _speed(row: dict[str, Any]) -> str:
    return "" if row["tick_time_ms"] else ", full speed"


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    texts = {"majority": f"{100 * settings['majority']:.1f} %"}
    for mode, published in dist_lr.PUBLISHED.items():
        texts[f"published_{mode}_seconds"] = f"{published['seconds']:.0f} s"
        texts[f"published_{mode}_accuracy"] = f"{100 * published['accuracy']:.1f} %"
    for row in results["rows"]:
        name = f"{row['rules'].replace('-', '_')}_{row['mode']}" + ("" if row["tick_time_ms"] else "_fast")
        texts[f"{name}_seconds"] = f"{row['seconds']['median']:.2f} s"
        texts[f"{name}_180"] = f"{100 * row['accuracy']['180']['median']:.1f} %"
        texts[f"{name}_low"] = f"{100 * row['low']['min']:.1f} %"
        texts[f"{name}_delay"] = f"{row['delay_p50']['median']:.0f}"
    return texts


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    """Draw the accuracy against the iteration for every seed: dist-lr's rules beside the fair rules."""
    figure, panels = figures.panels(2, "Four workers on a9a: synchrony alone costs next to nothing")
    for panel, rules in zip(panels, ("dist-lr", "fair"), strict=True):
        for row in reversed(results["rows"]):  # draw the steady lines last
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
