"""From distances to logits, and the loss of them: the normalization in front of the soft-min."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["cross_entropy", "deviations", "distances_to_logits"]

# Distances of one sample that agree to this relative precision count as equal; below it float32
# rounding would be blown up to a standard deviation of 1.
_RELATIVE_TIE = 1e-7


def distances_to_logits(
    distances: NDArray[np.float64], normalization: str, scale: float
) -> NDArray[np.float64]:
    """Logits (n_samples, n_classes): the smaller the distance, the larger.

    "layer": each sample's distances are standardized over the classes, mean 0 and unbiased standard
    deviation 1 (the paper's LayerNorm). "global": centered for each sample and divided by one
    `scale` for all.
    """
    mean = distances.mean(axis=1, keepdims=True)
    return (mean - distances) / _divisors(distances, normalization, scale)


def cross_entropy(
    distances: NDArray[np.float64],
    labels: NDArray[np.intp],
    normalization: str,
    scale: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cross-entropy of the soft-min of normalized distances, and its derivative by the distances.

    Returns
    -------
    losses : ndarray of shape (n_samples,)
    gradients : ndarray of shape (n_samples, n_classes)
        Of each sample's own loss.
    """
    samples = np.arange(len(labels))
    divisors = _divisors(distances, normalization, scale)
    logits = (distances.mean(axis=1, keepdims=True) - distances) / divisors
    shifted = logits - logits.max(axis=1, keepdims=True)
    likelihoods = np.exp(shifted)
    totals = likelihoods.sum(axis=1, keepdims=True)
    losses = np.log(totals[:, 0]) - shifted[samples, labels]
    by_logits = likelihoods / totals
    by_logits[samples, labels] -= 1.0  # they add up to 0, so the mean's part in the logits is none
    if _is_layer(normalization, distances):
        covariance = (by_logits * logits).sum(axis=1, keepdims=True) / (distances.shape[1] - 1)
        by_logits -= covariance * logits
        if distances.shape[1] == 2:
            by_logits[:] = 0.0  # exactly: Adam would blow up what rounding leaves of it
    return losses, -by_logits / divisors


def _is_layer(normalization: str, distances: NDArray[np.float64]) -> bool:
    return normalization == "layer" and distances.shape[1] > 1


def _divisors(
    distances: NDArray[np.float64], normalization: str, scale: float
) -> NDArray[np.float64]:
    """What each sample's distances are divided by, of a shape that broadcasts to theirs."""
    if not _is_layer(normalization, distances):
        return np.array(scale)
    mean = distances.mean(axis=1, keepdims=True)
    variance = ((distances - mean) ** 2).sum(axis=1, keepdims=True) / (distances.shape[1] - 1)
    smallest = (_RELATIVE_TIE * mean) ** 2 + np.finfo(float).tiny
    return np.sqrt(variance + smallest)


def deviations(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unbiased standard deviation over the classes of each sample, (n_samples,); 0 for one class,
    and where rounding alone makes them differ.

    Its mean over the training samples is the scale of "global" normalization.
    """
    spread = distances.std(axis=1, ddof=min(1, distances.shape[1] - 1))
    return np.where(spread > _RELATIVE_TIE * distances.mean(axis=1), spread, 0.0)
