"""The engine of the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skdejavid import _core
from skdejavid.backends.interfaces import Batch, Loss, Parameters, Problem, Scalar
from skdejavid.backends.state import (
    MOMENTS,
    PARAMETERS,
    InitialParameters,
    Snapshot,
    TrainingData,
    TrainingSettings,
    evaluate_batch,
    split,
)
from skdejavid.sequences import SequenceView

__all__ = ["CpuEngine"]

CpuBatch: TypeAlias = Batch[SequenceView, NDArray[Any]]


class CpuEngine:
    """The engine of the CPU, see `skdejavid.backends.backend.Engine`.

    A large model consists of arrays of the size of the parameters. With the snapshots of training
    (two arrays of frozen parameters, and two more if data are held out) there are ten: centroids
    and weights, two moments of each, and two gradients. The gradients are the same arrays for every
    batch, because allocating new memory would take about as long as computing them.

    Parameters
    ----------
    make_problem : callable
        Returns the problem of aligning sequences with centroids, given a SequenceView and the
        centroids and weights as arrays.
    data, initial, settings
        See `skdejavid.backends.backend.Backend.engine`.
    """

    def __init__(
        self,
        make_problem: Callable[..., Problem],
        data: TrainingData,
        initial: InitialParameters,
        settings: TrainingSettings,
    ) -> None:
        self._make_problem = make_problem
        self._data, self._initial, self._settings = data, initial, settings
        if settings.n_epochs > 0:
            self._gradients = np.empty_like(initial.centroids), np.empty_like(initial.weights)
            scale = initial.feature_scale
            self._centroid_moves = _Adam(initial.centroids, scale, settings.n_threads)
            self._weight_moves = _Adam(initial.weights, None, settings.n_threads)

    def snapshot(self) -> Snapshot:
        return Snapshot(self._initial.parameters)

    def iter_batches(self, batches: list[NDArray[np.intp]]) -> Iterator[CpuBatch]:
        data = self._data
        for batch in batches:
            yield Batch(
                data.sequences.view(batch),
                data.targets[batch],
                data.sample_weight[batch],
                data.coefficients(batch),
            )

    def evaluate(self, batch: CpuBatch, loss: Loss, frozen: Snapshot | None) -> tuple[float, ...]:
        problem = self._align(batch.frames, self._initial.parameters)
        chooser = None if frozen is None else self._align(batch.frames, frozen.parameters)
        store_gradients = partial(problem.parameter_gradients, out=self._gradients)
        diagonal = self._settings.diagonal
        metrics = evaluate_batch(problem, chooser, batch, loss, diagonal, store_gradients)
        return tuple(map(float, metrics))

    def is_finite(self, loss: Scalar, *, wait: bool) -> bool:
        return math.isfinite(loss)

    def parameters_are_finite(self) -> bool:
        return all(bool(np.isfinite(array).all()) for array in self._initial.parameters)

    def move_centroids(self, learning_rate: float) -> None:
        self._centroid_moves.move(self._gradients[0], learning_rate)

    def move_weights(self, learning_rate: float) -> None:
        self._weight_moves.move(self._gradients[1], learning_rate)

    def to_float(self, scalar: Scalar) -> float:
        return float(scalar)

    def distances(
        self, data: TrainingData
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        for batch in split(np.arange(len(data.targets)), self._settings.batch_size):
            problem = self._align(data.sequences.view(batch), self._initial.parameters)
            yield batch, problem.distances(self._settings.diagonal)

    def parameters(self, snapshot: Snapshot | None = None) -> Parameters:
        return self._initial.parameters if snapshot is None else snapshot.parameters

    def fill_snapshot(self, snapshot: Snapshot, parameters: Parameters) -> None:
        snapshot.fill(parameters)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        n_steps = np.array([moves.n_steps for moves in self._moves])
        arrays = [*self._state_arrays(), n_steps]
        return dict(zip(PARAMETERS + MOMENTS, arrays, strict=True))

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        *arrays, n_steps = (state[name] for name in PARAMETERS + MOMENTS)
        for target, array in zip(self._state_arrays(), arrays, strict=True):
            target[...] = array
        for moves, number in zip(self._moves, n_steps.tolist(), strict=True):
            moves.n_steps = number

    @property
    def _moves(self) -> tuple[_Adam, _Adam]:
        return self._centroid_moves, self._weight_moves

    def _state_arrays(self) -> list[NDArray[np.floating]]:
        """Return the arrays that training changes, in the order of their names."""
        moments = [moment for moves in self._moves for moment in moves.moments]
        return [*self._initial.parameters, *moments]

    def _align(self, sequences: SequenceView, parameters: Parameters) -> Problem:
        return self._make_problem(sequences, *parameters)


class _Adam:
    """Adam with betas 0.9 and 0.999 and epsilon 1e-8, for one array that is changed in place.

    It optimizes ``parameters / scale``, or the logarithms of the parameters if `scale` is None.

    Parameters
    ----------
    parameters : array of shape (n_centroids, n_timesteps, n_features)
    scale : array of shape (n_features,), or None
    n_threads : int
    """

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
        """Move the parameters by one step."""
        self.n_steps += 1
        _core.adam_step(
            self._parameters,
            gradients,
            *self.moments,
            self._scale,
            learning_rate,
            self.n_steps,
            self._n_threads,
        )
