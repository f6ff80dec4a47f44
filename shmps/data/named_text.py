"""Reader of text whose features have names; shmps.data.hashing makes columns of the names.

One row a line, its label in front, in two forms that may be mixed:

    1 age:39 job=nurse city=Rome          numbers as name:number, anything else as it stands, with value 1
    1 2.0 'tag |ns age:39 nurse |b Rome   Vowpal Wabbit's: features of a namespace are ns^age:39, ns^nurse

Before the first | are the label, the row's weight (1 if there is none) and a tag; rows without a label,
`| age:39` or `'tag | age:39`, are for prediction.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from shmps.data import grammar, text_files
from shmps.data.dialect import Dialect
from shmps.data.format import Block, Format, no_rows, with_origin
from shmps.data.hashing import Hasher
from shmps.errors import DataError

BLOCK = 1 << 22  # bytes of text in memory at a time; as Python strings it takes thirty times as many


class _Row(NamedTuple):
    """The content of a line."""

    label: float | str | None
    weight: float
    features: list[tuple[str, float]]


class NamedText(Format):
    """Text with named features: any file that is read with `hash_bits` and is not CSV."""

    name = "text with hashed features"
    options = frozenset({"hash_bits", "keep_names"})

    def sniff(self, path: str, how: Dialect) -> bool:
        return how.hash_bits is not None

    def read_blocks(self, path: str, how: Dialect, *, labelled: bool, limit: int) -> Iterator[Block]:
        """Yield the rows of a file (see `Format`). Without `labelled`, all rows have a label, or none has."""
        hasher = Hasher(how.hash_bits, how.keep_names)
        origin = dataclasses.replace(how.only(self.options), names=hasher.names)
        lines, kind = 0, None
        for text, taken in text_files.blocks(path, BLOCK):
            rows: list[_Row] = []
            start = 0 if lines else text_files.start(text, path)
            text_files.check(text, path, lines)
            for line in text[start:-1].tobytes().split(b"\n"):
                lines += 1
                try:
                    if content := grammar.decoded(line).strip(" \t\r"):
                        row = _row(content, labelled)
                        kind = kind or type(row.label)
                        grammar.same_kind(row.label, content, kind)
                        rows.append(row)
                except ValueError as error:
                    raise DataError.at(f"{path}:{lines}", error) from None
            if rows:
                yield with_origin(_block(rows, hasher, taken), origin)
        if kind is None:
            raise no_rows(path)


def _block(rows: list[_Row], hasher: Hasher, taken: int) -> Block:
    labels, weights, features = zip(*rows, strict=True)
    kind = object if isinstance(labels[0], str) else np.float64  # None becomes nan
    weighted = any(weight != 1 for weight in weights)
    X = hasher.transform(features)
    return Block(X, np.array(labels, kind), np.array(weights) if weighted else None, taken)


def _row(line: str, labelled: bool) -> _Row:
    """Return the row of a line. Raises ValueError if it breaks a rule."""
    before, bar, after = line.partition("|")
    words = grammar.words(before)
    if not bar and not labelled and ":" in words[0]:
        raise ValueError(
            f"a row without a label must start with | (Vowpal Wabbit's form), got {grammar.shown(line)}; put "
            f"| and a blank before the features"
        )
    if not bar:
        return _Row(grammar.label(words[0]), 1.0, [_feature(word) for word in words[1:]])
    label, weight = _label_and_weight(words, touches=before[-1:] not in ("", " ", "\t"))
    if label is None and labelled:
        raise ValueError(
            f"a row must start with its label, got {grammar.shown(line)}; put a label and a blank before |"
        )
    return _Row(label, weight, _namespaces(after))


def _label_and_weight(words: list[str], touches: bool) -> tuple[float | str | None, float]:
    """Return the label and the weight among the words before the first |.

    touches: whether the last word touches the |. Such a word, or one that starts with ', is a tag, as in
    Vowpal Wabbit.
    """
    if words and (words[-1].startswith("'") or touches):
        words = words[:-1]
    if not words:
        return None, 1.0
    if len(words) > 2:
        raise ValueError(
            f"before the | must be at most a label, a weight and a tag ('tag), got "
            f"{grammar.shown(' '.join(words))}; leave a base (Vowpal Wabbit's initial prediction) out"
        )
    return grammar.label(words[0]), grammar.weight(words[1]) if len(words) == 2 else 1.0


def _namespaces(text: str) -> list[tuple[str, float]]:
    """Return the features of all namespaces."""
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
    """Return the name and the value of `name:number`; of a name alone, 1."""
    name, colon, number = word.rpartition(":")
    return (name, grammar.finite("value", number, "correct it, or write = for :")) if colon else (word, 1.0)
