"""Where scikit-learn lets estimators go, and its own checks."""

from unittest import SkipTest

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from skdejavid import (
    DejaVidClassifier,
    Framewise,
    Resample,
    TimeDifferences,
    TSEArray,
    TSEExtractor,
)
from skdejavid.datasets import make_order_sequences, make_order_videos

QUICK = {"n_epochs": 3, "n_timesteps": 4, "random_state": 0}


def as_objects(X):
    return np.asarray(X)  # 1-D, dtype object


CONTAINERS = pytest.mark.parametrize(
    "container", [list, as_objects, TSEArray], ids=["list", "object array", "TSEArray"]
)


# One check gives all weight to one class; that this is said is tested in test_classifier.py.
@pytest.mark.filterwarnings("ignore:all samples of class .* have zero weight")
@parametrize_with_checks(
    [DejaVidClassifier(), TimeDifferences(), Resample(), Framewise(StandardScaler())]
)
def test_scikit_learns_own_checks(estimator, check):
    try:
        check(estimator)
    except SkipTest as error:  # a check that did not run has shown nothing
        pytest.fail(f"skipped: {error}")


def test_all_of_scikit_learns_checks_apply():
    """They apply only to estimators that take 2-D arrays, and skip what an environment lacks."""
    assert get_tags(DejaVidClassifier()).input_tags.two_d_array
    assert len(list(estimator_checks_generator(DejaVidClassifier()))) >= 55


@pytest.fixture(scope="module")
def orders():
    return make_order_sequences(60, random_state=0)


class Differences(TransformerMixin, BaseEstimator):
    """A step that turns ragged sequences into ragged sequences."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return [np.diff(x, axis=0, prepend=x[:1]) for x in X]

    def __sklearn_is_fitted__(self):
        return True


@CONTAINERS
def test_grid_search(container, orders):
    X, y = orders
    search = GridSearchCV(
        DejaVidClassifier(**QUICK), {"n_timesteps": [2, 4]}, cv=StratifiedKFold(3)
    ).fit(container(X), y)
    assert search.best_params_["n_timesteps"] in (2, 4)
    assert search.predict(container(X)).shape == y.shape
    expected = GridSearchCV(
        DejaVidClassifier(**QUICK), {"n_timesteps": [2, 4]}, cv=StratifiedKFold(3)
    ).fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_grid_search_in_parallel(backend, orders):
    import joblib

    X, y = orders
    grid = {"n_timesteps": [2, 4]}
    serial = GridSearchCV(DejaVidClassifier(**QUICK), grid, cv=2).fit(X, y)
    with joblib.parallel_config(backend, n_jobs=2):
        parallel = GridSearchCV(DejaVidClassifier(**QUICK), grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(
        serial.cv_results_["mean_test_score"], parallel.cv_results_["mean_test_score"]
    )


@CONTAINERS
def test_pipeline(container, orders):
    X, y = orders
    pipeline = make_pipeline(Differences(), DejaVidClassifier(**QUICK))
    scores = cross_val_score(pipeline, container(X), y, cv=2)
    assert scores.shape == (2,)
    assert pipeline.fit(container(X), y).predict_proba(container(X)).shape == (len(y), 6)


@CONTAINERS
def test_distances_feed_a_linear_model(container, orders):
    X, y = orders
    pipeline = make_pipeline(
        DejaVidClassifier(**QUICK), StandardScaler(), LogisticRegression(max_iter=1000)
    )
    assert pipeline.fit(container(X), y).score(container(X), y) > 0.5


def test_calibration_and_voting(orders):
    X, y = orders
    calibrated = CalibratedClassifierCV(DejaVidClassifier(**QUICK), cv=2).fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    pair = [
        ("a", DejaVidClassifier(**QUICK)),
        ("b", DejaVidClassifier(**QUICK | {"diagonal": True})),
    ]
    assert VotingClassifier(pair, voting="soft").fit(X, y).score(X, y) > 0.5


def test_videos_go_through_a_pipeline():
    videos, y = make_order_videos(12, size=16, random_state=0)
    pipeline = make_pipeline(
        TSEExtractor(lambda clips: clips.mean(dim=(2, 4)).flatten(1), frame_size=None),
        DejaVidClassifier(**QUICK),
    )
    search = GridSearchCV(pipeline, {"tseextractor__clip_length": [1, 2]}, cv=2)
    assert search.fit(videos, y).predict(videos).shape == y.shape
