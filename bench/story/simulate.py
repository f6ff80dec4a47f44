"""A thousand workers in virtual time: where async wins, where sync does, where the servers saturate.

Rows, start and gradients are those of the story: a9a, whole shards, SGD. The machines are simulated
(`shmps.simulate`): the rows stand for a set on which one worker takes FULL seconds for a gradient, one worker
in a hundred is five times slower, and the times of all vary a little. More workers have smaller shards.

- study: virtual seconds until the training log-loss is within WITHIN of the optimum's, by mode and number of
  workers. Every mode has SHARE of its highest stable rate: 2 / curvature in sync mode (of a tick), and in the
  others (of a push) the limit for a delay of all other workers. The staleness-aware mode has the rate of
  sync, divided by 1 + the delay of each push.
- networks: the same for NARROW workers by the bandwidth of the network.
- stability: the highest rate at which async stays at the optimum, found by bisection, beside the limit for a
  delay of workers - 1. The story of the table rests on that limit.
- published: dist-lr's rules and four workers, whose gradients take 0.35 s on average, as published for async.
  The variation of that time is the one of VARIATIONS that explains the published time of sync best.
- validation: real processes beside the simulation of the same parameters: ticks of TICK_TIME ms, with and
  without a slow worker.

Results: "optimum": its log-loss; "curvature"; "study" and "networks": [{"mode", "workers", "gbits", "rate",
"seconds" (virtual; null: not within MOST iterations), "iterations" of worker 0, "delay_p50", "delay_max",
"computing", "serving" (mean shares of the time), "bytes", "wall_seconds"}]; "stability": [{"workers",
"found", "limit"}]; "published": [{"variation", "sync", "async" (each {"seconds", "accuracy", "low",
"delay_p50", "delay_max"})}]; "validation": [{"mode", "workers", "slow", "real_ms", "simulated_ms" (per
iteration), "real_delay", "simulated_delay" (p50), "real_loss", "simulated_loss"}].
"""

import time
import warnings
from functools import partial
from typing import Any

import numpy as np

from bench import figures
from bench.record import markdown
from bench.story import dist_lr
from bench.timing import progress
from shmps import Inline, LogisticRegression, Machines
from shmps.data.rows import rows_of
from shmps.errors import Diverged, NotConverged, UnstableRate, WorseThanConstant
from shmps.linear.result import Result
from shmps.linear.stability import curvature, stable_rate
from shmps.simulation import simulation_of

