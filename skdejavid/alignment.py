"""Time-weighted DTW distances and paths between sequences and centroids.

For one sequence ``s`` (n_frames, n_features) and one centroid ``C`` with weights ``U``, both
(n_timesteps, n_features), the cost of matching time step ``i`` to frame ``j`` is
``sum_f U[i, f] * |C[i, f] - s[j, f]|``. The distance is the sum of costs along the cheapest path
from (0, 0) to (n_timesteps - 1, n_frames - 1) [1]_ (Algorithm 1).

.. [1] D. Ho and S. Madden. DejaVid: Encoder-Agnostic Learned Temporal Matching for Video
   Classification. CVPR 2025.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skdejavid.backends.interfaces import Problem
from skdejavid.backends.registry import make_problem, resolve_device
from skdejavid.compat.floating import underflow_allowed
from skdejavid.compat.parameters import as_bool
from skdejavid.compat.threads import count_threads
from skdejavid.sequences import SequenceView, TSEArray, check_sequences
from skdejavid.sequences.containers import as_real, without_torch
from skdejavid.sequences.layout import starts_of

__all__ = ["compute_distances", "compute_distances_by_timestep", "dtw_distances", "dtw_path"]


@underflow_allowed
def dtw_distances(
    X: Any,
    centroids: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    diagonal: bool = True,
    device: str = "auto",
    n_jobs: int | None = None,
) -> NDArray[np.float64]:
    """Compute the time-weighted DTW distance of each sequence to each centroid.

    Parameters
    ----------
    X : sequences
        Any sequences that :class:`TSEArray` accepts.
    centroids : array of shape (n_centroids, n_timesteps, n_features)
        The sequences to compare with.
    weights : array of the shape of `centroids`, optional
        Weight of each time step and feature, at least 0. None means 1 everywhere.
    diagonal : bool, default=True
        Whether a path may advance in both sequences at once.
    device : {"auto", "cpu", "cuda", "cuda:N"}, default="auto"
        Device to compute on. "cuda" is the first CUDA device. "auto" is the CPU in this version.
    n_jobs : int, optional
        Number of threads. None and -1 mean all physical cores, or fewer where ``OMP_NUM_THREADS``,
        threadpoolctl or a joblib worker sets a limit. Simultaneous calls from several threads share
        them. The result does not depend on `n_jobs`.

    Returns
    -------
    ndarray of shape (n_sequences, n_centroids), float64
        Computed in float32 if `X`, `centroids` and `weights` all are, else in float64; summed in
        float64 in both cases.

    Raises
    ------
    TypeError
        If `diagonal` is not a bool.
    ValueError
        If `X`, `centroids` or `weights` is not valid or of another shape than described, `device`
        is unknown, or a distance overflows.
    ImportError, RuntimeError
        If the device cannot be used; the message says why.
    MemoryError
        If the memory of a CUDA device is too small for the centroids, or for one sequence; or that
        of the machine for the distances.

    See Also
    --------
    DejaVidClassifier.transform : The distances to learned centroids.

    Examples
    --------
    >>> from skdejavid import dtw_distances
    >>> dtw_distances([[[0.0], [1.0], [1.0]]], [[[0.0], [1.0]], [[1.0], [0.0]]])
    array([[0., 2.]])

    The distances of a classifier are those of its ``transform``. To compute them here, for example
    to other centroids, append the differences of the classifier to the sequences, and pass its
    weights and its `diagonal`:

    >>> import numpy as np
    >>> from skdejavid import DejaVidClassifier, TimeDifferences
    >>> from skdejavid.datasets import make_order_sequences
    >>> X, y = make_order_sequences(20, random_state=0)
    >>> clf = DejaVidClassifier(n_epochs=2, random_state=0).fit(X, y)
    >>> expanded = TimeDifferences(clf.lags_).fit_transform(X)
    >>> weights = np.exp(clf.log_weights_)
    >>> distances = dtw_distances(expanded, clf.centroids_, weights, diagonal=clf.diagonal)
    >>> bool((distances == clf.transform(X)).all())
    True
    """
    diagonal = as_bool(diagonal, "diagonal")
    return compute_distances(
        check_sequences(X), centroids, weights, diagonal=diagonal, device=device, n_jobs=n_jobs
    )


def compute_distances(
    sequences: TSEArray,
    centroids: ArrayLike,
    weights: ArrayLike | None,
    *,
    diagonal: bool,
    device: str,
    n_jobs: int | None,
) -> NDArray[np.float64]:
    """Compute `dtw_distances` for sequences that `check_sequences` returned."""
    make, packed, parameters = _prepare(sequences, centroids, weights, device, n_jobs)
    return _check_no_overflow(make(packed, *parameters).distances(diagonal))


def compute_distances_by_timestep(
    sequences: TSEArray,
    centroids: ArrayLike,
    weights: ArrayLike | None,
    *,
    diagonal: bool,
    device: str,
    n_jobs: int | None,
) -> NDArray[np.float64]:
    """Compute the contribution of each time step to the distances of `compute_distances`.

    Returns
    -------
    ndarray of shape (n_sequences, n_centroids * n_timesteps)
    """
    make, packed, parameters = _prepare(sequences, centroids, weights, device, n_jobs)
    distances, runs = make(packed, *parameters).paths(diagonal)
    _check_no_overflow(distances)
    # Each time step becomes a centroid whose distance along its run is the contribution.
    timesteps = [array.reshape(-1, 1, array.shape[2]) for array in parameters]
    runs = runs.reshape(len(runs), -1, 1, 2)
    by_timestep: NDArray[np.float64] = make(packed, *timesteps).distances_along(runs)
    return by_timestep


def _prepare(
    sequences: TSEArray,
    centroids: ArrayLike,
    weights: ArrayLike | None,
    device: str,
    n_jobs: int | None,
) -> tuple[Callable[..., Problem], SequenceView, list[NDArray[np.floating]]]:
    """Return a function that makes problems on the chosen device, and checked arrays for it."""
    resolve_device(device)  # an unusable device is reported before anything is converted
    packed, *parameters = _check_parameters(sequences, centroids, weights)
    device = resolve_device(device, sequences.total_frames * parameters[0].size)
    make = partial(make_problem, n_threads=count_threads(n_jobs), device=device)
    return make, packed, parameters


@underflow_allowed
def dtw_path(
    x: ArrayLike,
    centroid: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    diagonal: bool = True,
) -> NDArray[np.intp]:
    """Compute the cheapest path between one centroid and one sequence.

    Among several cheapest paths, the one is returned that, walking back from the end, takes a
    diagonal move first (where allowed), else one along the sequence, else one along the centroid.

    Parameters
    ----------
    x : array of shape (n_frames, n_features)
        The sequence.
    centroid : array of shape (n_timesteps, n_features)
        The centroid.
    weights : array of the shape of `centroid`, optional
        See :func:`dtw_distances`.
    diagonal : bool, default=True
        Whether the path may advance in both sequences at once. If False, every path has
        ``n_timesteps + n_frames - 1`` cells.

    Returns
    -------
    ndarray of shape (n_cells, 2)
        Pairs (time step of the centroid, frame of the sequence) from the first to the last.

    Raises
    ------
    TypeError
        If `diagonal` is not a bool.
    ValueError
        If `x`, `centroid` or `weights` is not valid or of another shape than described, or the
        distance overflows.
    MemoryError
        If the memory of the machine is too small for the path. It needs about
        ``n_timesteps * sqrt(n_frames)`` numbers.

    Examples
    --------
    >>> from skdejavid import dtw_path
    >>> dtw_path([[0.0], [1.0], [1.0]], [[0.0], [1.0]]).tolist()
    [[0, 0], [1, 1], [1, 2]]
    """
    diagonal = as_bool(diagonal, "diagonal")
    sequence, center = _as_matrix(x, "x", "n_frames"), _as_matrix(centroid, "centroid")
    if center.shape[1] != sequence.shape[1]:
        raise ValueError(
            f"centroid has {center.shape[1]} feature(s), but x has {sequence.shape[1]}: both must "
            "have the same features"
        )
    factors = _check_weights(weights, center, "centroid")
    dtype = np.result_type(sequence, center, factors)
    view = SequenceView(
        sequence.astype(dtype, copy=False), np.array([0]), np.array([len(sequence)])
    )
    parameters = (array[None].astype(dtype, copy=False) for array in (center, factors))
    distances, runs = make_problem(view, *parameters, n_threads=1).paths(diagonal)
    if not np.isfinite(distances).all():
        raise ValueError(
            "the distance between x and centroid overflows: scale the features to a smaller range"
        )
    return expand_runs(runs[0, 0])


def _as_matrix(values: ArrayLike, name: str, rows: str = "n_timesteps") -> NDArray[np.floating]:
    matrix = _as_parameter(values, name)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"{name} must be a 2-D array ({rows}, n_features) without an empty axis, "
            f"got shape {matrix.shape}"
        )
    return matrix


def expand_runs(runs: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return the cells (n_cells, 2) of one path from its runs (n_timesteps, 2)."""
    lengths = runs[:, 1] - runs[:, 0] + 1
    timesteps = np.repeat(np.arange(len(runs)), lengths)
    begins = starts_of(lengths)
    frames = np.arange(len(timesteps)) - np.repeat(begins - runs[:, 0], lengths)
    return np.stack([timesteps, frames], axis=1)


