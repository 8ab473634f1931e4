"""Layout of sequences in memory: one array of all frames, and where each sequence begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Packed", "SequenceView", "check_offsets", "offsets_of", "starts_of"]


class SequenceView(NamedTuple):
    """Sequences inside one array: sequence ``s`` is ``values[starts[s]:][:lengths[s]]``.

    Any subset in any order is a view, and no frame is copied. Name and fields are those of
    ``src_cuda/align.hpp``.
    """

    values: NDArray[np.floating]  # (n_rows, n_features)
    starts: NDArray[np.int64]  # (n_sequences,)
    lengths: NDArray[np.int64]  # (n_sequences,)


class Packed(NamedTuple):
    """Sequences one after the other: sequence ``i`` is ``values[offsets[i]:offsets[i + 1]]``."""

    values: NDArray[np.floating]  # (total number of frames, n_features)
    offsets: NDArray[np.int64]  # (n_sequences + 1,)
    is_table: bool = False  # read from a 2-D array, each row a sequence of one frame
    named: Any = None  # the table, or that of the first sequence, whose columns are the features


def check_offsets(offsets: ArrayLike, n_rows: int, what: str) -> NDArray[np.int64]:
    """Return a copy of offsets that divide rows into sequences.

    They are compared before they are converted or subtracted, both of which may overflow.

    Parameters
    ----------
    offsets : integer array of shape (n_sequences + 1,)
    n_rows : int
        Number of rows.
    what : str
        The number of rows in words, for messages.

    Raises
    ------
    ValueError
        If they are not integers that increase strictly from 0 to `n_rows`.
    """
    limits = np.array(offsets)
    if limits.ndim != 1 or limits.size < 1 or limits.dtype.kind not in "iu":
        raise ValueError(
            "offsets must be a 1-D integer array of n_sequences + 1 items, "
            f"got shape {limits.shape} and dtype {limits.dtype}"
        )
    if limits[0] != 0 or limits[-1] != n_rows:
        raise ValueError(
            f"offsets must begin with 0 and end with {what} = {n_rows}, "
            f"got {limits[0]} and {limits[-1]}"
        )
    wrong = np.flatnonzero(limits[1:] <= limits[:-1])
    if wrong.size:
        index = int(wrong[0])
        n_frames = int(limits[index + 1]) - int(limits[index])
        raise ValueError(
            f"offsets must be strictly increasing: sequence {index} would have {n_frames} frame(s)"
        )
    return limits.astype(np.int64)  # exact: all are from 0 to the number of rows


def offsets_of(lengths: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """Return where packed sequences of these lengths begin and end, (n_sequences + 1,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def starts_of(lengths: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """Return where packed sequences of these lengths begin, (n_sequences,)."""
    return offsets_of(lengths)[:-1]
