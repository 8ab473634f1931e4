"""Interfaces of a backend, the code that computes alignments on one kind of device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from skdejavid.backends.protocol import Engine, InitialParameters, TrainingData, TrainingSettings
from skdejavid.sequences import SequenceView

if TYPE_CHECKING:
    import torch

__all__ = ["AlignmentProblem", "Backend", "Problem", "TensorProblem", "split_device"]

Numbers = TypeVar("Numbers")  # NumPy arrays or tensors


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


class Backend(Protocol):
    """The code that computes on one kind of device.

    Devices are named after their backend, with a number where there are several: "cpu", "cuda:0".
    The devices given to all other methods are names that `resolve` returned.
    """

    stores_half: bool  # whether TrainingSettings.half_storage has an effect

    def resolve(self, device: str) -> str:
        """Return the canonical name of a device, or raise an error that says why it is unusable."""

    def owns(self, tensor: torch.Tensor) -> bool:
        """Return whether `tensor_problem` computes on the memory of a tensor.

        Tensors that no backend owns are copied to the host, and computed on by the CPU's backend.
        """

    def problem(
        self,
        device: str,
        sequences: SequenceView,
        centroids: NDArray[np.floating],
        weights: NDArray[np.floating],
        *,
        n_threads: int,
    ) -> Problem:
        """Return the problem of aligning sequences with centroids, which are in host memory."""

    def tensor_problem(
        self,
        values: torch.Tensor,
        lengths: NDArray[np.int64],
        centroids: torch.Tensor,
        weights: torch.Tensor,
        *,
        n_threads: int,
    ) -> TensorProblem:
        """Return the problem for tensors that this backend owns.

        `values` (n_frames, n_features) has the frames of all sequences, one after the other, in the
        floating type of the centroids.
        """

    def engine(
        self, data: TrainingData, initial: InitialParameters, settings: TrainingSettings
    ) -> Engine:
        """Return the engine that trains on ``settings.device``."""

    def describe(self) -> dict[str, str]:
        """Return what `skdejavid.show_versions` prints about the backend."""


def split_device(device: str) -> tuple[str, int | None]:
    """Return the backend's name and the number in "name" or "name:N".

    Raises
    ------
    ValueError
        If `device` has another form.
    """
    name, separator, number = device.partition(":")
    if separator and not number.isdecimal():
        raise ValueError(f"the part of device after ':' must be a number, got {device!r}")
    return name, int(number) if separator else None
