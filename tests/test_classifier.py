import copy
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import reference
from sklearn.base import clone
from sklearn.exceptions import (
    ConvergenceWarning,
    DataConversionWarning,
    InconsistentVersionWarning,
    NotFittedError,
)
from sklearn.metrics import balanced_accuracy_score, log_loss, top_k_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.class_weight import compute_class_weight
from traced_memory import traced_memory

from skdejavid import (
    DejaVidClassifier,
    TimeDifferences,
    TSEArray,
    __version__,
    _base,
    _core,
    check_sequences,
    dtw_distances,
)
from skdejavid.backends.cpu_engine import CpuEngine
from skdejavid.datasets import make_event_sequences, make_order_sequences
from skdejavid.training import fitting

QUICK = {"n_epochs": 3, "n_timesteps": 4, "random_state": 0}


@pytest.fixture(scope="module")
def orders():
    """Six classes that differ only in the order of events."""
    return make_order_sequences(90, random_state=0)


@pytest.fixture(scope="module")
def fitted(orders):
    return DejaVidClassifier(random_state=0).fit(*orders)


def test_the_order_of_events_is_learned(orders):
    clf = DejaVidClassifier(random_state=0).fit(*orders)
    assert clf.score(*make_order_sequences(300, random_state=1)) >= 0.97


@pytest.mark.extras
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_defaults_reach_97_percent_on_japanese_vowels(japanese_vowels, seed):
    X_train, y_train, X_test, y_test = japanese_vowels
    clf = DejaVidClassifier(random_state=seed).fit(X_train, y_train)
    assert clf.score(X_test, y_test) >= 0.97
    top_2 = top_k_accuracy_score(y_test, clf.decision_function(X_test), k=2, labels=clf.classes_)
    assert top_2 >= clf.score(X_test, y_test)


@pytest.mark.extras
@pytest.mark.fault(27)
def test_two_classes_learn_by_default_and_not_as_published(gun_point):
    from sklearn.metrics import roc_auc_score

    X_train, y_train, X_test, y_test = gun_point
    clf = DejaVidClassifier(random_state=0).fit(X_train, y_train)
    assert clf.score(X_test, y_test) >= 0.93
    assert roc_auc_score(y_test, clf.decision_function(X_test)) >= 0.97
    with pytest.warns(UserWarning, match="logit_scaling='sample' has no gradient for 2 classes"):
        published = DejaVidClassifier(logit_scaling="sample", random_state=0).fit(X_train, y_train)
    assert published.score(X_test, y_test) < 0.80
    np.testing.assert_allclose(np.ptp(published.predict_proba(X_test)), 0.8044 - 0.1956, atol=1e-3)


def test_fitted_attributes_are_numpy_of_the_documented_shapes(fitted, orders):
    X, _ = orders
    assert fitted.classes_.tolist() == [0, 1, 2, 3, 4, 5]
    n_timesteps = min(max(int(np.median(X.lengths)) // 2, 8), 64)
    for parameter in (fitted.centroids_, fitted.log_weights_):
        assert type(parameter) is np.ndarray
        assert parameter.shape == (6, n_timesteps, 18)
        assert parameter.dtype == X.frames.dtype
    assert set(fitted.history_) == {"loss", "accuracy", "learning_rate"}
    for values in fitted.history_.values():
        assert values.shape == (fitted.n_iter_,)
    assert fitted.history_["loss"][-1] < fitted.history_["loss"][0]
    assert fitted.n_features_in_ == 6
    assert fitted.lags_ == (1, 0.1)
    assert fitted.logit_scaling_ == "global"
    assert 0 < fitted.distance_scale_ < np.inf


@pytest.mark.parametrize("logit_scaling", ["global", "sample"])
def test_all_answers_come_from_the_public_distances(logit_scaling, orders):
    X, _ = orders
    clf = DejaVidClassifier(logit_scaling=logit_scaling, **QUICK).fit(*orders)
    expanded = TimeDifferences(clf.lags_).fit_transform(X)
    distances = dtw_distances(expanded, clf.centroids_, np.exp(clf.log_weights_), diagonal=True)
    np.testing.assert_array_equal(clf.transform(X), distances)
    np.testing.assert_array_equal(clf.predict(X), distances.argmin(axis=1))
    z = -(distances - distances.mean(axis=1, keepdims=True))
    z /= (
        distances.std(axis=1, ddof=1, keepdims=True)
        if logit_scaling == "sample"
        else clf.distance_scale_
    )
    np.testing.assert_allclose(clf.decision_function(X), z, rtol=1e-6, atol=1e-9)
    probabilities = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(clf.predict_proba(X), probabilities, rtol=1e-6)


def test_two_classes_decide_by_one_number(orders):
    X, y = orders
    clf = DejaVidClassifier(**QUICK).fit(X, np.where(y < 3, "early", "late"))
    assert clf.logit_scaling_ == "global"
    distances = clf.transform(X)
    scores = (distances[:, 0] - distances[:, 1]) / clf.distance_scale_
    np.testing.assert_allclose(clf.decision_function(X), scores, rtol=1e-9)
    np.testing.assert_allclose(clf.predict_proba(X)[:, 1], 1 / (1 + np.exp(-scores)), rtol=1e-9)
    assert (clf.predict(X) == np.where(scores > 0, "late", "early")).all()


@pytest.mark.fault(36)
@pytest.mark.parametrize("order", [1, -1])
def test_a_tie_goes_to_the_first_class(order):
    clf = DejaVidClassifier(**QUICK).fit([np.zeros((3, 1)), np.ones((3, 1))], ["a", "b"][::order])
    clf.centroids_[:] = 0.0
    clf.log_weights_[:] = 0.0
    assert clf.predict([np.ones((2, 1))]) == ["a"]


@pytest.mark.fault(26)
def test_one_class_is_predicted_with_certainty(orders):
    X, _ = orders
    clf = DejaVidClassifier(**QUICK).fit(X, ["only"] * len(X))
    assert (clf.predict(X) == "only").all()
    np.testing.assert_array_equal(clf.predict_proba(X), np.ones((len(X), 1)))
    assert clf.n_iter_ == 0


@pytest.mark.parametrize(
    "labels", [["b", "a", "c"], [3, 1, 2], [2.0, 0.0, 1.0], [True, False, True], ["é", "b", "a"]]
)
def test_labels_of_any_kind_come_back(labels):
    X = [np.full((3, 2), 10.0 * i) for i in range(len(labels))]
    y = np.array(labels)
    clf = DejaVidClassifier(**QUICK).fit(X, y)
    assert clf.classes_.dtype == y.dtype
    assert clf.predict(X).tolist() == labels


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        TSEArray,
        lambda items: pd.Series(items, index=np.arange(len(items))[::-1]),
        lambda items: [x.tolist() for x in items],
    ],
    ids=["list", "tuple", "TSEArray", "Series", "nested lists"],
)
def test_the_container_changes_no_bit(convert, orders):
    X = [x.astype(np.float64) for x in orders[0]]
    expected = DejaVidClassifier(**QUICK).fit(X, orders[1])
    clf = DejaVidClassifier(**QUICK).fit(convert(X), orders[1])
    np.testing.assert_array_equal(clf.centroids_, expected.centroids_)
    np.testing.assert_array_equal(clf.transform(convert(X)), expected.transform(X))


