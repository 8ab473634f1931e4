"""The engine of a CUDA device: parameters, gradients and moments stay in the device's memory."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skdejavid.backends.cuda_device import CudaDevice
from skdejavid.backends.cuda_frames import CudaFrames, ResidentFrames, StreamedFrames
from skdejavid.backends.cuda_problem import CudaTensorProblem, adam_step
from skdejavid.backends.interfaces import Batch, Loss, Parameters, Scalar
from skdejavid.backends.state import (
    MOMENTS,
    PARAMETERS,
    InitialParameters,
    Snapshot,
    TrainingData,
    TrainingSettings,
    evaluate_batch,
    split,
)
from skdejavid.sequences import TSEArray

if TYPE_CHECKING:
    import torch

__all__ = ["CudaEngine"]

CudaBatch: TypeAlias = "Batch[CudaFrames, torch.Tensor]"

# Free memory that sequences kept on the device leave for the workspace and the data of one batch.
# Snapshots of the parameters come on top.
_KEPT_FREE_BYTES = 2**30
_ARRAYS_OF_SNAPSHOTS = 4  # of the start of the epoch, and of the best epoch


class CudaEngine:
    """The engine of a CUDA device, see `skdejavid.backends.backend.Engine`; scalars are tensors.

    During an epoch the host waits for the device only after the first batch, at the end, and when
    streamed batches would pile up (see `StreamedFrames`).
    """

    def __init__(
        self,
        device: CudaDevice,
        data: TrainingData,
        initial: InitialParameters,
        settings: TrainingSettings,
    ) -> None:
        self._device, self._data, self._settings = device, data, settings
        self._n_features = initial.centroids.shape[2]
        with device.explain_oom(8 * initial.centroids.nbytes, "lower n_timesteps"):
            self._parameters = (
                device.to_padded_rows(initial.centroids),
                device.to_padded_rows(initial.weights),
            )
            if settings.n_epochs > 0:
                zeros = device.torch.zeros_like
                self._gradients = tuple(zeros(tensor) for tensor in self._parameters)
                self._moments = tuple((zeros(tensor), zeros(tensor)) for tensor in self._parameters)
                self._scales = device.to_padded_rows(initial.feature_scale), None
                self._n_steps = [0, 0]
        self._n_parts = 1  # parts in which a batch is evaluated
        # Last, because sequences may take all the memory that is left except that of snapshots.
        self._frames = {id(data.sequences): self._frames_of(data.sequences)}

    def snapshot(self) -> Snapshot:
        with self._device.explain_oom(2 * self._parameter_bytes, "lower n_timesteps"):
            return Snapshot(self._parameters)

    def iter_batches(self, batches: list[NDArray[np.intp]]) -> Iterator[CudaBatch]:
        data = self._data
        loaded = self._frames[id(data.sequences)].iter_batches(batches)
        for batch, frames in zip(batches, loaded, strict=True):
            targets = self._device.upload(data.targets[batch])
            numbers = np.stack([data.sample_weight[batch], data.coefficients(batch)])
            yield Batch(frames, targets, *self._device.upload(numbers))

    def evaluate(
        self, batch: CudaBatch, loss: Loss, frozen: Snapshot | None
    ) -> tuple[torch.Tensor, ...]:
        n_sequences = len(batch.frames)
        while True:
            try:
                return self._evaluate_in_parts(batch, loss, frozen)
            except (self._device.torch.cuda.OutOfMemoryError, MemoryError) as error:
                if self._n_parts >= n_sequences:
                    n_bytes = 8 * math.prod(self._parameters[0].shape[:2])  # runs of one sequence
                    advice = "lower batch_size or n_timesteps, or set half_storage=True"
                    raise self._device.out_of_memory(n_bytes, advice) from error
            # The tensors of the failed attempt are freed only after the `except` block ends.
            self._n_parts = min(2 * self._n_parts, n_sequences)
            self._device.empty_cache()

    def is_finite(self, loss: Scalar, *, wait: bool) -> bool:
        return not wait or math.isfinite(loss)

    def move_centroids(self, learning_rate: float) -> None:
        self._move(0, learning_rate)

    def move_weights(self, learning_rate: float) -> None:
        self._move(1, learning_rate)

    def parameters_are_finite(self) -> bool:
        finite = [tensor.isfinite().all() for tensor in self._parameters]
        return bool(self._device.torch.stack(finite).all().item())

    def to_float(self, scalar: Scalar) -> float:
        return float(scalar)

    def distances(
        self, data: TrainingData
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        key = id(data.sequences)
        if key not in self._frames:
            self._frames[key] = self._frames_of(data.sequences)
        batches = split(np.arange(len(data.targets)), self._settings.batch_size)
        for batch, frames in zip(batches, self._frames[key].iter_batches(batches), strict=True):
            distances = self._problem(frames, self._parameters).distances(self._settings.diagonal)
            yield batch, distances.cpu().numpy()

    def parameters(self, snapshot: Snapshot | None = None) -> Parameters:
        tensors = self._parameters if snapshot is None else snapshot.parameters
        centroids, weights = map(self._to_array, tensors)
        return centroids, weights

    def fill_snapshot(self, snapshot: Snapshot, parameters: Parameters) -> None:
        centroids, weights = map(self._device.to_padded_rows, parameters)
        snapshot.fill((centroids, weights))

    def state_dict(self) -> dict[str, NDArray[Any]]:
        arrays = [*map(self._to_array, self._state_tensors()), np.array(self._n_steps)]
        return dict(zip(PARAMETERS + MOMENTS, arrays, strict=True))

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        *arrays, n_steps = (state[name] for name in PARAMETERS + MOMENTS)
        for target, array in zip(self._state_tensors(), arrays, strict=True):
            target.copy_(self._device.to_padded_rows(array))
        self._n_steps = n_steps.tolist()

    def _state_tensors(self) -> list[torch.Tensor]:
        """Return the tensors that training changes, in the order of their names."""
        return [*self._parameters, *(tensor for pair in self._moments for tensor in pair)]

    def _to_array(self, rows: torch.Tensor) -> NDArray[np.floating]:
        return self._device.to_array(rows, self._n_features)

    def _evaluate_in_parts(
        self, batch: CudaBatch, loss: Loss, frozen: Snapshot | None
    ) -> tuple[torch.Tensor, ...]:
        n_sequences = len(batch.frames)
        limits = np.linspace(0, n_sequences, min(self._n_parts, n_sequences) + 1).astype(int)
        totals: tuple[torch.Tensor, ...] = ()
        for begin, end in pairwise(limits.tolist()):
            metrics = self._evaluate(_part(batch, begin, end), loss, frozen, adds=begin > 0)
            totals = tuple(map(operator.add, totals, metrics)) if totals else metrics
        return totals

    def _evaluate(
        self, batch: CudaBatch, loss: Loss, frozen: Snapshot | None, *, adds: bool
    ) -> tuple[torch.Tensor, ...]:
        problem = self._problem(batch.frames, self._parameters)
        chooser = None if frozen is None else self._problem(batch.frames, frozen.parameters)
        gradients = self._gradients[0], self._gradients[1]
        store_gradients = partial(problem.parameter_gradients, out=gradients, adds=adds)
        diagonal = self._settings.diagonal
        return evaluate_batch(problem, chooser, batch, loss, diagonal, store_gradients)

    def _move(self, which: int, learning_rate: float) -> None:
        self._n_steps[which] += 1
        adam_step(
            self._device,
            self._parameters[which],
            self._gradients[which],
            self._moments[which],
            self._scales[which],
            self._n_features,
            learning_rate,
            self._n_steps[which],
        )

    def _problem(
        self, frames: CudaFrames, parameters: tuple[torch.Tensor, torch.Tensor]
    ) -> CudaTensorProblem:
        return CudaTensorProblem(self._device, frames, *parameters, self._n_features)

    def _frames_of(self, sequences: TSEArray) -> ResidentFrames | StreamedFrames:
        """Return the frames, resident on the device if they fit into its free memory."""
        torch = self._device.torch
        dtype = torch.float16 if self._settings.half_storage else self._parameters[0].dtype
        view = sequences.view()
        kept_free = _KEPT_FREE_BYTES + _ARRAYS_OF_SNAPSHOTS * self._parameter_bytes
        if ResidentFrames.fits(self._device, view, dtype, kept_free):
            with suppress(torch.cuda.OutOfMemoryError):
                return ResidentFrames(self._device, view, dtype)
            self._device.empty_cache()
        return StreamedFrames(self._device, view, dtype)

    @property
    def _parameter_bytes(self) -> int:
        """Size of the centroids, and of each other tensor of their shape."""
        return int(self._parameters[0].nbytes)


def _part(batch: CudaBatch, begin: int, end: int) -> CudaBatch:
    """Return some sequences of a batch, with their unchanged share of the batch's loss."""
    part = slice(begin, end)
    return Batch(
        batch.frames.part(begin, end),
        batch.targets[part],
        batch.sample_weight[part],
        batch.coefficients[part],
    )
