"""Nodes that share no memory beside nodes that do, on one machine: requests, trainings, recovery.

The engines take turns in every repeat:

    processes     one machine: shared memory and pipes
    rehearsal     the engine of several machines: TCP connections, each node with a memory of its own
    ray           the same, with actors of Ray as processes; only if the package is installed

Measured are the push_pulls of one worker of KEYS of PARAMETERS keys, each waited for; the minibatches of a9a
with four workers and two servers; and the time from the notice of a server's death until its successor is at
work, with a replica.

Results: "requests": [{"keys", "engine", "p50_us", "ratio"}], "training": [{"mode", "replicas", "engine",
"pushes_per_second", "ratio"}], "recovery": [{"engine", "ms"}]: spreads; a ratio is the time to that of
"processes" in the same repeat. "missing": packages that are not installed.
"""

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from bench.record import markdown, ratio, shown, spread
from bench.speed import ipc
from bench.timing import progress
from shmps import ASYNC, SGD, Cluster, KVWorker, LogisticRegression, Ray, Rehearsal
from shmps.data import datasets
from shmps.ps.messages import SERVER
from shmps.system.failpoints import Failpoint

KEYS, PARAMETERS = (128, 10_000, 1_000_000), 1_000_000
ROWS, WORKERS, SERVERS = 256, 4, 2
MODES = {"sync": 0, "sync, replica": 1, "async": 0, "async, replica": 1}
ONE = "processes"


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    repeats, requests, epochs = (1, 50, 1) if quick else (5, 500, 10)
    data = datasets.load(None)
    missing = [] if find_spec("ray") else ["ray"]
    names = [ONE, "rehearsal", *(["ray"] * (not missing))]
    asked: dict[tuple[int, str], list[float]] = {(k, name): [] for k in KEYS for name in names}
    trained: dict[tuple[str, str], list[float]] = {(m, name): [] for m in MODES for name in names}
    recovered: dict[str, list[float]] = {name: [] for name in names}
    with (
        _ray(bool(missing)),
        progress("machines", repeats * (len(asked) + len(trained) + len(recovered))) as bar,
    ):
        for _ in range(repeats):
            for (count, name), seconds in asked.items():
                seconds.append(_request(_engine(name), count, requests if count < PARAMETERS else 10))
                bar.update()
            for (mode, name), seconds in trained.items():
                seconds.append(_train(_engine(name), mode, data, epochs))
                bar.update()
            for name, seconds in recovered.items():
                seconds.append(_recover(_engine(name)))
                bar.update()
    return {
        "parameters": PARAMETERS, "requests": requests, "repeats": repeats, "data": data.name,
        "rows": ROWS, "workers": WORKERS, "servers": SERVERS, "epochs": epochs,
    }, {
        "requests": [
            {"keys": count, "engine": name, "p50_us": spread(1e6 * each for each in seconds)}
            | {"ratio": ratio(seconds, asked[count, ONE])}
            for (count, name), seconds in asked.items()
        ],
        "training": [
            {"mode": mode, "engine": name, "pushes_per_second": spread(1 / each for each in seconds)}
            | {"ratio": ratio(seconds, trained[mode, ONE])}
            for (mode, name), seconds in trained.items()
        ],
        "recovery": [
            {"engine": name, "ms": spread(1e3 * each for each in seconds)}
            for name, seconds in recovered.items()
        ],
        "missing": missing,
    }  # fmt: skip


@contextlib.contextmanager
def _ray(is_missing: bool) -> Iterator[None]:
    """Start Ray on this machine."""
    if is_missing:
        yield
        return
    import ray

    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
    yield
    ray.shutdown()


def _engine(name: str) -> Any:
    return {ONE: ONE, "rehearsal": Rehearsal(), "ray": Ray(cpus_per_worker=0, cpus_per_server=0)}[name]


def _request(engine: Any, count: int, requests: int) -> float:
    """Return the median time of a push_pull of `count` keys."""
    cluster = Cluster(
        PARAMETERS, servers=1, workers=1, consistency=ASYNC, updater=SGD(0.1), max_keys=count, engine=engine
    )  # fmt: skip
    with cluster:
        return float(np.median(cluster.run(session, count, requests)[0][requests // 10 :]))


def session(kv: KVWorker, count: int, requests: int) -> np.ndarray:
    """Return the seconds of each push_pull of `count` keys, (requests,)."""
    random = np.random.default_rng(0)
    keys = [np.sort(random.choice(PARAMETERS, count, replace=False)) for _ in range(8)]
    return ipc.timed(kv.push_pull, [keys[i % 8] for i in range(requests)], random.standard_normal(count))


def _train(engine: Any, mode: str, data: Any, epochs: int) -> float:
    """Return the time per push of a training: its seconds divided by the pushes of all workers."""
    estimator = LogisticRegression(
        solver="minibatch", mode=mode.partition(",")[0], replicas=MODES[mode], batch_size=ROWS, epochs=epochs,
        workers=WORKERS, servers=SERVERS, updater="sgd", learning_rate=0.1, engine=engine,
    )  # fmt: skip
    result = estimator.fit(data.train_X, data.train_y).result_
    return result.seconds["train"] / result.ticks


def _recover(engine: Any) -> float:
    """Return the seconds from the notice of a server's death until its successor was at work."""
    events: list[Any] = []
    cluster = Cluster(
        PARAMETERS, servers=SERVERS, workers=1, updater=SGD(0.1), max_keys=128, replicas=1, engine=engine,
        failpoints=[Failpoint(SERVER, 1, "server: committed", 100)],
    )  # fmt: skip
    with cluster:
        cluster.run(session, 128, 200, on_event=events.append)
    [death] = [event for event in events if event.role == "server"]
    return float(death.seconds)


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    texts = [
        f"A push_pull of keys of {settings['parameters']:,}, by one worker and one server; median (min to "
        f"max) of {settings['repeats']} repeats.",
        markdown(
            ["keys", "engine", "p50, µs", "relative to processes"],
            [
                (f"{each['keys']:,}", each["engine"], shown(each["p50_us"]), shown(each["ratio"], ".1f"))
                for each in results["requests"]
            ],
        ),
        f"{settings['data']}, minibatches of {settings['rows']} rows, {settings['workers']} workers and "
        f"{settings['servers']} servers.",
        markdown(
            ["mode", "engine", "pushes/s", "time relative to processes"],
            [
                (each["mode"], each["engine"], shown(each["pushes_per_second"]), shown(each["ratio"], ".1f"))
                for each in results["training"]
            ],
        ),
        "From the notice of a server's death until its successor is at work, with a replica:",
        markdown(["engine", "ms"], [(each["engine"], shown(each["ms"])) for each in results["recovery"]]),
    ]
    if results["missing"]:
        texts.append(f"Not installed: {', '.join(results['missing'])}.")
    return "\n\n".join(texts)