def test_threads_and_grouping_change_no_bit(orders):
    X, y = orders
    X = [np.tile(x, 100) for x in X]  # 600 features: work for more than one thread
    one = DejaVidClassifier(n_jobs=1, **QUICK).fit(X, y)
    two = DejaVidClassifier(n_jobs=2, **QUICK).fit(X, y)
    np.testing.assert_array_equal(one.centroids_, two.centroids_)
    np.testing.assert_array_equal(one.log_weights_, two.log_weights_)
    alone = np.concatenate([one.predict_proba([x]) for x in X])
    np.testing.assert_array_equal(one.predict_proba(X), alone)


def test_the_seed_decides_and_nothing_else(orders):
    X, y = orders
    one = DejaVidClassifier(**QUICK).fit(X, y)
    same = DejaVidClassifier(**QUICK).fit(X, y)
    np.testing.assert_array_equal(one.centroids_, same.centroids_)
    other = DejaVidClassifier(**QUICK | {"random_state": 1}).fit(X, y)
    assert not np.array_equal(one.centroids_, other.centroids_)


# A value for every published variant, which must change the model.
VARIANTS = {
    "weight_init": "random",
    "learn_weights": False,
    "learn_centroids": False,
    "differences": None,
    "diagonal": False,
    "path_refresh": "epoch",
    "logit_scaling": "sample",
    "temperature": 1.0,
    "standardize": False,
    "dba_samples": 2,
    "dba_max_iter": 0,
    "learning_rate": 0.001,
    "centroid_learning_rate": 0.1,
    "batch_size": 10,
    "n_epochs": 5,
    "n_timesteps": 6,
    "early_stopping": True,
    "class_weight": {0: 3.0},
    "transform_timesteps": True,
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_a_parameter_that_changes_the_model(name, orders):
    X, y = orders
    # With such large steps paths change within an epoch.
    settings = QUICK | {"learning_rate": 0.1, "centroid_learning_rate": 0.3}
    plain = DejaVidClassifier(**settings).fit(X, y)
    variant = DejaVidClassifier(**settings | {name: VARIANTS[name]}).fit(X, y)
    assert not np.array_equal(plain.transform(X), variant.transform(X))


def reference_medoid(pool):
    ones = np.ones_like(pool[0])
    distances = [[reference.dtw_distance(x, c, ones) for x in pool] for c in pool]
    return pool[int(np.argmin(np.sum(distances, axis=1)))]


@pytest.mark.slow
def test_the_papers_mode_is_the_published_algorithm(orders):
    """From the data to the parameters after 3 epochs, against plain formulas in float64."""
    X, y = orders[0][:24].astype(np.float64), orders[1][:24]
    clf = DejaVidClassifier.paper(n_epochs=3, batch_size=10, learning_rate=0.03, random_state=0)
    clf.fit(X, y)

    centroids = []
    for label in range(6):
        pool = [reference.resample(X[i], 8) for i in np.flatnonzero(y == label)]
        centroid = reference_medoid(pool)
        for _ in range(100):
            centroid = reference.barycenter(
                pool, centroid, np.ones_like(centroid), np.ones(len(pool))
            )
        centroids.append(centroid)
    rng = np.random.RandomState(0)
    epochs = [np.split(rng.permutation(24), [10, 20]) for _ in range(3)]
    expected = reference.train(
        list(X), y, centroids, np.zeros_like(centroids), epochs, 0.03, 0.03 / 3
    )
    np.testing.assert_allclose(clf.centroids_, expected[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(clf.log_weights_, expected[1], rtol=1e-6, atol=1e-9)
    assert np.abs(clf.log_weights_).max() > 0.1


def test_frozen_parameters_stay_as_they_start(orders):
    X, y = orders
    quick = QUICK | {"standardize": False}
    weights = DejaVidClassifier(learn_weights=False, **quick).fit(X, y)
    assert (weights.log_weights_ == 0).all()
    both = DejaVidClassifier(learn_weights=False, learn_centroids=False, **quick).fit(X, y)
    assert both.n_iter_ == 0
    centroids = DejaVidClassifier(learn_centroids=False, **quick).fit(X, y)
    np.testing.assert_array_equal(both.centroids_, centroids.centroids_)
    assert (centroids.log_weights_ != 0).all()


def test_random_weights_are_standard_normal_logarithms(orders):
    X, y = orders
    clf = DejaVidClassifier(
        weight_init="random", learn_weights=False, standardize=False, n_timesteps=30, random_state=0
    ).fit(X, y)
    assert clf.log_weights_.mean() == pytest.approx(0, abs=0.1)
    assert clf.log_weights_.std() == pytest.approx(1, abs=0.1)


def test_the_units_of_the_features_do_not_matter(orders):
    """Powers of two, so that only exponents change and every path stays the same."""
    X, y = orders
    units = np.array([2.0**-9, 1, 2.0**12, 1, 2, 0.5], dtype=np.float32)
    scaled = TSEArray([x * units for x in X])
    plain = DejaVidClassifier(**QUICK).fit(X, y)
    other = DejaVidClassifier(**QUICK).fit(scaled, y)
    np.testing.assert_allclose(other.centroids_ / np.tile(units, 3), plain.centroids_, rtol=1e-5)
    np.testing.assert_allclose(other.transform(scaled), plain.transform(X), rtol=1e-5)


@pytest.mark.fault(36)
def test_constant_features_do_no_harm(orders):
    X, y = orders
    widened = [np.hstack([x, np.full((len(x), 1), 7.0)]) for x in X]
    clf = DejaVidClassifier(**QUICK).fit(widened, y)
    assert np.isfinite(clf.transform(widened)).all()
    assert clf.centroids_[:, :, 6] == pytest.approx(7.0, abs=0.1)


def test_differences_are_those_of_the_transformer(orders):
    X, y = orders
    inside = DejaVidClassifier(differences=[2, 0.3], **QUICK).fit(X, y)
    outside = DejaVidClassifier(differences=None, **QUICK)
    expanded = TimeDifferences(lags=[2, 0.3]).fit_transform(X)
    np.testing.assert_array_equal(inside.transform(X), outside.fit(expanded, y).transform(expanded))
    assert inside.lags_ == (2, 0.3)
    assert inside.n_features_in_ == 6
    assert outside.lags_ == ()


def test_large_data_are_compared_without_differences(orders, monkeypatch):
    X, y = orders
    monkeypatch.setattr(fitting, "_MOST_NUMBERS_TO_DIFFER", X.frames.size - 1)
    message = rf"because X has {X.frames.size:,} numbers: set differences=\(1, 0.1\)"
    with pytest.warns(UserWarning, match=message) as caught:
        assert DejaVidClassifier(**QUICK).fit(X, y).lags_ == ()
    assert [warning.filename for warning in caught] == [__file__]
    assert DejaVidClassifier(differences=None, **QUICK).fit(X, y).lags_ == ()
    monkeypatch.setattr(fitting, "_MOST_NUMBERS_TO_DIFFER", X.frames.size)
    assert DejaVidClassifier(**QUICK).fit(X, y).lags_ == (1, 0.1)
    # A sequence without weight does not count.
    longer, weight = TSEArray([*X, X[0]]), [1] * len(X) + [0]
    assert DejaVidClassifier(**QUICK).fit(longer, [*y, y[0]], weight).lags_ == (1, 0.1)


@pytest.mark.fault(33)
def test_lags_that_are_no_spans_of_time_are_named(orders):
    with pytest.raises(ValueError, match=r"differences\[1\] must be an int of at least 1"):
        DejaVidClassifier(differences=(1, -1), **QUICK).fit(*orders)


def test_the_papers_parameters_can_be_asked_for():
    clf = DejaVidClassifier.paper(learning_rate=0.008, random_state=3)
    assert clf.get_params() == {
        "n_timesteps": 8,
        "differences": None,
        "weight_init": "ones",
        "learn_weights": True,
        "learn_centroids": True,
        "diagonal": False,
        "path_refresh": "epoch",
        "logit_scaling": "sample",
        "temperature": 0.5,
        "standardize": False,
        "dba_samples": 50,
        "dba_max_iter": 100,
        "learning_rate": 0.008,
        "centroid_learning_rate": None,
        "batch_size": 48,
        "n_epochs": 36,
        "early_stopping": False,
        "validation_fraction": 0.1,
        "n_iter_no_change": 20,
        "class_weight": None,
        "transform_timesteps": False,
        "warm_start": False,
        "device": "auto",
        "half_storage": False,
        "checkpoint_dir": None,
        "max_time": None,
        "n_jobs": None,
        "random_state": 3,
        "verbose": 0,
    }


@pytest.mark.parametrize(
    ("lengths", "n_timesteps"), [([4, 5, 6], 8), ([30, 40, 50], 20), ([50, 400, 500], 64)]
)
def test_auto_time_steps_are_half_the_median_length_within_bounds(lengths, n_timesteps):
    X = [np.random.default_rng(n).standard_normal((n, 1)) for n in lengths]
    clf = DejaVidClassifier(n_epochs=1).fit(X, [0, 0, 1])
    assert clf.centroids_.shape == (2, n_timesteps, 3)


@pytest.mark.parametrize(("batch_size", "n_epochs"), [(90, 600), (10, 67), (1, 36)])
def test_auto_epochs_make_600_steps_or_36_epochs(batch_size, n_epochs, orders):
    clf = DejaVidClassifier(n_timesteps=1, batch_size=batch_size, random_state=0).fit(*orders)
    assert clf.n_iter_ == n_epochs


def test_sample_weights_count_as_repetitions(orders):
    X, y = orders[0][:30].astype(np.float64), orders[1][:30]
    weight = np.arange(30) % 3
    weighted = DejaVidClassifier(batch_size=60, **QUICK).fit(X, y, sample_weight=weight)
    order = np.repeat(np.arange(30), weight)
    repeated = DejaVidClassifier(batch_size=60, **QUICK).fit(X[order], y[order])
    np.testing.assert_allclose(weighted.centroids_, repeated.centroids_, rtol=1e-7, atol=1e-9)
    ones = DejaVidClassifier(**QUICK).fit(X, y, sample_weight=np.ones(30))
    none = DejaVidClassifier(**QUICK).fit(X, y)
    np.testing.assert_array_equal(ones.centroids_, none.centroids_)


@pytest.fixture(scope="module")
def imbalanced():
    """Two classes of curves that overlap, nine of the first to one of the second."""

    def draw(n_often, n_rarely, seed):
        rng = np.random.default_rng(seed)
        y = np.repeat([0, 1], [n_often, n_rarely])
        time = np.linspace(0, np.pi, 20)
        return [(0.5 * label * np.sin(time) + rng.standard_normal(20))[:, None] for label in y], y

    return *draw(180, 20, 0), *draw(200, 200, 1)


def test_balanced_classes_raise_the_balanced_accuracy(imbalanced):
    X, y, X_test, y_test = imbalanced
    settings = {"n_timesteps": 4, "n_epochs": 20, "differences": None, "random_state": 0}
    plain = DejaVidClassifier(**settings).fit(X, y)
    balanced = DejaVidClassifier(class_weight="balanced", **settings).fit(X, y)
    scores = [balanced_accuracy_score(y_test, clf.predict(X_test)) for clf in (plain, balanced)]
    assert scores[1] > scores[0] + 0.1


def test_balancing_counts_sample_weights_as_repetitions(orders):
    y = np.repeat([0, 1, 2], [15, 9, 6])
    X = orders[0][np.argsort(orders[1], kind="stable")][:30].astype(np.float64)
    weight = np.arange(30) % 3  # the same mean in all classes, so that repetitions keep margins
    settings = QUICK | {"batch_size": 60, "class_weight": "balanced"}
    weighted = DejaVidClassifier(**settings).fit(X, y, sample_weight=weight)
    order = np.repeat(np.arange(30), weight)
    repeated = DejaVidClassifier(**settings).fit(X[order], y[order])
    np.testing.assert_allclose(weighted.centroids_, repeated.centroids_, rtol=1e-7, atol=1e-9)


@pytest.mark.fault(102)
def test_class_weights_are_sample_weights(orders):
    X, y = orders[0][:70], orders[1][:70]  # not as many of each class
    assert len(set(np.bincount(y))) > 1
    weight = np.linspace(1, 2, len(y))
    by_class = DejaVidClassifier(class_weight={0: 2.0, 3: 0.5}, **QUICK).fit(X, y, weight)
    factors = np.array([2.0, 1.0, 1.0, 0.5, 1.0, 1.0])[y]
    by_sample = DejaVidClassifier(**QUICK).fit(X, y, weight * factors)
    np.testing.assert_array_equal(by_class.centroids_, by_sample.centroids_)
    np.testing.assert_array_equal(by_class.log_weights_, by_sample.log_weights_)
    assert by_class.distance_scale_ == by_sample.distance_scale_


@pytest.mark.fault(102)
@pytest.mark.parametrize("class_weight", ["balanced", dict.fromkeys(range(6), 0.5)], ids=str)
def test_equal_classes_are_weighted_without_changing_a_bit(class_weight, orders):
    X, y = orders[0][:60], np.arange(60) % 6
    plain = DejaVidClassifier(**QUICK).fit(X, y)
    weighted = DejaVidClassifier(class_weight=class_weight, **QUICK).fit(X, y)
    np.testing.assert_array_equal(weighted.centroids_, plain.centroids_)
    np.testing.assert_array_equal(weighted.log_weights_, plain.log_weights_)
    assert weighted.distance_scale_ == plain.distance_scale_


@pytest.mark.fault(102)
@pytest.mark.parametrize(
    ("class_weight", "sample_weight"),
    [({0: 100.0}, None), ({0: 1e-12}, None), ("balanced", np.r_[100.0, np.ones(59)])],
    ids=["large", "small", "balanced"],
)
def test_weights_alone_do_not_keep_classes_from_learning(class_weight, sample_weight):
    """All classes have as many sequences, so none is rare, whatever its weight."""
    X, y = make_order_sequences(60, random_state=0)
    clf = DejaVidClassifier(n_epochs=20, class_weight=class_weight, random_state=0)
    clf.fit(X, y, sample_weight)
    counts = y != 0 if class_weight == {0: 1e-12} else np.full(60, True)
    assert clf.score(X[counts], y[counts]) == 1


def test_balanced_classes_have_the_weights_of_a_dict(orders):
    X, y = orders[0].astype(np.float64), np.minimum(orders[1], 2)
    settings = QUICK | {"learn_weights": False, "learn_centroids": False}
    weights = compute_class_weight("balanced", classes=np.arange(3), y=y)
    by_number = DejaVidClassifier(class_weight=dict(enumerate(weights)), **settings).fit(X, y)
    by_name = DejaVidClassifier(class_weight="balanced", **settings).fit(X, y)
    np.testing.assert_allclose(by_name.centroids_, by_number.centroids_, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.fault(102)
def test_a_class_of_20_among_1000_is_recognized():
    scores = []
    for seed in range(2):
        X, y = make_event_sequences(1020, weights=[1000, 20], random_state=seed)
        X_test, y_test = make_event_sequences(1000, random_state=100 + seed)
        clf = DejaVidClassifier(class_weight="balanced", random_state=0).fit(X, y)
        scores.append(balanced_accuracy_score(y_test, clf.predict(X_test)))
        assert log_loss(y_test, clf.predict_proba(X_test)) < np.log(2)
    assert np.mean(scores) >= 0.75


STOPPING = QUICK | {"early_stopping": True, "validation_fraction": 0.4, "n_iter_no_change": 5}


def split_of(y):
    """Return the indices that fits with `STOPPING` learn from and hold out."""
    split = StratifiedShuffleSplit(1, test_size=0.4, random_state=np.random.RandomState(0))
    ((learned, held_out),) = split.split(y, y)
    return np.sort(learned), np.sort(held_out)


def test_early_stopping_keeps_what_is_best_for_the_held_out_part(orders):
    X, y = orders
    clf = DejaVidClassifier(**STOPPING | {"n_epochs": 60}).fit(X, y)
    losses = clf.history_["validation_loss"]
    assert clf.best_iter_ == losses.argmin() + 1
    assert clf.n_iter_ == len(losses) in (60, clf.best_iter_ + 5)
    _, held_out = split_of(y)
    np.testing.assert_allclose(
        log_loss(y[held_out], clf.predict_proba(X[held_out])), losses.min(), rtol=1e-5
    )
    np.testing.assert_allclose(
        clf.score(X[held_out], y[held_out]), clf.history_["validation_accuracy"][losses.argmin()]
    )


def test_nothing_is_learned_from_the_held_out_part(orders):
    X, y = orders
    other = list(X)
    for i in split_of(y)[1]:
        other[i] = 9 * other[i][::-1] + 1
    plain, changed = (
        DejaVidClassifier(**STOPPING).fit(sequences, y).history_ for sequences in (X, other)
    )
    np.testing.assert_array_equal(plain["loss"], changed["loss"])
    assert not np.allclose(plain["validation_loss"], changed["validation_loss"])


@pytest.mark.fault(29)
@pytest.mark.parametrize(
    ("counts", "fraction"), [((2, 2, 2), 0.1), ((38, 2), 0.9), ((2, 38), 0.9), ((20, 16, 4), 0.9)]
)
def test_too_few_sequences_to_hold_some_out_is_said(counts, fraction, rng):
    X, y = rng.standard_normal((sum(counts), 9, 1)), np.repeat(np.arange(len(counts)), counts)
    clf = DejaVidClassifier(early_stopping=True, validation_fraction=fraction, **QUICK)
    message = f"early_stopping cannot hold out validation_fraction={fraction} of {len(y)} sequences"
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y)


@pytest.mark.fault(29)
@pytest.mark.parametrize("dtype", [str, object])
def test_a_class_of_one_sequence_is_named_when_some_are_held_out(dtype, rng):
    X, y = rng.standard_normal((10, 9, 1)), np.array(["a"] * 5 + ["b"] * 4 + ["c"], dtype)
    with pytest.raises(ValueError, match="of 10 sequences: class 'c' has only one"):
        DejaVidClassifier(early_stopping=True, **QUICK).fit(X, y)


@pytest.mark.fault(28)
def test_a_class_of_one_sequence_is_learned_and_folds_are_counted_by_scikit_learn(rng):
    X = [rng.standard_normal((n_frames, 2)) for n_frames in range(3, 15)]
    y = ["often"] * 11 + ["once"]
    clf = DejaVidClassifier(**QUICK | {"n_epochs": 20}).fit(X, y)
    assert clf.predict(X).tolist() == y
    with pytest.raises(ValueError, match="n_splits=5 cannot be greater than the number of members"):
        cross_val_score(DejaVidClassifier(**QUICK), X, np.arange(12), cv=5)


@pytest.mark.fault(34)
@pytest.mark.parametrize("n_timesteps", [10**7, 10**9, 2**31, 2**62])
def test_absurdly_many_time_steps_are_refused_before_anything_is_allocated(n_timesteps, orders):
    X, y = orders
    clf = DejaVidClassifier(n_timesteps=n_timesteps)
    with (
        traced_memory() as traced,
        pytest.raises(ValueError, match=f"n_timesteps={n_timesteps} needs at least .* GB"),
    ):
        clf.fit(X, y)
    assert traced.peak < 2**24


@pytest.mark.fault(34, 113)
@pytest.mark.parametrize("dba_max_iter", [100, 0])
def test_the_memory_that_time_steps_need_is_said(dba_max_iter, monkeypatch):
    """It is that of 10 arrays of 2 x 1e7 x 6 float64 numbers, and of the paths of one sequence.

    Sequences that centroids are the barycenters of have as many frames as these.
    """
    monkeypatch.setattr(fitting, "memory_of_machine", lambda: 2.0**33)
    sizes = {"n_timesteps": 10**7, "n_features": 6, "n_threads": 1}
    paths_bytes = _core.ProblemFloat64.paths_bytes
    paths = paths_bytes(n_frames=5, n_centroids=2, **sizes)
    if dba_max_iter:
        paths = paths_bytes(n_frames=10**7, n_centroids=1, **sizes)
        assert 2e11 < paths < 4e11
    n_gigabytes = 9.6 + paths / 1e9
    X = np.random.default_rng(0).standard_normal((4, 5, 2))
    clf = DejaVidClassifier(n_timesteps=10**7, dba_max_iter=dba_max_iter, n_jobs=1)
    message = "for 2 classes, 6 features and sequences of up to 5 frames, this machine has 8.59 GB"
    with pytest.raises(ValueError, match=message) as error:
        clf.fit(X, [0, 1, 0, 1])
    said = float(str(error.value).split("at least ")[1].split(" GB")[0])
    assert said == pytest.approx(n_gigabytes, rel=0.01)


@pytest.mark.fault(34)
def test_a_sequence_may_be_absurdly_long(rng):
    long = np.broadcast_to(np.float32(1.0), (10**6, 1))
    X = [long, np.zeros((5, 1), np.float32), long + np.float32(1.0), np.zeros((9, 1), np.float32)]
    clf = DejaVidClassifier(differences=None, **QUICK).fit(X, [1, 0, 1, 0])
    assert clf.predict(X).tolist() == [1, 0, 1, 0]


@pytest.mark.fault(36)
@pytest.mark.parametrize("differences", [None, "auto"])
@pytest.mark.parametrize("standardize", [True, False])
def test_sequences_that_are_all_the_same_give_finite_ties(differences, standardize):
    clf = DejaVidClassifier(differences=differences, standardize=standardize, **QUICK)
    with pytest.warns(UserWarning, match="all frames of X are equal: nothing can be learned"):
        clf.fit([np.ones((4, 2))] * 6, ["b", "a", "c"] * 2)
    assert np.isfinite(clf.centroids_).all()
    assert np.isfinite(clf.transform([np.ones((7, 2))])).all()
    clf.centroids_[:] = clf.centroids_[:1]
    clf.log_weights_[:] = clf.log_weights_[:1]
    assert clf.predict([np.ones((7, 2))]).tolist() == ["a"]
    np.testing.assert_allclose(clf.predict_proba([np.zeros((3, 2))]), 1 / 3)


@pytest.mark.fault(39)
def test_reaching_the_last_epoch_is_no_reason_to_warn(orders):
    """Any warning is an error in these tests."""
    clf = DejaVidClassifier(**QUICK | {"n_epochs": 1}).fit(*orders)
    assert clf.n_iter_ == 1
    stopping = DejaVidClassifier(early_stopping=True, **QUICK | {"n_epochs": 1}).fit(*orders)
    assert (stopping.n_iter_, stopping.best_iter_) == (1, 1)


@pytest.mark.fault(38)
def test_divergence_keeps_the_last_good_parameters_and_warns(orders):
    """Each epoch has one batch; after the second step distances are about 1e30 x exp(80)."""
    settings = {"batch_size": 90, "learning_rate": 40.0, "centroid_learning_rate": 1e30}
    message = r"overflow in epoch 2, .*: lower learning_rate \(now 40.0\)"
    with pytest.warns(ConvergenceWarning, match=message):
        clf = DejaVidClassifier(**QUICK | settings).fit(*orders)
    assert clf.n_iter_ == 1
    assert np.isfinite(clf.transform(orders[0])).all()
    message = r"overflow in epoch 1: lower learning_rate \(now 1e\+30\)"
    with pytest.raises(RuntimeError, match=message):
        DejaVidClassifier(**QUICK | settings | {"learning_rate": 1e30}).fit(*orders)


def test_parts_of_distances_add_up_to_them(fitted, orders):
    X, _ = orders
    in_parts = copy.copy(fitted).set_params(transform_timesteps=True)
    parts = in_parts.transform(X)
    n_classes, n_timesteps, _ = fitted.centroids_.shape
    assert parts.shape == (len(X), n_classes * n_timesteps)
    assert len(in_parts.get_feature_names_out()) == n_classes * n_timesteps
    np.testing.assert_allclose(
        parts.reshape(len(X), n_classes, -1).sum(axis=2), fitted.transform(X), rtol=1e-6
    )
    np.testing.assert_array_equal(in_parts.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.fault(31)
def test_a_class_without_weight_is_left_out_with_a_warning(orders):
    X, y = orders
    with pytest.warns(UserWarning, match=r"all samples of class .*4.* have zero weight"):
        clf = DejaVidClassifier(**QUICK).fit(X, y, sample_weight=(y != 4).astype(float))
    assert clf.classes_.tolist() == [0, 1, 2, 3, 5]


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        (np.ones(5), r"sample_weight.shape == \(5,\), expected \(90,\)!"),
        (-np.ones(90), "Negative values in data passed to `sample_weight`"),
        (np.full(90, np.nan), "Input sample_weight contains NaN"),
        (np.zeros(90), "at least one non-zero number"),
    ],
)
def test_bad_sample_weights_are_refused(sample_weight, message, orders):
    with pytest.raises(ValueError, match=message):
        DejaVidClassifier(**QUICK).fit(*orders, sample_weight=sample_weight)


@pytest.mark.fault(21, 22, 23, 24, 25)
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "DejaVidClassifier estimator requires y to be passed, but the target y is None"),
        (np.linspace(0, 1, 90), "Unknown label type: continuous"),
        (np.array([np.nan] + [1.0] * 89), "Input y contains NaN"),
        (np.zeros((90, 2)), "y should be a 1d array"),
        (np.zeros(89), r"samples: \[90, 89\]\. y must have one label for each sequence of X\.$"),
    ],
)
def test_bad_targets_are_refused(y, message, orders):
    with pytest.raises(ValueError, match=message):
        DejaVidClassifier(**QUICK).fit(orders[0], y)


