"""The engine of a CUDA device: everything that training computes with stays there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.backends.cuda_device import CudaDevice
from skdejavid.backends.cuda_frames import CudaFrames, ResidentFrames, StreamedFrames
from skdejavid.backends.cuda_problem import CudaTensorProblem, adam_step
from skdejavid.backends.protocol import (
    MOMENTS,
    InitialParameters,
    Snapshot,
    TrainingData,
    TrainingSettings,
    split,
)
from skdejavid.sequences import TSEArray
from skdejavid.training.loss import cross_entropy

if TYPE_CHECKING:
    import torch

__all__ = ["CudaEngine"]

# Of the memory that is free, so much is not taken by sequences that stay on the device: workspace,
# and what belongs to one batch. Snapshots of the parameters come on top.
_KEPT_FREE_BYTES = 2**30
_ARRAYS_OF_SNAPSHOTS = 4  # of the start of the epoch, and of the best one


@dataclass(frozen=True)
class CudaBatch:
    """What has to be on the device of a batch."""

    frames: CudaFrames
    labels: torch.Tensor  # (n_sequences,), int64
    sample_weight: torch.Tensor  # (n_sequences,), float64
    coefficients: torch.Tensor  # the same shape and type

    def part(self, begin: int, end: int) -> CudaBatch:
        """Some of it, which still adds the same to the loss of the batch."""
        some = slice(begin, end)
        return CudaBatch(
            self.frames.part(begin, end),
            self.labels[some],
            self.sample_weight[some],
            self.coefficients[some],
        )


class CudaEngine:
    """See `skdejavid.backends.protocol.Engine`; its scalars are tensors.

    The device is waited for after the first batch of an epoch, and at its end: nowhere else.
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
        self._n_parts = 1  # that a batch is evaluated in
        # After these, because it takes what memory is left, but for that of snapshots.
        self._frames = {id(data.sequences): self._frames_of(data.sequences)}

    def snapshot(self) -> Snapshot:
        with self._device.explain_oom(2 * self._parameter_bytes, "lower n_timesteps"):
            return Snapshot(self._parameters)

    def load(self, batches: list[NDArray[np.intp]]) -> Iterator[CudaBatch]:
        data = self._data
        loaded = self._frames[id(data.sequences)].load(batches)
        for batch, frames in zip(batches, loaded, strict=True):
            labels = self._device.upload(data.labels[batch].astype(np.int64))
            numbers = np.stack([data.sample_weight[batch], data.coefficients(batch)])
            yield CudaBatch(frames, labels, *self._device.upload(numbers))

    def evaluate(
        self, batch: CudaBatch, scale: float, frozen: Snapshot | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n_sequences = len(batch.frames)
        while True:
            try:
                return self._evaluate_in_parts(batch, scale, frozen)
            except (self._device.torch.cuda.OutOfMemoryError, MemoryError) as error:
                if self._n_parts >= n_sequences:
                    n_bytes = 8 * math.prod(self._parameters[0].shape[:2])  # runs of one sequence
                    advice = "lower batch_size or n_timesteps, or set half_storage=True"
                    raise self._device.out_of_memory(n_bytes, advice) from error
            # Only here is what the failed attempt held let go of.
            self._n_parts = min(2 * self._n_parts, n_sequences)
            self._device.empty_cache()

    def may_go_on(self, loss: torch.Tensor, *, is_first: bool) -> bool:
        return not is_first or math.isfinite(loss.item())

    def move_centroids(self, learning_rate: float) -> None:
        self._move(0, learning_rate)

    def move_weights(self, learning_rate: float) -> None:
        self._move(1, learning_rate)

    def is_finite(self) -> bool:
        finite = [tensor.isfinite().all() for tensor in self._parameters]
        return bool(self._device.torch.stack(finite).all().item())

    def read(self, scalar: torch.Tensor | float) -> float:
        return float(scalar)

    def distances(
        self, data: TrainingData
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        key = id(data.sequences)
        if key not in self._frames:
            self._frames[key] = self._frames_of(data.sequences)
        batches = split(np.arange(len(data.labels)), self._settings.batch_size)
        for batch, frames in zip(batches, self._frames[key].load(batches), strict=True):
            distances = self._problem(frames, self._parameters).distances(self._settings.diagonal)
            yield batch, distances.cpu().numpy()

    def results(
        self, kept: Snapshot | None = None
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        centroids, weights = map(
            self._on_host, self._parameters if kept is None else kept.parameters
        )
        return centroids, weights

    def moments(self) -> dict[str, NDArray[Any]]:
        moments = [self._on_host(tensor) for pair in self._moments for tensor in pair]
        return dict(zip(MOMENTS, [*moments, np.array(self._n_steps)], strict=True))

    def go_on(
        self,
        parameters: tuple[NDArray[np.floating], NDArray[np.floating]],
        moments: Mapping[str, NDArray[Any]],
    ) -> None:
        *saved, n_steps = (moments[name] for name in MOMENTS)
        self._n_steps = n_steps.tolist()
        targets = [tensor for pair in self._moments for tensor in pair]
        for target, array in zip([*self._parameters, *targets], [*parameters, *saved], strict=True):
            target.copy_(self._device.to_padded_rows(array))

    def fill(
        self, kept: Snapshot, parameters: tuple[NDArray[np.floating], NDArray[np.floating]]
    ) -> None:
        for target, array in zip(kept.parameters, parameters, strict=True):
            target.copy_(self._device.to_padded_rows(array))

    def _on_host(self, tensor: torch.Tensor) -> NDArray[np.floating]:
        """Without the padding."""
        array: NDArray[np.floating] = tensor[..., : self._n_features].cpu().numpy()
        return np.ascontiguousarray(array)

    def _evaluate_in_parts(
        self, batch: CudaBatch, scale: float, frozen: Snapshot | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        loss = hits = None
        limits = np.linspace(0, len(batch.frames), min(self._n_parts, len(batch.frames)) + 1)
        for begin, end in zip(limits[:-1].astype(int), limits[1:].astype(int), strict=True):
            part = batch.part(int(begin), int(end))
            more_loss, more_hits = self._evaluate(part, scale, frozen, adds=loss is not None)
            loss = more_loss if loss is None else loss + more_loss
            hits = more_hits if hits is None else hits + more_hits
        assert loss is not None
        assert hits is not None
        return loss, hits

    def _evaluate(
        self, batch: CudaBatch, scale: float, frozen: Snapshot | None, *, adds: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        settings = self._settings
        live = self._problem(batch.frames, self._parameters)
        if frozen is None:
            distances, runs = live.paths(settings.diagonal)
        else:
            chooser = self._problem(batch.frames, frozen.parameters)
            _, runs = chooser.paths(settings.diagonal)
            distances = live.distances_along(runs)
        losses, by_distances = cross_entropy(distances, batch.labels, settings.normalization, scale)
        grad_distances = batch.coefficients[:, None] * by_distances
        gradients = self._gradients[0], self._gradients[1]
        live.parameter_gradients(runs, grad_distances, gradients, adds=adds)
        is_hit = (distances.argmin(dim=1) == batch.labels).double()
        return batch.sample_weight @ losses, batch.sample_weight @ is_hit

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
        """On the device for good if there is room."""
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
        """Of centroids, and of each array of their size."""
        return int(self._parameters[0].nbytes)
