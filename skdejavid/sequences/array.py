"""Ragged sequences: the container ``TSEArray`` and ``check_sequences``, the one entrance for data.

A *sequence* (the paper's temporal sequence of embeddings, TSE) is an array
``(n_frames, n_features)``. The number of frames differs from sequence to sequence, the number of
features does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array, validate_data

from skdejavid.sequences.containers import (
    Packed,
    accepted_dtypes,
    as_real,
    named_frames,
    read_collection,
    without_torch,
)
from skdejavid.sequences.conversions import Convertible

__all__ = ["SequenceView", "TSEArray", "check_sequences", "is_table_of_frames"]

_NUMBERS_PER_CHUNK = 2**20  # bounds the memory of what is computed of all frames


class SequenceView(NamedTuple):
    """Sequences inside one array: number ``s`` is ``values[starts[s]:][:lengths[s]]``.

    Any subset in any order is a view; nothing of the values is copied. Same name and fields as in
    ``src_cuda/align.hpp``.
    """

    values: NDArray[np.floating]  # (n_rows, n_features)
    starts: NDArray[np.int64]  # (n_sequences,)
    lengths: NDArray[np.int64]  # (n_sequences,)


class _Rows(NamedTuple):
    """What a `TSEArray` is of: one object, so that threads see either all of it change or nothing.

    If packed, the sequences lie one after the other, and there are no other rows.
    """

    view: SequenceView
    spans: NDArray[np.float64] | None  # (n_rows, 2), one for each row of the view's values
    is_packed: bool


class TSEArray(Convertible):
    """A 1-D container of sequences of differing length.

    It slices as scikit-learn slices (integers, slices, integer arrays, boolean masks, and each of
    them followed by ``...``), so it passes through ``Pipeline``, ``GridSearchCV`` and the
    splitters. A slice is a view: it only says where its sequences lie in the one large array
    underneath, which may be a memory map. That array makes it cheap to send to parallel workers. A
    selection whose sequences do not lie one after the other is packed, once, when it is pickled,
    so that it does not carry the rest.

    Parameters
    ----------
    X : sequences
        Any of:

        - list or tuple of ``(n_frames, n_features)`` arrays, torch tensors or nested lists;
        - 1-D object array of such items;
        - 3-D array ``(n_sequences, n_frames, n_features)``;
        - 2-D array ``(n_sequences, n_features)``: sequences of *one* frame each. (Other libraries
          read a 2-D array as univariate series; use ``x[:, :, None]`` for that.)
        - another ``TSEArray``, whose memory is shared;
        - column of lists of lists: Series of pandas or polars, array of Arrow, awkward array;
        - anything else with a length and integer items.

    Attributes
    ----------
    values : ndarray of shape (total number of frames, n_features)
        All frames, one sequence after the other, float32 or float64: float32 and narrower floats
        become float32, everything else float64. The memory is shared if the sequences lie like that
        in it; of any other selection this is a new copy each time, see :meth:`packed` and
        :meth:`chunks`.
    offsets : ndarray of shape (n_sequences + 1,), int64
        Sequence ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
    spans : ndarray of shape (total number of frames, 2), float64, or None
        Begin and end of what each frame stands for, in seconds, if they were given. Shared or
        copied as `values`.

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

    ndim = 1
    dtype = np.dtype(object)  # that of ``np.asarray(self)``; the frames' own is ``frame_dtype``

    _rows: _Rows

    def __init__(self, X: Any) -> None:
        X = without_torch(X)
        if isinstance(X, TSEArray):
            self._rows = X._rows
            return
        packed = read_collection(X)
        if packed is None:
            with _numbers_that_overflow_refused():
                frames = check_array(
                    X, dtype=accepted_dtypes(X), ensure_all_finite=False, input_name="X"
                )
            packed = _one_frame_each(frames)
        self._rows = _packed_rows(*packed)

    @classmethod
    def from_packed(
        cls, values: ArrayLike, offsets: ArrayLike, spans: ArrayLike | None = None
    ) -> TSEArray:
        """Wrap a packed array without copying it.

        Parameters
        ----------
        values : array of shape (total number of frames, n_features)
            All sequences, one after the other. A memory map stays one.
        offsets : integer array of shape (n_sequences + 1,)
            Where they begin and end; starts at 0, strictly increasing, ends at ``len(values)``.
        spans : array of shape (total number of frames, 2), optional
            Begin and end of what each frame stands for, in seconds.

        Returns
        -------
        TSEArray

        Raises
        ------
        ValueError
            If `values` is not a 2-D numeric array, `offsets` do not divide it, or `spans` are not
            two numbers for each frame.
        """
        frames = _as_rows(values, "values")
        if frames.ndim != 2 or frames.shape[1] == 0:
            raise ValueError(
                f"values must be 2-D (n_frames, n_features >= 1), got shape {frames.shape}"
            )
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
        times = None
        if spans is not None:
            times = _as_rows(spans, "spans").astype(np.float64, copy=False)
            if times.shape != (len(frames), 2):
                raise ValueError(
                    f"spans must hold a begin and an end for each frame, ({len(frames)}, 2), "
                    f"got shape {times.shape}"
                )
        return cls._wrap(_packed_rows(frames, limits, times))

    @classmethod
    def _wrap(cls, rows: _Rows) -> TSEArray:
        self = cls.__new__(cls)
        self._rows = rows
        return self

    @property
    def values(self) -> NDArray[np.floating]:
        return _packed(self._rows).view.values

    @property
    def offsets(self) -> NDArray[np.int64]:
        return _offsets_of(self._rows.view.lengths)

    @property
    def spans(self) -> NDArray[np.float64] | None:
        view, spans, is_packed = self._rows
        if spans is None or is_packed:
            return spans
        return spans[_all_rows(view)]

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)

    @property
    def size(self) -> int:
        return len(self)

    @property
    def n_features(self) -> int:
        return int(self._rows.view.values.shape[1])

    @property
    def frame_dtype(self) -> np.dtype[np.floating]:
        """The floating type of the frames."""
        return self._rows.view.values.dtype

    @property
    def total_frames(self) -> int:
        """Number of frames of all sequences together."""
        return int(self._rows.view.lengths.sum())

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of frames of each sequence, (n_sequences,)."""
        return self._rows.view.lengths.copy()

    @property
    def nbytes(self) -> int:
        """Size of values, offsets and spans; a view may refer to less memory, or to more."""
        n_times = 0 if self._rows.spans is None else 2
        frame_size = self.n_features * self.frame_dtype.itemsize + n_times * 8
        return self.total_frames * frame_size + (len(self) + 1) * 8

    def view(self, indices: NDArray[np.integer] | None = None) -> SequenceView:
        """The sequences, or those of `indices` in that order, without copying a frame."""
        values, starts, lengths = self._rows.view
        if indices is not None:
            starts, lengths = starts[indices], lengths[indices]
        return SequenceView(values, starts, lengths)

    def packed(self) -> TSEArray:
        """The same sequences, one after the other in memory: these, or a copy if they are not.

        A view keeps all of the memory that it was taken from; a copy lets go of it.
        """
        return self if self._rows.is_packed else self._wrap(_packed(self._rows))

    def chunks(self) -> Iterator[tuple[slice, NDArray[np.floating]]]:
        """All frames, some at a time, in memory of a few megabytes whatever is selected.

        Yields
        ------
        rows : slice
            Which rows of `values` they are.
        frames : ndarray of shape (n_frames, n_features)
            ``values[rows]``, possibly sharing memory.
        """
        view, _, is_packed = self._rows
        offsets = _offsets_of(view.lengths)
        n_rows, n_features = int(offsets[-1]), view.values.shape[1]
        step = max(1, _NUMBERS_PER_CHUNK // n_features)
        for begin in range(0, n_rows, step):
            rows = slice(begin, min(begin + step, n_rows))
            of_base = rows if is_packed else _rows_between(view, offsets, rows.start, rows.stop)
            yield rows, view.values[of_base]

    def astype(self, dtype: Any) -> TSEArray:
        """The same sequences as float32 or float64; shares memory if they already are."""
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {dtype}")
        if dtype == self.frame_dtype:
            return self
        converted = np.empty((self.total_frames, self.n_features), dtype=dtype)
        for rows, frames in self.chunks():
            converted[rows] = frames
        return self._wrap(_packed_rows(converted, self.offsets, self.spans))

    def __len__(self) -> int:
        return len(self._rows.view.starts)

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
            values, starts, lengths = self._rows.view
            return values[starts[index] : starts[index] + lengths[index]]
        if isinstance(key, slice):
            return self._wrap(_selected(self._rows, key))
        indices = np.arange(len(self))[key]
        if indices.ndim == 0:
            return self[int(indices)]
        if indices.ndim != 1:
            raise IndexError(f"TSEArray is 1-D, it cannot be indexed with {key!r}")
        return self._wrap(_selected(self._rows, indices))

    def __copy__(self) -> TSEArray:
        return self._wrap(self._rows)

    def __getstate__(self) -> dict[str, Any]:
        # It stays packed, because joblib knows by its identity an array that it has already written
        # for its workers.
        self._rows = rows = _packed(self._rows)
        return {
            # Of a memory map a pickle holds what is in it; joblib finds the file behind the array.
            "values": np.asarray(rows.view.values),
            "offsets": _offsets_of(rows.view.lengths),
            "spans": None if rows.spans is None else np.asarray(rows.spans),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._rows = _packed_rows(**state)

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
            f"n_features={self.n_features}, dtype={self.frame_dtype})"
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
    if isinstance(X, TSEArray):
        sequences = X
    else:
        packed = read_collection(X)
        if packed is None:
            return _check_table(X, estimator, reset)
        sequences = TSEArray._wrap(_packed_rows(*packed))
    if len(sequences) == 0:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    _require_finite(sequences)
    if estimator is not None:
        frames = named_frames(X)
        if frames is None:
            frames = sequences[0]
        validate_data(estimator, frames, reset=reset, skip_check_array=True)
    return sequences


def is_table_of_frames(X: Any) -> bool:
    """Whether `X`, already checked, is a 2-D array in which every row is a sequence."""
    return not isinstance(X, TSEArray) and read_collection(without_torch(X)) is None


def _check_table(X: Any, estimator: Any, reset: bool) -> TSEArray:
    """What scikit-learn accepts as a table: sequences of one frame each."""
    checks = {"dtype": accepted_dtypes(X), "ensure_all_finite": False}
    with _numbers_that_overflow_refused():
        if estimator is None:
            frames = check_array(X, input_name="X", **checks)
        else:
            frames = validate_data(estimator, X, reset=reset, **checks)
    sequences = TSEArray._wrap(_packed_rows(*_one_frame_each(frames)))
    _require_finite(sequences)
    return sequences


@contextmanager
def _numbers_that_overflow_refused() -> Iterator[None]:
    """As of all else that is no number: scikit-learn leaves NumPy's OverflowError as it is."""
    try:
        yield
    except OverflowError as error:
        raise ValueError(f"X cannot be read as numbers: {error}") from error