@pytest.mark.fault(24)
def test_a_column_of_targets_is_read_with_a_warning(orders):
    X, y = orders
    with pytest.warns(DataConversionWarning):
        clf = DejaVidClassifier(**QUICK).fit(X, y[:, None])
    assert clf.predict(X).shape == y.shape


@pytest.mark.filterwarnings("ignore:X is a 2-D array, and each")
@pytest.mark.fault(10)
def test_one_bare_sequence_taken_for_many_gets_a_hint():
    with pytest.raises(ValueError, match=r"samples: \[9, 1\]\. A 2-D array is read .* as \[x\]"):
        DejaVidClassifier().fit(np.zeros((9, 3)), [1])


BAD_PARAMETERS = [
    ("n_timesteps", 0),
    ("n_timesteps", "long"),
    ("differences", "none"),
    ("weight_init", "zeros"),
    ("path_refresh", "never"),
    ("logit_scaling", "auto"),
    ("dba_samples", 0),
    ("dba_max_iter", -1),
    ("learning_rate", 0.0),
    ("centroid_learning_rate", -1.0),
    ("batch_size", 0),
    ("n_epochs", 0),
    ("n_epochs", 1.5),
    ("diagonal", "yes"),
    ("device", None),
    ("half_storage", "yes"),
    ("checkpoint_dir", 5),
    ("max_time", 0),
    ("learn_weights", 2),
    ("learn_centroids", "no"),
    ("temperature", 0),
    ("standardize", "auto"),
    ("early_stopping", "yes"),
    ("validation_fraction", 1.0),
    ("n_iter_no_change", 0),
    ("class_weight", "even"),
    ("class_weight", [1, 2]),
    ("transform_timesteps", None),
    ("warm_start", "yes"),
    ("n_jobs", "all"),
    ("random_state", "zero"),
    ("verbose", -1),
]


