"""Vowpal Wabbit on rows whose values are all 1: its cache file, and a timed pass of `--ftrl` over it.

Its Python module loads a library of its own, so each call runs in a process: `python -m bench.speed.vowpal
ARGUMENT ...` prints the seconds and the mean loss of `vw ARGUMENT ...` as JSON.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.processes import run_python

_BITS = 20  # the size of its table of weights, log2
_CHUNK = 100_000  # rows written at a time
_COMMON = ["--quiet", "--noconstant", "--loss_function", "logistic", "-b", str(_BITS)]


def write_cache(X: Any, y: np.ndarray, path: Path) -> None:
    """Write the rows to the cache file `path`; X is CSR, (rows, features)."""
    names = np.char.add(b" ", np.arange(X.shape[1]).astype("S7"))  # of the features, as text
    text = path.with_suffix(".txt")
    with open(text, "wb") as file:
        for begin in range(0, X.shape[0], _CHUNK):
            part = X[begin : begin + _CHUNK]
            words = names[part.indices.reshape(part.shape[0], -1)]
            starts = np.where(y[begin : begin + _CHUNK] > 0, b"1 |f", b"-1 |f")[:, None]
            ends = np.full_like(starts, b"\n")
            lines = np.concatenate([_letters(starts), _letters(words), _letters(ends)], axis=1)
            file.write(lines[lines != 0].tobytes())  # numpy pads short words with zeros
    _run(["-d", str(text), "--cache_file", str(path), "-k", "--noop"])
    text.unlink()


def train_and_test(train: Path, test: Path, alpha: float) -> tuple[float, float]:
    """Return the seconds of a pass over the cache `train`, and the log-loss after it on the cache `test`."""
    model = train.with_suffix(".model")
    learn = ["--ftrl", "--ftrl_alpha", str(alpha), "-f", str(model)]
    seconds, _ = _run(["-d", str(train), "--cache_file", str(train), *learn])
    _, loss = _run(["-d", str(test), "--cache_file", str(test), "-t", "-i", str(model)])
    model.unlink()
    return seconds, loss


def _letters(words: np.ndarray) -> np.ndarray:
    """View byte strings (rows, m) as their bytes, (rows, m * length)."""
    return np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)


def _run(arguments: list[str]) -> tuple[float, float]:
    """Return the seconds and the mean loss. Raises ShmpsError if Vowpal Wabbit fails."""
    done = run_python(["-m", "bench.speed.vowpal", *_COMMON, *arguments])
    seconds, loss = json.loads(done.stdout.splitlines()[-1])
    return seconds, loss


def main(arguments: list[str]) -> None:
    import vowpalwabbit

    began = time.perf_counter()
    workspace = vowpalwabbit.Workspace(arg_list=arguments)
    loss = workspace.get_sum_loss() / workspace.get_weighted_examples()
    workspace.finish()
    print(json.dumps([time.perf_counter() - began, loss]))


if __name__ == "__main__":
    main(sys.argv[1:])
