"""What of tensors and arrays decides: numbers, dtype and shape, but neither device nor strides."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from skdejavid.compat.optional import import_optional
from skdejavid.video.content_hashes import hash_of_array, hash_of_tensor
from skdejavid.video.object_graphs import Node, UnknowableError

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["array_node", "tensor_node"]

# Attributes of tensors with which torch and transformers mark them.
_MARKS = {"_is_hf_initialized", "_is_param", "_is_buffer", "persistent"}

_PLAIN = {torch.Tensor, torch.nn.Parameter, getattr(torch.nn, "Buffer", torch.Tensor)}

_UNINITIALIZED = (torch.nn.UninitializedParameter, torch.nn.UninitializedBuffer)

_INDICES = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}


def tensor_node(tensor: torch.Tensor) -> Node:
    """Return what decides of a tensor of any kind.

    Whether it is a parameter, requires a gradient, or is tied to another one does not matter.

    Raises
    ------
    UnknowableError
        If the tensor has no numbers, as on the device "meta", or they cannot be read.
    """
    kind = type(tensor)
    attributes = {k: v for k, v in vars(tensor).items() if k not in _MARKS}
    parts: list[tuple[str, Any]] = [] if kind in _PLAIN else [(".__class__", kind)]
    parts += [(f".{name}", attributes[name]) for name in sorted(attributes)]
    if isinstance(tensor, _UNINITIALIZED):
        raise UnknowableError("is not initialized (call the encoder once with a batch of clips)")
    if hasattr(kind, "__tensor_flatten__"):
        names, context = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
        inside = [(f".{name}", getattr(tensor, name)) for name in names]
        context_part = (".__tensor_flatten__()", context)
        return Node("tensor of tensors", [*parts, *_type_of(tensor), *inside, context_part])
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise UnknowableError(f"is a {kind.__qualname__}, whose numbers cannot be read")
    with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
        plain = tensor.detach()
        node = _of_layout(plain if kind in _PLAIN else plain.as_subclass(torch.Tensor))
    return node._replace(parts=[*parts, *node.parts])


def array_node(array: np.ndarray[Any, Any]) -> Node:
    """Return what decides of an array of NumPy."""
    kind = type(array)
    parts: list[tuple[str, Any]] = [(".dtype", repr(array.dtype)), (".shape", array.shape)]
    if kind not in (np.ndarray, np.memmap):
        attributes = getattr(array, "__dict__", {})
        parts.append((".__class__", kind))
        parts += [(f".{name}", attributes[name]) for name in sorted(attributes)]
    plain = np.asarray(array)
    if plain.dtype.names is not None:  # there may be anything between the fields
        return Node("array", parts + [(f"[{name!r}]", plain[name]) for name in plain.dtype.names])
    if plain.dtype.hasobject:
        return Node("array", [*parts, (".tolist()", list(plain.flat))])
    return Node("array", parts, content=partial(hash_of_array, plain), n_bytes=plain.nbytes)


def _type_of(tensor: torch.Tensor) -> list[tuple[str, Any]]:
    return [(".dtype", str(tensor.dtype)), (".shape", tuple(tensor.shape))]


def _of_layout(tensor: torch.Tensor) -> Node:
    if tensor.is_nested or tensor.device.type == "meta":
        kind = "nested tensor" if tensor.is_nested else "tensor on the device 'meta'"
        raise UnknowableError(f"is a {kind}, whose numbers cannot be read")
    parts = _type_of(tensor)
    if tensor.is_quantized:
        return Node("quantized tensor", parts + _of_quantized(tensor))
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        stored = [(".indices()", tensor.indices()), (".values()", tensor.values())]
        return Node("sparse tensor", parts + stored)
    if tensor.layout in _INDICES:
        indices = [(f".{name}()", getattr(tensor, name)()) for name in _INDICES[tensor.layout]]
        layout = (".layout", str(tensor.layout))
        return Node("sparse tensor", [*parts, layout, *indices, (".values()", tensor.values())])
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    n_bytes = tensor.numel() * tensor.element_size()
    return Node("tensor", parts, content=partial(hash_of_tensor, tensor), n_bytes=n_bytes)


def _of_quantized(tensor: torch.Tensor) -> list[tuple[str, Any]]:
    parts: list[tuple[str, Any]] = [
        (".int_repr()", tensor.int_repr()),
        (".qscheme()", str(tensor.qscheme())),
    ]
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        scale: tuple[Any, ...] = (tensor.q_scale(), tensor.q_zero_point())
    else:
        scale = (
            tensor.q_per_channel_scales(),
            tensor.q_per_channel_zero_points(),
            tensor.q_per_channel_axis(),
        )
    return [*parts, (".q_scale()", scale)]
