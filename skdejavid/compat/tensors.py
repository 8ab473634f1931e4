"""Torch tensors that share the memory of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["as_tensor"]


def as_tensor(values: Any) -> torch.Tensor:
    """Return a tensor of an array, which shares its memory, or of anything else that torch accepts.

    The caller must not write to the tensor: the memory of the array may be read-only.
    """
    import torch

    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = np.asarray(_WritableAlias(values))
    return torch.as_tensor(values)


class _WritableAlias:
    """The memory of an array, described as writable.

    Torch warns about arrays described as read-only. To ignore the warning for one call would change
    the filters of all threads.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        interface = array.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}
        self._array = array  # owns the memory
