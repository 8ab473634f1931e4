"""The container ``TSEArray``.

A *sequence* (the paper's temporal sequence of embeddings, TSE) is an array
``(n_frames, n_features)``. The number of frames differs from sequence to sequence, the number of
features does not.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skdejavid.compat.floating import underflow_allowed
from skdejavid.sequences.containers import as_real, read
from skdejavid.sequences.conversions import Convertible
from skdejavid.sequences.hints import warn_of_table
from skdejavid.sequences.layout import SequenceView, check_offsets, offsets_of
from skdejavid.sequences.memory_maps import check_memory_map
from skdejavid.sequences.tables import feature_names_of

__all__ = ["TSEArray"]

_NUMBERS_PER_CHUNK = 2**20  # bounds the memory for results that are as long as the frames


class _Storage(NamedTuple):
    """The contents of a `TSEArray`.

    It is one object, so that a thread sees either the old contents or the new ones, never a mix.
    If packed, the sequences lie one after the other and there are no other rows.
    """

    view: SequenceView
    spans: NDArray[np.float64] | None  # (n_rows, 2), one for each row of the view's values
    is_packed: bool
    names: tuple[str, ...] | None  # of the features


class TSEArray(Convertible):
    """A 1-D container of sequences of differing length.

    It is indexed as scikit-learn indexes (integers, slices, integer arrays, boolean masks, each
    also followed by ``...``), so it passes through ``Pipeline``, ``GridSearchCV`` and the
    splitters. Selecting sequences copies no frames: the selection refers to the same underlying
    array, which may be a memory map, and is therefore cheap to send to parallel workers. When a
    selection of sequences that are not consecutive is pickled, it is packed first (once), so that
    the pickle does not contain the other sequences.

    Parameters
    ----------
    X : sequences
        Any of:

        - list or tuple of ``(n_frames, n_features)`` arrays, torch tensors or nested lists;
        - 1-D object array of such items;
        - 3-D array ``(n_sequences, n_frames, n_features)``;
        - 2-D array ``(n_sequences, n_features)``: sequences of *one* frame each. (Other libraries
          read a 2-D array as univariate series; use ``x[:, :, None]`` for that.)
        - table whose columns are the features, as a 2-D array: data frame of pandas or polars,
          table of Arrow, data set of Hugging Face, or any that exports one of their interfaces. A
          long table, with one row for each frame, is read by :meth:`from_long`;
        - list of such tables, each a sequence, or table with one column of lists of lists;
        - another ``TSEArray``, whose memory is shared;
        - column of lists of lists: pandas or polars Series, Arrow array, awkward array, column of a
          data set of Hugging Face;
        - any other object with a length and integer indexing, such as a map-style data set.

    feature_names : sequence of str, optional
        A name for each feature. If None, the features have the names of `X`: those of another
        ``TSEArray``, or the columns of tables if all are strings.

    Attributes
    ----------
    frames : ndarray of shape (total number of frames, n_features)
        All frames, one sequence after the other, as float32 or float64: float32 and narrower floats
        become float32, all other types float64. Memory is shared if the sequences are consecutive
        in it; any other selection is copied at each access, see :meth:`packed` and :meth:`chunks`.
    offsets : ndarray of shape (n_sequences + 1,), int64
        Sequence ``i`` is ``frames[offsets[i]:offsets[i + 1]]``.
    spans : ndarray of shape (total number of frames, 2), float64, or None
        Begin and end, in seconds, of the time that each frame represents, if given. Shared or
        copied like `frames`.
    feature_names : tuple of str, or None
        The names of the features, if there are any. Selections and copies keep them; estimators
        take them for ``feature_names_in_``, as they do with data frames.

    Raises
    ------
    TypeError
        If `X` is of a type that cannot be read as sequences.
    ValueError
        If there is no sequence, a sequence is not 2-D, has no frames or no features, or if the
        numbers of features differ; the message names the sequence. Or if `feature_names` does not
        name each feature differently.

    Warns
    -----
    DataDimensionalityWarning
        If `X` is a 2-D array or a table, whose rows may be meant otherwise. Without a warning,
        sequences of one frame are passed as ``x[:, None]``.

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

    # Pickles name the class by this path, whichever file of the package defines it.
    __module__ = "skdejavid.sequences"

    ndim = 1
    dtype = np.dtype(object)  # of ``np.asarray(self)``; the dtype of the frames is ``frame_dtype``

    _storage: _Storage

    def __init__(self, X: Any, *, feature_names: Iterable[str] | None = None) -> None:
        if isinstance(X, TSEArray):
            storage = X._storage
        else:
            packed = read(X)
            if packed.is_table:
                warn_of_table(len(packed.offsets) - 1)
            names = feature_names_of(packed.named)
            storage = _packed_storage(packed.values, packed.offsets, names=names)
        if feature_names is not None:
            n_features = storage.view.values.shape[1]
            storage = storage._replace(names=_check_names(feature_names, n_features))
        self._storage = storage

    @classmethod
    def from_packed(
        cls,
        frames: ArrayLike,
        offsets: ArrayLike,
        spans: ArrayLike | None = None,
        *,
        feature_names: Iterable[str] | None = None,
    ) -> TSEArray:
        """Wrap a packed array without copying it.

        Parameters
        ----------
        frames : array of shape (total number of frames, n_features)
            All sequences, one after the other. A memory map stays a memory map, whose file nobody
            may cut while it is read.
        offsets : integer array of shape (n_sequences + 1,)
            Where the sequences begin and end: strictly increasing, from 0 to ``len(frames)``.
        spans : array of shape (total number of frames, 2), optional
            Begin and end, in seconds, of the time that each frame represents.
        feature_names : sequence of str, optional
            A name for each feature.

        Returns
        -------
        TSEArray

        Raises
        ------
        ValueError
            If `frames` is not a 2-D numeric array, `offsets` do not divide it into sequences,
            `spans` is not a pair of numbers for each frame, or `feature_names` does not name each
            feature differently.
        """
        rows = _as_rows(frames, "frames")
        if rows.ndim != 2 or rows.shape[1] == 0:
            raise ValueError(
                f"frames must be 2-D (n_frames, n_features >= 1), got shape {rows.shape}"
            )
        limits = check_offsets(offsets, len(rows), "len(frames)")
        times = None
        if spans is not None:
            times = _as_rows(spans, "spans").astype(np.float64, copy=False)
            if times.shape != (len(rows), 2):
                raise ValueError(
                    f"spans must contain a begin and an end for each frame, ({len(rows)}, 2), "
                    f"got shape {times.shape}"
                )
        names = None if feature_names is None else _check_names(feature_names, rows.shape[1])
        return cls._of_checked(rows, limits, times, names)

    @classmethod
    def _of_checked(
        cls,
        values: NDArray[np.floating],
        offsets: NDArray[np.int64],
        spans: NDArray[np.float64] | None = None,
        names: tuple[str, ...] | None = None,
    ) -> TSEArray:
        """Wrap arrays of which the caller knows that `from_packed` would accept them unchanged."""
        return cls._wrap(_packed_storage(values, offsets, spans, names))

    @classmethod
    def _wrap(cls, storage: _Storage) -> TSEArray:
        self = cls.__new__(cls)
        self._storage = storage
        return self

    @property
    def frames(self) -> NDArray[np.floating]:
        return _packed(self._storage).view.values

    @property
    def offsets(self) -> NDArray[np.int64]:
        return _read_only(offsets_of(self._storage.view.lengths))

    @property
    def spans(self) -> NDArray[np.float64] | None:
        view, spans, is_packed, _ = self._storage
        if spans is None:
            return None
        check_memory_map(spans)
        return spans if is_packed else spans[_rows_of(view)]

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        return self._storage.names

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)

    @property
    def size(self) -> int:
        return len(self)

    @property
    def n_features(self) -> int:
        return int(self._storage.view.values.shape[1])

    @property
    def frame_dtype(self) -> np.dtype[np.floating]:
        """The dtype of the frames, float32 or float64."""
        return self._storage.view.values.dtype

    @property
    def total_frames(self) -> int:
        """Total number of frames of all sequences."""
        return int(self._storage.view.lengths.sum())

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of frames of each sequence, (n_sequences,)."""
        return self._storage.view.lengths.copy()

    @property
    def nbytes(self) -> int:
        """Size in bytes of frames, offsets and spans.

        A selection may refer to a larger array, or several times to the same sequence.
        """
        n_times = 0 if self._storage.spans is None else 2
        frame_size = self.n_features * self.frame_dtype.itemsize + n_times * 8
        return self.total_frames * frame_size + (len(self) + 1) * 8

    def view(self, indices: NDArray[np.integer] | None = None) -> SequenceView:
        """Return all sequences, or some of them, without copying frames.

        Parameters
        ----------
        indices : integer array of shape (n_selected,), optional
            The sequences to return, in this order.

        Returns
        -------
        SequenceView
            The underlying array, and where each sequence begins in it.

        Raises
        ------
        ValueError
            If the array is a memory map of a file that has been cut.
        """
        values, starts, lengths = self._storage.view
        check_memory_map(values)
        if indices is not None:
            starts, lengths = starts[indices], lengths[indices]
        return SequenceView(values, starts, lengths)

    def packed(self) -> TSEArray:
        """Return the same sequences one after the other in memory; copy them only if needed.

        A selection keeps the whole array that it was taken from in memory, a copy does not.

        Returns
        -------
        TSEArray
        """
        return self if self._storage.is_packed else self._wrap(_packed(self._storage))

    def chunks(self) -> Iterator[tuple[slice, NDArray[np.floating]]]:
        """Iterate over all frames in blocks of a few megabytes.

        Yields
        ------
        rows : slice
            The rows of ``frames`` in this block.
        frames : ndarray of shape (n_rows, n_features)
            ``X.frames[rows]``, possibly sharing memory.
        """
        view, _, is_packed, _ = self._storage
        offsets = offsets_of(view.lengths)
        n_rows, n_features = int(offsets[-1]), view.values.shape[1]
        step = max(1, _NUMBERS_PER_CHUNK // n_features)
        for begin in range(0, n_rows, step):
            rows = slice(begin, min(begin + step, n_rows))
            check_memory_map(view.values)
            stored_rows = rows if is_packed else _rows_between(view, offsets, rows.start, rows.stop)
            yield rows, view.values[stored_rows]

    @underflow_allowed
    def astype(self, dtype: Any) -> TSEArray:
        """Convert the frames to float32 or float64; share memory if nothing changes.

        Parameters
        ----------
        dtype : {"float32", "float64"} or dtype

        Returns
        -------
        TSEArray

        Raises
        ------
        ValueError
            If `dtype` is another type.
        """
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {dtype}")
        if dtype == self.frame_dtype:
            return self
        converted = np.empty((self.total_frames, self.n_features), dtype=dtype)
        for rows, frames in self.chunks():
            converted[rows] = frames
        return self._of_checked(converted, self.offsets, self.spans, self.feature_names)

    def _with_names(self, names: Iterable[str] | None) -> TSEArray:
        """Return the same sequences with these names of features, or without names."""
        checked = None if names is None else _check_names(names, self.n_features)
        return self._wrap(self._storage._replace(names=checked))

    if not TYPE_CHECKING:  # for which any name would be an attribute then

        def __getattr__(self, name: str) -> NoReturn:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name == "values":  # which clients take for the rows of a data frame
                message += ": 'frames' are all frames, one sequence after the other"
            raise AttributeError(message, name=name, obj=self)

    def __len__(self) -> int:
        return len(self._storage.view.starts)

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
            values, starts, lengths = self._storage.view
            check_memory_map(values)
            return values[starts[index] : starts[index] + lengths[index]]
        if isinstance(key, slice):
            return self._wrap(_selected(self._storage, key))
        indices = np.arange(len(self))[key]
        if indices.ndim == 0:
            return self[int(indices)]
        if indices.ndim != 1:
            raise IndexError(f"TSEArray is 1-D, it cannot be indexed with {key!r}")
        return self._wrap(_selected(self._storage, indices))

    def __copy__(self) -> TSEArray:
        return self._wrap(self._storage)

    def __getstate__(self) -> dict[str, Any]:
        # The packed array is kept: joblib recognizes by identity the arrays that it has already
        # written for its workers.
        self._storage = storage = _packed(self._storage)
        return {
            # A pickle contains the numbers of a memory map; joblib finds the file behind the array.
            "values": np.asarray(storage.view.values),
            "offsets": _read_only(offsets_of(storage.view.lengths)),
            "spans": None if storage.spans is None else np.asarray(storage.spans),
            "feature_names": storage.names,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        checked = type(self).from_packed(
            state["values"],
            state["offsets"],
            state["spans"],
            feature_names=state.get("feature_names"),  # older pickles have none
        )
        self._storage = checked._storage

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.object_]:
        if dtype is not None and np.dtype(dtype) != object:
            raise ValueError(
                "a TSEArray can only be converted to an array of dtype object, got dtype "
                f"{np.dtype(dtype)}: use to_padded() for a 3-D array (n_sequences, n_frames, "
                "n_features), also of equal lengths, or the attribute frames for all frames"
            )
        if copy is False:
            raise ValueError("a TSEArray cannot be converted to an object array without a copy")
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
        shown = reprlib.Repr()
        shown.maxtuple, shown.maxstring = 3, 20
        names = self.feature_names
        return (
            f"TSEArray(n_sequences={len(self)}, n_frames={n_frames}, "
            f"n_features={self.n_features}, dtype={self.frame_dtype}"
            f"{'' if names is None else f', feature_names={shown.repr(names)}'})"
        )


def _as_rows(array: ArrayLike, name: str) -> NDArray[np.floating]:
    """Convert to the layout that native code reads; keep a memory map that already has it."""
    check_memory_map(np.asarray(array))
    rows = as_real(np.asarray(array), name)
    return array if isinstance(array, np.memmap) and np.may_share_memory(rows, array) else rows


def _check_names(names: Iterable[str], n_features: int) -> tuple[str, ...]:
    """Return the names as a tuple, if there is a different one for each feature."""
    if isinstance(names, (str, bytes, Set, Mapping)) or not isinstance(names, Iterable):
        raise ValueError(f"feature_names must be a list of str, got {names!r}")
    found = tuple(names)
    seen: set[str] = set()
    for i, name in enumerate(found):
        if not isinstance(name, str):
            raise ValueError(f"feature_names[{i}] must be a str, got {name!r}")
        if name in seen:
            raise ValueError(f"feature_names contains {name!r} twice: rename one of the features")
        seen.add(name)
    if len(found) != n_features:
        raise ValueError(
            f"feature_names has {len(found)} name(s), but the sequences have {n_features} "
            "feature(s): pass one name for each"
        )
    return tuple(str.__str__(name) for name in found)  # not NumPy's strings


def _read_only(array: NDArray[np.int64]) -> NDArray[np.int64]:
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def _packed_storage(
    values: NDArray[np.floating],
    offsets: NDArray[np.int64],
    spans: NDArray[np.float64] | None = None,
    names: tuple[str, ...] | None = None,
) -> _Storage:
    view = SequenceView(values, _read_only(offsets[:-1]), _read_only(np.diff(offsets)))
    return _Storage(view, spans, is_packed=True, names=names)


def _selected(storage: _Storage, key: slice | NDArray[np.intp]) -> _Storage:
    """Select sequences without copying frames.

    Consecutive sequences become packed again, as a part of the same memory: only packed storage
    gives `frames` without a copy and goes to workers as a memory map.
    """
    (values, starts, lengths), spans, _, names = storage
    starts, lengths = _read_only(starts[key]), _read_only(lengths[key])
    is_consecutive = np.array_equal(starts[1:], starts[:-1] + lengths[:-1])
    if not is_consecutive:
        return storage._replace(view=SequenceView(values, starts, lengths), is_packed=False)
    offsets = offsets_of(lengths)
    begin = starts[0] if len(starts) else 0
    part = slice(begin, begin + offsets[-1])
    return _packed_storage(values[part], offsets, None if spans is None else spans[part], names)


def _packed(storage: _Storage) -> _Storage:
    """Return the storage itself if it is packed, else a packed copy; check its memory maps."""
    view, spans, is_packed, names = storage
    for array in (view.values, spans):
        if array is not None:
            check_memory_map(array)
    if is_packed:
        return storage
    rows = _rows_of(view)
    return _packed_storage(
        view.values[rows], offsets_of(view.lengths), None if spans is None else spans[rows], names
    )


def _rows_of(view: SequenceView) -> NDArray[np.int64]:
    """Return the row numbers of the view's sequences in its values, in their order."""
    offsets = offsets_of(view.lengths)
    return _rows_between(view, offsets, 0, offsets[-1])