@pytest.mark.fault(33)
def test_every_parameter_has_a_bad_value_here():
    assert {name for name, _ in BAD_PARAMETERS} == set(DejaVidClassifier().get_params())


@pytest.mark.fault(32, 33)
@pytest.mark.parametrize(("parameter", "value"), BAD_PARAMETERS)
def test_parameters_are_checked_when_fitting_and_not_before(parameter, value, orders):
    clf = DejaVidClassifier(**{parameter: value})
    with pytest.raises(InvalidParameterError) as error:
        clf.fit(*orders)
    said = str(error.value)
    assert said.startswith(f"The '{parameter}' parameter of DejaVidClassifier must be ")
    assert said.endswith(f" Got {value!r} instead.")
    with pytest.raises(InvalidParameterError, match=f"The '{parameter}' parameter"):
        DejaVidClassifier().set_params(**{parameter: value}).fit(*orders)


def test_cuda_that_is_not_there_is_an_error(orders):
    with pytest.raises(RuntimeError, match="device='cuda' cannot be used"):
        DejaVidClassifier(device="cuda", **QUICK).fit(*orders)


@pytest.mark.fault(40)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "transform"])
def test_predicting_needs_fitting_first(method, orders):
    with pytest.raises(NotFittedError, match="DejaVidClassifier"):
        getattr(DejaVidClassifier(), method)(orders[0])


