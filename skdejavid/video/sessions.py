"""Run an encoder in evaluation mode and on a device, and leave it as it was."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any
from weakref import ref

from skdejavid.compat.optional import import_optional
from skdejavid.video.copies import module_of, private_copy, uses_shared_state
from skdejavid.video.held_modules import check_held_modules

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["evaluation", "first_parameter", "first_tensor", "precision", "turn_of"]

_turn = threading.RLock()  # of encoders that share something


def _renew_turn() -> None:
    """Forget who had the turn when this process was forked."""
    global _turn
    _turn = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_turn)


# Copies of sessions that have ended, and their sizes in bytes. Hooks that refer to a module keep
# some of them alive until the garbage collector runs, which does not see how large they are.
_ENDED: dict[ref[torch.nn.Module], int] = {}
_MAX_ENDED = 2**26  # bytes that may wait for it


@contextmanager
def evaluation(encoder: Any, device: torch.device | None) -> Iterator[Any]:
    """Yield an encoder in evaluation mode, whose module is a copy that nobody else has.

    Gradients are off. Tensors that the encoder stores in variables of its own are ordinary ones,
    with which it can be trained later; those of inference mode could not.

    Parameters
    ----------
    encoder : torch.nn.Module or callable
        A module, a method of one or a partial of either runs with a copy; other callables run as
        they are.
    device : torch.device or None
        Device of the copy; None is that of the module.

    Raises
    ------
    ValueError
        If the module cannot be copied, or the copy would use the original, or the encoder uses
        another module in training mode.
    RuntimeError
        If another thread changes the module all the time.
    """
    if module_of(encoder) is None:
        check_held_modules(encoder)
        own = encoder
    else:
        if sum(list(_ENDED.values())) > _MAX_ENDED:
            gc.collect()
        own = private_copy(encoder, device)
    try:
        with torch.no_grad():
            yield own
    finally:
        copied = module_of(own)
        if copied is not None:
            tensors = chain(copied.parameters(), copied.buffers())
            _ENDED[ref(copied, _ENDED.pop)] = sum(tensor.nbytes for tensor in tensors)


def turn_of(encoder: Any) -> AbstractContextManager[Any]:
    """Return what an encoder runs inside of: a lock, if it may share a state with others."""
    return _turn if uses_shared_state(encoder) else nullcontext()


@contextmanager
def precision(device: torch.device, dtype: str | None) -> Iterator[None]:
    """Use autocast with `dtype`, or switch off that of the caller, which changes embeddings."""
    if not torch.amp.is_autocast_available(device.type):
        yield
        return
    kind = None if dtype is None else getattr(torch, dtype)
    with torch.autocast(device.type, dtype=kind, enabled=dtype is not None):
        yield


def first_parameter(encoder: Any) -> torch.Tensor | None:
    """Return a floating-point parameter, whose dtype is the precision of the module."""
    module = module_of(encoder)
    parameters = [] if module is None else module.parameters()
    return next((p for p in parameters if p.is_floating_point()), None)


def first_tensor(encoder: Any) -> torch.Tensor | None:
    """Return a parameter or buffer, whose device is that of the module."""
    module = module_of(encoder)
    tensors = [] if module is None else chain(module.parameters(), module.buffers())
    return next(iter(tensors), None)
