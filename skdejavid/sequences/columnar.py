"""Convert columns of lists of lists of numbers, of Arrow or awkward, to packed rows and back.

*Packed rows* are an array (n_rows, n_features) and int64 offsets: item ``i`` of the column is
``values[offsets[i]:offsets[i + 1]]``.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.claims import most_bytes
from skdejavid.compat.optional import import_optional, loaded
from skdejavid.sequences.layout import offsets_of

__all__ = [
    "arrow_column",
    "check_arrow",
    "check_columns",
    "is_awkward",
    "is_lists_of_lists",
    "is_pandas",
    "rows_of_arrow",
    "rows_of_awkward",
    "rows_to_arrow",
    "rows_to_awkward",
]

# Bytes that the items of an awkward array may take whatever it stores: less than for arrays, as
# lists overlap in files of unknown origin and not because somebody has broadcast them.
_HARMLESS = 2**28

Rows: TypeAlias = tuple[NDArray[Any], NDArray[np.int64]]


def arrow_column(X: Any) -> Any | None:
    """Return `X` as a pyarrow column if it contains lists of lists, else None.

    Any library whose columns export Arrow's C interface is read, except pandas, whose series
    contain lists as Python objects.
    """
    if is_pandas(X) or not (hasattr(X, "__arrow_c_stream__") or hasattr(X, "__arrow_c_array__")):
        return None
    arrow = import_optional("pyarrow", "arrow", "Reading columns of Arrow")
    if isinstance(X, (arrow.Array, arrow.ChunkedArray)):
        column = X
    elif hasattr(X, "__arrow_c_array__"):
        column = arrow.array(X)
    else:
        column = arrow.chunked_array(X)
    return column if is_lists_of_lists(column) else None


def is_lists_of_lists(column: Any) -> bool:
    """Return whether the items of a pyarrow column are lists of lists."""
    arrow = import_optional("pyarrow", "arrow", "Reading columns of Arrow")
    inner = _item_type(arrow, column.type)
    return inner is not None and _item_type(arrow, inner) is not None


def check_arrow(column: Any, what: str) -> None:
    """Check that all offsets, lengths and texts of a pyarrow column are inside of its memory.

    pyarrow itself reads whatever they say, even outside of the process's memory.

    Raises
    ------
    ValueError
        If one is not; the message begins with `what`.
    """
    arrow = import_optional("pyarrow", "arrow", "Reading columns of Arrow")
    try:
        column.validate(full=True)
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(f"{what} is damaged: {error}") from error


def check_columns(X: Any, what: str) -> None:
    """Check `X` as `check_arrow` does if it is a column or table of pyarrow, or one of awkward.

    Any way to read such a column, ``numpy.asarray`` for example, relies on its offsets.
    """
    arrow = loaded("pyarrow")
    if arrow is not None and isinstance(
        X, (arrow.Array, arrow.ChunkedArray, arrow.Table, arrow.RecordBatch)
    ):
        check_arrow(X, what)
    elif is_awkward(X):
        _check_awkward(loaded("awkward"), X, what)


def rows_of_arrow(column: Any, what: str) -> Rows:
    """Return the packed rows of a pyarrow column of lists.

    They share the memory of a column that is one chunk. Missing numbers become NaN.

    Raises
    ------
    ValueError
        If the column is of another type or has no items, if one of its items or rows is missing, or
        if its rows differ in length; the message begins with `what`.
    """
    arrow = import_optional("pyarrow", "arrow", "Reading columns of Arrow")
    row_type = _item_type(arrow, column.type)
    number_type = None if row_type is None else _item_type(arrow, row_type)
    if number_type is None or not (
        arrow.types.is_floating(number_type) or arrow.types.is_integer(number_type)
    ):
        raise ValueError(
            f"{what} is of type {column.type}, expected lists of lists of numbers, for example "
            "large_list<fixed_size_list<float>[n_features]>"
        )
    check_arrow(column, what)
    numbers, widths, lengths = [], [], []
    n_before = 0
    for chunk in getattr(column, "chunks", [column]):
        _check_no_missing(chunk, None, what, n_before)
        row_counts, rows = _unpack(arrow, chunk, what)
        _check_no_missing(rows, row_counts, what, n_before)
        number_counts, items = _unpack(arrow, rows, what)
        numbers.append(items.to_numpy(zero_copy_only=items.null_count == 0))
        widths.append(number_counts)
        lengths.append(row_counts)
        n_before += len(chunk)
    if n_before == 0:
        raise ValueError(f"{what} has no sequences")
    counts = _joined(lengths)
    return _as_rows(_joined(numbers), _joined(widths), counts, what), offsets_of(counts)


def rows_to_arrow(values: NDArray[Any], offsets: NDArray[np.int64]) -> Any:
    """Return packed rows as a column of type large_list<fixed_size_list>, sharing memory."""
    arrow = import_optional("pyarrow", "arrow", "Creating columns of Arrow")
    numbers = arrow.array(np.ascontiguousarray(values).reshape(-1))
    rows = arrow.FixedSizeListArray.from_arrays(numbers, values.shape[1])
    return arrow.LargeListArray.from_arrays(arrow.array(offsets), rows)


def is_awkward(X: Any) -> bool:
    """Return whether `X` is an array of awkward, without importing that package."""
    awkward = loaded("awkward")
    return awkward is not None and isinstance(X, awkward.Array)


def is_pandas(X: Any) -> bool:
    """Return whether `X` is a data frame or series of pandas, without importing that package."""
    return hasattr(X, "iloc")


def rows_of_awkward(X: Any, what: str) -> Rows:
    """Return the packed rows of an awkward array of three axes.

    Raises
    ------
    ValueError
        In the same cases as `rows_of_arrow`.
    """
    awkward = import_optional("awkward", "awkward", "Reading awkward arrays")
    if X.ndim != 3:
        raise ValueError(
            f"{what} is of type {X.type}, expected three axes: sequences, frames, features"
        )
    _check_awkward(awkward, X, what)
    for axis in range(2):
        missing = awkward.is_none(X, axis=axis)
        missing = awkward.any(missing, axis=-1) if axis else missing
        if awkward.any(missing):
            _raise_missing(what, int(awkward.argmax(missing)), is_frame=axis == 1)
    X = awkward.fill_none(X, np.nan, axis=2)
    lengths = awkward.to_numpy(awkward.num(X, axis=1)).astype(np.int64)
    rows = awkward.flatten(X, axis=1)
    widths = awkward.to_numpy(awkward.num(rows, axis=1)).astype(np.int64)
    numbers = awkward.to_numpy(awkward.flatten(rows, axis=1), allow_missing=False)
    return _as_rows(numbers, widths, lengths, what), offsets_of(lengths)


def _check_awkward(awkward: Any, X: Any, what: str) -> None:
    """Check that offsets are inside of the array, and that its lists do not multiply its size."""
    problem = awkward.validity_error(X)
    if problem:
        raise ValueError(f"{what} is damaged: {problem}")
    for axis in range(1, X.ndim):
        n_items = int(awkward.sum(awkward.num(X, axis=axis), axis=None))
        if n_items * 8 > most_bytes(X.nbytes, _HARMLESS):
            raise ValueError(
                f"{what} has {n_items} items in {X.nbytes} bytes, as its lists overlap in memory: "
                "use awkward.to_packed(X)"
            )


def rows_to_awkward(values: NDArray[Any], offsets: NDArray[np.int64]) -> Any:
    """Return packed rows as an awkward array of type n * var * n_features, sharing memory."""
    awkward = import_optional("awkward", "awkward", "Creating awkward arrays")
    rows = awkward.contents.NumpyArray(np.asarray(values))
    return awkward.Array(awkward.contents.ListOffsetArray(awkward.index.Index64(offsets), rows))


def _item_type(arrow: Any, kind: Any) -> Any | None:
    """Return the type of the items of a list type, or None for any other type."""
    types = arrow.types
    is_lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return kind.value_type if is_lists or _is_view(types, kind) else None


def _is_view(types: Any, kind: Any) -> bool:
    """Return whether a type is that of lists that may lie in any order, or on top of each other."""
    return hasattr(types, "is_list_view") and (
        types.is_list_view(kind) or types.is_large_list_view(kind)
    )


def _unpack(arrow: Any, lists: Any, what: str) -> tuple[NDArray[np.int64], Any]:
    """Return the lengths of lists, and all their items.

    Both respect that the array may be a slice of a longer one, unlike its ``values`` attribute.
    """
    if _is_view(arrow.types, lists.type):
        sizes = lists.sizes.to_numpy().astype(np.int64)
        if sizes.sum() > len(lists.values):  # a few numbers could claim to be any number of them
            raise ValueError(
                f"{what} has lists that overlap in memory: cast it to a type of lists, for example "
                "X.cast(pyarrow.large_list(...))"
            )
        return sizes, lists.flatten()
    if arrow.types.is_fixed_size_list(lists.type):
        return np.broadcast_to(np.int64(lists.type.list_size), len(lists)), lists.flatten()
    return np.diff(lists.offsets.to_numpy()).astype(np.int64), lists.flatten()


def _check_no_missing(
    items: Any, lengths: NDArray[np.int64] | None, what: str, n_before: int
) -> None:
    """Raise ValueError naming the sequence that is missing, or has the first missing frame.

    `lengths` are those of the lists around the items, if they are frames, and `n_before` is the
    number of sequences in earlier chunks.
    """
    if items.null_count:
        index = int(np.argmax(items.is_null().to_numpy(zero_copy_only=False)))
        index = index if lengths is None else _list_with(lengths, index)
        _raise_missing(what, n_before + index, is_frame=lengths is not None)


def _raise_missing(what: str, index: int, *, is_frame: bool) -> NoReturn:
    found = "has a frame that is missing" if is_frame else "is missing"
    remedy = "remove it, or fill it with NaN" if is_frame else "remove it, and its label"
    raise ValueError(f"{what}: sequence {index} {found} (null): {remedy}")


def _list_with(lengths: NDArray[np.int64], item: int) -> int:
    """Return which of consecutive lists of these lengths contains an item."""
    return int(np.searchsorted(np.cumsum(lengths), item, side="right"))


def _as_rows(
    numbers: NDArray[Any], widths: NDArray[np.int64], lengths: NDArray[np.int64], what: str
) -> NDArray[Any]:
    """Return all numbers as rows, after a check that the rows have one width."""
    if len(widths) == 0:
        raise ValueError(f"{what}: sequence 0 has 0 frame(s), a minimum of 1 is required")
    if widths.min() != widths.max():
        other = np.flatnonzero(widths != widths[0])
        raise ValueError(
            f"{what}: sequence {_list_with(lengths, int(other[0]))} has a frame of "
            f"{widths[other[0]]} features, but sequence 0 has {widths[0]}"
        )
    return numbers.reshape(len(widths), int(widths[0]))


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
