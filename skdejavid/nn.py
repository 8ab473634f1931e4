"""The matcher as a differentiable torch module, for use on its own or on top of any encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skdejavid.backends.cuda_device import device_of
from skdejavid.backends.cuda_frames import frames_on_device
from skdejavid.backends.cuda_problem import CudaTensorProblem
from skdejavid.backends.registry import Problem, make_problem
from skdejavid.compat.threads import count_threads
from skdejavid.sequences import SequenceView

__all__ = ["TimeWeightedDTW", "distances_along_paths"]


class TimeWeightedDTW(torch.nn.Module):
    """Time-weighted DTW distances to learned centroids, differentiable in all of its inputs.

    The path is chosen anew in every call and is a constant for the gradient, which flows to
    centroids, log-weights and the sequences themselves: put it on top of an encoder to train both.

    Parameters
    ----------
    centroids : tensor or array of shape (n_centroids, n_timesteps, n_features)
        Initial centroids; float32 or float64.
    log_weights : tensor or array of the same shape, optional
        Initial logarithms of the weights. None means 0, all weights 1.
    diagonal : bool, default=False
        Whether a path may advance in both sequences at once.
    n_jobs : int, optional
        Number of threads, see :func:`skdejavid.dtw_distances`.

    Examples
    --------
    >>> import torch
    >>> from skdejavid.nn import TimeWeightedDTW
    >>> matcher = TimeWeightedDTW(torch.zeros(2, 3, 4))
    >>> matcher([torch.ones(5, 4), torch.ones(2, 4)])
    tensor([[28., 28.],
            [16., 16.]], grad_fn=<...>)
    """

    def __init__(
        self,
        centroids: torch.Tensor | NDArray[np.floating],
        log_weights: torch.Tensor | NDArray[np.floating] | None = None,
        *,
        diagonal: bool = False,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__()
        centroids = torch.as_tensor(centroids).detach().clone()
        if log_weights is None:
            log_weights = torch.zeros_like(centroids)
        log_weights = torch.as_tensor(log_weights).detach().clone()
        if centroids.ndim != 3 or log_weights.shape != centroids.shape:
            raise ValueError(
                "centroids and log_weights must be 3-D (n_centroids, n_timesteps, n_features) and "
                f"of one shape, got {tuple(centroids.shape)} and {tuple(log_weights.shape)}"
            )
        if not {centroids.dtype, log_weights.dtype} <= {torch.float32, torch.float64}:
            raise ValueError(
                "centroids and log_weights must be float32 or float64, "
                f"got {centroids.dtype} and {log_weights.dtype}"
            )
        self.centroids = torch.nn.Parameter(centroids)
        self.log_weights = torch.nn.Parameter(log_weights)
        self.diagonal = diagonal
        self.n_jobs = n_jobs

    def forward(self, sequences: Sequence[torch.Tensor] | torch.Tensor) -> torch.Tensor:
        """Distances (n_sequences, n_centroids) of sequences (n_frames, n_features)."""
        items = [torch.as_tensor(item) for item in sequences]
        if not items:
            raise ValueError("sequences is empty, expected at least one")
        n_features = self.centroids.shape[2]
        for i, item in enumerate(items):
            if item.ndim != 2 or len(item) == 0 or item.shape[1] != n_features:
                raise ValueError(
                    f"sequences[{i}] must be (n_frames >= 1, {n_features}), got {tuple(item.shape)}"
                )
        lengths = np.array([len(item) for item in items], dtype=np.int64)
        if device_of(self.centroids) is not None:
            values = torch.cat(items).to(self.centroids)
            distances = _CudaDistances.apply(
                values, self.centroids, self.log_weights.exp(), lengths, self.diagonal
            )
            return distances.to(self.centroids.dtype)
        values = torch.cat(items).to(self.centroids.dtype)
        packed = SequenceView(_to_numpy(values), np.cumsum(lengths) - lengths, lengths)
        weights = self.log_weights.exp()
        n_threads = count_threads(self.n_jobs)
        problem = _problem(packed, self.centroids, weights, n_threads)
        _, runs = problem.paths(self.diagonal)
        distances = distances_along_paths(
            packed, self.centroids, weights, runs, values=values, n_threads=n_threads
        )
        return distances.to(self.centroids.dtype)


def distances_along_paths(
    sequences: SequenceView,
    centroids: torch.Tensor,
    weights: torch.Tensor,
    runs: NDArray[np.int32],
    *,
    values: torch.Tensor | None = None,
    n_threads: int,
) -> torch.Tensor:
    """Distances (n_sequences, n_centroids), float64, along given paths, with gradients.

    Parameters
    ----------
    sequences : SequenceView
        The sequences, in float32 or float64.
    centroids, weights : tensors of shape (n_centroids, n_timesteps, n_features)
        Of the same floating type.
    runs : array of shape (n_sequences, n_centroids, n_timesteps, 2)
        The paths, see :func:`skdejavid.backends.registry.make_problem`.
    values : tensor, optional
        The tensor behind ``sequences.values``, which must hold these sequences one after the other
        and nothing else. Given, it receives a gradient too.
    n_threads : int
        Number of threads.

    Returns
    -------
    tensor of shape (n_sequences, n_centroids)
    """
    return _DistancesAlongPaths.apply(values, centroids, weights, sequences, runs, n_threads)


class _DistancesAlongPaths(torch.autograd.Function):
    """Value and gradient for fixed paths: the paper's supplement, dD/dU and dD/dC."""

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor | None,
        centroids: torch.Tensor,
        weights: torch.Tensor,
        sequences: SequenceView,
        runs: NDArray[np.int32],
        n_threads: int,
    ) -> torch.Tensor:
        ctx.save_for_backward(values, centroids, weights)
        ctx.sequences, ctx.runs, ctx.n_threads = sequences, runs, n_threads
        problem = _problem(sequences, centroids, weights, n_threads)
        return torch.from_numpy(problem.distances_along(runs)).to(centroids.device)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, centroids, weights = ctx.saved_tensors
        problem = _problem(ctx.sequences, centroids, weights, ctx.n_threads)
        grad_distances: NDArray[np.float64] = _to_numpy(grad_outputs[0])
        grad_values = grad_centroids = grad_weights = None
        if ctx.needs_input_grad[0]:
            frame_gradients = problem.sequence_gradients(ctx.runs, grad_distances)
            grad_values = torch.from_numpy(frame_gradients).to(values)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            by_centroids, by_weights = problem.parameter_gradients(ctx.runs, grad_distances)
            grad_centroids = torch.from_numpy(by_centroids).to(centroids)
            grad_weights = torch.from_numpy(by_weights).to(weights)
        return grad_values, grad_centroids, grad_weights, None, None, None


