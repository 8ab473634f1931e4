"""Checks of sequences on their way into an estimator or a computation."""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from skdejavid.sequences.array import TSEArray
from skdejavid.sequences.containers import is_table, named_frames, read

__all__ = ["check_half_range", "check_no_overflow", "check_sequences", "is_table_of_frames"]


def check_sequences(
    X: Any, *, estimator: Any = None, reset: bool = True, ensure_all_finite: bool | str = True
) -> TSEArray:
    """Convert any collection of sequences to a ``TSEArray`` and check it.

    All estimators and functions of the package read their input with this function.

    Parameters
    ----------
    X : sequences
        Any of the types listed in :class:`TSEArray`.
    estimator : estimator instance, optional
        Estimator whose ``n_features_in_`` and ``feature_names_in_`` are set or compared.
    reset : bool, default=True
        True to set the attributes of `estimator`, as in ``fit``; False to compare with them.
    ensure_all_finite : bool or "allow-nan", default=True
        Whether to refuse NaN and infinity; "allow-nan" refuses only infinity.

    Returns
    -------
    TSEArray
        At least one sequence, all values finite unless `ensure_all_finite` allows others. `X` is
        never modified, and copied only if its layout in memory requires it.

    Raises
    ------
    TypeError
        If `X`, or an item of it, is of a type that cannot be read as a sequence.
    ValueError
        If there is no sequence, a sequence is empty, is not 2-D or contains NaN or infinity, if the
        numbers of features differ within `X` or from those seen in ``fit``, or `ensure_all_finite`
        is something else.
    """
    if ensure_all_finite not in (True, False, "allow-nan"):
        raise ValueError(
            f'ensure_all_finite must be True, False or "allow-nan", got {ensure_all_finite!r}'
        )
    sequences, is_validated = _read(X, estimator, reset)
    if len(sequences) == 0:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    if ensure_all_finite:
        _check_finite(sequences, allow_nan=ensure_all_finite == "allow-nan")
    if estimator is not None and not is_validated:
        frames = named_frames(X)
        if frames is None:
            frames = sequences[0]
        validate_data(estimator, frames, reset=reset, skip_check_array=True)
    return sequences


def is_table_of_frames(X: Any) -> bool:
    """Return whether `X`, already checked, is a 2-D array with one sequence in each row."""
    return not isinstance(X, TSEArray) and is_table(X)


def check_no_overflow(sequences: TSEArray) -> None:
    """Check that no distance between the sequences, and no variance, can overflow.

    Raises
    ------
    ValueError
        If a value is too large; the message names its sequence.
    """
    largest_sum = 4.0 * sequences.lengths.max() * sequences.n_features
    dtype = sequences.frame_dtype
    limit = min(np.finfo(dtype).max / largest_sum, np.sqrt(np.finfo(np.float64).max))
    largest, index = _largest_magnitude(sequences)
    if largest > limit:
        raise ValueError(
            f"X[{index}] contains values up to {largest:.3g}: distances would overflow in {dtype}. "
            "Scale the features to a smaller range."
        )


def check_half_range(sequences: TSEArray) -> None:
    """Check that the sequences can be stored as float16 while they are computed with in float32.

    Raises
    ------
    ValueError
        If the frames are not float32, or a value is outside of the range of float16.
    """
    if sequences.frame_dtype != np.float32:
        raise ValueError(
            f"half_storage=True requires float32 data, but X is {sequences.frame_dtype}: convert "
            "it to float32, or set half_storage=False."
        )
    largest, index = _largest_magnitude(sequences)
    limit = float(np.finfo(np.float16).max)
    if largest > limit:
        raise ValueError(
            f"X[{index}] contains values up to {largest:.3g}, but half_storage=True requires "
            f"values within +-{limit:g}: scale the features, or set half_storage=False."
        )


def _read(X: Any, estimator: Any, reset: bool) -> tuple[TSEArray, bool]:
    """Return the sequences, and whether scikit-learn has already validated `X`."""
    if isinstance(X, TSEArray):
        return X, False
    if estimator is None:
        return TSEArray(X), False
    packed = read(X, partial(validate_data, estimator, reset=reset))
    return TSEArray._of_checked(packed.values, packed.offsets), packed.is_table


def _check_finite(sequences: TSEArray, allow_nan: bool) -> None:
    for rows, frames in sequences.chunks():
        with np.errstate(over="ignore", invalid="ignore"):
            total = frames.sum()
        if np.isfinite(total):  # needs no temporary array, and no NaN or infinity has a finite sum
            continue
        bad = np.argwhere(np.isinf(frames) if allow_nan else ~np.isfinite(frames))
        if len(bad):  # if none, the values are finite and only their sum overflows
            row, feature = bad[0]
            _raise_not_finite(frames[row, feature], sequences.offsets, rows.start + row, feature)


def _raise_not_finite(
    value: np.floating, offsets: NDArray[np.int64], row: np.integer, feature: np.integer
) -> NoReturn:
    index = int(np.searchsorted(offsets, row, side="right")) - 1
    what = "NaN" if np.isnan(value) else f"infinity or a value too large for dtype('{value.dtype}')"
    remedy = ""
    if np.isnan(value):
        remedy = (
            " Fill in missing values in a step of a pipeline before: Interpolate(), or "
            "Framewise(SimpleImputer()). TSEArray.from_padded(X) removes padding."
        )
    raise ValueError(
        f"Input X[{index}] contains {what}, first at frame {row - offsets[index]}, "
        f"feature {feature}.{remedy}"
    )


def _largest_magnitude(sequences: TSEArray) -> tuple[float, int]:
    """Return the largest absolute value, and the index of the first sequence that contains it."""
    largest, position = -np.inf, 0
    for rows, frames in sequences.chunks():
        sizes = np.maximum(frames.max(axis=1), -frames.min(axis=1)).astype(np.float64)
        row = int(sizes.argmax())
        if sizes[row] > largest:
            largest, position = float(sizes[row]), rows.start + row
    return largest, int(np.searchsorted(sequences.offsets, position, side="right")) - 1
