"""Find out from the numbers whether channels come before time, as in aeon and sktime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skdejavid.sequences.layout import SequenceView

__all__ = ["looks_transposed"]

# Sequences, and frames or features of each, that are looked at.
_MOST_SEQUENCES, _MOST_NUMBERS = 64, 512

# Roughness is about 1 for unrelated numbers, 0 for a smooth course, 2 for one that alternates.
# Measured on real sets: from feature to feature at least 0.51, mostly 1; from frame to frame at
# most 0.64 where the frames follow each other.
_SMOOTH, _UNRELATED = 0.5, 0.9

# Numbers that few neighbors share are smooth by chance; a rise and a fall in few frames is rough.
_FEWEST_TIME_POINTS, _FEWEST_CHANNELS = 10, 6

# Channels keep their levels in all sequences: their share of the variance is at least 0.4 in real
# sets. Frames that know nothing of each other have a share near 0, in so many sequences.
_SHARE_OF_CHANNELS, _FEWEST_SEQUENCES = 0.3, 20


def looks_transposed(view: SequenceView) -> bool:
    """Return whether sequences are almost certainly (n_channels, n_timepoints).

    They are all of one length, have more features than frames, and from one feature to the next
    the numbers run smoothly. If there are several frames, they are rough from one to the next, and
    have levels that are the same in all sequences, as channels have: frames that are independent
    of each other, such as days, are as rough but have no levels. Sets of two to five frames are
    never suspected.

    Parameters
    ----------
    view : SequenceView
        At least one sequence, without NaN and infinity.
    """
    n_frames, n_features = int(view.lengths[0]), view.values.shape[1]
    if n_features < max(_FEWEST_TIME_POINTS, n_frames + 1) or 1 < n_frames < _FEWEST_CHANNELS:
        return False
    if view.lengths.min() != view.lengths.max():
        return False
    step = -(-len(view.starts) // _MOST_SEQUENCES)
    part = _scaled(
        [
            np.array(view.values[start : start + n_frames][:_MOST_NUMBERS, :_MOST_NUMBERS], float)
            for start in view.starts[::step]
        ]
    )
    if not _roughness(part, axis=1) < _SMOOTH:
        return False
    return n_frames == 1 or (_roughness(part, axis=0) >= _UNRELATED and _have_channels(part))


def _scaled(sequences: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Return the sequences in a unit in which no square overflows."""
    unit = max(float(np.abs(x).max()) for x in sequences) or 1.0
    with np.errstate(all="ignore"):
        return [x / unit for x in sequences]


def _have_channels(sequences: list[NDArray[np.float64]]) -> bool:
    """Return whether the frames have levels, or ranges, in an order that is no course of time."""
    if len(sequences) < _FEWEST_SEQUENCES:
        return False
    with np.errstate(all="ignore"):
        levels = np.array([x.mean(axis=1) for x in sequences])
        ranges = np.array([x.std(axis=1) for x in sequences])
        return any(
            _share_of_common(numbers) >= _SHARE_OF_CHANNELS
            and _roughness([numbers.mean(axis=0)[:, None]], axis=0) >= _UNRELATED
            for numbers in (levels, ranges)
        )


def _share_of_common(numbers: NDArray[np.float64]) -> float:
    """Return the share of variance within rows that all rows have in common, 0 if unrelated."""
    centered = numbers - numbers.mean(axis=1, keepdims=True)
    total = (centered**2).sum(axis=1).mean()
    share = (centered.mean(axis=0) ** 2).sum() / total if total > 0 else 0.0
    n_rows = len(numbers)
    return float((n_rows * share - 1) / (n_rows - 1))  # the mean of unrelated rows is not 0


def _roughness(sequences: list[NDArray[np.float64]], axis: int) -> float:
    """Return the median of von Neumann's ratio along an axis, halved; NaN if nothing varies."""
    ratios = []
    for x in sequences:
        with np.errstate(all="ignore"):
            variance = ((x - x.mean(axis=axis, keepdims=True)) ** 2).mean()
            if variance > 0:
                ratios.append(float((np.diff(x, axis=axis) ** 2).mean() / (2 * variance)))
    return float(np.median(ratios)) if ratios else float("nan")
