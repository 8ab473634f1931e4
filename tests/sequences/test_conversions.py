"""Conversions to other libraries and back give the same values."""

import sys

import awkward as ak
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from skdejavid import TSEArray, check_sequences, dtw_distances

ROUND_TRIPS = {
    "aeon": lambda X: TSEArray.from_aeon(X.to_aeon()),
    "padded": lambda X: TSEArray.from_padded(X.to_padded()),
    "padded, lengths": lambda X: TSEArray.from_padded(X.to_padded(0.0), lengths=X.lengths),
    "tslearn": lambda X: TSEArray.from_tslearn(X.to_tslearn()),
    "sktime df-list": lambda X: TSEArray.from_sktime(X.to_sktime()),
    "sktime pd-multiindex": lambda X: TSEArray.from_sktime(X.to_sktime("pd-multiindex")),
    "Arrow": lambda X: TSEArray.from_arrow(X.to_arrow()),
    "awkward": lambda X: TSEArray.from_awkward(X.to_awkward()),
    "Arrow, checked": lambda X: check_sequences(X.to_arrow()),
    "awkward, checked": lambda X: check_sequences(X.to_awkward()),
}
EVERY_ROUND_TRIP = pytest.mark.parametrize("round_trip", ROUND_TRIPS.values(), ids=ROUND_TRIPS)


@st.composite
def ragged_data(draw):
    """Draw finite numbers in sequences of any lengths, and a selection of these."""
    n_features = draw(st.integers(1, 4))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=np.dtype(dtype).itemsize * 8)
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    values = draw(numpy_strategies.arrays(dtype, (sum(lengths), n_features), elements=numbers))
    X = TSEArray.from_packed(values, [0, *np.cumsum(lengths)])
    order = draw(st.lists(st.sampled_from(range(len(X))), min_size=1, max_size=6))
    return X[order]


def assert_equal(mine, theirs):
    assert isinstance(mine, TSEArray)
    assert mine.frame_dtype == theirs.frame_dtype
    assert mine.offsets.tolist() == theirs.offsets.tolist()
    np.testing.assert_array_equal(mine.frames, theirs.frames)
    np.testing.assert_array_equal(np.signbit(mine.frames), np.signbit(theirs.frames))


@pytest.mark.slow
@EVERY_ROUND_TRIP
@given(X=ragged_data())
def test_round_trips_change_no_bit_of_ragged_data(round_trip, X):
    assert_equal(round_trip(X), X)


@EVERY_ROUND_TRIP
def test_round_trips_change_no_bit_of_japanese_vowels(round_trip, japanese_vowels):
    X = japanese_vowels[0]
    assert_equal(round_trip(X), X)
    assert_equal(round_trip(X[::-7]), X[::-7])


@EVERY_ROUND_TRIP
def test_spans_stay_behind(round_trip):
    X = TSEArray.from_packed(np.ones((5, 3)), [0, 2, 5], np.arange(10.0).reshape(5, 2))
    assert round_trip(X).spans is None


@EVERY_ROUND_TRIP
def test_round_trips_leave_their_input_alone(round_trip, ragged):
    X = TSEArray(ragged[0])
    before = X.frames.copy()
    round_trip(X)
    np.testing.assert_array_equal(X.frames, before)


@pytest.mark.slow  # importing the library takes seconds
def test_japanese_vowels_of_aeon_is_itself_again():
    import aeon.utils.validation.collection as aeon_collections
    from aeon.datasets import load_japanese_vowels

    series, _ = load_japanese_vowels("train")
    back = TSEArray.from_aeon(series).to_aeon()
    assert len(back) == len(series) == 270
    for mine, theirs in zip(back, series, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert aeon_collections.get_type(back) == "np-list"
    assert aeon_collections.get_n_channels(back) == 12


def test_what_goes_to_aeon_is_a_copy_in_its_own_layout(ragged):
    X = TSEArray(ragged[0])
    for mine, theirs in zip(X.to_aeon(), X, strict=True):
        assert mine.flags.c_contiguous
        assert not np.shares_memory(mine, theirs)
        np.testing.assert_array_equal(mine, theirs.T)


def test_the_layout_of_aeon_is_transposed(rng):
    equal = rng.standard_normal((4, 3, 6))
    for X in (equal, torch.from_numpy(equal), list(torch.from_numpy(equal)), list(equal)):
        np.testing.assert_array_equal(list(TSEArray.from_aeon(X)), equal.transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([np.zeros(5)], r"X\[0\] must be 2-D \(n_channels, n_timepoints\), got 1-D .*x\[None, :\]"),
        ([np.zeros((3, 5)), np.zeros((2, 6))], r"X\[1\] has 2 channels, but X\[0\] has 3"),
        (
            [np.zeros((5, 3)), np.zeros((6, 3))],
            r"X\[1\] has shape \(6, 3\).*time comes first.*TSE",
        ),
        ([np.zeros((3, 5)), np.zeros((3, 0))], r"X\[1\] has 0 timestep"),
        (np.ma.masked_array(np.zeros((2, 3, 4))), "masked array"),
        ([], r"0 sample\(s\)"),
    ],
)
def test_what_is_not_of_the_layout_of_aeon_is_named(X, message):
    with pytest.raises(ValueError, match=message):
        TSEArray.from_aeon(X)


