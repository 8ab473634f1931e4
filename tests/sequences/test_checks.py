import copy
import pickle
import warnings

import awkward as ak
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import (
    DejaVidClassifier,
    Framewise,
    Resample,
    TimeDifferences,
    TSEArray,
    check_sequences,
)
from skdejavid.sequences import array as sequences_module
from skdejavid.sequences.checks import check_half_range, check_no_overflow, read_checked
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


@pytest.mark.filterwarnings("ignore:X is a 2-D array, and each")
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
    "TSEArray of rows": TSEArray(np.array(ROWS)[:, None]),
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


rows_are_meant = pytest.mark.filterwarnings("ignore:X is a 2-D array, and each of its")


@rows_are_meant
@pytest.mark.parametrize(
    ("X", "expected"),
    [
        *(pytest.param(X, True, id=name) for name, X in TABLES.items()),
        *(pytest.param(X, False, id=name) for name, X in NO_TABLES.items()),
    ],
)
def test_tables_are_told_from_sequences_as_reading_tells_them(X, expected):
    assert read_checked(X).is_table == expected
    if not isinstance(X, TSEArray):
        assert read(X).is_table == expected


class Exported:
    """A table of another library, which is computed each time that it is exported."""

    def __init__(self, table):
        self.table, self.n_exports = table, 0
        self.columns = table.column_names

    def __arrow_c_stream__(self, requested_schema=None):
        self.n_exports += 1
        return self.table.__arrow_c_stream__(requested_schema)

    def __len__(self):
        return len(self.table)


@rows_are_meant
@pytest.mark.fault(94)
def test_a_table_is_read_once():
    table = pa.table({"a": [1.0, 3.0], "b": [2.0, 4.0]})
    rows, sequences = Exported(table), [Exported(table), Exported(table)]
    for X, all_of_it in ((rows, [rows]), (sequences, sequences)):
        fitted = TimeDifferences(lags=[1]).fit(X)
        assert fitted.feature_names_in_.tolist() == ["a", "b"]
        assert [part.n_exports for part in all_of_it] == [1] * len(all_of_it)
        fitted.transform(X)
        assert [part.n_exports for part in all_of_it] == [2] * len(all_of_it)
    column = Exported(pa.table({"x": [[[1.0]], [[2.0]]]}))
    assert check_sequences(column).frames.tolist() == [[1.0], [2.0]]
    assert column.n_exports == 1


@pytest.mark.parametrize(
    "convert",
    [pd.DataFrame, pl.DataFrame, pa.table, lambda table: table],
    ids=["pandas", "polars", "Arrow", "dict"],
)
@rows_are_meant
def test_names_are_those_of_the_columns(convert):
    table = convert({"a": [1.0, 3.0], "b": [2.0, 4.0]})
    if isinstance(table, dict):
        table = np.array(list(table.values())).T
    expected = ("a", "b") if hasattr(table, "columns") else None
    for X in (table, [table, table], TSEArray([table])):
        assert read_checked(X).sequences.feature_names == expected
        assert TSEArray(X).feature_names == expected


@rows_are_meant
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


SEVERAL = [np.array(ROWS), np.array(ROWS)[::-1]]
FITTED = {
    "classifier": lambda X: DejaVidClassifier(n_epochs=1, random_state=0).fit(X, [0, 1]),
    "differences": lambda X: TimeDifferences().fit(X),
    "resampling": lambda X: Resample(2).fit(X),
    "framewise": lambda X: Framewise(StandardScaler()).fit(X),
}
METHODS = ["predict", "predict_proba", "decision_function", "transform"]
REFUSED = (
    r"X is a 2-D array, whose 2 rows would be .*fitted to sequences of several frames.*"
    r"\[X\].*from_long"
)


@pytest.mark.fault(94, 112)
@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("convert", [np.array, list, pd.DataFrame, torch.tensor])
def test_a_table_is_refused_where_sequences_were_fitted(name, convert):
    fitted = FITTED[name](SEVERAL)
    table = convert(ROWS)
    for method in METHODS:
        if hasattr(fitted, method):
            with pytest.raises(ValueError, match=REFUSED):
                getattr(fitted, method)(table)
            getattr(fitted, method)([np.array(ROWS)])
            getattr(fitted, method)(np.array(ROWS)[:, None])
    if hasattr(fitted, "score"):
        with pytest.raises(ValueError, match=REFUSED):
            fitted.score(table, [0, 1])


@rows_are_meant
@pytest.mark.fault(94)
@pytest.mark.parametrize("name", FITTED)
def test_a_table_is_taken_where_single_frames_were_fitted(name):
    for X in (np.array(ROWS), np.array(ROWS)[:, None]):
        fitted = FITTED[name](X)
        assert fitted.single_frames_in_ is True
        method = "predict" if hasattr(fitted, "predict") else "transform"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            getattr(fitted, method)(np.array(ROWS))


@pytest.mark.fault(94)
@pytest.mark.parametrize("name", FITTED)
def test_fitting_a_table_warns(name):
    with pytest.warns(DataDimensionalityWarning, match="each of its 2 rows is read as a sequence"):
        FITTED[name](np.array(ROWS))


