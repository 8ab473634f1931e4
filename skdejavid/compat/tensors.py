"""Torch tensors that share the memory of arrays, and arrays of tensors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["as_tensor", "is_batch_of_old_vmap", "without_torch"]


def as_tensor(values: Any) -> torch.Tensor:
    """Return a tensor of an array, which shares its memory, or of anything else that torch accepts.

    The caller must not write to the tensor: the memory of the array may be read-only.
    """
    import torch

    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = np.asarray(_WritableAlias(values))
    return torch.as_tensor(values)


def without_torch(X: Any) -> Any:
    """Convert a tensor, or tensors in a list, to NumPy; return anything else as it is.

    Torch is not imported: without it there are no tensors.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return X
    if type(X) in (list, tuple) and any(isinstance(x, torch.Tensor) for x in X):
        return [without_torch(x) for x in X]
    if not isinstance(X, torch.Tensor):
        return X
    if X.layout not in (torch.strided, torch.jagged):
        raise TypeError(
            f"Sparse data was passed, but dense data is required: a tensor of layout {X.layout}. "
            "Use X.to_dense()."
        )
    if X.is_nested:
        try:
            return list(X.unbind())
        except RuntimeError as error:
            raise ValueError(f"X is a nested tensor that is damaged: {error}") from error
    # Torch may have only noted that numbers are conjugated or negated.
    tensor = X.detach().cpu().resolve_conj().resolve_neg()
    if str(tensor.dtype) == "torch.bfloat16":  # which NumPy does not have
        tensor = tensor.float()
    return tensor.numpy()


def is_batch_of_old_vmap(tensor: torch.Tensor) -> bool:
    """Return whether a tensor stands for a batch of ``is_grads_batched=True``, which has no values.

    Torch has no public function for this; without the private one, nothing is recognized.
    """
    import torch

    functorch = getattr(torch._C, "_functorch", None)
    is_batch = getattr(functorch, "is_legacy_batchedtensor", lambda tensor: False)
    return bool(is_batch(tensor))


class _WritableAlias:
    """The memory of an array, described as writable.

    Torch warns about arrays described as read-only. To ignore the warning for one call would change
    the filters of all threads.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        interface = array.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}
        self._array = array  # owns the memory
