"""Reading svmlight text to CSR, beside scikit-learn's `load_svmlight_file`; converting to mapped data.

There are two files: the training rows of a9a (or of the generated set of its shape) as text, and a generated
file in a temporary folder, with rows of tf-idf-like values of ten digits and columns by Zipf's law. Both were
just written, so they come from the page cache: the benchmark does not measure the disk.

Whole calls of shmps and of scikit-learn are timed in pairs; scikit-learn goes first in every other pair. A
first pair does not count; the benchmark compares its two results. Without scikit-learn, it says so and times
only shmps. Each file is also converted to mapped data (written to the disk with its checksums) and opened.

Results: "files": [{"file", "bytes", "rows", "features", "nonzeros", "seconds", "bytes_per_second",
"convert_seconds", "open_seconds", "sklearn": null or {"seconds", "ratio" (scikit-learn to shmps within a
pair), "identical" (whether all arrays are equal to the last bit)}}]; "skipped": names of peers that are not
installed. Spreads over the pairs.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from bench.record import markdown, ratio, shown, spread
from bench.timing import progress, seconds
from shmps.data import datasets, mapped, svmlight
from shmps.system.parallel import usable_cores

ROWS, FEATURES, TERMS = 80_000, 47_000, 100  # of the generated file: about 110 MB
CHUNK = 10_000  # rows generated at a time

Loaded = tuple[csr_matrix, np.ndarray]
Reader = Callable[[str], Loaded]


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    pairs, rows = (3, ROWS // 8) if quick else (7, ROWS)
    peer, version = _sklearn()
    measured = []
    with tempfile.TemporaryDirectory() as folder, progress("load") as bar:
        data = datasets.load(None)
        named, generated = Path(folder, data.name.replace(":", "-")), Path(folder, "generated")
        write(named, data.train_X, data.train_y, "%g")
        generate(generated, rows)
        for path in (named, generated):
            measured.append(_measure(path, pairs, peer, bar))
    settings = {
        "data": data.name,
        "note": data.note,
        "pairs": pairs,
        "cores": usable_cores(),
        "scikit-learn": version,
    }
    return settings, {"files": measured, "skipped": [] if peer else ["scikit-learn"]}


def table(settings: dict[str, Any], results: dict[str, Any]) -> str:
    rows = []
    for file in results["files"]:
        peer = file["sklearn"]
        rows.append(
            [
                file["file"],
                f"{file['bytes'] / 1e6:.1f}",
                f"{file['nonzeros']:,}",
                shown(file["seconds"], ".1f", 1e-3),
                shown(file["bytes_per_second"], ".0f", 1e6),
                shown(peer["seconds"], ".0f", 1e-3) if peer else "skipped",
                shown(peer["ratio"], ".1f") if peer else "",
                ("yes" if peer["identical"] else "NO") if peer else "",
            ]
        )
    headers = ["file", "MB", "non-zeros", "ms", "MB/s", "scikit-learn, ms", "ratio", "identical"]
    caption = (
        f"svmlight text to CSR on {settings['cores']} cores, files in the page cache; "
        f"median (min to max) of {settings['pairs']} pairs."
    )
    skipped = "".join(f"\n\nSkipped: {name} is not installed." for name in results["skipped"])
    return f"{caption}\n\n{markdown(headers, rows)}{skipped}\n\n{_mapped_table(results)}"


def _mapped_table(results: dict[str, Any]) -> str:
    rows = [
        [
            file["file"],
            shown(file["convert_seconds"], ".0f", 1e-3),
            f"{file['bytes'] / file['convert_seconds']['median'] / 1e6:.0f}",
            shown(file["open_seconds"], ".2f", 1e-3),
        ]
        for file in results["files"]
    ]
    return markdown(["mapped data", "convert, ms", "MB/s of text", "open, ms"], rows)


def failed(results: dict[str, Any]) -> bool:
    """Return whether an array differs from scikit-learn's."""
    return any(file["sklearn"] and not file["sklearn"]["identical"] for file in results["files"])


def write(path: Path, X: csr_matrix, y: np.ndarray, form: str) -> None:
    """Append rows as svmlight text with indices from 1; format the values with `form`."""
    with open(path, "a") as file:
        indices, values = (X.indices + 1).tolist(), X.data.tolist()
        for row, label in enumerate(y.tolist()):
            entries = range(X.indptr[row], X.indptr[row + 1])
            features = " ".join([f"{indices[entry]}:{form % values[entry]}" for entry in entries])
            file.write(f"{label:+g} {features}\n")


def generate(path: Path, rows: int) -> None:
    """Write rows of norm 1 from TERMS terms each, with repetitions; rare terms weigh more."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, FEATURES + 1)
    popularity /= popularity.sum()
    for _ in range(rows // CHUNK):
        terms = np.searchsorted(np.cumsum(popularity)[:-1], rng.random((CHUNK, TERMS)))
        at = np.repeat(np.arange(CHUNK), TERMS)
        counts = csr_matrix((np.ones(terms.size), (at, terms.ravel())), (CHUNK, FEATURES))
        counts.sum_duplicates()
        counts.data *= -np.log(popularity[counts.indices])
        norms = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
        counts.data /= np.repeat(norms, np.diff(counts.indptr))
        write(path, counts, rng.choice([-1.0, 1.0], CHUNK), "%.10g")


def _sklearn() -> tuple[Reader | None, str | None]:
    """Return scikit-learn's reader and version, or None without it."""
    try:
        import sklearn
        from sklearn.datasets import load_svmlight_file
    except ImportError:
        return None, None
    return lambda path: load_svmlight_file(path, zero_based=False), sklearn.__version__


def _shmps(path: str | Path) -> Loaded:
    X, y, *_ = svmlight.read(path)
    return X, y


def _measure(path: Path, pairs: int, peer: Reader | None, bar: Any) -> dict[str, Any]:
    X, y = _shmps(path)
    identical = _identical((X, y), peer(str(path))) if peer else False
    spent: dict[Reader, list[float]] = {_shmps: [], **({peer: []} if peer else {})}
    for pair in range(pairs):
        for reader in list(spent) if pair % 2 else list(spent)[::-1]:
            spent[reader].append(seconds(reader, str(path)))
            bar.update()
    converting, opening = [], []
    for _ in range(pairs):
        target = path.with_suffix(".shmps")
        converting.append(seconds(mapped.convert, path, target))
        opening.append(seconds(mapped.load, target))
        shutil.rmtree(target)
    size = path.stat().st_size
    return {
        "file": path.name,
        "bytes": size,
        "rows": X.shape[0],
        "features": X.shape[1],
        "nonzeros": X.nnz,
        "seconds": spread(spent[_shmps]),
        "bytes_per_second": spread(size / each for each in spent[_shmps]),
        "convert_seconds": spread(converting),
        "open_seconds": spread(opening),
        "sklearn": peer
        and {
            "seconds": spread(spent[peer]),
            "ratio": ratio(spent[peer], spent[_shmps]),
            "identical": identical,
        },
    }


def _identical(shmps: Loaded, peer: Loaded) -> bool:
    """Return whether shapes, indices, values and labels are equal to the last bit."""
    (X, y), (other_X, other_y) = shmps, peer
    return (
        X.shape == other_X.shape
        and np.array_equal(X.indptr, other_X.indptr)
        and np.array_equal(X.indices, other_X.indices)
        and X.data.tobytes() == other_X.data.tobytes()
        and y.tobytes() == other_y.tobytes()
    )
