"""How much memory may be used for what a file or an array claims to contain."""

from __future__ import annotations

__all__ = ["FACTOR", "most_bytes"]

# What is stored compressed, or refers to the same bytes several times, may become this many times
# larger when it is read. Real data do not come close to it.
FACTOR = 20


def most_bytes(n_bytes: int, allowance: int) -> int:
    """Return how many bytes may be used because of what `n_bytes` stored bytes claim.

    Parameters
    ----------
    n_bytes : int
        Size of what is stored.
    allowance : int
        Number of bytes that are harmless whatever the size is. The caller says why.

    Returns
    -------
    int
        `FACTOR` times the size, and the allowance.
    """
    return FACTOR * n_bytes + allowance
