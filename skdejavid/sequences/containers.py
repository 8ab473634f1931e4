"""Reading sequences out of whatever holds them: packed arrays, or an error that says what is wrong.

Knows the containers of others (lists, object arrays, tensors, ...), not our own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from skdejavid.sequences.columnar import arrow_column, is_awkward, rows_of_arrow, rows_of_awkward

__all__ = [
    "Packed",
    "accepted_dtypes",
    "as_real",
    "checked_rows",
    "named_frames",
    "read_collection",
    "refuse_masked",
    "without_torch",
]


class Packed(NamedTuple):
    """All sequences in one array: number ``i`` is ``values[offsets[i]:offsets[i + 1]]``."""

    values: NDArray[np.floating]  # (number of frames of all, n_features)
    offsets: NDArray[np.int64]  # (n_sequences + 1,)


def read_collection(X: Any) -> Packed | None:
    """`X` as sequences, or None if it is an array in which every row is a sequence of one frame."""
    _refuse_other_types(X)
    if isinstance(X, (list, tuple)):
        _require_items(X)
        if any(map(_looks_like_sequence, X)):
            return _pack_items(X)
        _require_rows(X)
        return None
    column = arrow_column(X)
    if column is not None:
        return checked_rows(*rows_of_arrow(column, "X"), "X")
    if is_awkward(X) and X.ndim > 2:
        return checked_rows(*rows_of_awkward(X, "X"), "X")
    if is_awkward(X):
        return read_collection(X.to_list())
    if not hasattr(X, "__array__"):
        return read_collection([X[i] for i in range(len(X))])
    array = np.asarray(X)
    if array.dtype == object and array.ndim == 1:
        _require_items(array)
    if array.dtype.kind in "OSU" and array.ndim == 1 and any(map(_looks_like_sequence, array)):
        return _pack_items(array)
    is_column = array.ndim == 2 and array.shape[1] == 1 and len(array) > 0
    if is_column and _looks_like_sequence(array.flat[0]):
        return _pack_items(array[:, 0])  # a data frame with one column of arrays
    if array.ndim == 3:
        return _pack_three_dimensional(array)
    if array.ndim > 3:
        raise ValueError(
            f"Found array with dim {array.ndim}, while dim <= 3 is required: a 3-D array holds "
            "sequences (n_sequences, n_frames, n_features). To turn videos into sequences, use "
            "TSEExtractor."
        )
    return None


def named_frames(X: Any) -> Any:
    """The first sequence of `X` if it is a data frame, whose columns name the features."""
    is_collection = isinstance(X, (list, tuple)) or getattr(X, "ndim", 0) == 1
    first = next(iter(X), None) if is_collection else None
    return first if hasattr(first, "columns") else None


def _refuse_other_types(X: Any) -> None:
    """Types that look like a collection but would be read wrongly, and those that are none."""
    name = type(X).__name__
    if scipy.sparse.issparse(X):
        raise TypeError("Sparse data was passed, but dense data is required for sequences.")
    refuse_masked(X)
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
    is_collection = hasattr(X, "__len__") and hasattr(X, "__getitem__")
    if hasattr(X, "__iter__") and not is_collection and not hasattr(X, "__array__"):
        raise TypeError(f"X is a {name}, which can only be iterated over: pass list(X).")
    columns = _columns_with_objects(X)
    if columns:
        raise TypeError(
            f"X is a {name} with the columns {columns}: pass the one that holds the sequences, "
            f"X[{columns[0]!r}] for example, or TSEArray(X[{columns[0]!r}])."
        )
    if not (is_collection or hasattr(X, "__array__")):
        raise TypeError(
            f"X is a {name}. Expected a list of arrays (n_frames, n_features), a 3-D array, a 2-D "
            "array (one frame per sequence) or a TSEArray."
        )


def refuse_masked(X: Any) -> None:
    """A masked array would lose its mask without a word."""
    if isinstance(X, np.ma.MaskedArray):
        raise ValueError(
            "X is a masked array, and a mask is not understood here. Fill it with X.filled(...), "
            "or cut each sequence to its own length and pass a list."
        )


def _columns_with_objects(X: Any) -> list[str]:
    """The columns of a table of Arrow, polars or Hugging Face, if it holds more than numbers."""
    columns = getattr(X, "column_names", None)
    if hasattr(X, "__arrow_c_stream__") and not hasattr(X, "iloc"):  # and not of pandas
        columns = columns or getattr(X, "columns", None)
    if columns is None or (hasattr(X, "__array__") and np.asarray(X).dtype != object):
        return []
    return list(columns)


def _looks_like_sequence(item: Any) -> bool:
    """Whether a collection with this item is one of sequences, and not a row of numbers."""
    if isinstance(item, (list, tuple)):
        return len(item) == 0 or getattr(item[0], "ndim", np.ndim(item[0])) > 0
    if item is None or isinstance(item, (str, bytes, PathLike, Mapping)):
        return True  # refused with its index
    is_arrow = hasattr(item, "as_py")
    return is_arrow or scipy.sparse.issparse(item) or getattr(item, "ndim", 0) > 0


def _require_items(X: Sequence[Any] | NDArray[np.object_]) -> None:
    if len(X) == 0:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")


def _require_rows(X: Sequence[Any]) -> None:
    """Rows of numbers, each a sequence of one frame, must be real and equally long."""
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


def _pack_items(items: Sequence[Any] | NDArray[np.object_]) -> Packed:
    _require_same_columns(items)
    sequences = [_read_sequence(item, i) for i, item in enumerate(items)]
    _require_same_features([sequence.shape for sequence in sequences])
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])])
    dtype = np.result_type(*{_frame_dtype(sequence.dtype) for sequence in sequences})
    values = np.empty((offsets[-1], sequences[0].shape[1]), dtype=dtype)
    for sequence, start, stop in zip(sequences, offsets[:-1], offsets[1:], strict=True):
        with np.errstate(over="ignore"):  # what is too large becomes infinity, which is refused
            values[start:stop] = sequence
    return Packed(values, offsets.astype(np.int64))


def _pack_three_dimensional(array: NDArray[Any]) -> Packed:
    n_sequences, n_frames, n_features = array.shape
    if n_sequences == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={array.shape}) while a minimum of 1 is required."
        )
    _require_frames_and_features(array.shape[1:], "X[0]")
    values = as_real(array.reshape(-1, n_features), "X")
    return Packed(values, np.arange(n_sequences + 1, dtype=np.int64) * n_frames)


def checked_rows(values: NDArray[Any], offsets: NDArray[np.int64], name: str) -> Packed:
    """Packed rows of someone else's as our own, or an error that names the sequence."""
    if len(offsets) < 2:
        raise ValueError(f"{name}: found 0 sample(s) while a minimum of 1 is required.")
    n_features = values.shape[1]
    empty = np.flatnonzero(np.diff(offsets) == 0)
    index = int(empty[0]) if empty.size else 0
    n_frames = int(offsets[index + 1] - offsets[index])
    _require_frames_and_features((n_frames, n_features), f"{name}[{index}]")
    return Packed(as_real(values, name), offsets)


