"""The engine of the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.backends.protocol import (
    MOMENTS,
    InitialParameters,
    Snapshot,
    TrainingData,
    TrainingSettings,
    split,
)
from skdejavid.backends.registry import Problem, adam_step, make_problem
from skdejavid.sequences import SequenceView
from skdejavid.training.loss import cross_entropy

__all__ = ["CpuEngine"]


class CpuEngine:
    """The engine of the CPU.

    Arrays of the size of the parameters are what a large model consists of. With those of a run
    (two frozen ones, and two more of held-out data) there are ten: centroids and weights, two
    moments of each, and two gradients, which are the same arrays for every batch: new pages of
    memory cost about as much as what is computed into them.
    """

    def __init__(
        self, data: TrainingData, initial: InitialParameters, settings: TrainingSettings
    ) -> None:
        self._data, self._initial, self._settings = data, initial, settings
        if settings.n_epochs > 0:
            self._gradients = np.empty_like(initial.centroids), np.empty_like(initial.weights)
            scale = initial.feature_scale
            self._centroid_moves = _Adam(initial.centroids, scale, settings.n_threads)
            self._weight_moves = _Adam(initial.weights, None, settings.n_threads)

    def snapshot(self) -> Snapshot:
        return Snapshot(self._initial.parameters)

    def load(self, batches: list[NDArray[np.intp]]) -> Iterator[NDArray[np.intp]]:
        return iter(batches)

    def evaluate(
        self, batch: NDArray[np.intp], scale: float, frozen: Snapshot | None
    ) -> tuple[float, float]:
        settings = self._settings
        sequences = self._data.sequences.view(batch)
        labels, sample_weight = self._data.labels[batch], self._data.sample_weight[batch]
        live = self._align(sequences, self._initial.parameters)
        if frozen is None:
            distances, runs = live.paths(settings.diagonal)
        else:
            _, runs = self._align(sequences, frozen.parameters).paths(settings.diagonal)
            distances = live.distances_along(runs)
        losses, by_distances = cross_entropy(distances, labels, settings.normalization, scale)
        coefficients = self._data.coefficients(batch)
        live.parameter_gradients(runs, coefficients[:, None] * by_distances, out=self._gradients)
        is_hit = distances.argmin(axis=1) == labels
        return float(sample_weight @ losses), float(sample_weight @ is_hit)

    def may_go_on(self, loss: float, *, is_first: bool) -> bool:
        return math.isfinite(loss)

    def move_centroids(self, learning_rate: float) -> None:
        self._centroid_moves.move(self._gradients[0], learning_rate)

    def move_weights(self, learning_rate: float) -> None:
        self._weight_moves.move(self._gradients[1], learning_rate)

    def is_finite(self) -> bool:
        return all(bool(np.isfinite(array).all()) for array in self._initial.parameters)

    def read(self, scalar: float) -> float:
        return scalar

    def distances(
        self, data: TrainingData
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        for batch in split(np.arange(len(data.labels)), self._settings.batch_size):
            problem = self._align(data.sequences.view(batch), self._initial.parameters)
            yield batch, problem.distances(self._settings.diagonal)

    def results(
        self, kept: Snapshot | None = None
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        return self._initial.parameters if kept is None else kept.parameters

    def moments(self) -> dict[str, NDArray[Any]]:
        of_both = self._centroid_moves, self._weight_moves
        moments = [moment for moves in of_both for moment in moves.moments]
        n_steps = np.array([moves.n_steps for moves in of_both])
        return dict(zip(MOMENTS, [*moments, n_steps], strict=True))

    def go_on(
        self,
        parameters: tuple[NDArray[np.floating], NDArray[np.floating]],
        moments: Mapping[str, NDArray[Any]],
    ) -> None:
        saved = [moments[name] for name in MOMENTS]
        for i, moves in enumerate((self._centroid_moves, self._weight_moves)):
            moves.n_steps = int(saved[-1][i])
            for target, moment in zip(moves.moments, saved[2 * i : 2 * i + 2], strict=True):
                target[...] = moment
        for target, parameter in zip(self._initial.parameters, parameters, strict=True):
            target[...] = parameter

    def fill(
        self, kept: Snapshot, parameters: tuple[NDArray[np.floating], NDArray[np.floating]]
    ) -> None:
        for target, parameter in zip(kept.parameters, parameters, strict=True):
            target[...] = parameter

    def _align(
        self, sequences: SequenceView, parameters: tuple[NDArray[np.floating], NDArray[np.floating]]
    ) -> Problem:
        return make_problem(sequences, *parameters, n_threads=self._settings.n_threads)


class _Adam:
    """Adam for one array of parameters, see `skdejavid.backends.registry.adam_step`."""

    def __init__(
        self,
        parameters: NDArray[np.floating],
        scale: NDArray[np.floating] | None,
        n_threads: int,
    ) -> None:
        self._parameters, self._scale, self._n_threads = parameters, scale, n_threads
        self.moments = np.zeros_like(parameters), np.zeros_like(parameters)
        self.n_steps = 0

    def move(self, gradients: NDArray[np.floating], learning_rate: float) -> None:
        self.n_steps += 1
        adam_step(
            self._parameters,
            gradients,
            *self.moments,
            self._scale,
            learning_rate,
            self.n_steps,
            self._n_threads,
        )
