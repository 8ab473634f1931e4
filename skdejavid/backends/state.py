"""Data, settings and parameters of training, which the engines of all backends share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.backends.interfaces import AlignmentProblem, Batch, Loss, Numbers, Parameters
from skdejavid.sequences import TSEArray

__all__ = [
    "MOMENTS",
    "PARAMETERS",
    "InitialParameters",
    "Snapshot",
    "TrainingData",
    "TrainingSettings",
    "evaluate_batch",
    "split",
]

# The arrays of `Engine.state_dict`: the parameters, two moments of each, and the number of steps.
PARAMETERS = ("centroids", "weights")
MOMENTS = ("centroids.first", "centroids.second", "weights.first", "weights.second", "n_steps")


@dataclass(frozen=True)
class TrainingData:
    """Training data."""

    sequences: TSEArray
    targets: NDArray[Any]  # (n_sequences,), class numbers for a classifier
    sample_weight: NDArray[np.float64]  # (n_sequences,), each more than 0

    def part(self, indices: NDArray[np.intp]) -> TrainingData:
        """Return a subset by indices."""
        return TrainingData(
            self.sequences[indices], self.targets[indices], self.sample_weight[indices]
        )

    @cached_property
    def total_weight(self) -> float:
        """Sum of all sample weights."""
        return float(self.sample_weight.sum())

    def coefficients(self, batch: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the factor of each sample's loss in the loss of the batch, (n_samples,)."""
        mean_weight = self.total_weight / len(self.targets)
        coefficients: NDArray[np.float64] = self.sample_weight[batch] / (len(batch) * mean_weight)
        return coefficients


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of training; the names are those of the estimator's parameters."""

    loss: Loss
    learn_weights: bool
    learn_centroids: bool
    diagonal: bool
    path_refresh: str  # "epoch" or "batch"
    learning_rate: float
    centroid_learning_rate: float
    batch_size: int
    n_epochs: int
    n_threads: int
    patience: int = 0  # epochs without a lower loss on held-out data, only used with such data
    device: str = "cpu"  # or "cuda:N"
    half_storage: bool = False  # of sequences on a CUDA device


class InitialParameters:
    """Initial centroids and weights, and the scale in which they are learned.

    Both are learned in units of each feature's scale, so that features on different scales start
    equal. The data and the parameters themselves stay in their own units: centroids move in steps
    of the scale, and weights, which start as ``exp(scaled_log_weights) / scale``, move in steps of
    their logarithm. The given arrays become the parameters and are overwritten.
    """

    def __init__(
        self,
        centroids: NDArray[np.floating],
        scaled_log_weights: NDArray[np.floating],
        feature_scale: NDArray[np.floating],
    ) -> None:
        self.centroids = centroids
        self.weights = np.exp(scaled_log_weights, out=scaled_log_weights)
        self.weights /= feature_scale
        self.feature_scale = feature_scale

    @property
    def parameters(self) -> Parameters:
        """Centroids and weights, not copied."""
        return self.centroids, self.weights


class Snapshot:
    """A copy of the parameters that can be updated and restored.

    The parameters are arrays or tensors: both assign in place in the same way.
    """

    def __init__(self, parameters: tuple[Any, Any]) -> None:
        self._current = parameters
        self.parameters = copy.deepcopy(parameters)

    def take(self) -> None:
        """Copy the current parameters into the snapshot."""
        self.fill(self._current)

    def fill(self, parameters: tuple[Any, Any]) -> None:
        """Copy other parameters into the snapshot."""
        for stored, other in zip(self.parameters, parameters, strict=True):
            stored[...] = other

    def restore(self) -> None:
        """Copy the snapshot into the current parameters."""
        for stored, current in zip(self.parameters, self._current, strict=True):
            current[...] = stored


def evaluate_batch(
    problem: AlignmentProblem[Numbers],
    chooser: AlignmentProblem[Numbers] | None,
    batch: Batch[Any, Numbers],
    loss: Loss,
    diagonal: bool,
    store_gradients: Callable[[Numbers, Numbers], object],
) -> tuple[Numbers, ...]:
    """Evaluate the loss of a batch along the cheapest paths.

    Parameters
    ----------
    problem, chooser
        Alignment of the batch with the current parameters, and with those that choose the paths if
        these are others.
    store_gradients : callable
        Called with the runs of the paths and the gradients by the distances.

    Returns
    -------
    tuple of scalars
        The weighted sum of each metric of the loss.
    """
    if chooser is None:
        distances, runs = problem.paths(diagonal)
    else:
        _, runs = chooser.paths(diagonal)
        distances = problem.distances_along(runs)
    metrics, by_distances = loss.evaluate(distances, batch.targets)
    store_gradients(runs, batch.coefficients[:, None] * by_distances)
    return tuple(batch.sample_weight @ metric for metric in metrics)


def split(order: NDArray[np.intp], batch_size: int) -> list[NDArray[np.intp]]:
    """Split indices into batches, of which the last may be smaller."""
    return np.split(order, np.arange(batch_size, len(order), batch_size))
