"""Learning centroids and weights by gradient descent through the alignment.

Knows the alignment, but no estimator: data and settings in, parameters out.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from skdejavid.backends.protocol import (
    InitialParameters,
    Snapshot,
    TrainingData,
    TrainingSettings,
    split,
)
from skdejavid.backends.registry import make_engine
from skdejavid.files.random_state import describe_generator, read_generator
from skdejavid.training.checkpoints import Checkpoint, TrainingState
from skdejavid.training.loss import cross_entropy, deviations

__all__ = ["EpochHook", "Run", "TrainingResult", "train"]


_JUDGED = ("validation_loss", "validation_accuracy")


@dataclass(frozen=True)
class TrainingResult:
    """What was learned."""

    centroids: NDArray[np.floating]
    log_weights: NDArray[np.floating]
    distance_scale: float  # of "global" normalization, else 1
    history: dict[str, NDArray[np.float64]]  # one value per epoch
    best_epoch: int | None  # after which the parameters were these, from 1; None: the last one


@dataclass(frozen=True)
class Run:
    """How a training run can be interrupted, and where it goes on."""

    checkpoint: Checkpoint | None = None
    state: TrainingState | None = None  # None: at the beginning
    initial_generator: dict[str, Any] = field(default_factory=dict)  # see `TrainingState`
    max_time: float = math.inf  # seconds, looked at after each epoch

    def note(self, state: Callable[[], TrainingState], *, must_be_written: bool = True) -> None:
        """Write how far the run is, if it is to be written and it is time."""
        if self.checkpoint is None:
            return
        if must_be_written:
            self.checkpoint.write(state())
        else:
            self.checkpoint.write_if_due(state)


# Told of an epoch, with what would be returned if it were the last; says whether it shall be.
EpochHook = Callable[[dict[str, float], Callable[[], TrainingResult]], bool]


def train(
    data: TrainingData,
    initial: InitialParameters,
    settings: TrainingSettings,
    random_state: np.random.RandomState,
    on_epoch: EpochHook = lambda record, result_so_far: False,
    held_out: TrainingData | None = None,
    before_epoch: Callable[[], None] = lambda: None,
    run: Run | None = None,
) -> TrainingResult:
    """Learn with Adam and a cosine schedule (the paper's Sec. 4.2).

    With ``path_refresh="epoch"`` centroids and weights are frozen at the start of an epoch: the
    frozen ones choose the paths, the live ones are measured along them and learn (Sec. 3.4). With
    ``"batch"`` the live ones choose the paths as well.

    Parameters
    ----------
    data, settings
        What to learn from and how.
    initial : InitialParameters
        Where to start; used up.
    random_state : RandomState
        Shuffles the batches.
    on_epoch : callable, optional
        Called after every epoch with its mean loss, its accuracy and its learning rate, and with a
        function that copies what would be returned if it were the last. Learning ends if it says
        True.
    held_out : TrainingData, optional
        Of these, loss and accuracy are measured after every epoch. The parameters of least loss are
        kept, and learning ends when there was none lower for ``settings.patience`` epochs.
    before_epoch : callable, optional
        Called before every epoch.
    run : Run, optional
        Where to note how far it is, and where to go on.

    Returns
    -------
    TrainingResult

    Raises
    ------
    RuntimeError
        If loss or parameters overflow in the first epoch.

    Warns
    -----
    ConvergenceWarning
        If they do so later; learning ends, and the last parameters that had a finite loss at the
        start of an epoch are kept, or those that were best for held-out data.
    """
    run = run or Run()
    if run.state is not None:
        settings = replace(settings, distance_scale=run.state.distance_scale)
    trainer = _Trainer(data, initial, settings)
    best = None if held_out is None else _BestEpoch(trainer.engine.snapshot())
    records: list[dict[str, float]] = []
    if run.state is not None:
        records = _go_on(run.state, trainer, best)
        random_state = read_generator(run.state.generator)
    begin = time.monotonic()

    def result_so_far() -> TrainingResult:
        parameters = trainer.engine.results(None if best is None else best.kept)
        return _result(copy.deepcopy(parameters), trainer.scale, records, best)

    def state() -> TrainingState:
        return _state(trainer, records, best, run.initial_generator, random_state)

    def is_settled() -> bool:
        return best is not None and len(records) >= best.epoch + settings.patience

    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is seen in the loss
        if run.state is None:
            run.note(state)  # initial centroids alone may have taken long
        for epoch in range(len(records), settings.n_epochs):
            if is_settled():
                break
            before_epoch()
            batches = _shuffled_batches(len(data.labels), settings.batch_size, random_state)
            record = trainer.train_epoch(epoch, batches)
            if record is None:
                _stop_diverging(epoch + 1, settings)
                trainer.restore()
                break
            if held_out is not None:
                record |= trainer.judge(held_out)
            records.append(record)
            if best is not None:
                best.keep_if_lower(epoch + 1, record["validation_loss"])
            is_asked_to_stop = on_epoch(record, result_so_far)
            is_last = is_asked_to_stop or is_settled() or epoch + 1 == settings.n_epochs
            is_over_time = not is_last and time.monotonic() - begin >= run.max_time
            run.note(state, must_be_written=is_last or is_over_time)
            if is_over_time:
                _stop_in_time(epoch + 1, settings, run)
            if is_asked_to_stop or is_over_time:
                break
    if best is not None:
        best.restore()
    return _result(trainer.engine.results(), trainer.scale, records, best)


def _result(
    parameters: tuple[NDArray[np.floating], NDArray[np.floating]],
    distance_scale: float,
    records: list[dict[str, float]],
    best: _BestEpoch | None,
) -> TrainingResult:
    """What was learned; takes over centroids and weights."""
    centroids, weights = parameters
    # A weight may have become 0 by rounding.
    np.maximum(weights, np.finfo(weights.dtype).tiny, out=weights)
    return TrainingResult(
        centroids=centroids,
        log_weights=np.log(weights, out=weights),
        distance_scale=distance_scale,
        history=_history(records, best),
        best_epoch=None if best is None else best.epoch,
    )


def _go_on(
    state: TrainingState, trainer: _Trainer, best: _BestEpoch | None
) -> list[dict[str, float]]:
    """Set everything to what it was, and return the records of the epochs so far."""
    engine, arrays = trainer.engine, state.arrays

    def pair(name: str) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        return arrays[f"{name}.centroids"], arrays[f"{name}.weights"]

    trainer.scale = state.distance_scale
    engine.go_on(pair("live"), arrays)
    engine.fill(trainer.frozen, pair("frozen"))
    if best is not None and state.best_epoch is not None:
        best.epoch, best.loss = state.best_epoch, state.best_loss
        engine.fill(best.kept, pair("best"))
    n_epochs = len(state.history["loss"])
    return [
        {name: float(values[epoch]) for name, values in state.history.items()}
        for epoch in range(n_epochs)
    ]


def _state(
    trainer: _Trainer,
    records: list[dict[str, float]],
    best: _BestEpoch | None,
    initial_generator: dict[str, Any],
    generator: np.random.RandomState,
) -> TrainingState:
    """What `_go_on` needs."""
    engine = trainer.engine
    pairs = {"live": engine.results(), "frozen": engine.results(trainer.frozen)}
    if best is not None:
        pairs["best"] = engine.results(best.kept)
    arrays = {
        f"{name}.{what}": array
        for name, pair in pairs.items()
        for what, array in zip(("centroids", "weights"), pair, strict=True)
    }
    return TrainingState(
        arrays=arrays | engine.moments(),
        history=_history(records, best),
        distance_scale=float(trainer.scale),
        best_epoch=None if best is None else best.epoch,
        best_loss=math.inf if best is None else best.loss,
        initial_generator=initial_generator,
        generator=describe_generator(generator),
    )


def _history(
    records: list[dict[str, float]], best: _BestEpoch | None
) -> dict[str, NDArray[np.float64]]:
    return {
        name: np.array([record[name] for record in records], dtype=np.float64)
        for name in ("loss", "accuracy", "learning_rate", *(_JUDGED if best else ()))
    }


def _stop_in_time(epoch: int, settings: TrainingSettings, run: Run) -> None:
    remedy = "" if run.checkpoint is None else "; the same fit again goes on from here"
    warnings.warn(
        f"max_time={run.max_time:g} ended learning after epoch {epoch} of {settings.n_epochs}"
        f"{remedy}",
        ConvergenceWarning,
        stacklevel=6,  # the caller of the estimator's fit
    )


def _stop_diverging(epoch: int, settings: TrainingSettings) -> None:
    advice = f"lower learning_rate (now {settings.learning_rate}) or scale the features"
    if epoch == 1:
        raise RuntimeError(f"loss or parameters overflow in epoch 1: {advice}")
    warnings.warn(
        f"loss or parameters overflow in epoch {epoch}, the last good ones are kept: {advice}",
        ConvergenceWarning,
        stacklevel=6,  # the caller of the estimator's fit
    )


class _Trainer:
    """The state of a training run between its batches."""

    def __init__(
        self, data: TrainingData, initial: InitialParameters, settings: TrainingSettings
    ) -> None:
        self._data, self._settings = data, settings
        self.engine = make_engine(data, initial, settings)
        if settings.normalization != "global":
            self.scale = 1.0
        elif settings.distance_scale is not None:
            self.scale = settings.distance_scale
        else:
            self.scale = settings.temperature * self._measure_scale()
        if settings.n_epochs > 0:
            self.frozen = self.engine.snapshot()

    def train_epoch(self, epoch: int, batches: list[NDArray[np.intp]]) -> dict[str, float] | None:
        """Means over the epoch, each batch seen with the parameters it had at its turn.

        None if a loss or a parameter is not finite, which ends the epoch.
        """
        settings, engine = self._settings, self.engine
        # The learning rate falls along half a period of a cosine, from 1 to 0.
        decay = (1 + math.cos(math.pi * epoch / settings.n_epochs)) / 2
        total_loss = total_hits = 0.0
        for i, batch in enumerate(engine.load(batches)):
            is_first = i == 0
            chooses_live = is_first or settings.path_refresh == "batch"
            loss, hits = engine.evaluate(batch, self.scale, None if chooses_live else self.frozen)
            if not engine.may_go_on(loss, is_first=is_first):
                return None
            if is_first:
                # Only now is it certain that these parameters are good ones to go back to.
                self.frozen.take()
            total_loss = total_loss + loss
            total_hits = total_hits + hits
            if settings.learn_centroids:
                engine.move_centroids(decay * settings.centroid_learning_rate)
            if settings.learn_weights:
                engine.move_weights(decay * settings.learning_rate)
        mean_loss = engine.read(total_loss) / self._data.total_weight
        if not (math.isfinite(mean_loss) and engine.is_finite()):
            return None
        return {
            "loss": mean_loss,
            "accuracy": engine.read(total_hits) / self._data.total_weight,
            "learning_rate": decay * settings.learning_rate,
        }

    def judge(self, held_out: TrainingData) -> dict[str, float]:
        """Mean loss and accuracy of data that nothing is learned from, by current parameters."""
        total_loss = n_correct = 0.0
        for batch, distances in self.engine.distances(held_out):
            labels, sample_weight = held_out.labels[batch], held_out.sample_weight[batch]
            losses, _ = cross_entropy(distances, labels, self._settings.normalization, self.scale)
            total_loss += float(sample_weight @ losses)
            n_correct += float(sample_weight @ (distances.argmin(axis=1) == labels))
        means = total_loss / held_out.total_weight, n_correct / held_out.total_weight
        return dict(zip(_JUDGED, means, strict=True))

    def restore(self) -> None:
        """Go back to the parameters at the start of the last epoch whose first loss was finite."""
        self.frozen.restore()

    def _measure_scale(self) -> float:
        """The mean standard deviation of a sample's distances, 1 if they are all the same."""
        total = 0.0
        for batch, distances in self.engine.distances(self._data):
            total += float(self._data.sample_weight[batch] @ deviations(distances))
        return total / self._data.total_weight or 1.0


class _BestEpoch:
    """The parameters that had the least loss on held-out data."""

    def __init__(self, kept: Snapshot) -> None:
        self.kept = kept
        self.loss = math.inf
        self.epoch = 0  # before the first

    def keep_if_lower(self, epoch: int, loss: float) -> None:
        if loss < self.loss:
            self.epoch, self.loss = epoch, loss
            self.kept.take()

    def restore(self) -> None:
        self.kept.restore()


def _shuffled_batches(
    n_samples: int, batch_size: int, random_state: np.random.RandomState
) -> list[NDArray[np.intp]]:
    """All samples in random order; in their own where they make a single batch."""
    order = np.arange(n_samples) if n_samples <= batch_size else random_state.permutation(n_samples)
    return split(order, batch_size)
