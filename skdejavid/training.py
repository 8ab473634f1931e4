"""Learning centroids and weights by gradient descent through the alignment.

Knows torch and the alignment, but no estimator: data and settings in, parameters out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from skdejavid.alignment import Problem, make_problem
from skdejavid.logits import deviations, distances_to_logits
from skdejavid.nn import distances_along_paths
from skdejavid.sequences import SequenceView, TSEArray

__all__ = ["TrainingData", "TrainingResult", "TrainingSettings", "train"]


@dataclass(frozen=True)
class TrainingData:
    """What is learned from."""

    sequences: TSEArray
    labels: NDArray[np.intp]  # (n_sequences,), class numbers
    sample_weight: NDArray[np.float64]  # (n_sequences,), each more than 0


@dataclass(frozen=True)
class TrainingSettings:
    """How it is learned; the names are those of the estimator's parameters."""

    normalization: str  # "layer" or "global"
    learn_weights: bool
    learn_centroids: bool
    diagonal: bool
    path_refresh: str  # "epoch" or "batch"
    learning_rate: float
    centroid_learning_rate: float
    batch_size: int
    n_epochs: int
    n_threads: int


@dataclass(frozen=True)
class TrainingResult:
    """What was learned."""

    centroids: NDArray[np.floating]
    log_weights: NDArray[np.floating]
    distance_scale: float  # of "global" normalization, else 1
    history: dict[str, NDArray[np.float64]]  # one value per epoch


