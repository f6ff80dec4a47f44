"""Which reader takes a text, and how it was read: what has to be known to read others alike."""

import dataclasses
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse

from shmps.data import hashing, svmlight, tables
from shmps.data.block import Block, NamedMatrix
from shmps.data.dialect import Dialect
from shmps.errors import UsageError, verbatim

_CSV = re.compile(r"\.[ct]sv(\.(gz|bz2|xz))?$", re.IGNORECASE)


def is_csv(path: str | os.PathLike[str], how: Dialect) -> bool:
    """Whether a text is CSV: its name ends with .csv or .tsv (.csv.gz, ...), or CSV's columns are told."""
    return how.says_csv or _CSV.search(os.fsdecode(path)) is not None


def _check_zero_based(path: str | os.PathLike[str], how: Dialect) -> None:
    if how.zero_based and (how.hash_bits is not None or is_csv(path, how)):
        found = "CSV" if is_csv(path, how) else "text with hashed names"
        raise UsageError(
            f"{verbatim(os.fsdecode(path))}: {{zero_based:True}} is about the indices of svmlight text, got "
            f"{found}; leave it out",
            zero_based=True,
        )


class Reader:
    """The rows of a text, some at a time; `found` is how they were read, whole after the last of them.

    Of CSV (see `tables`); with `how.hash_bits` of text with features by name (see `hashing`); else of
    svmlight text, with indices up to `limit`. labelled: whether each row must have a label; without one y is
    nan.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        how: Dialect,
        *,
        limit: int = svmlight.INT32_MAX,
        labelled: bool = True,
    ):
        _check_zero_based(path, how)
        self.found = how
        self._path, self._limit, self._labelled = path, limit, labelled
        self._hasher = None if how.hash_bits is None else hashing.make_hasher(how.hash_bits)
        if how.keep_names:
            if self._hasher is None:
                raise UsageError(
                    "{keep_names} keeps the names of hashed features, got none; add {hash_bits}",
                    keep_names=True,
                    hash_bits=None,
                )
            self._hasher = _Listening(self._hasher)

    def __iter__(self) -> Iterator[Block]:
        for block in self._blocks():
            self.found = getattr(block.X, "origin", self.found)
            yield block
        if isinstance(self._hasher, _Listening):
            self.found = dataclasses.replace(self.found, names=self._hasher.features())

    def _blocks(self) -> Iterator[Block]:
        if is_csv(self._path, self.found):
            return tables.read_blocks(self._path, self.found, self._labelled, self._hasher)
        if self.found.hash_bits is not None:
            return hashing.read_blocks(self._path, self.found.hash_bits, self._labelled, self._hasher)
        return self._svmlight()

    def _svmlight(self) -> Iterator[Block]:
        base, weighted = bool(self.found.zero_based), bool(self.found.weighted)
        for block in svmlight.read_blocks(
            self._path, zero_based=base, limit=self._limit, labelled=self._labelled, weighted=weighted
        ):
            self.found = _weighted(self.found, block)
            yield block


class _Listening:
    """A hasher that remembers the names which it hashes."""

    def __init__(self, hasher: Any):
        self._hasher = hasher
        self._names: dict[str, None] = {}

    def transform(self, rows: Any) -> Any:
        rows = [list(row) for row in rows]
        self._names.update((name, None) for row in rows for name, _ in row)
        return self._hasher.transform(rows)

    def features(self) -> dict[str, int]:
        """The feature of each name, counted from 1, with the sign that its values get."""
        if not self._names:
            return {}
        hashed = self._hasher.transform([(name, 1.0)] for name in self._names)
        signed = (hashed.indices + 1) * np.sign(hashed.data).astype(np.int64)
        return dict(zip(self._names, signed.tolist(), strict=True))


def read(path: str | os.PathLike[str], how: Dialect, *, labelled: bool = True) -> Block:
    """All rows of a text; of other text than plain svmlight X has its `origin`.

    Raises DataError, OutOfSpace and UsageError.
    """
    if not is_csv(path, how) and how.hash_bits is None and not how.keep_names:
        base, weighted = bool(how.zero_based), bool(how.weighted)
        block = svmlight.read(path, zero_based=base, labelled=labelled, weighted=weighted)
        # Without columns: svmlight text has numbers only.
        found = _weighted(Dialect(zero_based=how.zero_based, weighted=how.weighted), block)
        return block if found == Dialect() else block._replace(X=_named(block.X, found))
    reader = Reader(path, how, labelled=labelled)
    blocks = list(reader)
    X = _named(scipy.sparse.vstack([block.X for block in blocks], format="csr"), reader.found)
    y = np.concatenate([block.y for block in blocks])
    return Block(X, y, _weights(blocks), blocks[-1].taken)


def _weighted(how: Dialect, block: Block) -> Dialect:
    """How svmlight text was read, with what its rows tell."""
    return how if block.weights is None else dataclasses.replace(how, weighted=True)


def _named(X: Any, origin: Dialect) -> NamedMatrix:
    canonical = X.has_canonical_format
    named = NamedMatrix(X)
    named.has_canonical_format = canonical
    named.origin = origin
    return named


def _weights(blocks: list[Block]) -> np.ndarray | None:
    """Of all rows; None where none has a weight."""
    if all(block.weights is None for block in blocks):
        return None
    parts = [np.ones(len(block.y)) if block.weights is None else block.weights for block in blocks]
    return np.concatenate(parts)
