"""How many threads a call may use."""

from __future__ import annotations

from skdejavid.compat.sklearn import effective_n_threads

__all__ = ["count_threads"]

_MOST_THREADS = 1024  # more than any machine has; a bound on mistakes


def count_threads(n_jobs: int | None) -> int:
    """Number of threads for `n_jobs`: what scikit-learn's own OpenMP code would use.

    None and -1 are all physical cores, or as many as OMP_NUM_THREADS, threadpoolctl, a container or
    a parallel worker limit them to; -2 is one fewer. A positive number is that number.
    """
    if n_jobs == 0:
        raise ValueError("n_jobs must not be 0: use None or -1 for all cores")
    return min(effective_n_threads(n_jobs), _MOST_THREADS)
