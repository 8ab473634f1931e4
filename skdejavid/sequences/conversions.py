"""Conversions of ``TSEArray`` from and to the containers of other libraries.

Axes follow the convention of the other library: arrays of aeon and sktime have channels before
time. None of these containers can store spans of time (:attr:`TSEArray.spans`), so conversions drop
them; ``skdejavid.interchange.write_arrow`` and :class:`TSEStore` keep them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skdejavid.compat.optional import import_optional
from skdejavid.sequences.columnar import (
    arrow_column,
    is_pandas,
    rows_of_arrow,
    rows_of_awkward,
    rows_to_arrow,
    rows_to_awkward,
)
from skdejavid.sequences.containers import (
    as_real,
    check_claims,
    check_not_misread,
    check_rows,
    has_two_levels,
    read,
    without_torch,
)
from skdejavid.sequences.layout import offsets_of
from skdejavid.sequences.long import read_long
from skdejavid.sequences.tables import feature_names_of, numbers_of, usable_names
from skdejavid.sequences.times import check_times

__all__ = ["Convertible"]


class Convertible:
    """Base class with the conversions of :class:`TSEArray`, which provides the attributes."""

    frames: Any
    offsets: Any
    lengths: Any
    feature_names: Any

    @classmethod
    def from_packed(
        cls,
        frames: ArrayLike,
        offsets: ArrayLike,
        spans: ArrayLike | None = None,
        *,
        feature_names: Iterable[str] | None = None,
    ) -> Self:
        raise NotImplementedError

    @classmethod
    def from_aeon(cls, X: Any) -> Self:
        """Convert from aeon's layout, in which channels come before time.

        Parameters
        ----------
        X : list of arrays (n_channels, n_timepoints), or 3-D array
            A collection as returned by the loaders of aeon.

        Returns
        -------
        TSEArray
            The same sequences, each ``(n_timepoints, n_channels)``.

        Raises
        ------
        ValueError
            If a series is not 2-D, or the numbers of channels differ; the message names the series.

        Examples
        --------
        >>> import numpy as np
        >>> from skdejavid import TSEArray
        >>> TSEArray.from_aeon([np.zeros((3, 50)), np.zeros((3, 40))])
        TSEArray(n_sequences=2, n_frames=40..50, n_features=3, dtype=float64)
        """
        check_not_misread(X)
        check_claims(X, "X")
        if isinstance(X, np.ndarray) and X.ndim == 3:
            return cls._from_items(X.swapaxes(1, 2))
        series = [np.asarray(without_torch(x)) for x in X]
        _check_channels(series)
        return cls._from_items([x.T for x in series])

    def to_aeon(self) -> list[NDArray[np.floating]]:
        """Convert to aeon's layout.

        Returns
        -------
        list of ndarray of shape (n_channels, n_timepoints)
            Copies, without spans. ``np.stack`` joins series of one length to a 3-D array.
        """
        return [np.array(x.T, order="C") for x in self._items()]

    @classmethod
    def from_padded(
        cls, X: Any, lengths: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> Self:
        """Convert from sequences that are padded to one length.

        Parameters
        ----------
        X : array or tensor of shape (n_sequences, n_frames, n_features)
            Sequences, each followed by its padding.
        lengths : integer array of shape (n_sequences,), optional
            Number of frames of each sequence.
        mask : boolean array of shape (n_sequences, n_frames), optional
            True for frames, False for padding.

            Without `lengths` and `mask`, frames at the end of a sequence that are NaN in all
            features are padding. NaN anywhere else is kept; estimators refuse it.

        Returns
        -------
        TSEArray

        Raises
        ------
        ValueError
            If `X` is not 3-D, a sequence consists of padding only, or `lengths` or `mask` do not
            match `X`; the message names the sequence.

        Examples
        --------
        >>> import numpy as np
        >>> from skdejavid import TSEArray
        >>> X = np.array([[[1.0], [2.0]], [[3.0], [np.nan]]])
        >>> [x.tolist() for x in TSEArray.from_padded(X)]
        [[[1.0], [2.0]], [[3.0]]]
        """
        frames = _as_padded(X)
        if lengths is not None and mask is not None:
            raise ValueError("lengths and mask were both given: pass only one of them")
        if lengths is not None:
            counts = _check_lengths(lengths, frames.shape)
        elif mask is not None:
            counts = _lengths_of_mask(mask, frames.shape)
        else:
            counts = _lengths_without_padding(frames)
        is_frame = np.arange(frames.shape[1]) < counts[:, None]
        values = frames.reshape(-1, frames.shape[2]) if is_frame.all() else frames[is_frame]
        return cls._from_rows(values, offsets_of(counts))

    def to_padded(self, fill_value: float = np.nan) -> NDArray[np.floating]:
        """Pad all sequences to the length of the longest.

        Parameters
        ----------
        fill_value : float, default=NaN
            Value of the padding. ``lengths`` has the number of frames before it.

        Returns
        -------
        ndarray of shape (n_sequences, longest n_frames, n_features)
            A copy with the dtype of the frames, without spans.
        """
        lengths, values = self.lengths, self.frames
        n_frames = int(lengths.max(initial=0))
        padded = np.full((len(lengths), n_frames, values.shape[1]), fill_value, dtype=values.dtype)
        padded[np.arange(n_frames) < lengths[:, None]] = values
        return padded

    @classmethod
    def from_tslearn(cls, X: Any) -> Self:
        """Convert from a data set of tslearn, which is padded with NaN.

        Parameters
        ----------
        X : array or tensor of shape (n_sequences, n_timestamps, n_features)
            As returned by ``tslearn.utils.to_time_series_dataset``. A 2-D array is univariate.

        Returns
        -------
        TSEArray
            Without the frames at the end of each sequence that are NaN in all features. NaN
            anywhere else is kept; estimators refuse it.

        Raises
        ------
        ValueError
            If `X` is neither 3-D nor 2-D, or a sequence consists of NaN only.
        """
        array = _as_array(X)
        return cls.from_padded(array[:, :, None] if array.ndim == 2 else array)

    def to_tslearn(self) -> NDArray[np.floating]:
        """Convert to a data set of tslearn.

        Returns
        -------
        ndarray of shape (n_sequences, longest n_timestamps, n_features)
            Padded with NaN, with the dtype of the frames, without spans.

        Raises
        ------
        ValueError
            If all features of the last frame of a sequence are NaN, which tslearn treats as
            padding.
        """
        for i, x in enumerate(self._items()):
            if np.isnan(x[-1]).all():
                raise ValueError(
                    f"X[{i}] ends with a frame of NaN, which tslearn treats as padding: remove it"
                )
        return self.to_padded()

    @overload
    @classmethod
    def from_long(
        cls, frame: Any, *, id: Any, time: Any = None, features: Any = None, label: None = None
    ) -> Self: ...
    @overload
    @classmethod
    def from_long(
        cls, frame: Any, *, id: Any, time: Any = None, features: Any = None, label: Any
    ) -> tuple[Self, NDArray[Any]]: ...
    @classmethod
    def from_long(
        cls, frame: Any, *, id: Any, time: Any = None, features: Any = None, label: Any = None
    ) -> Any:
        """Convert from a long table, which has one row for each frame.

        Parameters
        ----------
        frame : table
            A data frame of pandas or polars, a table of Arrow, a data set of Hugging Face, or any
            other table that supports Arrow's C interface or the interchange protocol of data
            frames.
        id : name of a column
            Which sequence a row belongs to: numbers, text or anything else without missing values.
            The rows of a sequence need not follow each other. `id`, `time` and `label` may also
            name levels of pandas' index.
        time : name of a column, optional
            When the frame was, as a number, date, duration or period, but not as text or time of
            day; rows are sorted by it. If None, the frames of a sequence are in the order of the
            rows.
        features : list of names of columns, optional
            The features in their order. If None, all columns but `id`, `time` and `label`. Their
            names become ``feature_names`` if all are strings.
        label : name of a column, optional
            The class of the sequence, the same in all of its rows.

        Returns
        -------
        X : TSEArray
            The sequences, in the order in which their ids first appear in the table. Groups of
            pandas, in contrast, are sorted by their ids: take the labels from `y`, not from
            ``frame.groupby(id)``.
        y : ndarray of shape (n_sequences,)
            The labels. Only returned if `label` is given; with ``label=id`` they are the ids.

        Raises
        ------
        TypeError
            If `frame` is no table.
        ValueError
            If there is no such column, two columns have the same name, an id, time or label is
            missing, two rows of a sequence have the same time, a sequence has two labels, or a
            feature is not numeric. The message names the column, and the row or the id.

        Examples
        --------
        >>> import pandas as pd
        >>> from skdejavid import TSEArray
        >>> frame = pd.DataFrame(
        ...     {"trial": ["b", "b", "a"], "t": [2, 1, 1], "x": [0.2, 0.1, 0.3], "move": [1, 1, 0]}
        ... )
        >>> X, y = TSEArray.from_long(frame, id="trial", time="t", label="move")
        >>> [x.tolist() for x in X], y.tolist()
        ([[[0.1], [0.2]], [[0.3]]], [1, 0])
        """
        long = read_long(frame, id, time, features, label)
        sequences = cls._from_rows(long.frames, long.offsets, usable_names(long.names))
        return sequences if long.labels is None else (sequences, long.labels)

    @classmethod
    def from_sktime(cls, X: Any) -> Self:
        """Convert from a panel of sktime.

        Parameters
        ----------
        X : panel
            Of one of these mtypes:

            - df-list: list of data frames (time, variables);
            - pd-multiindex: data frame, or one series, with the index levels instance and time;
            - nested_univ: data frame of series, converted by sktime itself;
            - numpy3D: array (n_instances, n_variables, n_timepoints).

        Returns
        -------
        TSEArray
            Without the time index. Names of variables that are strings become ``feature_names``.

        Raises
        ------
        ImportError
            If `X` is a data frame of series and sktime is not installed.
        TypeError
            If `X` is not a panel of one of these mtypes.
        ValueError
            If the columns of the data frames differ, or their times do not increase strictly.
        """
        if has_two_levels(X):
            frame = X if _is_data_frame(X) else X.to_frame()
            return cls._from_rows(*_rows_of_multiindex(frame), feature_names_of(frame))
        if _is_data_frame(X) and all(kind.kind == "O" for kind in X.dtypes):
            datatypes = import_optional(
                "sktime.datatypes", "sktime", "Reading a data frame of series"
            )
            X = datatypes.convert_to(X, to_type="df-list", as_scitype="Panel")
        if getattr(X, "ndim", 0) == 3:
            return cls.from_aeon(X)
        if not isinstance(X, (list, tuple)) or not all(map(_is_data_frame, X)):
            raise TypeError(
                f"X is a {type(X).__name__}, expected a panel of sktime: a list of data frames, a "
                "data frame with two levels of index or of series, or a 3-D array. Use "
                "TSEArray.from_long for a table with one row for each frame, TSEArray(X) for other "
                "containers."
            )
        for i, frame in enumerate(X):
            check_times(frame.index, f"X[{i}]", f"X[{i}]")
        return cls._from_items(X)

    def to_sktime(self, mtype: str = "df-list") -> Any:
        """Convert to a panel of sktime.

        Parameters
        ----------
        mtype : {"df-list", "pd-multiindex"}, default="df-list"
            The type of container, by its name in sktime.

        Returns
        -------
        list of DataFrame, or DataFrame
            Without spans. Columns have the names of the features, or "var_0", "var_1", ...; times,
            and the instances of "pd-multiindex", are numbered from 0.

        Raises
        ------
        ImportError
            If pandas is not installed.
        ValueError
            If `mtype` is not one of these two.
        """
        if mtype not in ("df-list", "pd-multiindex"):
            raise ValueError(f"mtype must be 'df-list' or 'pd-multiindex', got {mtype!r}")
        pandas = import_optional("pandas", "sktime", "Creating data frames")
        lengths, values = self.lengths, self.frames
        columns = list(self.feature_names or [f"var_{k}" for k in range(values.shape[1])])
        if mtype == "df-list":
            return [pandas.DataFrame(np.array(x), columns=columns) for x in self._items()]
        begins = np.repeat(self.offsets[:-1], lengths)
        index = pandas.MultiIndex.from_arrays(
            [np.repeat(np.arange(len(lengths)), lengths), np.arange(len(values)) - begins],
            names=["instances", "timepoints"],
        )
        return pandas.DataFrame(np.array(values), index=index, columns=columns)

    @classmethod
    def from_arrow(cls, X: Any) -> Self:
        """Convert from a column of Arrow, polars or any library that supports Arrow's C interface.

        Parameters
        ----------
        X : array, chunked array or series
            Each item is a list of frames, each frame a list of `n_features` numbers.

        Returns
        -------
        TSEArray
            It shares the memory of a floating column that is one chunk.

        Raises
        ------
        ImportError
            If pyarrow is not installed.
        TypeError
            If `X` is not a column of lists of lists.
        ValueError
            If a sequence or frame is missing, a sequence is empty, or the frames differ in length.
            Numbers that are missing become NaN, which estimators refuse or fill in.
        """
        import_optional("pyarrow", "arrow", "Reading columns of Arrow")
        column = arrow_column(X)
        if column is None:
            kind = f" of type {X.type}" if hasattr(X, "type") else ""
            raise TypeError(
                f"X is a {type(X).__name__}{kind}, expected a column of Arrow with lists of lists "
                "of numbers"
            )
        return cls._from_rows(*rows_of_arrow(column, "X"))

    def to_arrow(self) -> Any:
        """Convert to an Arrow column.

        Returns
        -------
        pyarrow.LargeListArray
            Of type large_list<fixed_size_list<float or double>[n_features]>, which has 64-bit
            offsets. It shares the memory of ``frames`` and has no spans;
            ``skdejavid.interchange.write_arrow`` writes a file with both.

        Raises
        ------
        ImportError
            If pyarrow is not installed.
        """
        return rows_to_arrow(self.frames, self.offsets)

    @classmethod
    def from_awkward(cls, X: Any) -> Self:
        """Convert from an awkward array.

        Parameters
        ----------
        X : awkward.Array
            With three axes: sequences, frames, features.

        Returns
        -------
        TSEArray

        Raises
        ------
        ImportError
            If awkward is not installed.
        TypeError
            If `X` is not an awkward array.
        ValueError
            If a sequence or frame is missing, a sequence is empty, or the frames differ in length.
            Numbers that are missing become NaN, which estimators refuse or fill in.
        """
        awkward = import_optional("awkward", "awkward", "Reading awkward arrays")
        if not isinstance(X, awkward.Array):
            raise TypeError(f"X is a {type(X).__name__}, expected an awkward.Array")
        return cls._from_rows(*rows_of_awkward(X, "X"))

    def to_awkward(self) -> Any:
        """Convert to an awkward array.

        Returns
        -------
        awkward.Array
            Of type n_sequences * var * n_features * float. It shares the memory of ``frames``
            and has no spans.

        Raises
        ------
        ImportError
            If awkward is not installed.
        """
        return rows_to_awkward(self.frames, self.offsets)

    @classmethod
    def _from_rows(
        cls,
        values: NDArray[Any],
        offsets: NDArray[np.int64],
        names: tuple[str, ...] | None = None,
    ) -> Self:
        packed = check_rows(values, offsets, "X")
        return cls.from_packed(packed.values, packed.offsets, feature_names=names)

    @classmethod
    def _from_items(cls, items: Sequence[Any] | NDArray[Any]) -> Self:
        packed = read(items)
        names = feature_names_of(packed.named)
        return cls.from_packed(packed.values, packed.offsets, feature_names=names)

    def _items(self) -> list[NDArray[np.floating]]:
        return np.split(self.frames, self.offsets[1:-1]) if len(self.offsets) > 1 else []


def _check_channels(series: list[NDArray[Any]]) -> None:
    """Check that all series are (channels, time) with the same number of channels."""
    for i, x in enumerate(series):
        if x.ndim != 2:
            raise ValueError(
                f"X[{i}] must be 2-D (n_channels, n_timepoints), got {x.ndim}-D with shape "
                f"{x.shape}. Write a univariate series as x[None, :]."
            )
    for i, x in enumerate(series):
        if len(x) == len(series[0]):
            continue
        if len({x.shape[1] for x in series}) == 1:
            raise ValueError(
                f"X[0] has shape {series[0].shape} and X[{i}] has shape {x.shape}: the series look "
                "as if time comes first already. Use TSEArray(X)."
            )
        raise ValueError(f"X[{i}] has {len(x)} channels, but X[0] has {len(series[0])}")


def _as_array(X: Any) -> NDArray[Any]:
    check_not_misread(X)
    check_claims(X, "X")
    try:
        return np.asarray(without_torch(X))
    except ValueError as error:
        raise ValueError("X is not padded: its sequences differ in length. Use TSEArray(X).") from (
            error
        )


def _as_padded(X: Any) -> NDArray[np.floating]:
    array = _as_array(X)
    if array.ndim != 3:
        raise ValueError(
            "X must be 3-D (n_sequences, n_frames, n_features), padded, got "
            f"{array.ndim}-D with shape {array.shape}"
        )
    return as_real(array, "X")


def _check_lengths(lengths: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    counts = np.asarray(without_torch(lengths))
    if counts.shape != shape[:1] or counts.dtype.kind not in "iu":
        raise ValueError(
            f"lengths must be {shape[0]} integers, one for each sequence, got shape "
            f"{counts.shape} and dtype {counts.dtype}"
        )
    wrong = np.flatnonzero((counts < 1) | (counts > shape[1]))
    if wrong.size:
        raise ValueError(
            f"lengths[{wrong[0]}] is {counts[wrong[0]]}, expected 1 to {shape[1]} frames"
        )
    return counts.astype(np.int64)


def _lengths_of_mask(mask: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    is_frame = np.asarray(without_torch(mask))
    if is_frame.shape != shape[:2] or is_frame.dtype != bool:
        raise ValueError(
            f"mask must be boolean, of shape {shape[:2]}, got shape {is_frame.shape} and dtype "
            f"{is_frame.dtype}"
        )
    counts = is_frame.sum(axis=1)
    gaps = np.argwhere(is_frame != (np.arange(shape[1]) < counts[:, None]))
    if gaps.size:
        raise ValueError(
            f"mask[{gaps[0, 0]}] has padding before a frame, at {gaps[0, 1]}: padding must come "
            "after all frames of a sequence"
        )
    return counts


def _lengths_without_padding(frames: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the numbers of frames before those at the end that are NaN in all features."""
    has_numbers = ~np.isnan(frames).all(axis=2)
    counts = frames.shape[1] - np.argmax(has_numbers[:, ::-1], axis=1)
    return np.where(has_numbers.any(axis=1), counts, 0).astype(np.int64)


def _is_data_frame(X: Any) -> bool:
    return is_pandas(X) and hasattr(X, "columns")


def _rows_of_multiindex(X: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the rows and offsets of a data frame with the index levels instance and time."""
    if X.index.nlevels != 2:
        raise ValueError(
            f"the index of X has the levels {list(X.index.names)}, expected instance and time: "
            "remove the others with X.droplevel(...), or use TSEArray.from_long(X.reset_index(), "
            "id=..., time=...)"
        )
    instances = np.asarray(X.index.codes[0])
    begins = np.flatnonzero(np.diff(instances, prepend=-2))
    if len(np.unique(instances)) != len(begins) or (instances < 0).any():
        raise ValueError(
            "the rows of each instance of X must be consecutive and have the name of the instance: "
            "use X.sort_index()"
        )
    offsets = np.append(begins, len(X))
    times = X.index.get_level_values(1)
    for i, (begin, end) in enumerate(pairwise(offsets)):
        check_times(times[begin:end], f"X[{i}]", "X")
    return numbers_of(X, "X"), offsets