def _rows_between(
    view: SequenceView, offsets: NDArray[np.int64], begin: int, stop: int
) -> NDArray[np.int64]:
    """Return the row numbers, in the view's values, of the packed rows `begin` to `stop`.

    Rows of one sequence keep their distance to each other, so a packed row is found in the view's
    values at a shift that depends on its sequence only: ``starts - offsets``. Only the sequences
    that the range touches are looked at, and the first and last may be cut by it: indices for all
    rows would take as much memory as the blocks are meant to save.
    """
    first = np.searchsorted(offsets, begin, side="right") - 1
    last = np.searchsorted(offsets, stop, side="left")
    n_rows = np.diff(np.clip(offsets[first : last + 1], begin, stop))
    shifts = view.starts[first:last] - offsets[first:last]
    return np.repeat(shifts, n_rows) + np.arange(begin, stop)


def _strip_ellipsis(key: Any) -> Any:
    """Return `key` without an ellipsis: scikit-learn indexes with ``X[key, ...]``."""
    if not isinstance(key, tuple):
        return slice(None) if key is Ellipsis else key
    rest = [part for part in key if part is not Ellipsis]
    if len(rest) > 1:
        raise IndexError(f"TSEArray is 1-D, it cannot be indexed with {key!r}")
    return rest[0] if rest else slice(None)
