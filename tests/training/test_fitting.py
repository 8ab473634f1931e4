"""Stages of a fit, as far as test_classifier.py does not test them."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skdejavid import DejaVidClassifier, TSEArray
from skdejavid.datasets import make_order_sequences
from skdejavid.training import fitting
from skdejavid.training.fitting import (
    WarmStart,
    checkpoint_for,
    explain_stop,
    find_start,
    initial_parameters,
    make_plan,
    prepare,
    train,
)
from skdejavid.training.loop import TimeLimit, TrainingResult
from skdejavid.training.loss import SoftMinCrossEntropy


def parameters(**changes):
    defaults = {"n_timesteps": 3, "n_epochs": 2, "random_state": 0, "differences": None}
    return SimpleNamespace(**DejaVidClassifier(**defaults | changes).get_params())


def prepared(values=None, y=("b", "a", "c"), warm_start=None, sample_weight=None):
    values = values or parameters()
    rng = np.random.default_rng(0)
    X = TSEArray([rng.standard_normal((n, 2)).astype(np.float32) for n in range(2, 14)])
    return prepare(X, np.resize(y, 12), sample_weight, values, warm_start, "Some")


def fitted(**changes):
    values = {
        "classes": np.array(["a", "b", "c"]),
        "lags": (),
        "centroids": np.arange(18.0).reshape(3, 3, 2),
        "log_weights": np.zeros((3, 3, 2)),
        "logit_scaling": "global",
        "distance_scale": 7.0,
    }
    return WarmStart(**values | changes)


@given(weight=st.lists(st.integers(0, 3), min_size=12, max_size=12).filter(any))
def test_preparing_drops_what_has_no_weight_and_numbers_the_classes(weight):
    result = prepared(sample_weight=weight)
    y, kept = np.resize(["b", "a", "c"], 12), np.flatnonzero(weight)
    assert result.classes[result.data.targets].tolist() == y[kept].tolist()
    assert result.data.sequences.lengths.tolist() == (kept + 2).tolist()
    assert len(result.warnings) == (len(result.classes) < 3)
    ratios = result.data.sample_weight * np.array(weight)[kept][0]
    np.testing.assert_allclose(
        ratios, result.data.sample_weight[0] * np.array(weight)[kept], rtol=1e-15
    )


def loss_of(values, **arguments):
    ready = prepared(values, **arguments)
    return make_plan(ready, values, find_start(ready, values, None)).settings.loss


OFTEN_B = {"y": ["b", "b", "b", "b", "a", "c"]}


@pytest.mark.fault(102)
def test_the_loss_has_the_margins_of_rare_classes_and_their_mean_temperature():
    loss = loss_of(parameters(class_weight="balanced", temperature=0.5), **OFTEN_B)
    margins = np.array([4**0.6, 1, 4**0.6])
    np.testing.assert_allclose(loss.margins, margins / margins.mean())
    assert loss.temperature == pytest.approx(0.5 * margins.mean())


@pytest.mark.fault(102)
@pytest.mark.parametrize("class_weight", [None, {"a": 8.0}, {"b": 0.25, "c": 100}], ids=repr)
def test_classes_that_are_not_balanced_have_no_margins(class_weight):
    loss = loss_of(parameters(class_weight=class_weight), **OFTEN_B)
    assert loss == SoftMinCrossEntropy("global", None, 0.5)


@pytest.mark.fault(102)
@given(weight=st.lists(st.floats(1e-3, 1e3), min_size=12, max_size=12))
def test_margins_do_not_depend_on_sample_weights(weight):
    values = parameters(class_weight="balanced")
    assert loss_of(values, sample_weight=weight) == SoftMinCrossEntropy("global", None, 0.5)
    expected = loss_of(values, **OFTEN_B)
    assert loss_of(values, sample_weight=weight, **OFTEN_B) == expected


@pytest.mark.fault(102)
def test_sequences_without_weight_do_not_count_for_margins():
    values = parameters(class_weight="balanced")
    weight = [1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0]
    margins = np.array([1, 8**0.6])
    loss = loss_of(values, sample_weight=weight, **OFTEN_B)
    np.testing.assert_allclose(loss.margins, margins / margins.mean())


def test_warnings_are_returned_for_the_caller_of_fit():
    weight = [1, 1, 0] * 4
    warnings = prepared(parameters(logit_scaling="sample"), sample_weight=weight).warnings
    assert [warning.split(":")[0] for warning in warnings] == [
        "all samples of class 'c' have zero weight",
        "logit_scaling='sample' has no gradient for 2 classes",
    ]


def test_a_plan_leaves_nothing_automatic():
    values = parameters(n_timesteps="auto", n_epochs="auto", centroid_learning_rate=None)
    ready = prepared(values)
    plan = make_plan(ready, values, find_start(ready, values, None))
    assert (plan.n_timesteps, plan.settings.n_epochs) == (8, 600)
    assert (plan.settings.device, plan.settings.centroid_learning_rate) == ("cpu", 0.01)
    assert plan.settings.loss.scale is None  # to be measured
    assert plan.held_out is None


@pytest.mark.parametrize(("scaling", "scale"), [("global", 7.0), ("sample", None)])
def test_a_warm_start_keeps_its_scale_unless_the_scaling_is_another(scaling, scale):
    values = parameters(n_timesteps="auto")
    warm_start = fitted(logit_scaling=scaling)
    ready = prepared(values, warm_start=warm_start)
    start = find_start(ready, values, warm_start)
    plan = make_plan(ready, values, start)
    assert plan.settings.loss.scale == scale
    initial = initial_parameters(plan, values, start)
    np.testing.assert_array_equal(initial.centroids, warm_start.centroids)
    np.testing.assert_allclose(initial.weights, 1.0, rtol=1e-6)
    initial.centroids[:] = 0.0
    assert warm_start.centroids.max() == 17.0


def test_a_warm_start_with_weights_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="log_weights_ must have the shape of centroids_"):
        prepared(warm_start=fitted(log_weights=np.zeros((3, 3, 1))))


@pytest.mark.fault(102)
def test_a_checkpoint_belongs_to_its_margins(tmp_path, monkeypatch):
    """Those written before there were any cannot be resumed with margins."""
    values = parameters(checkpoint_dir=tmp_path, class_weight="balanced")
    key = checkpoint_for(prepared(values, **OFTEN_B), values, None)._key
    monkeypatch.setattr(fitting, "class_margins", lambda *arguments: None)
    without = checkpoint_for(prepared(values, **OFTEN_B), values, None)._key
    assert key.keys() - without.keys() == {"margins"}


def test_a_checkpoint_belongs_to_parameters_data_and_start(tmp_path):
    values = parameters(checkpoint_dir=tmp_path)
    keys = [
        checkpoint_for(ready, values, warm_start)._key
        for ready, warm_start in (
            (prepared(values), None),
            (prepared(values, y=("a", "b", "c")), None),
            (prepared(values), fitted()),
        )
    ]
    assert {"X", "y", "sample_weight", "precision", "logit_scaling"} <= keys[0].keys()
    assert not {"checkpoint_dir", "n_jobs", "max_time", "verbose", "margins"} & keys[0].keys()
    assert {name for name in keys[0] if keys[1][name] != keys[0][name]} == {"y"}
    assert {name for name in keys[0] if keys[2][name] != keys[0][name]} == {"warm_start"}
    assert checkpoint_for(prepared(), parameters(), None) is None


@pytest.mark.parametrize(
    ("stopped", "checkpoint_dir", "message"),
    [
        (None, None, None),
        ("no_improvement", None, None),
        ("callback", None, None),
        ("diverged", None, "loss or parameters overflow in epoch 2, the last good ones are kept"),
        ("max_time", None, "max_time=3 stopped training after epoch 1 of 2"),
        ("max_time", "x", "stopped training after epoch 1 of 2; call fit again to resume"),
    ],
)
def test_only_what_a_user_can_change_is_warned_of(stopped, checkpoint_dir, message):
    values = parameters(max_time=3, checkpoint_dir=checkpoint_dir)
    ready = prepared()
    settings = make_plan(ready, parameters(), find_start(ready, parameters(), None)).settings
    result = TrainingResult(None, None, 1.0, {"loss": np.zeros(1)}, None, stopped)
    warning = explain_stop(result, settings, values)
    assert warning is None if message is None else message in warning


@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_the_time_limit_starts_when_the_scale_has_been_measured(
    has_checkpoint, tmp_path, monkeypatch
):
    calls = []

    class Loss(SoftMinCrossEntropy):
        def calibrate(self, mean):
            calls.append("scale")
            return super().calibrate(mean)

    class Limit(TimeLimit):
        def __init__(self, seconds):
            calls.append("clock")
            super().__init__(seconds)

    monkeypatch.setattr(fitting, "SoftMinCrossEntropy", Loss)
    monkeypatch.setattr(fitting, "TimeLimit", Limit)
    values = parameters(max_time=1000, checkpoint_dir=tmp_path if has_checkpoint else None)
    data = prepared(values)
    begin = find_start(data, values, None)
    plan = make_plan(data, values, begin)
    train(plan, initial_parameters(plan, values, begin), values, begin, [])
    assert calls == ["scale", "clock"]


def fit_in_units(dtype, exponents, **more):
    """Fit sequences whose features have been multiplied by powers of two."""
    X, y = make_order_sequences(36, random_state=0)
    X = [np.ldexp(x.astype(dtype), exponents) for x in X]
    clf = DejaVidClassifier(n_timesteps=4, n_epochs=3, batch_size=10, random_state=0, **more)
    return clf.fit(X, y), X


UNITS = {np.float32: 60, np.float64: 500}


@pytest.mark.slow
@pytest.mark.fault(93, 116)
@pytest.mark.parametrize("dtype", UNITS)
@settings(max_examples=15)
@given(data=st.data())
def test_learning_does_not_depend_on_the_units_of_features(dtype, data):
    """With `standardize`: the same losses, predictions, and centroids to the bit."""
    limit = UNITS[dtype]
    one = st.integers(-limit, limit)
    exponents = np.array(data.draw(st.one_of(st.lists(one, min_size=6, max_size=6), one)))
    settings_of_fit = data.draw(
        st.sampled_from(
            [{}, {"logit_scaling": "sample"}, {"early_stopping": True, "validation_fraction": 0.3}]
        )
    )
    expected, X = fit_in_units(dtype, np.zeros(6, dtype=int), **settings_of_fit)
    clf, scaled = fit_in_units(dtype, exponents, **settings_of_fit)
    of_all = np.tile(np.broadcast_to(exponents, 6), 1 + len(clf.lags_))
    np.testing.assert_array_equal(clf.centroids_, np.ldexp(expected.centroids_, of_all))
    for name, values in expected.history_.items():
        np.testing.assert_array_equal(clf.history_[name], values)
    np.testing.assert_array_equal(clf.predict(scaled), expected.predict(X))


@pytest.mark.fault(93, 116)
@pytest.mark.parametrize("exponent", [-1000, -600, 0])
def test_the_smallest_values_are_learned(exponent):
    clf, X = fit_in_units(np.float64, exponent)
    assert clf.score(X, make_order_sequences(36, random_state=0)[1]) == 1.0


@pytest.mark.fault(93)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_feature_of_any_size_changes_nothing(dtype):
    X, y = make_order_sequences(36, random_state=0)
    clf = DejaVidClassifier(n_timesteps=4, n_epochs=3, differences=None, random_state=0)
    losses = clf.fit(X.astype(dtype), y).history_["loss"]
    for value in (0.0, 1e-30, 1e30):
        wider = [np.hstack([x, np.full((len(x), 2), value)]).astype(dtype) for x in X]
        np.testing.assert_allclose(clf.fit(wider, y).history_["loss"], losses, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The number of unique classes is greater:UserWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("unit", [(1.0, 1.0), (1e-30, 1e30)])
def test_two_thousand_classes_of_one_sample_are_learned(dtype, unit, rng):
    X = [(rng.standard_normal((3, 16)) * np.repeat(unit, 8)).astype(dtype) for _ in range(2000)]
    clf = DejaVidClassifier(n_epochs=1, random_state=0)
    assert clf.fit(X, np.arange(2000)).score(X, np.arange(2000)) > 0.99


@pytest.mark.fault(116)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_below_the_normal_numbers_are_named(dtype):
    X, y = make_order_sequences(36, random_state=0)
    small = np.array([1, 1, 0, 1, 1, 1]) + 4 * np.finfo(dtype).smallest_subnormal
    scaled = [x.astype(dtype) * small.astype(dtype) for x in X]
    clf = DejaVidClassifier(n_epochs=1, random_state=0)
    with pytest.warns(
        UserWarning, match=r"feature 2 of X .* smallest normal number .* smaller unit"
    ):
        clf.fit(scaled, y)


EQUAL = "all frames of X are equal: nothing can be learned"


@pytest.mark.fault(36)
@pytest.mark.parametrize("standardize", [True, False])
def test_sequences_of_equal_frames_are_named(standardize):
    clf = DejaVidClassifier(n_epochs=1, n_timesteps=3, standardize=standardize, random_state=0)
    X = [np.full((n, 2), [1.0, 7.0]) for n in (3, 5, 4, 6)]
    with pytest.warns(UserWarning, match=EQUAL) as caught:
        clf.fit(X, [0, 1, 0, 1])
    assert caught[0].filename == __file__
    assert clf.predict(X).tolist() == [0, 0, 0, 0]
    clf.fit(X, [1, 1, 1, 1])  # nothing is to be learned
    X[2] = X[2] + [[0.0, 1e-9]]
    clf.fit(X, [0, 1, 0, 1])


@pytest.mark.fault(30)
def test_weights_that_are_text_are_refused():
    with pytest.raises(ValueError, match="sample_weight cannot be read as numbers"):
        prepared(sample_weight=["1"] * 12)
