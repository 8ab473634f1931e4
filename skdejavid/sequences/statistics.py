"""Weighted statistics of sequences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from skdejavid.sequences.array import TSEArray

__all__ = ["require_half", "require_no_overflow", "standard_deviations", "weighted_median"]


def weighted_median(values: NDArray[np.int64], weight: NDArray[np.float64]) -> int:
    """The value (n,) at which half of the weight (n,) is reached; weight k acts as k copies."""
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    return int(values[order][np.searchsorted(reached, reached[-1] / 2)])


def require_no_overflow(sequences: TSEArray) -> None:
    """Refuse values so large that distances between sequences, or variances, could overflow."""
    largest_sum = 4.0 * sequences.lengths.max() * sequences.n_features
    dtype = sequences.frame_dtype
    limit = min(np.finfo(dtype).max / largest_sum, np.sqrt(np.finfo(np.float64).max))
    largest, index = _largest_magnitude(sequences)
    if largest > limit:
        raise ValueError(
            f"X[{index}] holds values up to {largest:.3g}: distances overflow in "
            f"{dtype}, scale the features to a smaller range"
        )


def require_half(sequences: TSEArray) -> None:
    """Refuse sequences that half precision cannot stand for."""
    if sequences.frame_dtype != np.float32:
        raise ValueError(
            f"half_storage=True needs float32 data, which is computed in float32, but X is "
            f"{sequences.frame_dtype}: convert it, or set half_storage=False"
        )
    largest, index = _largest_magnitude(sequences)
    limit = float(np.finfo(np.float16).max)
    if largest > limit:
        raise ValueError(
            f"X[{index}] holds values up to {largest:.3g}, and half_storage=True needs values "
            f"within +-{limit:g}: scale the features, or set half_storage=False"
        )


def _largest_magnitude(sequences: TSEArray) -> tuple[float, int]:
    """The largest absolute value, and the number of the first sequence that holds it."""
    largest, where = -np.inf, 0
    for rows, frames in sequences.chunks():
        sizes = np.maximum(frames.max(axis=1), -frames.min(axis=1)).astype(np.float64)
        row = int(sizes.argmax())
        if sizes[row] > largest:
            largest, where = float(sizes[row]), rows.start + row
    return largest, int(np.searchsorted(sequences.offsets, where, side="right")) - 1


def standard_deviations(
    sequences: TSEArray, sample_weight: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Standard deviation (n_features,) of each feature over all frames, 1 where it is constant.

    Each frame counts as often as its sequence, `sample_weight` (n_sequences,). What is too small
    to divide by in the data's own floating type counts as constant.
    """
    frame_weight = np.repeat(sample_weight, sequences.lengths)
    scaler = StandardScaler()
    first = sequences[0][0]
    for rows, frames in sequences.chunks():
        # Offsets from the first frame: what is constant is 0, and rounding leaves it no variance.
        offsets = frames.astype(np.float64) - first
        scaler.partial_fit(offsets, sample_weight=frame_weight[rows])
    is_constant = scaler.scale_ < np.finfo(sequences.frame_dtype).tiny
    return np.where(is_constant, 1.0, scaler.scale_).astype(sequences.frame_dtype)
