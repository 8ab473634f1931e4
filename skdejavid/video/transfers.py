"""Copies of frames to a device, and of embeddings back, for which a card does not wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional
from skdejavid.compat.tensors import as_tensor

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["Download", "Transfers", "transfers_to"]


class Download(NamedTuple):
    """A tensor on its way to the memory of the host."""

    tensor: torch.Tensor
    wait: Callable[[], object] | None  # None if it has arrived

    def get(self) -> NDArray[Any]:
        """Wait until the tensor has arrived; return it as an array."""
        if self.wait is not None:
            self.wait()
        values: NDArray[Any] = self.tensor.numpy()
        return values


class Transfers:
    """Copies that are complete when a method returns.

    Threads that read ahead call `stage`, and one thread the other methods.

    Parameters
    ----------
    device : torch.device
        Where the encoder computes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def stage(self, frame: NDArray[np.uint8]) -> torch.Tensor:
        """Return a frame as a tensor in memory that the device can copy from by itself."""
        # The faster function keeps the interpreter's lock, for which threads would have to wait.
        return torch.from_numpy(frame) if frame.flags.writeable else as_tensor(frame)

    def upload(self, frame: torch.Tensor) -> torch.Tensor:
        """Return a frame on the device; on the CPU the frame itself."""
        return frame if frame.device == self.device else frame.to(self.device)

    def await_uploads(self) -> None:
        """Let what the device computes from now on wait for all frames uploaded before."""

    def download(self, tensor: torch.Tensor, dtype: torch.dtype) -> Download:
        """Copy a tensor to the host, as `dtype`; whoever made it may write to it afterwards."""
        return Download(tensor.to("cpu", dtype, copy=True), None)


class _CudaTransfers(Transfers):
    """Copies that a card makes while it computes and the host goes on."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._stream = torch.cuda.Stream(device)

    def stage(self, frame: NDArray[np.uint8]) -> torch.Tensor:
        return super().stage(frame).pin_memory()

    def upload(self, frame: torch.Tensor) -> torch.Tensor:
        # Torch reuses neither the staged memory before the copy is made, nor, since the other
        # stream is recorded, the memory on the card before the clips of the frame are gathered.
        with torch.cuda.stream(self._stream):
            uploaded = frame.to(self.device, non_blocking=True)
        uploaded.record_stream(torch.cuda.current_stream(self.device))
        return uploaded

    def await_uploads(self) -> None:
        torch.cuda.current_stream(self.device).wait_stream(self._stream)

    def download(self, tensor: torch.Tensor, dtype: torch.dtype) -> Download:
        if tensor.device.type != "cuda":
            return super().download(tensor, dtype)
        copied = tensor.to("cpu", dtype, non_blocking=True)  # to pinned memory
        event = torch.cuda.Event(blocking=True)  # spinning would take a core from the decoders
        event.record(torch.cuda.current_stream(tensor.device))
        return Download(copied, event.synchronize)


def transfers_to(device: torch.device) -> Transfers:
    """Return the copies to and from a device."""
    return _CudaTransfers(device) if device.type == "cuda" else Transfers(device)
