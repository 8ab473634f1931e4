"""Layout of sequences in memory: one array of all frames, and where each sequence begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Packed", "SequenceView", "offsets_of", "starts_of"]


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


def offsets_of(lengths: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """Return where packed sequences of these lengths begin and end, (n_sequences + 1,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def starts_of(lengths: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """Return where packed sequences of these lengths begin, (n_sequences,)."""
    return offsets_of(lengths)[:-1]