@pytest.mark.fault(94)
@pytest.mark.parametrize("way", ["save", "pickle", "copy"])
def test_what_a_model_was_fitted_to_is_stored_with_it(way, tmp_path):
    clf = FITTED["classifier"](SEVERAL)
    if way == "save":
        clf.save(tmp_path / "x.safetensors")
        again = DejaVidClassifier.load(tmp_path / "x.safetensors")
    else:
        again = pickle.loads(pickle.dumps(clf)) if way == "pickle" else copy.deepcopy(clf)
    assert again.single_frames_in_ is False
    with pytest.raises(ValueError, match=REFUSED):
        again.predict(ROWS)


@pytest.mark.parametrize("is_unknown", ["absent", "None"])
def test_a_model_that_does_not_know_what_it_was_fitted_to_warns(is_unknown):
    clf = FITTED["classifier"](SEVERAL)
    if is_unknown == "absent":
        del clf.single_frames_in_
    else:
        clf.single_frames_in_ = None
    with pytest.warns(DataDimensionalityWarning, match="each of its 2 rows is read as a sequence"):
        assert clf.predict(ROWS).shape == (2,)


@rows_are_meant
def test_a_warm_start_with_longer_sequences_changes_what_was_fitted():
    clf = DejaVidClassifier(n_epochs=1, warm_start=True, random_state=0).fit(np.array(ROWS), [0, 1])
    clf.fit(SEVERAL, [0, 1])
    assert clf.single_frames_in_ is False


@pytest.mark.fault(112, 117)
@pytest.mark.parametrize("part", ["frame", "series"])
def test_panels_with_two_levels_of_index_are_refused_everywhere(part):
    panel = pd.concat([pd.DataFrame(ROWS)] * 2, keys=["i", "j"], names=["instance", "time"])
    panel = panel if part == "frame" else panel[0]
    message = r"levels \['instance', 'time'\].*TSEArray.from_sktime\(X\).*reset_index\(drop=True\)"
    clf = FITTED["classifier"](SEVERAL)
    for call in (TSEArray, clf.predict, lambda X: clf.fit(X, [0, 1] * 2)):
        with pytest.raises(ValueError, match=message):
            call(panel)
    assert TSEArray.from_sktime(panel).lengths.tolist() == [2, 2]


def channels_before_time(rng):
    """Return series (n_channels, n_timepoints), in which each channel has a level of its own."""
    steps = rng.standard_normal((24, 6, 60))
    return np.cumsum(steps, axis=2) + 20 * np.array([1, -1, 1, -1, 1, -1])[:, None]


