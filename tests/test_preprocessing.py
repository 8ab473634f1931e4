import numpy as np
import pandas as pd
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    StandardScaler,
)
from sklearn.utils import get_tags

from skdejavid import (
    DejaVidClassifier,
    Framewise,
    Interpolate,
    Resample,
    TimeDifferences,
    TSEArray,
)

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


@pytest.mark.fault(110)
@pytest.mark.parametrize(
    "lags", [np.array([1.0, 0.1]), (np.int64(1), np.float64(0.1)), [1, 0.1], [np.array(1), 0.1]]
)
def test_names_do_not_depend_on_the_kind_of_numbers(lags):
    transformer = TimeDifferences(lags).fit([np.zeros((3, 1))])
    assert transformer.get_feature_names_out().tolist() == ["x0", "x0_lag_1", "x0_lag_0.1"]


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
    "transformer",
    [TimeDifferences(), Resample(), Interpolate(), Framewise(StandardScaler())],
    ids=str,
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
    "transformer",
    [TimeDifferences(), Interpolate(), Framewise(StandardScaler())],
    ids=["lags", "interpolate", "framewise"],
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


@pytest.fixture
def with_gaps(ragged, rng):
    """Sequences of which a fifth of the values is missing, and their classes."""
    X, y = TSEArray(ragged[0]), ragged[1]
    values = X.frames.copy()
    values[rng.random(values.shape) < 0.2] = np.nan
    return TSEArray.from_packed(values, X.offsets), y


IMPUTERS = [
    SimpleImputer(),
    KNNImputer(),
    IterativeImputer(max_iter=2, tol=10),
    make_pipeline("passthrough", SimpleImputer(), PCA(2)),
    ColumnTransformer([("impute", SimpleImputer(), [0, 1, 2])]),
    FeatureUnion([("impute", SimpleImputer())]),
    FunctionTransformer(np.nan_to_num),
]


@pytest.mark.fault(96, 118)
@pytest.mark.parametrize("imputer", IMPUTERS, ids=lambda imputer: type(imputer).__name__)
def test_missing_values_reach_the_transformers_that_take_them(imputer, with_gaps):
    X, _ = with_gaps
    framewise = Framewise(imputer)
    transformed = framewise.fit_transform(X)
    np.testing.assert_array_equal(transformed.frames, clone(imputer).fit_transform(X.frames))
    np.testing.assert_array_equal(framewise.fit(X).transform(X).frames, transformed.frames)
    assert np.isfinite(transformed.frames).all()
    assert get_tags(framewise).input_tags.allow_nan


