"""The native core's CUDA problems and optimizer, called on tensors or on arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdejavid import _core
from skdejavid.backends.cuda_device import CudaDevice
from skdejavid.backends.cuda_frames import (
    CHUNK_BYTES,
    CudaFrames,
    ResidentFrames,
    StreamedFrames,
    split_by_frames,
)
from skdejavid.sequences import SequenceView

if TYPE_CHECKING:
    import torch

__all__ = ["CudaArrayProblem", "CudaTensorProblem", "adam_step"]

_WORKSPACE_BYTES = 2**28  # of costs; larger problems are computed in parts


class CudaTensorProblem:
    """See `skdejavid.backends.interfaces.AlignmentProblem`; on tensors of a CUDA device.

    Parameters
    ----------
    device : CudaDevice
    frames : CudaFrames
        The sequences; float16, or the type of the parameters.
    centroids, weights : tensors of shape (n_centroids, n_timesteps, pitch)
        Padded rows, float32 or float64.
    n_features : int
        Number of features without padding, at most the pitch.
    """

    def __init__(
        self,
        device: CudaDevice,
        frames: CudaFrames,
        centroids: torch.Tensor,
        weights: torch.Tensor,
        n_features: int,
    ) -> None:
        self._device, self._frames, self._n_features = device, frames, n_features
        self._centroids, self._weights = centroids, weights
        problems = {
            device.torch.float16: device.native.CudaProblemFloat16,
            device.torch.float32: device.native.CudaProblemFloat32,
            device.torch.float64: device.native.CudaProblemFloat64,
        }
        self._native = problems[frames.values.dtype]

    def distances(self, diagonal: bool) -> torch.Tensor:
        return self._align(diagonal, with_runs=False)[0]

    def paths(self, diagonal: bool) -> tuple[torch.Tensor, torch.Tensor]:
        return self._align(diagonal, with_runs=True)

    def distances_along(self, runs: torch.Tensor) -> torch.Tensor:
        torch = self._device.torch
        distances = self._device.empty(self._pairs_shape(), torch.float64)

        def compute(frames: CudaFrames, begin: int, end: int) -> None:
            problem = self._problem(frames)
            workspace = self._workspace(problem.along_bytes())
            problem.distances_along(
                runs[begin:end].data_ptr(), distances[begin:end].data_ptr(), workspace.data_ptr()
            )

        n_rows = self._centroids.shape[0] * self._centroids.shape[1]
        parts_per_row = -(-self._n_features // 64)
        self._in_parts(compute, n_rows * parts_per_row * 8, per_frame=False)
        return distances

    def parameter_gradients(
        self,
        runs: torch.Tensor,
        grad_distances: torch.Tensor,
        out: tuple[torch.Tensor, torch.Tensor] | None = None,
        *,
        adds: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients by centroids and by weights along given paths.

        Parameters
        ----------
        runs, grad_distances : tensors
        out : tuple of two tensors (n_centroids, n_timesteps, pitch), optional
            Padded rows for the gradients. None allocates them.
        adds : bool, default=False
            Whether to add to `out` instead of replacing it.

        Returns
        -------
        tuple of two tensors (n_centroids, n_timesteps, n_features)
            Views without padding.
        """
        if out is None:
            zeros = self._device.torch.zeros_like
            out = zeros(self._centroids), zeros(self._weights)
        if any(rows.shape != self._centroids.shape for rows in out):
            raise ValueError(
                f"out must have the shape {tuple(self._centroids.shape)} of padded centroids, "
                f"got {tuple(out[0].shape)} and {tuple(out[1].shape)}"
            )
        self._problem(self._frames).parameter_gradients(
            runs.data_ptr(), grad_distances.data_ptr(), adds, out[0].data_ptr(), out[1].data_ptr()
        )
        return self._without_padding(out[0]), self._without_padding(out[1])

    def sequence_gradients(self, runs: torch.Tensor, grad_distances: torch.Tensor) -> torch.Tensor:
        shape = self._frames.n_frames, self._centroids.shape[2]
        gradients = self._device.empty(shape, self._centroids.dtype)
        self._problem(self._frames).sequence_gradients(
            runs.data_ptr(), grad_distances.data_ptr(), gradients.data_ptr()
        )
        return self._without_padding(gradients)

    def barycenters(self, runs: torch.Tensor, sample_weights: torch.Tensor) -> torch.Tensor:
        means = self._device.torch.zeros_like(self._centroids)
        self._problem(self._frames).barycenters(
            runs.data_ptr(), sample_weights.data_ptr(), means.data_ptr()
        )
        return self._without_padding(means)

    def _without_padding(self, rows: torch.Tensor) -> torch.Tensor:
        return rows[..., : self._n_features]

    def _pairs_shape(self) -> tuple[int, int]:
        return len(self._frames), self._centroids.shape[0]

    def _align(self, diagonal: bool, *, with_runs: bool) -> tuple[torch.Tensor, torch.Tensor]:
        torch = self._device.torch
        distances = self._device.empty(self._pairs_shape(), torch.float64)
        n_timesteps = self._centroids.shape[1] if with_runs else 0
        runs = self._device.empty((*self._pairs_shape(), n_timesteps, 2), torch.int32)

        def compute(frames: CudaFrames, begin: int, end: int) -> None:
            problem = self._problem(frames)
            workspace = self._workspace(problem.align_bytes(with_runs))
            problem.align(
                diagonal,
                distances[begin:end].data_ptr(),
                runs[begin:end].data_ptr() if with_runs else 0,
                workspace.data_ptr(),
            )

        n_rows = self._centroids.shape[0] * self._centroids.shape[1]
        self._in_parts(compute, n_rows * self._centroids.dtype.itemsize, per_frame=True)
        return distances, runs

    def _in_parts(
        self, compute: Callable[[CudaFrames, int, int], None], n_bytes: int, *, per_frame: bool
    ) -> None:
        """Call `compute` for parts of the sequences whose workspace stays below a bound.

        `n_bytes` is the workspace per frame, or per sequence. If it cannot be allocated, the bound
        is halved, down to single sequences, and all parts are computed again.
        """
        lengths = self._frames.host_lengths
        counted = lengths if per_frame else np.ones_like(lengths)
        bound = _WORKSPACE_BYTES
        while True:
            parts = split_by_frames(counted, bound / n_bytes)
            try:
                for part in parts:
                    compute(self._frames.part(part.start, part.stop), part.start, part.stop)
                return
            except self._device.torch.cuda.OutOfMemoryError as error:
                if len(parts) == len(lengths):
                    advice = "lower n_timesteps, or cut long sequences"
                    raise self._device.out_of_memory(self._wanted_bytes, advice) from error
            # The failed attempt's tensors are freed only after the `except` block ends.
            bound = min(bound, int(counted.sum()) * n_bytes) // 2
            self._device.empty_cache()

    def _workspace(self, n_bytes: int) -> torch.Tensor:
        self._wanted_bytes = n_bytes
        return self._device.empty((n_bytes,), self._device.torch.uint8)

    def _problem(self, frames: CudaFrames) -> Any:
        n_centroids, n_timesteps, pitch = self._centroids.shape
        return self._native(
            device=self._device.number,
            stream=self._device.stream(),
            values=frames.values.data_ptr(),
            value_pitch=frames.values.shape[1],
            starts=frames.starts.data_ptr(),
            lengths=frames.lengths.data_ptr(),
            offsets=frames.offsets.data_ptr(),
            n_sequences=len(frames),
            n_frames=frames.n_frames,
            longest=int(frames.host_lengths.max()),
            centroids=self._centroids.data_ptr(),
            weights=self._weights.data_ptr(),
            parameter_pitch=pitch,
            n_centroids=n_centroids,
            n_timesteps=n_timesteps,
            n_features=self._n_features,
        )


