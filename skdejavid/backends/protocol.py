"""The interface between training and the backends: data, settings, loss and engine.

An engine stores the parameters on its device and computes with them batch by batch. The schedule
and all decisions belong to `skdejavid.training`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from skdejavid.sequences import TSEArray

if TYPE_CHECKING:
    import torch

__all__ = [
    "MOMENTS",
    "PARAMETERS",
    "Batch",
    "Engine",
    "InitialParameters",
    "Loss",
    "Snapshot",
    "TrainingData",
    "TrainingSettings",
    "evaluate_batch",
    "split",
]

# The arrays of `Engine.state_dict`: the parameters, two moments of each, and the number of steps.
PARAMETERS = ("centroids", "weights")
MOMENTS = ("centroids.first", "centroids.second", "weights.first", "weights.second", "n_steps")

Numbers = TypeVar("Numbers", NDArray[Any], "torch.Tensor")
Frames = TypeVar("Frames")

# A number, or a tensor with one number that a device may not have computed yet.
Scalar: TypeAlias = "float | torch.Tensor"

# Centroids and weights, each (n_centroids, n_timesteps, n_features), in the memory of the host.
Parameters: TypeAlias = tuple[NDArray[np.floating], NDArray[np.floating]]

# Returns the weighted mean over the training samples of a function that maps distances
# (n_samples, n_centroids) to one value per sample (n_samples,).
MeanOverSamples: TypeAlias = Callable[[Callable[[NDArray[np.float64]], NDArray[np.float64]]], float]


class Loss(Protocol):
    """A loss of the distances to all centroids; immutable.

    Engines evaluate it where the distances are, as NumPy arrays or torch tensors.
    """

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that `evaluate` returns; the first is the loss."""

    @property
    def scale(self) -> float | None:
        """Constant that distances are divided by, None as long as it has not been measured."""

    def with_scale(self, scale: float) -> Self:
        """Return the same loss with another scale."""

    def calibrate(self, mean: MeanOverSamples) -> Self:
        """Return the loss with a scale, measured on the initial distances if it is None."""

    def evaluate(self, distances: Numbers, targets: Numbers) -> tuple[tuple[Numbers, ...], Numbers]:
        """Return the metrics and the gradients of the loss by the distances.

        Parameters
        ----------
        distances : array or tensor of shape (n_samples, n_centroids), float64
        targets : array or tensor of shape (n_samples,)

        Returns
        -------
        metrics : tuple of array or tensor of shape (n_samples,), float64
        gradients : array or tensor of shape (n_samples, n_centroids), float64
        """


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
        for stored, current in zip(self.parameters, self._current, strict=True):
            stored[...] = current

    def restore(self) -> None:
        """Copy the snapshot into the current parameters."""
        for stored, current in zip(self.parameters, self._current, strict=True):
            current[...] = stored


@dataclass(slots=True)
class Batch(Generic[Frames, Numbers]):
    """The sequences of a batch on the device of an engine, with their targets and weights."""

    frames: Frames
    targets: Numbers  # (n_sequences,)
    sample_weight: Numbers  # (n_sequences,), float64
    coefficients: Numbers  # (n_sequences,), float64, see `TrainingData.coefficients`


class Engine(Protocol):
    """The parameters of one training and the computations with them."""

    def snapshot(self) -> Snapshot:
        """Return a copy of the current parameters."""

    def iter_batches(self, batches: list[NDArray[np.intp]]) -> Iterator[Batch[Any, Any]]:
        """Yield the data of each batch, given the indices of its sequences."""

    def evaluate(
        self, batch: Batch[Any, Any], loss: Loss, frozen: Snapshot | None
    ) -> tuple[Scalar, ...]:
        """Return the weighted sum of each metric of the loss over a batch.

        Stores the gradients of the batch's mean loss for the next steps. If `frozen` is given, its
        parameters choose the paths.
        """

    def is_finite(self, loss: Scalar, *, wait: bool) -> bool:
        """Return whether a loss is finite.

        Without `wait`, an engine whose device may not have computed the loss yet returns True.
        """

    def parameters_are_finite(self) -> bool:
        """Return whether all centroids and weights are finite."""

    def move_centroids(self, learning_rate: float) -> None:
        """Move the centroids by one step of Adam."""

    def move_weights(self, learning_rate: float) -> None:
        """Move the logarithms of the weights by one step of Adam."""

    def to_float(self, scalar: Scalar) -> float:
        """Convert a scalar to a float, waiting for the device if necessary."""

    def distances(
        self, data: TrainingData
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Yield indices of sequences and their distances (n_sequences, n_centroids) by batch."""

    def parameters(self, snapshot: Snapshot | None = None) -> Parameters:
        """Return the centroids and weights of a snapshot, or the current ones if it is None.

        An engine of the CPU returns its own arrays and not copies.
        """

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the arrays named by `PARAMETERS` and `MOMENTS`."""

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set the parameters and the state of the optimizer from `state_dict` of another engine."""


def evaluate_batch(
    problem: Any,
    chooser: Any | None,
    batch: Batch[Any, Numbers],
    loss: Loss,
    diagonal: bool,
    store_gradients: Callable[[Any, Any], object],
) -> tuple[Numbers, ...]:
    """Evaluate the loss of a batch along the cheapest paths.

    Parameters
    ----------
    problem, chooser
        Alignment of the batch with the current parameters, and with those that choose the paths if
        these are others; both of one type with the methods of `_core.ProblemFloat32`.
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
