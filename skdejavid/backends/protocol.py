"""What a training run computes with: parameters, their gradients and moments, batch by batch.

An engine keeps them where it computes. Schedule and decisions are `skdejavid.training`'s.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skdejavid.sequences import TSEArray

__all__ = [
    "MOMENTS",
    "Engine",
    "InitialParameters",
    "Snapshot",
    "TrainingData",
    "TrainingSettings",
    "split",
]


# What `Engine.moments` names: two of the centroids, two of the weights, and steps taken with each.
MOMENTS = ("centroids.first", "centroids.second", "weights.first", "weights.second", "n_steps")


@dataclass(frozen=True)
class TrainingData:
    """What is learned from."""

    sequences: TSEArray
    labels: NDArray[np.intp]  # (n_sequences,), class numbers
    sample_weight: NDArray[np.float64]  # (n_sequences,), each more than 0

    def part(self, indices: NDArray[np.intp]) -> TrainingData:
        """Some of it."""
        return TrainingData(
            self.sequences[indices], self.labels[indices], self.sample_weight[indices]
        )

    @cached_property
    def total_weight(self) -> float:
        """Of all samples."""
        return float(self.sample_weight.sum())

    def coefficients(self, batch: NDArray[np.intp]) -> NDArray[np.float64]:
        """What the loss of each sample of a batch is multiplied by in the loss of the batch."""
        mean_weight = self.total_weight / len(self.labels)
        coefficients: NDArray[np.float64] = self.sample_weight[batch] / (len(batch) * mean_weight)
        return coefficients


@dataclass(frozen=True)
class TrainingSettings:
    """How it is learned; the names are those of the estimator's parameters."""

    normalization: str  # "layer" or "global"
    temperature: float  # of "global" normalization
    learn_weights: bool
    learn_centroids: bool
    diagonal: bool
    path_refresh: str  # "epoch" or "batch"
    learning_rate: float
    centroid_learning_rate: float
    batch_size: int
    n_epochs: int
    n_threads: int
    patience: int = 0  # epochs without a better loss on held-out data, only used with such
    distance_scale: float | None = None  # of "global" normalization; None: measured at the start
    device: str = "cpu"  # or "cuda:N"
    half_storage: bool = False  # of sequences on a CUDA device


class InitialParameters:
    """Centroids and weights, and how they move.

    Both are learned in units of each feature's scale, so that features on different scales start
    equal, while the data and the parameters themselves stay in their own units: centroids move in
    steps of the scale, and weights, which are ``exp(scaled_log_weights) / scale`` at first, move in
    steps of their logarithm. The arrays given are taken over.
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
    def parameters(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Centroids and weights, themselves and not copies."""
        return self.centroids, self.weights


class Snapshot:
    """A copy of parameters, taken anew whenever they are good ones to go back to.

    Of arrays or of tensors, which agree in what is used of them.
    """

    def __init__(self, parameters: tuple[Any, Any]) -> None:
        self._current = parameters
        self.parameters = copy.deepcopy(parameters)

    def take(self) -> None:
        for kept, current in zip(self.parameters, self._current, strict=True):
            kept[...] = current

    def restore(self) -> None:
        for kept, current in zip(self.parameters, self._current, strict=True):
            current[...] = kept


class Engine(Protocol):
    """One training run's parameters and what is computed with them.

    A *scalar* is a number, or a promise of one that is kept by `read`.
    """

    def snapshot(self) -> Snapshot:
        """A copy of the parameters as they are now."""

    def load(self, batches: list[NDArray[np.intp]]) -> Iterator[Any]:
        """What has to be there of one batch after the other."""

    def evaluate(self, batch: Any, scale: float, frozen: Snapshot | None) -> tuple[Any, Any]:
        """Summed loss of a batch, and summed weight of what is classified right, two scalars.

        Fills in the gradients of the mean loss. `frozen` parameters choose the paths, if any.
        """

    def may_go_on(self, loss: Any, *, is_first: bool) -> bool:
        """False if the loss is known not to be finite; that of the first batch always is known."""

    def move_centroids(self, learning_rate: float) -> None:
        """One step of Adam."""

    def move_weights(self, learning_rate: float) -> None:
        """One step of Adam for the logarithms."""

    def is_finite(self) -> bool:
        """Whether all parameters are."""

    def read(self, scalar: Any) -> float:
        """The number."""

    def distances(
        self, data: TrainingData
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Indices of some sequences after the other, and their distances by the parameters."""

    def results(
        self, kept: Snapshot | None = None
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Centroids and weights as they are now, or were when a snapshot was taken."""

    def moments(self) -> dict[str, NDArray[Any]]:
        """What the optimizer knows: moments by name, and how many steps were taken."""

    def go_on(
        self,
        parameters: tuple[NDArray[np.floating], NDArray[np.floating]],
        moments: Mapping[str, NDArray[Any]],
    ) -> None:
        """Set centroids and weights, and what `moments` gave."""

    def fill(
        self, kept: Snapshot, parameters: tuple[NDArray[np.floating], NDArray[np.floating]]
    ) -> None:
        """Set what a snapshot holds."""


def split(order: NDArray[np.intp], batch_size: int) -> list[NDArray[np.intp]]:
    """Batches, of which the last may be smaller."""
    return np.split(order, np.arange(batch_size, len(order), batch_size))
