"""Transformers of sequences into sequences, for steps of a Pipeline before the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    has_fit_parameter,
)

from skdejavid.compat.sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    check_feature_names_in,
    check_sample_weight,
)
from skdejavid.sequences import TSEArray, check_sequences, is_table_of_frames
from skdejavid.sequences.containers import accepted_dtypes
from skdejavid.sequences.transforms import Lag, check_lags, resample, with_differences

__all__ = [
    "Framewise",
    "Resample",
    "TimeDifferences",
]


class SequenceTransformer(TransformerMixin, BaseEstimator):
    """What turns sequences into sequences; those are no table, so no output container applies.

    Only a table in which every row is a sequence of one frame stays a table, if it still is one.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(auto_wrap_output_keys=None, **kwargs)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Do nothing: sequences are no table, whatever the container of other steps.

        Parameters
        ----------
        transform : ignored

        Returns
        -------
        self : object
            This transformer.
        """
        return self

    @staticmethod
    def _as_given(X: Any, transformed: TSEArray) -> TSEArray | NDArray[np.floating]:
        is_table = transformed.lengths.max() == 1 and is_table_of_frames(X)
        return transformed.values if is_table else transformed

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class TimeDifferences(SequenceTransformer):
    """Append to each frame how its features change over time.

    A matcher that compares values alone cannot tell rising from falling at the same value.

    Parameters
    ----------
    lags : sequence of int or float, default=(1, 0.1)
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

    def __init__(self, lags: Sequence[Lag] = (1, 0.1)) -> None:
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

    def transform(self, X: Any) -> TSEArray | NDArray[np.floating]:
        """Append the differences.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        TSEArray
            With ``n_features_in_ * (1 + len(lags))`` features: those of `X`, then the differences
            of all of them for one lag after the other. A 2-D array, if `X` is one.
        """
        check_is_fitted(self, "n_features_in_")
        sequences = check_sequences(X, estimator=self, reset=False)
        return self._as_given(X, with_differences(sequences, check_lags(self.lags, "lags")))

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Names of the features, such as ``x0`` and ``x0_lag_0.1``.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the features of `X`. None takes ``feature_names_in_``, or ``x0``, ``x1``, ...

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self, "n_features_in_")
        names = list(check_feature_names_in(self, input_features))
        changes = [f"{name}_lag_{lag}" for lag in self.lags for name in names]
        return np.array(names + changes, dtype=object)


class Resample(OneToOneFeatureMixin, SequenceTransformer):
    """Give all sequences the same number of frames, by linear interpolation over time.

    For models that need sequences of one length; alignment does not.

    Parameters
    ----------
    n_timesteps : int or "median", default="median"
        Number of frames of each result. "median" takes the median length of the training sequences,
        rounded down.
        The first and the last frame are kept; with one time step, the middle is taken.

    Attributes
    ----------
    n_timesteps_ : int
        Number of frames of each result.

    n_features_in_ : int
        Number of features of a frame.

    feature_names_in_ : ndarray of str
        Names of the features, if `X` was a data frame with string column names.

    Examples
    --------
    >>> import numpy as np
    >>> from skdejavid import Resample
    >>> X = [np.array([[0.0], [1.0], [4.0]]), np.array([[2.0]])]
    >>> [x.ravel().tolist() for x in Resample(n_timesteps=5).fit_transform(X)]
    [[0.0, 0.5, 1.0, 2.5, 4.0], [2.0, 2.0, 2.0, 2.0, 2.0]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_timesteps": [StrOptions({"median"}), Interval(Integral, 1, None, closed="left")]
    }

    def __init__(self, n_timesteps: int | str = "median") -> None:
        self.n_timesteps = n_timesteps

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the number of frames.

        Parameters
        ----------
        X : sequences
            Anything that :class:`TSEArray` reads.
        y : ignored

        Returns
        -------
        self : Resample
        """
        self._validate_params()
        lengths = check_sequences(X, estimator=self).lengths
        self.n_timesteps_ = (
            int(np.median(lengths)) if isinstance(self.n_timesteps, str) else int(self.n_timesteps)
        )
        return self

    def transform(self, X: Any) -> TSEArray | NDArray[np.floating]:
        """Interpolate.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        TSEArray
            Of ``n_timesteps_`` frames each; ``np.stack`` makes it a 3-D array. A 2-D array, if `X`
            is one and they are of one frame.
        """
        check_is_fitted(self, "n_timesteps_")
        sequences = check_sequences(X, estimator=self, reset=False)
        return self._as_given(X, TSEArray(resample(sequences.view(), self.n_timesteps_)))