@pytest.mark.fault(57)
@pytest.mark.parametrize("attribute", ["centroids_", "log_weights_"])
@pytest.mark.parametrize("part", [np.s_[:, :, :2], np.s_[:, :2], np.s_[:2], np.s_[0]])
def test_edited_attributes_cannot_lead_out_of_bounds(attribute, part, fitted, orders):
    clf = copy.copy(fitted)
    setattr(clf, attribute, getattr(clf, attribute)[part])
    with pytest.raises(ValueError, match=r"features|shape|3-D"):
        clf.predict(orders[0])


@pytest.mark.fault(41)
def test_a_fit_that_fails_changes_nothing(orders):
    X, y = orders
    clf = DejaVidClassifier(**QUICK).fit(X, y)
    before = {name: value for name, value in vars(clf).items() if name.endswith("_")}
    wider = [np.hstack([x, x]) for x in X]
    clf.set_params(learning_rate=1e6)
    with pytest.raises(RuntimeError, match="lower learning_rate"):
        clf.fit(wider, y)
    assert {name: value for name, value in vars(clf).items() if name.endswith("_")} == before
    assert clf.predict(X).shape == y.shape


@pytest.mark.fault(41)
def test_a_first_fit_that_fails_leaves_it_unfitted(orders):
    X, y = orders
    clf = DejaVidClassifier(**QUICK | {"learning_rate": 1e6})
    with pytest.raises(RuntimeError, match="lower learning_rate"):
        clf.fit(X, y)
    with pytest.raises(NotFittedError):
        clf.predict(X)


