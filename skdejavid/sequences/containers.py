"""Read sequences from lists, arrays, tensors, data frames and columns of other libraries.

Everything becomes one packed array; an input that cannot be read raises an error that says why.
:class:`TSEArray` itself is read elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from skdejavid.compat.tensors import without_torch
from skdejavid.sequences.columnar import (
    arrow_column,
    check_arrow,
    check_columns,
    is_awkward,
    is_pandas,
    rows_of_arrow,
    rows_of_awkward,
)
from skdejavid.sequences.layout import Packed, offsets_of
from skdejavid.sequences.tables import (
    as_native,
    column_names,
    columns_that_are_no_numbers,
    is_missing,
    numbers_of,
    only_column,
)

__all__ = [
    "accepted_dtypes",
    "as_real",
    "check_claims",
    "check_not_misread",
    "check_rows",
    "has_two_levels",
    "is_table",
    "named_frames",
    "read",
    "without_torch",
]

_Items = Sequence[Any] | NDArray[Any]

_HINT_FOR_ONE_AXIS = (
    "A univariate sequence x is passed as [x[:, None]]; a long table, with one row for each frame, "
    "with TSEArray.from_long."
)

# How many times an array may repeat what it stores, and how many bytes it may repeat anyway.
_MOST_COPIES, _BYTES_OF_COPIES = 20, 2**30


def read(X: Any) -> Packed:
    """Read any collection of sequences.

    Parameters
    ----------
    X : sequences
        See :class:`skdejavid.TSEArray`.

    Returns
    -------
    Packed
        float32 or float64, which share the memory of `X` where its layout allows it. NaN and
        infinity are kept.

    Raises
    ------
    TypeError
        If `X`, or an item of it, is of a type that cannot be read as a sequence.
    ValueError
        If there is no sequence, a sequence is empty or not 2-D, or if the numbers of features
        differ; the message names the sequence.
    """
    X = _unwrapped(X)
    _check_type(X)
    column = _read_column(X)
    if column is not None:
        return column
    collection = _as_list_or_array(X)
    _check_not_empty(collection)
    items = _items_that_are_sequences(collection)
    if items is not None:
        return _pack_items(items)
    if isinstance(collection, np.ndarray) and collection.ndim > 2:
        return _pack_three_dimensional(collection)
    if isinstance(collection, (list, tuple)):
        _check_rows_of_numbers(collection)
    return _read_table(X)


def is_table(X: Any) -> bool:
    """Return whether `read` takes each row of `X` as a sequence of one frame; nothing is read."""
    X = _unwrapped(X)
    if arrow_column(X) is not None or (is_awkward(X) and X.ndim > 2):
        return False
    if as_native(X) is not None and not is_pandas(X):
        return True
    collection = _as_list_or_array(X)
    return getattr(collection, "ndim", 2) == 2 and _items_that_are_sequences(collection) is None


def named_frames(X: Any) -> Any | None:
    """Return `X`, or its first item, if it is a table, whose columns name the features."""
    if isinstance(X, np.ndarray) and X.ndim != 1:
        return None
    X = _unwrapped(X)
    if as_native(X) is not None:
        return X if is_table(X) else None
    is_collection = isinstance(X, (list, tuple)) or getattr(X, "ndim", 0) == 1
    return as_native(next(iter(X), None)) if is_collection else None


def has_two_levels(X: Any) -> bool:
    """Return whether `X` is a data frame or series of pandas with several levels of index."""
    return is_pandas(X) and getattr(getattr(X, "index", None), "nlevels", 1) > 1


def _unwrapped(X: Any) -> Any:
    """Return tensors as arrays, and a table that has only a column of lists as that column."""
    X = without_torch(X)
    check_columns(X, "X")
    column = only_column(X)
    if column is not None:
        return column
    table = as_native(X)
    return X if table is None else table


def _read_column(X: Any) -> Packed | None:
    """Read a column of lists of lists of Arrow or awkward; return None if `X` is not one."""
    if isinstance(X, (list, tuple)):
        return None
    column = arrow_column(X)
    if column is not None:
        return check_rows(*rows_of_arrow(column, "X"), "X")
    if is_awkward(X) and X.ndim > 2:
        return check_rows(*rows_of_awkward(X, "X"), "X")
    return None


def _as_list_or_array(X: Any) -> _Items:
    if isinstance(X, (list, tuple)):
        return X
    if is_awkward(X):
        items: list[Any] = X.to_list()
        return items
    if not hasattr(X, "__array__"):
        return [X[i] for i in range(len(X))]
    return np.asarray(X)


def _items_that_are_sequences(collection: _Items) -> _Items | None:
    """Return the items to read one by one, or None if `collection` is a single array."""
    if isinstance(collection, (list, tuple)):
        return collection if any(map(_looks_like_sequence, collection)) else None
    assert isinstance(collection, np.ndarray)
    may_hold_objects = collection.ndim == 1 and collection.dtype.kind in "OSU"
    if may_hold_objects and any(map(_looks_like_sequence, collection)):
        return collection
    is_column = collection.ndim == 2 and collection.shape[1] == 1 and len(collection) > 0
    if is_column and _looks_like_sequence(collection.flat[0]):
        return collection[:, 0]  # a data frame with one column of arrays
    return None


def _read_table(X: Any) -> Packed:
    """Read a 2-D array, each row of which is a sequence of one frame."""
    X = _as_rows(X)
    with _overflow_as_value_error():
        try:
            frames = check_array(
                X, input_name="X", dtype=accepted_dtypes(X), ensure_all_finite=False
            )
        except ValueError as error:
            if "1D array" not in str(error):
                raise
            raise ValueError(f"{error}\n{_HINT_FOR_ONE_AXIS}") from error
    offsets = np.arange(len(frames) + 1, dtype=np.int64)
    return Packed(as_real(frames, "X"), offsets, is_table=True)


def _as_rows(X: Any) -> Any:
    """Return tables and objects as an array of numbers, and anything else as it is."""
    table = as_native(X)
    if table is not None:
        if not column_names(table):
            raise ValueError("X is a table with 0 feature(s), it has no columns")
        is_left_to_sklearn = is_pandas(X) and not columns_that_are_no_numbers(X)
        return X if is_left_to_sklearn else _numbers_of_table(table)
    if is_awkward(X):
        X = X.to_list()
    if getattr(X, "ndim", 0) == 1 or (isinstance(X, (list, tuple)) and not np.isscalar(X[0])):
        X = np.asarray(X)
    if isinstance(X, np.ndarray):
        check_copies(X, "X")
        if X.ndim == 2 and X.dtype == object:
            return _as_numeric(X, "X")
    return X


def _numbers_of_table(table: Any) -> NDArray[Any]:
    """Return the rows of a table; an error names the reader of tables that are no rows."""
    try:
        return numbers_of(table, "X")
    except ValueError as error:
        cells = [item for item in np.asarray(table).ravel()[:100] if np.ndim(item) > 0]
        hint = (
            "If each row is a frame, use TSEArray.from_long(X, id=...)."
            if not cells
            else "If each cell is a series, use TSEArray.from_sktime(X)."
        )
        raise ValueError(f"{error}. {hint}") from error


def check_claims(X: Any, name: str) -> None:
    """Check that an array or column, or those in lists, do not claim more than they store."""
    if isinstance(X, (list, tuple)) and len(X) and not np.isscalar(X[0]):
        for i, part in enumerate(X):
            check_claims(part, f"{name}[{i}]")
    elif isinstance(X, np.ndarray):
        check_copies(X, name)
    else:
        check_columns(X, name)


def check_copies(array: NDArray[Any], name: str) -> None:
    """Check that an array does not claim far more numbers than it stores, by strides of zero.

    Reading such an array copies it.
    """
    if array.nbytes <= _BYTES_OF_COPIES or array.flags.c_contiguous:
        return
    reach = [(n - 1) * abs(stride) for n, stride in zip(array.shape, array.strides, strict=True)]
    n_bytes = array.itemsize + sum(reach)
    if array.nbytes > _MOST_COPIES * n_bytes:
        raise ValueError(
            f"{name} of shape {array.shape} repeats {n_bytes} bytes of memory until they are "
            f"{array.nbytes}, as numpy.broadcast_to does. If this is meant, pass a copy: "
            f"numpy.ascontiguousarray({name})."
        )


@contextmanager
def _overflow_as_value_error() -> Iterator[None]:
    """Raise ValueError for integers too large for a float, as for all other unreadable values.

    scikit-learn does not translate the OverflowError of NumPy.
    """
    try:
        yield
    except OverflowError as error:
        raise ValueError(f"X cannot be read as numbers: {error}") from error


def _check_type(X: Any) -> None:
    """Refuse types that are not collections, and collections that would be read wrongly."""
    check_not_misread(X)
    name = type(X).__name__
    is_collection = hasattr(X, "__len__") and hasattr(X, "__getitem__")
    if hasattr(X, "__iter__") and not is_collection and not hasattr(X, "__array__"):
        raise TypeError(f"X is a {name}, which can only be iterated over: pass list(X).")
    columns = _columns_with_objects(X)
    if columns:
        raise TypeError(
            f"X is a {name} with the columns {columns}: pass the one that contains the sequences, "
            f"X[{columns[0]!r}] for example. If each row is a frame, use TSEArray.from_long(X, "
            "id=...)."
        )
    if not (is_collection or hasattr(X, "__array__")):
        raise TypeError(
            f"X is a {name}. Expected a list of arrays (n_frames, n_features), a 3-D array, a 2-D "
            "array (one frame per sequence) or a TSEArray."
        )


def check_not_misread(X: Any) -> None:
    """Refuse types whose items, or their order, are not what they seem."""
    name = type(X).__name__
    if has_two_levels(X):
        raise ValueError(
            f"X is a {name} whose index has the levels {list(X.index.names)}: convert a panel, "
            "with the levels instance and time, with TSEArray.from_sktime(X). If each row is a "
            "sequence of one frame, remove the levels with X.reset_index(drop=True)."
        )
    if name == "LazyFrame":
        raise TypeError("X is a LazyFrame, which has not been computed: pass X.collect().")
    if scipy.sparse.issparse(X):
        raise TypeError("Sparse data was passed, but dense data is required for sequences.")
    _check_not_masked(X)
    if isinstance(X, (str, bytes, PathLike)):
        raise TypeError(f"X is a {name}, not sequences. To read videos, use TSEExtractor.")
    if name == "PackedSequence":
        raise TypeError(
            "X is a PackedSequence, whose frames are interleaved. Pass a list of tensors: "
            "torch.nn.utils.rnn.unpack_sequence(X)."
        )
    if isinstance(X, Mapping):
        raise TypeError(f"X is a {name}, whose order is not that of y. Pass list(X.values()).")
    if isinstance(X, (Iterator, Set)):
        raise TypeError(
            f"X is a {name}, which has no order or can be read only once: pass list(X)."
        )


def _check_not_masked(X: Any) -> None:
    """Refuse a masked array, whose mask would be ignored silently."""
    if isinstance(X, np.ma.MaskedArray):
        raise ValueError(
            "X is a masked array, and masks are not supported. Fill it with X.filled(...), or cut "
            "each sequence to its own length and pass a list."
        )


def _columns_with_objects(X: Any) -> list[Any]:
    """Return the columns of a table that are not all numeric, if they are no column of arrays."""
    if isinstance(X, (list, tuple, np.ndarray)):
        return []
    table = as_native(X)
    if table is None:
        is_array = hasattr(X, "__array__")
        return [] if is_array else list(getattr(X, "column_names", None) or [])
    if is_pandas(table) or not columns_that_are_no_numbers(table):
        return []
    return column_names(table) or []


def _looks_like_sequence(item: Any) -> bool:
    """Return whether a collection with this item contains sequences, not numbers."""
    if isinstance(item, (list, tuple)):
        return len(item) == 0 or getattr(item[0], "ndim", np.ndim(item[0])) > 0
    if item is None or isinstance(item, (str, bytes, PathLike, Mapping)):
        return True  # so that `_read_sequence` refuses it, with its index
    if hasattr(item, "ndim"):
        return bool(item.ndim > 0)
    signs = "as_py", "__len__", "__arrow_c_stream__", "__dataframe__"
    return scipy.sparse.issparse(item) or any(hasattr(item, sign) for sign in signs)


def _check_not_empty(collection: _Items) -> None:
    if isinstance(collection, np.ndarray) and not (
        collection.ndim == 1 and collection.dtype == object
    ):
        return  # scikit-learn's check names the shape
    if len(collection) == 0:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")


def _check_rows_of_numbers(X: Sequence[Any]) -> None:
    """Check that lists of numbers, each a sequence of one frame, are real and equally long."""
    for i, row in enumerate(X):
        if not (isinstance(row, (list, tuple)) and isinstance(X[0], (list, tuple))):
            return
        if len(row) != len(X[0]):
            raise ValueError(
                f"X[{i}] has {len(row)} number(s), but X[0] has {len(X[0])}: a row of numbers is a "
                "sequence of one frame. Write a univariate series as x[:, None]."
            )
        if any(isinstance(number, (complex, np.complexfloating)) for number in row):
            raise ValueError(f"Complex data not supported: X[{i}].")


def _pack_items(items: _Items) -> Packed:
    _check_same_columns(items)
    sequences = [_read_sequence(item, i) for i, item in enumerate(items)]
    _check_same_features([sequence.shape for sequence in sequences])
    offsets = offsets_of([len(sequence) for sequence in sequences])
    dtype = np.result_type(*{_frame_dtype(sequence.dtype) for sequence in sequences})
    values = np.empty((offsets[-1], sequences[0].shape[1]), dtype=dtype)
    for sequence, start, stop in zip(sequences, offsets[:-1], offsets[1:], strict=True):
        with np.errstate(over="ignore", under="ignore"):  # infinity is refused later
            values[start:stop] = sequence
    return Packed(values, offsets)


def _pack_three_dimensional(array: NDArray[Any]) -> Packed:
    if array.ndim > 3:
        raise ValueError(
            f"Found array with dim {array.ndim}, while dim <= 3 is required: a 3-D array holds "
            "sequences (n_sequences, n_frames, n_features). To turn videos into sequences, use "
            "TSEExtractor."
        )
    check_copies(array, "X")
    n_sequences, n_frames, n_features = array.shape
    if n_sequences == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={array.shape}) while a minimum of 1 is required."
        )
    _check_frames_and_features(array.shape[1:], "X[0]")
    values = as_real(array.reshape(-1, n_features), "X")
    return Packed(values, np.arange(n_sequences + 1, dtype=np.int64) * n_frames)


def check_rows(values: NDArray[Any], offsets: NDArray[np.int64], name: str) -> Packed:
    """Check packed rows of another library and convert them; errors name the sequence."""
    if len(offsets) < 2:
        raise ValueError(f"{name}: found 0 sample(s) while a minimum of 1 is required.")
    n_features = values.shape[1]
    empty = np.flatnonzero(np.diff(offsets) == 0)
    index = int(empty[0]) if empty.size else 0
    n_frames = int(offsets[index + 1] - offsets[index])
    _check_frames_and_features((n_frames, n_features), f"{name}[{index}]")
    return Packed(as_real(values, name), offsets)


def _read_sequence(item: Any, index: int) -> NDArray[Any]:
    """Read one item of a collection as a numeric 2-D array, not yet of the final dtype."""
    name = f"X[{index}]"
    _check_item_type(item, name)
    array = _array_of(item, name)
    if array.ndim != 2:
        hints = {
            1: " Write a univariate series as x[:, None].",
            4: " To turn videos into sequences, use TSEExtractor.",
        }
        raise ValueError(
            f"{name}: expected 2-D (n_frames, n_features), got {array.ndim}-D with shape "
            f"{array.shape}.{hints.get(array.ndim, '')}"
        )
    _check_frames_and_features(array.shape, name)
    check_copies(array, name)
    return _as_numeric(array, name)


def _array_of(item: Any, name: str) -> NDArray[Any]:
    """Return one item of a collection as an array of any shape."""
    if isinstance(item, np.ndarray) and item.dtype != object:
        return item
    check_claims(item, name)
    table = as_native(item)
    if table is not None:
        return numbers_of(table, name)
    if hasattr(item, "as_py"):  # a scalar of Arrow, which is a list
        if getattr(item, "values", None) is not None:
            check_arrow(item.values, name)
        item = item.as_py()
    try:
        array = np.asarray(without_torch(item))
        if array.dtype == object and array.ndim == 1:  # of frames, as pandas reads Parquet
            array = np.asarray(list(array))
    except ValueError as error:
        raise ValueError(
            f"{name} is not an array (n_frames, n_features): its frames differ in length"
        ) from error
    return array


def _check_item_type(item: Any, name: str) -> None:
    kind = type(item).__name__
    if isinstance(item, (str, bytes, PathLike)):
        raise TypeError(
            f"{name} is a {kind}, expected an array (n_frames, n_features). To read videos, use "
            "TSEExtractor."
        )
    if item is None or isinstance(item, Mapping):
        raise TypeError(f"{name} is a {kind}, expected an array (n_frames, n_features).")
    if isinstance(item, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array: cut it to its valid frames, or fill it.")
    if scipy.sparse.issparse(item):
        raise TypeError(f"{name} is sparse, but dense data is required.")


def as_real(array: NDArray[Any], name: str) -> NDArray[np.floating]:
    """Convert to contiguous, aligned, native float32 or float64, with a copy only if needed."""
    array = _as_numeric(array, name)
    with np.errstate(over="ignore", under="ignore"):  # infinity is refused later
        return np.require(array, _frame_dtype(array.dtype), ["C_CONTIGUOUS", "ALIGNED"])


def _frame_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    is_narrow = dtype.kind == "f" and dtype.itemsize <= 4
    return np.dtype(np.float32 if is_narrow else np.float64)


def accepted_dtypes(X: Any) -> list[type]:
    """Return the dtypes that scikit-learn's checks keep; others are converted to the first."""
    dtype = getattr(X, "dtype", None)
    if isinstance(dtype, np.dtype) and _frame_dtype(dtype) == np.float32:
        return [np.float32]
    return [np.float64, np.float32]


