"""Learning centroids and weights by gradient descent through the alignment.

Knows the alignment, but no estimator: data and settings in, parameters out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from skdejavid.alignment import Problem, adam_step, make_problem
from skdejavid.logits import cross_entropy, deviations
from skdejavid.sequences import SequenceView, TSEArray

__all__ = ["EpochHook", "TrainingData", "TrainingResult", "TrainingSettings", "train"]


_JUDGED = ("validation_loss", "validation_accuracy")


@dataclass(frozen=True)
class TrainingData:
    """What is learned from."""

    sequences: TSEArray
    labels: NDArray[np.intp]  # (n_sequences,), class numbers
    sample_weight: NDArray[np.float64]  # (n_sequences,), each more than 0

    def part(self, indices: NDArray[np.intp]) -> TrainingData:
        """Some of it."""
        return TrainingData(
            self.sequences[indices], self.labels[indices], self.sample_weight[indices]
        )


@dataclass(frozen=True)
class TrainingSettings:
    """How it is learned; the names are those of the estimator's parameters."""

    normalization: str  # "layer" or "global"
    temperature: float  # of "global" normalization
    learn_weights: bool
    learn_centroids: bool
    diagonal: bool
    path_refresh: str  # "epoch" or "batch"
    learning_rate: float
    centroid_learning_rate: float
    batch_size: int
    n_epochs: int
    n_threads: int
    patience: int = 0  # epochs without a better loss on held-out data, only used with such
    distance_scale: float | None = None  # of "global" normalization; None: measured at the start


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


