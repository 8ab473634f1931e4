"""Types of the native module, which ``src_cuda/module.cpp`` and ``module_cuda.cpp`` define.

``skdejavid.backends`` calls it; ``_show_versions`` and ``__init__`` only read its properties.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

cpu_instruction_set: str
built_with_cuda: bool
cuda_architectures: str  # that kernels were compiled for, such as "80-real 90"; "" without CUDA

def cuda_devices() -> tuple[list[tuple[str, int, int, int]], str]:
    """Return name, compute capability (two numbers) and bytes of memory of each device.

    If there are none, the second value is the reason.
    """

def cuda_device_count() -> int:
    """Return the number of CUDA devices of the machine."""

def cuda_unusable_reason(device: int) -> str:
    """Return the reason why this build cannot compute on a device, empty if it can."""

def cuda_driver_version() -> int:
    """Return the version in CUDA's encoding (13000 is 13.0); 0 if there is none."""

def cuda_runtime_version() -> int:
    """Return the version in CUDA's encoding (13000 is 13.0); 0 if there is none."""

def adam_step(
    parameters: NDArray[np.floating[Any]],  # (n_centroids, n_timesteps, n_features), updated
    gradients: NDArray[np.floating[Any]],  # the same shape and dtype, as both moments
    first_moments: NDArray[np.floating[Any]],
    second_moments: NDArray[np.floating[Any]],
    scale: NDArray[np.floating[Any]] | None,  # (n_features,); None: logarithms are learned
    learning_rate: float,
    n_steps: int,  # including this one
    n_threads: int,
) -> None:
    """Perform one in-place step of Adam. The arrays must not share memory."""

def check_sequences(starts: NDArray[np.int64], lengths: NDArray[np.int64], n_rows: int) -> None:
    """Raise ValueError unless all sequences are inside an array of `n_rows` rows."""

def check_runs(
    runs: NDArray[np.int32],  # (n_sequences, n_centroids, n_timesteps, 2)
    lengths: NDArray[np.int64],  # (n_sequences,)
    n_centroids: int,
    n_timesteps: int,
) -> None:
    """Raise ValueError unless all runs are inside their sequences."""

class _Problem:
    """Sequences and the centroids to which they are compared.

    Floating-point arrays are all float32 or all float64, as in the name of the class. They are not
    copied; starts and lengths are.
    """

    def __init__(
        self,
        values: NDArray[np.floating[Any]],  # (n_rows, n_features)
        starts: NDArray[np.int64],  # (n_sequences,)
        lengths: NDArray[np.int64],  # (n_sequences,)
        centroids: NDArray[np.floating[Any]],  # (n_centroids, n_timesteps, n_features)
        weights: NDArray[np.floating[Any]],  # (n_centroids, n_timesteps, n_features)
        n_threads: int,
        memory: float = ...,  # bytes of the machine, infinity by default
    ) -> None: ...
    @staticmethod
    def paths_bytes(
        *, n_frames: int, n_centroids: int, n_timesteps: int, n_features: int, n_threads: int
    ) -> float:
        """Return the bytes of memory that `paths` of one sequence takes, with its results."""

    def distances(self, diagonal: bool) -> NDArray[np.float64]:
        """Return the distances (n_sequences, n_centroids)."""

    def paths(self, diagonal: bool) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Return distances and runs (n_sequences, n_centroids, n_timesteps, 2)."""

    def distances_along(self, runs: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return sums of costs along given runs (n_sequences, n_centroids)."""

    def parameter_gradients(
        self,
        runs: NDArray[np.int32],
        grad_distances: NDArray[np.float64],
        out: tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]] | None = None,
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        """Return the derivatives of ``sum(grad_distances * distances_along(runs))``.

        The first array is with respect to centroids, the second with respect to weights. They are
        the arrays of `out`, which must not share memory with any other array, or new ones.
        """

    def sequence_gradients(
        self, runs: NDArray[np.int32], grad_distances: NDArray[np.float64]
    ) -> NDArray[np.floating[Any]]:
        """Return the derivative of the same sum with respect to the frames.

        It is packed in the order of the sequences: (sum of lengths, n_features).
        """

    def barycenters(
        self, runs: NDArray[np.int32], sample_weights: NDArray[np.float64]
    ) -> NDArray[np.floating[Any]]:
        """Return weighted means of the frames matched to each time step, shaped as centroids."""

class ProblemFloat32(_Problem): ...
class ProblemFloat64(_Problem): ...

class _CudaProblem:
    """Sequences and centroids in the memory of a device.

    Arrays are addresses on the device. Methods queue work on the stream; they do not allocate
    memory, copy to the host or wait. The shapes of results are those of `_Problem`, with rows
    `parameter_pitch` numbers apart.
    """

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
    def align_bytes(self, with_runs: bool) -> int:
        """Return the number of bytes of workspace that `align` needs."""

    def align(self, diagonal: bool, distances: int, runs: int, workspace: int) -> None:
        """Compute distances and, unless `runs` is 0, runs."""

    def along_bytes(self) -> int:
        """Return the number of bytes of workspace that `distances_along` needs."""

    def distances_along(self, runs: int, distances: int, workspace: int) -> None: ...
    def parameter_gradients(
        self, runs: int, grad_distances: int, adds: bool, grad_centroids: int, grad_weights: int
    ) -> None:
        """Add to the contents of both results if `adds`, else overwrite them."""

    def sequence_gradients(self, runs: int, grad_distances: int, grad_frames: int) -> None: ...
    def barycenters(self, runs: int, sample_weights: int, means: int) -> None: ...

class CudaProblemFloat32(_CudaProblem): ...
class CudaProblemFloat16(_CudaProblem): ...  # sequences in float16, all else in float32
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
