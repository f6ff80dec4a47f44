"""How the rows of svmlight text start: all rows of a file in the same way.

    label index:value ...           a label: a number or text
    label:weight index:value ...    what the row's loss is multiplied by, as dmlc and XGBoost read it
    index:value ...                 no label; allowed where labels are not needed

`3:1 5:2` may be the label 3 with the weight 1, or two features without a label. A file has labels with
weights where at least one row can not be features alone: its label is no index (-1, text, 0 where indices
start at 1), or is not below the first index (`1:0.5 1:1`). Else the file has no labels, and is refused where
it must have them. The first WINDOW bytes decide.

If the training rows had labels with weights (`weighted`), such a file has them too where it must have labels,
and is read as features with a warning where it need not, unless a first value below 0 is no weight.
"""

import math
import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from shmps.data import grammar
from shmps.data.svmlight.faults import INDEX_DIGITS
from shmps.data.svmlight.kernels import FEATURE, NUMBER, WORD
from shmps.errors import warn

WINDOW = 1 << 24  # bytes
_FIRST_WORD = re.compile(rb"^[ \t]*([^ \t\r\n#][^ \t\r\n]*)", re.MULTILINE)
_PAIRS = re.compile(rb"^[ \t]*([^ \t\r\n#:]+):[^ \t\r\n#]*(?:[ \t]+([0-9]+):)?", re.MULTILINE)
_NO_WEIGHT = re.compile(rb"^[ \t]*[0-9]+:[ \t]*-", re.MULTILINE)
_MOST_KEPT = 1 << 12  # heads that are parsed once: most files have few different ones


class Head(NamedTuple):
    """How every row of a file starts."""

    labels: type  # float, str, or NoneType where rows have no label
    weighted: bool = False

    @property
    def form(self) -> int:
        """What the kernel makes of the start of a row."""
        if self.labels is type(None):
            return FEATURE
        return WORD if self.weighted or self.labels is str else NUMBER

    def columns(self, rows: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels and weights to be filled in; nan where rows have no label."""
        labels = np.empty(rows, object if self.labels is str else np.float64)
        if self.labels is type(None):
            labels.fill(np.nan)
        return labels, np.empty(rows) if self.weighted else None

    @lru_cache(_MOST_KEPT)  # noqa: B019  Heads are few, and equal ones share
    def parse(self, word: bytes) -> tuple[float | str, float]:
        """Label and weight. Raises ValueError where the word is another head."""
        text = grammar.decoded(word)
        name, colon, weight = text.partition(":") if self.weighted else (text, "", "")
        if self.weighted and not colon:
            raise ValueError(
                f"every row of a file has a weight (label:weight) or none has, found {grammar.shown(text)}; "
                f"write {text}:1"
            )
        label = grammar.label(name)
        grammar.same_kind(label, name, self.labels)
        return label, grammar.weight(weight) if self.weighted else 1.0


class WrongHead(ValueError):
    """The first row has no head; `at` is its offset."""

    def __init__(self, at: int, why: str):
        super().__init__(why)
        self.at = at


def of_text(text: np.ndarray, start: int, base: int, labelled: bool, weighted: bool = False) -> Head | None:
    """How the rows of text[start:] start; None where there is none. Raises WrongHead."""
    first = _FIRST_WORD.search(text.data[start:])
    if first is None:
        return None
    at = start + first.start(1)
    try:
        word = grammar.decoded(first.group(1))
        name, colon, _ = word.partition("#")[0].partition(":")
        if colon and not (weighted and labelled) and not _is_more_than_features(text, start, base):
            if weighted and not _NO_WEIGHT.search(text.data[start : start + WINDOW]):
                warn(
                    f"rows that start with index:value, as {grammar.shown(word)}, are read as features "
                    f"without labels; if these are labels with weights, as in training, leave the weights out"
                )
            return _without_labels(word, labelled)
        # Of text no comment is cut off: the label C# would become C, and its features the comment.
        kind = type(grammar.label(name if colon or math.isfinite(grammar.number(name)) else word))
    except ValueError as error:
        raise WrongHead(at, str(error)) from None
    return Head(kind, weighted=bool(colon))


def _without_labels(word: str, labelled: bool) -> Head:
    if labelled:
        raise ValueError(
            f"a row starts with its label, found {grammar.shown(word)} where all rows may be features alone; "
            f"put the label before the first feature, or if they are labels with weights (label:weight), "
            f"write the weights to a file of their own (--weights)"
        )
    return Head(type(None))


def _is_more_than_features(text: np.ndarray, start: int, base: int) -> bool:
    """Whether a row starts with a pair that can not be a feature: so all are labels with weights."""
    return any(
        not base <= _index(first) < _index(second or b"9" * INDEX_DIGITS)
        for first, second in (pair.groups() for pair in _PAIRS.finditer(text.data[start : start + WINDOW]))
    )


def _index(word: bytes) -> int:
    """The index that the word is; -1 where it is none."""
    return int(word.lstrip(b"0")[:INDEX_DIGITS] or b"0") if word.isdigit() else -1
