"""Computing with torch in a process that was forked after its parent had used torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

__all__ = ["survive_fork"]

# The thread that this process was forked in, if torch was loaded then. Its pool of threads has
# stayed behind in the parent, and operations of torch that use the pool would wait forever.
_thread_without_pool: int | None = None


def _remember_thread() -> None:
    global _thread_without_pool
    _thread_without_pool = get_ident() if "torch" in sys.modules else None


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing is forked
    os.register_at_fork(after_in_child=_remember_thread)


@contextmanager
def survive_fork() -> Iterator[None]:
    """Let torch compute with one thread where a fork has taken the others, and only there.

    Raises
    ------
    RuntimeError
        If the block uses CUDA, which does not survive a fork.
    """
    if _thread_without_pool != get_ident():
        yield
        return
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    except RuntimeError as error:
        if "CUDA" in str(error) and "initializ" in str(error):
            raise RuntimeError(
                "the encoder cannot use CUDA: this process was forked from one that had used it. "
                "Start workers with joblib's 'loky' or multiprocessing's 'spawn'"
            ) from error
        raise
    finally:
        torch.set_num_threads(n_threads)
