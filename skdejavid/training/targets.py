"""Labels and sample weights as the classifier takes them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skdejavid.compat.sklearn import is_pandas_na, is_scalar_nan
from skdejavid.sequences import TSEArray

__all__ = ["check_targets", "class_weights", "positive_weights", "scaled_weights"]

ClassWeight = Mapping[Any, float] | str | None


def check_targets(y: ArrayLike | None, sequences: TSEArray, estimator_name: str) -> NDArray[Any]:
    """Class labels (n_sequences,), or an error that says what is wrong with `y`."""
    if y is None:
        raise ValueError(
            f"This {estimator_name} estimator requires y to be passed, but the target y is None."
        )
    targets = column_or_1d(y, warn=True)
    if targets.dtype == object:
        _require_labels(targets)
    assert_all_finite(targets, input_name="y")
    check_classification_targets(targets)
    if len(targets) != len(sequences):
        hint = (
            " A 2-D array is read as sequences of one frame each; pass a single sequence as [x]."
            if sequences.lengths.max() == 1
            else ""
        )
        raise ValueError(
            "Found input variables with inconsistent numbers of samples: "
            f"[{len(sequences)}, {len(targets)}].{hint}"
        )
    return targets


def _require_labels(targets: NDArray[np.object_]) -> None:
    """Of objects, no NumPy function says which is missing, or which cannot be sorted."""
    kinds: dict[type, int] = {}
    for i, label in enumerate(targets):
        if label is None or is_scalar_nan(label) or is_pandas_na(label):
            raise ValueError(f"Input y contains NaN or another missing label: y[{i}] is {label!r}")
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
    """What the weight (n_sequences,) of each sample is multiplied by because of its class.

    "balanced" gives all classes the same sum of weights; weight k acts as k copies.
    """
    if class_weight is None:
        return np.ones(len(y))
    classes, labels = np.unique(y, return_inverse=True)
    if isinstance(class_weight, str):  # "balanced"
        totals = np.bincount(labels, sample_weight)
        mean = totals.sum() / np.count_nonzero(totals)
        return np.divide(mean, totals, out=np.ones_like(totals), where=totals > 0)[labels]
    for label, weight in class_weight.items():
        if not (isinstance(weight, Real) and 0 <= weight < np.inf):
            raise ValueError(
                f"class_weight[{label!r}] must be a finite number of at least 0, got {weight!r}"
            )
    names = classes.tolist()
    unknown = [label for label in class_weight if label not in names]
    if unknown:
        raise ValueError(f"class_weight[{unknown[0]!r}] is of a class that is not in y: {names}")
    return np.array([float(class_weight.get(name, 1.0)) for name in names])[labels]


def scaled_weights(sample_weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights in units in which the largest is about 1; only their ratios have a meaning.

    Divided by a power of two, so that no bit is lost.
    """
    _, exponent = np.frexp(sample_weight.max())
    return np.ldexp(sample_weight, -exponent)


def positive_weights(sample_weight: NDArray[np.float64], y: NDArray[Any]) -> NDArray[np.intp]:
    """Indices of the samples that count; warns if that leaves a class without any."""
    if not sample_weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    kept = np.flatnonzero(sample_weight)
    lost = np.setdiff1d(y, y[kept])
    if len(lost):
        warnings.warn(
            f"all samples of class {lost.tolist()[0]!r} have zero weight: the class is left out",
            UserWarning,
            stacklevel=4,  # the caller of fit
        )
    return kept
