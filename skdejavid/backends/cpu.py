"""The backend of the CPU: the native core's problems, on arrays and on tensors."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdejavid import _core
from skdejavid.backends.backend import Engine
from skdejavid.backends.cpu_engine import CpuEngine
from skdejavid.backends.interfaces import Problem, TensorProblem
from skdejavid.backends.state import InitialParameters, TrainingData, TrainingSettings
from skdejavid.compat.memory import memory_of_machine
from skdejavid.compat.threads import count_threads
from skdejavid.sequences import SequenceView
from skdejavid.sequences.layout import starts_of

if TYPE_CHECKING:
    import torch

__all__ = ["CpuBackend", "CpuTensorProblem"]


# The longest axis that the native core computes with. Of longer ones at least this much memory is
# needed.
_LARGEST_SIZE = 2**31 - 1


class CpuBackend:
    """See `skdejavid.backends.backend.Backend`; its only device is "cpu"."""

    stores_half = False

    def resolve(self, device: str) -> str:
        if device != "cpu":
            raise ValueError(f"device 'cpu' takes no number, got {device!r}: use device='cpu'")
        return device

    def owns(self, tensor: torch.Tensor) -> bool:
        # The registry chooses this backend for tensors that no backend owns. Derived backends
        # inherit this method: with True they would replace it for all tensors on the CPU.
        return False

    def problem(
        self,
        device: str,
        sequences: SequenceView,
        centroids: NDArray[np.floating],
        weights: NDArray[np.floating],
        *,
        n_threads: int,
    ) -> Problem:
        problem = _problem_type(sequences.values.dtype)
        return problem(*sequences, centroids, weights, n_threads, memory_of_machine())

    def tensor_problem(
        self,
        values: torch.Tensor,
        lengths: NDArray[np.int64],
        centroids: torch.Tensor,
        weights: torch.Tensor,
        *,
        n_threads: int,
    ) -> TensorProblem:
        sequences = SequenceView(_to_array(values), starts_of(lengths), lengths)
        problem = self.problem(
            "cpu", sequences, _to_array(centroids), _to_array(weights), n_threads=n_threads
        )
        return CpuTensorProblem(problem, centroids.device)

    def paths_bytes(
        self, n_frames: int, shape: tuple[int, int, int], dtype: np.dtype[Any], n_threads: int
    ) -> float:
        names = "n_frames", "n_centroids", "n_timesteps", "n_features"
        sizes = {
            name: min(size, _LARGEST_SIZE)
            for name, size in zip(names, (n_frames, *shape), strict=True)
        }
        n_bytes: float = _problem_type(dtype).paths_bytes(**sizes, n_threads=n_threads)
        return n_bytes

    def engine(
        self, data: TrainingData, initial: InitialParameters, settings: TrainingSettings
    ) -> Engine:
        make_problem = partial(self.problem, settings.device, n_threads=settings.n_threads)
        return CpuEngine(make_problem, data, initial, settings)

    def describe(self) -> dict[str, str]:
        return {
            "instruction set": _core.cpu_instruction_set,
            "threads": str(count_threads(None)),
        }


def _problem_type(dtype: np.dtype[Any]) -> Any:
    return _core.ProblemFloat32 if dtype == np.float32 else _core.ProblemFloat64


class CpuTensorProblem:
    """A problem on tensors, which share their memory with the arrays of a problem on the CPU.

    Parameters
    ----------
    problem : Problem
    torch_device : torch.device
        Device of the returned tensors; those of other devices than the CPU are copies.
    """

    def __init__(self, problem: Problem, torch_device: torch.device) -> None:
        self._problem, self._torch_device = problem, torch_device

    def distances(self, diagonal: bool) -> torch.Tensor:
        return self._to_tensor(self._problem.distances(diagonal))

    def paths(self, diagonal: bool) -> tuple[torch.Tensor, torch.Tensor]:
        distances, runs = self._problem.paths(diagonal)
        return self._to_tensor(distances), self._to_tensor(runs)

    def distances_along(self, runs: torch.Tensor) -> torch.Tensor:
        return self._to_tensor(self._problem.distances_along(_to_array(runs)))

    def parameter_gradients(
        self,
        runs: torch.Tensor,
        grad_distances: torch.Tensor,
        out: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        by_centroids, by_weights = self._problem.parameter_gradients(
            _to_array(runs), _to_array(grad_distances)
        )
        gradients = self._to_tensor(by_centroids), self._to_tensor(by_weights)
        if out is None:
            return gradients
        for target, gradient in zip(out, gradients, strict=True):
            target.copy_(gradient)
        return out

    def sequence_gradients(self, runs: torch.Tensor, grad_distances: torch.Tensor) -> torch.Tensor:
        gradients = self._problem.sequence_gradients(_to_array(runs), _to_array(grad_distances))
        return self._to_tensor(gradients)

    def barycenters(self, runs: torch.Tensor, sample_weights: torch.Tensor) -> torch.Tensor:
        means = self._problem.barycenters(_to_array(runs), _to_array(sample_weights))
        return self._to_tensor(means)

    def _to_tensor(self, array: NDArray[Any]) -> torch.Tensor:
        import torch

        return torch.from_numpy(array).to(self._torch_device)


def _to_array(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().contiguous().numpy()
    return array
