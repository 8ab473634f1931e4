import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skdejavid import (
    AlignmentDisplay,
    DejaVidClassifier,
    Interpolate,
    TimeDifferences,
    TSEArray,
    dtw_path,
)
from skdejavid.datasets import make_order_sequences

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def model():
    X, y = make_order_sequences(24, random_state=0)
    return DejaVidClassifier(n_epochs=2, n_timesteps=5, random_state=0).fit(X, y), X


def test_the_path_on_the_cost_is_the_alignment(model):
    clf, X = model
    display = AlignmentDisplay.from_estimator(clf, X[0], label=2)
    weights = np.exp(clf.log_weights_[2])
    expanded = TimeDifferences(clf.lags_).fit_transform(X)
    path = dtw_path(expanded[0], clf.centroids_[2], weights, diagonal=True)
    line = display.axes_["cost"].lines[0]
    np.testing.assert_array_equal(line.get_xydata(), path[:, ::-1])

    cost = np.asarray(display.axes_["cost"].images[0].get_array())
    assert cost.shape == (5, len(X[0]))
    distance = cost[path[:, 0], path[:, 1]].sum()
    assert distance == pytest.approx(clf.transform([X[0]])[0, 2], rel=1e-5)
    assert f"to class 2: {distance:.4g}" in display.axes_["cost"].get_title()


def test_sequence_centroid_and_weights_are_beside_it(model):
    clf, X = model
    display = AlignmentDisplay.from_estimator(clf, X[0], label=2)
    shown = {name: np.asarray(axes.images[0].get_array()) for name, axes in display.axes_.items()}
    np.testing.assert_allclose(shown["sequence"], TimeDifferences(clf.lags_).fit_transform(X)[0].T)
    np.testing.assert_allclose(shown["centroid"], clf.centroids_[2])
    weights = np.exp(clf.log_weights_[2]) * clf.feature_scale_
    np.testing.assert_allclose(shown["weights"], weights, rtol=1e-6)
    for axes in display.axes_.values():
        assert axes.get_xlabel()
        assert axes.get_ylabel()


def test_the_predicted_class_is_the_default(model):
    clf, X = model
    assert AlignmentDisplay.from_estimator(clf, X[3]).label == clf.predict([X[3]])[0]


def test_it_draws_into_a_given_figure(model, tmp_path):
    clf, X = model
    figure = plt.figure()
    display = AlignmentDisplay.from_estimator(clf, X[0], figure=figure)
    assert display.figure_ is figure
    figure.savefig(tmp_path / "alignment.png")
    assert (tmp_path / "alignment.png").stat().st_size > 10_000


def test_a_label_that_is_no_class_is_refused(model):
    clf, X = model
    with pytest.raises(ValueError, match="label 'x' is not one of the classes"):
        AlignmentDisplay.from_estimator(clf, X[0], label="x")


def test_weights_of_zero_can_be_drawn():
    frames = np.arange(6.0).reshape(3, 2)
    weights = np.array([[0.0, 1.0], [2.0, 0.0]])
    display = AlignmentDisplay(frames, frames[:2], weights, dtw_path(frames, frames[:2], weights))
    display.plot().figure_.draw_without_rendering()
    shown = np.asarray(display.axes_["weights"].images[0].get_array())
    np.testing.assert_allclose(shown, weights, atol=1e-300)


def test_an_unfitted_model_has_nothing_to_draw():
    with pytest.raises(NotFittedError):
        AlignmentDisplay.from_estimator(DejaVidClassifier(), np.zeros((3, 2)))


def test_an_estimator_that_holds_the_classifier_is_named(model):
    clf, X = model
    with pytest.raises(TypeError, match=r"got a Pipeline: .* pipeline\[-1\]"):
        AlignmentDisplay.from_estimator(make_pipeline(clf), X[0])


def test_several_sequences_at_once_are_refused(model):
    clf, X = model
    for several in (X, list(X), [X[0]], X[0][0]):
        with pytest.raises(ValueError, match=r"x must be one sequence \(n_frames, n_features\)"):
            AlignmentDisplay.from_estimator(clf, several)


def labels(axis):
    axis.axes.figure.draw_without_rendering()
    return [tick.get_text() for tick in axis.get_ticklabels() if tick.get_text()]


