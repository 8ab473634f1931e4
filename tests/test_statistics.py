import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid import TSEArray, statistics
from skdejavid.statistics import standard_deviations, weighted_median

WEIGHTED = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 4)), min_size=1, max_size=9)


@given(WEIGHTED)
def test_the_weighted_median_is_that_of_repetitions(pairs):
    values, weight = np.array(pairs).T
    repeated = np.sort(np.repeat(values, weight))
    expected = repeated[(len(repeated) - 1) // 2]  # the lower of two middle ones
    assert weighted_median(values, weight.astype(float)) == expected


@pytest.mark.parametrize("rows_per_chunk", [1, 5, 10**6])
def test_standard_deviations_are_those_of_all_frames(rows_per_chunk, ragged, monkeypatch):
    monkeypatch.setattr(statistics, "_ROWS_PER_CHUNK", rows_per_chunk)
    X, _ = ragged
    expected = np.concatenate(X).std(axis=0)
    np.testing.assert_allclose(standard_deviations(TSEArray(X), np.ones(12)), expected)


def test_weights_count_as_repetitions_of_the_sequence(ragged):
    X, _ = ragged
    weight = np.arange(12) % 4
    repeated = np.concatenate([X[i] for i in np.repeat(np.arange(12), weight)])
    scale = standard_deviations(TSEArray(X), weight.astype(float))
    np.testing.assert_allclose(scale, repeated.std(axis=0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_too_small_to_divide_by_counts_as_constant(dtype):
    tiny = np.finfo(dtype).tiny
    X = TSEArray([np.array([[7, 0, 1], [7, tiny / 8, 3]], dtype=dtype)])
    scale = standard_deviations(X, np.ones(1))
    assert scale.dtype == dtype
    assert scale.tolist() == [1.0, 1.0, 1.0]
