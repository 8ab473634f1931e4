"""CUDA devices: which can be used, and their memory and streams, which are torch's.

Rows (frames, time steps) lie on a device at multiples of 16 bytes, filled up with zeros. All work
is queued on torch's current stream, and nothing waits for it: memory that is given back meanwhile
is only taken again for work queued behind. Torch is imported when a device is opened, not before.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdejavid import _core

if TYPE_CHECKING:
    import torch

__all__ = [
    "CudaDevice",
    "device_of",
    "list_devices",
    "open_device",
    "require_device",
    "written_version",
]

_ROW_BYTES = 16  # rows begin at multiples of it

_usable: set[int] = set()  # devices that this process has found no fault with
_opened: dict[str, CudaDevice] = {}
_cuda_began = False
_forked_after = False


def _note_fork() -> None:
    global _forked_after
    _forked_after = _forked_after or _cuda_began


os.register_at_fork(after_in_child=_note_fork)


def require_device(device: str) -> int:
    """The number of a device that is asked for as "cuda" or "cuda:N".

    Raises
    ------
    RuntimeError
        If there is no such device that this build can compute on; the message says what is missing.
    """
    wanted = f"device={device!r} was asked for, but"
    if not _core.built_with_cuda:
        raise RuntimeError(
            f"{wanted} this build of skdejavid has no CUDA backend (built_with_cuda=False): build "
            "it where nvcc is on PATH, with SKDEJAVID_CUDA=ON, or use device='cpu'"
        )
    if _forked_after:
        raise RuntimeError(
            f"{wanted} this process was forked from one that had used CUDA: start workers with "
            "joblib's 'loky' or multiprocessing's 'spawn'"
        )
    number = int(device.partition(":")[2] or 0)
    if number in _usable:
        return number
    devices, reason = list_devices()
    if not devices:
        driver = _core.cuda_driver_version()
        raise RuntimeError(
            f"{wanted} there is none: {reason or 'no CUDA device was found'} (driver for CUDA "
            f"{written_version(driver) if driver else 'not installed'}, this build uses CUDA "
            f"{written_version(_core.cuda_runtime_version())})"
        )
    if number >= len(devices):
        raise RuntimeError(
            f"{wanted} there are only {len(devices)} device(s), 'cuda:0' to "
            f"'cuda:{len(devices) - 1}'"
        )
    obstacle = _core.cuda_unusable_reason(number)
    if obstacle:
        name, major, minor, _ = devices[number]
        raise RuntimeError(f"{wanted} {name} (sm_{major}{minor}) cannot be used: {obstacle}")
    _require_torch(wanted)
    _usable.add(number)
    return number


def list_devices() -> tuple[list[tuple[str, int, int, int]], str]:
    """See `_core.cuda_devices`; if there are any, CUDA has begun in this process."""
    global _cuda_began
    devices, reason = _core.cuda_devices()
    _cuda_began = _cuda_began or bool(devices)
    return devices, reason


def _require_torch(wanted: str) -> None:
    import torch

    if torch.version.cuda is None:
        raise RuntimeError(
            f"{wanted} torch {torch.__version__} was built without CUDA, and its memory and "
            "streams are used: install a build of torch with CUDA"
        )
    if not torch.cuda.is_available():
        raise RuntimeError(f"{wanted} torch {torch.__version__} cannot use it")


def written_version(version: int) -> str:
    """Of CUDA: 13000 is 13.0."""
    return f"{version // 1000}.{version % 1000 // 10}"


def open_device(device: str) -> CudaDevice:
    """The device that is asked for as "cuda" or "cuda:N"; see `require_device`."""
    if device not in _opened or _forked_after:
        _opened[device] = CudaDevice(require_device(device))
    return _opened[device]


def device_of(tensor: torch.Tensor) -> CudaDevice | None:
    """The device that a tensor is on; None for the CPU."""
    return open_device(f"cuda:{tensor.device.index}") if tensor.is_cuda else None


class CudaDevice:
    """Memory and streams of one device, which are torch's."""

    def __init__(self, number: int) -> None:
        import torch

        self.torch = torch
        self.number = number
        self.torch_device = torch.device("cuda", number)
        self._copies = torch.cuda.Stream(self.torch_device)

    def stream(self) -> int:
        """The address of the stream on which work is queued now."""
        return int(self.torch.cuda.current_stream(self.torch_device).cuda_stream)

    def free_bytes(self) -> int:
        """Memory that nobody uses, or that torch holds for later."""
        cuda = self.torch.cuda
        held = cuda.memory_reserved(self.torch_device) - cuda.memory_allocated(self.torch_device)
        return int(cuda.mem_get_info(self.torch_device)[0] + held)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return self.torch.empty(shape, dtype=dtype, device=self.torch_device)

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory of the host from which is copied without waiting.

        Torch takes it back only when copies out of it are made.
        """
        return self.torch.empty(shape, dtype=dtype, pin_memory=True)

    def upload(self, array: NDArray[Any]) -> torch.Tensor:
        """A copy on the device, queued on the current stream."""
        pinned = self.pinned(array.shape, self.dtype_of(array))
        pinned.numpy()[...] = array
        return pinned.to(self.torch_device, non_blocking=True)

    def dtype_of(self, array: NDArray[Any]) -> torch.dtype:
        """Torch's name for the type of an array."""
        return self.torch.from_numpy(np.empty(0, dtype=array.dtype)).dtype

    def upload_async(self, pinned: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Starts a copy beside the current stream; what is returned gives the copy.

        It makes the stream that is current then wait for the copy, and not the host. The memory
        belongs to the stream of copies: it has to be told who else uses it.
        """
        cuda = self.torch.cuda
        with cuda.stream(self._copies):
            copy = pinned.to(self.torch_device, non_blocking=True)
            is_there = self._copies.record_event()

        def receive() -> torch.Tensor:
            stream = cuda.current_stream(self.torch_device)
            stream.wait_event(is_there)
            copy.record_stream(stream)
            return copy

        return receive

    def record_event(self) -> Callable[[], None]:
        """A function that waits until everything that is queued now has been done."""
        return self.torch.cuda.current_stream(self.torch_device).record_event().synchronize

    @contextmanager
    def explain_oom(self, n_bytes: int, advice: str) -> Iterator[None]:
        """Where memory is asked for: its lack becomes an error that names bytes and a remedy."""
        try:
            yield
        except self.torch.cuda.OutOfMemoryError as error:
            raise self.out_of_memory(n_bytes, advice) from error

    def empty_cache(self) -> None:
        """What torch holds for later, so that it can be taken in other sizes."""
        self.torch.cuda.empty_cache()

    def out_of_memory(self, n_bytes: int, advice: str) -> MemoryError:
        return MemoryError(
            f"the CUDA device {self.torch_device} has no room for {n_bytes} bytes "
            f"({self.free_bytes()} are free): {advice}"
        )

    # --- rows -------------------------------------------------------------------------------------

    def pitch(self, n_features: int, dtype: torch.dtype) -> int:
        """Numbers from the beginning of one row to that of the next."""
        per_row = _ROW_BYTES // dtype.itemsize
        return -(-n_features // per_row) * per_row

    def to_padded_rows(self, array: NDArray[np.floating]) -> torch.Tensor:
        """A copy of rows, (..., pitch)."""
        n_features, dtype = array.shape[-1], self.dtype_of(array)
        pinned = self.pinned((*array.shape[:-1], self.pitch(n_features, dtype)), dtype)
        target = pinned.numpy()
        target[..., :n_features] = array
        target[..., n_features:] = 0
        return pinned.to(self.torch_device, non_blocking=True)

    def padded(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the device as such rows; itself if it is that already."""
        n_features = tensor.shape[-1]
        missing = self.pitch(n_features, tensor.dtype) - n_features
        rows = tensor.detach()
        if missing:
            rows = self.torch.nn.functional.pad(rows, (0, missing))
        return rows.contiguous()

    def as_tensor(self, array: NDArray[Any]) -> torch.Tensor:
        """The memory of an array as a tensor, to be read only."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return self.torch.from_numpy(array)
