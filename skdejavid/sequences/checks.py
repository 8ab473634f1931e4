"""Checks of sequences on their way into an estimator or a computation."""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import numpy as np
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.utils.validation import validate_data

from skdejavid.compat.sklearn import check_n_features
from skdejavid.sequences.array import TSEArray
from skdejavid.sequences.axes import looks_transposed
from skdejavid.sequences.containers import read
from skdejavid.sequences.hints import (
    HINT_FOR_TABLES,
    remedy_of_missing_values,
    warn_caller,
    warn_of_table,
)
from skdejavid.sequences.tables import feature_names_of

__all__ = ["Checked", "check_half_range", "check_no_overflow", "check_sequences", "read_checked"]

_MOST_NAMES = 5  # that a message lists, as in scikit-learn


class Checked(NamedTuple):
    """Sequences that have been checked, and what reading them has found."""

    sequences: TSEArray
    is_table: bool  # read from a 2-D array, each row a sequence of one frame


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
        Estimator whose ``n_features_in_``, ``feature_names_in_`` and ``single_frames_in_`` are set
        or compared.
    reset : bool, default=True
        True to set the attributes of `estimator`, as in ``fit``; False to compare with them.
    ensure_all_finite : bool or "allow-nan", default=True
        Whether to refuse NaN and infinity; "allow-nan" refuses only infinity.

    Returns
    -------
    TSEArray
        At least one sequence, all values finite unless `ensure_all_finite` allows others, with the
        names of the features. `X` is never modified, and copied only if its layout in memory
        requires it.

    Raises
    ------
    TypeError
        If `X`, or an item of it, is of a type that cannot be read as a sequence.
    ValueError
        If there is no sequence, a sequence is empty, is not 2-D or contains NaN or infinity, if the
        numbers of features differ within `X` or from those seen in ``fit``, if `X` is a 2-D
        array but ``fit`` saw sequences of several frames, or if `ensure_all_finite` is something
        else.

    Warns
    -----
    DataDimensionalityWarning
        If `X` is a 2-D array and nobody has said that its rows are sequences of one frame, or if
        in ``fit`` the numbers of `X` look as if channels came before time, unless `X` is a
        ``TSEArray`` or has names of features.
    """
    return read_checked(
        X, estimator=estimator, reset=reset, ensure_all_finite=ensure_all_finite
    ).sequences


def read_checked(
    X: Any, *, estimator: Any = None, reset: bool = True, ensure_all_finite: bool | str = True
) -> Checked:
    """Do what `check_sequences` does, and return what else reading has found.

    `X` is read only here: a table of another library may be computed each time that it is read.
    """
    if ensure_all_finite not in (True, False, "allow-nan"):
        raise ValueError(
            f'ensure_all_finite must be True, False or "allow-nan", got {ensure_all_finite!r}'
        )
    sequences, is_table, named = _read(X)
    if len(sequences) == 0:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    if ensure_all_finite:
        _check_finite(sequences, allow_nan=ensure_all_finite == "allow-nan")
    if estimator is not None:
        _check_features(sequences, named, estimator, reset)
    if is_table:
        _check_that_rows_are_meant(sequences, estimator, reset)
    if estimator is not None and reset:
        estimator.single_frames_in_ = bool(sequences.lengths.max() == 1)
        is_said = isinstance(X, TSEArray) or hasattr(estimator, "feature_names_in_")
        if not (is_table or is_said) and looks_transposed(sequences.view()):
            _warn_of_axes(sequences)
    return Checked(sequences, is_table)


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


def _read(X: Any) -> tuple[TSEArray, bool, Any | None]:
    """Return the sequences, whether `X` is a 2-D array, and a table that names the features."""
    if isinstance(X, TSEArray):
        return X, False, None
    packed = read(X)
    names = feature_names_of(packed.named)
    sequences = TSEArray._of_checked(packed.values, packed.offsets, names=names)
    return sequences, packed.is_table, packed.named


def _check_features(sequences: TSEArray, named: Any | None, estimator: Any, reset: bool) -> None:
    """Set the number and names of features in `estimator`, or compare them."""
    try:
        if named is None and sequences.feature_names is not None:
            _check_names(sequences.feature_names, estimator, reset)
            check_n_features(estimator, sequences[0], reset=reset)
        else:
            frames = sequences[0] if named is None else named
            validate_data(estimator, frames, reset=reset, skip_check_array=True)
    except ValueError as error:
        if reset or (sequences.lengths != getattr(estimator, "n_features_in_", None)).any():
            raise
        raise ValueError(
            f"{error}\nThe sequences have as many frames as {type(estimator).__name__} expects "
            "features: if channels come before time, as in aeon and sktime, use "
            "TSEArray.from_aeon(X)."
        ) from error


def _check_names(names: tuple[str, ...], estimator: Any, reset: bool) -> None:
    """Do with the names of a ``TSEArray`` what scikit-learn does with those of a data frame."""
    if reset:
        estimator.feature_names_in_ = np.array(names, dtype=object)
        return
    fitted = getattr(estimator, "feature_names_in_", None)
    if fitted is None:
        kind = type(estimator).__name__
        message = f"X has feature names, but {kind} was fitted without feature names"
        warn_caller(message, UserWarning)
    elif list(fitted) != list(names):
        raise ValueError(
            "The feature names should match those that were passed during fit.\n"
            + (
                _listed("Feature names unseen at fit time:", set(names) - set(fitted))
                + _listed(
                    "Feature names seen at fit time, yet now missing:", set(fitted) - set(names)
                )
                or "Feature names must be in the same order as they were in fit.\n"
            )
        )


def _listed(title: str, names: set[str]) -> str:
    shown = sorted(names)[:_MOST_NAMES] + ["..."] * (len(names) > _MOST_NAMES)
    return "\n- ".join([title, *shown]) + "\n" if names else ""


def _check_that_rows_are_meant(sequences: TSEArray, estimator: Any, reset: bool) -> None:
    """Refuse a 2-D array if the estimator was fitted to longer sequences; warn if it is unclear."""
    seen = None if estimator is None or reset else getattr(estimator, "single_frames_in_", None)
    if seen is None:
        warn_of_table(len(sequences))
    elif not seen:
        raise ValueError(
            f"X is a 2-D array, whose {len(sequences)} rows would be sequences of one frame each, "
            f"but {type(estimator).__name__} was fitted to sequences of several frames. "
            f"{HINT_FOR_TABLES}"
        )


def _warn_of_axes(sequences: TSEArray) -> None:
    warn_caller(
        f"X is read as sequences of {sequences.lengths[0]} frames and {sequences.n_features} "
        "features, but its numbers run smoothly from feature to feature and not from frame to "
        "frame, as if channels came before time. If so, as in aeon and sktime, use "
        "TSEArray.from_aeon(X). If not, TSEArray(X) says that this layout is meant.",
        DataDimensionalityWarning,
    )


def _check_finite(sequences: TSEArray, allow_nan: bool) -> None:
    for rows, frames in sequences.chunks():
        with np.errstate(over="ignore", invalid="ignore"):
            total = frames.sum()
        if np.isfinite(total):  # needs no temporary array, and no NaN or infinity has a finite sum
            continue
        bad = np.argwhere(np.isinf(frames) if allow_nan else ~np.isfinite(frames))
        if len(bad):  # if none, the values are finite and only their sum overflows
            row, feature = bad[0]
            _raise_not_finite(frames[row, feature], sequences, rows.start + row, feature)


def _raise_not_finite(
    value: np.floating, sequences: TSEArray, row: np.integer, feature: np.integer
) -> NoReturn:
    offsets = sequences.offsets
    index = int(np.searchsorted(offsets, row, side="right")) - 1
    frame = row - offsets[index]
    what, remedy = f"infinity or a value too large for dtype('{value.dtype}')", ""
    if np.isnan(value):
        what, remedy = "NaN", remedy_of_missing_values(sequences[index])
    raise ValueError(
        f"Input X[{index}] contains {what}, first at frame {frame}, feature {feature}.{remedy}"
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