WORKERS = (1, 3, 10, 30, 100, 300, 1000)
NARROW, GBITS = 300, (1.0, 10.0, 100.0)
MOST_BOUNDED = 100  # workers: with more, a server looks at too many parked pulls, and the run takes an hour
SERVERS = 2
FULL = 2.0  # seconds of one gradient over all rows by one worker
LATENCY, VARIATION, STRAGGLERS, SLOWNESS = 100e-6, 0.1, 0.01, 5.0
WITHIN, SHARE, MOST, INTERVAL = 0.01, 0.5, 420, 4
MODES: dict[str, dict[str, Any]] = {
    "sync": {"mode": "sync"},
    "bounded 4": {"mode": "bounded", "bound": 4},
    "async": {"mode": "async"},
    "staleness-aware": {"mode": "async", "schedule": "1/(1+delay)"},
}
STABILITY = (1, 2, 4, 9, 16, 32)
VARIATIONS = (0.0, 0.25, 0.5, 0.75)
GRADIENT = dist_lr.PUBLISHED["async"]["seconds"] / dist_lr.ITERATIONS  # seconds
VALIDATED, TICK_TIME, SLOW_FACTOR = (1, 2, 4, 8), 50.0, 3.0


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    workers: tuple[int, ...] = (1, 10) if quick else WORKERS
    stability: tuple[int, ...] = (1, 4) if quick else STABILITY
    validated: tuple[int, ...] = (2,) if quick else VALIDATED
    gbits: tuple[float, ...] = (1.0, 10.0) if quick else GBITS
    variations: tuple[float, ...] = (0.0, 0.5) if quick else VARIATIONS
    narrow, iterations = (10, 10) if quick else (NARROW, 30)
    tested = dist_lr.setting(0)
    setting = tested._replace(tested=(tested.X, tested.y))
    best = setting.optimum()
    optimum = setting.log_loss(best)
    steepness = curvature(rows_of(setting.X, setting.y), best, False, setting.l2)
    assert steepness is not None
    study = [
        (mode, count, 10.0)
        for count in workers
        for mode in MODES
        if mode != "bounded 4" or count <= MOST_BOUNDED
    ]
    networks = [(mode, narrow, each) for mode in ("sync", "async") for each in gbits if each != 10.0]
    pairs = [(mode, count, slow) for mode in list(MODES)[:3] for count in validated for slow in (False, True)]
    steps = len(study) + len(networks) + len(stability) + len(variations) + len(pairs)
    with progress("simulate", steps) as bar:

        def each(function: Any, cases: Any) -> list[Any]:
            found = []
            for case in cases:
                found.append(function(*case))
                bar.update()
            return found

        results = {
            "optimum": optimum,
            "curvature": steepness,
            "published": each(partial(_published, tested), [(one,) for one in variations]),
            "stability": each(partial(_stability, setting, best, steepness), [(one,) for one in stability]),
            "validation": each(partial(_validation, setting, iterations), pairs),
            "study": each(partial(_study, setting, optimum, steepness), study),
            "networks": each(partial(_study, setting, optimum, steepness), networks),
        }
    settings = setting.settings | {
        "servers": SERVERS, "full_seconds": FULL, "latency_us": LATENCY * 1e6, "variation": VARIATION,
        "stragglers": STRAGGLERS, "slowness": SLOWNESS, "within": WITHIN, "share": SHARE, "narrow": narrow,
        "gradient_seconds": GRADIENT, "validated_tick_ms": TICK_TIME, "slow_factor": SLOW_FACTOR,
        "iterations": iterations,
    }  # fmt: skip
    return settings, results


def _trained(setting: dist_lr.Setting, engine: Any, start: Any = None, **parameters: Any) -> Result:
    """Train; without a `start` as the rest of the story, else from these weights, by SGD."""
    if start is None:
        return setting.train(**({"tick_time": 0.0, "engine": engine} | parameters))
    estimator = LogisticRegression(
        engine=engine, solver="minibatch", updater="sgd", batch_size=0, l2=setting.l2, fit_intercept=False,
        early_stopping=False, **parameters,
    )  # fmt: skip
    with warnings.catch_warnings():
        for each in (UnstableRate, NotConverged, WorseThanConstant):  # rates that are too high, on purpose
            warnings.simplefilter("ignore", each)
        return estimator.fit(setting.X, setting.y, coef_init=start).result_


class _Within:
    """Stops a training when its log-loss is at most the target."""

    def __init__(self, target: float):
        self._target = target
        self.reached: Any = None

    def on_evaluation(self, evaluation: Any) -> bool:
        if self.reached is None and evaluation.metrics.log_loss <= self._target:
            self.reached = evaluation
        return self.reached is not None


def _rate(mode: str, workers: int, steepness: float) -> float:
    """Return SHARE of the highest stable rate: of a tick in sync mode, of a push in the others."""
    delay = workers - 1 if mode in ("async", "bounded 4") else 0
    return SHARE * stable_rate(steepness, delay)


