"""Run an encoder's module in evaluation mode and on a device, and leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from skdejavid.compat.optional import import_optional

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["first_parameter", "first_tensor", "inference", "on_device"]


@contextmanager
def inference(encoder: Any) -> Iterator[None]:
    """Enter evaluation and inference mode; restore the mode of every submodule on exit."""
    owner = _module_of(encoder)
    modes = {} if owner is None else {module: module.training for module in owner.modules()}
    try:
        for module in modes:
            module.training = False
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def on_device(encoder: Any, device: torch.device | None) -> Iterator[None]:
    """Move a module to a device, and back on exit."""
    module, tensor = _module_of(encoder), first_tensor(encoder)
    if device is None or module is None or tensor is None or tensor.device == device:
        yield
        return
    before = tensor.device
    try:
        module.to(device)  # may run out of memory halfway; the rest is moved back too
        yield
    finally:
        module.to(before)


def _module_of(encoder: Any) -> torch.nn.Module | None:
    """Return the encoder if it is a module, or the module that it is a method of."""
    owner = getattr(encoder, "__self__", encoder)
    return owner if isinstance(owner, torch.nn.Module) else None


def first_parameter(encoder: Any) -> torch.Tensor | None:
    """Return a floating-point parameter, whose dtype is the precision of the module."""
    module = _module_of(encoder)
    parameters = [] if module is None else module.parameters()
    return next((p for p in parameters if p.is_floating_point()), None)


def first_tensor(encoder: Any) -> torch.Tensor | None:
    """Return a parameter or buffer, whose device is that of the module."""
    module = _module_of(encoder)
    tensors = [] if module is None else chain(module.parameters(), module.buffers())
    return next(iter(tensors), None)
