"""Checks of class labels and sample weights."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skdejavid.sequences import TSEArray
from skdejavid.sequences.tables import is_missing, plain_labels

__all__ = [
    "MARGIN_POWER",
    "ClassWeight",
    "check_targets",
    "class_margins",
    "class_weights",
    "positive_weights",
    "scaled_weights",
]

# The power of a class's rarity that is its margin (measured in docs/explanation/method.md).
MARGIN_POWER = 0.6

# With larger margins the gradients of a float32 model would vanish.
_LARGEST_MARGIN = 100.0

ClassWeight = Mapping[Any, float] | str | None


def check_targets(y: ArrayLike | None, sequences: TSEArray, estimator_name: str) -> NDArray[Any]:
    """Check class labels and return them as an array (n_sequences,).

    Raises
    ------
    ValueError
        If `y` is None, not one-dimensional, not of the length of `sequences`, continuous, or
        contains missing labels.
    TypeError
        If `y` contains labels that cannot be sorted.
    """
    if y is None:
        raise ValueError(
            f"This {estimator_name} estimator requires y to be passed, but the target y is None."
        )
    _check_kept(y)
    targets = column_or_1d(plain_labels(y), warn=True)
    _check_labels(targets)
    assert_all_finite(targets, input_name="y")
    check_classification_targets(targets)
    if len(targets) != len(sequences):
        hint = (
            " A 2-D array is read as sequences of one frame each; pass a single sequence as [x], "
            "and a table with one row for each frame as TSEArray.from_long(X, id=...)."
            if sequences.lengths.max() == 1
            else " y must have one label for each sequence of X."
        )
        raise ValueError(
            "Found input variables with inconsistent numbers of samples: "
            f"[{len(sequences)}, {len(targets)}].{hint}"
        )
    return targets


def _check_kept(y: ArrayLike) -> None:
    """Check that no label is lost in NumPy's arrays, which cut null characters and forget masks."""
    if np.ma.is_masked(y):
        i = int(np.flatnonzero(np.ma.getmaskarray(y))[0])
        raise ValueError(f"Input y contains NaN or another missing label: y[{i}] is masked")
    if not isinstance(y, (list, tuple)):
        return
    for i, label in enumerate(y):
        if isinstance(label, str) and label.endswith("\0"):
            raise ValueError(
                f"y[{i}] is {label!r}: NumPy cuts null characters at the end of strings. Remove "
                "them, or pass y as an array of dtype object."
            )


def _check_labels(targets: NDArray[Any]) -> None:
    """Check that no label is missing, and that all can be sorted; name those that are not."""
    missing = np.flatnonzero(is_missing(targets))
    if missing.size:
        i = missing[0]
        raise ValueError(f"Input y contains NaN or another missing label: y[{i}] is {targets[i]!r}")
    if targets.dtype != object:
        return
    kinds: dict[type, int] = {}
    for i, label in enumerate(targets):
        kinds.setdefault(str if isinstance(label, str) else type(label), i)
    if str in kinds and len(kinds) > 1:
        i, j = list(kinds.values())[:2]
        raise TypeError(
            f"The labels in y must be either all strings or all numbers: y[{i}] is {targets[i]!r}, "
            f"y[{j}] is {targets[j]!r}"
        )


def class_weights(
    class_weight: ClassWeight,
    y: NDArray[Any],
    sample_weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the factor of each sample's weight, (n_sequences,), by its class.

    "balanced" gives all classes the same sum of weights, where weight k counts as k copies.
    """
    if class_weight is None:
        return np.ones(len(y))
    classes, labels = np.unique(y, return_inverse=True)
    if isinstance(class_weight, str):  # "balanced"
        totals = np.bincount(labels, sample_weight)
        mean = totals.sum() / np.count_nonzero(totals)
        return np.divide(mean, totals, out=np.ones_like(totals), where=totals > 0)[labels]
    for label, weight in class_weight.items():
        is_number = isinstance(weight, Real) and not isinstance(weight, np.timedelta64)
        if not (is_number and 0 <= weight <= sys.float_info.max):
            raise ValueError(
                f"class_weight[{label!r}] must be a finite number of at least 0, got {weight!r}"
            )
    factors = np.ones(len(classes))
    for label, weight in class_weight.items():
        factors[_position_of(label, classes)] = weight
    return factors[labels]


def _position_of(label: Any, classes: NDArray[Any]) -> int:
    """Return the index of a class; times are compared as moments, whatever their unit."""
    are_times, names = classes.dtype.kind in "mM", classes.tolist()
    if are_times:
        names = [str(name) for name in classes]
        moment = _as_numpy_time(label)
        if moment is not None and moment.dtype.kind == classes.dtype.kind:
            found = np.flatnonzero(classes == moment)
            if len(found):
                return int(found[0])
    elif not isinstance(label, (np.datetime64, np.timedelta64)) and label in names:
        return names.index(label)
    raise ValueError(f"class_weight[{label!r}] names a class that is not in y, which has {names}")


def _as_numpy_time(label: Any) -> Any | None:
    """Return a date, time or span of time of Python or pandas as NumPy's, or None for others."""
    if hasattr(label, "to_numpy"):  # of pandas, with nanoseconds
        label = label.to_numpy()
    if isinstance(label, datetime) and label.tzinfo is not None:
        label = label.astimezone(UTC).replace(tzinfo=None)
    if isinstance(label, date):
        return np.datetime64(label)
    if isinstance(label, timedelta):
        return np.timedelta64(label)
    return label if isinstance(label, (np.datetime64, np.timedelta64)) else None


def class_margins(
    class_weight: ClassWeight, labels: NDArray[np.integer]
) -> NDArray[np.float64] | None:
    """Return the margin of each class, (n_classes,): 1 for the class with the most sequences.

    A class with one k-th of its sequences has a margin of ``k ** MARGIN_POWER``, at most 100.
    Weights have no influence. There are no margins, and the result is None, unless `class_weight`
    is "balanced" and some classes have fewer sequences than others.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
    labels : array of shape (n_sequences,)
        Class numbers 0, 1, ... without gaps, of the sequences with positive weight.
    """
    if not isinstance(class_weight, str):
        return None
    counts = np.bincount(labels)
    most = counts.max()
    if counts.min() == most:
        return None
    return np.minimum((most / counts) ** MARGIN_POWER, _LARGEST_MARGIN)


def scaled_weights(sample_weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale weights so that the largest is about 1; only their ratios matter.

    The divisor is a power of two, so that scaling loses no precision.
    """
    _, exponent = np.frexp(sample_weight.max())
    return np.ldexp(sample_weight, -exponent)


def positive_weights(
    sample_weight: NDArray[np.float64], y: NDArray[Any]
) -> tuple[NDArray[np.intp], str | None]:
    """Return the indices of the samples with positive weight, and a warning or None.

    The warning names a class that has no such sample. It is returned so that ``fit`` can issue it
    for the line that called it.

    Raises
    ------
    ValueError
        If all weights are zero.
    """
    if not sample_weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    kept = np.flatnonzero(sample_weight)
    absent = np.setdiff1d(y, y[kept])
    if len(absent) == 0:
        return kept, None
    label = absent.tolist()[0]
    return kept, f"all samples of class {label!r} have zero weight: the class is left out"
