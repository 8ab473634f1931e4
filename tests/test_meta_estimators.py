"""Which of scikit-learn's meta-estimators, searches and displays work with sequences.

docs/howto/scikit_learn.md lists them for users.
"""

import re
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import (
    RFE,
    SelectFromModel,
    SelectKBest,
    SequentialFeatureSelector,
)
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    StratifiedGroupKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    train_test_split,
    validation_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils import estimator_html_repr
from sklearn.utils.parallel import Parallel, delayed

from skdejavid import DejaVidClassifier, Framewise, TimeDifferences, TSEArray, TSEExtractor
from skdejavid.datasets import make_order_videos

RNG = np.random.default_rng(0)
Y = np.arange(24) % 3
BINARY = Y > 0
# Rising, level or falling, in noise.
X = [
    RNG.standard_normal((n_frames, 2)) + (label - 1) * np.linspace(-1, 1, n_frames)[:, None]
    for n_frames, label in zip(RNG.integers(3, 9, 24), Y, strict=True)
]
GRID = {"n_timesteps": [2, 3]}

Quick = partial(DejaVidClassifier, n_epochs=3, n_timesteps=3, random_state=0)


def as_objects(sequences):
    array = np.empty(len(sequences), dtype=object)
    array[:] = sequences
    return array


CONTAINERS = {"list": list, "object array": as_objects, "TSEArray": TSEArray}


def searched(search, X, y=Y):
    search.fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    return np.concatenate([scores, [search.best_params_["n_timesteps"]], search.predict(X)])


def validated(X):
    scores = cross_validate(
        Quick(), X, Y, cv=2, scoring=["accuracy", "neg_log_loss"], return_train_score=True
    )
    return [scores[name] for name in sorted(scores) if not name.endswith("_time")]


def halving(search, X):
    return searched(search(Quick(), GRID, cv=2, min_resources=12, random_state=0), X)


def stacked(X):
    final = make_pipeline(StandardScaler(), LogisticRegression())
    members = [("a", Quick()), ("b", Quick(diagonal=False))]
    return StackingClassifier(members, final, cv=2).fit(X, Y).predict_proba(X)


def calibrated_frozen(X):
    frozen = FrozenEstimator(Quick().fit(X, Y))
    return CalibratedClassifierCV(frozen).fit(X, Y).predict_proba(X)


def split(X):
    """Fit to one part and return the score of the other."""
    X_train, X_test, y_train, y_test = train_test_split(X, Y, stratify=Y, random_state=0)
    return Quick().fit(X_train, y_train).score(X_test, y_test)


def confusion(X):
    return ConfusionMatrixDisplay.from_estimator(Quick().fit(X, Y), X, Y).confusion_matrix


# A computation with each of them, from sequences alone.
WORKS = {
    "train_test_split": split,
    "cross_validate": validated,
    "cross_val_score": lambda X: cross_val_score(
        Quick(), X, Y, groups=np.arange(24) // 3, cv=StratifiedGroupKFold(2)
    ),
    "cross_val_predict": lambda X: cross_val_predict(Quick(), X, Y, cv=2, method="predict_proba"),
    "learning_curve": lambda X: learning_curve(Quick(), X, Y, cv=2, train_sizes=[0.5, 1.0])[1:],
    "validation_curve": lambda X: validation_curve(
        Quick(), X, Y, param_name="n_timesteps", param_range=[2, 3], cv=2
    ),
    "permutation_test_score": lambda X: permutation_test_score(
        Quick(), X, Y, cv=2, n_permutations=3, random_state=0
    )[1],
    "GridSearchCV": lambda X: searched(GridSearchCV(Quick(), GRID, cv=2), X),
    "RandomizedSearchCV": lambda X: searched(
        RandomizedSearchCV(Quick(), GRID, cv=2, n_iter=2, random_state=0), X
    ),
    "HalvingGridSearchCV": lambda X: halving(HalvingGridSearchCV, X),
    "HalvingRandomSearchCV": lambda X: halving(HalvingRandomSearchCV, X),
    "Pipeline": lambda X: (
        make_pipeline(Framewise(StandardScaler()), TimeDifferences(), Quick())
        .fit(X, Y)
        .predict_proba(X)
    ),
    "Pipeline, distances as features": lambda X: (
        make_pipeline(Quick(), StandardScaler(), LogisticRegression()).fit(X, Y).predict_proba(X)
    ),
    "FeatureUnion": lambda X: FeatureUnion(
        [("a", Quick()), ("b", Quick(transform_timesteps=True))]
    ).fit_transform(X, Y),
    "CalibratedClassifierCV": lambda X: (
        CalibratedClassifierCV(Quick(), cv=2).fit(X, Y).predict_proba(X)
    ),
    "FrozenEstimator": calibrated_frozen,
    "TunedThresholdClassifierCV": lambda X: (
        TunedThresholdClassifierCV(Quick(), cv=2).fit(X, BINARY).predict(X)
    ),
    "FixedThresholdClassifier": lambda X: (
        FixedThresholdClassifier(Quick(), threshold=0.3).fit(X, BINARY).predict(X)
    ),
    "VotingClassifier": lambda X: (
        VotingClassifier([("a", Quick()), ("b", Quick(n_timesteps=2))], voting="soft")
        .fit(X, Y)
        .predict_proba(X)
    ),
    "StackingClassifier": stacked,
    "OneVsRestClassifier": lambda X: OneVsRestClassifier(Quick()).fit(X, Y).predict_proba(X),
    "MultiOutputClassifier": lambda X: (
        MultiOutputClassifier(Quick()).fit(X, np.c_[Y, BINARY]).predict(X)
    ),
    "ConfusionMatrixDisplay": confusion,
}


