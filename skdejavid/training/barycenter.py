"""Initial centroids: medoids of resampled sequences, refined by DTW barycenter averaging (DBA)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skdejavid.backends.registry import Problem, make_problem
from skdejavid.sequences import SequenceView, TSEArray
from skdejavid.sequences.transforms import resample

__all__ = ["Pool", "class_barycenters", "dba", "medoid"]

# Summed distances closer than this are a tie: far above rounding, far below any real difference.
_RELATIVE_TIE = 1e-9


@dataclass(frozen=True)
class Pool:
    """The sequences that an initial centroid is made of, and how they are compared."""

    frames: NDArray[np.floating]  # (n_sequences, n_timesteps, n_features), resampled
    lengths: NDArray[np.int64]  # (n_sequences,), n_timesteps or 1
    sample_weight: NDArray[np.float64]  # (n_sequences,), each more than 0
    feature_weight: NDArray[np.floating]  # (n_features,)
    diagonal: bool
    n_threads: int
    device: str = "cpu"

    def align_with(self, centroids: NDArray[np.floating]) -> Problem:
        """The native problem of aligning all sequences with each of the centroids."""
        n_sequences, n_timesteps, n_features = self.frames.shape
        starts = np.arange(n_sequences, dtype=np.int64) * n_timesteps
        sequences = SequenceView(self.frames.reshape(-1, n_features), starts, self.lengths)
        weights = np.ascontiguousarray(np.broadcast_to(self.feature_weight, centroids.shape))
        return make_problem(
            sequences, centroids, weights, n_threads=self.n_threads, device=self.device
        )


def class_barycenters(
    sequences: TSEArray,
    labels: NDArray[np.integer],
    sample_weight: NDArray[np.float64],
    feature_weight: NDArray[np.floating],
    *,
    n_timesteps: int,
    diagonal: bool,
    n_samples: int,
    max_iter: int,
    random_state: np.random.RandomState,
    n_threads: int,
    device: str = "cpu",
) -> Iterator[NDArray[np.floating]]:
    """The initial centroid of each class, in the order of the labels.

    Per class at most `n_samples` sequences are drawn without replacement and resampled linearly to
    `n_timesteps` frames. Their medoid is the start of at most `max_iter` rounds of DBA (the paper's
    supplement, "Additional Implementation Details").

    Parameters
    ----------
    sequences : TSEArray
    labels : array of shape (n_sequences,)
        Class numbers 0, 1, ... without gaps.
    sample_weight : array of shape (n_sequences,)
        How often each sequence counts, more than 0.
    feature_weight : array of shape (n_features,)
        Weight of each feature in the cost.
    n_timesteps, diagonal, n_samples, max_iter, random_state, n_threads, device
        As in :class:`skdejavid.DejaVidClassifier`; the device as `resolve_device` gives it.

    Yields
    ------
    ndarray of shape (n_timesteps, n_features)
    """
    for label in range(labels.max() + 1):
        members = np.flatnonzero(labels == label)
        if len(members) > n_samples:
            members = np.sort(random_state.choice(members, n_samples, replace=False))
        view = sequences.view(members)
        pool = Pool(
            frames=resample(view, n_timesteps),
            # One frame stays one: its copies would tie in every alignment, and rounding would
            # decide how often it counts.
            lengths=np.where(view.lengths == 1, 1, n_timesteps),
            sample_weight=sample_weight[members],
            feature_weight=feature_weight,
            diagonal=diagonal,
            n_threads=n_threads,
            device=device,
        )
        yield dba(pool, medoid(pool), max_iter)


def medoid(pool: Pool) -> NDArray[np.floating]:
    """The sequence (n_timesteps, n_features) with the least summed distance to all others.

    Among equals the lexicographically first is taken, so that the order of the pool has no say.
    """
    distances = pool.align_with(pool.frames).distances(pool.diagonal)
    totals = pool.sample_weight @ distances
    tied = pool.frames[totals <= totals.min() * (1 + _RELATIVE_TIE)]
    return min(tied, key=lambda frames: frames.ravel().tolist())


def dba(pool: Pool, start: NDArray[np.floating], max_iter: int) -> NDArray[np.floating]:
    """DTW barycenter averaging: align all with the centroid, replace its frames by matched means.

    It ends when no path has changed, because the centroid would not change after that either.
    """
    centroid = start
    previous_runs = None
    for _ in range(max_iter):
        problem = pool.align_with(centroid[None])
        _, runs = problem.paths(pool.diagonal)
        if previous_runs is not None and np.array_equal(runs, previous_runs):
            break
        centroid = problem.barycenters(runs, pool.sample_weight[:, None])[0]
        previous_runs = runs
    return centroid
