"""`shmps convert`: text into mapped data, which need not fit into memory."""

import argparse
import sys

import tqdm

from shmps.cli import console
from shmps.cli.arguments import add_reading
from shmps.cli.commands.rows import said


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Convert text into a folder that train, predict and inspect open without reading it."
    parser.add_argument(
        "source", metavar="PATH", help="svmlight text, or CSV if it ends with .csv; - is stdin; may be packed"
    )
    parser.add_argument("target", metavar="DIR", help="the folder to create, such as data.shmps")
    add_reading(parser, keep=True)
    parser.add_argument("--quiet", action="store_true", help="no bar, no summary")


def run(options: argparse.Namespace) -> None:
    from shmps.data import mapped

    silent = options.quiet or not sys.stderr.isatty()
    with tqdm.tqdm(disable=silent, unit="B", unit_scale=True, leave=False, file=sys.stderr) as bar:

        def moved(done: int, planned: int) -> None:
            bar.total = planned or None  # unknown for a pipe
            bar.update(done - bar.n)

        found = mapped.convert(
            "/dev/stdin" if options.source == "-" else options.source,
            options.target,
            said(options),
            on_progress=moved,
        )
    if not options.quiet:
        console.output(
            f"{options.target}: {found['rows']:,} rows, {found['features']:,} features, "
            f"{found['nonzeros']:,} non-zeros"
        )
