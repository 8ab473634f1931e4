"""Fingerprints of encoders, by which a store distinguishes them."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from skdejavid.compat.optional import import_optional

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["fingerprint", "needs_id"]

# Modules to (state when it was computed, fingerprint).
_cache: WeakKeyDictionary[torch.nn.Module, tuple[Any, str]] = WeakKeyDictionary()


def fingerprint(encoder: Any, encoder_id: str | None = None) -> str:
    """Return a string that identifies an encoder in any process.

    Parameters
    ----------
    encoder : torch.nn.Module or callable
        The fingerprint of a module depends on its class name, structure, parameters and buffers.
    encoder_id : str, optional
        Returned instead of a computed fingerprint. Required if `encoder` is not a module: what a
        function computes depends on the Python version and on values outside of its code.

    Raises
    ------
    ValueError
        If `encoder` is not a module and `encoder_id` is None.
    """
    if encoder_id is not None:
        return encoder_id
    if not needs_id(encoder):
        return _fingerprint_of_module(encoder)
    is_lambda = getattr(encoder, "__name__", None) == "<lambda>"
    kind = "lambda" if is_lambda else type(encoder).__name__
    raise ValueError(
        f"cannot fingerprint the encoder (a {kind}): pass encoder_id, a string unique to each "
        "encoder"
    )


def needs_id(encoder: Any) -> bool:
    """Return whether an encoder has no fingerprint of its own, since it is not a module."""
    return not isinstance(encoder, torch.nn.Module)


def _fingerprint_of_module(module: torch.nn.Module) -> str:
    state = module.state_dict(keep_vars=True)
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    structure = re.sub(r" at 0x[0-9a-f]+", "", repr(module))
    # Hashing gigabytes of parameters takes seconds, and each call of `transform` needs the
    # fingerprint. The cached one is valid while structure, version counters and samples of all
    # tensors are unchanged. Inference tensors have no version counter, so they are hashed again.
    signature = None
    if not any(tensor.is_inference() for tensor in tensors):
        signature = structure, [_signature(tensor) for tensor in tensors]
    cached = _cache.get(module)
    if cached is not None and signature is not None and cached[0] == signature:
        return cached[1]
    name = type(module).__qualname__
    digest = sha256(name.encode())
    digest.update(structure.encode())
    for key, value in state.items():
        digest.update(key.encode())
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(_bytes_of(value))
        else:
            digest.update(repr(value).encode())
    computed = f"{name}-{digest.hexdigest()[:16]}"
    _cache[module] = signature, computed
    return computed


def _signature(tensor: torch.Tensor) -> tuple[int, int, bytes]:
    """Return address, version and some values of a tensor.

    Values are needed because writing to ``tensor.data`` does not change the version.
    """
    flat = tensor.detach().reshape(-1)
    sample = flat[:: max(1, len(flat) // 16)]
    return tensor.data_ptr(), tensor._version, bytes(_bytes_of(sample))


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    flat: Any = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return flat.data