def test_a_narrow_model_computes_in_its_own_precision(fitted, orders):
    """One wide sequence among narrow ones must not change the others' bits."""
    X, _ = orders
    assert fitted.centroids_.dtype == np.float32
    mixed = [x.astype(np.float64) if i % 2 else x for i, x in enumerate(X)]
    np.testing.assert_array_equal(fitted.transform(mixed), fitted.transform(X))


@pytest.mark.fault(19)
def test_data_is_left_as_it_was(orders):
    X, y = orders
    before, targets = X.frames.copy(), y.copy()
    X.frames.flags.writeable = y.flags.writeable = False
    DejaVidClassifier(**QUICK).fit(X, y).predict(X)
    np.testing.assert_array_equal(X.frames, before)
    np.testing.assert_array_equal(y, targets)


@pytest.mark.fault(20)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_data_that_another_thread_changes_meanwhile_crashes_nothing(orders, monkeypatch):
    """The result is undefined (values or an error); the next call is not affected."""
    X, y = copy.deepcopy(orders[0]), orders[1]
    clean = orders[0].frames
    model = DejaVidClassifier(**QUICK | {"differences": None, "n_jobs": 2, "n_epochs": 20})
    expected = clone(model).fit(X, y).transform(X)
    is_checked, is_done, n_changes, outcomes = threading.Event(), threading.Event(), 0, []

    def check_and_release(*arguments, **options):
        checked = check_sequences(*arguments, **options)
        assert np.shares_memory(checked.frames, X.frames)
        is_checked.set()
        return checked

    def scribble():
        nonlocal n_changes
        generator = np.random.default_rng(0)
        while not is_done.is_set():
            if is_checked.wait(0.01):
                rows = generator.integers(0, len(clean), 50)
                X.frames[rows] = generator.choice([np.nan, np.inf, -3e38, 0.0, 1e-40])
                n_changes += 1

    monkeypatch.setattr(_base, "check_sequences", check_and_release)
    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        for _ in range(20):
            is_checked.clear()
            X.frames[:] = clean
            try:
                outcomes.append(clone(model).fit(X, y).transform(X).shape)
            except (ValueError, RuntimeError) as error:
                outcomes.append(type(error))
    finally:
        is_done.set()
        thread.join()
    assert set(outcomes) <= {expected.shape, ValueError, RuntimeError}
    assert n_changes > 20
    X.frames[:] = clean
    np.testing.assert_array_equal(clone(model).fit(X, y).transform(X), expected)


@pytest.mark.slow
def test_a_pickle_predicts_without_torch(fitted, orders, tmp_path):
    X, _ = orders
    (tmp_path / "model.pickle").write_bytes(pickle.dumps((fitted, X)))
    code = (
        "import pickle, sys\n"
        "clf, X = pickle.load(open('model.pickle', 'rb'))\n"
        "print(clf.predict(X).tolist())\n"
        "assert 'torch' not in sys.modules\n"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
    assert printed.strip() == str(fitted.predict(X).tolist())


def test_cloning_forgets_what_was_learned(fitted, orders):
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(orders[0])


def test_columns_of_the_transformation_have_names(fitted, orders):
    names = fitted.get_feature_names_out()
    assert names.tolist() == [f"dejavidclassifier{k}" for k in range(6)]
    frame = clone(fitted).set_params(**QUICK).set_output(transform="pandas").fit(*orders)
    assert frame.transform(orders[0]).columns.tolist() == names.tolist()


def test_progress_is_shown_only_when_asked_for(orders, capsys):
    DejaVidClassifier(**QUICK).fit(*orders)
    assert capsys.readouterr() == ("", "")
    DejaVidClassifier(verbose=1, **QUICK).fit(*orders)
    shown = capsys.readouterr().err
    assert "centroids" in shown
    assert "epochs" in shown
    assert "loss=" in shown


@pytest.mark.fault(27, 31)
def test_warnings_point_to_the_line_that_fits(orders):
    X, y = orders
    with pytest.warns(UserWarning, match="zero weight") as caught:
        DejaVidClassifier(**QUICK).fit(X, y, sample_weight=y > 0)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="no gradient for 2 classes") as caught:
        DejaVidClassifier(logit_scaling="sample", **QUICK).fit(X, y > 2)
    assert caught[0].filename == __file__
    with pytest.warns(ConvergenceWarning, match="max_time") as caught:
        DejaVidClassifier(max_time=1e-9, **QUICK).fit(X, y)
    assert [warning.filename for warning in caught] == [__file__]
    steps = {"batch_size": 90, "learning_rate": 40.0, "centroid_learning_rate": 1e30}
    with pytest.warns(ConvergenceWarning, match="overflow") as caught:
        DejaVidClassifier(**QUICK | steps).fit(X, y)
    assert [warning.filename for warning in caught] == [__file__]


def test_auto_time_steps_follow_sample_weights():
    X = [np.random.default_rng(n).standard_normal((n, 1)) for n in (20, 30, 60)]
    clf = DejaVidClassifier(n_epochs=1).fit(X, [0, 1, 1], sample_weight=[1, 1, 5])
    assert clf.centroids_.shape == (2, 30, 3)