@pytest.mark.parametrize("container", ["object array", "TSEArray"])
@pytest.mark.parametrize("name", WORKS)
def test_the_container_changes_no_number(name, container):
    expected = WORKS[name](X)
    np.testing.assert_array_equal(
        np.asarray(WORKS[name](CONTAINERS[container](X)), dtype=float),
        np.asarray(expected, dtype=float),
    )


def test_a_code_of_classes_takes_any_array_but_no_list():
    """It requires an array, of any shape."""
    expected, packed = (
        OutputCodeClassifier(Quick(), random_state=0).fit(container(X), Y).predict(container(X))
        for container in (as_objects, TSEArray)
    )
    np.testing.assert_array_equal(packed, expected)
    with pytest.raises(ValueError, match="inhomogeneous shape"):
        OutputCodeClassifier(Quick(), random_state=0).fit(X, Y)


# These convert X to a 2-D array before they call the classifier: to select columns, draw rows or
# append features.
REFUSES = {
    "BaggingClassifier": lambda X: BaggingClassifier(Quick()).fit(X, Y),
    "AdaBoostClassifier": lambda X: AdaBoostClassifier(Quick()).fit(X, Y),
    "OneVsOneClassifier": lambda X: OneVsOneClassifier(Quick()).fit(X, Y),
    "ClassifierChain": lambda X: ClassifierChain(Quick()).fit(X, np.c_[Y, BINARY]),
    "SelfTrainingClassifier": lambda X: SelfTrainingClassifier(Quick()).fit(X, Y - 1),
    "StackingClassifier, passthrough": lambda X: StackingClassifier(
        [("a", Quick())], cv=2, passthrough=True
    ).fit(X, Y),
    "RFE": lambda X: RFE(Quick()).fit(X, Y),
    "SequentialFeatureSelector": lambda X: SequentialFeatureSelector(Quick()).fit(X, Y),
    "SelectFromModel": lambda X: SelectFromModel(
        Quick(), importance_getter=lambda clf: np.ones(2)
    ).fit_transform(X, Y),
    "ColumnTransformer": lambda X: ColumnTransformer([("a", Quick(), [0])]).fit(X, Y),
    "permutation_importance": lambda X: permutation_importance(Quick().fit(X, Y), X, Y),
    "partial_dependence": lambda X: partial_dependence(Quick().fit(X, Y), X, [0]),
}

REASONS = "|".join(
    [
        "inhomogeneous shape",  # of a list
        "Expected 2D array, got 1D array instead",  # of a 1-D array
        "setting an array element with a sequence",
        "a TSEArray can only be converted to an array of dtype object",
        "all the input arrays must have same number of dimensions",  # when appending to features
        "tuple index out of range",  # shape[1]
    ]
)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", REFUSES)
def test_what_wants_a_table_says_so_and_does_not_take_sequences_for_one(name, container):
    with pytest.raises((ValueError, IndexError), match=REASONS):
        REFUSES[name](CONTAINERS[container](X))


# The two that look like a table to scikit-learn, with one cell for each sequence.
ONE_COLUMN = {
    "data frame": lambda X: pd.DataFrame({"x": list(X)}),
    "object array": lambda X: as_objects(list(X))[:, None],
}


