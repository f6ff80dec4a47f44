"""Text with features by name, hashed: each becomes one of 2**bits by MurmurHash3, as scikit-learn does it.

One row a line, its label in front, in two forms that may be mixed:

    1 age:39 job=nurse city=Rome          numbers as name:number, anything else as it stands, for 1
    1 2.0 'tag |ns age:39 nurse |b Rome   Vowpal Wabbit's: features of a namespace are ns^age:39, ns^nurse

Before the first | are the label, the row's weight (1 if there is none) and a tag; rows without a label,
`| age:39` or `'tag | age:39`, are for prediction.

So a row is what `FeatureHasher(2**bits).transform([{"age": 39, "job": "nurse", "city": "Rome"}])` makes of
it, to the bit: signs alternate, and features that meet in one are summed (Weinberger et al., ICML 2009). The
hash is scikit-learn's own, and so is its speed: on one core.
"""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from shmps.data import grammar, texts
from shmps.data.block import Block
from shmps.errors import DataError, UsageError, verbatim

BLOCK = 1 << 22  # bytes of text in memory at a time; as Python's words it takes thirty times as many
MOST_BITS = 30  # scikit-learn counts features in 32 bits


class _Row(NamedTuple):
    """What a line says."""

    label: float | str | None
    weight: float
    features: list[tuple[str, float]]


def read_blocks(
    path: str | os.PathLike[str], bits: int, labelled: bool = True, hasher: Any = None
) -> Iterator[Block]:
    """Rows of a text, hashed into 2**bits features, some at a time; by `hasher`, if there is one.

    labelled: whether every row must have a label; else all rows have one, or none, and y is nan.

    Packed files as for `svmlight.read`. Raises DataError `file:line: rule, found; remedy`.
    """
    hasher = make_hasher(bits) if hasher is None else hasher
    name, lines, kind = os.fsdecode(path), 0, None
    for text, taken in texts.blocks(name, BLOCK):
        rows: list[_Row] = []
        start = 0 if lines else texts.start(text, name)
        texts.check(text, name, lines)
        for line in text[start:-1].tobytes().split(b"\n"):
            lines += 1
            try:
                if words := grammar.decoded(line).strip(" \t\r"):
                    row = _row(words, labelled)
                    kind = kind or type(row.label)
                    grammar.same_kind(row.label, words, kind)
                    rows.append(row)
            except ValueError as error:
                raise DataError(f"{name}:{lines}: {error}") from None
        if rows:
            yield _block(rows, hasher, taken)
    if kind is None:
        raise DataError(f"{name}: a data file has at least one row, found none; check that this is the file")


def make_hasher(bits: int) -> Any:
    """Of rows of (name, value), into 2**bits features.

    Raises UsageError for other bits than 1 to MOST_BITS, or where scikit-learn is not installed.
    """
    if not isinstance(bits, int) or not 1 <= bits <= MOST_BITS:
        raise UsageError(
            f"{{hash_bits}} must be from 1 to {MOST_BITS}, got {{hash_bits.value!r}}; 18 to 24 are usual",
            hash_bits=bits,
        )
    try:
        from sklearn.feature_extraction import FeatureHasher
    except ImportError as error:
        raise UsageError(
            f"{{hash_bits}} needs scikit-learn, whose hash it is ({verbatim(error)}); "
            f"pip install 'shmps[sklearn]'",
            hash_bits=bits,
        ) from error
    return FeatureHasher(2**bits, input_type="pair", dtype=np.float64)


def _block(rows: list[_Row], hasher: Any, taken: int) -> Block:
    labels, weights, features = zip(*rows, strict=True)
    kind = object if isinstance(labels[0], str) else np.float64  # None becomes nan
    weighted = any(weight != 1 for weight in weights)
    return Block(
        csr_matrix(hasher.transform(features)),
        np.array(labels, kind),
        np.array(weights) if weighted else None,
        taken,
    )


def _row(line: str, labelled: bool) -> _Row:
    """What the line says. Raises ValueError with what is wrong."""
    before, bar, after = line.partition("|")
    words = grammar.words(before)
    if not bar and not labelled and ":" in words[0]:
        raise ValueError(
            f"a row without a label starts with | (Vowpal Wabbit's form), found {grammar.shown(line)}; write "
            f"it so"
        )
    if not bar:
        return _Row(grammar.label(words[0]), 1.0, [_feature(word) for word in words[1:]])
    label, weight = _head(words, touches=before[-1:] not in ("", " ", "\t"))
    if label is None and labelled:
        raise ValueError(
            f"a row starts with its label, found {grammar.shown(line)}; put a label and a blank before |"
        )
    return _Row(label, weight, _spaces(after))


def _head(words: list[str], touches: bool) -> tuple[float | str | None, float]:
    """Label and weight of what is before the bar. A last word that `touches` the bar, or starts with ', is a
    tag, as it is for Vowpal Wabbit.
    """
    if words and (words[-1].startswith("'") or touches):
        words = words[:-1]
    if not words:
        return None, 1.0
    if len(words) > 2:
        raise ValueError(
            f"before the | are a label, a weight and a tag ('tag), found {grammar.shown(' '.join(words))}; "
            f"leave a base (Vowpal Wabbit's initial prediction) out"
        )
    return grammar.label(words[0]), grammar.weight(words[1]) if len(words) == 2 else 1.0


def _spaces(text: str) -> list[tuple[str, float]]:
    """The features of all namespaces."""
    features: list[tuple[str, float]] = []
    for space in text.split("|"):
        words = grammar.words(space)
        named = space[:1] not in ("", " ", "\t")
        prefix, scale = _feature(words[0]) if named else ("", 1.0)
        for word in words[named:]:
            feature, value = _feature(word)
            features.append((f"{prefix}^{feature}" if named else feature, scale * value))
    return features


def _feature(word: str) -> tuple[str, float]:
    """`name:number`, or a name, for 1."""
    name, colon, number = word.rpartition(":")
    return (name, grammar.finite("value", number, "correct it, or write = for :")) if colon else (word, 1.0)
