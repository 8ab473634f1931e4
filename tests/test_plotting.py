import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skdejavid import AlignmentDisplay, DejaVidClassifier, TimeDifferences, dtw_path
from skdejavid.datasets import make_order_sequences


@pytest.fixture(scope="module")
def model():
    X, y = make_order_sequences(24, random_state=0)
    return DejaVidClassifier(n_epochs=2, n_timesteps=5, random_state=0).fit(X, y), X


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


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
    np.testing.assert_allclose(shown["weights"], np.exp(clf.log_weights_[2]))
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
