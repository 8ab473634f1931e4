"""Fingerprints of encoders, by which a store distinguishes them."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

from skdejavid.compat.optional import import_optional
from skdejavid.video.code_parts import replaced_in_module
from skdejavid.video.object_graphs import Node, UnknowableError, digest_of
from skdejavid.video.object_parts import describe
from skdejavid.video.torch_parts import original_module

if TYPE_CHECKING:
    import torch
else:
    torch = import_optional("torch", "video", "TSEExtractor")

__all__ = ["fingerprint", "needs_id"]


class _Encoder(NamedTuple):
    """An encoder, and what holds for all modules of the process."""

    encoder: Any


def fingerprint(encoder: Any, encoder_id: str | None = None) -> str:
    """Return a string that identifies an encoder in any process.

    The fingerprint of a module depends on all that can be found from it: parameters, buffers, other
    attributes of any kind, submodules wherever they are stored, hooks, and the code of the user's
    classes and functions with the values of global variables that it reads. It does not depend on
    comments and layout of that code, the device, gradients, the mode (extraction always evaluates),
    how numbers lie in memory, where a Hugging Face model was loaded from, or ``torch.compile``.

    Code of installed packages counts by name and version. The versions of torch, NumPy and Python
    do not count, except that code of the user depends on Python's minor version.

    What code reads while it runs is not seen: files, the environment, random numbers, and functions
    of libraries that were edited on disk.

    Parameters
    ----------
    encoder : torch.nn.Module, method of one, or callable
    encoder_id : str, optional
        Returned instead of a computed fingerprint. Required if `encoder` is neither a module nor a
        method of one, is TorchScript, or contains objects whose state cannot be read.

    Raises
    ------
    ValueError
        If `encoder_id` is required and None. The message names the object that requires it, as
        ``encoder.blocks[3].cache``.
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
    """Return whether an encoder never has a fingerprint of its own.

    Only modules and their methods have one, since other functions are often made of values that
    nothing connects with them, and TorchScript has none.
    """
    owner = encoder.__self__ if isinstance(encoder, MethodType) else encoder
    return not isinstance(owner, torch.nn.Module) or isinstance(owner, torch.jit.ScriptModule)


def _fingerprint_of_module(encoder: Any) -> str:
    try:
        digest = digest_of(_Encoder(encoder), _describe, "encoder")
    except UnknowableError as error:
        raise ValueError(
            f"cannot fingerprint the encoder: {error}: pass encoder_id, a string unique to each "
            "encoder"
        ) from error
    is_method = isinstance(encoder, MethodType)
    module = encoder.__self__ if is_method else encoder
    is_graph = isinstance(module, torch.fx.GraphModule)  # whose copies have other names
    names = ["GraphModule" if is_graph else type(original_module(module) or module).__name__]
    names += [encoder.__func__.__name__] if is_method else []
    return f"{'.'.join(names)}-{digest.hex()[:16]}"


def _describe(value: Any) -> Node | bytes:
    return _root(value.encoder) if type(value) is _Encoder else describe(value)


def _root(encoder: Any) -> Node:
    every = torch.nn.modules.module
    hooks = [*every._global_forward_pre_hooks.values(), *every._global_forward_hooks.values()]
    parts = [("", encoder), (" calls torch.Tensor", torch.Tensor), (" calls hooks", hooks)]
    for module in (torch, torch.nn.functional):
        for suffix, value in replaced_in_module(module):
            parts.append((f" calls {module.__name__}{suffix}", value))
    return Node("encoder", parts)