def _study(
    setting: dist_lr.Setting, optimum: float, steepness: float, mode: str, workers: int, gbits: float
) -> dict[str, Any]:
    """Return how long a mode takes until it is within WITHIN of the optimum."""
    stop, rate = _Within((1 + WITHIN) * optimum), _rate(mode, workers, steepness)
    machines = Machines(
        latency=LATENCY,
        bandwidth=gbits * 125e6,
        nonzero=FULL / setting.X.nnz,
        variation=VARIATION,
        stragglers=STRAGGLERS,
        slowness=SLOWNESS,
    )
    engine, began = Inline(machines), time.monotonic()
    result = _trained(
        setting, engine, workers=workers, servers=SERVERS, learning_rate=rate, iterations=MOST,
        test_interval=INTERVAL, callbacks=[stop], **MODES[mode],
    )  # fmt: skip
    done, reached = simulation_of(engine, result), stop.reached
    return {
        "mode": mode,
        "workers": workers,
        "gbits": gbits,
        "rate": rate,
        "seconds": reached and round(reached.seconds, 6),
        "iterations": reached and reached.iteration,
        "delay_p50": result.delays.p50,
        "delay_max": result.delays.max,
        "computing": round(float(done.computing.mean()), 4),
        "serving": round(float(done.serving.mean()), 4),
        "bytes": done.bytes,
        "wall_seconds": round(time.monotonic() - began, 2),
    }


def _stability(setting: dist_lr.Setting, best: np.ndarray, steepness: float, workers: int) -> dict[str, Any]:
    """Return the highest rate of a push at which async training stays near the optimum."""
    machines = Machines(latency=0.0, push=0.0, pull=0.0, key=0.0, minibatch=1.0, nonzero=0.0, variation=0.02)
    limit, loss = stable_rate(steepness, workers - 1), setting.log_loss(best)
    start = best + 0.01 * np.random.default_rng(0).standard_normal(len(best))

    def stays(rate: float) -> bool:
        try:
            result = _trained(
                setting, Inline(machines), start, workers=workers, mode="async", learning_rate=rate,
                iterations=200, test_interval=0,
            )  # fmt: skip
        except Diverged:
            return False
        return result.metrics.log_loss < 1.02 * loss

    low, high = 0.25 * limit, 4 * limit
    for _ in range(6):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if stays(middle) else (low, middle)
    return {"workers": workers, "found": (low * high) ** 0.5, "limit": limit}


