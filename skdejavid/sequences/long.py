"""Read long tables, which have one row for each frame and a column that names its sequence."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import loaded
from skdejavid.sequences.columnar import is_pandas
from skdejavid.sequences.layout import offsets_of
from skdejavid.sequences.tables import (
    as_native,
    check_names_differ,
    column_names,
    is_missing,
    numbers_of,
    plain_column,
    refuse_lazy,
)

__all__ = ["Long", "read_long"]

_MOST_NAMES = 20  # of a table, that a message lists


class Long(NamedTuple):
    """The sequences of a long table, in the order in which their ids appear first."""

    frames: NDArray[Any]  # (n_rows, n_features)
    offsets: NDArray[np.int64]  # (n_sequences + 1,)
    ids: NDArray[Any]  # (n_sequences,)
    labels: NDArray[Any] | None  # (n_sequences,)


def read_long(frame: Any, id: Any, time: Any, features: Any, label: Any) -> Long:
    """Read a long table; see :meth:`skdejavid.TSEArray.from_long`."""
    table = _as_table(frame, [name for name in (id, time, label) if _is_name(name)])
    names = column_names(table) or []
    check_names_differ(names, "frame")
    _check_is_column(names, id, "id")
    for name, argument in ((time, "time"), (label, "label")):
        if name is not None:
            _check_is_column(names, name, argument)
    features = _check_features(names, features, {"id": id, "label": label}, time)
    if len(table) == 0:
        raise ValueError("frame has no rows")
    ids = _check_complete(table, id, "id")
    codes, first = _number(ids)
    if time is None:
        order = np.argsort(codes, kind="stable")
    else:
        times = _as_times(_check_complete(table, time, "time"), time)
        order = np.lexsort((times, codes))
        _check_times_differ(codes[order], times[order], ids, order, (id, time))
    labels = None
    if label is not None:
        labels = _one_for_each(_check_complete(table, label, "label"), codes, first, ids, label)
    frames = numbers_of(table, "frame", features)[order]
    return Long(frames, offsets_of(np.bincount(codes)), ids[first], labels)


def _as_table(frame: Any, names: list[Any]) -> Any:
    """Return a native table, with those levels of pandas' index as columns that are named."""
    refuse_lazy(frame, "frame")
    table = as_native(frame)
    if table is None:
        raise TypeError(
            f"frame is a {type(frame).__name__}, expected a table with names of columns: a data "
            "frame of pandas or polars, a table of Arrow or a data set of Hugging Face"
        )
    if is_pandas(table):
        columns = set(table.columns)
        levels = [name for name in table.index.names if name is not None]
        wanted = [name for name in levels if name in names and name not in columns]
        if wanted:
            table = table.reset_index(level=wanted)
    return table


def _is_name(name: Any) -> bool:
    """Return whether a column can have this name; an array would be compared item by item."""
    try:
        hash(name)
    except TypeError:
        return False
    return name is not None


def _check_is_column(names: list[Any], name: Any, argument: str) -> None:
    if not _is_name(name) or name not in names:
        shown = names[:_MOST_NAMES] + ["..."] * (len(names) > _MOST_NAMES)
        raise ValueError(f"{argument} is {name!r}, expected the name of a column, one of {shown}")


def _check_features(
    names: list[Any], features: Any, others: dict[str, Any], time: Any
) -> list[Any]:
    """Return the names of the features, by default of all columns that are nothing else."""
    if features is None:
        taken = [*others.values(), time]
        found = [name for name in names if name not in taken]
        if not found:
            raise ValueError(f"frame has no columns for features, only {names}")
        return found
    if isinstance(features, str) or not hasattr(features, "__iter__"):
        raise ValueError(f"features is {features!r}, expected a list of names of columns")
    found = list(features)
    if not found:
        raise ValueError("features is empty, expected at least one name of a column")
    for name in found:
        _check_is_column(names, name, "an item of features")
        for argument, other in others.items():
            if other is not None and name == other:
                raise ValueError(f"features contains {name!r}, which is the column of {argument}")
    check_names_differ(found, "features")
    return found


def _check_complete(table: Any, name: Any, argument: str) -> NDArray[Any]:
    """Return the plain array of a column in which nothing may be missing."""
    values = plain_column(table, name)
    missing = is_missing(values)
    if missing.any():
        raise ValueError(
            f"the column of {argument}, {name!r}, has a missing value, first in row "
            f"{int(missing.argmax())}: remove or complete these rows"
        )
    return values


def _number(ids: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return a number for each row, counted by first appearance of its id, and the first rows."""
    if ids.dtype != object:
        _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
        ranks = np.empty_like(first)
        ranks[np.argsort(first)] = np.arange(len(first))
        return ranks[inverse], np.sort(first)
    pandas = loaded("pandas")
    numbers: dict[Any, int] = {}
    try:
        if pandas is not None:  # which is faster for text
            codes = pandas.factorize(ids)[0].astype(np.intp)
            return codes, np.unique(codes, return_index=True)[1]
        codes = np.array([numbers.setdefault(item, len(numbers)) for item in ids], dtype=np.intp)
    except TypeError as error:
        raise ValueError(f"the column of id cannot name sequences: {error}") from error
    return codes, np.unique(codes, return_index=True)[1]


def _as_times(values: NDArray[Any], name: Any) -> NDArray[Any]:
    """Return times that can be sorted; text would be sorted by its letters."""
    if values.dtype == object:
        types = {type(item).__name__ for item in values}
        if types <= {"date", "datetime", "Timestamp"}:
            try:
                return values.astype("M8[us]")
            except (TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"the column of time, {name!r}, cannot be sorted: {error}") from (
                    error
                )
        if types & {"str", "bytes"}:
            raise ValueError(
                f"the column of time, {name!r}, contains text: convert it, for example with "
                "pandas.to_datetime or pandas.to_numeric"
            )
        try:
            return values.astype(np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"the column of time, {name!r}, cannot be sorted: {error}") from error
    if values.dtype.kind not in "fiubmM":
        raise ValueError(f"the column of time, {name!r}, has dtype {values.dtype}")
    return values


def _check_times_differ(
    codes: NDArray[np.intp],
    times: NDArray[Any],
    ids: NDArray[Any],
    order: NDArray[np.intp],
    names: tuple[Any, Any],
) -> None:
    """Check that no sequence has two frames at one time; `codes` and `times` are in `order`."""
    twice = np.flatnonzero((codes[1:] == codes[:-1]) & (times[1:] == times[:-1]))
    if twice.size:
        row = int(twice[0])
        raise ValueError(
            f"two rows have the id {ids[order[row]]!s} and the time {times[row]!s}: a column "
            f"other than {names[0]!r} tells the sequences apart, or each feature has rows of its "
            f"own, which frame.pivot(index=[{names[0]!r}, {names[1]!r}], columns=..., values=...) "
            "turns into columns"
        )


def _one_for_each(
    labels: NDArray[Any],
    codes: NDArray[np.intp],
    first: NDArray[np.intp],
    ids: NDArray[Any],
    name: Any,
) -> NDArray[Any]:
    """Return the label of each sequence, after a check that its rows have the same."""
    found = labels[first]
    differs = np.flatnonzero(found[codes] != labels)
    if differs.size:
        row = int(differs[0])
        raise ValueError(
            f"the rows of id {ids[row]!s} have different labels in {name!r}, {found[codes[row]]!s} "
            f"and, in row {row}, {labels[row]!s}: a sequence has one label"
        )
    return found
