"""Text with features by name, hashed: each becomes one of 2**bits by MurmurHash3, as scikit-learn does it.

One row a line, its label in front, in two forms that may be mixed:

    1 age:39 job=nurse city=Rome          numbers as name:number, anything else as it stands, for 1
    1 1.0 'tag |ns age:39 nurse |b Rome   Vowpal Wabbit's: features of a namespace are ns^age:39, ns^nurse

So a row is what `FeatureHasher(2**bits).transform([{"age": 39, "job": "nurse", "city": "Rome"}])` makes of
it, to the bit: signs alternate, and features that meet in one are summed (Weinberger et al., ICML 2009). The
hash is scikit-learn's own, and so is its speed: on one core.
"""

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from shmps.errors import DataError, UsageError
from shmps.reading import texts
from shmps.reading.block import Block

BLOCK = 1 << 22  # bytes of text in memory at a time; as Python's words it takes thirty times as many
MOST_BITS = 30  # scikit-learn counts features in 32 bits


def read_blocks(path: str | os.PathLike[str], bits: int) -> Iterator[Block]:
    """Rows of a text, hashed into 2**bits features, some at a time.

    Packed files as for `svmlight.read`. Raises DataError `file:line: rule, found; remedy`, and UsageError for
    other bits than 1 to MOST_BITS or where scikit-learn is not installed.
    """
    hasher, name, lines, rows = make_hasher(bits), os.fsdecode(path), 0, 0
    for text, taken in texts.blocks(name, BLOCK):
        labels, features = [], []
        start = 0 if lines else texts.start(text, name)
        for line in text[start:-1].tobytes().split(b"\n"):
            lines += 1
            if line := line.strip():
                try:
                    label, row = _row(line.decode())
                except ValueError as error:
                    raise DataError(f"{name}:{lines}: {error}") from None
                labels.append(label)
                features.append(row)
        if labels:
            rows += len(labels)
            yield Block(csr_matrix(hasher.transform(features)), np.array(labels), None, taken)
    if not rows:
        raise DataError(f"{name}: a data file has at least one row, found none; check that this is the file")


def make_hasher(bits: int) -> Any:
    """Of rows of (name, value), into 2**bits features. Raises UsageError as `read_blocks`."""
    if not isinstance(bits, int) or not 1 <= bits <= MOST_BITS:
        raise UsageError(f"hash_bits is from 1 to {MOST_BITS}, found {bits!r}; 18 to 24 are usual")
    try:
        from sklearn.feature_extraction import FeatureHasher
    except ImportError as error:
        raise UsageError(
            f"hash_bits needs scikit-learn, whose hash it is ({error}); pip install 'shmps[sklearn]'"
        ) from error
    return FeatureHasher(2**bits, input_type="pair", dtype=np.float64)


def _row(line: str) -> tuple[float, list[tuple[str, float]]]:
    """The label and the features of a line. Raises ValueError with what is wrong."""
    before, bar, after = line.partition("|")
    words = before.split()
    if not words or words[0].startswith("'"):
        raise ValueError(f"a row starts with its label, found {line[:40]!r}; put the label first")
    label = _number("label", words[0])
    if not bar:
        return label, [_feature(word) for word in words[1:]]
    if len(words) > 1 and (words[-1].startswith("'") or not before[-1].isspace()):
        words.pop()  # a tag
    if any(_number("importance", word) != 1 for word in words[1:2]) or len(words) > 2:
        raise ValueError(f"rows weigh 1 and have no base, found {before.strip()!r}; leave that out")
    features: list[tuple[str, float]] = []
    for space in after.split("|"):
        named = space[:1].strip()
        prefix, scale = _feature(space.split()[0]) if named else ("", 1.0)
        for word in space.split()[bool(named) :]:
            feature, value = _feature(word)
            features.append((f"{prefix}^{feature}" if named else feature, scale * value))
    return label, features


def _feature(word: str) -> tuple[str, float]:
    """`name:number`, or a name, for 1."""
    name, colon, number = word.rpartition(":")
    return (name, _number("value", number)) if colon else (word, 1.0)


def _number(what: str, word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"a {what} is a finite number, found {word[:40]!r}; correct it, or write = for :")
    return number
