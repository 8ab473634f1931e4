"""What a fitted model relies on: which features, and which part of time."""

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

from skdejavid.compat.sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    check_sample_weight,
    validate_params,
)
from skdejavid.sequences import TSEArray, check_sequences

__all__ = ["permutation_importance"]


class _Target(NamedTuple):
    """What is permuted at once: some features, in one of `n_parts` parts of time."""

    features: NDArray[np.intp]
    part: int
    n_parts: int


@validate_params(  # type: ignore[untyped-decorator]
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
    },
    prefer_skip_nested_validation=True,
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
    """How much a score falls when features, or parts of time, are exchanged between sequences.

    scikit-learn's function of this name for sequences of differing length, which it refuses. What
    is exchanged are *courses*: each sequence keeps its length, and gets the values over time that a
    feature has in another sequence, drawn by a permutation of all. They are stretched to the length
    at hand: of n frames, number j gets the value that the other sequence has at the moment
    ``(j + 0.5) / n`` of its own duration. So every value is one that was measured, and every course
    goes up and down like one that was, but no longer together with `y`, the other features or the
    other parts of time. (Frames that are shuffled inside of sequences, or among all, would be
    noise; the score would then tell how the model takes noise.) The lengths themselves are not
    permuted.

    Parameters
    ----------
    estimator : estimator
        Fitted; may be a Pipeline. It gets a ``TSEArray``.
    X : sequences
        Anything that :class:`skdejavid.TSEArray` reads, such as held-out sequences.
    y : array-like of shape (n_sequences,) or None
        Their targets.
    over : {"features", "time"}, default="features"
        What is permuted: the whole course of one feature after the other, or all features of one
        part of time after the other.
    groups : sequence of sequences of int, optional
        Numbers of the features that are permuted together, one group after the other. Only if
        `over` is "features"; None takes each feature by itself. Features that say the same thing
        should be in one group: each alone is unimportant.
    n_parts : int, default=10
        Into how many equal parts of its own duration each sequence is divided, if `over` is "time".
        A frame belongs to the part that its middle lies in, so a sequence of fewer frames has none
        in some parts, which then change nothing of it.
    scoring : str, callable or None, default=None
        A scorer's name, or ``scorer(estimator, X, y)``. None takes the estimator's ``score``.
    n_repeats : int, default=5
        Number of permutations. All features or parts see the same ones.
    n_jobs : int or None, default=None
        Number of jobs of joblib; the result does not depend on it. Each needs memory for a copy of
        `X`.
    random_state : int, RandomState instance or None, default=None
        Draws the permutations.
    sample_weight : array-like of shape (n_sequences,), optional
        Passed on to the scorer.

    Returns
    -------
    result : :class:`sklearn.utils.Bunch`
        With the attributes

        importances : ndarray of shape (n_importances, n_repeats)
            Score of `X` minus that of the permuted one, for each feature, group or part.
        importances_mean, importances_std : ndarray of shape (n_importances,)
            Over the repetitions.

    Raises
    ------
    InvalidParameterError
        If a parameter is outside of its range (a ValueError).
    TypeError, ValueError
        If `X` cannot be read as sequences, lengths differ, or `groups` is not as described; the
        message says where.

    See Also
    --------
    sklearn.inspection.permutation_importance : The same for tables.

    Examples
    --------
    Sequences rise in the second half of the first of two features, or they do not:

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
    >>> by_feature.importances_mean.round(1).tolist()
    [0.5, 0.0]
    >>> by_time = permutation_importance(clf, X, y, over="time", n_parts=2, random_state=0)
    >>> by_time.importances_mean.round(1).tolist()
    [0.0, 0.5]
    """
    sequences = check_sequences(X)
    if y is not None:
        check_consistent_length(sequences, y)
    weights: dict[str, Any] = {}
    if sample_weight is not None:
        weights["sample_weight"] = check_sample_weight(sample_weight, sequences.lengths)
    targets = _targets(sequences.n_features, over, groups, n_parts)
    rng = check_random_state(random_state)
    permutations = [rng.permutation(len(sequences)) for _ in range(n_repeats)]
    scorer = check_scoring(estimator, scoring=scoring)

    def score(permuted: TSEArray) -> float:
        return scorer(estimator, permuted, y, **weights)

    scores = Parallel(n_jobs=n_jobs)(
        delayed(_scores_without)(score, sequences, target, permutations) for target in targets
    )
    importances = score(sequences) - np.array(scores)
    return Bunch(
        importances_mean=importances.mean(axis=1),
        importances_std=importances.std(axis=1),
        importances=importances,
    )


def _targets(
    n_features: int, over: str, groups: Sequence[Sequence[int]] | None, n_parts: int
) -> list[_Target]:
    features = np.arange(n_features)
    if over == "time":
        if groups is not None:
            raise ValueError("groups are of features: over must be 'features', got 'time'")
        return [_Target(features, part, n_parts) for part in range(n_parts)]
    if groups is None:
        return [_Target(features[i : i + 1], 0, 1) for i in range(n_features)]
    return [_Target(_check_group(group, i, n_features), 0, 1) for i, group in enumerate(groups)]


def _check_group(group: Sequence[int], number: int, n_features: int) -> NDArray[np.intp]:
    features = np.asarray(group)
    if features.ndim != 1 or features.size == 0 or features.dtype.kind not in "iu":
        raise ValueError(f"groups[{number}] must be a sequence of feature numbers, got {group!r}")
    if features.min() < 0 or features.max() >= n_features:
        raise ValueError(
            f"groups[{number}] must be of features 0 to {n_features - 1}, got {group!r}"
        )
    return features.astype(np.intp)


def _scores_without(
    score: Callable[[TSEArray], float],
    sequences: TSEArray,
    target: _Target,
    permutations: list[NDArray[np.intp]],
) -> list[float]:
    """The score when each permutation takes away what the target says."""
    return [score(_exchanged(sequences, donors, target)) for donors in permutations]


def _exchanged(sequences: TSEArray, donors: NDArray[np.intp], target: _Target) -> TSEArray:
    """Sequences that have the target's values from sequence ``donors[i]`` instead of ``i``."""
    packed = sequences.packed()
    offsets, lengths = packed.offsets, packed.lengths
    # Moments are counted in halves of a frame: whole numbers, so that no frame is missed by
    # rounding. The middle of frame j of n is (2 j + 1) / 2 n of its sequence.
    middle = 2 * (np.arange(packed.total_frames) - np.repeat(offsets[:-1], lengths)) + 1
    duration = np.repeat(2 * lengths, lengths)
    rows = np.flatnonzero(middle * target.n_parts // duration == target.part)
    n_donor_frames = np.repeat(lengths[donors], lengths)
    source = np.repeat(offsets[donors], lengths) + middle * n_donor_frames // duration
    values = np.array(packed.values)
    to_row, from_row = np.ix_(rows, target.features), np.ix_(source[rows], target.features)
    values[to_row] = packed.values[from_row]
    return TSEArray.from_packed(values, offsets, packed.spans)
