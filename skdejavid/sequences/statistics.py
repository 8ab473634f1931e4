"""Weighted statistics of sequences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from skdejavid.sequences.array import TSEArray

__all__ = ["standard_deviations", "weighted_median"]


def weighted_median(values: NDArray[np.int64], weight: NDArray[np.float64]) -> int:
    """Return the median of `values` (n,), where an integer `weight` (n,) counts as repetitions."""
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    return int(values[order][np.searchsorted(reached, reached[-1] / 2)])


def standard_deviations(
    sequences: TSEArray, sample_weight: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Return the standard deviation (n_features,) of each feature, 1 where it is constant.

    It is taken over all frames, each with the weight of its sequence, `sample_weight`
    (n_sequences,). A feature counts as constant if its deviation is too small to divide by in the
    dtype of the frames.
    """
    frame_weight = np.repeat(sample_weight, sequences.lengths)
    scaler = StandardScaler()
    first = sequences[0][0]
    for rows, frames in sequences.chunks():
        # Relative to the first frame, a constant feature is exactly 0 and gets no variance from
        # rounding.
        deviations = frames.astype(np.float64) - first
        scaler.partial_fit(deviations, sample_weight=frame_weight[rows])
    is_constant = scaler.scale_ < np.finfo(sequences.frame_dtype).tiny
    return np.where(is_constant, 1.0, scaler.scale_).astype(sequences.frame_dtype)
