"""Remedies that several messages name, and warnings that point to the code of the user."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings

import joblib  # type: ignore[import-untyped]
import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.exceptions import DataDimensionalityWarning

__all__ = ["HINT_FOR_TABLES", "remedy_of_missing_values", "warn_caller", "warn_of_table"]

HINT_FOR_TABLES = (
    "Pass one sequence as [X]; a long table, with one row for each frame, as "
    "TSEArray.from_long(X, id=...); univariate series as numpy.asarray(X)[:, :, None]; sequences "
    "of one frame each as numpy.asarray(X)[:, None]."
)

# An estimator may be called through a pipeline or a search, and a method through the context
# manager that decorates it: files of these are not the code of the user.
_NOT_CALLERS = (
    *(
        os.path.join(os.path.dirname(path), "")
        for path in (os.path.dirname(__file__), sklearn.__file__, joblib.__file__)
    ),
    contextlib.__file__,
)


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn with the line that called the package, directly or through scikit-learn."""
    warnings.warn(message, category, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """Return the number of calls from the caller of this function to code outside."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_CALLERS):
        frame, level = frame.f_back, level + 1
    return level


def warn_of_table(n_rows: int) -> None:
    """Warn that each row of a 2-D array is read as a sequence of one frame."""
    warn_caller(
        f"X is a 2-D array, and each of its {n_rows} rows is read as a sequence of one frame. "
        f"{HINT_FOR_TABLES}",
        DataDimensionalityWarning,
    )


def remedy_of_missing_values(sequence: NDArray[np.floating]) -> str:
    """Return what to do about a sequence that contains NaN."""
    is_frame = ~np.isnan(sequence).all(axis=1)
    if not is_frame.any():
        return " All its numbers are NaN: remove the sequence, and its label."
    padding = ""
    if not is_frame[0]:
        padding = (
            " The sequence begins with frames of NaN: if they are padding, cut them off, with "
            "[x[(~numpy.isnan(x).all(axis=1)).argmax():] for x in X]."
        )
    elif not is_frame[-1]:
        padding = (
            " The sequence ends with frames of NaN: if they are padding, use "
            "TSEArray.from_padded(X), or TSEArray.from_tslearn(X), which is the same for data of "
            "tslearn."
        )
    return (
        f"{padding} Fill in missing values in a step of a pipeline before: Interpolate(), or "
        "Framewise(SimpleImputer())."
    )