@pytest.mark.parametrize("unit", [1e-300, 1 / 90, 1e16, 1e300])
def test_the_unit_of_sample_weights_does_not_matter(unit, orders):
    X, y = orders
    X = [np.hstack([x, np.full((len(x), 1), 7.3)]) for x in X]
    plain = DejaVidClassifier(**QUICK).fit(X, y)
    weighted = DejaVidClassifier(**QUICK).fit(X, y, sample_weight=np.full(90, unit))
    np.testing.assert_allclose(weighted.transform(X), plain.transform(X), rtol=1e-6)


@pytest.mark.fault(37)
def test_values_that_overflow_are_named_when_fitting_and_predicting(fitted, orders):
    X, y = list(orders[0]), orders[1]
    X[7] = X[7].astype(np.float64) * 1e200
    with pytest.raises(ValueError, match=r"X\[7\] .* overflow"):
        DejaVidClassifier(**QUICK).fit(X, y)
    with pytest.raises(ValueError, match=r"the distance of X\[7\] overflows"):
        fitted.predict(X)


@pytest.mark.fault(57)
@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("centroids_", "none"),
        ("lags_", (0,)),
        ("log_weights_", np.array([["a"]])),
        ("logit_scaling_", "other"),
        ("distance_scale_", np.nan),
    ],
)
def test_an_edited_attribute_is_named(attribute, value, fitted, orders):
    clf = copy.copy(fitted)
    setattr(clf, attribute, value)
    with pytest.raises(ValueError, match=attribute):
        clf.predict_proba(orders[0])


@pytest.mark.fault(33)
def test_parameters_set_after_fitting_are_checked_as_well(fitted, orders):
    clf = copy.copy(fitted).set_params(diagonal="no")
    with pytest.raises(ValueError, match="The 'diagonal' parameter of DejaVidClassifier must"):
        clf.predict(orders[0])


@pytest.mark.fault(53)
def test_pickles_of_another_version_warn(orders):
    clf = DejaVidClassifier(**QUICK).fit(*orders)
    state = clf.__getstate__()
    assert state["_skdejavid_version"] == __version__
    again = pickle.loads(pickle.dumps(clf))
    assert "_skdejavid_version" not in vars(again)
    np.testing.assert_array_equal(again.predict(orders[0]), clf.predict(orders[0]))
    del state["_skdejavid_version"]
    for named, version in (({"_skdejavid_version": "0.0.1"}, "0.0.1"), ({}, "unknown")):
        with pytest.warns(InconsistentVersionWarning, match=f"version {version} of skdejavid"):
            DejaVidClassifier().__setstate__(state | named)


GOLDEN = Path(__file__).parent / "golden"


def golden_data():
    rng = np.random.default_rng(0)
    X = TSEArray([rng.standard_normal((n, 2)).astype(np.float32) for n in range(3, 15)])
    return X, np.array(["a", "b", "c"])[np.arange(12) % 3]


# A pickle of another version of scikit-learn warns, which is not tested here.
@pytest.mark.filterwarnings(
    "ignore:Trying to unpickle:sklearn.exceptions.InconsistentVersionWarning"
)
@pytest.mark.fault(53)
@pytest.mark.parametrize("old_scaling", ["global", "layer"])
@pytest.mark.parametrize("suffix", ["pickle", "safetensors"])
def test_models_from_before_the_renaming_load_and_give_the_same_probabilities(suffix, old_scaling):
    path = GOLDEN / f"classifier-0.1.0-{old_scaling}.{suffix}"
    clf = pickle.loads(path.read_bytes()) if suffix == "pickle" else DejaVidClassifier.load(path)
    X, _ = golden_data()
    expected = np.load(GOLDEN / f"classifier-0.1.0-{old_scaling}-probabilities.npy")
    # Instruction sets sum the float32 terms of a distance in different orders, some ten; the
    # exponents of two probabilities that are divided are distances times about ten.
    rtol = 2 * 10 * 10 * np.finfo(np.float32).eps / 2
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=rtol)
    scaling = {"global": "global", "layer": "sample"}[old_scaling]
    assert clf.logit_scaling == clf.logit_scaling_ == scaling
    assert (clf.n_iter_, clf.n_timesteps_) == (2, clf.centroids_.shape[1])
    assert not [name for name in vars(clf) if "normaliz" in name]
    assert clone(clf).get_params() == clf.get_params()


def test_sequences_from_before_the_renaming_load():
    X, _ = golden_data()
    stored = pickle.loads((GOLDEN / "sequences-0.1.0.pickle").read_bytes())
    assert isinstance(stored, TSEArray)
    np.testing.assert_array_equal(stored.frames, X.frames, strict=True)
    np.testing.assert_array_equal(stored.offsets, X.offsets)


WARM = QUICK | {"warm_start": True}


def test_a_warm_start_goes_on_where_the_fit_ended(orders):
    X, y = orders
    clf = DejaVidClassifier(**WARM).fit(X, y)
    cold = DejaVidClassifier(**QUICK).fit(X, y)
    np.testing.assert_array_equal(clf.centroids_, cold.centroids_)
    before = clf.centroids_.copy(), clf.log_weights_.copy(), clf.distance_scale_
    clf.set_params(learn_weights=False, learn_centroids=False).fit(X, y)  # takes no step
    np.testing.assert_array_equal(clf.centroids_, before[0])
    np.testing.assert_allclose(clf.log_weights_, before[1], rtol=0, atol=1e-6)
    assert clf.distance_scale_ == before[2]
    clf.set_params(learn_weights=True, learn_centroids=True, n_epochs=2, batch_size=90).fit(X, y)
    loss = log_loss(y, cold.predict_proba(X))
    assert clf.history_["loss"][0] == pytest.approx(loss, rel=1e-5)  # before its only batch
    assert clf.n_iter_ == 2
    cold.fit(X, y)
    np.testing.assert_array_equal(cold.centroids_, before[0])


def test_a_warm_start_reads_the_fitted_attributes_and_leaves_the_old_arrays(orders):
    X, y = orders
    clf = DejaVidClassifier(**WARM).fit(X, y)
    old = clf.centroids_
    values = old.copy()
    clf.fit(X, y)
    np.testing.assert_array_equal(old, values)
    assert not np.array_equal(clf.centroids_, values)
    clf.log_weights_ = clf.log_weights_[:, :, :2]
    with pytest.raises(ValueError, match=r"shape|features"):
        clf.fit(X, y)


def test_a_warm_start_learns_from_other_data_in_their_precision(orders):
    X, y = orders
    clf = DejaVidClassifier(**WARM).fit(X[:60], y[:60])
    lags, n_timesteps = clf.lags_, clf.centroids_.shape[1]
    clf.fit(X[30:].astype(np.float64), y[30:])
    assert clf.centroids_.dtype == np.float64
    assert (clf.lags_, clf.centroids_.shape[1]) == (lags, n_timesteps)