def in_units(units, **parameters):
    """Return a classifier of two features in other units, of which the second is noise."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = [rng.normal([3 * label, 0], size=(12, 2)) for label in y]
    frames = [pd.DataFrame(x * units, columns=["speed", "noise"]) for x in X]
    return DejaVidClassifier(n_timesteps=3, random_state=0, **parameters).fit(frames, y), frames


@pytest.mark.fault(100)
@pytest.mark.filterwarnings("error")
def test_weights_show_relevance_and_not_units():
    """In units that are powers of two the same model is learned, to the bit."""
    shown = []
    for units in ([1.0, 1.0], [2.0**20, 2.0**-20], [2.0**-20, 2.0**20]):
        clf, frames = in_units(units)
        display = AlignmentDisplay.from_estimator(clf, frames[0], label=0)
        shown.append(np.asarray(display.axes_["weights"].images[0].get_array()))
        assert "per\nstandard deviation" in display.axes_["weights"].get_title()
    np.testing.assert_allclose(shown[1], shown[0], rtol=1e-9)
    np.testing.assert_allclose(shown[2], shown[0], rtol=1e-9)
    speed, noise = shown[0].mean(axis=0)[:2]
    assert speed > noise


@pytest.mark.fault(100)
@pytest.mark.parametrize("standardize", [True, False])
def test_the_scale_is_the_standard_deviation_of_what_is_compared(standardize):
    clf, frames = in_units([8.0, 0.5], standardize=standardize, differences=(2,), n_epochs=1)
    expanded = TimeDifferences(clf.lags_).fit_transform([x.to_numpy() for x in frames])
    np.testing.assert_allclose(clf.feature_scale_, expanded.frames.std(axis=0), rtol=1e-9)


@pytest.mark.fault(100)
def test_features_and_differences_are_named():
    clf, frames = in_units([1.0, 1.0], differences=(1, 0.5), n_epochs=1)
    names = ["speed", "noise", "speed_lag_1", "noise_lag_1", "speed_lag_0.5", "noise_lag_0.5"]
    assert TimeDifferences((1, 0.5)).fit(frames).get_feature_names_out().tolist() == names
    axes = AlignmentDisplay.from_estimator(clf, frames[0]).axes_
    assert labels(axes["sequence"].yaxis) == names
    assert labels(axes["centroid"].xaxis) == names
    assert labels(axes["weights"].xaxis) == names


@pytest.mark.fault(100)
def test_of_many_features_without_names_some_are_named(rng):
    X = rng.standard_normal((4, 3, 500))
    clf = DejaVidClassifier(2, n_epochs=1, differences=(1,), random_state=0).fit(X, [0, 1, 0, 1])
    axes = AlignmentDisplay.from_estimator(clf, X[0]).axes_
    named = labels(axes["weights"].xaxis)
    assert 5 <= len(named) <= 26
    assert {"x0", "x0_lag_1"} <= set(named)


@pytest.mark.fault(100)
def test_a_scale_that_is_not_known_is_said_to_be_so(model, tmp_path):
    clf, _ = model
    clf.save(tmp_path / "model")
    loaded = DejaVidClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.feature_scale_, clf.feature_scale_)
    old_file = DejaVidClassifier.load(GOLDEN / "classifier-0.1.0-global.safetensors")
    assert old_file.feature_scale_ is None
    old_pickle = copy.copy(old_file)
    del old_pickle.feature_scale_
    old_file.save(tmp_path / "model")
    for old in (old_file, old_pickle, DejaVidClassifier.load(tmp_path / "model")):
        display = AlignmentDisplay.from_estimator(old, np.zeros((5, 2), np.float32), label="b")
        shown = np.asarray(display.axes_["weights"].images[0].get_array())
        np.testing.assert_allclose(shown, np.exp(old.log_weights_[1]))
        assert "standard deviations unknown" in display.axes_["weights"].get_title()


def test_names_of_a_container_are_shown_for_its_arrays_too(rng):
    X = TSEArray(rng.standard_normal((4, 5, 2)), feature_names=["speed", "noise"])
    settings = {"differences": (1,), "n_epochs": 1, "random_state": 0}
    pipeline = make_pipeline(Interpolate(), DejaVidClassifier(2, **settings)).fit(X, [0, 1, 0, 1])
    names = ["speed", "noise", "speed_lag_1", "noise_lag_1"]
    for x in (X[0], pd.DataFrame(X[0], columns=["speed", "noise"])):
        display = AlignmentDisplay.from_estimator(pipeline[-1], x)
        assert labels(display.axes_["weights"].xaxis) == names
    with pytest.raises(ValueError, match="feature names should match"):
        AlignmentDisplay.from_estimator(pipeline[-1], pd.DataFrame(X[0], columns=["a", "b"]))
    with (
        pytest.warns(UserWarning, match="X does not have valid feature names"),
        pytest.raises(ValueError, match="X has 3 features, but DejaVidClassifier is expecting 2"),
    ):
        AlignmentDisplay.from_estimator(pipeline[-1], np.zeros((4, 3)))
