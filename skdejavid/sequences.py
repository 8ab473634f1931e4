"""Ragged sequences: the container ``TSEArray`` and ``check_sequences``, the one entrance for data.

A *sequence* (the paper's temporal sequence of embeddings, TSE) is an array
``(n_frames, n_features)``. The number of frames differs from sequence to sequence, the number of
features does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array, validate_data

from skdejavid.reading import (
    Packed,
    accepted_dtypes,
    as_real,
    named_frames,
    read_collection,
    without_torch,
)

__all__ = ["SequenceView", "TSEArray", "check_sequences", "is_table_of_frames"]


class SequenceView(NamedTuple):
    """Sequences inside a packed array: number ``s`` is ``values[starts[s]:][:lengths[s]]``.

    Any subset in any order is a view; nothing of the values is copied. Same name and fields as in
    ``src_cuda/align.hpp``.
    """

    values: NDArray[np.floating]  # (n_rows, n_features)
    starts: NDArray[np.int64]  # (n_sequences,)
    lengths: NDArray[np.int64]  # (n_sequences,)


class TSEArray:
    """A packed 1-D container of sequences of differing length.

    It slices as scikit-learn slices (integers, slices, integer arrays, boolean masks, and each of
    them followed by ``...``), so it passes through ``Pipeline``, ``GridSearchCV`` and the
    splitters. One large array underneath makes it cheap to send to parallel workers.

    Parameters
    ----------
    X : sequences
        Any of:

        - list or tuple of ``(n_frames, n_features)`` arrays, torch tensors or nested lists;
        - 1-D object array of such items;
        - 3-D array ``(n_sequences, n_frames, n_features)``;
        - 2-D array ``(n_sequences, n_features)``: sequences of *one* frame each. (Other libraries
          read a 2-D array as univariate series; use ``x[:, :, None]`` for that.)
        - another ``TSEArray``, whose memory is shared.

    Attributes
    ----------
    values : ndarray of shape (total number of frames, n_features)
        All frames, float32 or float64: float32 and narrower floats become float32, everything
        else float64.
    offsets : ndarray of shape (n_sequences + 1,), int64
        Sequence ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Raises
    ------
    TypeError
        If `X` is of a type that cannot be read as sequences.
    ValueError
        If a sequence is not 2-D, has no frames or no features, or if the numbers of features
        differ; the message names the sequence.

    Examples
    --------
    >>> import numpy as np
    >>> from skdejavid import TSEArray
    >>> X = TSEArray([np.zeros((5, 3)), np.ones((2, 3))])
    >>> X.shape, X.lengths.tolist(), X[1].shape
    ((2,), [5, 2], (2, 3))
    >>> X[[True, False]]
    TSEArray(n_sequences=1, n_frames=5, n_features=3, dtype=float64)
    """

    values: NDArray[np.floating]
    offsets: NDArray[np.int64]

    ndim = 1
    dtype = np.dtype(object)  # that of ``np.asarray(self)``; the frames' own is ``values.dtype``

    def __init__(self, X: Any) -> None:
        X = without_torch(X)
        packed = X if isinstance(X, TSEArray) else read_collection(X)
        if packed is None:
            frames = check_array(
                X, dtype=accepted_dtypes(X), ensure_all_finite=False, input_name="X"
            )
            packed = _one_frame_each(frames)
        self._set(packed.values, packed.offsets)

    @classmethod
    def from_packed(cls, values: ArrayLike, offsets: ArrayLike) -> TSEArray:
        """Wrap a packed array without copying it.

        Parameters
        ----------
        values : array of shape (total number of frames, n_features)
            All sequences, one after the other.
        offsets : integer array of shape (n_sequences + 1,)
            Where they begin and end; starts at 0, strictly increasing, ends at ``len(values)``.

        Returns
        -------
        TSEArray

        Raises
        ------
        ValueError
            If `values` is not a 2-D numeric array or `offsets` do not divide it.
        """
        frames = np.asarray(values)
        if frames.ndim != 2 or frames.shape[1] == 0:
            raise ValueError(
                f"values must be 2-D (n_frames, n_features >= 1), got shape {frames.shape}"
            )
        frames = as_real(frames, "values")
        limits = np.asarray(offsets)
        if limits.ndim != 1 or limits.size < 1 or limits.dtype.kind not in "iu":
            raise ValueError(
                "offsets must be a 1-D integer array of n_sequences + 1 items, "
                f"got shape {limits.shape} and dtype {limits.dtype}"
            )
        limits = limits.astype(np.int64)
        if limits[0] != 0 or limits[-1] != len(frames):
            raise ValueError(
                f"offsets must begin with 0 and end with len(values) = {len(frames)}, "
                f"got {limits[0]} and {limits[-1]}"
            )
        empty = np.flatnonzero(np.diff(limits) < 1)
        if empty.size:
            raise ValueError(
                f"offsets must be strictly increasing: sequence {empty[0]} would have "
                f"{np.diff(limits)[empty[0]]} frame(s)"
            )
        return cls._wrap(frames, limits)

    @classmethod
    def from_aeon(cls, X: Any) -> TSEArray:
        """Convert aeon's layout, in which the channels come before time.

        Parameters
        ----------
        X : list of arrays (n_channels, n_timepoints), or 3-D array
            A collection as aeon's loaders return it.

        Returns
        -------
        TSEArray
            The same sequences, each ``(n_timepoints, n_channels)``.
        """
        collection = [np.asarray(without_torch(series)) for series in X]
        for i, series in enumerate(collection):
            if series.ndim != 2:
                raise ValueError(
                    f"X[{i}] must be 2-D (n_channels, n_timepoints), got {series.ndim}-D with "
                    f"shape {series.shape}. Write a univariate series as x[None, :]."
                )
        return cls([series.T for series in collection])

    @classmethod
    def _wrap(cls, values: NDArray[np.floating], offsets: NDArray[np.int64]) -> TSEArray:
        self = cls.__new__(cls)
        self._set(values, offsets)
        return self

    def _set(self, values: NDArray[np.floating], offsets: NDArray[np.int64]) -> None:
        offsets.flags.writeable = False
        self.values, self.offsets = values, offsets

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)

    @property
    def size(self) -> int:
        return len(self)

    @property
    def n_features(self) -> int:
        return int(self.values.shape[1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of frames of each sequence, (n_sequences,)."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes + self.offsets.nbytes)

    def view(self, indices: NDArray[np.integer] | None = None) -> SequenceView:
        """The sequences, or those of `indices` in that order, without copying a frame."""
        starts, lengths = self.offsets[:-1], self.lengths
        if indices is not None:
            starts, lengths = starts[indices], lengths[indices]
        return SequenceView(self.values, starts, lengths)

    def astype(self, dtype: Any) -> TSEArray:
        """The same sequences as float32 or float64; shares memory if they already are."""
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {dtype}")
        return self._wrap(self.values.astype(dtype, copy=False), self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[NDArray[np.floating]]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, key: int | np.integer) -> NDArray[np.floating]: ...
    @overload
    def __getitem__(self, key: Any) -> Any: ...
    def __getitem__(self, key: Any) -> Any:
        key = _strip_ellipsis(key)
        if isinstance(key, (int, np.integer)) and not isinstance(key, (bool, np.bool_)):
            index = range(len(self))[key]  # negative numbers, and IndexError out of range
            return self.values[self.offsets[index] : self.offsets[index + 1]]
        if isinstance(key, slice) and key.step in (None, 1):
            start, stop, _ = key.indices(len(self))
            offsets = self.offsets[start : max(start, stop) + 1]
            return self._wrap(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])
        indices = np.arange(len(self))[key]
        if indices.ndim == 0:
            return self[int(indices)]
        if indices.ndim != 1:
            raise IndexError(f"TSEArray is 1-D, it cannot be indexed with {key!r}")
        return self._take(indices)

    def _take(self, indices: NDArray[np.intp]) -> TSEArray:
        lengths = self.lengths[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.repeat(self.offsets[:-1][indices] - offsets[:-1], lengths)
        rows += np.arange(offsets[-1])
        return self._wrap(self.values[rows], offsets)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.object_]:
        if dtype is not None and np.dtype(dtype) != object:
            raise ValueError("sequences of differing length only make an array of dtype object")
        if copy is False:
            raise ValueError("a TSEArray cannot become an object array without a copy")
        items = np.empty(len(self), dtype=object)
        for i, sequence in enumerate(self):
            items[i] = sequence
        return items

    def __repr__(self) -> str:
        lengths = self.lengths
        if not lengths.size or lengths.min() == lengths.max():
            n_frames = f"{lengths[0] if lengths.size else 0}"
        else:
            n_frames = f"{lengths.min()}..{lengths.max()}"
        return (
            f"TSEArray(n_sequences={len(self)}, n_frames={n_frames}, "
            f"n_features={self.n_features}, dtype={self.values.dtype})"
        )


def check_sequences(X: Any, *, estimator: Any = None, reset: bool = True) -> TSEArray:
    """Turn anything that holds sequences into a checked ``TSEArray``.

    Every estimator lets its data in through this function.

    Parameters
    ----------
    X : sequences
        See :class:`TSEArray`.
    estimator : estimator instance, optional
        Whose ``n_features_in_`` and ``feature_names_in_`` are set (`reset`) or compared.
    reset : bool, default=True
        True while fitting, False afterwards.

    Returns
    -------
    TSEArray
        Finite, with at least one sequence. `X` is never written to, and copied only where its
        layout demands it.

    Raises
    ------
    TypeError
        If `X`, or an item of it, is of a type that cannot be read as a sequence.
    ValueError
        If there is no sequence, a sequence is empty, not 2-D, holds NaN or infinity, or if the
        numbers of features differ inside of `X` or from those the estimator was fitted with.
    """
    X = without_torch(X)
    packed = X if isinstance(X, TSEArray) else read_collection(X)
    if packed is None:
        checks = {"dtype": accepted_dtypes(X), "ensure_all_finite": False}
        if estimator is None:
            frames = check_array(X, input_name="X", **checks)
        else:
            frames = validate_data(estimator, X, reset=reset, **checks)
        sequences = TSEArray._wrap(*_one_frame_each(frames))
        _require_finite(sequences)
        return sequences
    sequences = TSEArray._wrap(packed.values, packed.offsets)
    if len(sequences) == 0:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    _require_finite(sequences)
    if estimator is not None:
        frames = named_frames(X)
        if frames is None:
            frames = sequences.values
        validate_data(estimator, frames, reset=reset, skip_check_array=True)
    return sequences


def is_table_of_frames(X: Any) -> bool:
    """Whether `X`, already checked, is a 2-D array in which every row is a sequence."""
    return not isinstance(X, TSEArray) and read_collection(without_torch(X)) is None


def _one_frame_each(frames: NDArray[np.floating]) -> Packed:
    return Packed(as_real(frames, "X"), np.arange(len(frames) + 1, dtype=np.int64))


def _require_finite(sequences: TSEArray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        total = sequences.values.sum()
    if np.isfinite(total):  # one pass without a temporary array; a finite sum holds no NaN
        return
    bad = np.argwhere(~np.isfinite(sequences.values))
    if not len(bad):  # finite values whose sum overflows
        return
    row, feature = bad[0]
    index = int(np.searchsorted(sequences.offsets, row, side="right")) - 1
    value = sequences.values[row, feature]
    what = (
        "NaN"
        if np.isnan(value)
        else f"infinity or a value too large for dtype('{sequences.values.dtype}')"
    )
    raise ValueError(
        f"Input X[{index}] contains {what}, first at frame {row - sequences.offsets[index]}, "
        f"feature {feature}."
    )


def _strip_ellipsis(key: Any) -> Any:
    """scikit-learn slices with ``X[key, ...]``; in one dimension that is ``X[key]``."""
    if not isinstance(key, tuple):
        return slice(None) if key is Ellipsis else key
    rest = [part for part in key if part is not Ellipsis]
    if len(rest) > 1:
        raise IndexError(f"TSEArray is 1-D, it cannot be indexed with {key!r}")
    return rest[0] if rest else slice(None)
