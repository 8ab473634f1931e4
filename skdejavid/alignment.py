"""The distance core: time-weighted alignment of sequences with centroids.

Native code is reached through here and nowhere else: ``dtw_distances`` and ``dtw_path`` are the
public face for any input, ``make_problem`` is the one for arrays that are already checked.

For one sequence ``s`` (n_frames, n_features) and one centroid ``C`` with weights ``U``, both
(n_timesteps, n_features), the cost of matching time step ``i`` to frame ``j`` is
``sum_f U[i, f] * |C[i, f] - s[j, f]|``, and the distance is the sum of cost along the cheapest path
from (0, 0) to (n_timesteps - 1, n_frames - 1) [1]_ (Algorithm 1).

.. [1] D. Ho and S. Madden. DejaVid: Encoder-Agnostic Learned Temporal Matching for Video
   Classification. CVPR 2025.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skdejavid.backends.registry import make_problem, resolve_device
from skdejavid.compat.threads import count_threads
from skdejavid.sequences import SequenceView, TSEArray, check_sequences
from skdejavid.sequences.containers import as_real, without_torch
from skdejavid.sequences.layout import starts_of

__all__ = ["dtw_distances", "dtw_path"]


def dtw_distances(
    X: Any,
    centroids: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    diagonal: bool = False,
    device: str = "auto",
    n_jobs: int | None = None,
) -> NDArray[np.float64]:
    """Time-weighted DTW distance of each sequence to each centroid.

    Parameters
    ----------
    X : sequences
        Anything that :class:`TSEArray` reads.
    centroids : array of shape (n_centroids, n_timesteps, n_features)
        The sequences to compare with.
    weights : array of the shape of `centroids`, optional
        Weight of each time step and feature, at least 0. None means 1 everywhere.
    diagonal : bool, default=False
        Whether a path may advance in both sequences at once.
    device : {"auto", "cpu", "cuda", "cuda:N"}, default="auto"
        Where to compute. "cuda" is the first CUDA device. "auto" is the CPU in this version.
    n_jobs : int, optional
        Number of threads. None and -1 mean all physical cores, or fewer where ``OMP_NUM_THREADS``,
        threadpoolctl or a joblib worker say so. Calls from several threads at once share them. The
        result does not depend on it.

    Returns
    -------
    ndarray of shape (n_sequences, n_centroids), float64
        Computed in float32 if `X`, `centroids` and `weights` all are, else in float64; summed in
        float64 in both cases.

    Raises
    ------
    ValueError
        If `X` holds no valid sequences, or the shapes or values of `centroids` or `weights` do not
        fit, or a distance overflows.
    RuntimeError
        If `device` asks for CUDA and there is none; the message says what is missing.
    MemoryError
        If a CUDA device has no room for the centroids, or for one sequence.

    Examples
    --------
    >>> from skdejavid import dtw_distances
    >>> dtw_distances([[[0.0], [1.0], [1.0]]], [[[0.0], [1.0]], [[1.0], [0.0]]])
    array([[1., 2.]])
    """
    return distances_of_checked(
        check_sequences(X), centroids, weights, diagonal=diagonal, device=device, n_jobs=n_jobs
    )


def distances_of_checked(
    sequences: TSEArray,
    centroids: ArrayLike,
    weights: ArrayLike | None,
    *,
    diagonal: bool,
    device: str,
    n_jobs: int | None,
) -> NDArray[np.float64]:
    """`dtw_distances` of what `check_sequences` has let in."""
    resolve_device(device)
    checked = _check_parameters(sequences, centroids, weights)
    place = resolve_device(device, sequences.total_frames * checked[1].size)
    problem = make_problem(*checked, n_threads=count_threads(n_jobs), device=place)
    return _require_no_overflow(problem.distances(diagonal))


def distances_by_timestep(
    sequences: TSEArray,
    centroids: ArrayLike,
    weights: ArrayLike | None,
    *,
    diagonal: bool,
    device: str,
    n_jobs: int | None,
) -> NDArray[np.float64]:
    """Those distances in the parts that each time step adds.

    Returns
    -------
    ndarray of shape (n_sequences, n_centroids * n_timesteps)
    """
    resolve_device(device)
    packed, *parameters = _check_parameters(sequences, centroids, weights)
    n_threads = count_threads(n_jobs)
    place = resolve_device(device, sequences.total_frames * parameters[0].size)
    problem = make_problem(packed, *parameters, n_threads=n_threads, device=place)
    distances, runs = problem.paths(diagonal)
    _require_no_overflow(distances)
    # A time step is a centroid of its own, along its run alone.
    timesteps = [array.reshape(-1, 1, array.shape[2]) for array in parameters]
    runs = runs.reshape(len(runs), -1, 1, 2)
    by_timestep = make_problem(packed, *timesteps, n_threads=n_threads, device=place)
    return by_timestep.distances_along(runs)


def dtw_path(
    x: ArrayLike,
    centroid: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    diagonal: bool = False,
) -> NDArray[np.intp]:
    """Cheapest path between one centroid and one sequence.

    Among paths of equal cost, seen from the end, a diagonal move (where allowed) is preferred, then
    one along the sequence, then one along the centroid.

    Parameters
    ----------
    x : array of shape (n_frames, n_features)
        The sequence.
    centroid : array of shape (n_timesteps, n_features)
        The centroid.
    weights : array of the shape of `centroid`, optional
        See :func:`dtw_distances`.
    diagonal : bool, default=False
        Whether the path may advance in both sequences at once. Without, every path has
        ``n_timesteps + n_frames - 1`` cells.

    Returns
    -------
    ndarray of shape (n_cells, 2)
        Pairs (time step of the centroid, frame of the sequence) from the first to the last.

    Raises
    ------
    ValueError
        As :func:`dtw_distances`.

    Examples
    --------
    >>> from skdejavid import dtw_path
    >>> dtw_path([[0.0], [1.0], [1.0]], [[0.0], [1.0]]).tolist()
    [[0, 0], [1, 0], [1, 1], [1, 2]]
    """
    x, centroid, weights = without_torch(x), without_torch(centroid), without_torch(weights)
    for name, value in {"x": x, "centroid": centroid}.items():
        if np.ndim(value) != 2:
            raise ValueError(f"{name} must be a 2-D array, got {np.ndim(value)}-D")
    checked = _check_parameters(
        check_sequences([x]),
        np.asarray(centroid)[None],
        None if weights is None else np.asarray(weights)[None],
    )
    problem = make_problem(*checked, n_threads=1)
    distances, runs = problem.paths(diagonal)
    _require_no_overflow(distances)
    return expand_runs(runs[0, 0])


def expand_runs(runs: NDArray[np.int32]) -> NDArray[np.intp]:
    """The cells (n_cells, 2) of one path from its runs (n_timesteps, 2)."""
    lengths = runs[:, 1] - runs[:, 0] + 1
    timesteps = np.repeat(np.arange(len(runs)), lengths)
    begins = starts_of(lengths)
    frames = np.arange(len(timesteps)) - np.repeat(begins - runs[:, 0], lengths)
    return np.stack([timesteps, frames], axis=1)


def _require_no_overflow(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Refuse distances that are not finite, naming the sequence."""
    if not np.isfinite(distances).all():
        index = int(np.argwhere(~np.isfinite(distances))[0, 0])
        raise ValueError(
            f"the distance of X[{index}] overflows: scale the features to a smaller range"
        )
    return distances


