"""Transformers of sequences, for use in a Pipeline before the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    has_fit_parameter,
)

from skdejavid.compat.floating import underflow_allowed
from skdejavid.compat.optional import import_if_installed
from skdejavid.compat.parameters import PythonNumbersMixin, as_python
from skdejavid.compat.sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    check_feature_names_in,
    check_sample_weight,
)
from skdejavid.sequences import TSEArray, check_sequences, read_checked
from skdejavid.sequences.checks import Checked
from skdejavid.sequences.containers import accepted_dtypes
from skdejavid.sequences.tables import feature_names_of, usable_names
from skdejavid.sequences.transforms import (
    Lag,
    check_lags,
    interpolate,
    names_with_differences,
    resample,
    with_differences,
)

__all__ = [
    "Framewise",
    "Interpolate",
    "Resample",
    "SequenceTransformer",
    "TimeDifferences",
]


class SequenceTransformer(PythonNumbersMixin, TransformerMixin, BaseEstimator):
    """Base class of transformers that return sequences.

    The output is not a table, so `set_output` has no effect. It has names of features if the
    transformer was fitted to sequences with names. A 2-D array, whose rows are sequences of one
    frame, is transformed to a 2-D array if each result has one frame.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(auto_wrap_output_keys=None, **kwargs)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Do nothing: sequences are not a table, so no output container applies.

        Parameters
        ----------
        transform : ignored

        Returns
        -------
        self : object
            The transformer itself.
        """
        return self

    def _in_form_of(self, read: Checked, transformed: TSEArray) -> TSEArray | NDArray[np.floating]:
        """Return a 2-D array if one has been read and each transformed sequence has one frame."""
        if read.is_table and transformed.lengths.max() == 1:
            return transformed.frames
        return transformed._with_names(self._names_of(transformed))

    def _names_of(self, transformed: TSEArray) -> tuple[str, ...] | None:
        """Return the names of the features of the result, if those of the input had names."""
        if not hasattr(self, "feature_names_in_"):
            return None
        try:
            names = usable_names(self.get_feature_names_out())
        except Exception:
            # Of somebody's transformer of frames; its result is needed all the same.
            return transformed.feature_names
        return names if names is not None and len(names) == transformed.n_features else None

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class TimeDifferences(SequenceTransformer):
    """Append the differences of features over time to each frame.

    With values alone, a rising and a falling feature cannot be distinguished where their values are
    the same.

    Parameters
    ----------
    lags : sequence of int or float, default=(1, 0.1)
        Numbers of frames over which differences are taken: an int is a number of frames, a float
        between 0 and 1 is a fraction of the length of each sequence, rounded, at least one frame.
        The interval is centered at the frame, and cut off at the ends of the sequence.

    Attributes
    ----------
    n_features_in_ : int
        Number of features of a frame.

    feature_names_in_ : ndarray of str
        Names of the features, if `X` has them: a ``TSEArray`` with names, or data frames.

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

    @underflow_allowed
    def fit(self, X: Any, y: Any = None) -> Self:
        """Store the number and the names of the features; nothing is learned.

        Parameters
        ----------
        X : sequences
            Anything that :class:`TSEArray` accepts.
        y : ignored

        Returns
        -------
        self : TimeDifferences
        """
        self._validate_params()
        check_lags(self.lags, "lags")
        check_sequences(X, estimator=self)
        return self

    @underflow_allowed
    def transform(self, X: Any) -> TSEArray | NDArray[np.floating]:
        """Append the differences.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        TSEArray
            Sequences with ``n_features_in_ * (1 + len(lags))`` features: the features of `X`, then
            for each lag their differences. A 2-D array if `X` is a 2-D array.
        """
        check_is_fitted(self, "n_features_in_")
        read = read_checked(X, estimator=self, reset=False)
        transformed = with_differences(read.sequences, check_lags(self.lags, "lags"))
        return self._in_form_of(read, transformed)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return the names of the output features, such as ``x0`` and ``x0_lag_0.1``.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the features of `X`. If None, ``feature_names_in_`` or ``x0``, ``x1``, ...

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self, "n_features_in_")
        names = list(check_feature_names_in(self, input_features))
        lags = check_lags(self.lags, "lags")
        return np.array(names_with_differences(names, lags), dtype=object)