class _CudaDistances(torch.autograd.Function):
    """The same where the tensors are on a CUDA device: nothing leaves it, and nothing waits."""

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        centroids: torch.Tensor,
        weights: torch.Tensor,
        lengths: NDArray[np.int64],
        diagonal: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(values, centroids, weights)
        ctx.lengths = lengths
        distances, ctx.runs = _device_problem(values, centroids, weights, lengths).paths(diagonal)
        return distances

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, centroids, weights = ctx.saved_tensors
        n_features = centroids.shape[2]
        problem = _device_problem(values, centroids, weights, ctx.lengths)
        grad_distances = grad_outputs[0].contiguous()
        grad_values = grad_centroids = grad_weights = None
        if ctx.needs_input_grad[0]:
            by_frames = problem.sequence_gradients(ctx.runs, grad_distances)
            grad_values = by_frames[:, :n_features]
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            by_centroids, by_weights = problem.parameter_gradients(ctx.runs, grad_distances)
            grad_centroids = by_centroids[..., :n_features]
            grad_weights = by_weights[..., :n_features]
        return grad_values, grad_centroids, grad_weights, None, None


def _device_problem(
    values: torch.Tensor,
    centroids: torch.Tensor,
    weights: torch.Tensor,
    lengths: NDArray[np.int64],
) -> CudaTensorProblem:
    device = device_of(centroids)
    assert device is not None
    starts = np.cumsum(lengths) - lengths
    frames = frames_on_device(device, device.padded(values), starts, lengths)
    parameters = device.padded(centroids), device.padded(weights)
    return CudaTensorProblem(device, frames, *parameters, centroids.shape[2])


def _problem(
    sequences: SequenceView, centroids: torch.Tensor, weights: torch.Tensor, n_threads: int
) -> Problem:
    return make_problem(sequences, _to_numpy(centroids), _to_numpy(weights), n_threads=n_threads)


def _to_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().contiguous().numpy()