@pytest.mark.fault(96, 118)
@pytest.mark.parametrize("imputer", [Framewise(SimpleImputer()), Interpolate()], ids=str)
def test_missing_values_are_filled_in_inside_of_a_search(imputer, with_gaps):
    X, y = with_gaps
    model = make_pipeline(imputer, DejaVidClassifier(n_epochs=2, n_timesteps=2, random_state=0))
    search = GridSearchCV(model, {"dejavidclassifier__n_timesteps": [2, 3]}, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert np.isfinite(cross_val_score(model, list(X), y, cv=2)).all()
    filled = clone(imputer).fit_transform(X)
    expected = clone(model[1]).fit(filled, y).transform(filled)
    np.testing.assert_array_equal(clone(model).fit(X, y).transform(X), expected)


@pytest.mark.fault(96, 118)
def test_missing_values_that_a_scaler_keeps_are_filled_in_later(with_gaps):
    X, _ = with_gaps
    model = make_pipeline(Framewise(StandardScaler()), Interpolate())
    assert np.isfinite(model.fit_transform(X).frames).all()
    scaled = model[0].transform(X).frames
    np.testing.assert_array_equal(np.isnan(scaled), np.isnan(X.frames))


@pytest.mark.fault(96)
@pytest.mark.parametrize(
    "estimator",
    [
        DejaVidClassifier(),
        TimeDifferences(),
        Resample(),
        Framewise(PCA(1)),
        Framewise(make_pipeline(PCA(1), SimpleImputer())),
        Framewise(FunctionTransformer(validate=True)),
        Framewise(SimpleImputer(missing_values=-1)),
        Framewise(CrossFitting()),
    ],
    ids=str,
)
def test_the_error_for_missing_values_names_remedies(estimator, with_gaps):
    X, y = with_gaps
    assert not get_tags(estimator).input_tags.allow_nan
    with pytest.raises(ValueError, match=r"NaN, first at .*Interpolate\(\), or Framewise\(Simp"):
        estimator.fit(X, y)


@pytest.mark.parametrize("transformer", [Framewise(SimpleImputer()), Interpolate()], ids=str)
def test_infinity_is_no_missing_value(transformer, ragged):
    X = [x.copy() for x in ragged[0]]
    X[2][1, 0] = np.inf
    with pytest.raises(ValueError, match=r"X\[2\] contains infinity .* frame 1, feature 0\.$"):
        transformer.fit(X)
    transformer.fit(ragged[0])
    with pytest.raises(ValueError, match=r"X\[2\] contains infinity"):
        transformer.transform(X)


VALUES = st.floats(-9, 9, width=32) | st.just(np.nan)


@pytest.mark.fault(96)
@given(
    X=st.lists(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=9), min_size=1, max_size=5),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_interpolation_is_that_of_pandas_and_the_mean_where_nothing_is_known(X, dtype):
    X = [np.array(x, dtype=dtype) for x in X]
    packed = np.concatenate(X).astype(np.float64)
    if np.isnan(packed).all(axis=0).any():
        with pytest.raises(ValueError, match=r"feature [01] of X is NaN in all frames"):
            Interpolate().fit(X)
        return
    filled = Interpolate().fit_transform(X)
    assert filled.frame_dtype == dtype
    mean = np.nanmean(packed, axis=0)
    for x, result in zip(X, filled, strict=True):
        frame = pd.DataFrame(x.astype(np.float64)).interpolate(limit_direction="both")
        tolerance = 4 * np.finfo(dtype).eps * 9
        np.testing.assert_allclose(result, frame.fillna(dict(enumerate(mean))), atol=tolerance)
        known = ~np.isnan(x)
        np.testing.assert_array_equal(result[known], x[known])


@pytest.mark.fault(96)
def test_the_mean_is_that_of_the_training_sequences():
    interpolate = Interpolate().fit([np.array([[1.0], [np.nan]]), np.array([[3.0], [5.0]])])
    missing = np.full((2, 1), np.nan)
    before = missing.copy()
    assert interpolate.transform([missing])[0].tolist() == [[3.0], [3.0]]
    np.testing.assert_array_equal(missing, before)
    assert interpolate.transform([[[np.nan]], [[7.0]]])[0].tolist() == [[3.0]]
    huge = np.array([[1.7e308], [1.7e308], [np.nan]])
    assert Interpolate().fit_transform([huge])[0][2] == 1.7e308
    assert Interpolate().fit([huge]).mean_ == 1.7e308


@pytest.fixture
def named(ragged):
    return [pd.DataFrame(x, columns=["left", "right", "up"]) for x in ragged[0]]


BY_NAME = ColumnTransformer(
    [("scale", StandardScaler(), ["up", "left"]), ("project", PCA(1), ["right", "up"])]
)


@pytest.mark.fault(118)
def test_features_can_be_selected_by_name(named, ragged):
    by_number = ColumnTransformer(
        [("scale", StandardScaler(), [2, 0]), ("project", PCA(1), [1, 2])]
    )
    framewise = Framewise(BY_NAME).fit(named)
    expected = Framewise(by_number).fit_transform(ragged[0])
    for transformed in (framewise.transform(named), Framewise(BY_NAME).fit_transform(named)):
        np.testing.assert_allclose(transformed.frames, expected.frames, atol=1e-12)
    names = ["scale__up", "scale__left", "project__pca0"]
    assert framewise.get_feature_names_out().tolist() == names
    y = np.arange(12) % 2
    model = make_pipeline(Framewise(BY_NAME), DejaVidClassifier(n_epochs=2, random_state=0))
    assert np.isfinite(cross_val_score(model, named, y, cv=2)).all()


class Recording(BaseEstimator):
    def fit(self, X, y=None):
        self.seen_ = [X]
        return self

    def transform(self, X):
        self.seen_.append(X)
        return X


@pytest.mark.fault(118)
@pytest.mark.parametrize("set_output", ["default", "pandas"])
def test_transformers_see_frames_with_names_where_there_are_names(set_output, named, ragged):
    seen = Framewise(Recording()).fit(named)
    seen.transform(named)
    for frame in seen.transformer_.seen_:
        assert frame.columns.tolist() == ["left", "right", "up"]
        np.testing.assert_array_equal(frame, np.concatenate(ragged[0]))
    unnamed = Framewise(Recording()).fit(ragged[0])
    assert isinstance(unnamed.transformer_.seen_[0], np.ndarray)
    scaler = StandardScaler().set_output(transform=set_output)
    scaled = Framewise(scaler).fit_transform([frame.astype(np.float32) for frame in named])
    assert scaled.frame_dtype == np.float32
    assert isinstance(Framewise(scaler).set_output(transform="pandas").fit(named), Framewise)


@pytest.mark.fault(118)
def test_without_pandas_frames_of_other_libraries_lose_only_their_names(named, monkeypatch):
    monkeypatch.setattr("skdejavid.preprocessing.import_if_installed", lambda module: None)
    seen = Framewise(Recording()).fit(named)
    assert isinstance(seen.transformer_.seen_[0], np.ndarray)


@pytest.mark.fault(116)
def test_means_and_lines_between_tiny_values_may_underflow():
    X = [np.array([[1e-40, np.nan], [np.nan, np.nan], [2e-40, np.nan]], dtype=np.float32)]
    X += [np.array([[3e-45, 1e-45]], dtype=np.float32)]
    with np.errstate(all="raise"):
        filled = Interpolate().fit(X).transform(X)
    expected = [[1e-40, 1e-45], [1.5e-40, 1e-45], [2e-40, 1e-45], [3e-45, 1e-45]]
    np.testing.assert_allclose(filled.frames, expected, atol=2e-45)


NAMED_RESULTS = {
    "differences": (TimeDifferences((1,)), ["a", "b", "a_lag_1", "b_lag_1"]),
    "resample": (Resample(3), ["a", "b"]),
    "interpolate": (Interpolate(), ["a", "b"]),
    "scale": (Framewise(StandardScaler()), ["a", "b"]),
    "project": (Framewise(PCA(1)), ["pca0"]),
    "select": (Framewise(ColumnTransformer([("one", "passthrough", ["b"])])), ["one__b"]),
    "rows": (Framewise(FunctionTransformer(lambda frame: frame[["b", "a"]])), ["b", "a"]),
    "a table of pandas": (Framewise(StandardScaler().set_output(transform="pandas")), ["a", "b"]),
}


@pytest.mark.parametrize("name", NAMED_RESULTS)
def test_names_outlast_every_transformer_and_reach_the_classifier(name, rng):
    transformer, expected = NAMED_RESULTS[name]
    arrays = [rng.standard_normal((n, 2)) for n in (4, 6, 5, 7)]
    frames = [pd.DataFrame(x, columns=["a", "b"]) for x in arrays]
    for X in (frames, TSEArray(frames), TSEArray(arrays, feature_names=["a", "b"])):
        transformed = transformer.fit_transform(X)
        assert list(transformed.feature_names) == expected
        assert transformer.transform(X[:1]).feature_names == transformed.feature_names
        model = make_pipeline(transformer, DejaVidClassifier(2, n_epochs=1, random_state=0))
        model.fit(X, [0, 1, 0, 1])
        assert model[-1].feature_names_in_.tolist() == expected
        assert model.predict(X).shape == (4,)


@pytest.mark.parametrize("name", sorted(set(NAMED_RESULTS) - {"select", "rows"}))
def test_without_names_nothing_gets_names_and_no_number_changes(name, rng):
    transformer, _ = NAMED_RESULTS[name]
    arrays = [rng.standard_normal((n, 2)) for n in (4, 6, 5, 7)]
    plain = transformer.fit_transform(arrays)
    assert plain.feature_names is None
    named = transformer.fit_transform(TSEArray(arrays, feature_names=["a", "b"]))
    np.testing.assert_array_equal(named.frames, plain.frames)


class Nameless(Recording):
    def transform(self, X):
        return np.asarray(X)

    def get_feature_names_out(self, input_features=None):
        raise NotImplementedError


@pytest.mark.parametrize("n_names", [None, 1])
def test_names_that_nobody_knows_are_left_out(n_names, monkeypatch):
    if n_names is not None:
        monkeypatch.setattr(Nameless, "get_feature_names_out", lambda self, names: names[:n_names])
    X = TSEArray(np.zeros((2, 3, 2)), feature_names=["a", "b"])
    assert Framewise(Nameless()).fit_transform(X).feature_names is None


def test_names_that_differences_would_give_twice_are_left_out():
    X = TSEArray(np.zeros((2, 3, 1)), feature_names=["a"])
    once = TimeDifferences((1,)).fit_transform(X)
    twice = make_pipeline(TimeDifferences((1,)), TimeDifferences((1,))).fit_transform(X)
    assert once.feature_names == ("a", "a_lag_1")
    assert (twice.n_features, twice.feature_names) == (4, None)


def test_missing_names_are_named_once_by_the_first_step(rng):
    X = TSEArray(rng.standard_normal((4, 5, 2)), feature_names=["a", "b"])
    model = make_pipeline(Interpolate(), DejaVidClassifier(2, n_epochs=1, random_state=0))
    model.fit(X, [0, 1, 0, 1])
    with pytest.warns(UserWarning, match="X does not have valid feature names, but Interpolate"):
        unnamed = model.predict(list(X))
    assert unnamed.tolist() == model.predict(X).tolist()


def test_searches_and_folds_keep_the_names(rng):
    X = TSEArray(rng.standard_normal((12, 5, 2)), feature_names=["a", "b"])
    y = np.arange(12) % 2
    select = Framewise(ColumnTransformer([("one", "passthrough", ["b"])]))
    model = make_pipeline(Interpolate(), select, DejaVidClassifier(2, n_epochs=1, random_state=0))
    search = GridSearchCV(model, {"dejavidclassifier__n_timesteps": [1, 2]}, cv=2).fit(X, y)
    assert search.feature_names_in_.tolist() == ["a", "b"]
    assert search.best_estimator_[-1].feature_names_in_.tolist() == ["one__b"]
    assert search.predict(X[::2]).shape == (6,)
