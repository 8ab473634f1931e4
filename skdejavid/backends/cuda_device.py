"""Memory and streams of a CUDA device, which torch allocates and manages.

Rows (frames, time steps) begin at multiples of 16 bytes on a device and are padded with zeros. All
work is queued on torch's current stream and nothing waits for it. Memory can be freed while work on
it is queued: torch reuses it only for work that is queued later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["CudaDevice"]

_ROW_BYTES = 16  # rows begin at multiples of it


class CudaDevice:
    """Memory and streams of one CUDA device.

    Parameters
    ----------
    number : int
        CUDA's number of the device.
    native : module
        The native core, whose CUDA problems and optimizer compute on the device.
    """

    def __init__(self, number: int, native: ModuleType) -> None:
        import torch

        self.torch = torch
        self.number = number
        self.native = native
        self.torch_device = torch.device("cuda", number)
        self._copy_stream = torch.cuda.Stream(self.torch_device)

    def stream(self) -> int:
        """Return the address of torch's current stream."""
        return int(self.torch.cuda.current_stream(self.torch_device).cuda_stream)

    def free_bytes(self) -> int:
        """Return the bytes of free memory, including those that torch keeps in its cache."""
        cuda = self.torch.cuda
        cached = cuda.memory_reserved(self.torch_device) - cuda.memory_allocated(self.torch_device)
        return int(cuda.mem_get_info(self.torch_device)[0] + cached)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Allocate a tensor on the device."""
        return self.torch.empty(shape, dtype=dtype, device=self.torch_device)

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Allocate pinned host memory, from which copies to the device are asynchronous.

        It can be freed while copies are queued: torch reuses it only when they are done.
        """
        return self.torch.empty(shape, dtype=dtype, pin_memory=True)

    def upload(self, array: NDArray[Any]) -> torch.Tensor:
        """Queue a copy of an array to the device on the current stream."""
        pinned = self.pinned(array.shape, self.dtype_of(array))
        pinned.numpy()[...] = array
        return pinned.to(self.torch_device, non_blocking=True)

    def dtype_of(self, array: NDArray[Any]) -> torch.dtype:
        """Return the torch type that corresponds to the type of an array."""
        return self.torch.from_numpy(np.empty(0, dtype=array.dtype)).dtype

    def upload_async(self, pinned: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Start a copy to the device on a stream of its own; return a function that gives the copy.

        Calling the function makes the current stream, and not the host, wait for the copy.
        """
        cuda = self.torch.cuda
        with cuda.stream(self._copy_stream):
            copy = pinned.to(self.torch_device, non_blocking=True)
            copied = self._copy_stream.record_event()

        def receive() -> torch.Tensor:
            stream = cuda.current_stream(self.torch_device)
            stream.wait_event(copied)
            # The memory was allocated on the stream of copies: without this, the allocator would
            # reuse it while the current stream still reads it.
            copy.record_stream(stream)
            return copy

        return receive

    def record_event(self) -> Callable[[], None]:
        """Return a function that waits until all work that is queued now is done."""
        return self.torch.cuda.current_stream(self.torch_device).record_event().synchronize

    @contextmanager
    def explain_oom(self, n_bytes: int, advice: str) -> Iterator[None]:
        """Turn CUDA out-of-memory errors into MemoryError with the size and a suggested fix."""
        try:
            yield
        except self.torch.cuda.OutOfMemoryError as error:
            raise self.out_of_memory(n_bytes, advice) from error

    def empty_cache(self) -> None:
        """Return cached memory to CUDA, so that it can be allocated in other sizes."""
        self.torch.cuda.empty_cache()

    def out_of_memory(self, n_bytes: int, advice: str) -> MemoryError:
        """Return the error for an allocation of `n_bytes` that failed."""
        return MemoryError(
            f"the CUDA device {self.torch_device} cannot allocate {n_bytes} bytes "
            f"({self.free_bytes()} are free): {advice}"
        )

    # --- rows -------------------------------------------------------------------------------------

    def pitch(self, n_features: int, dtype: torch.dtype) -> int:
        """Return the number of elements from the beginning of one row to that of the next."""
        per_row = _ROW_BYTES // dtype.itemsize
        return -(-n_features // per_row) * per_row

    def to_padded_rows(self, array: NDArray[np.floating]) -> torch.Tensor:
        """Queue a copy of rows (..., n_features) to the device as padded rows (..., pitch)."""
        n_features, dtype = array.shape[-1], self.dtype_of(array)
        pinned = self.pinned((*array.shape[:-1], self.pitch(n_features, dtype)), dtype)
        target = pinned.numpy()
        target[..., :n_features] = array
        target[..., n_features:] = 0
        return pinned.to(self.torch_device, non_blocking=True)

    def to_array(self, rows: torch.Tensor, n_features: int) -> NDArray[np.floating]:
        """Copy rows to the host without their padding, as a contiguous array (..., n_features)."""
        array: NDArray[np.floating] = rows[..., :n_features].cpu().numpy()
        return np.ascontiguousarray(array)

    def padded(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the device as padded rows: itself if nothing has to be added."""
        n_features = tensor.shape[-1]
        missing = self.pitch(n_features, tensor.dtype) - n_features
        rows = tensor.detach()
        if missing:
            rows = self.torch.nn.functional.pad(rows, (0, missing))
        return rows.contiguous()
