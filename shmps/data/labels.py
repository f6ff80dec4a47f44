"""Labels of rows, and the codes that training uses for them."""

import math
from typing import Any, NamedTuple

import numpy as np

from shmps.data.mapped import MappedLabels
from shmps.data.rows import PIECE
from shmps.errors import DataError


class Labels(NamedTuple):
    """The labels of rows as training uses them: their codes, see `codes_of`, and the classes."""

    codes: np.ndarray  # (rows,) float64
    classes: tuple[Any, ...]  # in increasing order


def classes_of(y: np.ndarray) -> list[Any]:
    """Return the distinct labels in y (rows,), in increasing order. Mapped data may know them already.

    Raises DataError if the labels have no order.
    """
    if isinstance(y, MappedLabels) and y.classes is not None:
        return y.classes
    try:
        return list(np.unique(y).tolist())
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in y.tolist()})
        raise DataError(
            f"labels must be all numbers or all strings, got the types {', '.join(kinds)}; drop the rows "
            f"without a label, or convert all labels to strings"
        ) from error


def codes_of(y: np.ndarray, classes: list[Any]) -> np.ndarray:
    """Return the codes (rows,) of the labels y: of two classes -1.0 and +1.0, of more their numbers from 0.

    Mapped labels that are the codes already are returned unchanged. Raises DataError for mapped labels of
    other classes.
    """
    # Numbers from a mapped file are unchecked; labels of text were looked up when they were read.
    if isinstance(y, MappedLabels) and y.classes is not None and y.dtype.kind == "f":
        _must_be_among(y, y.classes)
    if isinstance(y, MappedLabels) and y.classes == classes and _are_codes(classes):
        return y
    if len(classes) == 2:
        return np.asarray(y == classes[1]) * 2.0 - 1.0
    return np.searchsorted(classes, y).astype(np.float64)


def _must_be_among(y: MappedLabels, classes: list[Any]) -> None:
    """Raise DataError for a label that is not one of the `classes`."""
    for begin in range(0, len(y), PIECE):
        piece = np.asarray(y[begin : begin + PIECE])
        if sum(np.count_nonzero(piece == label) for label in classes) < len(piece):
            row = int(np.argmin(np.isin(piece, classes)))
            raise DataError(
                f"{y.folder}: labels must be those that the folder lists, got {piece[row]} in row "
                f"{begin + row} (from 0); it is damaged: convert the data again"
            )


def _are_codes(classes: list[Any]) -> bool:
    return classes == ([-1.0, 1.0] if len(classes) == 2 else list(range(len(classes))))


def encoded(y: np.ndarray, name: str) -> Labels:
    """Return the labels y (rows,) as codes and classes. Raises DataError for fewer than two classes."""
    classes = classes_of(y)
    if any(label != label or label in (-math.inf, math.inf) for label in classes):
        raise DataError(f"{name}: labels must be finite, got nan or inf; drop the rows without a label")
    if len(classes) < 2:
        raise DataError(
            f"{name}: labels must be of two classes or more, got {len(classes)} "
            f"({', '.join(map(str, classes))}); 1 class is too few: add rows of a second class"
        )
    if len(classes) > 2 and any(isinstance(label, float) and not label.is_integer() for label in classes):
        raise DataError(
            f"{name}: more than two classes must be integers or text, got {len(classes)} numbers that are "
            f"not whole ({', '.join(map(str, classes[:5]))}, ...). Unknown label type: continuous; choose "
            f"thresholds"
        )
    return Labels(codes_of(y, classes), tuple(classes))
