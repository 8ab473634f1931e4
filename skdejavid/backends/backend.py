"""Interfaces of a backend, the code that computes alignments on one kind of device.

An engine stores the parameters on its device and computes with them batch by batch. The schedule
and all decisions belong to `skdejavid.training`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skdejavid.backends.interfaces import (
    Batch,
    Loss,
    Parameters,
    Problem,
    Scalar,
    TensorProblem,
)
from skdejavid.backends.state import InitialParameters, Snapshot, TrainingData, TrainingSettings
from skdejavid.sequences import SequenceView

if TYPE_CHECKING:
    import torch

__all__ = ["Backend", "Engine", "split_device"]


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

    def fill_snapshot(self, snapshot: Snapshot, parameters: Parameters) -> None:
        """Copy centroids and weights, as `parameters` returns them, into a snapshot."""

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the arrays named by `PARAMETERS` and `MOMENTS`."""

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Set the parameters and the state of the optimizer from `state_dict` of another engine."""


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

    def paths_bytes(
        self, n_frames: int, shape: tuple[int, int, int], dtype: np.dtype[Any], n_threads: int
    ) -> float:
        """Return the bytes of memory of the host that paths take, their results included.

        The paths are those between one sequence of `n_frames` frames and centroids of this shape
        (n_centroids, n_timesteps, n_features). Nothing is allocated.
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
