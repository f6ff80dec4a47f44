"""The columns of CSV: which have the labels and the weights, and which are features."""

import csv
import dataclasses
import re
from collections import Counter
from typing import NamedTuple

from shmps.data.dialect import Dialect
from shmps.data.grammar import NUMBER, decoded, shown
from shmps.data.matching import listed, other_columns
from shmps.errors import DataError, verbatim

LABEL = "label"  # the column of the labels unless another is named
_DELIMITERS = (";", "\t", "|", ",")  # suggested if a line has too few cells


class Columns(NamedTuple):
    """The columns of a file, by their places, and the dialect that was found."""

    names: list[str]  # of all columns
    features: list[int]  # in the order of training
    label: int | None
    weight: int | None
    dialect: Dialect


def columns_of(line: bytes, path: str, how: Dialect, labelled: bool) -> Columns:
    """Return the columns of a file, by its first line.

    labelled: whether the columns of labels and weights must exist. Raises DataError if `how` asks for columns
    that the file lacks.
    """
    place, delimiter = f"{path}:1", how.delimiter or ","
    cells = [cell.strip() for cell in cells_of(line, place, delimiter)]
    label, names = how.label or LABEL, cells
    if how.header is False:
        if how.weight_column is not None:
            how = dataclasses.replace(how, weight_column=_place(how.weight_column, len(cells)))
        label, names = _numbered(len(cells), place, how)
    else:
        _check_header(names, place)
    advice = _other_delimiter(line, len(cells), delimiter)
    _check_label_and_weight(label, how, names, place, advice, labelled)
    others = [name for name in names if name not in (label, how.weight_column)]
    if not others:
        raise DataError(
            f"{verbatim(place)}: a table must have a column of features beside the label's, got none; "
            f"{advice or 'add one'}",
            delimiter=None,
        )
    features = others if how.columns is None else list(how.columns)
    if set(features) != set(others):
        told = f"{place}: {other_columns(others, features)}"
        raise DataError(verbatim(told) + f"; {advice}" * bool(advice), delimiter=None)
    places: dict[str | None, int] = {name: at for at, name in enumerate(names)}
    found = dataclasses.replace(
        how,
        label=label if label in places else None,
        weight_column=how.weight_column if how.weight_column in places else None,
        columns=tuple(features),
    )
    of_features = [places[name] for name in features]
    return Columns(names, of_features, places.get(label), places.get(how.weight_column), found)


def cells_of(line: bytes, place: str, delimiter: str) -> list[str]:
    """Return the cells of a line; none if it is blank. Raises DataError if it is no row."""
    try:
        cells = next(csv.reader([decoded(line.removesuffix(b"\r")) + "\n"], delimiter=delimiter))
    except csv.Error as error:
        raise DataError(
            f"{place}: a line must be a row of cells, got one with: {error}; correct it"
        ) from None
    except ValueError as error:
        raise DataError.at(place, error) from None
    if cells and cells[-1].endswith("\n"):
        raise DataError(
            f"{place}: a cell must end in the line where it began, got an open quote; close it, or take the "
            f"line ends out of the cells"
        )
    return cells


def _check_header(names: list[str], place: str) -> None:
    """Raise DataError if the first line of a file does not name its columns."""
    if not any(names) or all(re.match(NUMBER, name) for name in names):
        raise DataError(
            f"{verbatim(place)}: the first line of CSV must name the columns, got "
            f"{verbatim(listed(names)) or 'none'}; add such a line, or say that there is none: "
            f"{{header:False}}",
            header=None,
        )
    if "" in names:
        raise DataError(
            f"{place}: every column must have a name, got none for column {names.index('') + 1}; name it "
            f"(or, if it is pandas's index, write without: to_csv(index=False))"
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{place}: names of columns must differ, got {shown(twice[0])} twice; rename one")


def _numbered(count: int, place: str, how: Dialect) -> tuple[str, list[str]]:
    """Return the number of the labels' column, and those of all columns, of a table without a header."""
    if how.label is None:
        raise DataError(
            f"{verbatim(place)}: without a header the labels' column must be given by its number, got none; "
            f"give it with {{label}}: 1 is the first of {count} columns, -1 the last",
            label=None,
        )
    names = [str(number) for number in range(1, count + 1)]
    label = _place(how.label, count)
    if how.columns is None and label not in names:
        raise DataError(
            f"{place}: without a header the labels' column must be given by its number from 1 to {count}, "
            f"got {how.label!r}; 1 is the first, -1 the last"
        )
    if how.columns is None:
        return label, names
    trained_on = {*how.columns, label, how.weight_column} - {None}
    if count == len(how.columns) < len(trained_on):
        return label, list(how.columns)  # rows for a model, without labels and weights: the others close up
    if count != len(trained_on):  # which columns are missing cannot be known
        raise DataError(
            f"{place}: rows without a header must have the {len(trained_on)} columns of training, or its "
            f"{len(how.columns)} features alone, got {count} columns; add or remove columns"
        )
    return label, names


def _place(number: str, count: int) -> str:
    """Return a column's number from 1; a number below 0 counts from the last column."""
    return str(count + 1 + int(number)) if re.fullmatch("-[0-9]{1,9}", number) else number


def _check_label_and_weight(
    label: str, how: Dialect, names: list[str], place: str, advice: str, labelled: bool
) -> None:
    """Raise DataError if labels and weights share a column, or if one is missing where it must exist."""
    if how.weight_column == label:
        raise DataError(
            f"{verbatim(place)}: labels and weights must be two columns, got {{label.value!r}} for both; "
            f"give another {{label}} or {{weight_column}}",
            label=label,
            weight_column=label,
        )
    no_header = "" if how.header is False else ", or say that line 1 is a row: {header:False}"
    for what, column, option in (
        ("labels", label, "{label}"),
        ("weights", how.weight_column, "{weight_column}"),
    ):
        if labelled and column is not None and column not in names:
            told = f"{place}: the {what} must be in the column {column!r}, got the columns {listed(names)}"
            remedy = advice or f"give {option}, the column of the {what}{no_header}"
            options = dict.fromkeys(("label", "weight_column", "header", "delimiter"))
            raise DataError(f"{verbatim(told)}; {remedy}", **options)


def _other_delimiter(line: bytes, count: int, delimiter: str) -> str:
    """Suggest another delimiter if it makes more cells of a line than `count`, as a template; else ""."""
    for other in _DELIMITERS:
        if other != delimiter and line.count(other.encode()) >= count:
            name = "tab" if other == "\t" else other
            return f"the columns look separated by {name!r}: say so with {{delimiter:{name!r}}}"
    return ""
