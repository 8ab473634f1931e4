"""The base of estimators that compare sequences with learned centroids."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from os import PathLike, fspath
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from skdejavid.alignment import compute_distances
from skdejavid.compat.parameters import PythonNumbersMixin
from skdejavid.files.model_file import (
    Array,
    FeatureNames,
    Features,
    FeatureScale,
    Field,
    Flag,
    Lags,
    LogWeights,
    Model,
    read_model,
    write_model,
)
from skdejavid.files.renamed import with_new_names
from skdejavid.sequences import TSEArray, check_sequences
from skdejavid.sequences.transforms import check_lags, with_differences

__all__ = ["AlignedEstimator"]

# Read once, because every fit copies the estimator and so asks for its state.
_VERSION = version("skdejavid")


class AlignedEstimator(PythonNumbersMixin, BaseEstimator):
    """Base class of estimators that align sequences with centroids.

    A subclass has the parameters `diagonal`, `device` and `n_jobs`. Its ``fit`` reads `X` with
    `_read_training` and sets the attributes in `_fields`, to which it may add its own. It inherits
    distances, model files, and pickles that warn of other versions.
    """

    # The kind of estimator in model files.
    _kind: ClassVar[str]

    # Parameters that name places of one machine. Model files do not store them: a file of somebody
    # else must not decide where the next fit writes.
    _places: ClassVar[tuple[str, ...]] = ()

    # The fitted attributes and how model files store them, in the order in which they are read.
    # "n_centroids" is the size that attributes with one entry per centroid share.
    _fields: ClassVar[dict[str, Field]] = {
        "lags_": Lags(),
        "n_features_in_": Features(),
        "centroids_": Array(("n_centroids", "n_timesteps", "n_features")),
        "log_weights_": LogWeights(like="centroids"),
        "feature_scale_": FeatureScale(),
        "feature_names_in_": FeatureNames(),
        "single_frames_in_": Flag(),
    }

    def save(self, path: str | PathLike[str], *, metadata: Mapping[str, Any] | None = None) -> None:
        """Write the fitted estimator to a file that is safe to share.

        Parameters
        ----------
        path : str or path
            The file, which is replaced if it exists. By convention its name ends with
            ``.safetensors``.
        metadata : dict of str, optional
            Anything that JSON can store, for example how the sequences were made. :meth:`load`
            restores it as ``metadata_``. If None, the ``metadata_`` of a loaded estimator is kept.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If a fitted attribute or a parameter has a value that :meth:`load` would refuse, for
            example NaN, or a class label that is neither a number nor a string; if JSON cannot
            store `metadata`, a key of it is not a string, or it is nested deeper than 100 levels;
            if names of features, labels of classes and metadata together are larger than 4 MB; or
            if `path` is a device, a named pipe or a folder. Nothing is written then.
        OSError
            If the file cannot be written, for example because the disk is full. An existing file
            stays as it was.

        Notes
        -----
        Arrays are written as safetensors, everything else as JSON in its metadata. Parameters that
        name a place of this machine (``checkpoint_dir``) are not written. A link is followed to the
        file that it refers to, which keeps its permissions.

        Pickle, joblib and skops work as well, but loading a pickle can execute arbitrary code, and
        a pickle is only meant for the version that wrote it.
        """
        check_is_fitted(self, "centroids_")
        if metadata is None:
            metadata = getattr(self, "metadata_", {})
        attributes = {name: getattr(self, name) for name in self._fields if hasattr(self, name)}
        parameters = self._python_params()
        for name in self._places:
            del parameters[name]
        model = Model(parameters, attributes, dict(metadata))
        form: dict[str, Any] = {"kind": self._kind, "fields": self._fields, "version": _VERSION}
        write_model(path, model, **form, check=self._of_model)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read an estimator that was written by :meth:`save`.

        Nothing in the file is executed and every field is checked, so that files of unknown origin
        can be loaded. A file cannot set where the next fit writes: a ``checkpoint_dir`` in a file
        of an older version is ignored with a warning.

        Parameters
        ----------
        path : str or path

        Returns
        -------
        estimator
            Fitted; it gives the same results as the one that was saved.

        Raises
        ------
        ValueError
            If the file does not contain such an estimator, is damaged, or has a newer format; the
            message names the file and the field.
        FileNotFoundError, OSError
            If the file cannot be read.

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
        model = read_model(path, kind=cls._kind, fields=cls._fields, upgrade=cls._upgrade_model)
        for name in cls._places:
            if model.parameters.pop(name, None) is not None:
                warnings.warn(
                    f"{fspath(path)} sets {name}, which is not taken from a file: set it again "
                    f"with set_params({name}=...) if you want it",
                    UserWarning,
                    stacklevel=2,
                )
        try:
            return cls._of_model(model)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{fspath(path)} is a corrupt model file: {error}") from error

    @classmethod
    def _of_model(cls, model: Model) -> Self:
        """Return the estimator in a model file, after a check of what depends on its class."""
        self = cls(**model.parameters)
        self._validate_params()
        check_lags(model.attributes["lags_"], "lags")
        self.__dict__.update(model.attributes)
        if model.attributes["feature_names_in_"] is None:
            del self.feature_names_in_
        if model.metadata:
            self.metadata_ = model.metadata
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_skdejavid_version": _VERSION}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        pickled = state.pop("_skdejavid_version", "unknown")
        if pickled != _VERSION:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=f"{_VERSION} of skdejavid",
                    original_sklearn_version=f"{pickled} of skdejavid",
                ),
                stacklevel=2,
            )
        super().__setstate__(self._upgrade_pickle(state))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    @classmethod
    def _upgrade_model(cls, description: dict[str, Any]) -> dict[str, Any]:
        """Return the description of a model file of an older format in the current form."""
        upgraded = with_new_names(description)
        parameters = upgraded.get("parameters")
        if isinstance(parameters, dict):
            upgraded["parameters"] = with_new_names(parameters)
        return upgraded

    @classmethod
    def _upgrade_pickle(cls, state: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes of a pickle of an older version with the current names."""
        return with_new_names(state)

    def _read_training(self, X: Any, *, reset: bool = True) -> TSEArray:
        """Read the sequences to fit to, and remove the metadata of a loaded model.

        If `reset` is False, the number and names of features must be those of the previous fit.
        """
        self.__dict__.pop("metadata_", None)
        sequences = check_sequences(X, estimator=self, reset=reset)
        if sequences.lengths.max() > 1:  # also if the fit before saw single frames
            self.single_frames_in_ = False
        return sequences

    def _align(self, X: Any, compute: Callable[..., NDArray[np.float64]]) -> NDArray[np.float64]:
        """Apply an alignment function to `X` and the fitted parameters."""
        check_is_fitted(self, "centroids_")
        self._validate_params()
        sequences = check_sequences(X, estimator=self, reset=False)
        centroids = self._fitted_array("centroids_")
        # The distance names the sequence whose values are too large.
        with np.errstate(over="ignore", invalid="ignore"):
            # In the precision of the model, so that no result depends on the other sequences in X.
            sequences = self._with_differences(sequences.astype(centroids.dtype))
            weights = np.exp(self._fitted_array("log_weights_"))
        return compute(
            sequences,
            centroids,
            weights,
            diagonal=bool(self.diagonal),
            device=self.device,
            n_jobs=self.n_jobs,
        )

    def _distances(self, X: Any) -> NDArray[np.float64]:
        """Return the distances (n_sequences, n_centroids) of sequences to the centroids."""
        return self._align(X, compute_distances)

    def _fitted_array(self, name: str) -> NDArray[np.floating]:
        """Check a fitted array, which a user may have edited, and return it."""
        array = np.asarray(getattr(self, name))
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name} must be float32 or float64, got {array.dtype}")
        if array.ndim != 3 or len(array) != self._n_centroids:
            raise ValueError(
                f"{name} must be a 3-D array of {self._n_centroids} centroids, got shape "
                f"{array.shape}"
            )
        return array

    @property
    def n_timesteps_(self) -> int:
        """Number of time steps of each centroid."""
        return int(self._part_of("centroids_", "n_timesteps_").shape[1])

    def _part_of(self, name: str, part: str) -> Any:
        """Return a fitted attribute; before `fit`, neither it nor its `part` exists."""
        if not hasattr(self, name):
            message = f"{type(self).__name__!r} object has no attribute {part!r}"
            raise AttributeError(message, name=part, obj=self)
        return getattr(self, name)

    @property
    def _n_centroids(self) -> int:
        """Number of centroids that the other fitted attributes belong to."""
        return len(self.centroids_)

    def _with_differences(self, sequences: TSEArray) -> TSEArray:
        """Return sequences in the form in which they are compared with the centroids."""
        lags = check_lags(self.lags_, "lags_")
        return with_differences(sequences, lags) if lags else sequences
