"""A check of memory maps before they are read."""

from __future__ import annotations

import errno
import os
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
        Any array; only a memory map, or an array that shares memory with one, is checked. If NumPy
        does not know the file, because another library has mapped it, only the last page is: a cut
        inside of that page is not noticed.

    Raises
    ------
    ValueError
        If the file is shorter; the message names it, if NumPy knows it.
    """
    name, offset = None, None
    base: Any = array
    while isinstance(base, (np.ndarray, memoryview)):
        if isinstance(base, np.memmap):
            name, offset = base.filename, base.offset
        base = base.obj if isinstance(base, memoryview) else base.base
    if isinstance(base, mmap):
        # Python does not tell the offset of a map that NumPy has not made.
        end = (offset or 0) // ALLOCATIONGRANULARITY * ALLOCATIONGRANULARITY + len(base)
        size = base.size()  # of the file that was mapped, even if its name now means another
        if size < end:
            raise ValueError(
                f"{name or 'a file'} has {size} bytes, but {end} are mapped: it has been cut while "
                "it was open. Restore it, and open it again."
            )
    if offset is None and base is not None and not isinstance(base, (bytes, bytearray)):
        _check_last_page(array)


def _check_last_page(array: NDArray[Any]) -> None:
    """Let the operating system read the last byte: it returns an error where we would be killed."""
    if array.size == 0 or array.dtype.hasobject or array.dtype.itemsize == 0:
        return
    last = tuple(slice(-1, None) if stride >= 0 else slice(1) for stride in array.strides)
    try:
        descriptors = os.pipe()
    except OSError:  # too many files are open
        return
    try:
        os.write(descriptors[1], np.asarray(array)[last].reshape(-1).view(np.uint8)[-1:].data)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
        raise ValueError(
            "the file behind an array is shorter than what is mapped: it has been cut while it was "
            "open. Restore it, and open it again."
        ) from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
