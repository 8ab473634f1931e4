"""Read tables of pandas, polars, Arrow, Hugging Face and others, column by column.

A *table* has named columns. A *plain* array is NumPy's array for a column, of the same kind as long
as nothing is missing: integers stay integers, whatever their number of bits. What is missing
becomes NaN, NaT or, among objects, None.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional, loaded
from skdejavid.compat.tensors import without_torch
from skdejavid.sequences.columnar import check_arrow, is_lists_of_lists, is_pandas

__all__ = [
    "as_native",
    "as_plain",
    "check_names_differ",
    "column_names",
    "columns_that_are_no_numbers",
    "feature_names_of",
    "is_missing",
    "numbers_of",
    "only_column",
    "plain_column",
    "plain_labels",
    "plain_weights",
    "refuse_lazy",
    "to_numbers",
    "usable_names",
]


_FEW = 1000  # items of an array, for which calling pandas would not pay


def as_native(X: Any) -> Any | None:
    """Return `X` as a data frame of pandas or polars or a table of pyarrow, or None if it is none.

    Nothing is imported unless `X` belongs to it, except pyarrow or pandas for the tables of other
    libraries, which are read through Arrow's C interface or the interchange protocol.
    """
    if isinstance(X, (list, tuple, np.ndarray)) or _is_lazy(X):
        return None
    if is_pandas(X):
        return X if hasattr(X, "columns") else None
    if _is_of("polars", "DataFrame", X) or _is_of("pyarrow", "Table", X):
        return X
    return _converted(X)


def _converted(X: Any) -> Any | None:
    """Return a table of a library that Arrow or pandas can read as one of them, or None."""
    if _is_of("pyarrow", "RecordBatch", X):
        return loaded("pyarrow").Table.from_batches([X])
    if _is_of("datasets", "Dataset", X):
        return _arrow_of_dataset(X)
    has_columns = hasattr(X, "columns") or hasattr(X, "column_names")
    if hasattr(X, "__arrow_c_stream__") and has_columns:
        return import_optional("pyarrow", "arrow", "Reading tables through Arrow").table(X)
    if hasattr(X, "__dataframe__"):
        interchange = import_optional("pandas.api.interchange", "sktime", "Reading data frames")
        return interchange.from_dataframe(X)
    return None


def refuse_lazy(X: Any, name: str) -> None:
    """Refuse a lazy frame, whose error is a TypeError that says `name`."""
    if _is_lazy(X):
        raise TypeError(
            f"{name} is a LazyFrame, which has not been computed: pass {name}.collect()"
        )


def _is_lazy(X: Any) -> bool:
    return type(X).__name__ == "LazyFrame"


def column_names(X: Any) -> list[Any] | None:
    """Return the names of the columns of a table, or None if `X` is no table."""
    names = getattr(X, "column_names", None)
    if names is None or callable(names):
        names = getattr(X, "columns", None)
    if names is None or callable(names) or isinstance(X, np.ndarray):
        return None
    return list(names)


def feature_names_of(X: Any) -> tuple[str, ...] | None:
    """Return the names of the columns of a table if they can be names of features, else None."""
    return usable_names(column_names(X) or ())


def usable_names(names: Iterable[Any]) -> tuple[str, ...] | None:
    """Return names as a tuple if there are any, all are strings and no two are the same."""
    found = tuple(names)
    are_strings = all(isinstance(name, str) for name in found)
    return found if found and are_strings and len(set(found)) == len(found) else None


def only_column(X: Any) -> Any | None:
    """Return the column of lists of lists that is all of a table or data set, else None.

    A column of a data set of Hugging Face is read through Arrow, unless the data set has a format
    of its own, which may convert the numbers.
    """
    if _is_of("datasets", "Column", X):
        return _arrow_of_column(X)
    if is_pandas(X):
        return None
    table = as_native(X)
    if table is None or len(column_names(table) or ()) != 1:
        return None
    if _is_of("polars", "DataFrame", table):
        kind = str(table.dtypes[0])
        is_nested = kind.startswith(("List(List", "List(Array", "Array(List", "Array(Array"))
        is_nested |= kind.startswith("Array(") and len(getattr(table.dtypes[0], "shape", ())) == 2
        return table.to_series() if is_nested else None
    return table.column(0) if is_lists_of_lists(table.column(0)) else None


def plain_column(table: Any, name: Any) -> NDArray[Any]:
    """Return the plain array of a column of a native table."""
    if is_pandas(table):
        return as_plain(table[name])
    if _is_of("polars", "DataFrame", table):
        return as_plain(table[name])
    return as_plain(table.column(name), f"column {name!r}")


def as_plain(column: Any, what: str = "a column") -> NDArray[Any]:
    """Return the plain array of a series, Arrow column, list or array.

    Raises
    ------
    ValueError
        If an Arrow column is damaged, or of a type that NumPy does not have.
    """
    dtype = getattr(column, "dtype", None)
    if isinstance(dtype, np.dtype) and hasattr(column, "__array__"):
        return np.asarray(column)
    if hasattr(column, "isna") and hasattr(column, "to_numpy"):
        return _plain_of_pandas(column, dtype)
    if _is_of("pyarrow", "Array", column) or _is_of("pyarrow", "ChunkedArray", column):
        return _plain_of_arrow(column, what)
    if _is_of("polars", "Series", column):
        array: NDArray[Any] = column.to_numpy()
        return array
    return np.asarray(column)


def plain_labels(y: Any) -> Any:
    """Return labels of pandas, polars, Arrow or torch as NumPy's array of the same kind.

    scikit-learn would turn integers that may be missing into floats, which merges large ones, and
    does not know NumPy's strings of variable width. Anything else is returned as it is.

    Raises
    ------
    TypeError
        If `y` is a tensor whose values cannot be read.
    """
    y = _of_tensors(y, "y")
    if isinstance(y, np.ndarray) and y.dtype.kind == "T":
        return y.astype(object)
    if isinstance(y, (list, tuple, np.ndarray)):
        return y
    if is_pandas(y) and getattr(y, "ndim", 1) == 2 and y.shape[1] == 1:
        return as_plain(y.iloc[:, 0])[:, None]
    has_a_kind = hasattr(y, "dtype") or hasattr(y, "type")
    return as_plain(y, "y") if has_a_kind and getattr(y, "ndim", 1) == 1 else y


def plain_weights(sample_weight: Any) -> Any:
    """Return sample weights of any library as an array of numbers; None and a number are kept.

    Raises
    ------
    TypeError, ValueError
        If the weights are text, times, complex numbers or masked, or a tensor that cannot be read.
    """
    if sample_weight is None or isinstance(sample_weight, Real):
        return sample_weight
    if np.ma.is_masked(sample_weight):
        raise ValueError("sample_weight is a masked array: fill it with numbers first")
    return to_numbers(as_plain(_of_tensors(sample_weight, "sample_weight")), "sample_weight")


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which items of a plain array are NaN, NaT, None or ``pandas.NA``."""
    if values.dtype.kind in "fc":
        return np.isnan(values)
    if values.dtype.kind in "mM":
        return np.isnat(values)
    if values.dtype != object:
        return np.zeros(values.shape, dtype=bool)
    pandas = loaded("pandas")
    if pandas is not None and values.size > _FEW:
        return np.asarray(pandas.isna(values), dtype=bool)
    missing = [_is_missing_object(item) for item in values.ravel()]
    return np.array(missing, dtype=bool).reshape(values.shape)