def _published(setting: dist_lr.Setting, variation: float) -> dict[str, Any]:
    """Return dist-lr's table in virtual time, if the time of a gradient varies so much."""
    machines = Machines(
        latency=LATENCY, bandwidth=125e6, minibatch=GRADIENT, nonzero=0.0, variation=variation
    )
    row: dict[str, Any] = {"variation": variation}
    for mode in ("sync", "async"):
        result = _trained(setting, Inline(machines), mode=mode, updater="dist-lr", learning_rate=dist_lr.RATE)
        accuracy = [progress.metrics.accuracy for progress in result.history]
        row[mode] = {
            "seconds": round(result.seconds["train"], 3),
            "accuracy": accuracy[180],  # dist-lr's iteration i is the state after i + 1 ticks
            "low": min(accuracy[len(accuracy) // 2 :]),
            "delay_p50": result.delays.p50,
            "delay_max": result.delays.max,
        }
    return row


def _validation(
    setting: dist_lr.Setting, iterations: int, mode: str, workers: int, slow: bool
) -> dict[str, Any]:
    """Return the time per iteration, the delay and the loss of real processes and of their simulation."""
    row: dict[str, Any] = {"mode": mode, "workers": workers, "slow": slow}
    for name, engine in (("real", "processes"), ("simulated", Inline(Machines(latency=30e-6)))):
        result = setting.train(
            engine=engine, workers=workers, tick_time=TICK_TIME, iterations=iterations,
            learning_rate=1 / workers, slow_worker=(workers - 1, SLOW_FACTOR) if slow else None,
            test_interval=0, **MODES[mode],
        )  # fmt: skip
        row[f"{name}_ms"] = 1000 * result.seconds["train"] / iterations
        row[f"{name}_delay"] = result.delays.p50
        row[f"{name}_loss"] = result.metrics.log_loss
    return row


def _seconds(row: dict[str, Any]) -> str:
    return "never" if row["seconds"] is None else f"{row['seconds']:.3g}"


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    return "\n\n".join(_tables(settings, results).values())


def _tables(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    return {
        "study": _study_table(settings, results),
        "networks": _networks_table(settings, results),
        "stable_rates": _stability_table(results),
        "published": _published_table(settings, results),
        "validation": _validation_table(settings, results),
    }


def _study_table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    by_case = {(row["mode"], row["workers"]): row for row in results["study"]}
    rows = [
        [
            count,
            *(_seconds(by_case[mode, count]) if (mode, count) in by_case else "" for mode in MODES),
            by_case["async", count]["delay_p50"],
            *(f"{by_case[mode, count]['computing']:.0%}" for mode in ("sync", "async")),
            *(f"{by_case[mode, count]['serving']:.0%}" for mode in ("sync", "async")),
        ]
        for count in sorted({workers for _, workers in by_case})
    ]
    heads = ["workers", *MODES, "delay", "computing, sync", "async", "serving, sync", "async"]
    return (
        markdown(heads, rows) + f"\n\nVirtual seconds until the training log-loss is within "
        f"{settings['within']:.0%} of the optimum's, {dist_lr.data_name(settings)}, {settings['servers']} "
        f"servers, 10 Gbit/s. One worker would take {settings['full_seconds']:g} s for a gradient; "
        f"{settings['stragglers']:.0%} of the workers are {settings['slowness']:g} times slower. "
        f"Bounded mode is simulated up to {MOST_BOUNDED} workers. Delay: the median in async. Computing, "
        f"serving: the mean share of the time of workers and servers."
    )


def _networks_table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = [[row["mode"], f"{row['gbits']:g}", _seconds(row)] for row in _by_network(settings, results)]
    return (
        markdown(["mode", "Gbit/s", "seconds"], rows)
        + f"\n\nThe same for {settings['narrow']} workers by the bandwidth of every machine."
    )


def _by_network(settings: dict[str, Any], results: dict[str, Any]) -> list[dict[str, Any]]:
    rows = [row for row in results["study"] if row["workers"] == settings["narrow"]] + results["networks"]
    chosen = [row for row in rows if row["mode"] in ("sync", "async")]
    return sorted(chosen, key=lambda row: (row["mode"], row["gbits"]))


def _stability_table(results: dict[str, Any]) -> str:
    rows = [
        [row["workers"], f"{row['found']:.3g}", f"{row['limit']:.3g}", f"{row['found'] / row['limit']:.2f}"]
        for row in results["stability"]
    ]
    return (
        markdown(["workers", "highest stable rate", "limit", "ratio"], rows)
        + "\n\nThe highest rate of a push at which async stays near the optimum, found by bisection, beside "
        "the limit 2 sin(pi / (2 (2 delay + 1))) / curvature for a delay of all other workers."
    )


def _published_table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = [
        ["published", *(f"{dist_lr.PUBLISHED[mode]['seconds']:.0f}" for mode in ("sync", "async"))]
        + [f"{100 * dist_lr.PUBLISHED[mode]['accuracy']:.1f}" for mode in ("sync", "async")]
        + [""]
    ]
    for row in results["published"]:
        modes = row["sync"], row["async"]
        rows.append(
            [f"variation {row['variation']:g}", *(f"{each['seconds']:.0f}" for each in modes)]
            + [f"{100 * each['accuracy']:.1f}" for each in modes]
            + [f"{100 * row['async']['low']:.1f}"]
        )
    heads = ["", "seconds, sync", "async", "accuracy, sync", "async", "least, async"]
    return (
        markdown(heads, rows)
        + f"\n\nThe published table in virtual time: dist-lr's rules, {dist_lr.WORKERS} "
        f"workers, {dist_lr.ITERATIONS} iterations, gradients of {settings['gradient_seconds']:g} s on "
        f"average, by the standard deviation of the logarithm of that time. Accuracy in % at iteration 180; "
        f"least: the least in the last half."
    )


def _validation_table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['mode']}{', one slow' if row['slow'] else ''}",
            row["workers"],
            f"{row['real_ms']:.1f}",
            f"{row['simulated_ms']:.1f}",
            f"{row['simulated_ms'] / row['real_ms'] - 1:+.0%}",
            f"{row['real_delay']}, {row['simulated_delay']}",
            f"{row['real_loss']:.4f}, {row['simulated_loss']:.4f}",
        ]
        for row in results["validation"]
    ]
    heads = ["mode", "workers", "real ms", "simulated", "difference", "delay p50", "log-loss"]
    return (
        markdown(heads, rows) + f"\n\nMilliseconds per iteration of real processes and of their simulation: "
        f"{settings['iterations']} iterations of {settings['validated_tick_ms']:g} ms, the slow worker "
        f"{settings['slow_factor']:g} times slower; delays and log-losses of both."
    )