class Matcher:
    """Centroids and weights, and how they move.

    Both are learned in units of each feature's scale, so that features on different scales start
    equal, while the data and the parameters themselves stay in their own units: centroids move in
    steps of the scale, and weights, which are ``exp(scaled_log_weights) / scale`` at first, move in
    steps of their logarithm. The arrays given are taken over.
    """

    def __init__(
        self,
        centroids: NDArray[np.floating],
        scaled_log_weights: NDArray[np.floating],
        feature_scale: NDArray[np.floating],
    ) -> None:
        self.centroids = centroids
        self.weights = np.exp(scaled_log_weights, out=scaled_log_weights)
        self.weights /= feature_scale
        self.feature_scale = feature_scale

    @property
    def parameters(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Centroids and weights, themselves and not copies."""
        return self.centroids, self.weights

    def is_finite(self) -> bool:
        return all(bool(np.isfinite(array).all()) for array in self.parameters)


def _copies(
    parameters: tuple[NDArray[np.floating], NDArray[np.floating]],
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    centroids, weights = parameters
    return centroids.copy(), weights.copy()


class _Snapshot:
    """A copy of a matcher's parameters, taken anew whenever they are good ones to go back to."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self.parameters = _copies(matcher.parameters)

    def take(self) -> None:
        for kept, current in zip(self.parameters, self._matcher.parameters, strict=True):
            np.copyto(kept, current)

    def restore(self) -> None:
        for kept, current in zip(self.parameters, self._matcher.parameters, strict=True):
            np.copyto(current, kept)


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
    best = None if held_out is None else _BestEpoch(matcher)
    records: list[dict[str, float]] = []

    def result_so_far() -> TrainingResult:
        kept = matcher if best is None else best
        return _result(_copies(kept.parameters), trainer.scale, records, best)

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
    return _result(matcher.parameters, trainer.scale, records, best)


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
    """The state of a training run between its batches.

    Arrays of the size of the parameters are what a large model consists of. There are ten:
    centroids and weights, as many that are frozen, two moments of each, and two gradients. Held-out
    data add two, the best so far.
    """

    def __init__(self, data: TrainingData, matcher: Matcher, settings: TrainingSettings) -> None:
        self._data, self._matcher, self._settings = data, matcher, settings
        self._total_weight = data.sample_weight.sum()
        if settings.normalization != "global":
            self.scale = 1.0
        elif settings.distance_scale is not None:
            self.scale = settings.distance_scale
        else:
            self.scale = settings.temperature * self._measure_scale()
        if settings.n_epochs > 0:
            self._frozen = _Snapshot(matcher)
            self._gradients = np.empty_like(matcher.centroids), np.empty_like(matcher.weights)
            scale = matcher.feature_scale
            self._centroid_moves = _Adam(matcher.centroids, scale, settings.n_threads)
            self._weight_moves = _Adam(matcher.weights, None, settings.n_threads)

    def train_epoch(self, epoch: int, batches: list[NDArray[np.intp]]) -> dict[str, float] | None:
        """Means over the epoch, each batch seen with the parameters it had at its turn.

        None if a loss or a parameter is not finite, which ends the epoch.
        """
        settings = self._settings
        # The learning rate falls along half a period of a cosine, from 1 to 0.
        decay = (1 + math.cos(math.pi * epoch / settings.n_epochs)) / 2
        total_loss = n_correct = 0.0
        for i, batch in enumerate(batches):
            sample_weight = self._data.sample_weight[batch]
            losses, hits = self._evaluate(batch, is_first=i == 0)
            loss = float(sample_weight @ losses)
            if not math.isfinite(loss):
                return None
            if i == 0:
                # Only now is it certain that these parameters are good ones to go back to.
                self._frozen.take()
            total_loss += loss
            n_correct += float(sample_weight @ hits)
            if settings.learn_centroids:
                self._centroid_moves.move(
                    self._gradients[0], decay * settings.centroid_learning_rate
                )
            if settings.learn_weights:
                self._weight_moves.move(self._gradients[1], decay * settings.learning_rate)
        if not self._matcher.is_finite():
            return None
        return {
            "loss": total_loss / self._total_weight,
            "accuracy": n_correct / self._total_weight,
            "learning_rate": decay * settings.learning_rate,
        }

    def judge(self, held_out: TrainingData) -> dict[str, float]:
        """Mean loss and accuracy of data that nothing is learned from, by current parameters."""
        total_loss = n_correct = 0.0
        for batch, distances in self._distances(held_out):
            labels, sample_weight = held_out.labels[batch], held_out.sample_weight[batch]
            losses, _ = cross_entropy(distances, labels, self._settings.normalization, self.scale)
            total_loss += float(sample_weight @ losses)
            n_correct += float(sample_weight @ (distances.argmin(axis=1) == labels))
        total_weight = held_out.sample_weight.sum()
        means = total_loss / total_weight, n_correct / total_weight
        return dict(zip(_JUDGED, means, strict=True))

    def restore(self) -> None:
        """Go back to the parameters at the start of the last epoch whose first loss was finite."""
        self._frozen.restore()

    def _evaluate(
        self, batch: NDArray[np.intp], *, is_first: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Loss of each sample, and whether it is classified right; fills in the gradients.

        They are those of the mean loss, in the same two arrays for every batch: new pages of memory
        cost about as much as what is computed into them.
        """
        settings = self._settings
        sequences = self._data.sequences.view(batch)
        labels = self._data.labels[batch]
        live = self._align(sequences, self._matcher.parameters)
        if is_first or settings.path_refresh == "batch":
            distances, runs = live.paths(settings.diagonal)
        else:
            _, runs = self._align(sequences, self._frozen.parameters).paths(settings.diagonal)
            distances = live.distances_along(runs)
        losses, by_distances = cross_entropy(distances, labels, settings.normalization, self.scale)
        mean_weight = self._total_weight / len(self._data.labels)
        coefficients = self._data.sample_weight[batch] / (len(batch) * mean_weight)
        live.parameter_gradients(runs, coefficients[:, None] * by_distances, out=self._gradients)
        return losses, distances.argmin(axis=1) == labels

    def _align(
        self, sequences: SequenceView, parameters: tuple[NDArray[np.floating], NDArray[np.floating]]
    ) -> Problem:
        return make_problem(sequences, *parameters, n_threads=self._settings.n_threads)

    def _measure_scale(self) -> float:
        """The mean standard deviation of a sample's distances, 1 if they are all the same."""
        total = 0.0
        for batch, distances in self._distances(self._data):
            total += float(self._data.sample_weight[batch] @ deviations(distances))
        return total / self._total_weight or 1.0

    def _distances(
        self, data: TrainingData
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Indices of one batch after the other, and their distances by the current parameters."""
        for batch in _split(np.arange(len(data.labels)), self._settings.batch_size):
            problem = self._align(data.sequences.view(batch), self._matcher.parameters)
            yield batch, problem.distances(self._settings.diagonal)


class _BestEpoch(_Snapshot):
    """The parameters that had the least loss on held-out data."""

    def __init__(self, matcher: Matcher) -> None:
        super().__init__(matcher)
        self._loss = math.inf
        self.epoch = 0  # before the first

    def keep_if_lower(self, epoch: int, loss: float) -> None:
        if loss < self._loss:
            self.epoch, self._loss = epoch, loss
            self.take()


class _Adam:
    """Adam for one array of parameters, see `skdejavid.alignment.adam_step`."""

    def __init__(
        self,
        parameters: NDArray[np.floating],
        scale: NDArray[np.floating] | None,
        n_threads: int,
    ) -> None:
        self._parameters, self._scale, self._n_threads = parameters, scale, n_threads
        self._moments = np.zeros_like(parameters), np.zeros_like(parameters)
        self._n_steps = 0

    def move(self, gradients: NDArray[np.floating], learning_rate: float) -> None:
        self._n_steps += 1
        adam_step(
            self._parameters,
            gradients,
            *self._moments,
            self._scale,
            learning_rate,
            self._n_steps,
            self._n_threads,
        )


def _shuffled_batches(
    n_samples: int, batch_size: int, random_state: np.random.RandomState
) -> list[NDArray[np.intp]]:
    """All samples in random order; in their own where they make a single batch."""
    order = np.arange(n_samples) if n_samples <= batch_size else random_state.permutation(n_samples)
    return _split(order, batch_size)


def _split(order: NDArray[np.intp], batch_size: int) -> list[NDArray[np.intp]]:
    return np.split(order, np.arange(batch_size, len(order), batch_size))