def to_numbers(values: NDArray[Any], what: str, remedy: str = "") -> NDArray[Any]:
    """Return a plain array as real numbers, in which NaN stands for what is missing.

    Raises
    ------
    ValueError
        If the array contains anything but real numbers; the message begins with `what`, and ends
        with `remedy` for items that are no numbers.
    """
    if values.dtype.kind in "fiub":
        return values
    if values.dtype != object:
        raise ValueError(f"{what} cannot be read as numbers: it has dtype {values.dtype}")
    missing = is_missing(values)
    for item in values[~missing]:
        if isinstance(item, (str, bytes, complex, np.complexfloating)) or np.ndim(item) > 0:
            text = f", {item[:30]!r}" if isinstance(item, (str, bytes)) else ""
            kind = type(item).__name__
            raise ValueError(
                f"{what} cannot be read as numbers: it contains a {kind}{text}{remedy}"
            )
    numbers = np.full(values.shape, np.nan)
    try:
        numbers[~missing] = values[~missing].astype(np.float64)
    except OverflowError as error:
        raise ValueError(f"{what} contains a value too large for dtype('float64')") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be read as numbers: {error}") from error
    return numbers


def numbers_of(
    table: Any, what: str, names: list[Any] | None = None, remedy: str = ""
) -> NDArray[Any]:
    """Return columns of a native table as an array (n_rows, n_columns), by default all.

    Raises
    ------
    ValueError
        If two columns have one name, or a column contains anything but numbers; the message begins
        with `what` and names the column. `remedy` is what to do about text, with "{}" for the name.
    """
    all_names = column_names(table) or []
    if names is None:
        names = all_names
    check_names_differ(all_names, what)
    if is_pandas(table) and len(names) == len(all_names):
        array: NDArray[Any] = table.to_numpy()
        if array.dtype.kind in "fiu":
            return array
    columns = [
        to_numbers(
            plain_column(table, name), f"column {name!r} of {what}", remedy.format(repr(name))
        )
        for name in names
    ]
    dtype = np.result_type(*columns) if columns else np.dtype(np.float64)
    result = np.empty((len(table), len(columns)), dtype=dtype)
    for k, column in enumerate(columns):
        result[:, k] = column
    return result


def check_names_differ(names: list[Any], what: str) -> None:
    """Check that no two columns have one name, of which a user could mean only one."""
    seen: set[Any] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} has two columns that are named {name!r}: rename one of them")
        seen.add(name)


