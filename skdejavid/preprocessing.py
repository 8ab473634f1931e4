"""Transformers of sequences into sequences, for steps of a Pipeline before the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skdejavid.sequences import TSEArray, check_sequences

__all__ = ["TimeDifferences", "check_lags", "with_differences"]

Lag = int | float


def check_lags(lags: Any, name: str) -> tuple[Lag, ...]:
    """Lags as a tuple, each at least 1 frame or a fraction of a sequence between 0 and 1."""
    if isinstance(lags, (str, bytes)) or not isinstance(lags, (Sequence, np.ndarray)):
        raise ValueError(f"{name} must be a sequence of numbers, got {lags!r}")
    for i, lag in enumerate(lags):
        is_frames = isinstance(lag, (int, np.integer)) and not isinstance(lag, bool) and lag >= 1
        is_fraction = isinstance(lag, (float, np.floating)) and 0 < lag < 1
        if not (is_frames or is_fraction):
            raise ValueError(
                f"{name}[{i}] must be an int of at least 1 (frames) or a float between 0 and 1 "
                f"(of the sequence's length), got {lag!r}"
            )
    return tuple(lags)


def with_differences(sequences: TSEArray, lags: Sequence[Lag]) -> TSEArray:
    """Sequences whose frames hold their features and, for each lag, those features' differences.

    The difference of lag k at frame j is that between frames j + ceil(k / 2) and j - floor(k / 2),
    or the last and the first where the sequence ends before. A fraction is rounded to whole frames,
    at least one.
    """
    values, lengths = sequences.values, sequences.lengths
    n_features = sequences.n_features
    expanded = np.empty((len(values), n_features * (1 + len(lags))), dtype=values.dtype)
    expanded[:, :n_features] = values
    first = np.repeat(sequences.offsets[:-1], lengths)
    last = np.repeat(sequences.offsets[1:] - 1, lengths)
    rows = np.arange(len(values))
    for i, lag in enumerate(lags, start=1):
        later, earlier = (np.repeat(half, lengths) for half in _halves(lag, lengths))
        target = expanded[:, i * n_features : (i + 1) * n_features]
        np.subtract(
            values[np.minimum(rows + later, last)],
            values[np.maximum(rows - earlier, first)],
            out=target,
        )
    return TSEArray.from_packed(expanded, sequences.offsets)


def _halves(lag: Lag, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many frames later and earlier, for sequences of these lengths (n_sequences,)."""
    if isinstance(lag, (int, np.integer)):
        n_frames = np.full(len(lengths), int(lag), dtype=np.int64)
    else:
        n_frames = np.maximum(1, np.rint(lag * lengths).astype(np.int64))
    earlier = n_frames // 2
    return n_frames - earlier, earlier


class TimeDifferences(  # type: ignore[call-arg]  # scikit-learn has no types
    TransformerMixin, BaseEstimator, auto_wrap_output_keys=None
):
    """Append to each frame how its features change over time.

    A matcher that compares values alone cannot tell rising from falling at the same value.

    Parameters
    ----------
    lags : sequence of int or float, default=(1, 0.05, 0.1)
        Over how many frames changes are taken: an int is a number of frames, a float between 0 and
        1 a fraction of each sequence's length, rounded to at least one frame. The frames lie on
        both sides of the one that they describe, as far as the sequence reaches.

    Attributes
    ----------
    n_features_in_ : int
        Number of features of a frame.

    feature_names_in_ : ndarray of str
        Names of the features, if `X` was a data frame with string column names.

    Examples
    --------
    >>> import numpy as np
    >>> from skdejavid import TimeDifferences
    >>> X = [np.array([[0.0], [1.0], [4.0], [9.0]])]
    >>> TimeDifferences(lags=(1, 2)).fit_transform(X)[0]
    array([[0., 1., 1.],
           [1., 3., 4.],
           [4., 5., 8.],
           [9., 0., 5.]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"lags": ["array-like"]}

    def __init__(self, lags: Sequence[Lag] = (1, 0.05, 0.1)) -> None:
        self.lags = lags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Only note the number and names of the features.

        Parameters
        ----------
        X : sequences
            Anything that :class:`TSEArray` reads.
        y : ignored

        Returns
        -------
        self : TimeDifferences
        """
        self._validate_params()
        check_lags(self.lags, "lags")
        check_sequences(X, estimator=self)
        return self

    def transform(self, X: Any) -> TSEArray:
        """Append the differences.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        TSEArray
            With ``n_features_in_ * (1 + len(lags))`` features: those of `X`, then the differences
            of all of them for one lag after the other.
        """
        check_is_fitted(self, "n_features_in_")
        sequences = check_sequences(X, estimator=self, reset=False)
        return with_differences(sequences, check_lags(self.lags, "lags"))

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Names of the features, such as ``x0`` and ``x0_lag_0.05``.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the features of `X`. None takes ``feature_names_in_``, or ``x0``, ``x1``, ...

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self, "n_features_in_")
        names = list(_check_feature_names_in(self, input_features))
        changes = [f"{name}_lag_{lag}" for lag in self.lags for name in names]
        return np.array(names + changes, dtype=object)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Do nothing: sequences are no table, whatever the container of other steps.

        Parameters
        ----------
        transform : ignored

        Returns
        -------
        self : TimeDifferences
        """
        return self