@pytest.mark.slow  # importing the library takes seconds
def test_tslearn_pads_as_we_do(ragged):
    from tslearn.utils import to_time_series_dataset

    X = TSEArray(ragged[0])
    np.testing.assert_array_equal(X.to_tslearn(), to_time_series_dataset(ragged[0]))
    assert_equal(TSEArray.from_tslearn(to_time_series_dataset(ragged[0])), X)


@pytest.mark.slow
def test_tslearn_reads_what_we_give_it(ragged):
    """Tslearn sums squares and takes the root, which is our cost for one feature and one frame."""
    from tslearn.metrics import dtw

    X = TSEArray(ragged[0])[:1]
    theirs = dtw(X.to_tslearn()[0], np.zeros((1, 3)))
    assert theirs == pytest.approx(np.linalg.norm(X[0]))
    one = TSEArray([X[0][:, :1]])
    assert dtw(one.to_tslearn()[0], [[0.0]]) == dtw_distances(one, [[[0.0]]]) == abs(X[0][0, 0])


def test_univariate_series_of_tslearn_have_one_feature():
    X = TSEArray.from_tslearn(np.array([[1.0, 2.0, np.nan], [3.0, 4.0, 5.0]]))
    assert [x.tolist() for x in X] == [[[1.0], [2.0]], [[3.0], [4.0], [5.0]]]


def test_frames_that_tslearn_would_take_for_padding_are_not_lost():
    X = TSEArray([np.zeros((2, 2)), np.array([[1.0, 1.0], [np.nan, np.nan]])])
    with pytest.raises(ValueError, match=r"X\[1\] ends with a frame of NaN"):
        X.to_tslearn()
    X.frames[3, 0] = 0.0
    assert_equal(TSEArray.from_tslearn(X.to_tslearn()), X)


NAN = np.nan


def test_only_frames_at_the_end_without_a_number_are_padding():
    X = np.array(
        [
            [[NAN, NAN], [1.0, 2.0], [NAN, NAN], [3.0, NAN], [NAN, NAN], [NAN, NAN]],
            [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [NAN, 2.0]],
        ]
    )
    found = TSEArray.from_padded(X)
    assert found.lengths.tolist() == [4, 6]
    np.testing.assert_array_equal(found[0], X[0, :4])
    np.testing.assert_array_equal(found[1], X[1])
    with pytest.raises(ValueError, match=r"X\[0\] contains NaN, first at frame 0, feature 0"):
        check_sequences(found)
    with pytest.raises(ValueError, match=r"X\[0\] contains NaN, first at frame 4, feature 0"):
        check_sequences(X[:, 1:][:, [0, 0, 0, 0, 1]])


@given(ragged_data(), st.floats(width=32))
def test_lengths_and_masks_cut_any_padding(X, fill_value):
    padded = X.to_padded(fill_value)
    mask = np.arange(padded.shape[1]) < X.lengths[:, None]
    np.testing.assert_array_equal(padded[mask], X.frames)
    np.testing.assert_array_equal(padded[~mask], fill_value)
    assert_equal(TSEArray.from_padded(padded, lengths=X.lengths), X)
    assert_equal(TSEArray.from_padded(padded, mask=mask), X)
    tensors = (torch.from_numpy(padded), torch.from_numpy(mask))
    assert_equal(TSEArray.from_padded(tensors[0], mask=tensors[1]), X)


def test_what_has_no_padding_is_not_copied():
    X = np.ones((3, 4, 2))
    for found in (TSEArray.from_padded(X), TSEArray.from_padded(X, lengths=[4, 4, 4])):
        assert np.shares_memory(found.frames, X)


