import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid import TSEArray
from skdejavid.sequences import array as sequences
from skdejavid.sequences.statistics import (
    is_of_equal_frames,
    standard_deviations,
    weighted_median,
)

WEIGHTED = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 4)), min_size=1, max_size=9)


@given(WEIGHTED)
def test_the_weighted_median_is_that_of_repetitions(pairs):
    values, weight = np.array(pairs).T
    repeated = np.sort(np.repeat(values, weight))
    expected = repeated[(len(repeated) - 1) // 2]  # the lower of two middle ones
    assert weighted_median(values, weight.astype(float)) == expected


@pytest.mark.parametrize("rows_per_chunk", [1, 5, 10**6])
def test_standard_deviations_are_those_of_all_frames(rows_per_chunk, ragged, monkeypatch):
    monkeypatch.setattr(sequences, "_NUMBERS_PER_CHUNK", 4 * rows_per_chunk)
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


@pytest.mark.parametrize("rows_per_chunk", [7, 10**6])
def test_a_constant_is_found_whatever_the_weights_and_chunks(rows_per_chunk, ragged, monkeypatch):
    monkeypatch.setattr(sequences, "_NUMBERS_PER_CHUNK", 4 * rows_per_chunk)
    X = TSEArray([np.hstack([x, np.full((len(x), 1), 7.3)]) for x in ragged[0]])
    for weight in (np.ones(12), np.full(12, 1 / 12), np.random.default_rng(0).random(12)):
        assert standard_deviations(X, weight)[3] == 1.0


@pytest.mark.parametrize("rows_per_chunk", [1, 5, 10**6])
def test_those_of_a_selection_are_those_of_its_copy(rows_per_chunk, ragged, monkeypatch):
    monkeypatch.setattr(sequences, "_NUMBERS_PER_CHUNK", 3 * rows_per_chunk)
    X = TSEArray(ragged[0])[[11, 3, 3, 8, 0, 5]]
    weight = np.random.default_rng(0).random(6)
    scale = standard_deviations(X, weight)
    np.testing.assert_array_equal(scale, standard_deviations(X.packed(), weight))
    assert not np.array_equal(scale, standard_deviations(X[::-1], weight))


@pytest.mark.fault(93, 116)
@given(st.sampled_from([(np.float32, 110), (np.float64, 500)]), st.data())
def test_deviations_follow_the_unit_of_each_feature_exactly(dtype_and_limit, data):
    """In units that differ by powers of two, however large, they are the same to the bit."""
    dtype, limit = dtype_and_limit
    exponents = data.draw(st.lists(st.integers(-limit, limit), min_size=3, max_size=3))
    rng = np.random.default_rng(0)
    X = [rng.standard_normal((n, 3)).astype(dtype) for n in (3, 1, 8)]
    weight = np.array([1.0, 0.25, 3.0])
    scaled = [np.ldexp(x, exponents).astype(dtype) for x in X]
    expected = np.ldexp(standard_deviations(TSEArray(X), weight), exponents)
    np.testing.assert_array_equal(standard_deviations(TSEArray(scaled), weight), expected)


@pytest.mark.fault(116)
@pytest.mark.parametrize("value", [1e-200, 1e-300, 3e200, 1e300])
def test_deviations_whose_squares_vanish_or_overflow_are_known(value):
    X = TSEArray([np.array([[0.0, value], [value, value], [0.0, value], [value, value]])])
    np.testing.assert_allclose(standard_deviations(X, np.ones(1)), [value / 2, 1.0])


@given(
    value=st.sampled_from([0.0, 0.1, -1e30, 5e-324]),
    lengths=st.lists(st.integers(1, 5), min_size=1),
)
def test_frames_are_equal_only_if_no_number_differs(value, lengths):
    frames = [np.full((n, 2), value) for n in lengths]
    assert is_of_equal_frames(TSEArray(frames))
    frames[-1][-1, 1] = np.nextafter(value, np.inf)
    assert is_of_equal_frames(TSEArray(frames)) == (sum(lengths) == 1)
