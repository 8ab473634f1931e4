"""Number of threads of a call."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from skdejavid.compat.optional import loaded
from skdejavid.compat.parameters import as_python
from skdejavid.compat.sklearn import effective_n_threads

__all__ = ["count_threads", "on_one_thread"]

T = TypeVar("T")
R = TypeVar("R")

_MAX_THREADS = 1024  # more than any machine has: a limit for mistyped numbers


def count_threads(n_jobs: int | None) -> int:
    """Return the number of threads for `n_jobs`, as scikit-learn's own OpenMP code counts them.

    Parameters
    ----------
    n_jobs : int or None
        None and -1 are all physical cores, or fewer where OMP_NUM_THREADS, threadpoolctl, a
        container or a joblib worker sets a limit; -2 is one fewer, and so on. A positive number is
        that number.

    Returns
    -------
    int
        At most 1024.

    Raises
    ------
    TypeError
        If `n_jobs` is not an integer or None.
    ValueError
        If `n_jobs` is 0.
    """
    n_jobs = as_python(n_jobs)
    if not (n_jobs is None or type(n_jobs) is int):
        raise TypeError(f"n_jobs must be an int or None, got {n_jobs!r}")
    if n_jobs == 0:
        raise ValueError("n_jobs must not be 0: use None or -1 for all cores")
    return min(effective_n_threads(n_jobs), _MAX_THREADS)


def on_one_thread(function: Callable[[T], R]) -> Callable[[T], R]:
    """Return a function that calls `function` without further threads of OpenMP, and so of torch.

    The numbers of threads of the caller, before and afterwards, and of other threads stay as they
    are.
    """
    torch = loaded("torch")
    libraries = _openmp_libraries(has_torch=torch is not None)

    def call(argument: T) -> R:
        if torch is not None:
            torch.get_num_threads()  # the first call in a thread sets the number of this thread
        with libraries.limit(limits=1):
            return function(argument)

    return call


@lru_cache
def _openmp_libraries(*, has_torch: bool) -> Any:
    """Return the libraries of OpenMP that are loaded; finding them takes milliseconds."""
    return ThreadpoolController().select(user_api="openmp")
