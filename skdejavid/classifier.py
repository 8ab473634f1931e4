"""The estimator: nearest centroid under a learned, time-weighted alignment."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from skdejavid.alignment import distances_by_timestep, distances_of_checked
from skdejavid.backends.protocol import InitialParameters, TrainingData, TrainingSettings
from skdejavid.backends.registry import resolve_device
from skdejavid.compat.callbacks import CallbackSupportMixin, FitTasks, teardown_after_fit
from skdejavid.compat.sklearn import Interval, StrOptions, check_sample_weight
from skdejavid.compat.threads import count_threads
from skdejavid.files.model_file import Model, read_model, write_model
from skdejavid.files.random_state import describe_generator, read_generator
from skdejavid.sequences import TSEArray, check_sequences
from skdejavid.sequences.checks import check_half_range, check_no_overflow
from skdejavid.sequences.statistics import (
    standard_deviations,
    weighted_median,
)
from skdejavid.sequences.transforms import check_lags, with_differences
from skdejavid.training.barycenter import class_barycenters
from skdejavid.training.checkpoints import Checkpoint, content_hash
from skdejavid.training.loop import Run, TrainingResult, train
from skdejavid.training.loss import distances_to_logits
from skdejavid.training.targets import (
    ClassWeight,
    check_targets,
    class_weights,
    positive_weights,
    scaled_weights,
)

__all__ = ["DejaVidClassifier"]

# "auto" for n_timesteps: half the median length, but neither so short that the order of events is
# lost nor longer than has paid (docs/method.md has the measurements).
_FEWEST_TIMESTEPS, _MOST_TIMESTEPS = 8, 64

# "auto" for differences: over one frame and over a tenth of the sequence, unless the data hold more
# numbers than this, because memory and time grow with them.
_LAGS, _MOST_NUMBERS_TO_DIFFER = (1, 0.1), 2**24

# Parameters that change nothing about what is learned, so that an interrupted fit may go on with
# others.
_NOT_OF_THE_RESULT = frozenset(
    {"checkpoint_dir", "max_time", "n_jobs", "verbose", "transform_timesteps"}
)

_PAPER = {
    "n_timesteps": 8,
    "differences": None,
    "diagonal": False,
    "path_refresh": "epoch",
    "normalize": "layer",
    "standardize": False,
    "learning_rate": 0.001,
    "centroid_learning_rate": None,
    "n_epochs": 36,
}

# "auto" for n_epochs: the paper's, and never fewer optimizer steps than this, because small data
# sets make few batches an epoch.
_PAPER_EPOCHS, _FEWEST_STEPS = 36, 600


class DejaVidClassifier(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClassifierMixin,
    BaseEstimator,
):
    """Nearest-centroid classifier of sequences under a learned, time-weighted alignment.

    Each class is represented by a short sequence, its centroid, and a positive weight for each of
    the centroid's time steps and features. A sequence belongs to the class with the smallest
    time-weighted DTW distance. Centroids start as DTW barycenters; centroids and weights are then
    learned by gradient descent through the alignment [1]_.

    Read more in the :doc:`method page </method>`, which maps the paper's symbols to these names.

    Parameters
    ----------
    n_timesteps : int or "auto", default="auto"
        Number of frames of each centroid (the paper's T_c, there 8). "auto" takes half the median
        length of the training sequences, at least 8 and at most 64.

    differences : "auto", sequence of int or float, or None, default="auto"
        Whether changes over time are compared beside the values, and over how many frames: see
        `lags` of :class:`TimeDifferences`, which is applied inside of fit and predict. None, or no
        lags, compares values alone, as published. "auto" takes the lags 1 and 0.1, or none if `X`
        holds more than 2**24 numbers.

    weight_init : {"ones", "random"}, default="ones"
        Whether the weights start at 1, or their logarithms at standard normal numbers.

    learn_weights : bool, default=True
        Whether the weights are learned, or stay as they start.

    learn_centroids : bool, default=True
        Whether the centroids are learned, or stay barycenters.

    diagonal : bool, default=True
        Whether a path may advance in centroid and sequence at once. The paper's Sec. 3.4 advises
        against it; on the sets measured it is better (:doc:`/method`).

    path_refresh : {"batch", "epoch"}, default="batch"
        Whether the parameters that choose the paths are the current ones in every batch, or those
        at the start of the epoch (the paper's fixed epoch centroids and weights), which is as
        accurate and takes longer.

    normalize : {"global", "layer"}, default="global"
        How distances become logits. "global" divides all distances by one number: `temperature`
        times the mean standard deviation over the classes before training. "layer" standardizes the
        distances of each sample over the classes, as published. With two classes that makes every
        logit +-0.7071 and nothing can be learned.

    temperature : float, default=0.5
        See `normalize`; only used if that is "global". The lower, the surer the
        classifier starts, and the sooner a sequence that is classified right teaches nothing more.

    standardize : bool, default=True
        Whether learning starts from features of equal scale. True divides the initial weights by
        each feature's standard deviation and lets centroids move in units of it; False is the
        published behavior. Nothing has to be scaled when predicting.

    dba_samples : int, default=50
        At most so many sequences per class are drawn for its initial centroid.

    dba_max_iter : int, default=100
        Maximum number of rounds of barycenter averaging. 0 keeps the medoid.

    learning_rate : float, default=0.03
        AdamW's initial learning rate for the logarithms of the weights. The paper uses 0.001 on
        two sets of more than 150,000 videos and 0.008 on one of 3,570.

    centroid_learning_rate : float or None, default=0.1
        The same for the centroids, in units of each feature's standard deviation if `standardize`.
        None means a third of `learning_rate`, as published. A centroid that moves fast can leave
        the range of the data, where distance becomes a linear function of the features.

    batch_size : int, default=48
        Number of sequences per optimizer step.

    n_epochs : int or "auto", default="auto"
        Number of passes over the data, and length of the cosine schedule. "auto" takes the paper's
        36, or as many as make 600 optimizer steps.

    early_stopping : bool, default=False
        Whether a part of the training sequences is held out, learning ends when their loss has not
        fallen for `n_iter_no_change` epochs, and the parameters of least loss are kept.

    validation_fraction : float, default=0.1
        That part, drawn so that it has the same proportions of classes. Only used if
        `early_stopping`.

    n_iter_no_change : int, default=20
        Only used if `early_stopping`.

    class_weight : dict, "balanced" or None, default=None
        What the weights of a class's samples are multiplied by, ``{class label: number}``; 1 for a
        class that is not named. "balanced" gives all classes the same sum of weights.

    transform_timesteps : bool, default=False
        Whether :meth:`transform` returns each distance in the parts that the time steps of the
        centroid add to it.

    warm_start : bool, default=False
        Whether :meth:`fit` of a fitted classifier goes on from its centroids and weights instead of
        barycenters and `weight_init`. Classes, features, `differences` and `n_timesteps` must be
        the same; "auto" keeps the latter two. What distances are divided by is kept as well, unless
        `normalize` has changed. Schedule and optimizer start anew, and fitted attributes are those
        of the last call.

    device : {"auto", "cpu", "cuda", "cuda:N"}, default="auto"
        Where to compute. "cuda" is the first CUDA device. "auto" is the CPU in this version.

    checkpoint_dir : str, path or None, default=None
        Folder in which the state of learning is kept, one file that is replaced after epochs. A fit
        of the same data and parameters that was interrupted, however hard, goes on there and ends
        with the same bits; one that had ended gives its result again. A fit of anything else is
        refused: each needs a folder of its own. Remove the folder to begin anew. Where
        `random_state` is no int, that of the interrupted fit goes on.

    max_time : float or None, default=None
        Seconds after which learning ends, at the end of an epoch, with a ConvergenceWarning. With
        `checkpoint_dir` the same fit called again goes on.

    half_storage : bool, default=False
        Whether sequences are kept in half precision on a CUDA device while learning, which halves
        the memory and the copies they take; computed is in float32 all the same. Needs data of
        float32 or narrower floats within +-65504. Not used on the CPU and when predicting.

    n_jobs : int, default=None
        Number of threads. None and -1 mean all physical cores, or fewer where ``OMP_NUM_THREADS``,
        threadpoolctl or a joblib worker say so. No result depends on it.

    random_state : int, RandomState instance or None, default=None
        Determines the sequences drawn for initial centroids, random weights and the order of
        batches. Pass an int for reproducible results.

    verbose : int, default=0
        Whether to show progress bars.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.

    centroids_ : ndarray of shape (n_classes, n_timesteps, n_features)
        The learned centroids, in the units of the data: its ``n_features_in_`` features, then their
        differences for one of ``lags_`` after the other.

    log_weights_ : ndarray of the shape of `centroids_`
        Natural logarithms of the learned weights, in 1 / units of the data.

    lags_ : tuple of int or float
        Over how many frames differences are taken, see `differences`.

    normalization_ : str
        "layer" or "global", see `normalize`.

    distance_scale_ : float
        What distances are divided by if `normalization_` is "global", else 1.

    history_ : dict of str to ndarray
        One value per epoch: "loss" (mean cross entropy) and "accuracy", both over the batches as
        they were seen, and "learning_rate", that of the weights. With `early_stopping` also
        "validation_loss" and "validation_accuracy", of the held-out part after the epoch.

    n_iter_ : int
        Number of epochs run.

    best_iter_ : int or None
        The epoch, from 1, after which the parameters were as they are now; 0 if they never
        changed. None without `early_stopping`: they are the last.

    n_features_in_ : int
        Number of features of a frame.

    feature_names_in_ : ndarray of str
        Names of the features, if `X` was a data frame with string column names.

    See Also
    --------
    TSEExtractor : Turns videos into sequences with any encoder.
    dtw_distances : The distances without learning.

    Notes
    -----
    Results are the same bits for any `n_jobs` and, when predicting, for any grouping of samples.
    Prediction computes in the precision of the training data, float32 or float64.

    References
    ----------
    .. [1] D. Ho and S. Madden. DejaVid: Encoder-Agnostic Learned Temporal Matching for Video
       Classification. CVPR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skdejavid import DejaVidClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = [np.linspace(0, 1, rng.integers(9, 20))[:, None] for _ in range(20)]
    >>> y = np.arange(20) % 2
    >>> X = [x[::-1] if label else x for x, label in zip(X, y)]  # rising or falling
    >>> clf = DejaVidClassifier(random_state=0).fit(X, y)
    >>> clf.predict([np.linspace(0.1, 1, 30)[:, None], np.linspace(1, 0.2, 7)[:, None]])
    array([0, 1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_timesteps": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "differences": [StrOptions({"auto"}), "array-like", None],
        "weight_init": [StrOptions({"ones", "random"})],
        "learn_weights": ["boolean"],
        "learn_centroids": ["boolean"],
        "diagonal": ["boolean"],
        "path_refresh": [StrOptions({"epoch", "batch"})],
        "normalize": [StrOptions({"global", "layer"})],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "standardize": ["boolean"],
        "dba_samples": [Interval(Integral, 1, None, closed="left")],
        "dba_max_iter": [Interval(Integral, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "centroid_learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "transform_timesteps": ["boolean"],
        "warm_start": ["boolean"],
        "device": [str],
        "half_storage": ["boolean"],
        "checkpoint_dir": [None, str, PathLike],
        "max_time": [None, Interval(Real, 0, None, closed="neither")],
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_timesteps: int | str = "auto",
        *,
        differences: str | Sequence[int | float] | None = "auto",
        weight_init: str = "ones",
        learn_weights: bool = True,
        learn_centroids: bool = True,
        diagonal: bool = True,
        path_refresh: str = "batch",
        normalize: str = "global",
        temperature: float = 0.5,
        standardize: bool = True,
        dba_samples: int = 50,
        dba_max_iter: int = 100,
        learning_rate: float = 0.03,
        centroid_learning_rate: float | None = 0.1,
        batch_size: int = 48,
        n_epochs: int | str = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 20,
        class_weight: ClassWeight = None,
        transform_timesteps: bool = False,
        warm_start: bool = False,
        device: str = "auto",
        half_storage: bool = False,
        checkpoint_dir: str | PathLike[str] | None = None,
        max_time: float | None = None,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_timesteps = n_timesteps
        self.differences = differences
        self.weight_init = weight_init
        self.learn_weights = learn_weights
        self.learn_centroids = learn_centroids
        self.diagonal = diagonal
        self.path_refresh = path_refresh
        self.normalize = normalize
        self.temperature = temperature
        self.standardize = standardize
        self.dba_samples = dba_samples
        self.dba_max_iter = dba_max_iter
        self.learning_rate = learning_rate
        self.centroid_learning_rate = centroid_learning_rate
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.transform_timesteps = transform_timesteps
        self.warm_start = warm_start
        self.device = device
        self.half_storage = half_storage
        self.checkpoint_dir = checkpoint_dir
        self.max_time = max_time
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def paper(cls, **parameters: Any) -> Self:
        """An unfitted classifier with the parameters of the paper.

        They are meant for hundreds of thousands of videos; for its smallest set the paper raises
        `learning_rate` to 0.008.

        Parameters
        ----------
        **parameters : dict
            Parameters that shall differ from the paper's.

        Returns
        -------
        DejaVidClassifier

        Examples
        --------
        >>> from skdejavid import DejaVidClassifier
        >>> DejaVidClassifier.paper(learning_rate=0.008).n_timesteps
        8
        """
        return cls(**{**_PAPER, **parameters})

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn a centroid and its weights for each class.

        Parameters
        ----------
        X : sequences
            Anything that :class:`TSEArray` reads: a list of ``(n_frames, n_features)`` arrays, a
            3-D array, a ``TSEArray``, ... float32 and narrower floats are computed in float32,
            everything else in float64.
        y : array-like of shape (n_sequences,)
            Class labels.
        sample_weight : array-like of shape (n_sequences,), optional
            How often each sequence counts in statistics, barycenters and the loss, at least 0. A
            sequence of weight 0 is as if absent. Weight k is exactly the same as k copies as long
            as all copies fit into one batch, no sequences have to be drawn for barycenters, and
            none are held out.

        Returns
        -------
        self : DejaVidClassifier
            The fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is outside of its range (a ValueError).
        TypeError, ValueError
            If `X`, `y` or `sample_weight` is not as described; the message says where. Or if
            `warm_start` and something differs from what was fitted.
        RuntimeError
            If `device` asks for CUDA and there is none, or the loss overflows in the first epoch.
            In a later one a ConvergenceWarning is given and the last good parameters are kept.
        MemoryError
            If a CUDA device has no room for the parameters, or for a single sequence.
        """
        learner = copy.copy(self)  # what fails midway leaves this object as it was
        with teardown_after_fit(learner):
            learner._fit(X, y, sample_weight)
        self.__dict__ = learner.__dict__
        return self

    def _fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None) -> None:
        self._validate_params()
        resolve_device(self.device)
        goes_on = self.warm_start and hasattr(self, "centroids_")
        sequences = check_sequences(X, estimator=self, reset=not goes_on)
        check_no_overflow(sequences)
        targets = check_targets(y, sequences, type(self).__name__)
        # Of its second argument it takes no more than the number of samples.
        weight = check_sample_weight(
            sample_weight, sequences.lengths, dtype=np.float64, ensure_non_negative=True
        )
        tasks = FitTasks(self, X, y, sample_weight)
        weight = scaled_weights(weight)
        weight = scaled_weights(weight * class_weights(self.class_weight, targets, weight))
        kept = positive_weights(weight, targets)
        if len(kept) < len(targets):
            sequences, targets, weight = sequences[kept], targets[kept], weight[kept]
        classes, labels = np.unique(targets, return_inverse=True)
        self._warn_if_nothing_can_be_learned(len(classes))
        if goes_on:
            self._require_the_same(classes, sequences)
        lags = check_lags(self.lags_, "lags_") if goes_on else self._choose_lags(sequences)
        if lags:
            sequences = with_differences(sequences, lags)
            check_no_overflow(sequences)
        data = TrainingData(sequences, labels, weight)

        def attributes(result: TrainingResult) -> dict[str, Any]:
            return self._fitted_attributes(classes, lags, result)

        result = self._learn(data, classes, goes_on, tasks, attributes)
        self.__dict__.update(attributes(result))

    def _fitted_attributes(
        self, classes: NDArray[Any], lags: tuple[int | float, ...], result: TrainingResult
    ) -> dict[str, Any]:
        return {
            "classes_": classes,
            "lags_": lags,
            "centroids_": result.centroids,
            "log_weights_": result.log_weights,
            "normalization_": self.normalize,
            "distance_scale_": float(result.distance_scale),
            "history_": result.history,
            "n_iter_": len(result.history["loss"]),
            "best_iter_": result.best_epoch,
        }

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Distance of each sequence to each class's centroid, whole or in parts.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_sequences, n_classes), or (n_sequences, n_classes * n_timesteps)
            The latter if `transform_timesteps`: the parts of the first distance, which add up to
            it, then those of the second, and so on.
        """
        compute = distances_by_timestep if self.transform_timesteps else distances_of_checked
        return self._align(X, compute)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Logits: normalized distances with the sign changed, so that the largest wins.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_sequences, n_classes), or (n_sequences,) for two classes
            For two classes the logit of ``classes_[1]`` minus that of ``classes_[0]``.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probability of each class, the soft-min of the normalized distances.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_sequences, n_classes)
        """
        return softmax(self._logits(X), axis=1)

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of each sequence: that with the smallest distance, the first among equals.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_sequences,)
        """
        distances = self._align(X, distances_of_checked)
        return self.classes_[distances.argmin(axis=1)]

    def save(self, path: str | PathLike[str], *, metadata: Mapping[str, Any] | None = None) -> None:
        """Write the fitted classifier to a file that is safe to share.

        Parameters
        ----------
        path : str or path
            The file, which is replaced if there is one. By custom its name ends with
            ``.safetensors``.
        metadata : dict of str, optional
            Anything that JSON can hold, to be kept in the file, such as how the sequences were
            made; :meth:`load` gives it back as ``metadata_``. None keeps the ``metadata_`` that a
            loaded classifier has.

        Raises
        ------
        NotFittedError
            If there is nothing to save yet.
        ValueError
            If a class label is neither a number nor a string, or JSON cannot hold `metadata`.

        Notes
        -----
        Arrays are written as safetensors, everything else as JSON in its metadata. Pickle, joblib
        and skops work as well, but a pickle can run anything when it is loaded, and is only meant
        for the version that wrote it.
        """
        check_is_fitted(self, "centroids_")
        model = Model(
            parameters=self.get_params(deep=False),
            classes=self.classes_,
            centroids=self._fitted_array("centroids_"),
            log_weights=self._fitted_array("log_weights_"),
            lags=self.lags_,
            normalization=self.normalization_,
            distance_scale=self.distance_scale_,
            history=self.history_,
            best_iter=self.best_iter_,
            n_features_in=self.n_features_in_,
            feature_names_in=getattr(self, "feature_names_in_", None),
            metadata=dict(getattr(self, "metadata_", {}) if metadata is None else metadata),
        )
        write_model(path, model, version("skdejavid"))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a classifier that was written by :meth:`save`.

        Nothing in the file is executed, and every field is checked: a file from anywhere may be
        loaded.

        Parameters
        ----------
        path : str or path

        Returns
        -------
        DejaVidClassifier
            Fitted; it gives the same results as the one that was saved.

        Raises
        ------
        ValueError
            If the file is no such model, is damaged, or is of a newer format; the message names
            the file and the field.
        FileNotFoundError, OSError
            If it cannot be read.

        Examples
        --------
        >>> import tempfile, os
        >>> from skdejavid import DejaVidClassifier
        >>> from skdejavid.datasets import make_order_sequences
        >>> X, y = make_order_sequences(20, random_state=0)
        >>> clf = DejaVidClassifier(n_epochs=2, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clf.save(os.path.join(folder, "model.safetensors"))
        ...     loaded = DejaVidClassifier.load(os.path.join(folder, "model.safetensors"))
        >>> bool((loaded.predict(X) == clf.predict(X)).all())
        True
        """
        model = read_model(path)
        try:
            self = cls(**model.parameters)
            self._validate_params()
            self.lags_ = check_lags(model.lags, "lags")
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is a corrupt model file: {error}") from error
        self.classes_ = model.classes
        self.centroids_ = model.centroids
        self.log_weights_ = model.log_weights
        self.normalization_ = model.normalization
        self.distance_scale_ = model.distance_scale
        self.history_ = model.history
        self.n_iter_ = len(model.history["loss"])
        self.best_iter_ = model.best_iter
        self.n_features_in_ = model.n_features_in
        if model.metadata:
            self.metadata_ = model.metadata
        if model.feature_names_in is not None:
            self.feature_names_in_ = model.feature_names_in
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_skdejavid_version": version("skdejavid")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        pickled, current = state.pop("_skdejavid_version", "unknown"), version("skdejavid")
        if pickled != current:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=f"{current} of skdejavid",
                    original_sklearn_version=f"{pickled} of skdejavid",
                ),
                stacklevel=2,
            )
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    @property
    def _n_features_out(self) -> int:
        """Number of columns of `transform`, for ``get_feature_names_out``."""
        return len(self.classes_) * (self.centroids_.shape[1] if self.transform_timesteps else 1)

    def _align(self, X: Any, compute: Callable[..., NDArray[np.float64]]) -> NDArray[np.float64]:
        """What a function of `skdejavid.alignment` computes of `X` and the fitted parameters."""
        check_is_fitted(self, "centroids_")
        self._validate_params()
        sequences = check_sequences(X, estimator=self, reset=False)
        centroids = self._fitted_array("centroids_")
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # the distance says which sequence is too large
            # Whatever else is in X, a sequence is computed in the precision of the model.
            sequences = self._with_differences(sequences.astype(centroids.dtype))
            weights = np.exp(self._fitted_array("log_weights_"))
        return compute(
            sequences,
            centroids,
            weights,
            diagonal=self.diagonal,
            device=self.device,
            n_jobs=self.n_jobs,
        )

    def _logits(self, X: Any) -> NDArray[np.float64]:
        distances = self._align(X, distances_of_checked)
        if self.normalization_ not in ("layer", "global"):
            raise ValueError(f"normalization_ is {self.normalization_!r}, not 'layer' or 'global'")
        if not 0 < self.distance_scale_ < np.inf:
            raise ValueError(f"distance_scale_ must be positive, got {self.distance_scale_}")
        return distances_to_logits(distances, self.normalization_, self.distance_scale_)

    def _fitted_array(self, name: str) -> NDArray[np.floating]:
        """A fitted array; an error says which one was edited into something else."""
        array = np.asarray(getattr(self, name))
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name} must be float32 or float64, got {array.dtype}")
        if array.ndim != 3 or len(array) != len(self.classes_):
            raise ValueError(
                f"{name} must be 3-D with one entry for each of {len(self.classes_)} classes, "
                f"got shape {array.shape}"
            )
        return array

    def _choose_lags(self, sequences: TSEArray) -> tuple[int | float, ...]:
        if self.differences is None:
            return ()
        if isinstance(self.differences, str):  # "auto"
            n_numbers = sequences.total_frames * sequences.n_features
            return _LAGS if n_numbers <= _MOST_NUMBERS_TO_DIFFER else ()
        return check_lags(self.differences, "differences")

    def _require_the_same(self, classes: NDArray[Any], sequences: TSEArray) -> None:
        """What a warm start goes on from must be what is asked for now; "auto" asks for that."""
        pairs = [("classes", self.classes_.tolist(), classes.tolist())]
        if self.n_timesteps != "auto":
            n_timesteps = self._fitted_array("centroids_").shape[1]
            pairs.append(("n_timesteps", n_timesteps, self.n_timesteps))
        if not isinstance(self.differences, str):
            pairs.append(("differences", self.lags_, self._choose_lags(sequences)))
        for name, fitted, asked in pairs:
            if fitted != asked:
                raise ValueError(
                    f"warm_start=True goes on with the same {name}: it was fitted with {fitted}, "
                    f"got {asked}"
                )

    def _with_differences(self, sequences: TSEArray) -> TSEArray:
        """The sequences as they are compared with the centroids."""
        lags = check_lags(self.lags_, "lags_")
        return with_differences(sequences, lags) if lags else sequences

    def _warn_if_nothing_can_be_learned(self, n_classes: int) -> None:
        if self.normalize == "layer" and n_classes == 2:
            warnings.warn(
                "normalize='layer' has no gradient for 2 classes: nothing will be learned, and "
                "probabilities can only be 0.196 or 0.804. Use normalize='global'.",
                UserWarning,
                stacklevel=4,  # the caller of fit
            )

    def _learn(
        self,
        data: TrainingData,
        classes: NDArray[Any],
        goes_on: bool,
        tasks: FitTasks,
        attributes: Callable[[TrainingResult], dict[str, Any]],
    ) -> TrainingResult:
        """Learn, and tell callbacks which `attributes` a result would set."""
        random_state = check_random_state(self.random_state)
        run = self._open_run(data, classes, goes_on, random_state)
        if run.state is not None:  # the same sequences are held out as before
            random_state = read_generator(run.initial_generator)
        held_out = None
        if self.early_stopping:
            data, held_out = self._hold_out(data, classes, random_state)
        n_epochs = self._count_epochs(len(data.labels), data.labels.max() + 1)
        tasks.begin(n_epochs)
        feature_scale = np.ones(data.sequences.n_features, dtype=data.sequences.frame_dtype)
        if self.standardize:
            feature_scale = standard_deviations(data.sequences, data.sample_weight)
        n_timesteps = self.centroids_.shape[1] if goes_on else self._count_timesteps(data)
        device = self._choose_device(data, n_timesteps)
        if device != "cpu" and self.half_storage:
            check_half_range(data.sequences)
            if held_out is not None:
                check_half_range(held_out.sequences)
        if run.state is not None:
            shape = run.state.arrays["live.centroids"].shape
            centroids, log_weights = np.zeros((2, *shape), dtype=data.sequences.frame_dtype)
        elif goes_on:
            centroids, log_weights = self._fitted_parameters(data, feature_scale)
        else:
            centroids, log_weights = self._initial_parameters(
                data, feature_scale, random_state, n_timesteps, device
            )

        settings = TrainingSettings(
            normalization=self.normalize,
            temperature=self.temperature,
            learn_weights=self.learn_weights,
            learn_centroids=self.learn_centroids,
            diagonal=self.diagonal,
            path_refresh=self.path_refresh,
            learning_rate=self.learning_rate,
            centroid_learning_rate=self.centroid_learning_rate or self.learning_rate / 3,
            batch_size=self.batch_size,
            n_epochs=n_epochs,
            n_threads=count_threads(self.n_jobs),
            patience=self.n_iter_no_change,
            distance_scale=self._fitted_scale() if goes_on else None,
            device=device,
            half_storage=self.half_storage,
        )
        n_done = 0 if run.state is None else len(run.state.history["loss"])
        with tqdm(total=n_epochs, initial=n_done, desc="epochs", disable=not self.verbose) as bar:

            def show(record: dict[str, float], result_so_far: Callable[[], TrainingResult]) -> bool:
                bar.set_postfix(loss=f"{record['loss']:.4f}", accuracy=f"{record['accuracy']:.4f}")
                bar.update()
                return tasks.end_epoch(lambda: attributes(result_so_far()))

            result = train(
                data,
                InitialParameters(centroids, log_weights, feature_scale),
                settings,
                random_state,
                show,
                held_out,
                tasks.begin_epoch,
                run,
            )
        tasks.end(lambda: attributes(result))
        return result

    def _open_run(
        self,
        data: TrainingData,
        classes: NDArray[Any],
        goes_on: bool,
        random_state: np.random.RandomState,
    ) -> Run:
        """What is known of a fit that was interrupted, if there is a checkpoint."""
        max_time = math.inf if self.max_time is None else float(self.max_time)
        n_epochs = self._count_epochs(len(data.labels), len(classes))
        if self.checkpoint_dir is None or n_epochs == 0:
            return Run(max_time=max_time)
        described = {
            name: repr(value)
            for name, value in self.get_params(deep=False).items()
            if name not in _NOT_OF_THE_RESULT
        }
        if not isinstance(self.random_state, (int, np.integer)):
            del described["random_state"]  # the checkpoint goes on with its own
        described |= {
            "X": content_hash(data.sequences),
            "y": content_hash(data.labels, classes),
            "sample_weight": content_hash(data.sample_weight),
            "precision": str(data.sequences.frame_dtype),
        }
        if goes_on:
            described["warm_start"] = content_hash(self.centroids_, self.log_weights_)
        checkpoint = Checkpoint(self.checkpoint_dir, described)
        state = checkpoint.read()
        initial = describe_generator(random_state) if state is None else state.initial_generator
        return Run(checkpoint, state, initial, max_time)

    def _initial_parameters(
        self,
        data: TrainingData,
        feature_scale: NDArray[np.floating],
        random_state: np.random.RandomState,
        n_timesteps: int,
        device: str,
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Centroids, and logarithms of weights in units of each feature's scale."""
        centroids = self._barycenters(data, feature_scale, random_state, n_timesteps, device)
        log_weights = np.zeros_like(centroids)
        if self.weight_init == "random":
            log_weights[...] = random_state.standard_normal(centroids.shape)
        return centroids, log_weights

    def _fitted_parameters(
        self,
        data: TrainingData,
        feature_scale: NDArray[np.floating],
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Copies of the fitted ones, in the precision of the data and in the same units."""
        names = "centroids_", "log_weights_"
        centroids, log_weights = (
            self._fitted_array(name).astype(data.sequences.frame_dtype) for name in names
        )
        return centroids, log_weights + np.log(feature_scale)

    def _fitted_scale(self) -> float | None:
        """What distances have been divided by; None if that has another meaning now."""
        return self.distance_scale_ if self.normalization_ == self.normalize else None

    def _hold_out(
        self, data: TrainingData, classes: NDArray[Any], random_state: np.random.RandomState
    ) -> tuple[TrainingData, TrainingData]:
        """The data to learn from, and those that say when to stop."""
        split = StratifiedShuffleSplit(
            1, test_size=self.validation_fraction, random_state=random_state
        )
        problem = (
            f"early_stopping cannot hold out validation_fraction={self.validation_fraction} of "
            f"{len(data.labels)} sequences"
        )
        counts = np.bincount(data.labels)
        if counts.min() == 1:
            label = classes[counts.argmin()].item()
            raise ValueError(f"{problem}: class {label!r} has only one, which is needed to learn")
        try:
            ((learned, held_out),) = split.split(data.labels, data.labels)
        except ValueError as error:
            raise ValueError(f"{problem}: {error}") from error
        if len(np.unique(data.labels[learned])) <= data.labels.max():
            raise ValueError(f"{problem}: nothing would be left of a class to learn from")
        return data.part(np.sort(learned)), data.part(np.sort(held_out))

    def _barycenters(
        self,
        data: TrainingData,
        feature_scale: NDArray[np.floating],
        random_state: np.random.RandomState,
        n_timesteps: int,
        device: str,
    ) -> NDArray[np.floating]:
        _require_memory_for(n_timesteps, self.dba_max_iter, data)
        centroids = class_barycenters(
            data.sequences,
            data.labels,
            data.sample_weight,
            1 / feature_scale,
            n_timesteps=n_timesteps,
            diagonal=self.diagonal,
            n_samples=self.dba_samples,
            max_iter=self.dba_max_iter,
            random_state=random_state,
            n_threads=count_threads(self.n_jobs),
            device=device,
        )
        n_classes = data.labels.max() + 1
        bar = tqdm(centroids, total=n_classes, desc="centroids", disable=not self.verbose)
        return np.stack(list(bar))

    def _choose_device(self, data: TrainingData, n_timesteps: int) -> str:
        n_parameters = (int(data.labels.max()) + 1) * n_timesteps * data.sequences.n_features
        return resolve_device(self.device, data.sequences.total_frames * n_parameters)

    def _count_timesteps(self, data: TrainingData) -> int:
        if self.n_timesteps != "auto":
            return int(self.n_timesteps)
        half = weighted_median(data.sequences.lengths, data.sample_weight) // 2
        return min(max(half, _FEWEST_TIMESTEPS), _MOST_TIMESTEPS)

    def _count_epochs(self, n_samples: int, n_classes: int) -> int:
        if n_classes == 1 or not (self.learn_weights or self.learn_centroids):
            return 0
        if self.n_epochs != "auto":
            return int(self.n_epochs)
        steps_per_epoch = -(-n_samples // self.batch_size)
        return max(_PAPER_EPOCHS, -(-_FEWEST_STEPS // steps_per_epoch))


def _require_memory_for(n_timesteps: int, dba_max_iter: int, data: TrainingData) -> None:
    """Say so before anything is allocated if the machine's memory cannot hold what learning needs.

    At least ten arrays of the size of the parameters, and a bit for each cell of one path, also of
    those of barycenters, whose sequences are as long as the centroid.
    """
    n_classes, n_features = int(data.labels.max()) + 1, data.sequences.n_features
    n_frames = int(data.sequences.lengths.max())
    needed = 10 * n_classes * n_timesteps * n_features * data.sequences.frame_dtype.itemsize
    needed += n_timesteps * (max(n_timesteps, n_frames) if dba_max_iter else n_frames) // 8
    available = _memory_of_machine()
    if needed > available:
        raise ValueError(
            f"n_timesteps={n_timesteps} needs at least {needed / 1e9:.3g} GB of memory for "
            f"{n_classes} classes, {n_features} features and sequences of up to {n_frames} frames, "
            f"this machine has {available / 1e9:.3g} GB: lower n_timesteps"
        )


def _memory_of_machine() -> float:
    """In bytes; infinite where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf
