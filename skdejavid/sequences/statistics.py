"""Weighted statistics of sequences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from skdejavid.sequences.array import TSEArray

__all__ = [
    "is_of_equal_frames",
    "standard_deviations",
    "vanishing_features",
    "weighted_median",
]


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
    dtype of the frames. Scaling a feature by a power of two scales its deviation exactly.
    """
    frame_weight = np.repeat(sample_weight, sequences.lengths)
    # So that no square overflows, or vanishes, whatever the unit of the feature.
    exponents = np.frexp(_largest_deviations(sequences))[1]
    scaler = StandardScaler()
    for rows, deviations in _from_first(sequences):
        np.ldexp(deviations, -exponents, out=deviations)
        scaler.partial_fit(deviations, sample_weight=frame_weight[rows])
    scale = np.sqrt(scaler.var_)
    is_constant = scaler.scale_ != scale  # scikit-learn has set it to 1
    scale = np.ldexp(scale, exponents)
    is_constant |= scale < np.finfo(sequences.frame_dtype).tiny
    return np.where(is_constant, 1.0, scale).astype(sequences.frame_dtype)


def vanishing_features(sequences: TSEArray) -> NDArray[np.intp]:
    """Return the indices of features that vary, but by less than the smallest normal number."""
    largest = _largest_deviations(sequences)
    return np.flatnonzero((largest > 0) & (largest < np.finfo(sequences.frame_dtype).tiny))


def is_of_equal_frames(sequences: TSEArray) -> bool:
    """Return whether no feature varies, neither within a sequence nor between two of them."""
    return not _largest_deviations(sequences).any()


def _from_first(sequences: TSEArray) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield slices of rows and their deviations from the first frame.

    They are exactly 0 for a constant feature, which gets no variance from rounding.
    """
    first = sequences[0][0]
    for rows, frames in sequences.chunks():
        yield rows, frames.astype(np.float64) - first


def _largest_deviations(sequences: TSEArray) -> NDArray[np.float64]:
    """Return the largest deviation of each feature from the first frame, (n_features,)."""
    largest = np.zeros(sequences.n_features)
    for _, deviations in _from_first(sequences):
        np.maximum(largest, np.abs(deviations).max(axis=0), out=largest)
    return largest