def _as_numeric(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {array.dtype}.")
    if array.dtype.kind in "mM":
        raise ValueError(f"{name} cannot be read as numbers: it has dtype {array.dtype}.")
    if array.dtype.kind in "fiub":
        return array
    if array.dtype == object:
        array = np.where(is_missing(array), np.nan, array)
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise ValueError(f"{name} contains a value too large for dtype('float64')") from error
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} cannot be read as numbers: {error}") from error


def _check_frames_and_features(shape: tuple[int, ...], name: str) -> None:
    for size, what in zip(shape, ("timestep(s)", "feature(s)"), strict=True):
        if size == 0:
            raise ValueError(
                f"{name} has 0 {what} (shape={shape}) while a minimum of 1 is required."
            )


def _check_same_columns(items: _Items) -> None:
    """Check that data frames have the same columns in the same order."""
    names = ((i, column_names(item)) for i, item in enumerate(items))
    named = ((i, columns) for i, columns in names if columns is not None)
    first, expected = next(named, (0, []))
    for i, columns in named:
        if columns != expected:
            raise ValueError(
                f"X[{i}] has the columns {columns}, but X[{first}] has {expected}: all sequences "
                "must have the same features in the same order."
            )


def _check_same_features(shapes: list[tuple[int, ...]]) -> None:
    n_features = shapes[0][1]
    for i, shape in enumerate(shapes):
        if shape[1] == n_features:
            continue
        if len({n_frames for n_frames, _ in shapes}) == 1:
            raise ValueError(
                f"X[0] has shape {shapes[0]} and X[{i}] has shape {shape}: the sequences look "
                "transposed, (channels, time) as in aeon and sktime, expected (n_frames, "
                "n_features). Use TSEArray.from_aeon(X)."
            )
        raise ValueError(
            f"X[{i}] has {shape[1]} features, but X[0] has {n_features}: all sequences must have "
            "the same number of features."
        )
