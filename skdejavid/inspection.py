"""Permutation importance: which features and which parts of time a fitted model relies on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_consistent_length

from skdejavid.compat.floating import underflow_allowed
from skdejavid.compat.optional import import_if_installed
from skdejavid.compat.parameters import validated
from skdejavid.compat.sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    check_sample_weight,
)
from skdejavid.sequences import TSEArray, read_checked
from skdejavid.sequences.tables import plain_weights

__all__ = ["permutation_importance"]


class _Target(NamedTuple):
    """Features that are permuted together, in one of `n_parts` parts of time."""

    features: NDArray[np.intp]
    part: int
    n_parts: int

    def name(self, feature_names: Sequence[str]) -> str:
        if self.n_parts == 1:
            return ", ".join(feature_names[i] for i in self.features)
        begin, end = (100 * part / self.n_parts for part in (self.part, self.part + 1))
        return f"{begin:.3g}%-{end:.3g}%"


class _Form(NamedTuple):
    """The form in which an estimator receives sequences."""

    is_table: bool
    is_container: bool

    def of(self, sequences: TSEArray, names: Sequence[str] | None) -> Any:
        """Return sequences with these names, as data frames unless a container was given.

        A table stays one, so that an estimator refuses it that was fitted to longer sequences.
        """
        if self.is_container:
            return sequences._with_names(names)
        pandas = None if names is None else import_if_installed("pandas")
        if pandas is None:
            return sequences.frames if self.is_table else sequences._with_names(names)
        if self.is_table:
            return pandas.DataFrame(sequences.frames, columns=names, copy=False)
        return [pandas.DataFrame(x, columns=names, copy=False) for x in sequences]


@underflow_allowed
@validated(
    {
        "estimator": [HasMethods(["fit"])],
        "over": [StrOptions({"features", "time"})],
        "groups": ["array-like", None],
        "n_parts": [Interval(Integral, 1, None, closed="left")],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "sample_weight": ["array-like", None],
    }
)
def permutation_importance(
    estimator: Any,
    X: Any,
    y: ArrayLike | None,
    *,
    over: str = "features",
    groups: Sequence[Sequence[int]] | None = None,
    n_parts: int = 10,
    scoring: str | Callable[..., float] | None = None,
    n_repeats: int = 5,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
    sample_weight: ArrayLike | None = None,
) -> Bunch:
    """Measure how much a score drops when features or parts of time are permuted.

    This is :func:`sklearn.inspection.permutation_importance` for sequences of different lengths.
    To permute a feature or a part, each sequence takes its values from another sequence, its donor;
    a permutation of the sequences determines the donors. Each sequence keeps its length, so the
    donor's values are stretched to it: frame j of n takes the donor's value at the fraction
    ``(j + 0.5) / n`` of the donor's duration. The permuted values thus follow a realistic course
    over time, but are unrelated to `y` and to the values that are not permuted. (Shuffled frames
    would be noise, and the score would measure how the model reacts to noise.)

    Parameters
    ----------
    estimator : estimator
        A fitted estimator or pipeline. It receives a ``TSEArray``, with the names of features if it
        has ``feature_names_in_``; or, if it has them and `X` is no ``TSEArray``, data frames.
    X : sequences
        Anything that :class:`skdejavid.TSEArray` reads, such as held-out sequences. Missing values
        (NaN) are permuted as all others.
    y : array-like of shape (n_sequences,) or None
        Targets of the sequences.
    over : {"features", "time"}, default="features"
        What is permuted in turn: each feature over the whole duration, or all features in each part
        of it.
    groups : sequence of sequences of int, optional
        For each group, the indices of the features that are permuted together. Only allowed if
        `over` is "features". If None, each feature is permuted alone. Put redundant features into
        one group: permuted alone, each of them appears unimportant.
    n_parts : int, default=10
        Number of equal parts into which the duration of each sequence is divided, if `over` is
        "time". A frame belongs to the part that contains its middle. A sequence with fewer frames
        than parts has no frame in some parts, and permuting these does not change it.
    scoring : str, callable or None, default=None
        Name of a scorer, or ``scorer(estimator, X, y)``. If None, the estimator's ``score``.
    n_repeats : int, default=5
        Number of permutations. The same ones are used for all features or parts.
    n_jobs : int or None, default=None
        Number of parallel jobs of joblib, in threads unless ``joblib.parallel_config`` says
        otherwise. The result does not depend on it. Each job needs memory for a copy of `X`.
    random_state : int, RandomState instance or None, default=None
        Determines the permutations. Pass an int for reproducible results.
    sample_weight : array-like of shape (n_sequences,), optional
        Weights that are passed to the scorer.

    Returns
    -------
    result : :class:`sklearn.utils.Bunch`
        Results, with the attributes

        importances : ndarray of shape (n_importances, n_repeats)
            Score of `X` minus the score of the permuted `X`, for each feature, group or part.
        importances_mean, importances_std : ndarray of shape (n_importances,)
            Mean and standard deviation over the permutations.
        names : ndarray of shape (n_importances,), str
            What was permuted: names of features, joined by ", " in groups, or parts of time such as
            "0%-10%". Features are called ``x0``, ``x1``, ... if neither `X` nor `estimator` has
            names.

    Raises
    ------
    InvalidParameterError
        If a parameter is out of range (a ValueError).
    TypeError, ValueError
        If `X` cannot be read as sequences, `y` or `sample_weight` have another length than `X`, or
        an item of `groups` is not a sequence of feature indices; the message names it.

    See Also
    --------
    sklearn.inspection.permutation_importance : The same for tables.

    Examples
    --------
    In one of two classes, the first of two features is raised in the second half of the sequence:

    >>> import numpy as np
    >>> from skdejavid import DejaVidClassifier
    >>> from skdejavid.inspection import permutation_importance
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.standard_normal((n, 2)) for n in rng.integers(10, 20, size=40)]
    >>> y = np.arange(40) % 2
    >>> for x, label in zip(X, y):
    ...     x[len(x) // 2 :, 0] += 6 * label
    >>> clf = DejaVidClassifier(n_epochs=20, random_state=0).fit(X, y)
    >>> by_feature = permutation_importance(clf, X, y, random_state=0)
    >>> by_feature.names.tolist(), by_feature.importances_mean.round(1).tolist()
    (['x0', 'x1'], [0.5, 0.0])
    >>> by_time = permutation_importance(clf, X, y, over="time", n_parts=2, random_state=0)
    >>> by_time.importances_mean.round(1).tolist()
    [0.0, 0.5]
    """
    sequences, is_table = read_checked(X, ensure_all_finite="allow-nan")
    form = _Form(is_table, isinstance(X, TSEArray))
    if y is not None:
        check_consistent_length(sequences, y)
    weights = _weights_for_scorer(sample_weight, sequences)
    targets = _targets(sequences.n_features, over, groups, n_parts)
    rng = check_random_state(random_state)
    permutations = [rng.permutation(len(sequences)) for _ in range(n_repeats)]
    scorer = check_scoring(estimator, scoring=scoring)
    fitted_names = getattr(estimator, "feature_names_in_", None)

    def score(permuted: TSEArray) -> float:
        return scorer(estimator, form.of(permuted, fitted_names), y, **weights)

    # Threads, because native code runs in parallel in them, and because the worker processes of
    # loky, which all threads of a program share, can wait for each other without end.
    scores = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(_permuted_scores)(score, sequences, target, permutations) for target in targets
    )
    # With the names of X, which the estimator compares with its own.
    given = form.of(sequences, None if fitted_names is None else sequences.feature_names)
    importances = scorer(estimator, given, y, **weights) - np.array(scores)
    shown_names = _first_names(sequences.feature_names, fitted_names, sequences.n_features)
    return Bunch(
        names=np.array([target.name(shown_names) for target in targets]),
        importances_mean=importances.mean(axis=1),
        importances_std=importances.std(axis=1),
        importances=importances,
    )


def _weights_for_scorer(sample_weight: ArrayLike | None, sequences: TSEArray) -> dict[str, Any]:
    if sample_weight is None:
        return {}
    return {"sample_weight": check_sample_weight(plain_weights(sample_weight), sequences.lengths)}


def _first_names(
    names: Sequence[str] | None, fitted_names: Sequence[str] | None, n_features: int
) -> Sequence[str]:
    if names is None:
        names = fitted_names
    return [f"x{i}" for i in range(n_features)] if names is None else names


def _targets(
    n_features: int, over: str, groups: Sequence[Sequence[int]] | None, n_parts: int
) -> list[_Target]:
    features = np.arange(n_features)
    if over == "time":
        if groups is not None:
            raise ValueError("groups needs over='features', got over='time'")
        return [_Target(features, part, n_parts) for part in range(n_parts)]
    if groups is None:
        return [_Target(features[i : i + 1], 0, 1) for i in range(n_features)]
    return [_Target(_check_group(group, i, n_features), 0, 1) for i, group in enumerate(groups)]


def _check_group(group: Sequence[int], number: int, n_features: int) -> NDArray[np.intp]:
    features = np.asarray(group)
    if features.ndim != 1 or features.size == 0 or features.dtype.kind not in "iu":
        raise ValueError(f"groups[{number}] must be a sequence of feature indices, got {group!r}")
    if features.min() < 0 or features.max() >= n_features:
        raise ValueError(
            f"groups[{number}] must have indices from 0 to {n_features - 1}, got {group!r}"
        )
    return features.astype(np.intp)


def _permuted_scores(
    score: Callable[[TSEArray], float],
    sequences: TSEArray,
    target: _Target,
    permutations: list[NDArray[np.intp]],
) -> list[float]:
    """Return the scores of the sequences in which the target is permuted, one per permutation."""
    return [score(_permuted(sequences, donors, target)) for donors in permutations]


def _permuted(sequences: TSEArray, donors: NDArray[np.intp], target: _Target) -> TSEArray:
    """Return copies in which sequence ``i`` has the target's values of sequence ``donors[i]``."""
    packed = sequences.packed()
    offsets, lengths = packed.offsets, packed.lengths
    # Times are counted in half frames: with integers, rounding cannot assign a frame to a wrong
    # part. The middle of frame j of n is at (2 j + 1) / 2 n of its sequence.
    middle = 2 * (np.arange(packed.total_frames) - np.repeat(offsets[:-1], lengths)) + 1
    duration = np.repeat(2 * lengths, lengths)
    rows = np.flatnonzero(middle * target.n_parts // duration == target.part)
    n_donor_frames = np.repeat(lengths[donors], lengths)
    source = np.repeat(offsets[donors], lengths) + middle * n_donor_frames // duration
    values = np.array(packed.frames)
    to_row, from_row = np.ix_(rows, target.features), np.ix_(source[rows], target.features)
    values[to_row] = packed.frames[from_row]
    return TSEArray.from_packed(values, offsets, packed.spans)
