"""Interfaces of what an engine computes with, on NumPy arrays or torch tensors alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = [
    "AlignmentProblem",
    "Batch",
    "Loss",
    "MeanOverSamples",
    "Numbers",
    "Parameters",
    "Problem",
    "Scalar",
    "TensorProblem",
]

Numbers = TypeVar("Numbers", NDArray[Any], "torch.Tensor")
Frames = TypeVar("Frames")

# A number, or a tensor with one number that a device may not have computed yet.
Scalar: TypeAlias = "float | torch.Tensor"

# Centroids and weights, each (n_centroids, n_timesteps, n_features), in the memory of the host.
Parameters: TypeAlias = tuple[NDArray[np.floating], NDArray[np.floating]]

# Returns the weighted mean over the training samples of a function that maps distances
# (n_samples, n_centroids) to one value per sample (n_samples,).
MeanOverSamples: TypeAlias = Callable[[Callable[[NDArray[np.float64]], NDArray[np.float64]]], float]


class AlignmentProblem(Protocol[Numbers]):
    """The alignment of each sequence with each centroid, on arrays or on tensors.

    A path is given by its *runs*: ``runs[s, c, i]`` are the first and the last frame of sequence
    ``s`` that are matched to time step ``i`` of centroid ``c``. They are int32, of shape
    (n_sequences, n_centroids, n_timesteps, 2). Distances, their gradients and sample weights are
    float64, of shape (n_sequences, n_centroids); everything else has the type of the centroids.
    """

    def distances(self, diagonal: bool) -> Numbers:
        """Return the distances along the cheapest paths."""

    def paths(self, diagonal: bool) -> tuple[Numbers, Numbers]:
        """Return the distances along the cheapest paths, and the runs of these paths."""

    def distances_along(self, runs: Numbers) -> Numbers:
        """Return the distances along given paths.

        Along the cheapest paths they agree with those of `paths` up to rounding: the same terms are
        added in another order.
        """

    def parameter_gradients(
        self, runs: Numbers, grad_distances: Numbers, out: tuple[Numbers, Numbers] | None = None
    ) -> tuple[Numbers, Numbers]:
        """Return the gradients by centroids and by weights along given paths."""

    def sequence_gradients(self, runs: Numbers, grad_distances: Numbers) -> Numbers:
        """Return the gradient by the frames (n_frames, n_features), sequence after sequence."""

    def barycenters(self, runs: Numbers, sample_weights: Numbers) -> Numbers:
        """Return the weighted means of the frames matched to each time step."""


Problem: TypeAlias = AlignmentProblem[NDArray[Any]]
TensorProblem: TypeAlias = "AlignmentProblem[torch.Tensor]"


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


@dataclass(slots=True)
class Batch(Generic[Frames, Numbers]):
    """The sequences of a batch on the device of an engine, with their targets and weights."""

    frames: Frames
    targets: Numbers  # (n_sequences,)
    sample_weight: Numbers  # (n_sequences,), float64
    coefficients: Numbers  # (n_sequences,), float64, see `TrainingData.coefficients`
