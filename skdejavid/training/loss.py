"""From distances to logits, and the loss of them: the normalization in front of the soft-min.

The functions that training needs take arrays of NumPy or tensors of torch alike, and give back the
same kind.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["cross_entropy", "deviations", "distances_to_logits"]

# Distances of one sample that agree to this relative precision count as equal; below it float32
# rounding would be blown up to a standard deviation of 1.
_RELATIVE_TIE = 1e-7

Numbers = TypeVar("Numbers", NDArray[Any], "torch.Tensor")


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
    distances: Numbers, labels: Numbers, normalization: str, scale: float
) -> tuple[Numbers, Numbers]:
    """Cross-entropy of the soft-min of normalized distances, and its derivative by the distances.

    Parameters
    ----------
    distances : array or tensor of shape (n_samples, n_classes), float64
    labels : integer array or tensor of shape (n_samples,)
    normalization, scale
        See :func:`distances_to_logits`.

    Returns
    -------
    losses : array or tensor of shape (n_samples,)
    gradients : array or tensor of shape (n_samples, n_classes)
        Of each sample's own loss.
    """
    xp = _namespace(distances)
    samples = xp.ones_like(labels).cumsum(0) - 1  # 0, 1, ... where the labels are
    divisors = _divisors(distances, normalization, scale)
    logits = (distances.mean(1)[:, None] - distances) / divisors
    shifted = logits - xp.amax(logits, 1)[:, None]
    likelihoods = xp.exp(shifted)
    totals = likelihoods.sum(1)[:, None]
    losses = xp.log(totals[:, 0]) - shifted[samples, labels]
    by_logits = likelihoods / totals
    by_logits[samples, labels] -= 1.0  # they add up to 0, so the mean's part in the logits is none
    if _is_layer(normalization, distances):
        covariance = (by_logits * logits).sum(1)[:, None] / (distances.shape[1] - 1)
        by_logits -= covariance * logits
        if distances.shape[1] == 2:
            by_logits[:] = 0.0  # exactly: Adam would blow up what rounding leaves of it
    return losses, -by_logits / divisors


def _namespace(numbers: Any) -> ModuleType:
    return np if isinstance(numbers, np.ndarray) else sys.modules["torch"]


def _is_layer(normalization: str, distances: Any) -> bool:
    return normalization == "layer" and distances.shape[1] > 1


def _divisors(distances: Numbers, normalization: str, scale: float) -> Numbers | float:
    """What each sample's distances are divided by: one number for all, or one each, (n, 1)."""
    if not _is_layer(normalization, distances):
        return scale
    mean = distances.mean(1)[:, None]
    variance = ((distances - mean) ** 2).sum(1)[:, None] / (distances.shape[1] - 1)
    smallest = (_RELATIVE_TIE * mean) ** 2 + np.finfo(float).tiny
    return _namespace(distances).sqrt(variance + smallest)


def deviations(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unbiased standard deviation over the classes of each sample, (n_samples,); 0 for one class,
    and where rounding alone makes them differ.

    Its mean over the training samples is the scale of "global" normalization.
    """
    spread = distances.std(axis=1, ddof=min(1, distances.shape[1] - 1))
    return np.where(spread > _RELATIVE_TIE * distances.mean(axis=1), spread, 0.0)