@pytest.mark.fault(139)
@pytest.mark.parametrize("column", ONE_COLUMN)
def test_what_draws_rows_or_permutes_columns_takes_a_column_of_sequences(column):
    data = ONE_COLUMN[column](X)
    bagging = BaggingClassifier(Quick(), n_estimators=2, random_state=0).fit(data, Y)
    expected = np.mean([clf.predict_proba(X) for clf in bagging.estimators_], axis=0)
    np.testing.assert_allclose(bagging.predict_proba(data), expected)
    assert bagging.score(data, Y) > 0.6
    clf = Quick().fit(X, Y)
    found = permutation_importance(clf, data, Y, n_repeats=3, random_state=0)
    assert found.importances.shape == (1, 3)
    assert found.importances_mean[0] > 0.3  # exchanging whole sequences leaves nothing to learn
    distances = ColumnTransformer([("a", Quick(), [0])]).fit(data, Y).transform(data)
    np.testing.assert_array_equal(distances, clf.transform(X))


@pytest.mark.fault(139)
@pytest.mark.parametrize("column", ONE_COLUMN)
@pytest.mark.parametrize(
    "name",
    sorted(set(REFUSES) - {"BaggingClassifier", "permutation_importance", "ColumnTransformer"}),
)
def test_the_others_refuse_a_column_of_sequences_as_well(name, column):
    with pytest.raises(ValueError, match=r"setting an array element|truth value of an array"):
        REFUSES[name](ONE_COLUMN[column](X))


@pytest.mark.parametrize(
    "meta",
    [
        lambda clf: BaggingClassifier(clf, n_estimators=3, random_state=0),
        OneVsOneClassifier,
    ],
    ids=["BaggingClassifier", "OneVsOneClassifier"],
)
def test_what_draws_rows_can_draw_numbers_of_sequences(meta):
    """See the workaround in docs/howto/scikit_learn.md."""
    sequences = TSEArray(X)
    look_up = FunctionTransformer(lambda rows: sequences[rows[:, 0]])
    rows = np.arange(len(X))[:, None]
    model = meta(make_pipeline(look_up, Quick())).fit(rows, Y)
    assert model.score(rows, Y) > 0.6


def test_the_documentation_names_all_of_them():
    """In the right table: that of what works, or that of what needs 2-D input."""
    text = (Path(__file__).parents[1] / "docs" / "howto" / "scikit_learn.md").read_text()
    works, refuses = text.split("## What needs 2-D input")
    for names, part in ((WORKS, works), (REFUSES, refuses)):
        for name in names:
            assert re.search(rf"`{name.partition(',')[0]}\b", part), name


SEARCHES = {
    "GridSearchCV": lambda: GridSearchCV(Quick(), GRID, cv=2),
    "HalvingGridSearchCV": lambda: HalvingGridSearchCV(
        Quick(), GRID, cv=2, min_resources=12, random_state=0
    ),
}


@pytest.fixture(scope="module")
def dask_cluster():
    """Two workers of dask in threads of this process."""
    from distributed import Client

    with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None) as it:
        yield it


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_parallel_searches_find_what_serial_ones_do(backend, search, container):
    serial = searched(SEARCHES[search](), X)
    with joblib.parallel_config(backend, n_jobs=2):
        parallel = searched(SEARCHES[search](), CONTAINERS[container](X))
    np.testing.assert_array_equal(parallel, serial)


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("search", SEARCHES)
def test_searches_on_dask_find_what_serial_ones_do(search, container, dask_cluster):
    serial = searched(SEARCHES[search](), X)
    with joblib.parallel_config("dask"):
        parallel = searched(SEARCHES[search](), CONTAINERS[container](X))
    np.testing.assert_array_equal(parallel, serial)


class Counting(TimeDifferences):
    """A transformer that counts its calls."""

    n_calls = 0

    def transform(self, X):
        Counting.n_calls += 1
        return super().transform(X)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_pipeline_with_a_memory_transforms_once(container, tmp_path, monkeypatch):
    """Results are the same as without memory."""
    monkeypatch.setattr(Counting, "n_calls", 0)
    data = CONTAINERS[container](X)
    plain = make_pipeline(TimeDifferences(), Quick()).fit(data, Y).predict_proba(data)
    memory = joblib.Memory(tmp_path, verbose=0)
    for _ in range(2):
        cached = make_pipeline(Counting(), Quick(), memory=memory).fit(data, Y)
    assert Counting.n_calls == 1
    np.testing.assert_array_equal(cached.predict_proba(data), plain)


def test_sequences_that_happen_to_be_of_one_length_are_the_same_list_of_sequences():
    equal = [np.tile(x[:3], (2, 1)) for x in X]
    expected = searched(GridSearchCV(Quick(), GRID, cv=2), equal)
    for data in (np.stack(equal), np.array(equal, dtype=object), as_objects(equal)):
        np.testing.assert_array_equal(searched(GridSearchCV(Quick(), GRID, cv=2), data), expected)