def columns_that_are_no_numbers(table: Any) -> list[Any]:
    """Return the names of columns of a native table whose types are not numeric."""
    return [name for name, kind in _kinds_of(table) if not kind]


def _kinds_of(table: Any) -> list[tuple[Any, bool]]:
    """Return the name of each column, and whether it contains numbers."""
    names = column_names(table) or []
    if is_pandas(table):
        return [
            (name, getattr(kind, "kind", "O") in "fiub")
            for name, kind in zip(names, table.dtypes, strict=True)
        ]
    if _is_of("polars", "DataFrame", table):
        kinds = table.dtypes
        return [
            (name, kind.is_numeric() or str(kind) == "Boolean")
            for name, kind in zip(names, kinds, strict=True)
        ]
    types = loaded("pyarrow").types
    return [
        (
            field.name,
            types.is_floating(field.type)
            or types.is_integer(field.type)
            or types.is_boolean(field.type)
            or types.is_decimal(field.type),
        )
        for field in table.schema
    ]


def _is_of(module: str, kind: str, X: Any) -> bool:
    """Return whether `X` is an instance of a class of a module, which is not imported for that."""
    found = getattr(loaded(module), kind, None)
    if found is None and module == "datasets":
        found = getattr(loaded("datasets.arrow_dataset"), kind, None)
    return isinstance(found, type) and isinstance(X, found)


def _arrow_of_dataset(data: Any) -> Any | None:
    """Return a data set of Hugging Face as a table, or None if a function makes its rows."""
    return None if data.format["type"] == "custom" else data.with_format("arrow")[:]


def _arrow_of_column(column: Any) -> Any | None:
    source = column.source
    if not _is_of("datasets", "Dataset", source) or source.format["type"] not in (None, "arrow"):
        return None
    found = source.with_format("arrow")[:].column(column.column_name)
    return found if is_lists_of_lists(found) else None


def _of_tensors(values: Any, name: str) -> Any:
    """Return tensors as arrays, and anything else as it is; errors say `name`."""
    try:
        return without_torch(values)
    except (RuntimeError, TypeError, ValueError) as error:
        problem = str(error).replace("X.", f"{name}.").rstrip(".!")
        raise TypeError(
            f"{name} cannot be read: {problem}. Pass a dense tensor with values, or an array."
        ) from error


def _is_missing_object(item: Any) -> bool:
    if item is None or type(item).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(item, (float, np.floating)) and bool(np.isnan(item))


def _plain_of_pandas(column: Any, dtype: Any) -> NDArray[Any]:
    """Return the plain array of a series, index or array of pandas with a dtype of its own."""
    name = type(dtype).__name__
    if name == "CategoricalDtype":
        codes = np.asarray(getattr(column, "cat", column).codes)
        categories = as_plain(dtype.categories)
        if (codes >= 0).all():
            return categories[codes]
        found = np.full(len(codes), None, dtype=object)
        found[codes >= 0] = categories[codes[codes >= 0]]
        return found
    if name == "DatetimeTZDtype":
        return np.asarray(column, dtype="M8[ns]")
    if name == "SparseDtype":
        return np.asarray(column)
    plain = getattr(dtype, "numpy_dtype", np.dtype(object))
    missing = np.asarray(column.isna(), dtype=bool)
    if plain.kind in "fiubmM":
        if not missing.any():
            return np.asarray(column.to_numpy(dtype=plain))
        if plain.kind in "fiu":
            wide = plain if plain.kind == "f" else np.dtype(np.float64)
            return np.asarray(column.to_numpy(dtype=wide, na_value=np.nan))
        if plain.kind in "mM":
            return np.asarray(column.to_numpy(dtype=plain, na_value=plain.type("NaT")))
    objects = np.array(column.to_numpy(dtype=object), dtype=object)
    objects[missing] = None
    return objects


def _plain_of_arrow(column: Any, what: str) -> NDArray[Any]:
    """Return the plain array of an Arrow column, none of whose types can multiply its size."""
    arrow = loaded("pyarrow")
    types, kind = arrow.types, column.type
    check_arrow(column, what)
    if types.is_dictionary(kind):
        chunks = getattr(column, "chunks", [column])
        column = arrow.chunked_array(
            [chunk.dictionary_decode() for chunk in chunks], type=kind.value_type
        )
        kind = kind.value_type
    is_plain = (types.is_primitive(kind) or types.is_decimal(kind)) and not types.is_null(kind)
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if not (is_plain or is_text):
        raise ValueError(f"{what} is of type {kind}, expected numbers, text or times")
    if not len(column):
        return np.empty(0, dtype=object if is_text else kind.to_pandas_dtype())
    if isinstance(column, arrow.ChunkedArray):
        return np.asarray(column.to_numpy())
    return np.asarray(column.to_numpy(zero_copy_only=False))
