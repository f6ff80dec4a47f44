"""How the rows of svmlight text start: all rows of a file in the same way.

    label index:value ...           a label: a number or text
    label:weight index:value ...    and the factor of the row's loss, as dmlc and XGBoost read it
    index:value ...                 no label; allowed if labels are not needed

`3:1 5:2` may be the label 3 with the weight 1, or two features without a label. A file has labels with
weights if at least one row cannot be features alone: its label is no index (-1, text, 0 if indices start at
1), or is not below the first index (`1:0.5 1:1`). Otherwise the file has no labels, and is refused if it must
have them. The first WINDOW bytes decide.

If the training rows had labels with weights (`weighted`), such a file has them too if it must have labels. If
it need not, it is read as features with a warning, unless a first value below 0 shows that it is no weight.
"""

import math
import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from shmps.data import grammar
from shmps.data.svmlight.kernels import FEATURE, NUMBER, WORD
from shmps.data.svmlight.messages import INDEX_DIGITS
from shmps.errors import verbatim, warn

WINDOW = 1 << 24  # bytes
_FIRST_WORD = re.compile(rb"^[ \t]*([^ \t\r\n#][^ \t\r\n]*)", re.MULTILINE)
_PAIRS = re.compile(rb"^[ \t]*([^ \t\r\n#:]+):[^ \t\r\n#]*(?:[ \t]+([0-9]+):)?", re.MULTILINE)
_NO_WEIGHT = re.compile(rb"^[ \t]*[0-9]+:[ \t]*-", re.MULTILINE)
_MOST_KEPT = 1 << 12  # words whose label and weight are kept: most files have few different ones


class RowStart(NamedTuple):
    """How every row of a file starts."""

    labels: type  # float, str, or NoneType if rows have no label
    weighted: bool = False

    @property
    def form(self) -> int:
        """What the kernel reads at the start of a row."""
        if self.labels is type(None):
            return FEATURE
        return WORD if self.weighted or self.labels is str else NUMBER

    def columns(self, rows: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return labels and weights to be filled in; labels are nan if rows have none."""
        labels = np.empty(rows, object if self.labels is str else np.float64)
        if self.labels is type(None):
            labels.fill(np.nan)
        return labels, np.empty(rows) if self.weighted else None

    @lru_cache(_MOST_KEPT)  # noqa: B019  few RowStarts exist, and equal ones share
    def parse(self, word: bytes) -> tuple[float | str, float]:
        """Return the label and the weight. Raises ValueError if the word is another start."""
        text = grammar.decoded(word)
        name, colon, weight = text.partition(":") if self.weighted else (text, "", "")
        if self.weighted and not colon:
            raise ValueError(
                f"every row of a file must have a weight (label:weight), or none, got {grammar.shown(text)} "
                f"after a row with a weight; write {text}:1"
            )
        label = grammar.label(name)
        grammar.same_kind(label, name, self.labels)
        return label, grammar.weight(weight) if self.weighted else 1.0


class WrongRowStart(ValueError):
    """The first row, at offset `at`, starts in no valid way; `fault` tells why."""

    def __init__(self, at: int, fault: ValueError):
        super().__init__(str(fault))
        self.at, self.fault = at, fault


def row_start_of(
    text: np.ndarray, start: int, base: int, labelled: bool, weighted: bool = False
) -> RowStart | None:
    """Return how the rows of text[start:] start; None if there is no row. Raises WrongRowStart."""
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
        # A label of text keeps its #: else the label C# would become C, and its features a comment.
        kind = type(grammar.label(name if colon or math.isfinite(grammar.number(name)) else word))
    except ValueError as error:
        raise WrongRowStart(at, error) from None
    return RowStart(kind, weighted=bool(colon))


def _without_labels(word: str, labelled: bool) -> RowStart:
    if labelled:
        raise grammar.Fault(
            f"a row must start with its label, got {verbatim(grammar.shown(word))} in a file whose rows may "
            f"be features alone; put the label before the first feature, or if they are labels with weights "
            f"(label:weight), give the weights apart, with {{sample_weight}}",
            sample_weight=None,
        )
    return RowStart(type(None))


def _is_more_than_features(text: np.ndarray, start: int, base: int) -> bool:
    """Whether a row starts with a pair that cannot be a feature: then all are labels with weights."""
    return any(
        not base <= _index(first) < _index(second or b"9" * INDEX_DIGITS)
        for first, second in (pair.groups() for pair in _PAIRS.finditer(text.data[start : start + WINDOW]))
    )


def _index(word: bytes) -> int:
    """Return the index that a word stands for; -1 if it is none."""
    return int(word.lstrip(b"0")[:INDEX_DIGITS] or b"0") if word.isdigit() else -1
