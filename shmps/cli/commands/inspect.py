"""`shmps inspect`: the content of a model, a journal or a data file."""

import argparse
import json
import os
import textwrap
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from shmps.cli import console
from shmps.cli.arguments import add_reading
from shmps.cli.commands.rows import label_text, said
from shmps.data.dialect import Dialect, origin_of
from shmps.errors import DataError
from shmps.linear.text import table
from shmps.system import files

if TYPE_CHECKING:
    from shmps.models.model import Model

BINS, BAR = 12, 40  # bins of the histogram; columns of the longest bar
SOME = 5  # labels to show


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show a model (settings, largest weights, histogram), a journal (nodes, events, delays) or a data "
        "file (sizes, labels)."
    )
    parser.add_argument(
        "data", metavar="DATA", help="a model, a journal or a data file, detected by the content"
    )
    add_reading(parser)
    parser.add_argument(
        "--top", type=int, default=10, metavar="N", help="weights of the largest magnitude (default: 10)"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="verify the checksums of mapped data; those of other files always are",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def run(options: argparse.Namespace) -> None:
    from shmps.data import mapped
    from shmps.data.reading import read
    from shmps.models import formats

    if (model_format := _format_of(options.data)) is not None:
        model = formats.load(options.data)
        found = _of_model(model, options.data, model_format, max(options.top, 0))
        text = _model_text
    elif _is_journal(options.data):
        found, text = _of_journal(options.data), _journal_text
    elif os.path.isdir(options.data):
        if options.verify:
            mapped.verify(options.data)
        found, text = _of_mapped(options.data, options.verify), _rows_text
    else:
        rows = read(options.data, said(options))
        found, text = _of_rows(rows.X, rows.y, options.data), _rows_text
    console.output(json.dumps(found) if options.json else text(found))


def _format_of(path: str) -> str | None:
    """Return the format of a model; None for data."""
    from shmps.models import formats

    try:
        with files.opened(path, "model") as (file, _):
            return formats.format_of(file, path)
    except DataError:
        return None


def _is_journal(path: str) -> bool:
    from shmps.journal import CONTAINER, HEADER

    try:
        if os.path.isdir(path):
            path = os.path.join(path, HEADER)
        with files.opened(path, "journal") as (file, _):
            return file.read(len(CONTAINER.magic)) == CONTAINER.magic
    except DataError:
        return False


def _of_journal(path: str) -> dict[str, Any]:
    from shmps.journal import Journal
    from shmps.linear.result import Delays
    from shmps.ps.schedule import EVENT

    journal = Journal.open(path)
    events = len(journal.pushes) + len(journal.pulls)
    delays = Delays.of(journal.delays)
    return {
        "journal": path,
        "mode": str(journal.mode),
        **{name: getattr(journal, name) for name in ("servers", "workers", "num_keys", "width", "complete")},
        "pushes": len(journal.pushes),
        "pulls": len(journal.pulls),
        "bytes_per_event": os.path.getsize(path) / max(events, 1) if journal.digest else EVENT.itemsize,
        "delays": {"p50": delays.p50, "p99": delays.p99, "max": delays.max},
        "stops": journal.stops,
        "settings": journal.settings,
        "data": journal.data,
        "digest": journal.digest,
    }


def _journal_text(found: dict[str, Any]) -> str:
    delays, data, digest = found["delays"], found["data"], found["digest"]
    stopped = ", ".join(f"worker {rank} after push {number}" for rank, number in found["stops"].items())
    return table(
        [
            ("journal", f"{found['journal']} ({found['bytes_per_event']:.1f} bytes per event)"),
            ("mode", found["mode"]),
            ("workers, servers", f"{found['workers']}, {found['servers']}"),
            ("keys", f"{found['num_keys']:,}" + f" of {found['width']} values" * (found["width"] > 1)),
            ("events", f"{found['pushes']:,} pushes, {found['pulls']:,} pulls, of all servers"),
            ("delay p50, p99, max", f"{delays['p50']}, {delays['p99']}, {delays['max']} versions"),
            ("ended", "by itself" if found["complete"] else f"it was {'broken off' if digest else 'killed'}"),
            *([("stopped", stopped)] if stopped else []),
            *([("settings", _settings(found["settings"]))] if found["settings"] else []),
            *([("data", f"{data['rows']:,} rows, {data['features']:,} features")] if data else []),
            *([("weights", f"SHA-256 {digest['weights']}")] if digest else []),
        ]
    )


def _of_model(model: "Model", path: str, model_format: str, top: int) -> dict[str, Any]:
    weights = np.atleast_2d(model.coefficients)
    order = np.argsort(-np.abs(weights), axis=None, kind="stable")[:top]
    places = zip(*np.unravel_index(order, weights.shape), strict=True)
    used = weights[weights != 0]
    counts, edges = np.histogram(used, BINS) if len(used) else (np.zeros(0, int), np.zeros(0))
    training = Dialect.of(model.settings)
    base, names = 0 if training.zero_based else 1, _names(training)
    speaking = (
        model.labels[1:] if len(model.labels) == 2 else model.labels
    )  # labels that weights above 0 favour
    return {
        "model": path,
        "format": model_format,
        "features": model.num_features,
        "nonzero_weights": len(used),
        "intercept": model.intercept if len(model.labels) == 2 else model.intercept.tolist(),
        "labels": list(model.labels),
        "proba": model.link.description if len(model.labels) > 2 else None,
        "settings": {name: value for name, value in model.settings.items() if name != "names"},
        # The first index in the training text: 1 or 0.
        "counted_from": base,
        "largest": [
            {
                "feature": int(at) + base,
                **({"names": names.get(int(at), [])} if names else {}),
                "label": speaking[row],
                "weight": float(weights[row, at]),
            }
            for row, at in places
            if weights[row, at]
        ],
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _names(training: Dialect) -> dict[int, list[str]]:
    """Return the names of each feature, if they were kept; -1*name was hashed with the sign -1."""
    if training.hash_bits is None:
        return {at: [name] for at, name in enumerate(training.columns or ())}
    names: dict[int, list[str]] = {}
    for name, feature in (training.names or {}).items():
        names.setdefault(abs(feature) - 1, []).append(name if feature > 0 else f"-1*{name}")
    return names


def _model_text(found: dict[str, Any]) -> str:
    labels, intercept = found["labels"], found["intercept"]
    if len(labels) == 2:
        rule = f"{_label(labels[1])} where the margin is above 0, else {_label(labels[0])}"
        told = f"{intercept:.6g}"
    else:
        rule = f"the one of {_first(labels, _label)} whose margin is the largest"
        told = _first([f"{each:.6g}" for each in intercept])
    lines = [
        ("model", f"{found['model']} (format {found['format']})"),
        ("features", f"{found['features']:,}, {found['nonzero_weights']:,} weights other than 0"),
        ("intercept", told),
        ("labels", rule),
        *([("proba", found["proba"])] if found["proba"] else []),
        ("settings", _settings(found["settings"])),
        *_columns_told(found["settings"].get("columns")),
    ]
    parts = [table(lines)]
    if found["largest"]:
        rows = [
            f"{weight['feature']:>12}  {weight['weight']:>+12.6g}"
            + f"   {label_text(weight['label'])}" * (len(labels) > 2)
            + f"   {_first(weight.get('names', []))}".rstrip()
            for weight in found["largest"]
        ]
        head = f"{'feature':>12}  {'weight':>12}   " + "label  " * (len(labels) > 2)
        parts.append("\n".join([head + f"(from {found['counted_from']}, largest magnitude first)", *rows]))
    if found["histogram"]["counts"]:
        parts.append("weights other than 0\n" + _histogram(**found["histogram"]))
    return "\n\n".join(parts)


def _label(label: Any) -> str:
    """Return a label as `predict` writes it, text in quotes."""
    return repr(label) if isinstance(label, str) else label_text(label)


def _first(values: list[Any], text: Callable[[Any], str] = str) -> str:
    """Return the first values as text, and how many others there are."""
    more = f", and {len(values) - SOME:,} others" if len(values) > SOME else ""
    return ", ".join(map(text, values[:SOME])) + more


def _columns_told(columns: list[str] | None) -> list[tuple[str, str]]:
    return [("columns", _first(columns))] if columns else []


def _settings(settings: dict[str, Any]) -> str:
    told = ", ".join(
        f"{name} {value}" for name, value in settings.items() if value is not None and name != "columns"
    )
    return textwrap.fill(told, 90).replace("\n", "\n" + " " * len("intercept  ")) or "not kept"


def _histogram(edges: list[float], counts: list[int]) -> str:
    most = max(counts)
    return "\n".join(
        f"{low:>+12.4g} to {high:>+10.4g}  {count:>10,}  {'#' * -(-count * BAR // most)}".rstrip()
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    )


def _of_rows(X: Any, y: np.ndarray, path: str) -> dict[str, Any]:
    labels, counts = np.unique(y, return_counts=True)
    pairs = zip(labels.tolist(), counts.tolist(), strict=True)
    return {
        "data": path,
        "kind": "text",
        **_sizes(X.shape[0], X.shape[1], int(X.nnz)),
        "labels": _labels(pairs),
        "columns": origin_of(X).kept().get("columns"),
    }


def _of_mapped(path: str, verified: bool) -> dict[str, Any]:
    """Describe mapped data from meta.json alone, which takes no time at any size."""
    from shmps.data import mapped

    meta = mapped.describe(path)
    dialect = Dialect.of(meta)
    hashed = "" if dialect.hash_bits is None else f", features hashed into {dialect.hash_bits} bits"
    checked = ", every byte as it was written" if verified else ""
    return {
        "data": path,
        "kind": f"mapped{hashed}{checked}",
        **_sizes(meta["rows"], meta["features"], meta["nonzeros"]),
        "labels": None if meta["labels"] is None else _labels(meta["labels"]),
        "columns": dialect.kept().get("columns"),
    }


def _sizes(rows: int, features: int, nonzeros: int) -> dict[str, Any]:
    density = nonzeros / max(1, rows * features)
    return {"rows": rows, "features": features, "nonzeros": nonzeros, "density": density}


def _labels(pairs: Iterable[tuple[Any, int]]) -> dict[str, int]:
    """Return the number of rows with each label."""
    return {label_text(label): count for label, count in pairs}


def _rows_text(found: dict[str, Any]) -> str:
    labels = [f"{label} in {count:,} rows" for label, count in (found["labels"] or {}).items()]
    a_row = found["nonzeros"] / found["rows"]
    return table(
        [
            ("data", f"{found['data']} ({found['kind']})"),
            ("rows", f"{found['rows']:,}"),
            ("features", f"{found['features']:,}"),
            ("non-zeros", f"{found['nonzeros']:,}, {a_row:.1f} a row"),
            ("density", f"{found['density']:.3g}"),
            ("labels", _first(labels) or "too many to list"),
            *_columns_told(found["columns"]),
        ]
    )