def _one_frame_each(frames: NDArray[np.floating]) -> Packed:
    return Packed(as_real(frames, "X"), np.arange(len(frames) + 1, dtype=np.int64))


def _as_rows(array: ArrayLike, name: str) -> NDArray[np.floating]:
    """Real numbers as the native code takes them; a memory map that fits stays one."""
    rows = as_real(np.asarray(array), name)
    return array if isinstance(array, np.memmap) and np.may_share_memory(rows, array) else rows


def _offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return _read_only(offsets)


def _read_only(array: NDArray[np.int64]) -> NDArray[np.int64]:
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def _packed_rows(
    values: NDArray[np.floating],
    offsets: NDArray[np.int64],
    spans: NDArray[np.float64] | None = None,
) -> _Rows:
    view = SequenceView(values, _read_only(offsets[:-1]), _read_only(np.diff(offsets)))
    return _Rows(view, spans, is_packed=True)


def _selected(rows: _Rows, key: slice | NDArray[np.intp]) -> _Rows:
    """Some sequences; if they lie one after the other, only that part of the memory."""
    (values, starts, lengths), spans, _ = rows
    starts, lengths = _read_only(starts[key]), _read_only(lengths[key])
    if not np.array_equal(starts[1:], starts[:-1] + lengths[:-1]):
        return _Rows(SequenceView(values, starts, lengths), spans, is_packed=False)
    offsets = _offsets_of(lengths)
    begin = starts[0] if len(starts) else 0
    part = slice(begin, begin + offsets[-1])
    return _packed_rows(values[part], offsets, None if spans is None else spans[part])


