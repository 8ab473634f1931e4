"""Remedies that several messages name."""

from __future__ import annotations

import warnings

from sklearn.exceptions import DataDimensionalityWarning

__all__ = ["HINT_FOR_TABLES", "warn_of_table"]

HINT_FOR_TABLES = (
    "Pass one sequence as [X]; a long table, with one row for each frame, as "
    "TSEArray.from_long(X, id=...); univariate series as numpy.asarray(X)[:, :, None]; sequences "
    "of one frame each as numpy.asarray(X)[:, None]."
)


def warn_of_table(n_rows: int, *, stacklevel: int) -> None:
    """Warn that each row of a 2-D array is read as a sequence of one frame."""
    warnings.warn(
        f"X is a 2-D array, and each of its {n_rows} rows is read as a sequence of one frame. "
        f"{HINT_FOR_TABLES}",
        DataDimensionalityWarning,
        stacklevel=stacklevel,
    )
