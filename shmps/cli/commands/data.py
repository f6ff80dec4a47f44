"""`shmps data`: the named data sets."""

import argparse
import json
from typing import Any

from shmps.cli import console
from shmps.data import named_sets
from shmps.linear.text import table


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the named sets, where they are or would be, and their licences."
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    _add_folder(parser)
    actions = parser.add_subparsers(metavar="fetch")
    fetching = actions.add_parser(
        "fetch",
        help="download a set",
        description="Download a set, and verify its checksum.",
    )
    fetching.add_argument(
        "name", metavar="NAME", choices=tuple(named_sets.SETS), help=f"one of {', '.join(named_sets.SETS)}"
    )
    _add_folder(fetching)
    parser.set_defaults(name=None)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="the folder of the sets (default: $SHMPS_DATA_DIR, else data/ of a checkout)",
    )


def run(options: argparse.Namespace) -> None:
    from shmps.data import datasets

    if options.name is not None:
        for path in datasets.fetch(options.name, data_dir=options.data_dir, progress=True):
            console.output(str(path))
        return
    sets = _sets(options.data_dir)
    console.output(json.dumps(sets) if options.json else "\n\n".join(map(_told, sets)))


def _sets(data_dir: str | None) -> list[dict[str, Any]]:
    from shmps.data import datasets

    folder = datasets.data_folder(data_dir)
    sets: list[dict[str, Any]] = []
    for name, files in named_sets.SETS.items():
        parts = [
            {
                "path": str(folder / file),
                "there": (folder / file).exists(),
                "rows": named_sets.SOURCES[file].rows,
                "bytes": named_sets.SOURCES[file].size,
                "url": named_sets.SOURCES[file].url,
                "licence": named_sets.SOURCES[file].licence,
            }
            for file in files
        ]
        sets.append({"name": name, "files": parts})
    return [*sets, {"name": named_sets.SYNTHETIC, "files": []}]


def _told(known: dict[str, Any]) -> str:
    lines = [("name", known["name"])]
    for part in known["files"]:
        state = "there" if part["there"] else "not there, to be fetched"
        lines.append((part["path"], f"{state}; {part['rows']:,} rows, {part['bytes']:,} bytes"))
    licences = sorted({part["licence"] for part in known["files"]})
    lines += [("licence", licence) for licence in licences]
    if not known["files"]:
        lines.append(("", "generated in the shape of a9a, from --seed; needs no file"))
    return table(lines)
