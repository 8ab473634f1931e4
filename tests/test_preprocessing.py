import numpy as np
import pandas as pd
import pytest
import reference
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    StandardScaler,
)

from skdejavid import DejaVidClassifier, Framewise, Resample, TimeDifferences, TSEArray

LAGS = st.integers(1, 9) | st.floats(0.01, 0.99)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_type_stays_and_the_input_is_not_written_to(dtype, ragged):
    X = TSEArray([x.astype(dtype) for x in ragged[0]])
    before = X.frames.copy()
    expanded = TimeDifferences().fit_transform(X)
    assert expanded.frames.dtype == dtype
    assert expanded.n_features == 3 * X.n_features
    np.testing.assert_array_equal(X.frames, before)


def test_one_frame_does_not_change():
    expanded = TimeDifferences(lags=(1, 0.5)).fit_transform([np.array([[2.0, 3.0]])])
    np.testing.assert_array_equal(expanded[0], [[2.0, 3.0, 0.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("lags", "message"),
    [
        ((1, 0), r"lags\[1\] must be an int of at least 1"),
        ((1.0,), r"lags\[0\] must be .* a float between 0 and 1"),
        ((0.1, 0.2, True), r"lags\[2\] must be"),
        ((float("nan"),), r"lags\[0\] must be"),
        (("a",), r"lags\[0\] must be"),
        ("1", "lags"),
        (1, "lags"),
    ],
)
def test_lags_that_are_no_spans_of_time_are_refused(lags, message, ragged):
    with pytest.raises(ValueError, match=message):
        TimeDifferences(lags=lags).fit(ragged[0])


def test_other_features_than_fitted_are_refused(ragged):
    transformer = TimeDifferences().fit(ragged[0])
    with pytest.raises(ValueError, match="features"):
        transformer.transform([np.zeros((3, 1))])


def test_names_say_what_changed_and_over_how_long():
    frames = [pd.DataFrame({"left": [0.0, 1.0], "right": [2.0, 3.0]})]
    transformer = TimeDifferences(lags=[1, 0.5]).fit(frames)
    assert transformer.get_feature_names_out().tolist() == [
        "left",
        "right",
        "left_lag_1",
        "right_lag_1",
        "left_lag_0.5",
        "right_lag_0.5",
    ]
    assert transformer.transform(frames).n_features == 6


def test_a_pipeline_with_any_output_container_stays_one_of_sequences(ragged):
    X, y = ragged
    model = make_pipeline(TimeDifferences(), DejaVidClassifier(n_epochs=2, random_state=0))
    plain = clone(model).fit(X, y).transform(X)
    framed = clone(model).set_output(transform="pandas").fit(X, y).transform(X)
    np.testing.assert_array_equal(framed.to_numpy(), plain)


def test_resampled_sequences_have_the_median_length_of_the_training_part(ragged):
    X, _ = ragged  # 1 to 12 frames
    resampled = Resample().fit(X[:7]).transform(X)
    assert resampled.lengths.tolist() == [4] * len(X)
    for mine, x in zip(resampled, X, strict=True):
        np.testing.assert_allclose(mine, reference.resample(x, 4), atol=1e-12)


def test_any_number_of_frames_can_be_asked_for(ragged):
    transformer = Resample(n_timesteps=1).fit(ragged[0])
    assert transformer.transform(ragged[0]).lengths.tolist() == [1] * 12
    with pytest.raises(ValueError, match="'n_timesteps' parameter"):
        Resample(n_timesteps=0).fit(ragged[0])


def test_names_of_features_outlast_resampling():
    frames = [pd.DataFrame({"left": [0.0, 1.0], "right": [2.0, 3.0]})]
    assert Resample().fit(frames).get_feature_names_out().tolist() == ["left", "right"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_framewise_is_the_transformer_on_all_frames(dtype, ragged):
    X = TSEArray([x.astype(dtype) for x in ragged[0]])
    transformed = Framewise(StandardScaler()).fit_transform(X)
    assert transformed.lengths.tolist() == X.lengths.tolist()
    np.testing.assert_array_equal(transformed.frames, StandardScaler().fit_transform(X.frames))
    assert transformed.frames.dtype == dtype


def test_each_frame_has_the_label_of_its_sequence(ragged):
    X, y = TSEArray(ragged[0]), ragged[1]
    labels = np.repeat(y, X.lengths)
    transformed = Framewise(LinearDiscriminantAnalysis()).fit(X, y).transform(X)
    expected = LinearDiscriminantAnalysis().fit(X.frames, labels).transform(X.frames)
    np.testing.assert_array_equal(transformed.frames, expected)


def test_each_frame_has_the_weight_of_its_sequence(ragged):
    X = TSEArray(ragged[0])
    weight = np.arange(12.0)
    fitted = Framewise(StandardScaler()).fit(X, sample_weight=weight)
    frame_weight = np.repeat(weight, X.lengths)
    np.testing.assert_allclose(
        fitted.transformer_.mean_, np.average(X.frames, axis=0, weights=frame_weight)
    )
    with pytest.raises(ValueError, match=r"PCA\(\) does not support it"):
        Framewise(PCA()).fit(X, sample_weight=weight)


def test_framewise_leaves_the_given_transformer_unfitted(ragged):
    scaler = StandardScaler()
    Framewise(scaler).fit(ragged[0])
    assert not hasattr(scaler, "mean_")


def test_nothing_of_a_test_fold_is_fitted(ragged):
    """Features that are informative only if test labels are used must score as chance."""
    rng = np.random.default_rng(0)
    X = TSEArray(rng.standard_normal((40, 1, 2000)))
    y = np.arange(40) % 2
    model = make_pipeline(
        Framewise(SelectKBest(f_classif, k=20)), DejaVidClassifier(n_epochs=2, random_state=0)
    )
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    assert cross_val_score(model, X, y, cv=folds).mean() < 0.75
    leaked = model[0].fit_transform(X, y)
    assert cross_val_score(model[1], leaked, y, cv=folds).mean() > 0.9


class CrossFitting(BaseEstimator):
    """Transformer whose `fit_transform` differs from `transform`, as of TargetEncoder."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X

    def fit_transform(self, X, y=None):
        return X + y[:, None]


def test_fit_transform_is_that_of_the_transformer(ragged):
    X, y = TSEArray(ragged[0]), ragged[1]
    fitted = Framewise(CrossFitting()).fit_transform(X, y)
    np.testing.assert_array_equal(fitted.frames, X.frames + np.repeat(y, X.lengths)[:, None])
    later = Framewise(CrossFitting()).fit(X, y).transform(X)
    np.testing.assert_array_equal(later.frames, X.frames)


def test_a_fit_that_fails_leaves_framewise_unfitted(ragged):
    transformer = Framewise(PCA(99))
    with pytest.raises(ValueError, match="n_components=99"):
        transformer.fit_transform(ragged[0])
    with pytest.raises(NotFittedError):
        transformer.transform(ragged[0])


def test_targets_may_be_anything_that_the_transformer_takes(ragged):
    X = TSEArray(ragged[0])
    y = np.linspace(0, 1, 24).reshape(12, 2)
    projected = Framewise(PLSRegression(1)).fit(X, y).transform(X)
    expected = PLSRegression(1).fit(X.frames, np.repeat(y, X.lengths, axis=0)).transform(X.frames)
    np.testing.assert_allclose(projected.frames, expected)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[12, 11\]"):
        Framewise(PLSRegression(1)).fit(X, y[1:])


def test_integers_that_a_transformer_makes_are_kept_exactly():
    X = TSEArray([np.full((2, 1), 16777217.0)])
    integers = Framewise(FunctionTransformer(np.int64)).fit_transform(X)
    assert integers.frames.dtype == np.float64
    assert integers[0].tolist() == [[16777217.0]] * 2


def test_names_of_features_are_those_of_the_transformer():
    frames = [pd.DataFrame({"left": [0.0, 1.0, 5.0], "right": [2.0, 3.0, 3.0]})]
    assert Framewise(StandardScaler()).fit(frames).get_feature_names_out().tolist() == [
        "left",
        "right",
    ]
    assert Framewise(PCA(1)).fit(frames).get_feature_names_out().tolist() == ["pca0"]


class DropsFrames(BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X[1:]


@pytest.mark.parametrize(
    ("transformer", "error", "message"),
    [
        (DropsFrames(), ValueError, r"DropsFrames\(\) returned 77 rows for 78 frames"),
        (OneHotEncoder(), TypeError, "[Ss]parse"),
        ("scaler", ValueError, "'transformer' parameter"),
    ],
)
def test_what_makes_no_frames_of_frames_is_refused(transformer, error, message, ragged):
    with pytest.raises(error, match=message):
        Framewise(transformer).fit(ragged[0]).transform(ragged[0])


def test_other_features_than_framewise_was_fitted_with_are_refused(ragged):
    with pytest.raises(ValueError, match="features"):
        Framewise(PCA(1)).fit(ragged[0]).transform([np.zeros((3, 1))])


@pytest.mark.filterwarnings("ignore:X is a 2-D array, and each")
@pytest.mark.parametrize(
    "transformer", [TimeDifferences(), Resample(), Framewise(StandardScaler())], ids=str
)
def test_a_table_of_single_frames_stays_one(transformer, rng):
    X = rng.standard_normal((5, 3))
    table = clone(transformer).fit_transform(X)
    assert isinstance(table, np.ndarray)
    sequences = clone(transformer).fit_transform(X[:, None])
    assert isinstance(sequences, TSEArray)
    np.testing.assert_array_equal(table, sequences.frames)


@pytest.mark.filterwarnings("ignore:X is a 2-D array, and each")
def test_a_table_that_is_stretched_is_none(rng):
    X = rng.standard_normal((5, 3))
    assert Resample(2).fit_transform(X).lengths.tolist() == [2] * 5


@pytest.mark.parametrize(
    "transformer", [TimeDifferences(), Framewise(StandardScaler())], ids=["lags", "framewise"]
)
def test_spans_of_time_stay_with_their_frames(transformer, ragged):
    X = TSEArray(ragged[0])
    spans = np.arange(156.0).reshape(78, 2)
    X = TSEArray.from_packed(X.frames, X.offsets, spans)[[7, 2]]
    expected = np.concatenate([spans[28:36], spans[3:6]])
    np.testing.assert_array_equal(X.spans, expected)
    for transformed in (transformer.fit_transform(X), transformer.fit(X).transform(X)):
        np.testing.assert_array_equal(transformed.spans, expected)


def test_resampled_frames_stand_for_no_span_of_time(ragged):
    X = TSEArray(ragged[0])
    X = TSEArray.from_packed(X.frames, X.offsets, np.zeros((78, 2)))
    assert Resample().fit_transform(X).spans is None