def _check_parameters(
    sequences: TSEArray, centroids: ArrayLike, weights: ArrayLike | None
) -> tuple[SequenceView, NDArray[np.floating], NDArray[np.floating]]:
    """Finite arrays of shapes that fit, all in the widest floating type of the three."""
    centers = _as_parameter(centroids, "centroids")
    if centers.ndim != 3 or 0 in centers.shape:
        raise ValueError(
            "centroids must be a 3-D array (n_centroids, n_timesteps, n_features) without an "
            f"empty axis, got shape {centers.shape}"
        )
    if centers.shape[2] != sequences.n_features:
        raise ValueError(
            f"centroids have {centers.shape[2]} features, but X has {sequences.n_features}"
        )
    factors = np.ones_like(centers) if weights is None else _as_parameter(weights, "weights")
    if factors.shape != centers.shape:
        raise ValueError(
            f"weights must have the shape of centroids {centers.shape}, got {factors.shape}"
        )
    if factors.min() < 0:
        raise ValueError(f"weights must be at least 0, got {factors.min()}")
    dtype = np.result_type(sequences.frame_dtype, centers, factors)
    return (
        sequences.astype(dtype).view(),
        centers.astype(dtype, copy=False),
        factors.astype(dtype, copy=False),
    )


def _as_parameter(values: ArrayLike, name: str) -> NDArray[np.floating]:
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array: fill it")
    array = as_real(np.asarray(without_torch(values)), name)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinity")
    return array
