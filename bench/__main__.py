"""`python -m bench` lists the benchmarks, `python -m bench NAME [--quick | --seed N]` runs one."""

import argparse
import sys
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from bench import record, report
from bench.faults import faults, kill, leftovers
from bench.speed import async_, load, outofcore, peers, protection, requests, scaling, start, sync
from bench.story import cure, grid, straggler, table, trace
from shmps.errors import ShmpsError

# Each has `run(quick) -> (settings, results)` and `table(settings, results) -> str`, and a docstring whose
# first line is listed; some have `figure(settings, results)` and `facts(settings, results)`: see report;
# `failed(results)`, where a promise is put to the test; and `replay(seed) -> str`, for --seed.
BENCHMARKS: dict[str, ModuleType] = {
    "table": table,
    "trace": trace,
    "straggler": straggler,
    "cure": cure,
    "grid": grid,
    "kill": kill,
    "faults": faults,
    "leftovers": leftovers,
    "protection": protection,
    "peers": peers,
    "sync": sync,
    "scaling": scaling,
    "start": start,
    "requests": requests,
    "load": load,
    "outofcore": outofcore,
    "async": async_,
}
REPORT = "report"


def main(arguments: list[str] | None = None) -> int:
    """Run with `arguments` (default: the process's); returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="List the benchmarks, or run one.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="which to run; without it they are listed")
    parser.add_argument("--quick", action="store_true", help="few repeats: to see that it runs, not to quote")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of faults: replay only the schedule N, and tell it"
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="of kill: go on for so long")
    options = parser.parse_args(arguments)
    if options.name is None:
        print(listing())
        return 0
    if options.name not in (*BENCHMARKS, REPORT):
        parser.error(f"NAME is one of {', '.join((*BENCHMARKS, REPORT))}; found {options.name!r}")
    if options.seed is not None:
        if not hasattr(BENCHMARKS.get(options.name), "replay"):
            parser.error(f"--seed is for a benchmark of seeded schedules (faults); found {options.name!r}")
        print(BENCHMARKS[options.name].replay(options.seed))
        return 0
    if options.minutes is not None and (options.name != "kill" or not options.minutes > 0):
        parser.error(f"--minutes is above 0, and for kill; found {options.minutes:g} for {options.name!r}")
    tqdm.monitor_interval = 0  # no thread of its own: nodes are forked from this process
    try:
        if options.name == REPORT:
            made, failed = report.write(BENCHMARKS), False
        else:
            made, failed = _run(options.name, options.quick, options.minutes)
    except ImportError as error:
        print(f"bench: figures need matplotlib ({error}); pip install -e '.[plot]'", file=sys.stderr)
        return 1
    except ShmpsError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    for path in made:
        print(path, file=sys.stderr)
    return int(failed)


def _run(name: str, quick: bool, minutes: float | None) -> tuple[list[Path], bool]:
    """Run a benchmark; the files that it made, and whether it found a promise broken."""
    benchmark = BENCHMARKS[name]
    settings, results = benchmark.run(quick, **({} if minutes is None else {"minutes": minutes}))
    path = record.save(name, settings, results, quick)
    print(f"{benchmark.table(settings, results)}\n")
    failed = benchmark.failed(results) if hasattr(benchmark, "failed") else False
    return [path, *report.draw(benchmark, path.stem)], failed


def listing() -> str:
    """One line per benchmark."""
    told = {name: (module.__doc__ or "").splitlines()[0] for name, module in BENCHMARKS.items()}
    told[REPORT] = "Nothing is measured: the pages and figures, made anew from the results files."
    width = max(map(len, told))
    return "\n".join(f"{name:<{width}}  {line}" for name, line in told.items())


if __name__ == "__main__":
    sys.exit(main())
