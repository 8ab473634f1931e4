"""From distances to logits: the normalization in front of the soft-min.

The functions take NumPy arrays and torch tensors alike, so training and prediction share them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["choose_normalization", "deviations", "distances_to_logits"]

# Distances of one sample that agree to this relative precision count as equal; below it float32
# rounding would be blown up to a standard deviation of 1.
_RELATIVE_TIE = 1e-7


def choose_normalization(normalize: str, n_classes: int) -> str:
    """What "auto" means: standardizing each sample has no gradient for fewer than 3 classes."""
    if normalize != "auto":
        return normalize
    return "layer" if n_classes >= 3 else "global"


def distances_to_logits(distances: Any, normalization: str, scale: float) -> Any:
    """Logits (n_samples, n_classes): the smaller the distance, the larger.

    "layer": each sample's distances are standardized over the classes, mean 0 and unbiased standard
    deviation 1 (the paper's LayerNorm). "global": centered for each sample and divided by one
    `scale` for all.
    """
    n_classes = distances.shape[1]
    mean = distances.mean(axis=1, keepdims=True)
    if normalization == "global" or n_classes == 1:
        return (mean - distances) / scale
    variance = ((distances - mean) ** 2).sum(axis=1, keepdims=True) / (n_classes - 1)
    smallest = (_RELATIVE_TIE * mean) ** 2 + np.finfo(float).tiny
    return (mean - distances) / (variance + smallest) ** 0.5


def deviations(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unbiased standard deviation over the classes of each sample, (n_samples,); 0 for one class,
    and where rounding alone makes them differ.

    Its mean over the training samples is the scale of "global" normalization.
    """
    spread = distances.std(axis=1, ddof=min(1, distances.shape[1] - 1))
    return np.where(spread > _RELATIVE_TIE * distances.mean(axis=1), spread, 0.0)
