"""The devices that can compute an alignment, by name."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from skdejavid import _core
from skdejavid.backends.cuda_device import open_device, require_device
from skdejavid.backends.cuda_problem import CudaArrayProblem
from skdejavid.backends.protocol import Engine, InitialParameters, TrainingData, TrainingSettings
from skdejavid.sequences import SequenceView

__all__ = ["Problem", "adam_step", "make_engine", "make_problem", "resolve_device"]

# "auto" takes a CUDA device from this number of weighted differences (frames x time steps x
# features) on. It has to be measured, which no one has done yet on any card:
# benchmarks/gpu_check.py prints the number to put here. Until then "auto" is the CPU.
_CROSSOVER = math.inf

Problem: TypeAlias = _core.ProblemFloat32 | _core.ProblemFloat64 | CudaArrayProblem


def make_problem(
    sequences: SequenceView,
    centroids: NDArray[np.floating],
    weights: NDArray[np.floating],
    *,
    n_threads: int,
    device: str = "cpu",
) -> Problem:
    """The native problem of aligning each sequence with each centroid; nothing is copied.

    With a `device` that `resolve_device` gives other than "cpu", it is computed there.

    Its methods: ``distances(diagonal)`` and ``paths(diagonal)`` along the cheapest paths;
    ``distances_along(runs)`` given paths, with ``parameter_gradients`` and ``sequence_gradients``;
    and ``barycenters``. A path is given by its *runs*: ``runs[s, c, i]`` holds the first and the
    last frame of sequence ``s`` that is matched to time step ``i`` of centroid ``c``.
    """
    if device != "cpu":
        return CudaArrayProblem(open_device(device), sequences, centroids, weights)
    is_single = sequences.values.dtype == np.float32
    problem = _core.ProblemFloat32 if is_single else _core.ProblemFloat64
    return problem(*sequences, centroids, weights, n_threads)


def adam_step(
    parameters: NDArray[np.floating],
    gradients: NDArray[np.floating],
    first_moments: NDArray[np.floating],
    second_moments: NDArray[np.floating],
    scale: NDArray[np.floating] | None,
    learning_rate: float,
    n_steps: int,
    n_threads: int,
) -> None:
    """One step of Adam (betas 0.9 and 0.999, epsilon 1e-8), in place of parameters and moments.

    The first four arrays are (n_centroids, n_timesteps, n_features) and of one floating type;
    `gradients` are those by `parameters`, and this is step number `n_steps`, from 1. Learned are
    ``parameters / scale``, with a scale for each feature (n_features,), or the logarithms of the
    parameters where `scale` is None.
    """
    _core.adam_step(
        parameters,
        gradients,
        first_moments,
        second_moments,
        scale,
        learning_rate,
        n_steps,
        n_threads,
    )


def resolve_device(device: str, n_differences: float = 0) -> str:
    """The device to compute on: "cpu", or "cuda:N".

    An explicit "cuda" never falls back to the CPU. "auto" takes the first CUDA device for problems
    of so many weighted differences that this pays, if it can be used.

    Raises
    ------
    ValueError
        If `device` is none of "auto", "cpu", "cuda", "cuda:N".
    RuntimeError
        If it asks for CUDA and this build or machine has none.
    """
    kind, separator, number = str(device).partition(":")
    if device not in ("auto", "cpu", "cuda") and not (
        kind == "cuda" and separator and number.isdecimal()
    ):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {device!r}")
    if kind == "cuda":
        return f"cuda:{require_device(device)}"
    if device == "auto" and n_differences >= _CROSSOVER:
        with suppress(RuntimeError):
            return f"cuda:{require_device('cuda:0')}"
    return "cpu"


def make_engine(
    data: TrainingData, initial: InitialParameters, settings: TrainingSettings
) -> Engine:
    """The engine of the device that the settings name, with these parameters to begin with."""
    # Engines make problems through this module.
    from skdejavid.backends.cpu_engine import CpuEngine
    from skdejavid.backends.cuda_engine import CudaEngine

    if settings.device == "cpu":
        return CpuEngine(data, initial, settings)
    return CudaEngine(open_device(settings.device), data, initial, settings)
