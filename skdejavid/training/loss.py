"""The loss of the classifier: cross-entropy of the soft-min of scaled distances."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skdejavid.backends.interfaces import MeanOverSamples, Numbers

__all__ = ["LOGIT_SCALINGS", "SoftMinCrossEntropy", "deviations"]

LOGIT_SCALINGS = ("global", "sample")

# Distances of one sample that agree to this relative precision count as equal. Without this bound,
# rounding errors of float32 would be scaled up to a standard deviation of 1.
_RELATIVE_TIE = 1e-7


@dataclass(frozen=True)
class SoftMinCrossEntropy:
    """Cross-entropy of the soft-min of scaled distances; see `skdejavid.backends.interfaces.Loss`.

    Parameters
    ----------
    logit_scaling : {"global", "sample"}
        "sample" standardizes each sample's distances over the classes to mean 0 and unbiased
        standard deviation 1 (the paper's LayerNorm). "global" centers them for each sample and
        divides all by one `scale`.
    scale : float or None, default=None
        The divisor of "global" scaling. If None, `calibrate` measures it.
    temperature : float, default=1.0
        The measured scale is this times the mean standard deviation of a sample's distances.
    margins : tuple of float or None, default=None
        For each class a factor of the temperature of its samples, whose loss is multiplied by the
        same factor. The loss of a correct sample then falls to nothing only if the distances to
        the other classes are larger by a multiple of its margin, and that of a wrong sample keeps
        its slope. None stands for margins of 1.
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "accuracy")

    logit_scaling: str
    scale: float | None = None
    temperature: float = 1.0
    margins: tuple[float, ...] | None = None

    def with_scale(self, scale: float) -> SoftMinCrossEntropy:
        """Return the same loss with another scale."""
        return replace(self, scale=scale)

    def calibrate(self, mean: MeanOverSamples) -> SoftMinCrossEntropy:
        """Return the loss with a scale, which is 1 unless the scaling is "global"."""
        if self.logit_scaling != "global":
            return self.with_scale(1.0)
        if self.scale is not None:
            return self
        # All deviations are 0 if each sample has equal distances to all classes.
        return self.with_scale(self.temperature * (mean(deviations) or 1.0))

    def logits(self, distances: Numbers) -> Numbers:
        """Return logits (n_samples, n_classes): the smaller the distance, the larger the logit."""
        return self._logits(distances, self._divisors(distances))

    def evaluate(
        self, distances: Numbers, targets: Numbers
    ) -> tuple[tuple[Numbers, Numbers], Numbers]:
        """Return the cross-entropy and the accuracy of each sample, and gradients of the former.

        Parameters
        ----------
        distances : array or tensor of shape (n_samples, n_classes), float64
        targets : integer array or tensor of shape (n_samples,)

        Returns
        -------
        metrics : tuple of two arrays or tensors of shape (n_samples,)
            Losses, and 1 where the smallest distance is that of the target, else 0.
        gradients : array or tensor of shape (n_samples, n_classes)
            Of each sample's loss by its distances.
        """
        xp = _namespace(distances)
        samples = _indices(targets)
        divisors = self._divisors(distances)
        logits = self._logits(distances, divisors)
        shifted = logits - xp.amax(logits, 1)[:, None]
        margins = self._margins_of(targets)
        if margins is not None:
            shifted = shifted / margins[:, None]
        likelihoods = xp.exp(shifted)
        totals = likelihoods.sum(1)[:, None]
        losses = xp.log(totals[:, 0]) - shifted[samples, targets]
        if margins is not None:  # which is both factor and divisor: logits have no other gradient
            losses = losses * margins
        by_logits = likelihoods / totals
        # Each row adds up to 0 now, so the mean in the logits has no gradient.
        by_logits[samples, targets] -= 1.0
        if self._is_by_sample(distances):
            covariance = (by_logits * logits).sum(1)[:, None] / (distances.shape[1] - 1)
            by_logits -= covariance * logits
            if distances.shape[1] == 2:
                by_logits[:] = 0.0  # exactly: Adam would scale up the rounding errors
        hits = xp.asarray(distances.argmin(1) == targets, dtype=losses.dtype)
        return (losses, hits), -by_logits / divisors

    def _logits(self, distances: Numbers, divisors: Numbers | float) -> Numbers:
        return (distances.mean(1)[:, None] - distances) / divisors

    def _divisors(self, distances: Numbers) -> Numbers | float:
        """Return the divisor of all distances, or one for each sample, (n_samples, 1)."""
        if not self._is_by_sample(distances):
            assert self.scale is not None, "the loss has not been calibrated"
            return self.scale
        mean = distances.mean(1)[:, None]
        variance = ((distances - mean) ** 2).sum(1)[:, None] / (distances.shape[1] - 1)
        smallest = (_RELATIVE_TIE * mean) ** 2 + np.finfo(float).tiny
        return _namespace(distances).sqrt(variance + smallest)

    def _margins_of(self, targets: Any) -> Any:
        """Return the margin of each sample, (n_samples,), on the device of the targets, or None."""
        if self.margins is None:
            return None
        if isinstance(targets, np.ndarray):
            return np.array(self.margins)[targets]
        return _tensor_on(targets.device, self.margins)[targets]

    def _is_by_sample(self, distances: Any) -> bool:
        return self.logit_scaling == "sample" and distances.shape[1] > 1


def _namespace(numbers: Any) -> ModuleType:
    return np if isinstance(numbers, np.ndarray) else sys.modules["torch"]


def _indices(numbers: Any) -> Any:
    """Return the indices 0, 1, ... of an array or tensor, on its device."""
    if isinstance(numbers, np.ndarray):  # which has no device before NumPy 2
        return np.arange(len(numbers))
    return sys.modules["torch"].arange(len(numbers), device=numbers.device)


@lru_cache(maxsize=4)
def _tensor_on(device: Any, numbers: tuple[float, ...]) -> Any:
    """Return a tensor on a device, copied once: a copy for each batch would wait for the device."""
    torch = sys.modules["torch"]
    return torch.tensor(numbers, dtype=torch.float64, device=device)


def deviations(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unbiased standard deviation over the classes of each sample, (n_samples,).

    It is 0 for one class, and where the distances differ by rounding errors alone.
    """
    spread = distances.std(axis=1, ddof=min(1, distances.shape[1] - 1))
    return np.where(spread > _RELATIVE_TIE * distances.mean(axis=1), spread, 0.0)
