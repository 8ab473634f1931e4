"""The backend of CUDA devices: checks that they are usable, and their problems and engines.

Torch, whose memory and streams are used, is imported when a device is resolved and not before.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdejavid import _core
from skdejavid.backends.backend import Engine, split_device
from skdejavid.backends.cuda_device import CudaDevice
from skdejavid.backends.cuda_frames import make_frames
from skdejavid.backends.cuda_problem import CudaArrayProblem, CudaTensorProblem
from skdejavid.backends.interfaces import Problem, TensorProblem
from skdejavid.backends.state import InitialParameters, TrainingData, TrainingSettings
from skdejavid.compat.optional import import_optional
from skdejavid.sequences import SequenceView
from skdejavid.sequences.layout import starts_of

if TYPE_CHECKING:
    import torch

__all__ = ["CudaBackend"]


class CudaBackend:
    """See `skdejavid.backends.backend.Backend`; its devices are "cuda:0", "cuda:1" and so on.

    Parameters
    ----------
    native : module, default=_core
        The native core. Tests give one of their own.
    """

    stores_half = True

    def __init__(self, native: ModuleType = _core) -> None:
        self._native = native
        self._usable: set[int] = set()
        self._opened: dict[int, CudaDevice] = {}
        self._driver_process: int | None = None  # that initialized the CUDA driver

    def resolve(self, device: str) -> str:
        """Return "cuda:N"; "cuda" is "cuda:0".

        Raises
        ------
        ImportError
            If torch is not installed.
        RuntimeError
            If the device does not exist or cannot be used; the message says what is missing.
        """
        return f"cuda:{self._check_usable(device)}"

    def open(self, device: str) -> CudaDevice:
        """Return a device by its name, always the same object in one process."""
        number = self._check_usable(device)
        if number not in self._opened:
            # Not an assignment, because another thread may have opened the device meanwhile.
            self._opened.setdefault(number, CudaDevice(number, self._native))
        return self._opened[number]

    def owns(self, tensor: torch.Tensor) -> bool:
        return tensor.is_cuda

    def problem(
        self,
        device: str,
        sequences: SequenceView,
        centroids: NDArray[np.floating],
        weights: NDArray[np.floating],
        *,
        n_threads: int,
    ) -> Problem:
        _core.check_sequences(sequences.starts, sequences.lengths, len(sequences.values))
        return CudaArrayProblem(self.open(device), sequences, centroids, weights)

    def tensor_problem(
        self,
        values: torch.Tensor,
        lengths: NDArray[np.int64],
        centroids: torch.Tensor,
        weights: torch.Tensor,
        *,
        n_threads: int,
    ) -> TensorProblem:
        device = self.open(f"cuda:{centroids.device.index or 0}")
        starts = starts_of(lengths)
        _core.check_sequences(starts, lengths, len(values))
        frames = make_frames(device, device.padded(values), starts, lengths)
        parameters = device.padded(centroids), device.padded(weights)
        return CudaTensorProblem(device, frames, *parameters, centroids.shape[2])

    def paths_bytes(
        self, n_frames: int, shape: tuple[int, int, int], dtype: np.dtype[Any], n_threads: int
    ) -> float:
        # Everything but the results is on the device.
        n_centroids, n_timesteps, _ = shape
        return 8.0 * n_centroids * (1 + n_timesteps)

    def engine(
        self, data: TrainingData, initial: InitialParameters, settings: TrainingSettings
    ) -> Engine:
        # Imported here because only training needs it.
        from skdejavid.backends.cuda_engine import CudaEngine

        return CudaEngine(self.open(settings.device), data, initial, settings)

    def describe(self) -> dict[str, str]:
        native = self._native
        if not native.built_with_cuda:
            return {"built with": "no CUDA; see SKDEJAVID_CUDA in the README"}
        devices, reason = self._list_devices()
        driver = native.cuda_driver_version()
        rows = {
            "compiled for": native.cuda_architectures,
            "runtime": _format_version(native.cuda_runtime_version()),
            "driver for": _format_version(driver) if driver else "no driver",
        }
        if not devices:
            rows["devices"] = f"none: {reason}" if reason else "none"
        for number, (name, major, minor, n_bytes) in enumerate(devices):
            reason = native.cuda_unusable_reason(number)
            state = f"not usable: {reason}" if reason else "usable"
            rows[f"cuda:{number}"] = (
                f"{name}, sm_{major}{minor}, {n_bytes / 2**30:.1f} GiB, {state}"
            )
        return rows

    def _check_usable(self, device: str) -> int:
        """Return the number of a device, or raise an error that says why it is unusable."""
        refused = f"device={device!r} cannot be used:"
        if not self._native.built_with_cuda:
            raise RuntimeError(
                f"{refused} this build of skdejavid has no CUDA backend (built_with_cuda=False). "
                "Build it where nvcc is on PATH, with SKDEJAVID_CUDA=ON, or use device='cpu'"
            )
        if self._driver_process not in (None, os.getpid()):
            raise RuntimeError(
                f"{refused} this process was forked from one that had used CUDA. Start workers "
                "with joblib's 'loky' or multiprocessing's 'spawn'"
            )
        number = split_device(device)[1] or 0
        if number not in self._usable:
            self._check_device(number, refused)
            _check_torch(device, refused)
            self._usable.add(number)
        return number

    def _check_device(self, number: int, refused: str) -> None:
        devices, reason = self._list_devices()
        if not devices:
            driver = self._native.cuda_driver_version()
            raise RuntimeError(
                f"{refused} {reason or 'no CUDA device was found'} (driver for CUDA "
                f"{_format_version(driver) if driver else 'not installed'}, this build uses CUDA "
                f"{_format_version(self._native.cuda_runtime_version())})"
            )
        if number >= len(devices):
            raise RuntimeError(
                f"{refused} there are only {len(devices)} device(s), 'cuda:0' to "
                f"'cuda:{len(devices) - 1}'"
            )
        reason = self._native.cuda_unusable_reason(number)
        if reason:
            name, major, minor, _ = devices[number]
            raise RuntimeError(f"{refused} {name} (sm_{major}{minor}): {reason}")

    def _list_devices(self) -> tuple[list[tuple[str, int, int, int]], str]:
        """Return all devices, or the reason why there are none; see `_core.cuda_devices`."""
        devices, reason = self._native.cuda_devices()
        # An initialized driver does not survive a fork. Without devices it was not initialized, and
        # a fork is not the reason that CUDA is unusable.
        if devices and self._driver_process is None:
            self._driver_process = os.getpid()
        return devices, reason


def _check_torch(device: str, refused: str) -> None:
    torch = import_optional("torch", "cuda", f"device={device!r}")
    if torch.version.cuda is None:
        raise RuntimeError(
            f"{refused} torch {torch.__version__} was built without CUDA, and its memory and "
            "streams are used. Install a build of torch with CUDA"
        )
    if not torch.cuda.is_available():
        raise RuntimeError(f"{refused} torch {torch.__version__} does not find a CUDA device")


def _format_version(version: int) -> str:
    """Return CUDA's version number 13000 as "13.0"."""
    return f"{version // 1000}.{version % 1000 // 10}"