class Resample(OneToOneFeatureMixin, SequenceTransformer):
    """Resample all sequences to the same number of frames, by linear interpolation over time.

    This is for models that need sequences of one length. :class:`DejaVidClassifier` does not.

    Parameters
    ----------
    n_timesteps : int or "median", default="median"
        Number of frames of each resampled sequence. "median" is the median length of the training
        sequences, rounded down. The first and the last frame are kept; if `n_timesteps` is 1, the
        result is the middle of the sequence.

    Attributes
    ----------
    n_timesteps_ : int
        Number of frames of each resampled sequence.

    n_features_in_ : int
        Number of features of a frame.

    feature_names_in_ : ndarray of str
        Names of the features, if `X` has them: a ``TSEArray`` with names, or data frames.

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

    @underflow_allowed
    def fit(self, X: Any, y: Any = None) -> Self:
        """Determine the number of frames.

        Parameters
        ----------
        X : sequences
            Anything that :class:`TSEArray` accepts.
        y : ignored

        Returns
        -------
        self : Resample
        """
        self._validate_params()
        lengths = check_sequences(X, estimator=self).lengths
        n_timesteps = as_python(self.n_timesteps)
        self.n_timesteps_ = int(np.median(lengths)) if n_timesteps == "median" else n_timesteps
        return self

    @underflow_allowed
    def transform(self, X: Any) -> TSEArray | NDArray[np.floating]:
        """Resample sequences.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        TSEArray
            Sequences of ``n_timesteps_`` frames; ``np.stack`` turns them into a 3-D array. A 2-D
            array if `X` is a 2-D array and ``n_timesteps_`` is 1.
        """
        check_is_fitted(self, "n_timesteps_")
        read = read_checked(X, estimator=self, reset=False)
        transformed = TSEArray(resample(read.sequences.view(), self.n_timesteps_))
        return self._in_form_of(read, transformed)


class Interpolate(OneToOneFeatureMixin, SequenceTransformer):
    """Fill in missing values by linear interpolation over time.

    Missing values are NaN. Frames count as equally spaced in time. Before the first and after the
    last known value of a sequence, that value is repeated. Where a feature is missing in all frames
    of a sequence, it gets its mean over all known values of the training sequences.

    Statistical imputers, which do not use time, can be used with :class:`Framewise`.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,), float64
        Mean of the known values of each feature.

    n_features_in_ : int
        Number of features of a frame.

    feature_names_in_ : ndarray of str
        Names of the features, if `X` has them: a ``TSEArray`` with names, or data frames.

    Examples
    --------
    >>> import numpy as np
    >>> from skdejavid import Interpolate
    >>> X = [np.array([[np.nan], [1.0], [np.nan], [np.nan], [4.0]]), np.array([[np.nan]])]
    >>> [x.ravel().tolist() for x in Interpolate().fit_transform(X)]
    [[1.0, 1.0, 2.0, 3.0, 4.0], [2.5]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    @underflow_allowed
    def fit(self, X: Any, y: Any = None) -> Self:
        """Compute the mean of each feature.

        Parameters
        ----------
        X : sequences
            Anything that :class:`TSEArray` accepts. Values may be NaN.
        y : ignored

        Returns
        -------
        self : Interpolate

        Raises
        ------
        ValueError
            If all values of a feature are NaN.
        """
        sequences = check_sequences(X, estimator=self, ensure_all_finite="allow-nan")
        n_known = np.zeros(sequences.n_features)
        for _, frames in sequences.chunks():
            n_known += (~np.isnan(frames)).sum(axis=0)
        unknown = np.flatnonzero(n_known == 0)
        if unknown.size:
            raise ValueError(
                f"feature {unknown[0]} of X is NaN in all frames of all sequences, so nothing is "
                "known to fill in: remove the feature"
            )
        # Dividing first keeps the sum of large values finite.
        self.mean_ = np.zeros(sequences.n_features)
        for _, frames in sequences.chunks():
            self.mean_ += np.nansum(frames / n_known, axis=0)
        return self

    @underflow_allowed
    def transform(self, X: Any) -> TSEArray | NDArray[np.floating]:
        """Fill in missing values; known values stay as they are.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        TSEArray
            Sequences of the same lengths. A 2-D array if `X` is a 2-D array.
        """
        check_is_fitted(self, "mean_")
        read = read_checked(X, estimator=self, reset=False, ensure_all_finite="allow-nan")
        return self._in_form_of(read, interpolate(read.sequences, self.mean_))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class Framewise(SequenceTransformer):
    """Apply a scikit-learn transformer to the frames of sequences.

    The transformer is fitted to the frames of all training sequences as one table, and transforms
    each frame separately. So scikit-learn's preprocessing can be used in a Pipeline without leaking
    from test folds. If a transformer cross-validates internally, as ``TargetEncoder`` does, its
    folds split frames and not sequences.

    If the features have names (see ``feature_names_in_``), the transformer receives a pandas
    DataFrame with these names, so that a ``ColumnTransformer`` can select features by name. Missing
    values (NaN) reach transformers that accept them, such as imputers, or pipelines that begin
    with one. The sequences that are returned have the names of :meth:`get_feature_names_out`, if
    the transformer knows them and `X` had names, so that a later ``Framewise`` can select by name.

    Parameters
    ----------
    transformer : estimator
        An estimator with ``fit`` and ``transform``, such as ``StandardScaler()``, ``PCA(64,
        whiten=True)`` or ``LinearDiscriminantAnalysis()``. A clone of it is fitted. If it uses `y`,
        each frame has the target of its sequence.

    Attributes
    ----------
    transformer_ : estimator
        The fitted transformer.

    n_features_in_ : int
        Number of features of a frame.

    feature_names_in_ : ndarray of str
        Names of the features, if `X` has them: a ``TSEArray`` with names, or data frames.

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

    @underflow_allowed
    def fit(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit the transformer to all frames.

        Parameters
        ----------
        X : sequences
            Anything that :class:`TSEArray` accepts.
        y : array-like of shape (n_sequences,) or (n_sequences, n_outputs), optional
            Targets, such as class labels.
        sample_weight : array-like of shape (n_sequences,), optional
            Weight of each frame of a sequence, for transformers that support sample weights.

        Returns
        -------
        self : Framewise

        Raises
        ------
        ValueError
            If `sample_weight` is given and the transformer does not support it, or if the
            transformer raises it.
        """
        read, per_frame = self._check_fit(X, y, sample_weight)
        self.transformer_ = clone(self.transformer).fit(self._table(read.sequences), **per_frame)
        return self

    @underflow_allowed
    def fit_transform(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> TSEArray | NDArray[np.floating]:
        """Fit and transform, with the ``fit_transform`` of the transformer if it has one.

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
            As in :meth:`transform`.
        """
        if not hasattr(self.transformer, "fit_transform"):
            return self.fit(X, y, sample_weight).transform(X)
        read, per_frame = self._check_fit(X, y, sample_weight)
        transformer = clone(self.transformer)
        frames = transformer.fit_transform(self._table(read.sequences), **per_frame)
        self.transformer_ = transformer
        return self._in_form_of(read, self._replace_frames(frames, read.sequences))

    @underflow_allowed
    def transform(self, X: Any) -> TSEArray | NDArray[np.floating]:
        """Transform each frame.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        TSEArray
            Sequences of the same lengths, with the output features of the transformer. A 2-D array
            if `X` is a 2-D array.
        """
        check_is_fitted(self, "transformer_")
        read = read_checked(
            X, estimator=self, reset=False, ensure_all_finite=self._ensure_all_finite()
        )
        frames = self.transformer_.transform(self._table(read.sequences))
        return self._in_form_of(read, self._replace_frames(frames, read.sequences))

    def _check_fit(
        self, X: Any, y: ArrayLike | None, sample_weight: ArrayLike | None
    ) -> tuple[Checked, dict[str, NDArray[Any]]]:
        """Return what has been read, and `y` and `sample_weight` repeated for each frame.

        The transformer checks the targets.
        """
        self._validate_params()
        read = read_checked(X, estimator=self, ensure_all_finite=self._ensure_all_finite())
        sequences, per_frame = read.sequences, {}
        if y is not None:
            check_consistent_length(sequences, y)
            per_frame["y"] = np.repeat(np.asarray(y), sequences.lengths, axis=0)
        if sample_weight is not None:
            if not has_fit_parameter(self.transformer, "sample_weight"):
                raise ValueError(
                    f"sample_weight was given, but {self.transformer!r} does not support it"
                )
            weight = check_sample_weight(sample_weight, sequences.lengths, dtype=np.float64)
            per_frame["sample_weight"] = np.repeat(weight, sequences.lengths)
        return read, per_frame

    def _table(self, sequences: TSEArray) -> Any:
        """Return all frames: a data frame if the features have names."""
        pandas = import_if_installed("pandas") if hasattr(self, "feature_names_in_") else None
        if pandas is None:
            return sequences.frames
        return pandas.DataFrame(sequences.frames, columns=self.feature_names_in_, copy=False)

    def _ensure_all_finite(self) -> bool | str:
        return "allow-nan" if _accepts_nan(self.transformer) else True

    def _replace_frames(self, transformed: Any, sequences: TSEArray) -> TSEArray:
        """Return the sequences with their frames replaced by the transformed ones."""
        frames = check_array(
            transformed,
            input_name=f"the result of {self.transformer_!r}",
            dtype=accepted_dtypes(transformed),
            ensure_all_finite=self._ensure_all_finite(),
        )
        if len(frames) != sequences.total_frames:
            raise ValueError(
                f"{self.transformer_!r} returned {len(frames)} rows for {sequences.total_frames} "
                "frames, expected one for each"
            )
        packed = TSEArray.from_packed(frames, sequences.offsets, sequences.spans)
        return packed._with_names(feature_names_of(transformed))

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return the names of the output features of the transformer.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the features of `X`. If None, ``feature_names_in_`` or ``x0``, ``x1``, ...

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self, "transformer_")
        names = check_feature_names_in(self, input_features)
        return self.transformer_.get_feature_names_out(names)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = _accepts_nan(self.transformer)
        return tags


def _accepts_nan(transformer: Any) -> bool:
    """Return whether a transformer accepts NaN, or checks its input in its parts.

    scikit-learn's compositions have the tags of transformers that accept none, whatever they
    contain.
    """
    steps = [step for _, step in getattr(transformer, "steps", ())]
    if steps:
        first = next((step for step in steps if step not in (None, "passthrough")), None)
        return first is None or _accepts_nan(first)
    if hasattr(transformer, "transformers") or hasattr(transformer, "transformer_list"):
        return True
    if not hasattr(transformer, "__sklearn_tags__"):
        return False
    tags = get_tags(transformer)
    return bool(tags.input_tags.allow_nan or tags.no_validation)