def test_automatic_choices_stay_in_a_warm_start(orders):
    X, y = orders
    clf = DejaVidClassifier(n_epochs=1, warm_start=True, random_state=0).fit(X, y)
    n_timesteps = clf.centroids_.shape[1]
    clf.fit([np.repeat(x, 3, axis=0) for x in X], y)
    assert clf.centroids_.shape[1] == n_timesteps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_timesteps": 5}, "same n_timesteps as the previous fit, 4, got 5: set warm_start"),
        ({"differences": [2]}, r"same differences as .* fit, \(1, 0.1\), got \(2,\)"),
        ({"differences": None}, r"same differences as .* fit, \(1, 0.1\), got \(\)"),
    ],
)
def test_a_warm_start_with_other_parameters_is_refused(change, message, orders):
    clf = DejaVidClassifier(**WARM).fit(*orders).set_params(**change)
    with pytest.raises(ValueError, match=message):
        clf.fit(*orders)


def test_a_warm_start_with_other_classes_or_features_is_refused(orders):
    X, y = orders
    clf = DejaVidClassifier(**WARM).fit(X, y)
    with pytest.raises(ValueError, match=r"same classes as .* \[0, 1, 2, 3, 4, 5\], got \[0, 1\]"):
        clf.fit(X[y < 2], y[y < 2])
    with pytest.raises(ValueError, match="X has 12 features, but DejaVidClassifier is expecting 6"):
        clf.fit([np.hstack([x, x]) for x in X], y)
    assert clf.n_features_in_ == 6
    with pytest.raises(ValueError, match="The 'warm_start' parameter"):
        clf.set_params(warm_start="yes").fit(X, y)


def test_a_warm_start_under_another_logit_scaling_measures_anew(orders):
    X, y = orders
    clf = DejaVidClassifier(**WARM).fit(X, y)
    scale = clf.distance_scale_
    assert clf.set_params(logit_scaling="sample").fit(X, y).distance_scale_ == 1.0
    again = clf.set_params(logit_scaling="global").fit(X, y).distance_scale_
    assert again not in (scale, 1.0)


@pytest.mark.parametrize("name", ["n_iter_", "n_timesteps_"])
def test_what_an_unfitted_classifier_does_not_know_is_a_missing_attribute(name):
    clf = DejaVidClassifier()
    for unfitted in (clf, clf.set_params(n_epochs=3), pickle.loads(pickle.dumps(clf))):
        assert not hasattr(unfitted, name)
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'") as caught:
            getattr(unfitted, name)
        assert caught.value.name == name
    assert name not in clf.get_params()


@pytest.mark.parametrize("n_timesteps", ["auto", 3])
def test_the_number_of_time_steps_is_that_of_the_centroids(n_timesteps, tmp_path):
    X = TSEArray(np.random.default_rng(0).standard_normal((4, 20, 2)), feature_names=["a", "b"])
    clf = DejaVidClassifier(**QUICK | {"n_timesteps": n_timesteps}).fit(X, [0, 1, 0, 1])
    clf.save(tmp_path / "model")
    loaded = DejaVidClassifier.load(tmp_path / "model")
    for fitted in (clf, loaded, pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
        assert type(fitted.n_timesteps_) is int
        assert fitted.n_timesteps_ == (10 if n_timesteps == "auto" else 3)
        assert fitted.centroids_.shape[:2] == (2, fitted.n_timesteps_)
        assert fitted.feature_names_in_.tolist() == ["a", "b"]
        assert fitted.predict(X).shape == (4,)


def send_interrupt(monkeypatch, epoch):
    """Send SIGINT, as Ctrl-C does, in the first batch of an epoch, counted from 1."""
    move_centroids, n_epochs = CpuEngine.move_centroids, 0

    def move_and_interrupt(self, rate):
        nonlocal n_epochs
        move_centroids(self, rate)
        n_epochs += self._centroid_moves.n_steps % n_batches == 1
        if n_epochs == epoch:
            signal.raise_signal(signal.SIGINT)

    n_batches = 3
    monkeypatch.setattr(CpuEngine, "move_centroids", move_and_interrupt)


@pytest.mark.fault(104)
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_an_interrupted_fit_keeps_its_whole_epochs(
    early_stopping, n_jobs, orders, monkeypatch, tmp_path
):
    X, y = orders
    size = len(y) // 3 if not early_stopping else len(y) * 7 // 30
    parameters = {"n_epochs": 6, "batch_size": size, "random_state": 0, "n_jobs": n_jobs}
    parameters |= {"early_stopping": early_stopping, "validation_fraction": 0.3}
    undisturbed = DejaVidClassifier(**parameters).fit(X, y)
    clf = make_pipeline(DejaVidClassifier(**parameters))
    with monkeypatch.context() as patch:
        send_interrupt(patch, epoch=3)
        with pytest.raises(KeyboardInterrupt) as caught:
            clf.fit(X, y)
    (note,) = caught.value.__notes__
    assert "interrupted after epoch 2 of 6" in note
    assert "warm_start=True learns on" in note
    assert ("the best" in note) == early_stopping
    clf = clf[-1]
    assert clf.n_iter_ == 2
    for name, values in clf.history_.items():
        np.testing.assert_array_equal(values, undisturbed.history_[name][:2])
    if early_stopping:
        assert clf.best_iter_ == 1 + clf.history_["validation_loss"].argmin()
    clf.save(tmp_path / "model.safetensors")
    loaded = DejaVidClassifier.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    clf.set_params(warm_start=True, n_epochs=1).fit(X, y)
    assert clf.n_iter_ == 1


@pytest.mark.fault(104)
def test_a_fit_interrupted_in_its_first_epoch_changes_nothing(orders, monkeypatch):
    X, y = orders
    parameters = {"n_epochs": 6, "batch_size": len(y) // 3, "random_state": 0}
    clf = DejaVidClassifier(**parameters).fit(X, y)
    before = dict(vars(clf))
    send_interrupt(monkeypatch, epoch=1)
    with pytest.raises(KeyboardInterrupt) as caught:
        clf.set_params(temperature=0.25).fit(X, y)
    assert not hasattr(caught.value, "__notes__")
    assert vars(clf) == before | {"temperature": 0.25}


@pytest.mark.fault(104)
def test_an_interrupt_stops_a_search(orders, monkeypatch):
    X, y = orders
    clf = DejaVidClassifier(n_epochs=6, batch_size=len(y) // 6, random_state=0)
    search = GridSearchCV(clf, {"temperature": [0.25, 0.5]}, cv=2)
    send_interrupt(monkeypatch, epoch=3)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert not hasattr(search, "cv_results_")


@pytest.mark.fault(104)
def test_with_a_checkpoint_an_interrupted_fit_resumes(orders, monkeypatch, tmp_path):
    X, y = orders
    parameters = {"n_epochs": 6, "batch_size": len(y) // 3, "random_state": 0}
    clf = DejaVidClassifier(checkpoint_dir=tmp_path, **parameters)
    with monkeypatch.context() as patch:
        send_interrupt(patch, epoch=4)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X, y)
    assert clf.n_iter_ == 3
    expected = DejaVidClassifier(**parameters).fit(X, y)
    np.testing.assert_array_equal(clf.fit(X, y).centroids_, expected.centroids_)
    assert clf.n_iter_ == 6