@pytest.mark.parametrize(
    ("X", "options", "message"),
    [
        (np.zeros((2, 3)), {}, r"X must be 3-D .*got 2-D with shape \(2, 3\)"),
        ([[[1.0]], [[1.0], [2.0]]], {}, r"differ in length. Use TSEArray\(X\)"),
        (np.ma.masked_array(np.zeros((2, 3, 1))), {}, "masked array"),
        (np.zeros((0, 3, 1)), {}, r"0 sample\(s\)"),
        (np.zeros((2, 3, 0)), {}, r"X\[0\] has 0 "),
        (np.stack([np.zeros((3, 1)), np.full((3, 1), NAN)]), {}, r"X\[1\] has 0 timestep\(s\)"),
        (np.zeros((2, 3, 1)), {"lengths": [1]}, r"lengths must be 2 integers.*shape \(1,\)"),
        (np.zeros((2, 3, 1)), {"lengths": [1.0, 2.0]}, "lengths must be 2 integers.*float64"),
        (np.zeros((2, 3, 1)), {"lengths": [3, 4]}, r"lengths\[1\] is 4, expected 1 to 3 frames"),
        (np.zeros((2, 3, 1)), {"lengths": [0, 3]}, r"lengths\[0\] is 0"),
        (np.zeros((2, 3, 1)), {"mask": [True, True]}, r"mask must be boolean, of shape \(2, 3\)"),
        (np.zeros((2, 3, 1)), {"mask": np.ones((2, 3))}, "mask must be boolean.*float64"),
        (
            np.zeros((2, 3, 1)),
            {"mask": [[True, True, True], [True, False, True]]},
            r"mask\[1\] has padding before a frame, at 1",
        ),
        (np.zeros((2, 3, 1)), {"mask": np.zeros((2, 3), bool)}, r"X\[0\] has 0 timestep\(s\)"),
        (np.zeros((1, 1, 1)), {"lengths": [1], "mask": [[True]]}, "pass only one of them"),
    ],
)
def test_what_is_not_padded_as_said_is_named(X, options, message):
    with pytest.raises(ValueError, match=message):
        TSEArray.from_padded(X, **options)


@pytest.mark.slow  # importing the library takes seconds
def test_sktime_accepts_what_we_make(ragged):
    from sktime.datatypes import check_raise, convert_to

    X = TSEArray(ragged[0])
    for mtype in ("df-list", "pd-multiindex"):
        panel = X.to_sktime(mtype)
        assert check_raise(panel, mtype=mtype, scitype="Panel")
        theirs = convert_to(panel, "df-list", as_scitype="Panel")
        for mine, frame in zip(X, theirs, strict=True):
            np.testing.assert_array_equal(frame.to_numpy(), mine)
            assert frame.columns.tolist() == ["var_0", "var_1", "var_2"]


@pytest.mark.slow  # importing the library takes seconds
@pytest.mark.parametrize("mtype", ["df-list", "pd-multiindex", "nested_univ"])
def test_panels_that_sktime_makes_are_read(mtype, ragged):
    from sktime.datatypes import convert_to

    panel = convert_to(TSEArray(ragged[0]).to_sktime(), mtype, as_scitype="Panel")
    assert_equal(TSEArray.from_sktime(panel), TSEArray(ragged[0]))


@pytest.mark.slow  # importing the library takes seconds
def test_arrays_of_sktime_have_time_last(rng):
    from sktime.datatypes import convert_to

    array = rng.standard_normal((4, 3, 6))
    panel = convert_to(array, "df-list", as_scitype="Panel")
    np.testing.assert_array_equal(list(TSEArray.from_sktime(array)), array.transpose(0, 2, 1))
    assert_equal(TSEArray.from_sktime(panel), TSEArray.from_sktime(array))


def test_instances_keep_their_order_whatever_their_names():
    index = pd.MultiIndex.from_tuples([("b", 1), ("b", 5), ("a", 0)])
    X = TSEArray.from_sktime(pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=index))
    assert [x.tolist() for x in X] == [[[1.0], [2.0]], [[3.0]]]


def table(*index):
    return pd.DataFrame({"x": np.arange(len(index))}, index=pd.MultiIndex.from_tuples(index))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            table((0, 0, 0), (0, 0, 1)),
            "index of X has the levels .*, expected instance and time",
        ),
        (table((0, 0), (1, 0), (0, 1)), "rows of each instance of X must be consecutive"),
        (table((0, 0), (None, 0)), "and have the name of the instance"),
        (table((0, 0), (1, 1), (1, 0)), r"the times of X\[1\] are not in ascending order"),
        ([pd.DataFrame([1.0]), pd.DataFrame([1.0, 2.0], index=[1, 0])], r"times of X\[1\] are not"),
        ([pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [1.0]})], r"X\[1\] has the columns"),
        ([], r"0 sample\(s\)"),
        (table((0, 0))[:0], r"0 sample\(s\)"),
    ],
)
def test_panels_out_of_order_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        TSEArray.from_sktime(X)


