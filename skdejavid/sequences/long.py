"""Read long tables, which have one row for each frame and a column that names its sequence."""

from __future__ import annotations

import datetime
from decimal import Decimal
from numbers import Real
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

# Objects that have one order, in which they are compared exactly.
_TIMES = Real, Decimal, datetime.date, datetime.timedelta, np.bool_, np.datetime64


class Long(NamedTuple):
    """The sequences of a long table, in the order in which their ids appear first."""

    frames: NDArray[Any]  # (n_rows, n_features)
    offsets: NDArray[np.int64]  # (n_sequences + 1,)
    ids: NDArray[Any]  # (n_sequences,)
    labels: NDArray[Any] | None  # (n_sequences,)
    names: list[Any]  # of the features


def read_long(frame: Any, id: Any, time: Any, features: Any, label: Any) -> Long:
    """Read a long table; see :meth:`skdejavid.TSEArray.from_long`."""
    given = {"id": id, "time": time, "label": label}
    table = _as_table(frame, {argument: name for argument, name in given.items() if _is_name(name)})
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
        values = _check_complete(table, time, "time")
        times = _as_times(values, time)
        order = np.lexsort((times, codes))
        _check_times_differ(codes, times, order, (ids, values), (id, time))
    labels = None
    if label is not None:
        labels = _one_for_each(_check_complete(table, label, "label"), codes, first, ids, label)
    frames = numbers_of(table, "frame", features, _remedy_of_text(label))[order]
    return Long(frames, offsets_of(np.bincount(codes)), ids[first], labels, features)


def _as_table(frame: Any, given: dict[str, Any]) -> Any:
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
        wanted = {argument: name for argument, name in given.items() if name not in columns}
        for argument, name in wanted.items():
            if name not in levels:
                _check_has_names(table.index, argument, name)
        if wanted:
            table = table.reset_index(level=[name for name in levels if name in wanted.values()])
    return table


def _check_has_names(index: Any, argument: str, name: Any) -> None:
    """Refuse a name that may stand for a level without one, as ``reset_index`` calls it."""
    is_only_numbered = index.nlevels == 1 and getattr(index.dtype, "kind", "O") in "iu"
    if any(level is None for level in index.names) and not is_only_numbered:
        raise ValueError(
            f"{argument} is {name!r}, which is no column, and the index of frame has levels "
            f"without a name, {list(index.names)}: name them, with frame.rename_axis([...]), or "
            "make them columns, with frame.reset_index()"
        )


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


def _remedy_of_text(label: Any) -> str:
    """Return what to do about a feature of text; "{}" stands for its name."""
    if_class = " If it is the class, pass label={}." if label is None else ""
    return (
        f".{if_class} If it is no feature, list those that are in features=[...]. If these are "
        "numbers with a decimal comma: pandas.read_csv(..., decimal=',')"
    )


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
    """Return numbers in the order of the times; text would be sorted by its letters."""
    if values.dtype == object:
        return _ranks_of_objects(values, name)
    if values.dtype.kind in "US":
        raise ValueError(_TEXT_AS_TIME.format(name))
    if values.dtype.kind not in "fiubmM":
        raise ValueError(f"the column of time, {name!r}, has dtype {values.dtype}")
    return values


_TEXT_AS_TIME = (
    "the column of time, {!r}, contains text: convert it, for example with pandas.to_datetime or "
    "pandas.to_numeric"
)


def _ranks_of_objects(values: NDArray[Any], name: Any) -> NDArray[np.int64]:
    """Return the ranks of numbers, dates, durations or periods; no conversion can round them."""
    for kind in {type(item) for item in values}:
        _check_has_order(kind, name)
    try:
        items = [_in_utc(item) if isinstance(item, datetime.datetime) else item for item in values]
        ranks = {item: rank for rank, item in enumerate(sorted(set(items)))}
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(
            f"the column of time, {name!r}, cannot be sorted: {error}. All times must be of one "
            "kind, for dates see pandas.to_datetime(..., utc=True)"
        ) from error
    return np.array([ranks[item] for item in items], dtype=np.int64)


def _check_has_order(kind: type, name: Any) -> None:
    if issubclass(kind, (str, bytes)):
        raise ValueError(_TEXT_AS_TIME.format(name))
    if issubclass(kind, datetime.time):
        raise ValueError(
            f"the column of time, {name!r}, contains times of day, which begin again at midnight: "
            "combine them with the date"
        )
    if not (issubclass(kind, _TIMES) or kind.__name__ == "Period"):
        raise ValueError(
            f"the column of time, {name!r}, contains a {kind.__name__}, expected numbers, dates, "
            "durations or periods"
        )


def _in_utc(time: datetime.datetime) -> datetime.datetime:
    """Return a time of a time zone in UTC, as hours repeat when summer time ends."""
    return time if time.utcoffset() is None else time.astimezone(datetime.UTC)


def _check_times_differ(
    codes: NDArray[np.intp],
    times: NDArray[Any],
    order: NDArray[np.intp],
    columns: tuple[NDArray[Any], NDArray[Any]],
    names: tuple[Any, Any],
) -> None:
    """Check that no sequence has two frames at one time; `order` sorts by `codes` and `times`."""
    codes, times = codes[order], times[order]
    twice = np.flatnonzero((codes[1:] == codes[:-1]) & (times[1:] == times[:-1]))
    if twice.size:
        id, time = (column[order[twice[0]]] for column in columns)
        raise ValueError(
            f"two rows have the id {id!s} and the time {time!s}: a row is repeated, which pandas' "
            f"frame.drop_duplicates() removes, or a column other than {names[0]!r} tells the "
            "sequences apart, or each feature has rows of its own, which "
            f"frame.pivot(index=[{names[0]!r}, {names[1]!r}], columns=..., values=...) "
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
