"""How a file is read, as one value. Models and mapped data keep it, so that other files are read alike."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Self

from shmps.errors import DataError, UsageError, verbatim


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a file is read: options of the caller, and findings of the reader; None: not given, not found."""

    zero_based: bool | None = None  # whether svmlight indices count from 0; not given: from 1
    label: str | None = None  # the column of the labels in CSV; without a header its number from 1
    delimiter: str | None = None  # between the cells of CSV
    header: bool | None = None  # whether the first line of CSV names the columns; not given: it does
    weight_column: str | None = None  # the column of CSV that has the rows' weights
    hash_bits: int | None = None  # features are hashed by name into 2**hash_bits
    keep_names: bool | None = None  # whether to keep the names of hashed features
    weighted: bool | None = None  # found: whether labels of svmlight text have weights (label:weight)
    columns: tuple[str, ...] | None = None  # found: the feature columns of CSV or of a DataFrame, in order
    names: Mapping[str, int] | None = None  # found: hashed name -> feature from 1, negative if its sign is -1

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """Return the dialect in the settings of a model, or in the description of mapped data (see `kept`).

        Raises DataError for a value of another type.
        """
        found = {name: kept[name] for name in _TYPES if kept.get(name) is not None}
        for name, value in found.items():
            if not isinstance(value, _TYPES[name]):
                raise DataError(
                    f"{name} must have the type that training wrote, got {value!r:.80} in the model or data; "
                    f"train again"
                )
        if "columns" in found:
            found["columns"] = tuple(map(str, found["columns"]))
        return cls(**found)

    def kept(self) -> dict[str, Any]:
        """Return what is needed to read other files alike, as JSON keeps it, without defaults."""
        kept = {name: getattr(self, name) for name in _TYPES if getattr(self, name) is not None}
        for name, default in _DEFAULTS.items():
            if kept.get(name) == default:
                del kept[name]
        if self.columns is not None:
            kept["columns"] = list(self.columns)
        return kept

    def over(self, known: "Dialect") -> "Dialect":
        """Return this dialect, with the values of `known` in place of those that are None."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(known, **given)

    def only(self, fields: Collection[str]) -> "Dialect":
        """Return this dialect with these fields alone; the others become None."""
        return Dialect(**{name: value for name, value in vars(self).items() if name in fields})

    def given_options(self) -> dict[str, Any]:
        """Return the options of the caller that are neither None nor the default."""
        options = {name: getattr(self, name) for name in _OPTIONS}
        return {
            name: value
            for name, value in options.items()
            if value is not None and value != _DEFAULTS.get(name)
        }

    @property
    def has_table_options(self) -> bool:
        """Whether an option is given that only CSV has. `columns` do not count: a DataFrame has them too."""
        return any(getattr(self, name) is not None for name in _TABLE_OPTIONS)

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """The names of the features, in their order; None if columns are hashed, or known by number."""
        return self.columns if self.hash_bits is None and self.header is not False else None

    @property
    def fixes_width(self) -> bool:
        """Whether rows must have the number of features of training, whatever their largest index."""
        return self.hash_bits is not None or self.has_table_options

    def check_folder(self, found: "Dialect", path: str) -> None:
        """Raise UsageError if this dialect asks for other features than mapped data was converted with."""
        for name in ("zero_based", "label", "weight_column", "hash_bits"):
            asked, has = getattr(self, name), getattr(found, name)
            if asked is not None and asked != (has or _DEFAULTS.get(name, has)):
                raise UsageError(
                    f"{verbatim(path)} must be read as it was converted, with {{{name}}} "
                    f"{verbatim(repr(has))}, got {{{name}.given}}; convert it again",
                    **{name: asked},
                )


def origin_of(X: Any) -> Dialect:
    """Return how the rows X were read; an empty Dialect for a matrix that was not read."""
    return getattr(X, "origin", Dialect())


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "zero_based": bool, "label": str, "delimiter": str, "header": bool, "weight_column": str,
    "hash_bits": int, "weighted": bool, "columns": (list, tuple), "names": Mapping,
}  # fmt: skip
_DEFAULTS = {"zero_based": False, "delimiter": ",", "header": True, "weighted": False, "keep_names": False}
_TABLE_OPTIONS = ("label", "delimiter", "header", "weight_column")
_OPTIONS = ("zero_based", *_TABLE_OPTIONS, "hash_bits", "keep_names")
