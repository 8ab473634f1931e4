"""The estimator: nearest centroid under a learned, time-weighted alignment."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning

from skdejavid._base import AlignedEstimator
from skdejavid.alignment import compute_distances, compute_distances_by_timestep
from skdejavid.backends.registry import resolve_device
from skdejavid.compat.callbacks import CallbackSupportMixin, FitTasks, teardown_after_fit
from skdejavid.compat.floating import underflow_allowed
from skdejavid.compat.sklearn import Interval, StrOptions
from skdejavid.files.model_file import Choice, Count, Field, History, Labels, PositiveNumber
from skdejavid.sequences.hints import warn_caller
from skdejavid.sequences.tables import plain_labels, plain_weights
from skdejavid.sequences.transforms import check_lags
from skdejavid.training.fitting import (
    WarmStart,
    explain_stop,
    find_start,
    initial_parameters,
    make_plan,
    prepare,
    train,
)
from skdejavid.training.loop import TrainingResult
from skdejavid.training.loss import LOGIT_SCALINGS, SoftMinCrossEntropy
from skdejavid.training.targets import ClassWeight

__all__ = ["DejaVidClassifier"]

_PAPER_PARAMETERS = {
    "n_timesteps": 8,
    "differences": None,
    "diagonal": False,
    "path_refresh": "epoch",
    "logit_scaling": "sample",
    "standardize": False,
    "learning_rate": 0.001,
    "centroid_learning_rate": None,
    "n_epochs": 36,
}

_METRICS = SoftMinCrossEntropy.metrics


class DejaVidClassifier(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClassifierMixin,
    AlignedEstimator,
):
    """Nearest-centroid classifier of sequences under a learned, time-weighted alignment.

    Each class is represented by a centroid, which is a short sequence, and by a positive weight for
    each of its time steps and features. A sequence is assigned to the class with the smallest
    time-weighted DTW distance. Centroids start as DTW barycenters; centroids and weights are then
    learned by gradient descent through the alignment [1]_.

    The :doc:`method page </explanation/method>` maps the paper's symbols to these names.

    Parameters
    ----------
    n_timesteps : int or "auto", default="auto"
        Number of time steps of each centroid (the paper's T_c, there 8). "auto" uses half the
        median length of the training sequences, at least 8 and at most 64.

    differences : "auto", sequence of int or float, or None, default="auto"
        Lags of the changes over time that are compared in addition to the values: see `lags` of
        :class:`TimeDifferences`, which is applied inside of fit and predict. With None or no lags,
        only values are compared, as published. "auto" uses the lags 1 and 0.1, or none if `X`
        contains more than 2**24 numbers, with a warning.

    weight_init : {"ones", "random"}, default="ones"
        Initial weights: all 1, or exponentials of standard normal numbers.

    learn_weights : bool, default=True
        Whether to learn the weights, or to keep the initial ones.

    learn_centroids : bool, default=True
        Whether to learn the centroids, or to keep the barycenters.

    diagonal : bool, default=True
        Whether a path may advance in centroid and sequence at once. The paper's Sec. 3.4 advises
        against it; on the data sets measured it is more accurate (:doc:`/explanation/method`).

    path_refresh : {"batch", "epoch"}, default="batch"
        When the parameters that choose the paths are updated: for every batch, or at the start of
        each epoch (the paper's fixed epoch centroids and weights). "epoch" is as accurate and
        slower.

    logit_scaling : {"global", "sample"}, default="global"
        How distances become logits. "global" divides all distances by one number: `temperature`
        times the standard deviation of a sample's distances over the classes, averaged over the
        training samples before training. "sample" standardizes the distances of each sample over
        the classes, as published (layer normalization). With two classes, every logit of "sample"
        is +-0.7071 and nothing can be learned.

    temperature : float, default=0.5
        Factor of the scale of distances if `logit_scaling` is "global". Lower values make initial
        predictions more confident, so correctly classified sequences stop contributing to the
        gradient earlier.

    standardize : bool, default=True
        Whether to learn in units in which all features have equal scale. If True, the initial
        weights are divided by each feature's standard deviation, and steps of the centroids are
        multiples of it. False is the published behavior. Nothing has to be scaled when predicting.

    dba_samples : int, default=50
        Maximum number of sequences sampled per class to compute its initial centroid.

    dba_max_iter : int, default=100
        Maximum number of iterations of barycenter averaging. With 0, the initial centroid is the
        medoid.

    learning_rate : float, default=0.03
        AdamW's initial learning rate for the logarithms of the weights. The paper uses 0.001 on
        two data sets of more than 150,000 videos and 0.008 on one of 3,570.

    centroid_learning_rate : float or None, default=0.1
        Initial learning rate for the centroids, in units of each feature's standard deviation if
        `standardize`. None means a third of `learning_rate`, as published. With a high rate a
        centroid can leave the range of the data, where distance is a linear function of the
        features.

    batch_size : int, default=48
        Number of sequences per optimizer step.

    n_epochs : int or "auto", default="auto"
        Number of passes over the data, and length of the cosine schedule. "auto" uses the paper's
        36, or as many as are needed for 600 optimizer steps if that is more.

    early_stopping : bool, default=False
        Whether to hold out a part of the training sequences, to stop when the loss on it has not
        decreased for `n_iter_no_change` epochs, and to keep the parameters with the lowest loss.

    validation_fraction : float, default=0.1
        Fraction of the sequences to hold out, stratified by class. Only used if `early_stopping`.

    n_iter_no_change : int, default=20
        Number of epochs without a lower loss on the held-out part after which training stops. Only
        used if `early_stopping`.

    class_weight : dict, "balanced" or None, default=None
        Factors by class, ``{class label: number}``; 1 for a class that is not in the dict.
        "balanced" gives all classes the same sum of weights, for classes of which some are rare.
        The factors multiply the sample weights, which have no effect any more when all training
        sequences are classified correctly. Therefore "balanced" also gives a class with fewer
        sequences, whatever their weights, a larger margin in the loss (:doc:`/explanation/method`).
        Probabilities are then those for classes that are as frequent as the weights say, equally
        frequent if "balanced".

    transform_timesteps : bool, default=False
        Whether :meth:`transform` splits each distance into the parts that the time steps of the
        centroid contribute.

    warm_start : bool, default=False
        Whether :meth:`fit` of a fitted classifier starts from its centroids and weights instead of
        barycenters and `weight_init`. Classes, features, `differences` and `n_timesteps` must be
        the same; "auto" keeps the last two. The scale of distances is kept as well, unless
        `logit_scaling` has changed. Schedule and optimizer start from the beginning, and the fitted
        attributes describe the last call only.

    device : {"auto", "cpu", "cuda", "cuda:N"}, default="auto"
        Device to compute on. "cuda" is the first CUDA device. "auto" is the CPU in this version.

    checkpoint_dir : str, path or None, default=None
        Folder for checkpoints of training: a file for each combination of data and parameters,
        which is replaced after epochs. Repeating an interrupted fit resumes from its checkpoint and
        gives bit-identical results, even after a kill; repeating a completed fit restores its
        result. Searches and cross-validation can be repeated in the same way. The 1000 files
        written last are kept; remove the folder to start again. If `random_state` is None, the
        saved generator is used, with a warning if the fit was complete.

    max_time : float or None, default=None
        Maximum time of training in seconds. When it has passed, training stops after the current
        epoch with a ConvergenceWarning. With `checkpoint_dir`, calling the same fit again resumes.

    half_storage : bool, default=False
        Whether a CUDA device stores the training sequences in half precision, which halves their
        memory and the time to copy them; computation is still in float32. Requires data of float32
        or narrower floats within +-65504. Not used on the CPU and when predicting.

    n_jobs : int, default=None
        Number of threads. None and -1 mean all physical cores, or fewer if ``OMP_NUM_THREADS``,
        threadpoolctl or a joblib worker set a limit. Results do not depend on it.

    random_state : int, RandomState instance or None, default=None
        Determines the sequences sampled for initial centroids, random weights, the held-out part
        and the order of batches. Pass an int for reproducible results.

    verbose : int, default=0
        Whether to show progress bars.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted.

    centroids_ : ndarray of shape (n_classes, n_timesteps, n_features)
        The learned centroids, in the units of the data. Their features are the ``n_features_in_``
        features of the data, followed by the differences of these for each of ``lags_``.

    log_weights_ : ndarray of the shape of `centroids_`
        Natural logarithms of the learned weights, whose unit is 1 / unit of the data.

    lags_ : tuple of int or float
        Lags of the differences, see `differences`.

    logit_scaling_ : str
        The `logit_scaling` of the fit, "global" or "sample".

    feature_scale_ : ndarray of shape (n_features,) or None
        Standard deviation of each feature of the centroids over the training data, 1 if it is
        constant. Weights times these are comparable between features. None if loaded from a file
        of an earlier version.

    distance_scale_ : float
        The number that distances are divided by if `logit_scaling_` is "global", else 1.

    history_ : dict of str to ndarray
        One value per epoch: "loss" (mean cross-entropy, with the margins if balanced) and
        "accuracy", each batch measured before its optimizer step, both weighted, and
        "learning_rate", that of the weights. With `early_stopping` also "validation_loss" and
        "validation_accuracy", measured on the held-out part after the epoch.

    n_iter_ : int
        Number of epochs run.

    n_timesteps_ : int
        Number of time steps of each centroid.

    best_iter_ : int or None
        With `early_stopping`, the epoch, counted from 1, after which the loss on the held-out part
        was lowest; 0 stands for the initial parameters. The fitted parameters are those of this
        epoch. None without `early_stopping`: they are those after the last epoch.

    single_frames_in_ : bool or None
        Whether all sequences in `fit` had one frame; if not, 2-D arrays are refused. None: unknown.

    n_features_in_ : int
        Number of features of a frame.

    feature_names_in_ : ndarray of str
        Names of the features, if `X` has them: a ``TSEArray`` with names, or data frames.

    metadata_ : dict
        The metadata of the file that the classifier was loaded from; see :meth:`save`. There is no
        such attribute if the file has none, and fitting removes it.

    See Also
    --------
    TSEExtractor : Converts videos to sequences with any encoder.
    dtw_distances : The distances without learning.

    Notes
    -----
    Results are bit-identical for any `n_jobs` and, when predicting, for any grouping of samples.
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

    _kind = "classifier"
    _places = ("checkpoint_dir",)
    _fields: ClassVar[dict[str, Field]] = {
        "classes_": Labels("n_centroids"),
        **AlignedEstimator._fields,
        "logit_scaling_": Choice(LOGIT_SCALINGS),
        "distance_scale_": PositiveNumber(),
        "history_": History(
            (*_METRICS, "learning_rate"), tuple(f"validation_{name}" for name in _METRICS)
        ),
        "best_iter_": Count(up_to="n_epochs"),
    }

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_timesteps": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "differences": [StrOptions({"auto"}), "array-like", None],
        "weight_init": [StrOptions({"ones", "random"})],
        "learn_weights": ["boolean"],
        "learn_centroids": ["boolean"],
        "diagonal": ["boolean"],
        "path_refresh": [StrOptions({"epoch", "batch"})],
        "logit_scaling": [StrOptions(set(LOGIT_SCALINGS))],
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
        logit_scaling: str = "global",
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
        self.logit_scaling = logit_scaling
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
        """Create an unfitted classifier with the parameters of the paper.

        They are meant for hundreds of thousands of videos; for its smallest data set the paper
        raises `learning_rate` to 0.008.

        Parameters
        ----------
        **parameters : dict
            Parameters that differ from the paper's.

        Returns
        -------
        DejaVidClassifier

        Examples
        --------
        >>> from skdejavid import DejaVidClassifier
        >>> DejaVidClassifier.paper(learning_rate=0.008).n_timesteps
        8
        """
        return cls(**{**_PAPER_PARAMETERS, **parameters})

    @underflow_allowed
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
            Weights of the sequences in statistics, barycenters and the loss, at least 0. A sequence
            of weight 0 has no influence. Weight k is equivalent to k copies as long as all copies
            fit into one batch, no sequences are sampled for barycenters, and none are held out;
            but the margins of ``class_weight="balanced"`` count sequences, whatever their weights.

        Returns
        -------
        self : DejaVidClassifier
            The fitted estimator. If an error is raised, it stays as it was before the call, except
            if it is a KeyboardInterrupt, see below.

        Raises
        ------
        InvalidParameterError
            If a parameter is not in its allowed range (a ValueError).
        TypeError, ValueError
            If `X`, `y` or `sample_weight` is not as described; the message names the item. Or if
            `warm_start` is True and the data or parameters do not agree with the previous fit.
        RuntimeError
            If `device` requires CUDA and there is none, or the loss overflows in the first epoch.
        MemoryError
            If the memory of a CUDA device is too small for the parameters or for one sequence.
        KeyboardInterrupt
            If fitting is interrupted. After the first epoch, the estimator is fitted all the same,
            with the parameters after the last whole epoch (with `early_stopping`, the best).

        Warns
        -----
        ConvergenceWarning
            If the loss overflows after the first epoch, where the last good parameters are kept, or
            if `max_time` stops training.
        UserWarning
            If a class has no weight, a feature varies too little, nothing can be learned, or a
            complete fit with ``random_state=None`` is restored.
        DataDimensionalityWarning
            If `X` is a 2-D array, or its numbers look as if channels came before time.
        """
        learner = copy.copy(self)
        with teardown_after_fit(learner):
            warning, interrupt = learner._fit(X, y, sample_weight)
        if warning is not None:
            warn_caller(warning, ConvergenceWarning)
        self.__dict__ = learner.__dict__
        if interrupt is not None:
            raise interrupt
        return self

    def _fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[str | None, KeyboardInterrupt | None]:
        """Fit in stages; return a warning of training that stopped too early, and an interrupt."""
        self._validate_params()
        resolve_device(self.device)
        parameters = SimpleNamespace(**self._python_params())
        warm_start = self._warm_start()
        prepared = prepare(
            # Not kept in a variable: it would stay in memory next to its copy with differences.
            self._read_training(X, reset=warm_start is None),
            y,
            sample_weight,
            parameters,
            warm_start,
            type(self).__name__,
        )

        def attributes(result: TrainingResult) -> dict[str, Any]:
            return {
                "classes_": prepared.classes,
                "lags_": prepared.lags,
                "feature_scale_": plan.deviations,
            } | result.attributes(parameters.logit_scaling)

        start = find_start(prepared, parameters, warm_start)
        plan = make_plan(prepared, parameters, start)
        for message in (*prepared.warnings, *plan.warnings):
            warn_caller(message, UserWarning)
        tasks = FitTasks(self, X, y, sample_weight, attributes)
        tasks.begin(plan.settings.n_epochs)
        initial = initial_parameters(plan, parameters, start)
        result = train(plan, initial, parameters, start, [tasks])
        tasks.end(result)
        self.__dict__.update(attributes(result))
        return explain_stop(result, plan.settings, parameters), result.interrupt

    def _warm_start(self) -> WarmStart | None:
        """Return the fitted attributes if this fit starts from them."""
        if not (self.warm_start and hasattr(self, "centroids_")):
            return None
        return WarmStart(
            classes=self.classes_,
            lags=check_lags(self.lags_, "lags_"),
            centroids=self._fitted_array("centroids_"),
            log_weights=self._fitted_array("log_weights_"),
            logit_scaling=self.logit_scaling_,
            distance_scale=self.distance_scale_,
        )

    @property
    def n_iter_(self) -> int:
        """Number of epochs run."""
        return len(self._part_of("history_", "n_iter_")["loss"])

    @underflow_allowed
    def transform(self, X: Any) -> NDArray[np.float64]:
        """Compute the distance of each sequence to each centroid, or the parts of the distances.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_sequences, n_classes) or (n_sequences, n_classes * n_timesteps)
            The latter if `transform_timesteps`: the parts of the distance to the first centroid,
            which add up to it, then those of the second, and so on.
        """
        compute = compute_distances_by_timestep if self.transform_timesteps else compute_distances
        return self._align(X, compute)

    @underflow_allowed
    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Compute the logits: scaled distances with the sign changed, the largest for the nearest.

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

    @underflow_allowed
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Compute the probability of each class, the soft-min of the scaled distances.

        With `class_weight`, classes count as if they were as frequent as their weights say.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_sequences, n_classes)
        """
        return softmax(self._logits(X), axis=1)

    @underflow_allowed
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the class of each sequence: that of the nearest centroid, the first in a tie.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_sequences,)
        """
        distances = self._distances(X)
        return self.classes_[distances.argmin(axis=1)]

    @underflow_allowed
    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute the mean accuracy of the predictions.

        Parameters
        ----------
        X : sequences
            As in :meth:`fit`.
        y : array-like of shape (n_sequences,)
            The classes, as :meth:`fit` takes them.
        sample_weight : array-like of shape (n_sequences,), optional
            Weights of the sequences.

        Returns
        -------
        float
        """
        return float(super().score(X, plain_labels(y), plain_weights(sample_weight)))

    @property
    def _n_features_out(self) -> int:
        """Number of columns of `transform`, for ``get_feature_names_out``."""
        return len(self.classes_) * (self.n_timesteps_ if self.transform_timesteps else 1)

    @property
    def _n_centroids(self) -> int:
        return len(self.classes_)

    def _logits(self, X: Any) -> NDArray[np.float64]:
        distances = self._distances(X)
        if self.logit_scaling_ not in LOGIT_SCALINGS:
            raise ValueError(
                f"logit_scaling_ must be 'global' or 'sample', got {self.logit_scaling_!r}"
            )
        if not 0 < self.distance_scale_ < np.inf:
            raise ValueError(
                f"distance_scale_ must be positive and finite, got {self.distance_scale_}"
            )
        return SoftMinCrossEntropy(self.logit_scaling_, self.distance_scale_).logits(distances)

    @classmethod
    def _upgrade_pickle(cls, state: dict[str, Any]) -> dict[str, Any]:
        state.pop("n_iter_", None)  # version 0.1.0 stored what is computed now
        return super()._upgrade_pickle(state)
