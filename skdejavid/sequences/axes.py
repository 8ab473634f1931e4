"""Find out from the numbers whether channels come before time, as in aeon and sktime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skdejavid.sequences.layout import SequenceView

__all__ = ["looks_transposed"]

# Sequences, and frames or features of each, that are looked at.
_MOST_SEQUENCES, _MOST_NUMBERS = 64, 512

# Roughness is 1 for unrelated numbers, 0 for a smooth course, 2 for one that alternates. Measured
# on real sets: from feature to feature at least 0.58, mostly 1; from frame to frame at most 0.95.
_SMOOTH, _UNRELATED = 0.5, 1.0

# Numbers that few neighbors share are smooth by chance.
_FEWEST_TIME_POINTS = 10


def looks_transposed(view: SequenceView) -> bool:
    """Return whether sequences seem to be (n_channels, n_timepoints).

    They are all of one length, have more features than frames, and from one feature to the next
    the numbers run smoothly, while from one frame to the next they are unrelated.

    Parameters
    ----------
    view : SequenceView
        At least one sequence, without NaN and infinity.
    """
    n_frames, n_features = int(view.lengths[0]), view.values.shape[1]
    if n_features < max(_FEWEST_TIME_POINTS, n_frames + 1):
        return False
    if view.lengths.min() != view.lengths.max():
        return False
    step = -(-len(view.starts) // _MOST_SEQUENCES)
    part = [
        np.array(view.values[start : start + n_frames][:_MOST_NUMBERS, :_MOST_NUMBERS], np.float64)
        for start in view.starts[::step]
    ]
    by_feature = _roughness(part, axis=1)
    if not by_feature < _SMOOTH:
        return False
    return n_frames == 1 or _roughness(part, axis=0) >= _UNRELATED


def _roughness(sequences: list[NDArray[np.float64]], axis: int) -> float:
    """Return the median of von Neumann's ratio along an axis, halved; NaN if nothing varies."""
    ratios = []
    for x in sequences:
        with np.errstate(all="ignore"):
            scaled = x / (float(np.abs(x).max()) or 1.0)
            variance = ((scaled - scaled.mean(axis=axis, keepdims=True)) ** 2).mean()
            if variance > 0:
                steps = (np.diff(scaled, axis=axis) ** 2).mean()
                ratios.append(float(steps / (2 * variance)))
    return float(np.median(ratios)) if ratios else float("nan")
