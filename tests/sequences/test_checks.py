import awkward as ak
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sklearn.base import BaseEstimator

from skdejavid import DejaVidClassifier, TSEArray, check_sequences
from skdejavid.sequences import array as sequences_module
from skdejavid.sequences.checks import check_half_range, check_no_overflow, is_table_of_frames
from skdejavid.sequences.containers import read


@pytest.mark.fault(5)
def test_an_empty_selection_is_no_data():
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        check_sequences(TSEArray(np.zeros((2, 3, 4)))[[]])


@pytest.mark.fault(7)
def test_an_estimator_learns_and_checks_the_number_of_features():
    estimator = BaseEstimator()
    check_sequences(np.zeros((2, 3, 4)), estimator=estimator)
    assert estimator.n_features_in_ == 4
    check_sequences([np.zeros((9, 4))], estimator=estimator, reset=False)
    for wrong in ([np.zeros((9, 3))], np.zeros((5, 3))):
        with pytest.raises(ValueError, match="X has 3 features, but BaseEstimator is expecting 4"):
            check_sequences(wrong, estimator=estimator, reset=False)


def test_an_estimator_learns_the_names_of_a_data_frame():
    estimator = BaseEstimator()
    check_sequences(pd.DataFrame({"a": [1.0], "b": [2.0]}), estimator=estimator)
    assert estimator.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names should match"):
        check_sequences(pd.DataFrame({"b": [1.0], "a": [2.0]}), estimator=estimator, reset=False)


@pytest.mark.parametrize("container", [list, tuple, pd.Series], ids=["list", "tuple", "Series"])
def test_columns_of_data_frames_name_the_features(container):
    estimator = BaseEstimator()
    frames = [pd.DataFrame(np.eye(2), columns=list("ab")) for _ in range(3)]
    check_sequences(container(frames), estimator=estimator)
    assert estimator.feature_names_in_.tolist() == ["a", "b"]
    turned = container([frame[["b", "a"]] for frame in frames])
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        check_sequences(turned, estimator=estimator, reset=False)


@pytest.mark.fault(1)
def test_the_place_of_a_bad_number_is_told_for_rows_as_well():
    rows = np.zeros((4, 3))
    rows[2, 1] = np.nan
    for X in (rows, rows[:, None]):
        with pytest.raises(ValueError, match=r"X\[2\] contains NaN, first at frame 0, feature 1"):
            check_sequences(X)


@pytest.mark.fault(1, 2)
@pytest.mark.parametrize("n_numbers", [1, 20, 10**6])
def test_the_place_of_a_bad_number_is_that_in_the_selection(n_numbers, ragged, monkeypatch):
    monkeypatch.setattr(sequences_module, "_NUMBERS_PER_CHUNK", n_numbers)
    X, _ = ragged
    X[7][4, 2] = -np.inf
    X[9][0, 1] = np.nan
    with pytest.raises(ValueError, match=r"X\[1\] contains infinity .* at frame 4, feature 2"):
        check_sequences(TSEArray(X)[[11, 7, 9]])
    with pytest.raises(ValueError, match=r"X\[0\] contains NaN, first at frame 0, feature 1"):
        check_sequences(TSEArray(X)[9:6:-1])
    found = check_sequences(TSEArray(X)[[11, 8, 0]])
    for mine, i in zip(found, [11, 8, 0], strict=True):
        np.testing.assert_array_equal(mine, X[i])


def test_finite_numbers_whose_sum_overflows_are_let_in():
    check_sequences(np.full((2, 3, 1), np.finfo(np.float64).max))


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 3e38), (np.float64, 1e200)])
def test_values_whose_distances_overflow_are_named(dtype, size):
    X = [np.ones((4, 2), dtype) for _ in range(5)]
    check_no_overflow(TSEArray(X))
    X[3][2, 1] = -size
    with pytest.raises(ValueError, match=r"X\[3\] contains .* distances would overflow in float"):
        check_no_overflow(TSEArray(X))


@pytest.mark.parametrize("rows_per_chunk", [1, 4, 10**6])
def test_the_largest_value_is_named_by_its_place_in_the_selection(
    rows_per_chunk, ragged, monkeypatch
):
    monkeypatch.setattr(sequences_module, "_NUMBERS_PER_CHUNK", 3 * rows_per_chunk)
    X, _ = ragged
    X[6][2, 0], X[4][4, 2], X[10][0, 1], X[2][0, 0] = 1e200, -1e201, 1e201, -1e300
    with pytest.raises(ValueError, match=r"X\[2\] contains values up to 1e\+201"):
        check_no_overflow(TSEArray(X)[[0, 6, 4, 10]])
    check_no_overflow(TSEArray(X)[[0, 7, 5, 11]])


