"""Plots of fitted models. matplotlib is imported only when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skdejavid.alignment import dtw_distances, dtw_path
from skdejavid.compat.floating import underflow_allowed
from skdejavid.compat.optional import import_optional
from skdejavid.sequences import TSEArray, check_sequences
from skdejavid.sequences.containers import without_torch
from skdejavid.sequences.transforms import names_with_differences, with_differences

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from skdejavid.classifier import DejaVidClassifier

__all__ = ["AlignmentDisplay"]

_MOST_NAMES = 24  # at one axis


class AlignmentDisplay:
    """Plot of the alignment of one sequence with one centroid, and of the weights.

    Use :meth:`from_estimator` to create it.

    Parameters
    ----------
    sequence : ndarray of shape (n_frames, n_features)
        The sequence, with the differences over time that the centroid was fitted with.
    centroid : ndarray of shape (n_timesteps, n_features)
        The centroid.
    weights : ndarray of shape (n_timesteps, n_features)
        The weights of the centroid.
    path : ndarray of shape (n_cells, 2)
        Pairs (time step, frame), as returned by :func:`skdejavid.dtw_path`.
    label : object, optional
        Class of the centroid, shown in the title.
    feature_names : sequence of str, optional
        Names of the features of the centroid. If None, their numbers are shown.
    feature_scale : ndarray of shape (n_features,), optional
        Standard deviation of each feature, with which its weights are multiplied: then the weights
        of features in different units can be compared. If None, the weights are shown as they are,
        and depend on the units of the features.

    Attributes
    ----------
    figure_ : matplotlib Figure
        Set by :meth:`plot`.
    axes_ : dict of str to matplotlib Axes
        The keys are "cost", "sequence", "centroid" and "weights". Set by :meth:`plot`.
    """

    def __init__(
        self,
        sequence: NDArray[np.floating],
        centroid: NDArray[np.floating],
        weights: NDArray[np.floating],
        path: NDArray[np.integer],
        *,
        label: Any = None,
        feature_names: Sequence[str] | None = None,
        feature_scale: NDArray[np.floating] | None = None,
    ) -> None:
        self.sequence = sequence
        self.centroid = centroid
        self.weights = weights
        self.path = path
        self.label = label
        self.feature_names = feature_names
        self.feature_scale = feature_scale

    @classmethod
    @underflow_allowed
    def from_estimator(
        cls,
        estimator: DejaVidClassifier,
        x: ArrayLike,
        *,
        label: Any = None,
        figure: Figure | None = None,
    ) -> Self:
        """Align one sequence with the centroid of a class, and plot the alignment.

        Features have the names of ``feature_names_in_``, or ``x0``, ``x1``, ...; those of
        differences are named as by :class:`TimeDifferences`, such as ``x0_lag_1``. Weights are
        shown in units of ``feature_scale_``, if the estimator has it.

        Parameters
        ----------
        estimator : DejaVidClassifier
            A fitted classifier.
        x : array of shape (n_frames, n_features)
            The sequence.
        label : object, optional
            One of ``estimator.classes_``. If None, the predicted class.
        figure : matplotlib Figure, optional
            The figure to draw into. If None, a new one is created.

        Returns
        -------
        AlignmentDisplay

        Raises
        ------
        TypeError
            If `estimator` is not a DejaVidClassifier, such as a pipeline that ends with one.
        NotFittedError
            If `estimator` is not fitted.
        ValueError
            If `label` is not a class of the estimator, or `x` is not one sequence.
        """
        if not hasattr(estimator, "diagonal"):
            raise TypeError(
                f"estimator must be a DejaVidClassifier, got a {type(estimator).__name__}: pass "
                "the classifier inside it, such as search.best_estimator_ or pipeline[-1]"
            )
        check_is_fitted(estimator, "centroids_")
        x = without_torch(x)
        if isinstance(x, (list, tuple)) and len({np.shape(frame) for frame in x}) > 1:
            raise ValueError(
                "x must be one sequence (n_frames, n_features), but its frames differ in shape"
            )
        if np.ndim(x) != 2:
            raise ValueError(f"x must be one sequence (n_frames, n_features), got {np.ndim(x)}-D")
        sequences = _of_one(x, estimator)
        if label is None:
            label = estimator.predict(sequences)[0]
        matches = np.flatnonzero(estimator.classes_ == label)
        if not matches.size:
            raise ValueError(f"label {label!r} is not one of the classes {estimator.classes_}")
        centroid = estimator.centroids_[matches[0]]
        weights = np.exp(estimator.log_weights_[matches[0]])
        check_sequences(sequences, estimator=estimator, reset=False)
        sequence = with_differences(sequences, estimator.lags_)[0]
        path = dtw_path(sequence, centroid, weights, diagonal=estimator.diagonal)
        names = getattr(estimator, "feature_names_in_", None)
        if names is None:
            names = [f"x{i}" for i in range(estimator.n_features_in_)]
        display = cls(
            sequence,
            centroid,
            weights,
            path,
            label=label,
            feature_names=names_with_differences(names, estimator.lags_),
            feature_scale=getattr(estimator, "feature_scale_", None),  # old models have none
        )
        return display.plot(figure=figure)

    @underflow_allowed
    def plot(self, *, figure: Figure | None = None) -> Self:
        """Draw the cost and the path, beside the sequence, the centroid and the weights.

        Parameters
        ----------
        figure : matplotlib Figure, optional
            The figure to draw into. If None, a new one is created.

        Returns
        -------
        AlignmentDisplay
        """
        colors = import_optional("matplotlib.colors", "plot", "Drawing an alignment")
        if figure is None:
            plt = import_optional("matplotlib.pyplot", "plot", "Drawing an alignment")
            figure = plt.figure(figsize=(11, 6.5), layout="constrained")
        axes = figure.subplot_mosaic(
            [[".", "sequence", "."], ["centroid", "cost", "weights"]],
            width_ratios=[1, 2, 1],
            height_ratios=[1, 1.4],
        )
        values = np.concatenate([self.sequence, self.centroid])
        limits = {"vmin": values.min(), "vmax": values.max()}
        self._image(axes["sequence"], self.sequence.T, "sequence", "frame", "feature", **limits)
        self._image(axes["centroid"], self.centroid, "centroid", "feature", "time step", **limits)
        weights, title = self._comparable_weights()
        self._image(
            axes["weights"],
            np.maximum(weights, np.finfo(weights.dtype).tiny),  # the scale is logarithmic
            title,
            "feature",
            "time step",
            norm=colors.LogNorm(),
            cmap="magma",
        )
        cost = self._cost()
        distance = cost[self.path[:, 0], self.path[:, 1]].sum()
        name = "" if self.label is None else f" to class {self.label}"
        self._image(
            axes["cost"],
            cost,
            f"cost and path, distance{name}: {distance:.4g}",
            "frame",
            "time step",
            cmap="Greys",
        )
        axes["cost"].plot(self.path[:, 1], self.path[:, 0], color="tab:red", marker="o", ms=3)
        if self.feature_names is not None:
            self._name_features(axes["sequence"].yaxis)
            for name in ("centroid", "weights"):
                self._name_features(axes[name].xaxis)
                axes[name].tick_params(axis="x", labelrotation=90)
        self.figure_, self.axes_ = figure, axes
        return self

    def _comparable_weights(self) -> tuple[NDArray[np.floating], str]:
        """Return the weights in units in which features can be compared, and what they are."""
        if self.feature_scale is None:
            return self.weights, "weights per unit\n(standard deviations unknown)"
        return self.weights * self.feature_scale, "weights per\nstandard deviation"

    def _name_features(self, axis: Any) -> None:
        """Write the names of features at an axis; of many features, those of some."""
        ticker = import_optional("matplotlib.ticker", "plot", "Drawing an alignment")
        names = list(self.feature_names or ())

        def name(position: float, _: Any) -> str:
            is_feature = position == int(position) and 0 <= position < len(names)
            return names[int(position)] if is_feature else ""

        axis.set_major_locator(ticker.MaxNLocator(_MOST_NAMES, integer=True, min_n_ticks=1))
        axis.set_major_formatter(ticker.FuncFormatter(name))

    def _cost(self) -> NDArray[np.floating]:
        """Return the cost of each cell, (n_timesteps, n_frames).

        It is the distance of the frame, as a sequence, to the time step, as a centroid: so the
        formula of the cost stays in the native core.
        """
        frames, timesteps = self.sequence[:, None], self.centroid[:, None]
        return dtw_distances(frames, timesteps, self.weights[:, None]).T

    @staticmethod
    def _image(
        axes: Any, values: NDArray[Any], title: str, xlabel: str, ylabel: str, **options: Any
    ) -> None:
        image = axes.imshow(values, aspect="auto", interpolation="nearest", **options)
        axes.figure.colorbar(image, ax=axes)
        axes.locator_params(integer=True)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)


def _of_one(x: Any, estimator: DejaVidClassifier) -> TSEArray:
    """Return the sequence in a container; an array, which cannot have names, gets the fitted ones.

    ``X[0]`` is such an array, also if `X` has names.
    """
    sequences = TSEArray([x])
    names = getattr(estimator, "feature_names_in_", None)
    has_names = sequences.feature_names is not None
    if names is None or has_names or len(names) != sequences.n_features:
        return sequences
    return TSEArray(sequences, feature_names=names)