@pytest.mark.parametrize(
    ("method", "X", "message"),
    [
        ("from_sktime", [np.zeros((2, 3))], "X is a list, expected a panel of sktime"),
        ("from_sktime", pd.DataFrame({"x": [1.0]}), "X is a DataFrame, expected a panel"),
        ("from_sktime", None, "X is a NoneType, expected a panel"),
        ("from_arrow", [[[1.0]]], "X is a list, expected a column of Arrow"),
        ("from_arrow", pa.array([1.0]), "X is a DoubleArray of type double, expected a"),
        ("from_awkward", [[[1.0]]], "X is a list, expected an awkward.Array"),
    ],
)
def test_containers_of_other_types_are_named(method, X, message):
    with pytest.raises(TypeError, match=message):
        getattr(TSEArray, method)(X)


@pytest.mark.parametrize("method", ["from_arrow", "from_awkward"])
@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([[[1.0]], []], r"X\[1\] has 0 timestep\(s\)"),
        ([[[1.0]], [[1.0], None]], "sequence 1 has a frame that is missing"),
        ([[[1.0]], [[1.0, 2.0]]], "sequence 1 has a frame of 2 features"),
    ],
)
def test_columns_with_holes_are_refused(method, items, message):
    column = pa.array(items) if method == "from_arrow" else ak.Array(items)
    with pytest.raises(ValueError, match=message):
        getattr(TSEArray, method)(column)


def test_mtypes_that_we_do_not_make_are_named():
    with pytest.raises(ValueError, match="mtype must be 'df-list' or 'pd-multiindex', got 'x'"):
        TSEArray(np.zeros((1, 1, 2))).to_sktime("x")


def test_no_sequences_become_empty_containers():
    X = TSEArray(np.zeros((2, 3, 4)))[[]]
    assert X.to_aeon() == X.to_sktime() == []
    assert X.to_padded().shape == X.to_tslearn().shape == (0, 0, 4)
    assert len(X.to_arrow()) == len(X.to_awkward()) == len(X.to_sktime("pd-multiindex")) == 0


def test_float_columns_share_their_memory(ragged):
    X = TSEArray(ragged[0])
    for back in (TSEArray.from_arrow(X.to_arrow()), TSEArray.from_awkward(X.to_awkward())):
        assert np.shares_memory(back.frames, X.frames)


@pytest.mark.parametrize(
    ("package", "convert"),
    [
        ("pyarrow", lambda X: X.to_arrow()),
        ("pyarrow", TSEArray.from_arrow),
        ("awkward", lambda X: X.to_awkward()),
        ("awkward", TSEArray.from_awkward),
        ("pandas", lambda X: X.to_sktime()),
    ],
)
def test_a_package_that_is_missing_is_named(package, convert, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}, which is not installed: pip install"):
        convert(TSEArray(np.zeros((1, 1, 2))))


@pytest.mark.fault(117)
def test_a_panel_in_disorder_names_the_call_that_orders_it():
    frames = [pd.DataFrame({"u": [1.0, 2.0]}), pd.DataFrame({"u": [3.0, 4.0]})]
    panel = pd.concat(frames, keys=[0, 1])
    for order in ([0, 2, 1, 3], [1, 0, 2, 3]):
        with pytest.raises(ValueError, match=r"X\.sort_index\(\)"):
            TSEArray.from_sktime(panel.iloc[order])
        X = TSEArray.from_sktime(panel.iloc[order].sort_index())
        assert [x.ravel().tolist() for x in X] == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(ValueError, match=r"levels .*X\.droplevel.*TSEArray\.from_long"):
        TSEArray.from_sktime(pd.concat([panel], keys=["a"]))
    with pytest.raises(TypeError, match=r"X is a dict, .*TSEArray\.from_long"):
        TSEArray.from_sktime({})


def test_padding_is_counted_for_all_sequences_at_once(rng):
    X = rng.standard_normal((50, 7, 2))
    lengths = rng.integers(1, 8, 50)
    for x, n_frames in zip(X, lengths, strict=True):
        x[n_frames:] = np.nan
        x[0, 0] = np.nan
    assert TSEArray.from_padded(X).lengths.tolist() == lengths.tolist()
    assert [len(x) for x in TSEArray.from_padded(X[::-1, :, ::-1])] == lengths[::-1].tolist()


@pytest.mark.parametrize("mtype", ["df-list", "pd-multiindex", "nested_univ"])
def test_names_of_variables_survive_sktime(mtype):
    from sktime.datatypes import convert_to

    X = TSEArray([np.eye(2), np.ones((3, 2))], feature_names=["left", "right"])
    panel = convert_to(X.to_sktime(), mtype, as_scitype="Panel")
    again = TSEArray.from_sktime(panel)
    assert again.feature_names == ("left", "right")
    assert_equal(again, X)
    assert TSEArray.from_sktime(np.zeros((2, 3, 4))).feature_names is None