def _read_sequence(item: Any, index: int) -> NDArray[Any]:
    """One item of a collection as a numeric 2-D array, not yet of the final type."""
    name = f"X[{index}]"
    if isinstance(item, (str, bytes, PathLike)):
        raise TypeError(
            f"{name} is a {type(item).__name__}, expected an array (n_frames, n_features). "
            "To read videos, use TSEExtractor."
        )
    if item is None or isinstance(item, Mapping):
        raise TypeError(
            f"{name} is a {type(item).__name__}, expected an array (n_frames, n_features)."
        )
    if isinstance(item, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array: cut it to its valid frames, or fill it.")
    if scipy.sparse.issparse(item):
        raise TypeError(f"{name} is sparse, but dense data is required.")
    if hasattr(item, "as_py"):  # a scalar of Arrow, which is a list
        item = item.as_py()
    try:
        array = np.asarray(without_torch(item))
        if array.dtype == object and array.ndim == 1:  # of frames, as pandas reads Parquet
            array = np.asarray(list(array))
    except ValueError as error:
        raise ValueError(
            f"{name} is no array (n_frames, n_features): its frames differ in length"
        ) from error
    if array.ndim != 2:
        hints = {
            1: " Write a univariate series as x[:, None].",
            4: " To turn videos into sequences, use TSEExtractor.",
        }
        raise ValueError(
            f"{name}: expected 2-D (n_frames, n_features), got {array.ndim}-D with shape "
            f"{array.shape}.{hints.get(array.ndim, '')}"
        )
    _require_frames_and_features(array.shape, name)
    return _require_numeric(array, name)


def as_real(array: NDArray[Any], name: str) -> NDArray[np.floating]:
    """Contiguous, aligned, native float32 or float64; a copy only if it is not that already."""
    array = _require_numeric(array, name)
    with np.errstate(over="ignore"):  # what is too large becomes infinity, which is refused
        return np.require(array, _frame_dtype(array.dtype), ["C_CONTIGUOUS", "ALIGNED"])


def _frame_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    is_narrow = dtype.kind == "f" and dtype.itemsize <= 4
    return np.dtype(np.float32 if is_narrow else np.float64)


def accepted_dtypes(X: Any) -> list[type]:
    """What scikit-learn's checks may keep, and convert everything else to the first of."""
    dtype = getattr(X, "dtype", None)
    if isinstance(dtype, np.dtype) and _frame_dtype(dtype) == np.float32:
        return [np.float32]
    return [np.float64, np.float32]


def _require_numeric(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {array.dtype}.")
    if array.dtype.kind in "mM":
        raise ValueError(f"{name} cannot be read as numbers: it has dtype {array.dtype}.")
    if array.dtype.kind in "fiub":
        return array
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise ValueError(f"{name} contains a value too large for dtype('float64')") from error
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} cannot be read as numbers: {error}") from error


def _require_frames_and_features(shape: tuple[int, ...], name: str) -> None:
    for size, what in zip(shape, ("timestep(s)", "feature(s)"), strict=True):
        if size == 0:
            raise ValueError(
                f"{name} has 0 {what} (shape={shape}) while a minimum of 1 is required."
            )


def _require_same_columns(items: Sequence[Any] | NDArray[np.object_]) -> None:
    """Among data frames the same columns in the same order, so that no feature is mistaken."""
    named = ((i, list(item.columns)) for i, item in enumerate(items) if hasattr(item, "columns"))
    first, expected = next(named, (0, []))
    for i, columns in named:
        if columns != expected:
            raise ValueError(
                f"X[{i}] has the columns {columns}, but X[{first}] has {expected}: all sequences "
                "must have the same features in the same order."
            )


def _require_same_features(shapes: list[tuple[int, ...]]) -> None:
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


def without_torch(X: Any) -> Any:
    """Tensors, or a list of them, as NumPy arrays; all else as it is. Torch is not imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return X
    if type(X) in (list, tuple) and any(isinstance(x, torch.Tensor) for x in X):
        return [without_torch(x) for x in X]
    if not isinstance(X, torch.Tensor):
        return X
    if X.layout not in (torch.strided, torch.jagged):
        raise TypeError(
            f"Sparse data was passed, but dense data is required: a tensor of layout {X.layout}. "
            "Use X.to_dense()."
        )
    if X.is_nested:
        return list(X.unbind())
    tensor = X.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":  # NumPy has none
        tensor = tensor.float()
    return tensor.numpy()