class Matcher:
    """Centroids and weights as functions of the two tensors that the optimizer moves.

    Both are learned in units of each feature's scale, so that features on different scales start
    equal, while the data and the parameters themselves stay in their own units:
    ``centroids = initial + scale * shift`` and ``weights = exp(scaled_log_weights) / scale``.
    """

    @torch.inference_mode(False)  # tensors made in a caller's inference mode cannot learn
    def __init__(
        self,
        centroids: NDArray[np.floating],
        scaled_log_weights: NDArray[np.floating],
        feature_scale: NDArray[np.floating],
    ) -> None:
        self._initial = torch.from_numpy(centroids.copy())
        self._feature_scale = torch.from_numpy(feature_scale.copy())
        self.shift = torch.zeros_like(self._initial)
        self.scaled_log_weights = torch.from_numpy(scaled_log_weights.copy())

    def parameters(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Centroids and weights, differentiable."""
        centroids = self._initial + self._feature_scale * self.shift
        weights = self.scaled_log_weights.exp() / self._feature_scale
        return centroids, weights

    @torch.no_grad()
    def snapshot(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Centroids and weights as they are now."""
        centroids, weights = self.parameters()
        return centroids.numpy(), weights.numpy()

    def state(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What is learned, to be restored later."""
        return self.shift.detach().clone(), self.scaled_log_weights.detach().clone()

    @torch.no_grad()
    def restore(self, state: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.shift.copy_(state[0])
        self.scaled_log_weights.copy_(state[1])

    def is_finite(self) -> bool:
        return all(bool(np.isfinite(array).all()) for array in self.snapshot())

    @torch.no_grad()
    def log_weights(self) -> NDArray[np.floating]:
        """Logarithms of the weights as they are now."""
        return (self.scaled_log_weights - self._feature_scale.log()).numpy()


@torch.inference_mode(False)
@torch.enable_grad()  # whatever mode the caller is in
def train(
    data: TrainingData,
    matcher: Matcher,
    settings: TrainingSettings,
    random_state: np.random.RandomState,
    on_epoch: Callable[[dict[str, float]], None] = lambda record: None,
) -> TrainingResult:
    """Learn with AdamW and a cosine schedule (the paper's Sec. 4.2).

    At the start of an epoch centroids and weights are frozen: the frozen ones choose the paths, the
    live ones are measured along them and learn (Sec. 3.4). With ``path_refresh="batch"`` the live
    ones choose the paths as well.

    Parameters
    ----------
    data, settings
        What to learn from and how.
    matcher : Matcher
        Where to start; moved in place.
    random_state : RandomState
        Shuffles the batches.
    on_epoch : callable, optional
        Called after every epoch with its mean loss, its accuracy and its learning rate.

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
        If they do so later; learning ends, and the last parameters with a finite loss are kept.
    """
    trainer = _Trainer(data, matcher, settings)
    records: list[dict[str, float]] = []
    good = matcher.state()
    for _ in range(settings.n_epochs):
        begin = matcher.state()
        trainer.start_epoch()
        batches = _shuffled_batches(len(data.labels), settings.batch_size, random_state)
        losses = [trainer.train_batch(batch) for batch in batches]
        if np.isfinite(losses[0]):
            good = begin
        record = trainer.end_epoch()
        if not (np.isfinite(record["loss"]) and matcher.is_finite()):
            _stop_diverging(len(records) + 1, settings)
            matcher.restore(good)
            break
        records.append(record)
        on_epoch(record)
    return TrainingResult(
        centroids=matcher.snapshot()[0],
        log_weights=matcher.log_weights(),
        distance_scale=trainer.scale,
        history={
            name: np.array([record[name] for record in records])
            for name in ("loss", "accuracy", "learning_rate")
        },
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
        self._data, self._matcher, self._settings = data, matcher, settings
        self._total_weight = data.sample_weight.sum()
        self._frozen = matcher.snapshot()
        self.scale = self._measure_scale() if settings.normalization == "global" else 1.0
        if settings.n_epochs > 0:
            self._optimizer = _make_optimizer(matcher, settings)
            self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
                self._optimizer, T_max=settings.n_epochs
            )

    def start_epoch(self) -> None:
        self._frozen = self._matcher.snapshot()
        self._loss = self._n_correct = 0.0

    def train_batch(self, batch: NDArray[np.intp]) -> float:
        """One step of the optimizer; returns the weighted sum of losses before it."""
        settings = self._settings
        sequences = self._data.sequences.view(batch)
        labels = torch.from_numpy(self._data.labels[batch])
        sample_weight = self._data.sample_weight[batch]

        if settings.path_refresh == "batch":
            self._frozen = self._matcher.snapshot()
        _, runs = self._aligned_with_frozen(sequences).paths(settings.diagonal)
        distances = distances_along_paths(
            sequences, *self._matcher.parameters(), runs, n_threads=settings.n_threads
        )
        logits = distances_to_logits(distances, settings.normalization, self.scale)
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        loss = losses @ torch.from_numpy(sample_weight)
        mean_weight = self._total_weight / len(self._data.labels)
        self._optimizer.zero_grad()
        (loss / (len(batch) * mean_weight)).backward()
        self._optimizer.step()

        self._loss += loss.item()
        self._n_correct += sample_weight @ (logits.argmax(dim=1) == labels).numpy()
        return loss.item()

    def end_epoch(self) -> dict[str, float]:
        """Means over the epoch, each batch seen with the parameters it had at its turn."""
        group = self._optimizer.param_groups[0]
        record = {
            "loss": self._loss / self._total_weight,
            "accuracy": self._n_correct / self._total_weight,
            "learning_rate": self._settings.learning_rate * group["lr"] / group["initial_lr"],
        }
        self._schedule.step()
        return record

    def _aligned_with_frozen(self, sequences: SequenceView) -> Problem:
        return make_problem(sequences, *self._frozen, n_threads=self._settings.n_threads)

    def _measure_scale(self) -> float:
        """The mean standard deviation of a sample's distances, 1 if they are all the same."""
        total = 0.0
        for batch in _split(np.arange(len(self._data.labels)), self._settings.batch_size):
            problem = self._aligned_with_frozen(self._data.sequences.view(batch))
            distances = problem.distances(self._settings.diagonal)
            total += float(self._data.sample_weight[batch] @ deviations(distances))
        return total / self._total_weight or 1.0


def _make_optimizer(matcher: Matcher, settings: TrainingSettings) -> torch.optim.Optimizer:
    learned: list[dict[str, Any]] = []
    if settings.learn_weights:
        learned.append({"params": [matcher.scaled_log_weights], "lr": settings.learning_rate})
    if settings.learn_centroids:
        learned.append({"params": [matcher.shift], "lr": settings.centroid_learning_rate})
    for group in learned:
        group["params"][0].requires_grad_()
    return torch.optim.AdamW(learned, betas=(0.9, 0.999), weight_decay=0.0)


def _shuffled_batches(
    n_samples: int, batch_size: int, random_state: np.random.RandomState
) -> list[NDArray[np.intp]]:
    """All samples in random order; in their own where they make a single batch."""
    order = np.arange(n_samples) if n_samples <= batch_size else random_state.permutation(n_samples)
    return _split(order, batch_size)


def _split(order: NDArray[np.intp], batch_size: int) -> list[NDArray[np.intp]]:
    return np.split(order, np.arange(batch_size, len(order), batch_size))
