import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skdejavid import DejaVidClassifier, TimeDifferences, TSEArray
from skdejavid.preprocessing import with_differences

LAGS = st.integers(1, 9) | st.floats(0.01, 0.99)


def difference(x, lag):
    """Frame by frame, as the docstring says."""
    n_frames = lag if isinstance(lag, int) else max(1, round(lag * len(x)))
    rows = []
    for j in range(len(x)):
        later = min(j + -(-n_frames // 2), len(x) - 1)
        earlier = max(j - n_frames // 2, 0)
        rows.append(x[later] - x[earlier])
    return np.array(rows)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.lists(LAGS, max_size=3))
def test_differences_stay_within_their_sequence(lengths, lags):
    rng = np.random.default_rng(0)
    X = [rng.standard_normal((n, 2)) for n in lengths]
    for x, expanded in zip(X, with_differences(TSEArray(X), lags), strict=True):
        expected = np.hstack([x, *(difference(x, lag) for lag in lags)])
        np.testing.assert_array_equal(expanded, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_type_stays_and_the_input_is_not_written_to(dtype, ragged):
    X = TSEArray([x.astype(dtype) for x in ragged[0]])
    before = X.values.copy()
    expanded = TimeDifferences().fit_transform(X)
    assert expanded.values.dtype == dtype
    assert expanded.n_features == 4 * X.n_features
    np.testing.assert_array_equal(X.values, before)


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
