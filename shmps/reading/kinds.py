"""Which reader takes a text, and what has to be known to read others as it was read."""

import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse import csr_matrix

from shmps.reading import hashing, svmlight, tables
from shmps.reading.block import Block

_CSV = re.compile(r"\.csv(\.(gz|bz2|xz))?$", re.IGNORECASE)


class NamedMatrix(csr_matrix):
    """X (rows, features) of a text in which features have names: an ordinary csr_matrix.

    What comes out of an operation is of the same class, but has no `origin`.
    """

    origin: dict[str, Any] = {}  # noqa: RUF012  see `origin`


def is_csv(path: str | os.PathLike[str], label: str | None = None) -> bool:
    """Whether a text is CSV: its name ends with .csv (.csv.gz, ...), or a column for the label is named."""
    return label is not None or _CSV.search(os.fsdecode(path)) is not None


def origin(path: str | os.PathLike[str], label: str | None, hash_bits: int | None) -> dict[str, Any]:
    """How a text with names in it is read: `hash_bits`, if they are hashed; the `label`, if it is CSV.

    Rows that are read otherwise have other features.
    """
    column = (label or tables.LABEL) if is_csv(path, label) else None
    return {name: each for name, each in (("hash_bits", hash_bits), ("label", column)) if each is not None}


def read_blocks(
    path: str | os.PathLike[str],
    *,
    zero_based: bool = False,
    limit: int = svmlight.INT32_MAX,
    label: str | None = None,
    hash_bits: int | None = None,
    labelled: bool = True,
) -> Iterator[Block]:
    """Rows of a text, some at a time.

    Of CSV by label, hash_bits and labelled (see `tables`); with hash_bits of text with features by name (see
    `hashing`); else of svmlight text by zero_based and limit.
    """
    if is_csv(path, label):
        return tables.read_blocks(path, label, hash_bits, labelled)
    if hash_bits is not None:
        return hashing.read_blocks(path, hash_bits, labelled)
    return svmlight.read_blocks(path, zero_based=zero_based, limit=limit, labelled=labelled)


def read(
    path: str | os.PathLike[str],
    *,
    label: str | None = None,
    hash_bits: int | None = None,
    labelled: bool = True,
) -> tuple[csr_matrix, np.ndarray]:
    """X and y of all of a text; as for `read_blocks`. Raises DataError, OutOfSpace and UsageError."""
    names = origin(path, label, hash_bits)
    if not names:
        X, y, *_ = svmlight.read(path, labelled=labelled)
        return X, y
    blocks = list(read_blocks(path, label=label, hash_bits=hash_bits, labelled=labelled))
    X = NamedMatrix(scipy.sparse.vstack([block.X for block in blocks], format="csr"))
    X.origin = names
    return X, np.concatenate([block.y for block in blocks])
