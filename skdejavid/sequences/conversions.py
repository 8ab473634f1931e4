"""Conversions from the containers of other libraries and to them.

The axes are those of the other library: aeon and sktime's arrays have channels before time. Spans
of time (:attr:`TSEArray.spans`) have no place in any of these containers and stay behind;
``skdejavid.interchange.write_arrow`` and :class:`TSEStore` keep them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skdejavid.compat.optional import import_optional
from skdejavid.sequences.columnar import (
    arrow_column,
    rows_of_arrow,
    rows_of_awkward,
    rows_to_arrow,
    rows_to_awkward,
)
from skdejavid.sequences.containers import (
    as_real,
    checked_rows,
    read_collection,
    refuse_masked,
    without_torch,
)

__all__ = ["Convertible"]


class Convertible:
    """The conversions of :class:`TSEArray`, which has the values and the offsets."""

    values: Any
    offsets: Any
    lengths: Any

    @classmethod
    def from_packed(
        cls, values: ArrayLike, offsets: ArrayLike, spans: ArrayLike | None = None
    ) -> Self:
        raise NotImplementedError

    @classmethod
    def from_aeon(cls, X: Any) -> Self:
        """Convert aeon's layout, in which the channels come before time.

        Parameters
        ----------
        X : list of arrays (n_channels, n_timepoints), or 3-D array
            A collection as aeon's loaders return it.

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
        refuse_masked(X)
        series = [np.asarray(without_torch(x)) for x in X]
        _require_channels(series)
        return cls._from_items([x.T for x in series])

    def to_aeon(self) -> list[NDArray[np.floating]]:
        """Convert to aeon's layout.

        Returns
        -------
        list of ndarray of shape (n_channels, n_timepoints)
            Copies, also where all are of one length; ``np.stack`` makes one array of those. Spans
            stay behind.
        """
        return [np.array(x.T, order="C") for x in self._items()]

    @classmethod
    def from_padded(
        cls, X: Any, lengths: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> Self:
        """Cut sequences that were padded to one length.

        Parameters
        ----------
        X : array or tensor of shape (n_sequences, n_frames, n_features)
            Each sequence, then its padding.
        lengths : integer array of shape (n_sequences,), optional
            How many frames each sequence has.
        mask : boolean array of shape (n_sequences, n_frames), optional
            True where there is a frame, False where there is padding.

            With neither `lengths` nor `mask`, padding is what is NaN in every feature at the end of
            a sequence. NaN anywhere else stays, and is an error in whatever takes sequences.

        Returns
        -------
        TSEArray

        Raises
        ------
        ValueError
            If `X` is not 3-D, a sequence is all padding, or `lengths` or `mask` do not fit; the
            message names the sequence.

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
            raise ValueError("lengths and mask say the same: pass one of them")
        if lengths is not None:
            counts = _checked_lengths(lengths, frames.shape)
        elif mask is not None:
            counts = _lengths_of_mask(mask, frames.shape)
        else:
            counts = np.array([_length_without_padding(x) for x in frames], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        is_frame = np.arange(frames.shape[1]) < counts[:, None]
        values = frames.reshape(-1, frames.shape[2]) if is_frame.all() else frames[is_frame]
        return cls._from_rows(values, offsets)

    def to_padded(self, fill_value: float = np.nan) -> NDArray[np.floating]:
        """Pad all sequences to the length of the longest.

        Parameters
        ----------
        fill_value : float, default=NaN
            What to put behind the end of a sequence. :attr:`lengths` says where that is.

        Returns
        -------
        ndarray of shape (n_sequences, longest n_frames, n_features)
            A copy of the frames' own floating type. Spans stay behind.
        """
        lengths, values = self.lengths, self.values
        n_frames = int(lengths.max(initial=0))
        padded = np.full((len(lengths), n_frames, values.shape[1]), fill_value, dtype=values.dtype)
        padded[np.arange(n_frames) < lengths[:, None]] = values
        return padded

    @classmethod
    def from_tslearn(cls, X: Any) -> Self:
        """Convert tslearn's data sets, which are padded with NaN.

        Parameters
        ----------
        X : array or tensor of shape (n_sequences, n_timestamps, n_features)
            As ``tslearn.utils.to_time_series_dataset`` makes it; 2-D is univariate there.

        Returns
        -------
        TSEArray
            Without the frames at the end of each sequence that are NaN in all features. NaN
            anywhere else stays, and is an error in whatever takes sequences.

        Raises
        ------
        ValueError
            If `X` is neither 3-D nor 2-D, or a sequence has no numbers.
        """
        array = _as_array(X)
        return cls.from_padded(array[:, :, None] if array.ndim == 2 else array)

    def to_tslearn(self) -> NDArray[np.floating]:
        """Convert to a data set of tslearn.

        Returns
        -------
        ndarray of shape (n_sequences, longest n_timestamps, n_features)
            Padded with NaN, of the frames' own floating type. Spans stay behind.

        Raises
        ------
        ValueError
            If the last frame of a sequence is all NaN, which tslearn would take for padding.
        """
        for i, x in enumerate(self._items()):
            if np.isnan(x[-1]).all():
                raise ValueError(f"X[{i}] ends with a frame of NaN, which would be padding")
        return self.to_padded()

    @classmethod
    def from_sktime(cls, X: Any) -> Self:
        """Convert the panels of sktime.

        Parameters
        ----------
        X : one of
            - df-list: list of data frames (time, variables);
            - pd-multiindex: data frame whose index has the levels instance and time;
            - nested_univ: data frame of series, by sktime's own converter;
            - numpy3D: array (n_instances, n_variables, n_timepoints).

        Returns
        -------
        TSEArray
            Values only: sequences have no time index and no names of variables.

        Raises
        ------
        ImportError
            If `X` is a data frame of series and sktime is not installed.
        TypeError
            If `X` is none of these.
        ValueError
            If the frames differ in their columns, or their times are not in order.
        """
        if _is_data_frame(X) and X.index.nlevels > 1:
            return cls._from_rows(*_rows_of_multiindex(X))
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
                "data frame with two levels of index or of series, or a 3-D array"
            )
        for i, frame in enumerate(X):
            _require_order_of_time(frame.index, i)
        return cls._from_items(X)

    def to_sktime(self, mtype: str = "df-list") -> Any:
        """Convert to a panel of sktime.

        Parameters
        ----------
        mtype : {"df-list", "pd-multiindex"}, default="df-list"
            sktime's name of the container.

        Returns
        -------
        list of DataFrame, or DataFrame
            The columns are "var_0", "var_1", ..., times are counted from 0; the instances of
            "pd-multiindex" too. Spans stay behind.

        Raises
        ------
        ImportError
            If pandas is not installed.
        ValueError
            If `mtype` is none of the two.
        """
        if mtype not in ("df-list", "pd-multiindex"):
            raise ValueError(f"mtype must be 'df-list' or 'pd-multiindex', got {mtype!r}")
        pandas = import_optional("pandas", "sktime", "Making data frames")
        lengths, values = self.lengths, self.values
        columns = [f"var_{k}" for k in range(values.shape[1])]
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
        """Convert a column of Arrow, polars, or whatever speaks Arrow's C interface.

        Parameters
        ----------
        X : array, chunked array or series
            Of lists of frames, which are lists of `n_features` numbers.

        Returns
        -------
        TSEArray
            Sharing the memory of a float column in one piece.

        Raises
        ------
        ImportError
            If pyarrow is not installed.
        TypeError
            If `X` is no such column.
        ValueError
            If something is missing, a sequence is empty, or the frames differ in length.
        """
        import_optional("pyarrow", "arrow", "Reading columns of Arrow")
        column = arrow_column(X)
        if column is None:
            kind = f" of type {X.type}" if hasattr(X, "type") else ""
            raise TypeError(
                f"X is a {type(X).__name__}{kind}, expected a column of Arrow that holds lists of "
                "lists of numbers"
            )
        return cls._from_rows(*rows_of_arrow(column, "X"))

    def to_arrow(self) -> Any:
        """Convert to a column of Arrow.

        Returns
        -------
        pyarrow.LargeListArray
            Of type large_list<fixed_size_list<float or double>[n_features]>, which has offsets of
            64 bits; it shares the memory of :attr:`values`. Spans stay behind;
            ``skdejavid.interchange.write_arrow`` writes them to a file.

        Raises
        ------
        ImportError
            If pyarrow is not installed.
        """
        return rows_to_arrow(self.values, self.offsets)

    @classmethod
    def from_awkward(cls, X: Any) -> Self:
        """Convert an array of awkward.

        Parameters
        ----------
        X : awkward.Array
            Of three axes: sequences, frames, features.

        Returns
        -------
        TSEArray

        Raises
        ------
        ImportError
            If awkward is not installed.
        TypeError
            If `X` is no array of awkward.
        ValueError
            If something is missing, a sequence is empty, or the frames differ in length.
        """
        awkward = import_optional("awkward", "awkward", "Reading awkward arrays")
        if not isinstance(X, awkward.Array):
            raise TypeError(f"X is a {type(X).__name__}, expected an awkward.Array")
        return cls._from_rows(*rows_of_awkward(X, "X"))

    def to_awkward(self) -> Any:
        """Convert to an array of awkward.

        Returns
        -------
        awkward.Array
            Of type n_sequences * var * n_features * float; it shares the memory of :attr:`values`.
            Spans stay behind.

        Raises
        ------
        ImportError
            If awkward is not installed.
        """
        return rows_to_awkward(self.values, self.offsets)

    @classmethod
    def _from_rows(cls, values: NDArray[Any], offsets: NDArray[np.int64]) -> Self:
        return cls.from_packed(*checked_rows(values, offsets, "X"))

    @classmethod
    def _from_items(cls, items: Sequence[Any]) -> Self:
        packed = read_collection(items)
        assert packed is not None  # every item is 2-D
        return cls.from_packed(*packed)

    def _items(self) -> list[NDArray[np.floating]]:
        return np.split(self.values, self.offsets[1:-1]) if len(self.offsets) > 1 else []


def _require_channels(series: list[NDArray[Any]]) -> None:
    """Every series is (channels, time), with as many channels as the first."""
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
                "as if time came first already. Use TSEArray(X)."
            )
        raise ValueError(f"X[{i}] has {len(x)} channels, but X[0] has {len(series[0])}")


def _as_array(X: Any) -> NDArray[Any]:
    refuse_masked(X)
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


def _checked_lengths(lengths: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    counts = np.asarray(without_torch(lengths))
    if counts.shape != shape[:1] or counts.dtype.kind not in "iu":
        raise ValueError(
            f"lengths must be {shape[0]} integers, one for each sequence, got shape "
            f"{counts.shape} and dtype {counts.dtype}"
        )
    wrong = np.flatnonzero((counts < 1) | (counts > shape[1]))
    if wrong.size:
        raise ValueError(
            f"lengths[{wrong[0]}] is {counts[wrong[0]]}, but a sequence has 1 to {shape[1]} frames"
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


def _length_without_padding(x: NDArray[np.floating]) -> int:
    """How many frames are left without those at the end that are NaN in every feature."""
    has_numbers = ~np.isnan(x).all(axis=1)
    return len(x) - int(np.argmax(has_numbers[::-1])) if has_numbers.any() else 0


def _is_data_frame(X: Any) -> bool:
    return hasattr(X, "iloc") and hasattr(X, "columns")


def _rows_of_multiindex(X: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Rows and offsets of a data frame with an index of instance and time."""
    if X.index.nlevels != 2:
        raise ValueError(f"the index of X has {X.index.nlevels} levels, expected instance and time")
    instances = np.asarray(X.index.codes[0])
    begins = np.flatnonzero(np.diff(instances, prepend=-2))
    if len(np.unique(instances)) != len(begins) or (instances < 0).any():
        raise ValueError(
            "the rows of an instance of X must follow each other, and each have its name"
        )
    offsets = np.append(begins, len(X))
    times = X.index.get_level_values(1)
    for i, (begin, end) in enumerate(pairwise(offsets)):
        _require_order_of_time(times[begin:end], i)
    return X.to_numpy(), offsets


def _require_order_of_time(times: Any, index: int) -> None:
    if not times.is_monotonic_increasing:
        raise ValueError(f"the times of X[{index}] are not in order: sort each series by its index")