class Framewise(SequenceTransformer):
    """Apply a transformer of tables to the frames of all sequences.

    It is fitted on all frames of all training sequences at once, as one table, and transforms each
    frame on its own. So scikit-learn's preprocessing works on sequences, inside of a Pipeline and
    without leaking from test folds. Folds that a transformer makes itself, such as
    ``TargetEncoder``'s, are of frames and not of sequences.

    Parameters
    ----------
    transformer : estimator
        With ``fit`` and ``transform``, such as ``StandardScaler()``, ``PCA(64, whiten=True)`` or
        ``LinearDiscriminantAnalysis()``. It is cloned; the clone is fitted. If it uses `y`, each
        frame has its sequence's target.

    Attributes
    ----------
    transformer_ : estimator
        The fitted transformer.

    n_features_in_ : int
        Number of features of a frame.

    feature_names_in_ : ndarray of str
        Names of the features, if `X` was a data frame with string column names.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from skdejavid import Framewise
    >>> X = [np.array([[0.0], [4.0]]), np.array([[2.0]])]
    >>> [x.ravel().tolist() for x in Framewise(MinMaxScaler()).fit_transform(X)]
    [[0.0, 1.0], [0.5]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "transformer": [HasMethods(["fit", "transform"])]
    }

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    def fit(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit the transformer on all frames.

        Parameters
        ----------
        X : sequences
            Anything that :class:`TSEArray` reads.
        y : array-like of shape (n_sequences,) or (n_sequences, n_outputs), optional
            Targets, such as class labels.
        sample_weight : array-like of shape (n_sequences,), optional
            How often each frame of a sequence counts, if the transformer takes weights.

        Returns
        -------
        self : Framewise

        Raises
        ------
        ValueError
            If `sample_weight` is given and the transformer takes none, or as the transformer.
        """
        sequences, per_frame = self._check_fit(X, y, sample_weight)
        self.transformer_ = clone(self.transformer).fit(sequences.values, **per_frame)
        return self

    def fit_transform(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> TSEArray | NDArray[np.floating]:
        """Fit and transform, by the transformer's own ``fit_transform`` if it has one.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.
        y : array-like of shape (n_sequences,) or (n_sequences, n_outputs), optional
            As in :meth:`fit`.
        sample_weight : array-like of shape (n_sequences,), optional
            As in :meth:`fit`.

        Returns
        -------
        TSEArray
            As :meth:`transform`.
        """
        if not hasattr(self.transformer, "fit_transform"):
            return self.fit(X, y, sample_weight).transform(X)
        sequences, per_frame = self._check_fit(X, y, sample_weight)
        transformer = clone(self.transformer)
        frames = transformer.fit_transform(sequences.values, **per_frame)
        self.transformer_ = transformer
        return self._as_given(X, self._one_of_each(frames, sequences))

    def transform(self, X: Any) -> TSEArray | NDArray[np.floating]:
        """Transform each frame.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        TSEArray
            Sequences of the same lengths, with the features that the transformer makes. A 2-D
            array, if `X` is one.
        """
        check_is_fitted(self, "transformer_")
        sequences = check_sequences(X, estimator=self, reset=False)
        frames = self.transformer_.transform(sequences.values)
        return self._as_given(X, self._one_of_each(frames, sequences))

    def _check_fit(
        self, X: Any, y: ArrayLike | None, sample_weight: ArrayLike | None
    ) -> tuple[TSEArray, dict[str, NDArray[Any]]]:
        """The sequences, and for each of their frames what ``fit`` of the transformer takes beside.

        What a target may be is the transformer's to say.
        """
        self._validate_params()
        sequences = check_sequences(X, estimator=self)
        per_frame = {}
        if y is not None:
            check_consistent_length(sequences, y)
            per_frame["y"] = np.repeat(np.asarray(y), sequences.lengths, axis=0)
        if sample_weight is not None:
            if not has_fit_parameter(self.transformer, "sample_weight"):
                raise ValueError(f"sample_weight was given, but {self.transformer!r} takes none")
            weight = check_sample_weight(sample_weight, sequences.lengths, dtype=np.float64)
            per_frame["sample_weight"] = np.repeat(weight, sequences.lengths)
        return sequences, per_frame

    def _one_of_each(self, transformed: Any, sequences: TSEArray) -> TSEArray:
        """The sequences with these frames instead."""
        name = f"the result of {self.transformer_!r}"
        frames = check_array(transformed, input_name=name, dtype=accepted_dtypes(transformed))
        if len(frames) != sequences.total_frames:
            raise ValueError(
                f"{self.transformer_!r} made {len(frames)} frames of {sequences.total_frames}, "
                "expected one of each"
            )
        return TSEArray.from_packed(frames, sequences.offsets, sequences.spans)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Names of the features as the transformer gives them.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the features of `X`. None takes ``feature_names_in_``, or ``x0``, ``x1``, ...

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self, "transformer_")
        names = check_feature_names_in(self, input_features)
        return self.transformer_.get_feature_names_out(names)
