"""The registered backends, and the functions that choose one by the name of a device.

A device is named "name" or "name:N" after its backend: "cpu", "cuda:0". Outside of `backends`
no code compares names of devices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skdejavid.backends.backend import Backend, Engine, split_device
from skdejavid.backends.cpu import CpuBackend
from skdejavid.backends.cuda import CudaBackend
from skdejavid.backends.interfaces import Problem
from skdejavid.backends.state import InitialParameters, TrainingData, TrainingSettings
from skdejavid.sequences import SequenceView

if TYPE_CHECKING:
    import torch

__all__ = [
    "backend_of",
    "backend_of_tensor",
    "make_engine",
    "make_problem",
    "register_backend",
    "registered_backends",
    "resolve_device",
]

# "auto" chooses a CUDA device for problems of at least this number of weighted differences (frames
# x time steps x features). The number has not been measured on any CUDA device yet
# (benchmarks/gpu_check.py prints it). Until then "auto" is the CPU. Other registered backends are
# never chosen: the number belongs to one kind of device.
_CROSSOVER = math.inf

_BACKENDS: dict[str, Backend] = {"cpu": CpuBackend(), "cuda": CudaBackend()}


def register_backend(name: str, backend: Backend | None) -> Backend | None:
    """Register a backend under a name, or remove it.

    Parameters
    ----------
    name : str
        The name of its devices: ``device=name`` selects the backend.
    backend : Backend or None
        The backend, which replaces another one of this name. None removes the name.

    Returns
    -------
    Backend or None
        The backend that was registered under this name before.

    Raises
    ------
    ValueError
        If `name` is "auto" or not an identifier.
    """
    if name == "auto" or not name.isidentifier():
        raise ValueError(f"name must be an identifier other than 'auto', got {name!r}")
    previous = _BACKENDS.get(name)
    if backend is None:
        _BACKENDS.pop(name, None)
    else:
        _BACKENDS[name] = backend
    return previous


def registered_backends() -> Mapping[str, Backend]:
    """Return a read-only view of all backends by name."""
    return MappingProxyType(_BACKENDS)


def backend_of(device: str) -> Backend:
    """Return the backend of a device "name" or "name:N".

    Raises
    ------
    ValueError
        If no backend of this name is registered, or `device` has another form.
    """
    try:
        name, _ = split_device(str(device))
        return _BACKENDS[name]
    except (KeyError, ValueError):
        names = ", ".join(map(repr, _BACKENDS))
        raise ValueError(
            f"device must be 'auto' or one of {names}, with ':N' for device number N, "
            f"got {device!r}"
        ) from None


def backend_of_tensor(tensor: torch.Tensor) -> Backend:
    """Return the last registered backend that owns a tensor, or the CPU's if there is none."""
    for backend in reversed(list(_BACKENDS.values())):  # a copy: other threads may register
        if backend.owns(tensor):
            return backend
    return backend_of("cpu")


def resolve_device(device: str, n_differences: float = 0) -> str:
    """Return the canonical name of the device to compute on, such as "cpu" or "cuda:0".

    Parameters
    ----------
    device : str
        The name of a device, which is never replaced by another one; or "auto" for the first CUDA
        device if the problem is large enough and the device can be used, else the CPU.
    n_differences : float, default=0
        Size of the problem: its number of weighted differences.

    Raises
    ------
    ValueError
        If `device` does not name a device of a registered backend.
    ImportError, RuntimeError
        If the device cannot be used; the message says why.
    """
    if device != "auto":
        return backend_of(device).resolve(device)
    if n_differences >= _CROSSOVER:
        with suppress(ImportError, RuntimeError):
            return backend_of("cuda").resolve("cuda:0")
    return "cpu"


def make_problem(
    sequences: SequenceView,
    centroids: NDArray[np.floating],
    weights: NDArray[np.floating],
    *,
    n_threads: int,
    device: str = "cpu",
) -> Problem:
    """Return the problem of aligning each sequence with each centroid, without copying them.

    Parameters
    ----------
    sequences : SequenceView
    centroids, weights : arrays of shape (n_centroids, n_timesteps, n_features)
        All of the floating type of the sequences, and contiguous.
    n_threads : int
        Number of threads of the CPU.
    device : str, default="cpu"
        A device as `resolve_device` returns it.
    """
    backend = backend_of(device)
    return backend.problem(device, sequences, centroids, weights, n_threads=n_threads)


def make_engine(
    data: TrainingData, initial: InitialParameters, settings: TrainingSettings
) -> Engine:
    """Return an engine that trains on ``settings.device``, beginning with `initial`."""
    return backend_of(settings.device).engine(data, initial, settings)
