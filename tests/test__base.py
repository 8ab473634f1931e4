"""Another estimator on the same base, and what it inherits."""

import ast
import inspect
import pickle
from unittest import SkipTest

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import RegressorMixin
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skdejavid import DejaVidClassifier, TSEArray
from skdejavid._base import AlignedEstimator
from skdejavid.files.model_file import Array
from skdejavid.training.barycenter import class_barycenters


class CentroidRegressor(RegressorMixin, AlignedEstimator):
    """Predicts the mean target of the nearest barycenter of sequences with similar targets."""

    _kind = "regressor"
    _fields = AlignedEstimator._fields | {"targets_": Array(("n_centroids",))}
    _parameter_constraints = {  # noqa: RUF012
        "n_centroids": [int],
        "diagonal": ["boolean"],
        "device": [str],
        "n_jobs": [int, None],
    }

    def __init__(self, n_centroids=4, *, diagonal=True, device="auto", n_jobs=None):
        self.n_centroids = n_centroids
        self.diagonal = diagonal
        self.device = device
        self.n_jobs = n_jobs

    def fit(self, X, y):
        self._validate_params()
        sequences = self._read_training(X)
        y = column_or_1d(y, dtype=np.float64, warn=True)
        check_consistent_length(sequences, y)
        if not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity")
        labels = y.argsort().argsort() * min(self.n_centroids, len(y)) // len(y)
        centroids = class_barycenters(
            sequences, labels, np.ones(len(y)), np.ones_like(sequences[0][0]),
            n_timesteps=4, diagonal=self.diagonal, n_samples=50, max_iter=10,
            random_state=np.random.RandomState(0), n_threads=1,
        )  # fmt: skip
        self.lags_ = ()
        self.centroids_ = np.stack(list(centroids))
        self.log_weights_ = np.zeros_like(self.centroids_)
        self.targets_ = np.bincount(labels, y) / np.bincount(labels)
        return self

    def predict(self, X):
        nearest = self._distances(X).argmin(axis=1)
        return self.targets_[nearest]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # a step function fits a plane badly
        return tags


def test_another_estimator_takes_few_lines():
    """Parameters, fit and predict are all that it has to define."""
    (tree,) = ast.parse(inspect.getsource(CentroidRegressor)).body
    assert tree.end_lineno - tree.lineno + 1 <= 60


# All checks pass 2-D arrays, of sequences of one frame; sequences/test_checks.py tests the warning.
@pytest.mark.filterwarnings("ignore:X is a 2-D array, and each of its")
@parametrize_with_checks([CentroidRegressor()])
def test_another_estimator_passes_scikit_learns_own_checks(estimator, check):
    try:
        check(estimator)
    except SkipTest as error:  # a skipped check proves nothing
        pytest.fail(f"skipped: {error}")


@pytest.fixture(scope="module")
def rising():
    """Sequences whose rise is equal to their target."""
    rng = np.random.default_rng(0)
    y = rng.uniform(0, 9, size=40)
    times = (np.linspace(0, 1, n)[:, None] for n in rng.integers(3, 12, size=40))
    return TSEArray([time * slope for time, slope in zip(times, y, strict=True)]), y


def test_another_estimator_learns_and_is_saved_and_loaded(rising, tmp_path):
    X, y = rising
    model = CentroidRegressor(8).fit(X, y)
    assert model.score(X, y) > 0.9
    model.save(tmp_path / "model", metadata={"unit": "m"})
    loaded = CentroidRegressor.load(tmp_path / "model")
    assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.get_params() == model.get_params()
    assert loaded.metadata_ == {"unit": "m"}
    assert not hasattr(loaded, "feature_names_in_")
    assert not hasattr(loaded.fit(X, y), "metadata_")


def test_a_file_of_another_kind_of_estimator_is_refused(rising, tmp_path):
    CentroidRegressor().fit(*rising).save(tmp_path / "model")
    with pytest.raises(ValueError, match="is not a skdejavid classifier"):
        DejaVidClassifier.load(tmp_path / "model")


def test_what_is_inherited_needs_fitting_first(rising, tmp_path):
    with pytest.raises(NotFittedError):
        CentroidRegressor().predict(rising[0])
    with pytest.raises(NotFittedError):
        CentroidRegressor().save(tmp_path / "model")


def test_a_saved_estimator_with_an_edited_array_is_refused(rising, tmp_path):
    model = CentroidRegressor().fit(*rising)
    model.log_weights_ = model.log_weights_[:2]
    with pytest.raises(
        ValueError, match=r"'log_weights' must have shape \(4, 4, 1\), got \(2, 4, 1\)"
    ):
        model.save(tmp_path / "model")


def test_pickles_of_another_version_warn(rising):
    model = CentroidRegressor().fit(*rising)
    assert_array_equal(pickle.loads(pickle.dumps(model)).centroids_, model.centroids_)
    state = model.__getstate__() | {"_skdejavid_version": "0.0.1"}
    with pytest.warns(InconsistentVersionWarning, match=r"version 0\.0\.1 of skdejavid"):
        CentroidRegressor().__setstate__(state)
