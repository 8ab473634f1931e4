"""The native module's types, in the words of ``src_cuda/module.cpp`` and ``module_cuda.cpp``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

cpu_instruction_set: str
built_with_cuda: bool
cuda_architectures: str  # what kernels were compiled for, as in "80-real 90"; "" without CUDA

def cuda_devices() -> tuple[list[tuple[str, int, int, int]], str]:
    """Name, compute capability (two numbers) and bytes of each; if there are none, the reason."""

def cuda_device_count() -> int: ...
def cuda_obstacle(device: int) -> str:
    """Why this build cannot compute on a device; empty if it can."""

def cuda_driver_version() -> int: ...
def cuda_runtime_version() -> int: ...
def adam_step(
    parameters: NDArray[np.floating[Any]],  # (n_centroids, n_timesteps, n_features), moved in place
    gradients: NDArray[np.floating[Any]],  # the same shape and type, as all but the scale
    first_moments: NDArray[np.floating[Any]],
    second_moments: NDArray[np.floating[Any]],
    scale: NDArray[np.floating[Any]] | None,  # (n_features,)
    learning_rate: float,
    n_steps: int,
    n_threads: int,
) -> None: ...

class _Problem:
    """Floating arrays are all float32 or all float64, as the name of the class says."""

    def __init__(
        self,
        values: NDArray[np.floating[Any]],  # (n_rows, n_features)
        starts: NDArray[np.int64],  # (n_sequences,)
        lengths: NDArray[np.int64],  # (n_sequences,)
        centroids: NDArray[np.floating[Any]],  # (n_centroids, n_timesteps, n_features)
        weights: NDArray[np.floating[Any]],  # (n_centroids, n_timesteps, n_features)
        n_threads: int,
    ) -> None: ...
    def distances(self, diagonal: bool) -> NDArray[np.float64]: ...
    def paths(self, diagonal: bool) -> tuple[NDArray[np.float64], NDArray[np.int32]]: ...
    def distances_along(self, runs: NDArray[np.int32]) -> NDArray[np.float64]: ...
    def parameter_gradients(
        self,
        runs: NDArray[np.int32],
        grad_distances: NDArray[np.float64],
        out: tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]] | None = None,
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]: ...
    def sequence_gradients(
        self, runs: NDArray[np.int32], grad_distances: NDArray[np.float64]
    ) -> NDArray[np.floating[Any]]: ...
    def barycenters(
        self, runs: NDArray[np.int32], sample_weights: NDArray[np.float64]
    ) -> NDArray[np.floating[Any]]: ...

class ProblemFloat32(_Problem): ...
class ProblemFloat64(_Problem): ...

class _CudaProblem:
    """Arrays are addresses on a device. Nothing is allocated, copied or waited for."""

    def __init__(
        self,
        *,
        device: int,
        stream: int,  # a cudaStream_t
        values: int,  # (n_rows, value_pitch)
        value_pitch: int,
        starts: int,  # (n_sequences,), int64, as the next two
        lengths: int,
        offsets: int,
        n_sequences: int,
        n_frames: int,
        longest: int,
        centroids: int,  # (n_centroids, n_timesteps, parameter_pitch)
        weights: int,
        parameter_pitch: int,
        n_centroids: int,
        n_timesteps: int,
        n_features: int,
    ) -> None: ...
    def align_bytes(self, with_runs: bool) -> int: ...
    def align(self, diagonal: bool, distances: int, runs: int, workspace: int) -> None: ...
    def along_bytes(self) -> int: ...
    def distances_along(self, runs: int, distances: int, workspace: int) -> None: ...
    def parameter_gradients(
        self, runs: int, grad_distances: int, adds: bool, grad_centroids: int, grad_weights: int
    ) -> None: ...
    def sequence_gradients(self, runs: int, grad_distances: int, grad_frames: int) -> None: ...
    def barycenters(self, runs: int, sample_weights: int, means: int) -> None: ...

class CudaProblemFloat32(_CudaProblem): ...
class CudaProblemFloat16(_CudaProblem): ...  # sequences in half precision, all else in float32
class CudaProblemFloat64(_CudaProblem): ...

def cuda_adam_step_float32(
    *,
    device: int,
    stream: int,
    parameters: int,
    gradients: int,
    first_moments: int,
    second_moments: int,
    scale: int,  # 0: logarithms are learned
    n_rows: int,
    pitch: int,
    n_features: int,
    learning_rate: float,
    n_steps: int,
) -> None: ...

cuda_adam_step_float64 = cuda_adam_step_float32