def _packed(rows: _Rows) -> _Rows:
    """The same, or a packed copy."""
    view, spans, is_packed = rows
    if is_packed:
        return rows
    selected = _all_rows(view)
    return _packed_rows(
        view.values[selected],
        _offsets_of(view.lengths),
        None if spans is None else spans[selected],
    )


def _all_rows(view: SequenceView) -> NDArray[np.int64]:
    offsets = _offsets_of(view.lengths)
    return _rows_between(view, offsets, 0, offsets[-1])


def _rows_between(
    view: SequenceView, offsets: NDArray[np.int64], begin: int, stop: int
) -> NDArray[np.int64]:
    """Where in the view's values rows `begin` to `stop` of the packed values lie."""
    first = np.searchsorted(offsets, begin, side="right") - 1
    last = np.searchsorted(offsets, stop, side="left")
    n_frames = np.diff(np.clip(offsets[first : last + 1], begin, stop))
    moved = view.starts[first:last] - offsets[first:last]
    return np.repeat(moved, n_frames) + np.arange(begin, stop)


def _require_finite(sequences: TSEArray) -> None:
    for rows, frames in sequences.chunks():
        with np.errstate(over="ignore", invalid="ignore"):
            total = frames.sum()
        if np.isfinite(total):  # without a temporary array; a finite sum holds no NaN
            continue
        bad = np.argwhere(~np.isfinite(frames))
        if len(bad):  # else finite values whose sum overflows
            row, feature = bad[0]
            _refuse_number(frames[row, feature], sequences.offsets, rows.start + row, feature)


def _refuse_number(
    value: np.floating, offsets: NDArray[np.int64], row: np.integer, feature: np.integer
) -> None:
    index = int(np.searchsorted(offsets, row, side="right")) - 1
    what = "NaN" if np.isnan(value) else f"infinity or a value too large for dtype('{value.dtype}')"
    raise ValueError(
        f"Input X[{index}] contains {what}, first at frame {row - offsets[index]}, "
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
