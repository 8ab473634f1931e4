"""Learning centroids and weights by gradient descent through the alignment.

Knows the alignment, but no estimator: data and settings in, parameters out.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from skdejavid.cuda import open_device
from skdejavid.cuda_engine import DeviceEngine
from skdejavid.engine import (
    Engine,
    HostEngine,
    Matcher,
    Snapshot,
    TrainingData,
    TrainingSettings,
    split,
)
from skdejavid.logits import cross_entropy, deviations

__all__ = ["EpochHook", "TrainingResult", "train"]


_JUDGED = ("validation_loss", "validation_accuracy")


@dataclass(frozen=True)
class TrainingResult:
    """What was learned."""

    centroids: NDArray[np.floating]
    log_weights: NDArray[np.floating]
    distance_scale: float  # of "global" normalization, else 1
    history: dict[str, NDArray[np.float64]]  # one value per epoch
    best_epoch: int | None  # after which the parameters were these, from 1; None: the last one


# Told of an epoch, with what would be returned if it were the last; says whether it shall be.
EpochHook = Callable[[dict[str, float], Callable[[], TrainingResult]], bool]


def train(
    data: TrainingData,
    matcher: Matcher,
    settings: TrainingSettings,
    random_state: np.random.RandomState,
    on_epoch: EpochHook = lambda record, result_so_far: False,
    held_out: TrainingData | None = None,
    before_epoch: Callable[[], None] = lambda: None,
) -> TrainingResult:
    """Learn with Adam and a cosine schedule (the paper's Sec. 4.2).

    With ``path_refresh="epoch"`` centroids and weights are frozen at the start of an epoch: the
    frozen ones choose the paths, the live ones are measured along them and learn (Sec. 3.4). With
    ``"batch"`` the live ones choose the paths as well.

    Parameters
    ----------
    data, settings
        What to learn from and how.
    matcher : Matcher
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
    trainer = _Trainer(data, matcher, settings)
    best = None if held_out is None else _BestEpoch(trainer.engine.snapshot())
    records: list[dict[str, float]] = []

    def result_so_far() -> TrainingResult:
        parameters = trainer.engine.results(None if best is None else best.kept)
        return _result(copy.deepcopy(parameters), trainer.scale, records, best)

    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is seen in the loss
        for epoch in range(settings.n_epochs):
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
            if is_asked_to_stop or (best and epoch + 1 >= best.epoch + settings.patience):
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
        history={
            name: np.array([record[name] for record in records])
            for name in ("loss", "accuracy", "learning_rate", *(_JUDGED if best else ()))
        },
        best_epoch=None if best is None else best.epoch,
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

    def __init__(self, data: TrainingData, matcher: Matcher, settings: TrainingSettings) -> None:
        self._data, self._settings = data, settings
        self.engine = _make_engine(data, matcher, settings)
        if settings.normalization != "global":
            self.scale = 1.0
        elif settings.distance_scale is not None:
            self.scale = settings.distance_scale
        else:
            self.scale = settings.temperature * self._measure_scale()
        if settings.n_epochs > 0:
            self._frozen = self.engine.snapshot()

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
            loss, hits = engine.evaluate(batch, self.scale, None if chooses_live else self._frozen)
            if not engine.may_go_on(loss, is_first=is_first):
                return None
            if is_first:
                # Only now is it certain that these parameters are good ones to go back to.
                self._frozen.take()
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
        self._frozen.restore()

    def _measure_scale(self) -> float:
        """The mean standard deviation of a sample's distances, 1 if they are all the same."""
        total = 0.0
        for batch, distances in self.engine.distances(self._data):
            total += float(self._data.sample_weight[batch] @ deviations(distances))
        return total / self._data.total_weight or 1.0


def _make_engine(data: TrainingData, matcher: Matcher, settings: TrainingSettings) -> Engine:
    if settings.device == "cpu":
        return HostEngine(data, matcher, settings)
    return DeviceEngine(open_device(settings.device), data, matcher, settings)


class _BestEpoch:
    """The parameters that had the least loss on held-out data."""

    def __init__(self, kept: Snapshot) -> None:
        self.kept = kept
        self._loss = math.inf
        self.epoch = 0  # before the first

    def keep_if_lower(self, epoch: int, loss: float) -> None:
        if loss < self._loss:
            self.epoch, self._loss = epoch, loss
            self.kept.take()

    def restore(self) -> None:
        self.kept.restore()


def _shuffled_batches(
    n_samples: int, batch_size: int, random_state: np.random.RandomState
) -> list[NDArray[np.intp]]:
    """All samples in random order; in their own where they make a single batch."""
    order = np.arange(n_samples) if n_samples <= batch_size else random_state.permutation(n_samples)
    return split(order, batch_size)
