"""The stages of fitting a classifier: prepare, plan, initialize, train.

These functions receive the parameters of the estimator, not the estimator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils import check_random_state

from skdejavid.backends.registry import backend_of, resolve_device
from skdejavid.backends.state import InitialParameters, TrainingData, TrainingSettings
from skdejavid.compat.bars import Bar
from skdejavid.compat.memory import memory_of_machine
from skdejavid.compat.sklearn import check_sample_weight
from skdejavid.compat.threads import count_threads
from skdejavid.files.random_state import generator_from_state, generator_state
from skdejavid.sequences import TSEArray
from skdejavid.sequences.checks import check_half_range, check_no_overflow
from skdejavid.sequences.hints import warn_caller
from skdejavid.sequences.statistics import (
    is_of_equal_frames,
    standard_deviations,
    vanishing_features,
    weighted_median,
)
from skdejavid.sequences.tables import plain_weights
from skdejavid.sequences.transforms import check_lags, with_differences
from skdejavid.training.barycenter import class_barycenters
from skdejavid.training.checkpoints import (
    Checkpoint,
    CheckpointWriter,
    check_folder,
    content_hash,
)
from skdejavid.training.loop import (
    Observer,
    ProgressBar,
    TimeLimit,
    Training,
    TrainingResult,
    TrainingState,
)
from skdejavid.training.loss import SoftMinCrossEntropy
from skdejavid.training.targets import (
    check_targets,
    class_margins,
    class_weights,
    positive_weights,
    scaled_weights,
)

__all__ = [
    "Plan",
    "Prepared",
    "Start",
    "WarmStart",
    "explain_stop",
    "find_start",
    "initial_parameters",
    "make_plan",
    "prepare",
    "train",
]

# "auto" for n_timesteps: half the median length, within bounds below which the order of events is
# lost, and above which accuracy has not improved (docs/explanation/method.md has the measurements).
_FEWEST_TIMESTEPS, _MOST_TIMESTEPS = 8, 64

# "auto" for differences: over one frame and over a tenth of the sequence, unless the data contain
# more numbers than this, because memory and time grow with them.
_LAGS, _MOST_NUMBERS_TO_DIFFER = (1, 0.1), 2**24

# "auto" for n_epochs: those of the paper, but at least this many optimizer steps, because small
# data sets make few batches per epoch.
_PAPER_EPOCHS, _FEWEST_STEPS = 36, 600

# Parameters that do not change the result: an interrupted fit may resume with other values.
_NOT_IN_CHECKPOINT_KEY = frozenset(
    {"checkpoint_dir", "max_time", "n_jobs", "verbose", "transform_timesteps"}
)


@dataclass(frozen=True)
class WarmStart:
    """The fitted attributes that a warm start continues from."""

    classes: NDArray[Any]
    lags: tuple[int | float, ...]
    centroids: NDArray[np.floating]
    log_weights: NDArray[np.floating]
    logit_scaling: str
    distance_scale: float


@dataclass(frozen=True)
class Prepared:
    """Checked training data as they are compared with the centroids."""

    data: TrainingData
    classes: NDArray[Any]  # sorted; the targets of the data are indices of these
    lags: tuple[int | float, ...]
    margins: NDArray[np.float64] | None  # (n_classes,), see `class_margins`
    warnings: tuple[str, ...]  # to be issued for the caller of fit


@dataclass(frozen=True)
class Start:
    """Where training starts: at an interrupted fit, at a fitted model, or at barycenters."""

    random_state: np.random.RandomState
    warm_start: WarmStart | None = None
    checkpoint: Checkpoint | None = None
    state: TrainingState | None = None  # of the interrupted fit
    initial_generator: dict[str, Any] = field(default_factory=dict)  # see `TrainingState`


@dataclass(frozen=True)
class Plan:
    """All choices that training depends on, none of them "auto"."""

    data: TrainingData  # without the held-out part
    held_out: TrainingData | None
    n_timesteps: int
    deviations: NDArray[np.floating]  # standard deviation of each feature, see `statistics`
    feature_scale: NDArray[np.floating]  # (n_features,): these, or ones without standardization
    settings: TrainingSettings
    warnings: tuple[str, ...] = ()  # to be issued for the caller of fit


def prepare(
    sequences: TSEArray,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    parameters: SimpleNamespace,
    warm_start: WarmStart | None,
    estimator_name: str,
) -> Prepared:
    """Check targets and weights, drop sequences without weight, and append differences.

    Parameters
    ----------
    sequences : TSEArray
        As returned by `check_sequences`.
    y, sample_weight
        As in ``fit``.
    parameters : SimpleNamespace
        The parameters of the estimator, validated.
    warm_start : WarmStart or None
    estimator_name : str
        For messages.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described in ``fit``, or does not agree with `warm_start`.
    """
    check_folder(parameters.checkpoint_dir)
    check_no_overflow(sequences)
    targets = check_targets(y, sequences, estimator_name)
    # Only the number of samples is taken from the second argument.
    weight = check_sample_weight(
        plain_weights(sample_weight), sequences.lengths, dtype=np.float64, ensure_non_negative=True
    )
    weight = scaled_weights(weight)
    weight = scaled_weights(weight * class_weights(parameters.class_weight, targets, weight))
    kept, absent_class = positive_weights(weight, targets)
    if len(kept) < len(targets):
        sequences, targets, weight = sequences[kept], targets[kept], weight[kept]
    classes, labels = np.unique(targets, return_inverse=True)
    if warm_start is None:
        lags = _choose_lags(sequences, parameters.differences)
    else:
        _check_warm_start(warm_start, classes, sequences, parameters)
        lags = warm_start.lags
    if lags:
        sequences = with_differences(sequences, lags)
        check_no_overflow(sequences)
    warnings = absent_class, _warn_of_constant_logits(parameters.logit_scaling, len(classes))
    return Prepared(
        TrainingData(sequences, labels, weight),
        classes,
        lags,
        class_margins(parameters.class_weight, labels),
        tuple(message for message in warnings if message is not None),
    )


def find_start(
    prepared: Prepared, parameters: SimpleNamespace, warm_start: WarmStart | None
) -> Start:
    """Read the checkpoint of an interrupted fit, if there is one.

    Raises
    ------
    ValueError
        If the checkpoint is damaged.
    """
    random_state = check_random_state(parameters.random_state)
    checkpoint = checkpoint_for(prepared, parameters, warm_start)
    if checkpoint is None:
        return Start(random_state, warm_start)
    state = checkpoint.read()
    if state is None:
        return Start(
            random_state, warm_start, checkpoint, initial_generator=generator_state(random_state)
        )
    # The same numbers are drawn again, so that the same sequences are held out. A generator of the
    # user's has this state already, and draws on from it as in the fit that is repeated.
    generator = state.initial_generator
    if parameters.random_state is None:
        random_state = generator_from_state(generator)
    return Start(random_state, warm_start, checkpoint, state, generator)


def checkpoint_for(
    prepared: Prepared, parameters: SimpleNamespace, warm_start: WarmStart | None
) -> Checkpoint | None:
    """Return the checkpoint in `checkpoint_dir`, or None if it is not set or there are no epochs.

    Its key contains everything that the result depends on: parameters, data, and a warm start.
    """
    data = prepared.data
    n_epochs = _count_epochs(len(data.targets), len(prepared.classes), parameters)
    if parameters.checkpoint_dir is None or n_epochs == 0:
        return None
    key = {
        name: _described(value)
        for name, value in vars(parameters).items()
        if name not in _NOT_IN_CHECKPOINT_KEY
    }
    if parameters.random_state is None:
        del key["random_state"]  # the stored generator is used instead
    elif not isinstance(parameters.random_state, int):
        key["random_state"] = _described_generator(parameters.random_state)
    key |= {
        "differences": repr(prepared.lags),
        "X": content_hash(data.sequences),
        "y": content_hash(data.targets, prepared.classes),
        "sample_weight": content_hash(data.sample_weight),
        "precision": str(data.sequences.frame_dtype),
    }
    if prepared.margins is not None:
        key["margins"] = content_hash(prepared.margins)
    if warm_start is not None:
        key["warm_start"] = content_hash(warm_start.centroids, warm_start.log_weights)
    return Checkpoint(parameters.checkpoint_dir, key)


def _described(value: Any) -> str:
    """Return a text that is the same for equal parameters."""
    if isinstance(value, dict):
        return repr(sorted((_described(key), _described(item)) for key, item in value.items()))
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)


def _described_generator(generator: np.random.RandomState) -> str:
    """Return a text that is the same for generators that draw the same numbers."""
    state = generator_state(generator)
    return f"{content_hash(state.pop('key'))} {state}"


def make_plan(prepared: Prepared, parameters: SimpleNamespace, start: Start) -> Plan:
    """Make all choices that training depends on.

    Raises
    ------
    ValueError
        If no sequences can be held out, or `half_storage` cannot store the data.
    """
    data, held_out = prepared.data, None
    if parameters.early_stopping:
        fraction = parameters.validation_fraction
        data, held_out = _hold_out(data, prepared.classes, fraction, start.random_state)
    deviations = standard_deviations(data.sequences, data.sample_weight)
    feature_scale = deviations if parameters.standardize else np.ones_like(deviations)
    n_classes = len(prepared.classes)
    n_timesteps = _count_timesteps(data, parameters.n_timesteps, start.warm_start)
    n_parameters = n_classes * n_timesteps * data.sequences.n_features
    device = resolve_device(parameters.device, data.sequences.total_frames * n_parameters)
    if parameters.half_storage and backend_of(device).stores_half:
        for part in (data, held_out):
            if part is not None:
                check_half_range(part.sequences)
    settings = TrainingSettings(
        loss=_choose_loss(parameters, start, prepared.margins),
        learn_weights=parameters.learn_weights,
        learn_centroids=parameters.learn_centroids,
        diagonal=parameters.diagonal,
        path_refresh=parameters.path_refresh,
        learning_rate=parameters.learning_rate,
        centroid_learning_rate=parameters.centroid_learning_rate or parameters.learning_rate / 3,
        batch_size=parameters.batch_size,
        n_epochs=_count_epochs(len(data.targets), n_classes, parameters),
        n_threads=count_threads(parameters.n_jobs),
        patience=parameters.n_iter_no_change,
        device=device,
        half_storage=parameters.half_storage,
    )
    warnings = (
        _warn_of_little_variation(prepared, parameters, deviations),
        _warn_of_restored_fit(parameters, start, settings),
    )
    return Plan(
        data,
        held_out,
        n_timesteps,
        deviations,
        feature_scale,
        settings,
        tuple(message for message in warnings if message is not None),
    )


def initial_parameters(plan: Plan, parameters: SimpleNamespace, start: Start) -> InitialParameters:
    """Return the parameters to start from: of a warm start, or barycenters.

    Those of an interrupted fit are zeros, which `train` replaces.

    Raises
    ------
    ValueError
        If the memory of the machine is too small for `n_timesteps`.
    """
    dtype = plan.data.sequences.frame_dtype
    if start.state is not None:
        shape = _shape_of(start.state, plan.data)
        centroids, log_weights = np.zeros((2, *shape), dtype=dtype)
    elif start.warm_start is not None:
        centroids = start.warm_start.centroids.astype(dtype)
        log_weights = start.warm_start.log_weights.astype(dtype) + np.log(plan.feature_scale)
    else:
        centroids = _barycenters(plan, parameters, start.random_state)
        log_weights = np.zeros_like(centroids)
        if parameters.weight_init == "random":
            log_weights[...] = start.random_state.standard_normal(centroids.shape)
    return InitialParameters(centroids, log_weights, plan.feature_scale)


def _shape_of(state: TrainingState, data: TrainingData) -> tuple[int, ...]:
    """Return the shape of the centroids of an interrupted fit; check that they fit to the data."""
    found = state.arrays.get("centroids")
    shape = () if found is None else found.shape
    n_features = data.sequences.n_features
    if not (len(shape) == 3 and shape[0] > data.targets.max() and shape[2] == n_features):
        raise ValueError(
            "the checkpoint is damaged: centroids must have shape (n_classes, n_timesteps, "
            f"{n_features}), got {shape}. Remove the file to start again."
        )
    return shape


def train(
    plan: Plan,
    initial: InitialParameters,
    parameters: SimpleNamespace,
    start: Start,
    observers: Sequence[Observer],
) -> TrainingResult:
    """Train from the start to the end of the plan.

    After each epoch, progress bar, `observers`, time limit and checkpoint are called in this order,
    so that a checkpoint is always written if one of the others has stopped training.
    """
    training = Training(plan.data, initial, plan.settings, start.random_state, plan.held_out)
    if start.state is not None:
        training.resume(start.state)
    training.calibrate()  # before the clock of the time limit starts
    last: list[Observer] = []
    if parameters.max_time is not None:
        last.append(TimeLimit(parameters.max_time))
    if start.checkpoint is not None:
        writer = CheckpointWriter(start.checkpoint, start.initial_generator)
        if start.state is None:
            writer.write(training)  # initial centroids alone may have taken long
        last.append(writer)
    with Bar(
        total=plan.settings.n_epochs,
        initial=training.n_epochs_done,
        desc="epochs",
        disable=not parameters.verbose,
    ) as bar:
        result = training.learn([ProgressBar(bar), *observers, *last])
    if result.interrupt is not None:
        result.interrupt.add_note(_explain_interrupt(result, plan.settings))
    return result


def explain_stop(
    result: TrainingResult, settings: TrainingSettings, parameters: SimpleNamespace
) -> str | None:
    """Return the warning about a training that stopped too early, or None."""
    n_epochs = len(result.history["loss"])
    if result.stopped == "diverged":
        return (
            f"loss or parameters overflow in epoch {n_epochs + 1}, the last good ones are kept: "
            f"lower learning_rate (now {settings.learning_rate}) or scale the features"
        )
    if result.stopped == "max_time":
        has_checkpoint = parameters.checkpoint_dir is not None
        remedy = "; call fit again to resume from the checkpoint" if has_checkpoint else ""
        if has_checkpoint and isinstance(parameters.random_state, np.random.RandomState):
            remedy += ", with a random_state made from the same seed"
        return (
            f"max_time={parameters.max_time:g} stopped training after epoch {n_epochs} of "
            f"{settings.n_epochs}{remedy}"
        )
    return None


def _explain_interrupt(result: TrainingResult, settings: TrainingSettings) -> str:
    """Return what an interrupted training has left, and how to go on."""
    n_epochs = len(result.history["loss"])
    kept = f"after epoch {n_epochs} of {settings.n_epochs}"
    if result.best_epoch is not None:
        kept += f", of which those after epoch {result.best_epoch} are the best"
    return (
        f"fit was interrupted {kept}. The estimator is fitted with the parameters of that epoch: "
        "it can predict and be saved, and warm_start=True learns on from them. With "
        "checkpoint_dir, an interrupted fit resumes where it stopped."
    )


def _choose_lags(sequences: TSEArray, differences: Any) -> tuple[int | float, ...]:
    if differences is None:
        return ()
    if isinstance(differences, str):  # "auto"
        n_numbers = sequences.total_frames * sequences.n_features
        if n_numbers <= _MOST_NUMBERS_TO_DIFFER:
            return _LAGS
        warn_caller(
            f"differences='auto' compares no changes over time, because X has {n_numbers:,} "
            f"numbers: set differences={_LAGS}, which takes about three times the memory and time, "
            "or None, to decide it yourself",
            UserWarning,
        )
        return ()
    return check_lags(differences, "differences")


def _check_warm_start(
    warm_start: WarmStart,
    classes: NDArray[Any],
    sequences: TSEArray,
    parameters: SimpleNamespace,
) -> None:
    """Check that a warm start uses the classes, n_timesteps and lags of the previous fit.

    "auto" keeps them.
    """
    pairs = [("classes", warm_start.classes.tolist(), classes.tolist())]
    if parameters.n_timesteps != "auto":
        pairs.append(("n_timesteps", warm_start.centroids.shape[1], parameters.n_timesteps))
    if not isinstance(parameters.differences, str):
        lags = _choose_lags(sequences, parameters.differences)
        pairs.append(("differences", warm_start.lags, lags))
    for name, fitted, requested in pairs:
        if fitted != requested:
            raise ValueError(
                f"warm_start=True needs the same {name} as the previous fit, {fitted}, "
                f"got {requested}: set warm_start=False to start again"
            )
    shape = warm_start.centroids.shape
    if warm_start.log_weights.shape != shape:
        raise ValueError(
            f"log_weights_ must have the shape of centroids_ {shape}, "
            f"got {warm_start.log_weights.shape}"
        )


def _warn_of_constant_logits(logit_scaling: str, n_classes: int) -> str | None:
    if logit_scaling != "sample" or n_classes != 2:
        return None
    return (
        "logit_scaling='sample' has no gradient for 2 classes: nothing will be learned, and "
        "probabilities can only be 0.196 or 0.804. Use logit_scaling='global'."
    )


def _warn_of_restored_fit(
    parameters: SimpleNamespace, start: Start, settings: TrainingSettings
) -> str | None:
    """Return a warning if an unseeded fit is complete, so that its result would not be random."""
    state, checkpoint = start.state, start.checkpoint
    if parameters.random_state is not None or state is None or checkpoint is None:
        return None
    n_epochs, best = len(state.history["loss"]), state.best_epoch
    if n_epochs < settings.n_epochs and (best is None or n_epochs < best + settings.patience):
        return None
    return (
        f"random_state is None, but this fit is complete: its result is that of {checkpoint.path}, "
        "as in every repetition. For another result, remove the file, or pass other ints as "
        "random_state."
    )


def _warn_of_little_variation(
    prepared: Prepared, parameters: SimpleNamespace, deviations: NDArray[np.floating]
) -> str | None:
    is_constant = deviations == 1  # or nearly so, or 1 by chance
    if (
        is_constant.all()
        and len(prepared.classes) > 1
        and is_of_equal_frames(prepared.data.sequences)
    ):
        return (
            "all frames of X are equal: nothing can be learned from them. Check how X was made, "
            "for example whether values were rounded or filled in."
        )
    if parameters.standardize and is_constant.any():
        return _warn_of_vanishing_features(prepared.data.sequences, len(prepared.lags))
    return None


def _warn_of_vanishing_features(sequences: TSEArray, n_lags: int) -> str | None:
    n_features = sequences.n_features // (1 + n_lags)
    vanishing = sorted({int(i) % n_features for i in vanishing_features(sequences)})
    if not vanishing:
        return None
    return (
        f"feature {vanishing[0]} of X (of {len(vanishing)} such features) or its differences vary "
        f"by less than {np.finfo(sequences.frame_dtype).tiny:.3g}, the smallest normal number of "
        f"{sequences.frame_dtype}, and are not learned from: use a smaller unit"
    )


def _choose_loss(
    parameters: SimpleNamespace, start: Start, margins: NDArray[np.float64] | None
) -> SoftMinCrossEntropy:
    """Return the loss; a warm start keeps the scale unless `logit_scaling` has changed.

    `temperature` is that of the class with a margin of 1. The loss, and with it the prediction of
    probabilities, has that of the mean of the margins.
    """
    scaling, scale = parameters.logit_scaling, None
    fitted = start.warm_start
    if fitted is not None and fitted.logit_scaling == scaling:
        scale = fitted.distance_scale
    if margins is None:
        return SoftMinCrossEntropy(scaling, scale, parameters.temperature)
    mean = float(margins.mean())
    relative = tuple((margins / mean).tolist())
    return SoftMinCrossEntropy(scaling, scale, parameters.temperature * mean, relative)


def _hold_out(
    data: TrainingData,
    classes: NDArray[Any],
    fraction: float,
    random_state: np.random.RandomState,
) -> tuple[TrainingData, TrainingData]:
    """Return the data to learn from, and those that decide when to stop."""
    split = StratifiedShuffleSplit(1, test_size=fraction, random_state=random_state)
    labels = data.targets
    problem = (
        f"early_stopping cannot hold out validation_fraction={fraction} of {len(labels)} sequences"
    )
    counts = np.bincount(labels)
    if counts.min() == 1:
        label = classes.tolist()[counts.argmin()]
        raise ValueError(f"{problem}: class {label!r} has only one, which is needed to learn")
    try:
        ((learned, held_out),) = split.split(labels, labels)
    except ValueError as error:
        raise ValueError(f"{problem}: {error}") from error
    if len(np.unique(labels[learned])) < len(classes):
        raise ValueError(f"{problem}: a class would have none left to learn from")
    return data.part(np.sort(learned)), data.part(np.sort(held_out))


def _barycenters(
    plan: Plan, parameters: SimpleNamespace, random_state: np.random.RandomState
) -> NDArray[np.floating]:
    _check_memory(plan, parameters.dba_max_iter)
    data = plan.data
    centroids = class_barycenters(
        data.sequences,
        data.targets,
        data.sample_weight,
        1 / plan.feature_scale,
        n_timesteps=plan.n_timesteps,
        diagonal=parameters.diagonal,
        n_samples=parameters.dba_samples,
        max_iter=parameters.dba_max_iter,
        random_state=random_state,
        n_threads=plan.settings.n_threads,
        device=plan.settings.device,
    )
    n_classes = data.targets.max() + 1
    bar = Bar(centroids, total=n_classes, desc="centroids", disable=not parameters.verbose)
    return np.stack(list(bar))


def _count_timesteps(
    data: TrainingData, n_timesteps: int | str, warm_start: WarmStart | None
) -> int:
    if warm_start is not None:
        return warm_start.centroids.shape[1]
    if not isinstance(n_timesteps, str):
        return n_timesteps
    half = weighted_median(data.sequences.lengths, data.sample_weight) // 2
    return min(max(half, _FEWEST_TIMESTEPS), _MOST_TIMESTEPS)


def _count_epochs(n_samples: int, n_classes: int, parameters: SimpleNamespace) -> int:
    learns = parameters.learn_weights or parameters.learn_centroids
    if n_classes == 1 or not learns:
        return 0
    if parameters.n_epochs != "auto":
        return parameters.n_epochs
    steps_per_epoch = -(-n_samples // parameters.batch_size)
    return max(_PAPER_EPOCHS, -(-_FEWEST_STEPS // steps_per_epoch))


def _check_memory(plan: Plan, dba_max_iter: int) -> None:
    """Check, before anything is allocated, that the machine has the memory that training needs.

    It needs at least ten arrays of the size of the parameters, and the paths of one sequence.
    Paths of barycenters are those of sequences as long as the centroid.
    """
    data, n_timesteps, settings = plan.data, plan.n_timesteps, plan.settings
    n_classes, n_features = int(data.targets.max()) + 1, data.sequences.n_features
    n_frames, dtype = int(data.sequences.lengths.max()), data.sequences.frame_dtype
    paths_bytes = partial(
        backend_of(settings.device).paths_bytes, dtype=dtype, n_threads=settings.n_threads
    )
    paths = [paths_bytes(n_frames, (n_classes, n_timesteps, n_features))]
    if dba_max_iter:
        paths.append(paths_bytes(n_timesteps, (1, n_timesteps, n_features)))
    needed = 10.0 * n_classes * n_timesteps * n_features * dtype.itemsize + max(paths)
    available = memory_of_machine()
    if needed > available:
        raise ValueError(
            f"n_timesteps={n_timesteps} needs at least {needed / 1e9:.3g} GB of memory for "
            f"{n_classes} classes, {n_features} features and sequences of up to {n_frames} frames, "
            f"this machine has {available / 1e9:.3g} GB: lower n_timesteps"
        )