def test_features_of_frames_are_selected_inside_of_a_pipeline():
    """RFE and similar estimators cannot do this; the second feature is uninformative."""
    rng = np.random.default_rng(1)
    data = [
        np.c_[x[:, 0] + 5 * label, rng.standard_normal(len(x))]
        for x, label in zip(X, Y, strict=True)
    ]
    pipeline = make_pipeline(Framewise(SelectKBest(k=1)), Quick()).fit(data, Y)
    assert pipeline[0].get_feature_names_out().tolist() == ["x0"]
    assert pipeline.score(data, Y) == 1.0


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_frozen_model_is_not_fitted_again(container):
    data = CONTAINERS[container](X)
    clf = Quick().fit(data, Y)
    frozen = FrozenEstimator(clf).fit(data[:6], Y[:6])
    np.testing.assert_array_equal(frozen.predict_proba(data), clf.predict_proba(data))
    assert clone(frozen).estimator is clf


def weighted_search(container, weight):
    """Search with sample weights in fitting and scoring."""
    clf = Quick(batch_size=48).set_fit_request(sample_weight=True)
    clf.set_score_request(sample_weight=True)
    return searched_with(GridSearchCV(clf, GRID, cv=2), container(X), sample_weight=weight)


def searched_with(search, X, **metadata):
    search.fit(X, Y, **metadata)
    model = search.best_estimator_.centroids_.ravel()
    return np.concatenate([search.cv_results_["mean_test_score"], model])


@pytest.mark.parametrize("container", CONTAINERS)
def test_sample_weights_are_routed(container):
    weight = 1.0 + (np.arange(24) % 5)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = weighted_search(CONTAINERS[container], weight)
        expected = weighted_search(list, weight)
        unweighted = weighted_search(list, np.ones(24))
    np.testing.assert_array_equal(routed, expected)
    assert not np.allclose(routed, unweighted)
    best = Quick(batch_size=48, n_timesteps=3).fit(X, Y, weight)
    other = Quick(batch_size=48, n_timesteps=2).fit(X, Y, weight)
    assert any(np.array_equal(routed[2:], clf.centroids_.ravel()) for clf in (best, other))


def test_a_pipeline_routes_sample_weights_to_each_step():
    weight = 1.0 + (np.arange(24) % 5)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = Framewise(StandardScaler()).set_fit_request(sample_weight=True)
        clf = Quick().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(scaler, clf).fit(X, Y, sample_weight=weight)
    scaled = Framewise(StandardScaler()).fit(X, sample_weight=weight)
    expected = Quick().fit(scaled.transform(X), Y, weight)
    np.testing.assert_array_equal(pipeline[-1].centroids_, expected.centroids_)


@pytest.mark.parametrize("container", CONTAINERS)
def test_distances_come_as_a_data_frame_if_asked_for(container):
    data = CONTAINERS[container](X)
    clf = Quick().set_output(transform="pandas").fit(data, Y)
    frame = clf.transform(data)
    assert frame.columns.tolist() == [f"dejavidclassifier{i}" for i in range(3)]
    np.testing.assert_array_equal(frame.to_numpy(), Quick().fit(X, Y).transform(X))
    with sklearn.config_context(transform_output="pandas"):
        named = make_pipeline(TimeDifferences(), Quick()).fit(data, Y).transform(data)
    assert named.columns.tolist() == frame.columns.tolist()


@pytest.mark.parametrize(
    "make",
    [
        lambda: GridSearchCV(make_pipeline(Framewise(StandardScaler()), Quick()), {}, cv=2),
        lambda: StackingClassifier([("a", Quick(class_weight="balanced"))], cv=2),
        Quick,
    ],
)
def test_the_representation_names_what_is_inside_before_and_after_fitting(make):
    model = make()
    for _ in range(2):
        assert "DejaVidClassifier" in estimator_html_repr(model)
        assert "n_epochs=3" in repr(model)
        model.fit(X, Y)


@pytest.mark.fault(51)
def test_a_model_is_used_by_many_threads_at_once():
    """joblib's, with scikit-learn's configuration."""
    data = TSEArray(X)
    clf = Quick().fit(data, Y)
    with joblib.parallel_config("threading", n_jobs=4):
        answers = Parallel()(delayed(clf.predict_proba)(data) for _ in range(20))
    for answer in answers:
        np.testing.assert_array_equal(answer, clf.predict_proba(X))


def test_videos_go_through_a_pipeline():
    videos, y = make_order_videos(12, size=16, random_state=0)
    pipeline = make_pipeline(
        TSEExtractor(lambda clips: clips.mean(dim=(2, 4)).flatten(1), frame_size=None),
        Quick(),
    )
    search = GridSearchCV(pipeline, {"tseextractor__clip_length": [1, 2]}, cv=2)
    assert search.fit(videos, y).predict(videos).shape == y.shape