def test_half_precision_is_for_float32_within_its_range():
    X = [np.full((2, 3), -65504.0, np.float32), np.zeros((4, 3), np.float32)]
    check_half_range(TSEArray(X))
    X[1][3, 2] = 65536
    with pytest.raises(ValueError, match=r"X\[1\] contains values up to 6.55e\+04.* \+-65504"):
        check_half_range(TSEArray(X))
    with pytest.raises(ValueError, match="half_storage=True requires float32 data"):
        check_half_range(TSEArray([x.astype(float) for x in X]))


ROWS = [[1.0, 2.0], [3.0, 4.0]]


class MapStyle:
    """A collection with only a length and items."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.array([ROWS])[:, index]


TABLES = {
    "array": np.array(ROWS),
    "lists": ROWS,
    "lists of one": [[1], [2]],
    "data frame": pd.DataFrame(ROWS),
    "tensor": torch.tensor(ROWS),
    "Arrow table": pa.table({"a": [1.0, 3.0], "b": [2.0, 4.0]}),
    "awkward": ak.Array(ROWS),
    "objects": np.array(ROWS, dtype=object),
}
NO_TABLES = {
    "TSEArray of a table": TSEArray(np.array(ROWS)),
    "TSEArray": TSEArray([ROWS]),
    "list of arrays": [np.array(ROWS)[:1], np.array(ROWS)[1:]],
    "three axes": np.array(ROWS)[:, None],
    "tensors": [torch.tensor(ROWS)[:1]],
    "one column of arrays": pd.DataFrame({"x": [np.array(ROWS)]}),
    "Series": pd.Series([np.array(ROWS)[:1], np.array(ROWS)[1:]]),
    "Arrow column": pa.array([[row] for row in ROWS]),
    "awkward of three axes": ak.Array([[row] for row in ROWS]),
    "map-style": MapStyle(),
}


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        *(pytest.param(X, True, id=name) for name, X in TABLES.items()),
        *(pytest.param(X, False, id=name) for name, X in NO_TABLES.items()),
    ],
)
def test_tables_are_told_from_sequences_as_reading_tells_them(X, expected):
    assert is_table_of_frames(X) == expected
    if not isinstance(X, TSEArray):
        assert read(X).is_table == expected


@pytest.mark.parametrize("X", [*TABLES.values(), *NO_TABLES.values()], ids=[*TABLES, *NO_TABLES])
def test_with_an_estimator_the_same_is_read_as_without(X):
    estimator = BaseEstimator()
    for checked in (check_sequences(X), TSEArray(X)):
        found = check_sequences(X, estimator=estimator)
        np.testing.assert_array_equal(found.frames, checked.frames)
        np.testing.assert_array_equal(found.offsets, checked.offsets)
        assert found.frame_dtype == checked.frame_dtype
    assert estimator.n_features_in_ == checked.n_features


def test_sequences_that_have_just_been_read_are_not_checked_a_second_time(monkeypatch, ragged):
    model = DejaVidClassifier(2, n_epochs=1, random_state=0).fit(*ragged)
    expected = model.predict(ragged[0])

    def refuse(*arguments):
        raise AssertionError("from_packed checks its arguments")

    monkeypatch.setattr(TSEArray, "from_packed", refuse)
    assert model.predict(ragged[0]).tolist() == expected.tolist()


@pytest.mark.fault(96)
def test_missing_values_are_kept_where_they_are_allowed():
    X = [np.array([[1.0, np.nan]]), np.array([[np.inf, 2.0], [3.0, 4.0]])]
    missing = check_sequences(X[:1], ensure_all_finite="allow-nan")
    np.testing.assert_array_equal(missing[0], X[0])
    with pytest.raises(ValueError, match=r"X\[1\] contains infinity .* frame 0, feature 0\.$"):
        check_sequences(X, ensure_all_finite="allow-nan")
    assert np.isinf(check_sequences(X, ensure_all_finite=False)[1][0, 0])
    with pytest.raises(ValueError, match=r"X\[0\] contains NaN, .* feature 1\. Fill in missing"):
        check_sequences(X)
    with pytest.raises(ValueError, match='ensure_all_finite must be True, False or "allow-nan"'):
        check_sequences(X, ensure_all_finite="allow_nan")
