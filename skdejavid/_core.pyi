"""The native module's types, in the words of ``src_cuda/module.cpp``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

built_with_cuda: bool
cpu_instruction_set: str

def cuda_device_count() -> int: ...
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