@pytest.mark.fault(95)
def test_fitting_warns_if_channels_seem_to_come_before_time(rng):
    X = channels_before_time(rng)
    y = np.arange(24) % 2
    with pytest.warns(DataDimensionalityWarning, match=r"6 frames and 60 features.*from_aeon\(X\)"):
        DejaVidClassifier(n_epochs=1, differences=None, random_state=0).fit(X, y)
    with pytest.warns(DataDimensionalityWarning, match=r"If not, TSEArray\(X\) says that this"):
        TimeDifferences().fit(list(X))
    right = TSEArray.from_aeon(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = DejaVidClassifier(n_epochs=1, differences=None, random_state=0).fit(right, y)
        clf.predict(right)


@pytest.mark.fault(95)
def test_the_series_of_aeon_cause_the_warning():
    import aeon.datasets

    X, _ = aeon.datasets.load_basic_motions(split="train")
    with pytest.warns(DataDimensionalityWarning, match=r"6 frames and 100 features.*from_aeon"):
        check_sequences(X, estimator=BaseEstimator())


@pytest.mark.fault(95)
def test_nobody_is_warned_of_a_layout_that_was_said(rng):
    """By the container, or by the names of the features."""
    X = channels_before_time(rng)
    names = [f"bin {k}" for k in range(60)]
    said = {
        "container": TSEArray(X),
        "packed": TSEArray.from_packed(X.reshape(-1, 60), np.arange(25) * 6),
        "selection": TSEArray(X)[::-1],
        "names": [pd.DataFrame(x, columns=names) for x in X],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for way in said.values():
            check_sequences(way, estimator=BaseEstimator())
    estimator = check_and_return(said["names"])
    with pytest.warns(DataDimensionalityWarning, match="from_aeon"):  # the names are gone again
        check_sequences(X, estimator=estimator)


def check_and_return(X):
    estimator = BaseEstimator()
    check_sequences(X, estimator=estimator)
    return estimator


@pytest.mark.fault(94, 95)
def test_a_smooth_table_causes_one_warning(rng):
    X = np.cumsum(rng.standard_normal((30, 60)), axis=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_sequences(X, estimator=BaseEstimator())
    assert ["is read as a sequence of one frame" in str(item.message) for item in caught] == [True]


@pytest.mark.fault(95)
def test_a_pipeline_warns_once(rng):
    X, y = channels_before_time(rng), np.arange(24) % 2
    pipeline = make_pipeline(TimeDifferences(), DejaVidClassifier(n_epochs=1, random_state=0))
    with pytest.warns(DataDimensionalityWarning, match="from_aeon") as caught:
        pipeline.fit(X, y)
    assert len(caught) == 1


@pytest.mark.fault(95)
def test_predicting_names_the_reader_if_frames_and_features_are_exchanged(rng):
    estimator = BaseEstimator()
    check_sequences(rng.standard_normal((3, 9, 4)), estimator=estimator)
    with pytest.raises(ValueError, match=r"(?s)X has 9 features, but .* expecting 4 .*from_aeon"):
        check_sequences(np.zeros((3, 4, 9)), estimator=estimator, reset=False)
    with pytest.raises(ValueError, match="X has 9 features") as caught:
        check_sequences(np.zeros((3, 5, 9)), estimator=estimator, reset=False)
    assert "from_aeon" not in str(caught.value)


@pytest.mark.fault(117)
def test_padding_is_named_as_such():
    X = np.ones((2, 4, 3))
    X[1, 2:] = np.nan
    message = r"X\[1\] contains NaN, .* frame 2.*from_padded.*from_tsl.*Interpolate\(\), or Frame"
    with pytest.raises(ValueError, match=message):
        check_sequences(X)
    X[1, 3, 0] = 0.0
    with pytest.raises(ValueError, match=r"X\[1\] contains NaN") as caught:
        check_sequences(X)
    assert "padding" not in str(caught.value)


@pytest.mark.fault(117)
def test_a_last_frame_that_is_missing_may_be_padding_or_not():
    X = np.ones((1, 4, 3))
    X[0, 1, 0] = X[0, 3] = np.nan
    with pytest.raises(ValueError, match=r"frame 1, .*from_padded.*Interpolate\(\)"):
        check_sequences(X)


@pytest.mark.fault(117)
def test_padding_before_the_frames_is_cut_off_as_the_message_says():
    X = [np.arange(8.0).reshape(4, 2), np.arange(8.0).reshape(4, 2)]
    X[1][:2] = np.nan
    message = r"X\[1\] contains NaN, first at frame 0, .* begins with frames of NaN: .*cut them off"
    with pytest.raises(ValueError, match=message) as caught:
        check_sequences(X)
    assert "from_padded" not in str(caught.value)
    remedy = str(caught.value).split("with ")[-1].split(". Fill")[0]
    cut = eval(remedy, {"numpy": np, "X": X})
    assert [x.tolist() for x in check_sequences(cut)] == [X[0].tolist(), [[4, 5], [6, 7]]]


def test_a_sequence_of_nothing_but_nan_has_no_padding():
    with pytest.raises(ValueError, match=r"X\[1\] .* All its numbers are NaN: remove the sequence"):
        check_sequences([np.ones((2, 2)), np.full((3, 2), np.nan)])


NAMES = [list("ab"), list("ba"), list("ax"), list("abc"), [f"n{k}" for k in range(8)], None]


def heard(X, fitted_names):
    """Return what an estimator says about the names of X that was fitted to others, or to none."""
    estimator = BaseEstimator()
    n_features = TSEArray(X).n_features
    check_sequences(
        np.zeros((1, 2, n_features))
        if fitted_names is None
        else [pd.DataFrame(np.zeros((2, len(fitted_names))), columns=fitted_names)],
        estimator=estimator,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_sequences(X, estimator=estimator, reset=False)
        except ValueError as error:
            return str(error)
    return [(item.category, str(item.message)) for item in caught]


@pytest.mark.parametrize("given_names", NAMES, ids=str)
@pytest.mark.parametrize("fitted_names", NAMES, ids=str)
def test_a_container_with_names_is_checked_as_data_frames_are(given_names, fitted_names):
    x = np.zeros((2, 2 if given_names is None else len(given_names)))
    frame = x if given_names is None else pd.DataFrame(x, columns=given_names)
    container = TSEArray([x], feature_names=given_names)
    assert heard(container, fitted_names) == heard([frame], fitted_names)
    assert (heard(container, fitted_names) == []) == (given_names == fitted_names)


def test_fitting_takes_the_names_of_a_container_or_forgets_those_of_the_fit_before():
    estimator = BaseEstimator()
    x = np.zeros((2, 2))
    check_sequences(TSEArray([x], feature_names=["a", "b"]), estimator=estimator)
    expected = check_and_return([pd.DataFrame(x, columns=["a", "b"])])
    assert vars(estimator).keys() == vars(expected).keys()
    assert estimator.feature_names_in_.tolist() == ["a", "b"]
    assert estimator.feature_names_in_.dtype == expected.feature_names_in_.dtype == object
    assert estimator.n_features_in_ == 2
    check_sequences(TSEArray([x]), estimator=estimator)
    assert not hasattr(estimator, "feature_names_in_")


def test_exchanged_axes_are_named_also_if_there_are_names():
    estimator = check_and_return(TSEArray(np.zeros((3, 9, 4)), feature_names=list("abcd")))
    X = TSEArray(np.zeros((3, 4, 9)), feature_names=[f"t{k}" for k in range(9)])
    with pytest.raises(ValueError, match=r"(?s)names should match .*- t0\n.*from_aeon"):
        check_sequences(X, estimator=estimator, reset=False)
