"""Memory of the machine."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["memory_of_machine", "return_free_memory"]

# Where Linux says how much memory the processes of a container may use (cgroups 2 and 1).
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@cache
def memory_of_machine() -> float:
    """Return the bytes of memory that this process can have at most.

    It is the memory of the machine, or less where a container or a limit of the process's address
    space (``ulimit -v``) says so; infinity where the system reports none. It is asked once.
    """
    return min(_limits(), default=math.inf)


def return_free_memory() -> None:
    """Return free memory of the heap to the system, if the C library can (glibc).

    In a third of the runs, glibc 2.36 did not reuse most of the memory of frames that were freed:
    the process grew with each video, although nothing was kept.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], Any] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None


def _limits() -> Iterator[float]:
    with suppress(AttributeError, ValueError, OSError):
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CONTAINER_LIMITS:
        with suppress(ValueError, OSError):  # "max", or no such file
            yield int(path.read_bytes())
    with suppress(ImportError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            yield limit
