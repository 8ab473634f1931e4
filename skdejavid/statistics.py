"""Weighted statistics of sequences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches

from skdejavid.sequences import TSEArray

__all__ = ["require_no_overflow", "standard_deviations", "weighted_median"]

_NUMBERS_PER_CHUNK = 2**20  # bounds the memory of float64 copies


def weighted_median(values: NDArray[np.int64], weight: NDArray[np.float64]) -> int:
    """The value (n,) at which half of the weight (n,) is reached; weight k acts as k copies."""
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    return int(values[order][np.searchsorted(reached, reached[-1] / 2)])


def require_no_overflow(sequences: TSEArray) -> None:
    """Refuse values so large that distances between sequences, or variances, could overflow."""
    values = sequences.values
    sizes = np.maximum(values.max(axis=1), -values.min(axis=1)).astype(np.float64)
    largest_sum = 4.0 * sequences.lengths.max() * sequences.n_features
    limit = min(np.finfo(values.dtype).max / largest_sum, np.sqrt(np.finfo(np.float64).max))
    row = int(sizes.argmax())
    if sizes[row] > limit:
        index = int(np.searchsorted(sequences.offsets, row, side="right")) - 1
        raise ValueError(
            f"X[{index}] holds values up to {sizes[row]:.3g}: distances overflow in "
            f"{values.dtype}, scale the features to a smaller range"
        )


def standard_deviations(
    sequences: TSEArray, sample_weight: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Standard deviation (n_features,) of each feature over all frames, 1 where it is constant.

    Each frame counts as often as its sequence, `sample_weight` (n_sequences,). What is too small
    to divide by in the data's own floating type counts as constant.
    """
    values = sequences.values
    frame_weight = np.repeat(sample_weight, sequences.lengths)
    scaler = StandardScaler()
    rows_per_chunk = max(1, _NUMBERS_PER_CHUNK // values.shape[1])
    for rows in gen_batches(len(values), rows_per_chunk):
        # Offsets from the first frame: what is constant is 0, and rounding leaves it no variance.
        offsets = values[rows].astype(np.float64) - values[0]
        scaler.partial_fit(offsets, sample_weight=frame_weight[rows])
    is_constant = scaler.scale_ < np.finfo(values.dtype).tiny
    return np.where(is_constant, 1.0, scaler.scale_).astype(values.dtype)
