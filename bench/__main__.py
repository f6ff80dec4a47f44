"""`python -m bench` lists the benchmarks; `python -m bench NAME [--quick | --seed N]` runs one."""

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from bench import record, report
from bench.faults import faults, kill, leftovers, replay
from bench.speed import (
    async_,
    blocks,
    cv,
    inline,
    load,
    outofcore,
    peers,
    protection,
    real,
    recording,
    requests,
    scaling,
    start,
    sync,
)
from bench.story import cure, grid, simulate, straggler, strength, table, trace
from shmps.errors import ShmpsError

MODULES = (
    table, trace, straggler, cure, grid, strength, simulate,
    kill, faults, leftovers, replay,
    protection, peers, real, blocks, cv, sync, scaling, start, requests, inline, load, outofcore, async_,
    recording,
)  # fmt: skip
# A benchmark is a module. The listing shows the first line of its docstring. It has:
#
#     run(quick) -> (settings, results)
#     table(settings, results) -> str      Markdown
#     figure(settings, results)            optional: a matplotlib figure
#     facts(settings, results) -> dict     optional: texts that pages quote, by name (see `report`)
#     failed(results) -> bool              optional: whether the results break a promise
#     replay(seed) -> str                  optional, for --seed
BENCHMARKS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2].removesuffix("_"): module for module in MODULES
}
REPORT = "report"
# Options of the `run` of these benchmarks only.
OWN = {
    "minutes": ("kill",),
    "data_dir": ("real", "blocks", "cv"),
    "sets": ("real", "blocks", "cv"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run with `arguments` (default: those of the process) and return the exit code."""
    options = _parsed(arguments)
    if options.name is None:
        print(listing())
        return 0
    if options.seed is not None:
        print(BENCHMARKS[options.name].replay(options.seed))
        return 0
    tqdm.monitor_interval = 0  # no monitor thread: this process forks the nodes
    try:
        if options.name == REPORT:
            made, failed = report.write(BENCHMARKS), False
        else:
            given = {option: getattr(options, option) for option in OWN}
            made, failed = _run(options.name, options.quick, given)
    except ImportError as error:
        print(f"bench: figures need matplotlib ({error}); pip install -e '.[plot]'", file=sys.stderr)
        return 1
    except ShmpsError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    for path in made:
        print(path, file=sys.stderr)
    return int(failed)


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="List the benchmarks, or run one.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the benchmark to run (default: list them)")
    parser.add_argument(
        "--quick", action="store_true", help="few repeats: a check that it runs, not to quote"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="faults, replay: trace only schedule N")
    parser.add_argument("--minutes", type=float, metavar="N", help="kill: run for N minutes")
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="real, blocks, cv: the folder of the sets (default: real/ in the data folder)",
    )
    parser.add_argument(
        "--sets", metavar="NAMES", help="real, blocks, cv: only these sets, separated by commas"
    )
    options = parser.parse_args(arguments)
    name = options.name
    if name is not None and name not in (*BENCHMARKS, REPORT):
        parser.error(f"NAME must be one of {', '.join((*BENCHMARKS, REPORT))}, got {name!r}")
    if options.seed is not None and not hasattr(BENCHMARKS.get(name), "replay"):
        parser.error(f"--seed needs a benchmark of seeded schedules (faults), got {name!r}")
    for option, owners in OWN.items():
        if getattr(options, option) is not None and name not in owners:
            parser.error(f"--{option.replace('_', '-')} is only for {', '.join(owners)}, got {name!r}")
    if options.minutes is not None and not options.minutes > 0:
        parser.error(f"--minutes must be > 0, got {options.minutes:g}")
    return options


def _run(name: str, quick: bool, given: dict[str, Any]) -> tuple[list[Path], bool]:
    """Run a benchmark; return the files written, and whether the results break a promise."""
    benchmark = BENCHMARKS[name]
    settings, results = benchmark.run(
        quick, **{key: value for key, value in given.items() if value is not None}
    )
    path = record.save(name, settings, results, quick)
    print(f"{benchmark.table(settings, results)}\n")
    failed = benchmark.failed(results) if hasattr(benchmark, "failed") else False
    return [path, *report.draw(benchmark, path.stem)], failed


def listing() -> str:
    """Return one line per benchmark."""
    lines = {name: (module.__doc__ or "").splitlines()[0] for name, module in BENCHMARKS.items()}
    lines[REPORT] = "Measure nothing; write the pages and figures again from the results files."
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {line}" for name, line in lines.items())


if __name__ == "__main__":
    sys.exit(main())
