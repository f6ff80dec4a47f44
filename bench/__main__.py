"""`python -m bench` lists the benchmarks, `python -m bench NAME [--quick]` runs one."""

import argparse
import sys

from tqdm import tqdm

from bench import record, requests, rounds, start
from shmps.errors import ShmpsError

# Each has `run(quick) -> (settings, results)` and `table(settings, results) -> str`,
# and a docstring whose first line is listed.
BENCHMARKS = {"rounds": rounds, "start": start, "requests": requests}


def main(arguments: list[str] | None = None) -> int:
    """Run with `arguments` (default: the process's); returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="List the benchmarks, or run one.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="which to run; without it they are listed")
    parser.add_argument("--quick", action="store_true", help="few repeats: to see that it runs, not to quote")
    options = parser.parse_args(arguments)
    if options.name is None:
        print(listing())
        return 0
    if options.name not in BENCHMARKS:
        parser.error(f"NAME is one of {', '.join(BENCHMARKS)}; found {options.name!r}")
    tqdm.monitor_interval = 0  # no thread of its own: nodes are forked from this process
    benchmark = BENCHMARKS[options.name]
    try:
        settings, results = benchmark.run(options.quick)
    except ShmpsError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    path = record.save(options.name, settings, results, options.quick)
    print(benchmark.table(settings, results))
    print(f"\n{path}", file=sys.stderr)
    return 0


def listing() -> str:
    """One line per benchmark."""
    width = max(map(len, BENCHMARKS))
    return "\n".join(
        f"{name:<{width}}  {(benchmark.__doc__ or '').splitlines()[0]}"
        for name, benchmark in BENCHMARKS.items()
    )


if __name__ == "__main__":
    sys.exit(main())
