"""The memory that a block of a test allocates."""

import tracemalloc
from contextlib import contextmanager
from types import SimpleNamespace


@contextmanager
def traced_memory():
    """Measure what Python and NumPy allocate; after the block, `peak` is the largest sum."""
    traced = SimpleNamespace()
    tracemalloc.start()
    try:
        yield traced
        traced.peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
