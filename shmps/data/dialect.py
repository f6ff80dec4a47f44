"""How a text is read, as one value. Models and mapped data keep it, to read other texts alike."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from shmps.errors import DataError, UsageError, verbatim


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a text is read: what the caller said, and what the reader found. None: not said, not found."""

    zero_based: bool | None = None  # whether svmlight indices count from 0; not said: from 1
    label: str | None = None  # the column of the labels in CSV; without a header its number from 1
    delimiter: str | None = None  # between the cells of CSV
    header: bool | None = None  # whether the first line of CSV names the columns; not said: it does
    weight_column: str | None = None  # the column of CSV whose numbers are the rows' weights
    hash_bits: int | None = None  # features are hashed by name into 2**hash_bits
    keep_names: bool | None = None  # whether to keep the names of hashed features
    weighted: bool | None = None  # found: whether labels of svmlight text have weights (label:weight)
    columns: tuple[str, ...] | None = None  # found: the feature columns of CSV or of a DataFrame, in order
    names: Mapping[str, int] | None = None  # found: hashed name -> feature from 1, negative if its sign is -1

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """The dialect among the settings of a model, or in the description of mapped data (see `kept`).

        Raises DataError for a value of another type.
        """
        found = {name: kept[name] for name in _TYPES if kept.get(name) is not None}
        for name, value in found.items():
            if not isinstance(value, _TYPES[name]):
                raise DataError(f"{name} in what was kept of the training data is {value!r:.80}; train again")
        if "columns" in found:
            found["columns"] = tuple(map(str, found["columns"]))
        return cls(**found)

    def kept(self) -> dict[str, Any]:
        """What has to be known to read other texts alike, as JSON keeps it. Defaults are left out."""
        kept = {name: getattr(self, name) for name in _TYPES if getattr(self, name) is not None}
        for name, default in _DEFAULTS.items():
            if kept.get(name) == default:
                del kept[name]
        if self.columns is not None:
            kept["columns"] = list(self.columns)
        return kept

    def over(self, known: "Dialect") -> "Dialect":
        """This dialect, and what `known` says where this one says nothing."""
        said = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(known, **said)

    @property
    def says_csv(self) -> bool:
        """Whether something is said that only CSV has. `columns` are not: a table in memory has them too."""
        of_csv = (self.label, self.delimiter, self.header, self.weight_column)
        return any(each is not None for each in of_csv)

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """The names of the features, in their order; None where columns are hashed, or called by numbers."""
        return self.columns if self.hash_bits is None and self.header is not False else None

    @property
    def fixes_width(self) -> bool:
        """Whether the number of features is that of training, and not the largest index of the text."""
        return self.hash_bits is not None or self.says_csv

    def check_folder(self, found: "Dialect", path: str) -> None:
        """Raises UsageError if this dialect asks for other features than a folder was converted with."""
        for name in ("zero_based", "label", "weight_column", "hash_bits"):
            asked, has = getattr(self, name), getattr(found, name)
            if asked is not None and asked != (has or _DEFAULTS.get(name, has)):
                raise UsageError(
                    f"{verbatim(path)} was converted with {{{name}}} {verbatim(repr(has))}, got "
                    f"{{{name}.given}}; convert it again",
                    **{name: asked},
                )


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "zero_based": bool, "label": str, "delimiter": str, "header": bool, "weight_column": str,
    "hash_bits": int, "weighted": bool, "columns": (list, tuple), "names": Mapping,
}  # fmt: skip
_DEFAULTS = {"zero_based": False, "delimiter": ",", "header": True, "weighted": False}
