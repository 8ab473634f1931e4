import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from skdejavid import TSEArray
from skdejavid.sequences.transforms import (
    interpolate,
    names_with_differences,
    resample,
    with_differences,
)

LAGS = st.integers(1, 9) | st.floats(0.01, 0.99)


def difference(x, lag):
    """Compute differences frame by frame, as the docstring defines them."""
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


@given(st.lists(st.integers(0, 11), min_size=1, max_size=6), st.lists(LAGS, max_size=3))
def test_differences_of_a_selection_are_those_of_its_copy(selected, lags):
    rng = np.random.default_rng(0)
    X = TSEArray([rng.standard_normal((n, 2)) for n in range(1, 13)])[selected]
    expanded, expected = with_differences(X, lags), with_differences(X.packed(), lags)
    np.testing.assert_array_equal(expanded.frames, expected.frames)
    assert expanded.offsets.tolist() == expected.offsets.tolist()


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(2, 12))
def test_resampling_is_linear_interpolation_with_end_points_kept(lengths, n_timesteps):
    rng = np.random.default_rng(0)
    sequences = [rng.standard_normal((n, 3)) for n in lengths]
    resampled = resample(TSEArray(sequences).view(), n_timesteps)
    for mine, x in zip(resampled, sequences, strict=True):
        np.testing.assert_allclose(mine, reference.resample(x, n_timesteps), atol=1e-12)
        np.testing.assert_array_equal(mine[[0, -1]], x[[0, -1]])
        if (len(x) - 1) % (n_timesteps - 1) == 0:
            step = (len(x) - 1) // (n_timesteps - 1)
            exact = x[np.arange(n_timesteps) * step]
            np.testing.assert_array_equal(mine, exact)


def test_a_single_time_step_is_the_middle():
    X = TSEArray([np.arange(5.0)[:, None], np.arange(4.0)[:, None], np.array([[7.0]])])
    assert resample(X.view(), 1).ravel().tolist() == [2.0, 1.5, 7.0]


def test_resampling_keeps_the_floating_type():
    X = TSEArray([np.arange(5, dtype=np.float32)[:, None]])
    assert resample(X.view(), 3).dtype == np.float32


def test_differences_have_the_name_of_their_feature_and_lag():
    assert names_with_differences(["a", "b"], [1, 0.5]) == [
        "a",
        "b",
        "a_lag_1",
        "b_lag_1",
        "a_lag_0.5",
        "b_lag_0.5",
    ]


@pytest.mark.fault(96)
def test_a_neighboring_sequence_is_never_interpolated_to():
    nan = np.nan
    X = TSEArray([[[1.0], [nan]], [[nan], [nan]], [[nan], [5.0], [nan], [7.0]], [[nan]]])
    filled = interpolate(X, np.array([-1.0]))
    assert [x.ravel().tolist() for x in filled] == [[1, 1], [-1, -1], [5, 5, 6, 7], [-1]]
    selected = interpolate(X[[2, 0]], np.array([-1.0]))
    assert [x.ravel().tolist() for x in selected] == [[5, 5, 6, 7], [1, 1]]
