"""Learning centroids and weights by gradient descent through the alignment.

This module uses data, settings and engines; it does not depend on estimators.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skdejavid.backends.interfaces import Loss, Parameters
from skdejavid.backends.registry import make_engine
from skdejavid.backends.state import (
    PARAMETERS,
    InitialParameters,
    Snapshot,
    TrainingData,
    TrainingSettings,
    split,
)
from skdejavid.compat.bars import Bar
from skdejavid.files.random_state import generator_state, restore_generator

__all__ = ["Observer", "ProgressBar", "TimeLimit", "Training", "TrainingResult", "TrainingState"]

# Overflows are detected in the loss and the parameters.
_ignore_overflow = partial(np.errstate, over="ignore", invalid="ignore")


@dataclass(frozen=True)
class TrainingResult:
    """Learned parameters, and how training went."""

    centroids: NDArray[np.floating]
    log_weights: NDArray[np.floating]
    distance_scale: float  # of the loss
    history: dict[str, NDArray[np.float64]]  # one value per epoch
    best_epoch: int | None  # from 1: the parameters are those after it; None: after the last one
    # Why training stopped early, None if it did not: "diverged" in the epoch after those of the
    # history, "no_improvement" of the held-out loss, or a reason of an observer.
    stopped: str | None = None
    interrupt: KeyboardInterrupt | None = None  # that ended training, to be raised again

    def attributes(self, logit_scaling: str) -> dict[str, Any]:
        """Return the fitted attributes that were learned, of a fit with this `logit_scaling`."""
        return {
            "centroids_": self.centroids,
            "log_weights_": self.log_weights,
            "logit_scaling_": logit_scaling,
            "distance_scale_": self.distance_scale,
            "history_": self.history,
            "best_iter_": self.best_epoch,
        }


@dataclass(frozen=True)
class TrainingState:
    """Everything needed to resume training after an epoch."""

    arrays: dict[str, NDArray[Any]]  # `Engine.state_dict`, and the parameters of snapshots
    history: dict[str, NDArray[np.float64]]
    distance_scale: float
    best_epoch: int | None
    best_loss: float
    generator: dict[str, Any]  # after the epoch, see `generator_state`
    # Before the fit drew its first number: the held-out sequences are drawn from it again.
    initial_generator: dict[str, Any] = field(default_factory=dict)


class Observer(Protocol):
    """Follows training epoch by epoch, and can stop it."""

    def on_epoch_begin(self) -> None:
        """Note that an epoch begins."""

    def on_epoch_end(self, record: dict[str, float], training: Training) -> str | None:
        """Note that an epoch has ended.

        Observers are called in their order; `training` knows if an earlier one has stopped it.

        Parameters
        ----------
        record : dict of str to float
            The metrics of the epoch.
        training : Training
            Its `result` is the one that stopping here gives.

        Returns
        -------
        str or None
            The reason to stop training here, or None to continue.
        """


class Training:
    """Training with Adam and a cosine schedule (the paper's Sec. 4.2).

    With ``path_refresh="epoch"`` centroids and weights are frozen at the start of an epoch: the
    frozen ones choose the paths, and the current ones learn from distances along these (Sec. 3.4).
    With ``"batch"`` the current ones choose the paths as well.

    Parameters
    ----------
    data : TrainingData
    initial : InitialParameters
        The parameters to start from; they are overwritten.
    settings : TrainingSettings
    random_state : RandomState
        Shuffles the batches.
    held_out : TrainingData, optional
        Data on which the metrics are measured after every epoch. The parameters with the lowest
        loss are kept, and training stops after ``settings.patience`` epochs without a lower one.
    """

    def __init__(
        self,
        data: TrainingData,
        initial: InitialParameters,
        settings: TrainingSettings,
        random_state: np.random.RandomState,
        held_out: TrainingData | None = None,
    ) -> None:
        self._data, self._held_out, self._settings = data, held_out, settings
        self._random_state = random_state
        self._engine = make_engine(data, initial, settings)
        self._records: list[dict[str, float]] = []
        self._stopped: str | None = None
        self._interrupt: KeyboardInterrupt | None = None
        if settings.n_epochs > 0:
            self._frozen = self._engine.snapshot()
        # The number of epochs after which the frozen parameters are, if these are complete.
        self._frozen_after: int | None = None
        self._best = None if held_out is None else self._engine.snapshot()
        self._best_epoch, self._best_loss = 0, math.inf  # epoch 0: the initial parameters
        self._is_taking_best = False

    @cached_property
    def loss(self) -> Loss:
        """The loss, with a scale that is measured when it is first needed: before any step."""
        with _ignore_overflow():
            return self._settings.loss.calibrate(self._mean_over_samples)

    def calibrate(self) -> None:
        """Measure the scale of the loss now, unless it is known."""
        _ = self.loss

    @property
    def n_epochs_done(self) -> int:
        """Number of epochs that have ended."""
        return len(self._records)

    @property
    def stopped(self) -> str | None:
        """The reason for which training has stopped early, or None."""
        has_improved = self.n_epochs_done < self._best_epoch + self._settings.patience
        if self._stopped is None and self._best is not None and not has_improved:
            return "no_improvement"
        return self._stopped

    @property
    def is_over(self) -> bool:
        """Whether no epoch follows."""
        return self.stopped is not None or self.n_epochs_done >= self._settings.n_epochs

    def learn(self, observers: Sequence[Observer] = ()) -> TrainingResult:
        """Train until the last epoch, or until there is a reason to stop.

        Returns
        -------
        TrainingResult
            If loss or parameters overflow after the first epoch, training stops with the reason
            "diverged". The result then has the last parameters with which the first batch of an
            epoch had a finite loss, or those with the lowest loss on held-out data. If it is
            interrupted after the first epoch, it has the parameters after the last whole epoch, or
            those with the lowest loss.

        Raises
        ------
        RuntimeError
            If loss or parameters overflow in the first epoch.
        KeyboardInterrupt
            If training is interrupted before the end of the first epoch.
        """
        with _ignore_overflow():
            try:
                while not self.is_over:
                    for observer in observers:
                        observer.on_epoch_begin()
                    record = self.train_epoch(self.n_epochs_done)
                    if record is None:
                        self._diverge()
                    else:
                        self._end_epoch(record, observers)
            except KeyboardInterrupt as interrupt:
                if self.n_epochs_done == 0:
                    raise
                self._interrupt = interrupt
                self._return_to_last_epoch()
            if self._best is not None:
                self._best.restore()
            return self._result(self._engine.parameters())

    def result(self) -> TrainingResult:
        """Return a copy of the result that training gives if it stops now."""
        return self._result(copy.deepcopy(self._engine.parameters(self._best)))

    def state(self) -> TrainingState:
        """Return everything that `resume` needs; its arrays may be those of the engine."""
        arrays = self._engine.state_dict()
        for name, snapshot in self._snapshots().items():
            pair = self._engine.parameters(snapshot)
            arrays |= {f"{name}.{what}": x for what, x in zip(PARAMETERS, pair, strict=True)}
        return TrainingState(
            arrays=arrays,
            history=self._history(),
            distance_scale=self._scale(),
            best_epoch=None if self._best is None else self._best_epoch,
            best_loss=self._best_loss,
            generator=generator_state(self._random_state),
        )

    def resume(self, state: TrainingState) -> None:
        """Continue from a state instead of the initial parameters.

        Raises
        ------
        ValueError
            If an array of the state is missing or of another shape; the message names it.
        """
        self.loss = self._settings.loss.with_scale(state.distance_scale)
        for name, array in self.state().arrays.items():
            found = state.arrays.get(name)
            if found is None or found.shape != np.shape(array):
                shape = None if found is None else found.shape
                raise ValueError(
                    f"the checkpoint is damaged: {name} must have shape {np.shape(array)}, got "
                    f"{shape}. Remove the file to start again."
                )
        self._check_epochs(state)
        for name, snapshot in self._snapshots().items():
            centroids, weights = (state.arrays[f"{name}.{what}"] for what in PARAMETERS)
            self._engine.fill_snapshot(snapshot, (centroids, weights))
        self._engine.load_state_dict(state.arrays)
        if state.best_epoch is not None:
            self._best_epoch, self._best_loss = state.best_epoch, state.best_loss
        names, values = state.history.keys(), state.history.values()
        self._records = [
            dict(zip(names, map(float, epoch), strict=True)) for epoch in zip(*values, strict=True)
        ]
        restore_generator(self._random_state, state.generator)

    def _check_epochs(self, state: TrainingState) -> None:
        """Check that a state has the metrics of this training, and a best epoch if it needs one."""
        expected = set(self._history())
        if set(state.history) != expected:
            raise ValueError(
                f"the checkpoint is damaged: its metrics are {sorted(state.history)}, expected "
                f"{sorted(expected)}. Remove the file to start again."
            )
        if (state.best_epoch is None) != (self._best is None):
            raise ValueError(
                f"the checkpoint is damaged: its best epoch is {state.best_epoch}, but the loss on "
                f"held-out data is {'not ' if self._best is None else ''}measured. Remove the file "
                "to start again."
            )

    def train_epoch(self, epoch: int) -> dict[str, float] | None:
        """Train with each batch once, in random order.

        Returns
        -------
        dict of str to float, or None
            The learning rate, and means of the metrics, where each batch is measured before its
            step. None if the loss of the first batch, or the loss or a parameter at the end of the
            epoch is not finite.
        """
        settings, engine = self._settings, self._engine
        # The learning rate falls along half a period of a cosine, from 1 to 0.
        decay = (1 + math.cos(math.pi * epoch / settings.n_epochs)) / 2
        totals: list[Any] = [0.0] * len(self.loss.metrics)
        for i, batch in enumerate(engine.iter_batches(self._shuffled_batches())):
            is_first = i == 0
            chooses_current = is_first or settings.path_refresh == "batch"
            sums = engine.evaluate(batch, self.loss, None if chooses_current else self._frozen)
            if not engine.is_finite(sums[0], wait=is_first):
                return None
            if is_first:
                # Only now are these parameters known to be good ones to return to.
                self._frozen.take()
                self._frozen_after = epoch
            totals = [total + more for total, more in zip(totals, sums, strict=True)]
            if settings.learn_centroids:
                engine.move_centroids(decay * settings.centroid_learning_rate)
            if settings.learn_weights:
                engine.move_weights(decay * settings.learning_rate)
        means = [engine.to_float(total) / self._data.total_weight for total in totals]
        if not (math.isfinite(means[0]) and engine.parameters_are_finite()):
            return None
        record = dict(zip(self.loss.metrics, means, strict=True))
        return record | {"learning_rate": decay * settings.learning_rate}

    def _end_epoch(self, record: dict[str, float], observers: Iterable[Observer]) -> None:
        if self._held_out is not None:
            record |= self._validate(self._held_out)
        self._records.append(record)
        self._keep_best()
        for observer in observers:
            self._stopped = observer.on_epoch_end(record, self) or self._stopped

    def _keep_best(self) -> None:
        """Keep the current parameters if the loss on held-out data is the lowest so far.

        If this is interrupted, calling it again completes it.
        """
        if self._best is None:
            return
        loss = self._records[-1][f"validation_{self.loss.metrics[0]}"]
        if loss < self._best_loss or self._is_taking_best:
            self._is_taking_best = True
            self._best_epoch, self._best_loss = self.n_epochs_done, loss
            self._best.take()
            self._is_taking_best = False

    def _return_to_last_epoch(self) -> None:
        """Restore the parameters after the last whole epoch, wherever training was interrupted.

        No parameter moves in an epoch before the frozen ones are complete.
        """
        if self._frozen_after == self.n_epochs_done or self._stopped == "diverged":
            self._frozen.restore()
        self._keep_best()

    def _diverge(self) -> None:
        """Return to the last good parameters."""
        if self.n_epochs_done == 0:
            rate = self._settings.learning_rate
            raise RuntimeError(
                f"loss or parameters overflow in epoch 1: lower learning_rate (now {rate}) or "
                "scale the features"
            )
        self._stopped = "diverged"
        self._frozen.restore()

    def _validate(self, held_out: TrainingData) -> dict[str, float]:
        """Return the means of the metrics over held-out data."""
        names = [f"validation_{name}" for name in self.loss.metrics]
        means = self._means(held_out, lambda *pair: self.loss.evaluate(*pair)[0])
        return dict(zip(names, means, strict=True))

    def _mean_over_samples(
        self, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> float:
        """Return the weighted mean of a function of each training sample's distances."""
        (mean,) = self._means(self._data, lambda distances, targets: (function(distances),))
        return mean

    def _means(
        self,
        data: TrainingData,
        values_of: Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], ...]],
    ) -> list[float]:
        """Return weighted means of values (n_samples,) of distances and targets."""
        totals: list[float] = []
        for batch, distances in self._engine.distances(data):
            weight = data.sample_weight[batch]
            sums = [float(weight @ value) for value in values_of(distances, data.targets[batch])]
            totals = [a + b for a, b in zip(totals or [0.0] * len(sums), sums, strict=True)]
        return [total / data.total_weight for total in totals]

    def _shuffled_batches(self) -> list[NDArray[np.intp]]:
        """Return all samples in random order; a single batch keeps their own order."""
        n_samples, batch_size = len(self._data.targets), self._settings.batch_size
        if n_samples <= batch_size:
            return [np.arange(n_samples)]
        return split(self._random_state.permutation(n_samples), batch_size)

    def _snapshots(self) -> dict[str, Snapshot]:
        snapshots = {"frozen": self._frozen}
        return snapshots if self._best is None else snapshots | {"best": self._best}

    def _scale(self) -> float:
        scale = self.loss.scale
        assert scale is not None
        return float(scale)

    def _result(self, parameters: Parameters) -> TrainingResult:
        """Return the result; it takes over centroids and weights."""
        centroids, weights = parameters
        scale = self._scale()  # may have to be measured, with the weights as they are
        # Rounding may have made a weight 0.
        np.maximum(weights, np.finfo(weights.dtype).tiny, out=weights)
        return TrainingResult(
            centroids=centroids,
            log_weights=np.log(weights, out=weights),
            distance_scale=scale,
            history=self._history(),
            best_epoch=None if self._best is None else self._best_epoch,
            stopped=self.stopped,
            interrupt=self._interrupt,
        )

    def _history(self) -> dict[str, NDArray[np.float64]]:
        names = [*self.loss.metrics, "learning_rate"]
        if self._best is not None:
            names += [f"validation_{name}" for name in self.loss.metrics]
        return {
            name: np.array([record[name] for record in self._records], dtype=np.float64)
            for name in names
        }


class ProgressBar:
    """Observer that shows the metrics of each epoch in a bar of tqdm."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def on_epoch_begin(self) -> None:
        """Do nothing."""

    def on_epoch_end(self, record: dict[str, float], training: Training) -> None:
        """Advance the bar."""
        metrics = {name: f"{record[name]:.4f}" for name in training.loss.metrics}
        self._bar.set_postfix(metrics, refresh=False)  # `update` shows it if it is time to
        self._bar.update()


class TimeLimit:
    """Observer that stops training `seconds` after its creation, at the end of an epoch."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def on_epoch_begin(self) -> None:
        """Do nothing."""

    def on_epoch_end(self, record: dict[str, float], training: Training) -> str | None:
        """Stop after the time limit, unless training is over anyway."""
        is_over_time = not training.is_over and time.monotonic() >= self._end
        return "max_time" if is_over_time else None
