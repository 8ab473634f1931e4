"""Initial centroids: medoids of resampled sequences, refined by DTW barycenter averaging (DBA)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skdejavid.backends.interfaces import Problem
from skdejavid.backends.registry import make_problem
from skdejavid.sequences import SequenceView, TSEArray
from skdejavid.sequences.transforms import resample

__all__ = ["Pool", "class_barycenters", "dba", "medoid"]

# Summed distances closer than this count as a tie: far above rounding errors, far below any real
# difference.
_RELATIVE_TIE = 1e-9


@dataclass(frozen=True)
class Pool:
    """The sequences of one initial centroid, and the settings of their alignment."""

    frames: NDArray[np.floating]  # (n_sequences, n_timesteps, n_features), resampled
    lengths: NDArray[np.int64]  # (n_sequences,), n_timesteps or 1
    sample_weight: NDArray[np.float64]  # (n_sequences,), each more than 0
    feature_weight: NDArray[np.floating]  # (n_features,)
    diagonal: bool
    n_threads: int
    device: str = "cpu"

    def align_with(self, centroids: NDArray[np.floating]) -> Problem:
        """Return the native problem of aligning all sequences with each centroid."""
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
    """Yield the initial centroid of each class, in the order of the labels.

    For each class at most `n_samples` sequences are drawn without replacement and resampled
    linearly to `n_timesteps` frames. At most `max_iter` iterations of DBA start from their medoid
    (the paper's supplement, "Additional Implementation Details").

    Parameters
    ----------
    sequences : TSEArray
    labels : array of shape (n_sequences,)
        Class numbers 0, 1, ... without gaps.
    sample_weight : array of shape (n_sequences,)
        Weight of each sequence, more than 0.
    feature_weight : array of shape (n_features,)
        Weight of each feature in the cost.
    n_timesteps, diagonal, n_samples, max_iter, random_state, n_threads, device
        As in :class:`skdejavid.DejaVidClassifier`; `device` as returned by `resolve_device`.

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
            # A sequence of one frame keeps that length: copies of the frame would tie in every
            # alignment, and rounding errors would decide how many of them are matched.
            lengths=np.where(view.lengths == 1, 1, n_timesteps),
            sample_weight=sample_weight[members],
            feature_weight=feature_weight,
            diagonal=diagonal,
            n_threads=n_threads,
            device=device,
        )
        yield dba(pool, medoid(pool), max_iter)


def medoid(pool: Pool) -> NDArray[np.floating]:
    """Return the sequence (n_timesteps, n_features) with the least summed distance to all others.

    Ties are broken lexicographically, so that the result does not depend on the order of the pool.
    """
    distances = pool.align_with(pool.frames).distances(pool.diagonal)
    totals = pool.sample_weight @ distances
    tied = pool.frames[totals <= totals.min() * (1 + _RELATIVE_TIE)]
    return min(tied, key=lambda frames: frames.ravel().tolist())


def dba(pool: Pool, start: NDArray[np.floating], max_iter: int) -> NDArray[np.floating]:
    """Refine a centroid by DTW barycenter averaging.

    Each iteration aligns all sequences with the centroid and replaces its time steps by the means
    of the matched frames. It stops when no path has changed, since the centroid is fixed then.
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