class CudaArrayProblem:
    """See `skdejavid.backends.interfaces.AlignmentProblem`; on arrays in host memory.

    Each call copies the sequences to the device part by part.

    Parameters
    ----------
    device : CudaDevice
    sequences : SequenceView
    centroids, weights : arrays of shape (n_centroids, n_timesteps, n_features)
        Of the floating type of the sequences.
    """

    def __init__(
        self,
        device: CudaDevice,
        sequences: SequenceView,
        centroids: NDArray[np.floating],
        weights: NDArray[np.floating],
    ) -> None:
        self._device, self._sequences = device, sequences
        self._shape = centroids.shape
        self._dtype = device.dtype_of(centroids)
        with device.explain_oom(2 * centroids.nbytes, "use fewer or shorter centroids"):
            self._parameters = device.to_padded_rows(centroids), device.to_padded_rows(weights)

    def distances(self, diagonal: bool) -> NDArray[np.float64]:
        distances = np.empty(self._pairs_shape())
        for part, problem in self._problems():
            distances[part] = problem.distances(diagonal).cpu()
        return distances

    def paths(self, diagonal: bool) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        distances = np.empty(self._pairs_shape())
        runs = np.empty((*self._pairs_shape(), self._shape[1], 2), dtype=np.int32)
        for part, problem in self._problems():
            part_distances, part_runs = problem.paths(diagonal)
            distances[part], runs[part] = part_distances.cpu(), part_runs.cpu()
        return distances, runs

    def distances_along(self, runs: NDArray[np.int32]) -> NDArray[np.float64]:
        distances = np.empty(self._pairs_shape())
        for part, problem in self._problems():
            distances[part] = problem.distances_along(self._upload_runs(runs, part)).cpu()
        return distances

    def parameter_gradients(
        self,
        runs: NDArray[np.int32],
        grad_distances: NDArray[np.float64],
        out: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        zeros = self._device.torch.zeros_like
        sums = zeros(self._parameters[0]), zeros(self._parameters[1])
        for part, problem in self._problems():
            uploaded = self._upload_runs(runs, part), self._device.upload(grad_distances[part])
            problem.parameter_gradients(*uploaded, sums, adds=True)
        gradients = self._to_array(sums[0]), self._to_array(sums[1])
        if out is None:
            return gradients
        for target, gradient in zip(out, gradients, strict=True):
            target[...] = gradient
        return out

    def sequence_gradients(
        self, runs: NDArray[np.int32], grad_distances: NDArray[np.float64]
    ) -> NDArray[np.floating]:
        gradients = []
        for part, problem in self._problems():
            uploaded = self._upload_runs(runs, part), self._device.upload(grad_distances[part])
            gradients.append(self._to_array(problem.sequence_gradients(*uploaded)))
        return np.concatenate(gradients)

    def barycenters(
        self, runs: NDArray[np.int32], sample_weights: NDArray[np.float64]
    ) -> NDArray[np.floating]:
        everything = slice(0, len(self._sequences.lengths))
        resident = ResidentFrames(self._device, self._sequences, self._dtype)
        (frames,) = resident.iter_batches([np.arange(len(self._sequences.lengths))])
        uploaded = self._upload_runs(runs, everything), self._device.upload(sample_weights)
        return self._to_array(self._problem(frames).barycenters(*uploaded))

    def _pairs_shape(self) -> tuple[int, int]:
        return len(self._sequences.lengths), self._shape[0]

    def _problems(self) -> Iterator[tuple[slice, CudaTensorProblem]]:
        """Yield slices of the sequences, and the problems of these sequences."""
        row_bytes = self._parameters[0].shape[2] * self._dtype.itemsize
        parts = split_by_frames(self._sequences.lengths, CHUNK_BYTES / row_bytes)
        streamed = StreamedFrames(self._device, self._sequences, self._dtype)
        batches = [np.arange(part.start, part.stop) for part in parts]
        for part, frames in zip(parts, streamed.iter_batches(batches), strict=True):
            yield part, self._problem(frames)

    def _upload_runs(self, runs: NDArray[np.int32], part: slice) -> torch.Tensor:
        """Copy the runs of a part of the sequences to the device, after a check of the copy."""
        copy = runs[part].copy()
        _core.check_runs(copy, self._sequences.lengths[part], *self._shape[:2])
        return self._device.upload(copy)

    def _problem(self, frames: CudaFrames) -> CudaTensorProblem:
        return CudaTensorProblem(self._device, frames, *self._parameters, self._shape[2])

    def _to_array(self, rows: torch.Tensor) -> NDArray[np.floating]:
        return self._device.to_array(rows, self._shape[2])


def adam_step(
    device: CudaDevice,
    parameters: torch.Tensor,
    gradients: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor],
    scale: torch.Tensor | None,
    n_features: int,
    learning_rate: float,
    n_steps: int,
) -> None:
    """Take one step of Adam on padded rows, as the native ``adam_step`` does on arrays.

    The tensors have the shape (n_centroids, n_timesteps, pitch), `scale` has (pitch,).
    """
    native, is_single = device.native, parameters.dtype == device.torch.float32
    step = native.cuda_adam_step_float32 if is_single else native.cuda_adam_step_float64
    step(
        device=device.number,
        stream=device.stream(),
        parameters=parameters.data_ptr(),
        gradients=gradients.data_ptr(),
        first_moments=moments[0].data_ptr(),
        second_moments=moments[1].data_ptr(),
        scale=0 if scale is None else scale.data_ptr(),
        n_rows=math.prod(parameters.shape[:-1]),
        pitch=parameters.shape[-1],
        n_features=n_features,
        learning_rate=learning_rate,
        n_steps=n_steps,
    )