def facts(settings: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    rows = {(row["mode"], row["workers"]): row for row in results["study"]}
    counts = sorted({workers for _, workers in rows})
    texts = _tables(settings, results) | {"most": f"{counts[-1]:,}"}
    for (mode, workers), row in rows.items():
        name = f"{mode.replace(' ', '_').replace('-', '_')}_{workers}"
        texts[name] = f"{_seconds(row)} s"
        texts[f"{name}_serving"] = f"{row['serving']:.0%}"
        texts[f"{name}_wall"] = f"{row['wall_seconds']:.0f} s"
    texts["first_straggler"] = str(next((n for n in counts if round(settings["stragglers"] * n)), "-"))
    texts["straggler_share"] = f"{settings['stragglers']:.0%}"
    texts["slowness"] = f"{settings['slowness']:g}"
    differences = [abs(row["simulated_ms"] / row["real_ms"] - 1) for row in results["validation"]]
    texts["furthest"], texts["typical"] = f"{max(differences):.0%}", f"{np.median(differences):.0%}"
    apart = max(abs(row["simulated_delay"] - row["real_delay"]) for row in results["validation"])
    texts["delays_apart"] = str(apart)
    texts["pairs"] = str(len(differences))
    ratios = [abs(row["found"] / row["limit"] - 1) for row in results["stability"]]
    texts["rates_furthest"] = f"{max(ratios):.0%}"
    best = min(results["published"], key=_far_from_published)
    texts["chosen_variation"] = f"{best['variation']:g}"
    for mode in ("sync", "async"):
        texts[f"published_{mode}"] = f"{best[mode]['seconds']:.0f} s"
        texts[f"published_{mode}_accuracy"] = f"{100 * best[mode]['accuracy']:.1f} %"
        texts[f"constant_{mode}"] = f"{results['published'][0][mode]['seconds']:.0f} s"
        texts[f"constant_{mode}_accuracy"] = f"{100 * results['published'][0][mode]['accuracy']:.1f} %"
    return texts


def _far_from_published(row: dict[str, Any]) -> float:
    return abs(row["sync"]["seconds"] - dist_lr.PUBLISHED["sync"]["seconds"])


def figure(settings: dict[str, Any], results: dict[str, Any]) -> Any:
    """Draw the time to the optimum, and the stable rate, against the number of workers."""
    figure, (left, right) = figures.panels(2, "A thousand workers in virtual time", share=False)
    for mode, colour in zip(MODES, figures.MORE_COLOURS, strict=False):
        rows = [row for row in results["study"] if row["mode"] == mode and row["seconds"] is not None]
        left.plot(
            [row["workers"] for row in rows], [row["seconds"] for row in rows], "o-", color=colour, label=mode
        )
    first = next(row for row in results["study"] if row["mode"] == "sync")
    counts = sorted({row["workers"] for row in results["study"]})
    ideal = [first["seconds"] * first["workers"] / count for count in counts]
    left.plot(counts, ideal, **figures.REFERENCE, label="sync of one worker, divided")
    left.set(
        xscale="log", yscale="log", xlabel="workers",
        ylabel=f"virtual seconds to {settings['within']:.0%} of the optimum",
    )  # fmt: skip
    left.legend()
    rows = results["stability"]
    counts = [row["workers"] for row in rows]
    right.plot(counts, [row["found"] for row in rows], "o", color=figures.COLOURS["async"], label="found")
    right.plot(counts, [row["limit"] for row in rows], **figures.REFERENCE, label="limit of the theory")
    right.set(xscale="log", yscale="log", xlabel="workers", ylabel="highest stable rate of a push, async")
    right.legend()
    return figure