def _check_no_overflow(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return finite distances; raise ValueError that names the sequence if one is not finite."""
    if not np.isfinite(distances).all():
        index = int(np.argwhere(~np.isfinite(distances))[0, 0])
        raise ValueError(
            f"the distance of X[{index}] overflows: scale the features to a smaller range"
        )
    return distances


def _check_parameters(
    sequences: TSEArray, centroids: ArrayLike, weights: ArrayLike | None
) -> tuple[SequenceView, NDArray[np.floating], NDArray[np.floating]]:
    """Return finite arrays of matching shapes, all in the widest floating type of the three."""
    centers = _as_parameter(centroids, "centroids")
    if centers.ndim != 3 or 0 in centers.shape:
        raise ValueError(
            "centroids must be a 3-D array (n_centroids, n_timesteps, n_features) without an "
            f"empty axis, got shape {centers.shape}"
        )
    if centers.shape[2] != sequences.n_features:
        hint = ""
        if centers.shape[2] % sequences.n_features == 0:
            hint = (
                ". Those of a classifier have its differences as well: append them with "
                "TimeDifferences(clf.lags_).fit_transform(X)"
            )
        raise ValueError(
            f"centroids have {centers.shape[2]} features, but X has {sequences.n_features}{hint}"
        )
    factors = _check_weights(weights, centers, "centroids")
    dtype = np.result_type(sequences.frame_dtype, centers, factors)
    return (
        sequences.astype(dtype).view(),
        centers.astype(dtype, copy=False),
        factors.astype(dtype, copy=False),
    )


def _check_weights(
    weights: ArrayLike | None, centers: NDArray[np.floating], name: str
) -> NDArray[np.floating]:
    """Return weights of the shape of `centers`, which the message calls `name`."""
    if weights is None:
        return np.ones_like(centers)
    factors = _as_parameter(weights, "weights")
    if factors.shape != centers.shape:
        raise ValueError(
            f"weights must have the shape of {name} {centers.shape}, got {factors.shape}"
        )
    if factors.min() < 0:
        index = np.unravel_index(factors.argmin(), factors.shape)
        place = ", ".join(map(str, index))
        raise ValueError(f"weights must be at least 0, got {factors.min()} at weights[{place}]")
    return factors


def _as_parameter(values: ArrayLike, name: str) -> NDArray[np.floating]:
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array: fill it with numbers first")
    try:
        array = np.asarray(without_torch(values))
    except ValueError as error:
        raise ValueError(f"{name} is not an array: its rows differ in length") from error
    array = as_real(array, name)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = ", ".join(map(str, bad[0]))
        raise ValueError(
            f"{name} contains NaN or infinity, first at {name}[{place}]: fill or remove it"
        )
    return array
