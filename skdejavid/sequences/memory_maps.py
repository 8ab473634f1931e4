"""A check of memory maps before they are read."""

from __future__ import annotations

from mmap import ALLOCATIONGRANULARITY, mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_memory_map"]


def check_memory_map(array: NDArray[Any]) -> None:
    """Check that the file behind a memory map is still as long as when it was mapped.

    Reading beyond the end of a file kills the process, without an exception. The file may still
    shrink after this check: nobody may cut a file while it is read.

    Parameters
    ----------
    array : ndarray
        Any array; only a memory map, or an array that shares memory with one, is checked.

    Raises
    ------
    ValueError
        If the file is shorter; the message names it.
    """
    name, offset = None, None
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            name, offset = base.filename, base.offset
        base = base.base
    if offset is None or not isinstance(base, mmap):
        return
    end = offset - offset % ALLOCATIONGRANULARITY + len(base)
    size = base.size()  # of the file that was mapped, even if its name now means another
    if size < end:
        raise ValueError(
            f"{name or 'a file'} has {size} bytes, but {end} are mapped: it has been cut while it "
            "was open. Restore it, and open it again."
        )
