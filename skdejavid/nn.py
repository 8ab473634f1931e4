"""Time-weighted DTW as a differentiable torch module, for use alone or on top of an encoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skdejavid.backends.interfaces import TensorProblem
from skdejavid.backends.registry import backend_of_tensor
from skdejavid.compat.optional import import_optional
from skdejavid.compat.tensors import as_tensor
from skdejavid.compat.threads import count_threads
from skdejavid.sequences.layout import starts_of
from skdejavid.sequences.transforms import Lag, check_lags, lagged_frames

if TYPE_CHECKING:
    import torch

    from skdejavid.classifier import DejaVidClassifier
else:
    torch = import_optional("torch", "nn", "skdejavid.nn")

__all__ = ["TimeWeightedDTW"]


class TimeWeightedDTW(torch.nn.Module):
    """Time-weighted DTW distances to learned centroids, differentiable in all inputs.

    Every call finds the cheapest paths. The gradient, for which these paths are constants, reaches
    the centroids, the log-weights and the sequences, so an encoder before the module can be trained
    with it.

    Parameters
    ----------
    centroids : tensor or array of shape (n_centroids, n_timesteps, n_features * (1 + n_lags))
        Initial centroids; float32 or float64.
    log_weights : tensor or array of the same shape, optional
        Initial logarithms of the weights. None means 0, all weights 1.
    lags : sequence of int or float, default=()
        Lags of the differences over time that are appended to the features of each sequence before
        it is compared, as in :class:`skdejavid.TimeDifferences`.
    diagonal : bool, default=True
        Whether a path may advance in both sequences at once.
    n_jobs : int, optional
        Number of threads, see :func:`skdejavid.dtw_distances`.

    Raises
    ------
    ValueError
        If shapes, floating types or `lags` are not as described.

    Examples
    --------
    >>> import torch
    >>> from skdejavid.nn import TimeWeightedDTW
    >>> matcher = TimeWeightedDTW(torch.zeros(2, 3, 4))
    >>> matcher([torch.ones(5, 4), torch.ones(2, 4)])
    tensor([[20., 20.],
            [12., 12.]], grad_fn=<...>)
    """

    def __init__(
        self,
        centroids: torch.Tensor | NDArray[np.floating],
        log_weights: torch.Tensor | NDArray[np.floating] | None = None,
        *,
        lags: Sequence[Lag] = (),
        diagonal: bool = True,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__()
        centroids = as_tensor(centroids).detach().clone()
        if log_weights is None:
            log_weights = torch.zeros_like(centroids)
        log_weights = as_tensor(log_weights).detach().clone()
        if centroids.ndim != 3 or log_weights.shape != centroids.shape:
            raise ValueError(
                "centroids and log_weights must be 3-D (n_centroids, n_timesteps, n_features) and "
                f"of one shape, got {tuple(centroids.shape)} and {tuple(log_weights.shape)}"
            )
        _check_floating(centroids, log_weights)
        self.lags = check_lags(lags, "lags")
        if centroids.shape[2] % (1 + len(self.lags)):
            raise ValueError(
                f"centroids have {centroids.shape[2]} features, which must be a multiple of "
                f"{1 + len(self.lags)}: the features and their differences for each of "
                f"{len(self.lags)} lags"
            )
        self.centroids = torch.nn.Parameter(centroids)
        self.log_weights = torch.nn.Parameter(log_weights)
        self.diagonal = diagonal
        self.n_jobs = n_jobs

    @classmethod
    def from_estimator(cls, estimator: DejaVidClassifier) -> Self:
        """Create a module with the parameters of a fitted classifier.

        For the same sequences, it returns the distances of the classifier's ``transform`` with
        ``transform_timesteps=False``.

        Parameters
        ----------
        estimator : DejaVidClassifier
            A fitted classifier; its arrays are copied.

        Returns
        -------
        TimeWeightedDTW
            On the CPU, in the floating type of the classifier.

        Raises
        ------
        NotFittedError
            If `estimator` is not fitted.

        Examples
        --------
        >>> import numpy as np, torch
        >>> from skdejavid import DejaVidClassifier
        >>> from skdejavid.datasets import make_order_sequences
        >>> from skdejavid.nn import TimeWeightedDTW
        >>> X, y = make_order_sequences(20, random_state=0)
        >>> clf = DejaVidClassifier(n_epochs=2, random_state=0).fit(X, y)
        >>> matcher = TimeWeightedDTW.from_estimator(clf)
        >>> np.allclose(matcher(X).detach(), clf.transform(X))
        True
        """
        check_is_fitted(estimator, "centroids_")
        return cls(
            estimator.centroids_,
            estimator.log_weights_,
            lags=estimator.lags_,
            diagonal=estimator.diagonal,
            n_jobs=estimator.n_jobs,
        )

    def to_estimator(self, estimator: DejaVidClassifier) -> DejaVidClassifier:
        """Create a copy of a fitted classifier with the parameters of this module.

        Its ``transform`` (with ``transform_timesteps=False``) returns the distances of this module.
        Everything else is that of `estimator`: the classes, and the scale by which
        ``predict_proba`` divides distances.

        Parameters
        ----------
        estimator : DejaVidClassifier
            A fitted classifier with centroids of the same shape and the same lags, such as the one
            that was given to :meth:`from_estimator`. It is not changed.

        Returns
        -------
        DejaVidClassifier

        Raises
        ------
        NotFittedError
            If `estimator` is not fitted.
        ValueError
            If its centroids have another shape, or its lags differ, or this module is not in
            float32 or float64.
        """
        check_is_fitted(estimator, "centroids_")
        _check_floating(self.centroids, self.log_weights)
        if estimator.centroids_.shape != tuple(self.centroids.shape):
            raise ValueError(
                "estimator must have centroids of the same shape as this module, got "
                f"{estimator.centroids_.shape}, expected {tuple(self.centroids.shape)}"
            )
        if tuple(estimator.lags_) != self.lags:
            raise ValueError(
                f"estimator must have the same lags as this module, got {tuple(estimator.lags_)}, "
                f"expected {self.lags}"
            )
        fitted = copy.deepcopy(estimator).set_params(diagonal=self.diagonal)
        fitted.centroids_ = self.centroids.detach().cpu().numpy().copy()
        fitted.log_weights_ = self.log_weights.detach().cpu().numpy().copy()
        return fitted

    def forward(
        self, sequences: Sequence[torch.Tensor | NDArray[np.floating]] | torch.Tensor
    ) -> torch.Tensor:
        """Compute the distance of each sequence to each centroid.

        Parameters
        ----------
        sequences : sequence of tensors or arrays of shape (n_frames, n_features)
            They are converted to the device and the floating type of the centroids.

        Returns
        -------
        tensor of shape (n_sequences, n_centroids)
            On the device and in the floating type of the centroids.

        Raises
        ------
        ValueError
            If there are no sequences, or a sequence has no frames or another number of features.
        """
        _check_floating(self.centroids, self.log_weights)
        values, lengths = self._pack(sequences)
        weights = self.log_weights.exp().to(self.centroids)
        distances = _Distances.apply(
            self._with_differences(values, lengths),
            self.centroids,
            weights,
            lengths,
            self.diagonal,
            count_threads(self.n_jobs),
        )
        return distances.to(self.centroids.dtype)

    def _pack(
        self, sequences: Sequence[torch.Tensor | NDArray[np.floating]] | torch.Tensor
    ) -> tuple[torch.Tensor, NDArray[np.int64]]:
        """Return all frames (n_frames, n_features) one after the other, and the lengths."""
        items = [as_tensor(item) for item in sequences]
        if not items:
            raise ValueError("sequences is empty, expected at least one")
        n_features = self.centroids.shape[2] // (1 + len(self.lags))
        for i, item in enumerate(items):
            if item.ndim != 2 or len(item) == 0 or item.shape[1] != n_features:
                raise ValueError(
                    f"sequences[{i}] must be (n_frames >= 1, {n_features}), got {tuple(item.shape)}"
                )
        lengths = np.array([len(item) for item in items], dtype=np.int64)
        return torch.cat(items).to(self.centroids), lengths

    def _with_differences(self, values: torch.Tensor, lengths: NDArray[np.int64]) -> torch.Tensor:
        """Append differences to features, see `skdejavid.sequences.transforms`."""
        first = np.repeat(starts_of(lengths), lengths)
        parts = [values]
        for lag in self.lags:
            later, earlier = (
                torch.from_numpy(first + frames).to(values.device)
                for frames in lagged_frames(lengths, lag)
            )
            parts.append(values[later] - values[earlier])
        return torch.cat(parts, dim=1) if self.lags else values


class _Distances(torch.autograd.Function):
    """Distances along the cheapest paths, which are constants for the gradients.

    The gradients are dD/dC and dD/dU of the paper's supplement, and dD/ds.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        centroids: torch.Tensor,
        weights: torch.Tensor,
        lengths: NDArray[np.int64],
        diagonal: bool,
        n_threads: int,
    ) -> torch.Tensor:
        ctx.save_for_backward(values, centroids, weights)
        problem = _problem(values, centroids, weights, lengths, n_threads)
        distances, runs = problem.paths(diagonal)
        ctx.lengths, ctx.runs, ctx.n_threads = lengths, runs, n_threads
        return distances

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # The problem is created again from `saved_tensors`, which raise an error if an input was
        # changed in place since `forward`; the first problem would compute with the new values.
        values, centroids, weights = ctx.saved_tensors
        problem = _problem(values, centroids, weights, ctx.lengths, ctx.n_threads)
        grad_distances = grad_outputs[0].contiguous()
        by_values = by_centroids = by_weights = None
        if ctx.needs_input_grad[0]:
            by_values = problem.sequence_gradients(ctx.runs, grad_distances)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            by_centroids, by_weights = problem.parameter_gradients(ctx.runs, grad_distances)
        return by_values, by_centroids, by_weights, None, None, None


def _problem(
    values: torch.Tensor,
    centroids: torch.Tensor,
    weights: torch.Tensor,
    lengths: NDArray[np.int64],
    n_threads: int,
) -> TensorProblem:
    backend = backend_of_tensor(centroids)
    return backend.tensor_problem(values, lengths, centroids, weights, n_threads=n_threads)


def _check_floating(centroids: torch.Tensor, log_weights: torch.Tensor) -> None:
    if not {centroids.dtype, log_weights.dtype} <= {torch.float32, torch.float64}:
        raise ValueError(
            "centroids and log_weights must be float32 or float64, "
            f"got {centroids.dtype} and {log_weights.dtype}"
        )
