import datetime
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid import TSEArray
from skdejavid.compat import optional
from skdejavid.sequences.long import read_long

TABLE = {
    "trial": ["b", "a", "b", "a", "b"],
    "t": [3, 1, 1, 2, 2],
    "x": [0.3, 1.1, 0.1, 1.2, 0.2],
    "y": [3.0, 11.0, 1.0, 12.0, 2.0],
    "move": ["wave", "nod", "wave", "nod", "wave"],
}
KINDS = {
    "pandas": pd.DataFrame,
    "nullable": lambda table: pd.DataFrame(table).convert_dtypes(),
    "of Arrow": lambda table: pd.DataFrame(table).convert_dtypes(dtype_backend="pyarrow"),
    "polars": pl.DataFrame,
    "Arrow": pa.table,
    "record batch": lambda table: pa.table(table).to_batches()[0],
}


@pytest.mark.fault(94)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("has_pandas", [True, False])
def test_rows_become_sequences_by_id_sorted_by_time(kind, has_pandas, monkeypatch):
    frame = KINDS[kind](TABLE)
    if not has_pandas and kind in ("polars", "Arrow"):
        loaded = optional.loaded
        monkeypatch.setattr(
            "skdejavid.sequences.long.loaded",
            lambda name: None if name == "pandas" else loaded(name),
        )
    X, y = TSEArray.from_long(frame, id="trial", time="t", label="move")
    assert [x.tolist() for x in X] == [
        [[0.1, 1.0], [0.2, 2.0], [0.3, 3.0]],
        [[1.1, 11.0], [1.2, 12.0]],
    ]
    assert y.tolist() == ["wave", "nod"]
    _, ids = TSEArray.from_long(frame, id="trial", label="trial", features=["x"])
    assert ids.tolist() == ["b", "a"]


def test_without_a_time_frames_are_in_the_order_of_rows():
    X = TSEArray.from_long(pd.DataFrame(TABLE), id="trial", features=["y"])
    assert [x.ravel().tolist() for x in X] == [[3.0, 1.0, 2.0], [11.0, 12.0]]


def test_features_are_in_the_given_order_and_may_include_the_time():
    X = TSEArray.from_long(pd.DataFrame(TABLE), id="trial", time="t", features=["t", "x"])
    assert X[0].tolist() == [[1.0, 0.1], [2.0, 0.2], [3.0, 0.3]]


def test_levels_of_an_index_count_as_columns():
    frame = pd.DataFrame(TABLE).drop(columns="move").set_index(["trial", "t"])
    X = TSEArray.from_long(frame, id="trial", time="t")
    assert X[1].tolist() == [[1.1, 11.0], [1.2, 12.0]]


@given(
    ids=st.lists(st.sampled_from([2**53, 2**53 + 1, -1, 0]), min_size=1, max_size=30),
    seed=st.integers(0, 100),
    dtype=st.sampled_from(["int64", "Int64", "int64[pyarrow]", "object"]),
)
def test_no_row_is_lost_or_mixed_up(ids, seed, dtype):
    rng = np.random.default_rng(seed)
    times, values = rng.permutation(len(ids)), rng.standard_normal((len(ids), 2))
    frame = pd.DataFrame({"a": values[:, 0], "b": values[:, 1], "t": times})
    frame["id"] = pd.Series(ids, dtype=dtype)
    X, found = TSEArray.from_long(frame, id="id", time="t", label="id")
    assert found.tolist() == list(dict.fromkeys(ids))
    for x, id in zip(X, found, strict=True):
        rows = [row for row in np.argsort(times) if ids[row] == id]
        np.testing.assert_array_equal(x, values[rows])


@pytest.mark.parametrize(
    "times",
    [
        pd.to_datetime(["2020-01-03", "2020-01-01", "2020-01-02"]),
        pd.to_datetime(["2020-01-03", "2020-01-01", "2020-01-02"]).tz_localize("Europe/Zurich"),
        pd.to_timedelta([3, 1, 2], unit="s"),
        [datetime.date(2020, 1, day) for day in (3, 1, 2)],
        [True + 1.5, 0.5, 1.0],
        pd.array([3, 1, 2], dtype="Int64"),
    ],
    ids=str,
)
def test_times_of_any_kind_are_sorted(times):
    frame = pd.DataFrame({"id": [7, 7, 7], "t": times, "x": [3.0, 1.0, 2.0]})
    assert TSEArray.from_long(frame, id="id", time="t")[0].ravel().tolist() == [1.0, 2.0, 3.0]


ZURICH = ZoneInfo("Europe/Zurich")
NANOSECONDS = 1_600_000_000_000_000_000
EXACT_TIMES = {
    "aware": [datetime.datetime(2020, 1, day, tzinfo=ZURICH) for day in (3, 1, 2)],
    "of several zones": [
        datetime.datetime(2020, 1, 1, 12, tzinfo=zone)
        for zone in (datetime.UTC, ZoneInfo("Asia/Tokyo"), ZURICH)
    ],
    "when an hour repeats": [
        datetime.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=ZURICH),
        datetime.datetime(2020, 10, 25, 2, 40, tzinfo=ZURICH),
        datetime.datetime(2020, 10, 25, 2, 20, fold=1, tzinfo=ZURICH),
    ],
    "integers": [NANOSECONDS + 2, NANOSECONDS, NANOSECONDS + 1],
    "integers of any size": [2**80 + 2, 2**80, 2**80 + 1],
    "Timestamp": [pd.Timestamp(NANOSECONDS + k) for k in (2, 0, 1)],
    "aware Timestamp": [pd.Timestamp(NANOSECONDS + k, tz=ZURICH) for k in (2, 0, 1)],
    "timedelta": [datetime.timedelta(days=10**6, microseconds=k) for k in (3, 1, 2)],
    "Timedelta": [pd.Timedelta(NANOSECONDS + k) for k in (2, 0, 1)],
    "Period": list(pd.PeriodIndex(["2020-03", "2020-01", "2020-02"], freq="M")),
    "Decimal": [Decimal("0.10000000000000000003"), Decimal("0.1"), Decimal(2) / 19],
    "numbers": [Fraction(2, 3), 0, 0.5],
}
EXACT_TIMES["Decimal"][2] = Decimal("0.10000000000000000001")


@pytest.mark.fault(94, 115)
@pytest.mark.parametrize("kind", EXACT_TIMES)
@pytest.mark.parametrize("n_copies", [1, 700])
def test_times_that_are_objects_are_sorted_exactly_and_without_a_warning(kind, n_copies):
    times = pd.Series(EXACT_TIMES[kind] * n_copies, dtype=object)
    frame = pd.DataFrame({"id": np.repeat(range(n_copies), 3), "x": [3.0, 1.0, 2.0] * n_copies})
    X = TSEArray.from_long(frame.assign(t=times), id="id", time="t", features=["x"])
    assert X.frames.ravel().tolist() == [1.0, 2.0, 3.0] * n_copies


@pytest.mark.parametrize(
    "times",
    [
        pd.Series(pd.period_range("2020-01", periods=3, freq="M")),
        pd.Series(pd.date_range("2020-01-01", periods=3, tz="Asia/Tokyo")).dt.as_unit("us"),
        pd.Series(pd.array([1, 2, 3], dtype="duration[s][pyarrow]")),
        pd.Series(pd.array([1, 2, 3], dtype="timestamp[us, tz=UTC][pyarrow]")),
        pl.Series([datetime.timedelta(seconds=k) for k in (1, 2, 3)]),
        pl.Series([1, 2, 3]).cast(pl.Datetime("ns", "Asia/Tokyo")),
    ],
    ids=lambda times: str(times.dtype),
)
def test_columns_of_times_are_sorted(times):
    is_polars = isinstance(times, pl.Series)
    turned = times[[2, 0, 1]] if is_polars else times.iloc[[2, 0, 1]].reset_index(drop=True)
    build = pl.DataFrame if is_polars else pd.DataFrame
    frame = build({"id": [7, 7, 7], "t": turned, "x": [3.0, 1.0, 2.0]})
    assert TSEArray.from_long(frame, id="id", time="t")[0].ravel().tolist() == [1.0, 2.0, 3.0]


MIDNIGHT = [datetime.time(3), datetime.time(1), datetime.time(2)]


@pytest.mark.fault(94, 117)
@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"id": 7, "t": MIDNIGHT, "x": 1.0}),
        pl.DataFrame({"id": [7] * 3, "t": MIDNIGHT, "x": [1.0] * 3}),
        pa.table({"id": [7] * 3, "t": pa.array(MIDNIGHT, pa.time64("us")), "x": [1.0] * 3}),
        pa.table({"id": [7] * 3, "t": pa.array([1, 2, 3], pa.time32("s")), "x": [1.0] * 3}),
    ],
    ids=["pandas", "polars", "time64", "time32"],
)
def test_times_of_day_have_no_order(frame):
    with pytest.raises(
        ValueError, match=r"column of time, 't', contains times of day, .* the date"
    ):
        TSEArray.from_long(frame, id="id", time="t")


NAIVE, AWARE = (datetime.datetime(2020, 1, 1, tzinfo=zone) for zone in (None, datetime.UTC))


@pytest.mark.fault(94, 117)
@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([NAIVE, AWARE, AWARE], r"'t', cannot be sorted: .*naive.*pandas.to_datetime\(..., utc"),
        ([NAIVE, datetime.date(2020, 1, 2), NAIVE], "'t', cannot be sorted"),
        ([NAIVE, 1, 2], "'t', cannot be sorted"),
        ([Decimal("NaN"), Decimal(1), Decimal(2)], "'t', cannot be sorted"),
        ([{1}, {2}, {1, 2}], "'t', contains a set, expected numbers, dates, durations"),
        ([(1, 2), (1, 3), (1, 4)], "'t', contains a tuple, expected numbers"),
        ([np.complex128(1j), 1, 2], "'t', contains a complex128, expected numbers"),
        ([1, "2", 3], "'t', contains text"),
        ([NANOSECONDS, NANOSECONDS + 1, NANOSECONDS], f"id 7 and the time {NANOSECONDS}:"),
        ([datetime.datetime.min.replace(tzinfo=ZURICH), AWARE, AWARE], "'t', cannot be sorted"),
    ],
    ids=str,
)
def test_objects_without_one_order_are_named(times, message):
    frame = pd.DataFrame({"id": 7, "t": pd.Series(times, dtype=object), "x": 1.0})
    with pytest.raises(ValueError, match=message):
        TSEArray.from_long(frame, id="id", time="t")


@pytest.mark.fault(94, 117)
def test_levels_without_a_name_are_named_as_such():
    part = pd.DataFrame({"x": [1.0, 2.0]})
    frame = pd.concat([part, part], keys=["a", "b"])
    message = r"id is 'level_0', .* without a name, \[None, None\]: .*rename_axis.*reset_index\(\)"
    with pytest.raises(ValueError, match=message):
        TSEArray.from_long(frame, id="level_0")
    named = frame.rename_axis(["trial", "t"])
    assert TSEArray.from_long(named, id="trial", time="t").lengths.tolist() == [2, 2]
    assert TSEArray.from_long(frame.reset_index(), id="level_0").lengths.tolist() == [2, 2]
    with pytest.raises(ValueError, match="time is 'when', which is no column"):
        TSEArray.from_long(frame.rename_axis(["trial", None]), id="trial", time="when")
    for index in (None, [5, 3]):  # rows that are only numbered
        numbered = pd.DataFrame({"x": [1.0, 2.0]}, index=index)
        with pytest.raises(ValueError, match="expected the name of a column"):
            TSEArray.from_long(numbered, id="trial")


@pytest.mark.parametrize("name", [np.array(["trial"]), ["trial"], {"trial"}], ids=str)
def test_what_cannot_be_a_name_is_no_column(name):
    with pytest.raises(ValueError, match="expected the name of a column"):
        TSEArray.from_long(changed(), id=name, features=["x"])


def test_the_labels_are_in_the_order_of_the_sequences_and_not_of_sorted_ids():
    X, y = TSEArray.from_long(changed(), id="trial", time="t", features=["x"], label="move")
    assert [x[0, 0] for x in X] == [0.1, 1.1]
    assert y.tolist() == ["wave", "nod"]
    assert changed().groupby("trial")["move"].first().tolist() == ["nod", "wave"]


def changed(**columns):
    return pd.DataFrame({**TABLE, **columns})


@pytest.mark.fault(94, 117)
@pytest.mark.parametrize(
    ("frame", "arguments", "message"),
    [
        (changed(), {"id": "clip"}, r"id is 'clip', expected the name of a column, one of \['tri"),
        (changed(), {"time": "when"}, "time is 'when', expected the name of a column"),
        (changed(), {"label": "who"}, "label is 'who', expected the name of a column"),
        (changed(), {"id": ["trial", "t"]}, "id is .*expected the name of a column"),
        (changed(), {"id": np.array(["trial"])}, "id is .*expected the name of a column"),
        (changed().set_index("t"), {"time": np.array(["t", "x"])}, "time is .*the name of a col"),
        (changed(), {"label": pd.Series(["move"])}, "(?s)label is .*expected the name of a column"),
        (changed(), {"features": [np.array(["x"])]}, "an item of features is .*expected the name"),
        (changed(), {"features": ["z"]}, "an item of features is 'z', expected the name"),
        (changed(), {"features": "x"}, "features is 'x', expected a list of names"),
        (changed(), {"features": []}, "features is empty"),
        (changed(), {"features": ["x", "move"]}, "features contains 'move', .* column of label"),
        (changed(), {"features": ["x", "x"]}, "features has two columns that are named 'x'"),
        (
            changed(),
            {"label": None},
            "column 'move' of frame cannot be read as numbers: it contains a str, 'wave'. If it is "
            r"the class, pass label='move'. If it is no feature, .* features=\[...\]",
        ),
        (
            changed(x=["1,5"] * 5),
            {},
            r"'x' of frame .*: it contains a str, '1,5'. If it is no feature, .*decimal=','",
        ),
        (changed(x=[[1.0]] * 5), {}, "column 'x' of frame cannot .*: it contains a list"),
        (
            changed(t=[1, 1, 2, 2, 2]),
            {},
            "two rows have the id b and the time 2: .*duplicates.*pivot",
        ),
        (changed(t=[1, 1, None, 2, 2]), {}, "column of time, 't', has a missing value, .* row 2"),
        (changed(t=list("31122")), {}, "column of time, 't', contains text: .*to_datetime"),
        (changed(t=[1j, 2, 3, 4, 5]), {}, "column of time, 't', has dtype complex128"),
        (changed(trial=["a", None] * 2 + ["b"]), {}, "column of id, 'trial', .* first in row 1"),
        (changed(trial=[np.nan] + [1.0] * 4), {}, "column of id, 'trial', .* first in row 0"),
        (changed(move=["nod", "nod", "nod", "nod", "shake"]), {}, "id b have different labels"),
        (changed(move=["nod", None, "nod", "nod", "nod"]), {}, "column of label, 'move', has a mi"),
        (changed()[:0], {}, "frame has no rows"),
        (changed()[["trial", "t", "move"]], {}, "frame has no columns for features"),
        (
            pd.concat([changed(), changed()], axis=1),
            {},
            "frame has two columns that are named 'tri",
        ),
    ],
)
def test_what_makes_no_sequences_is_named(frame, arguments, message):
    arguments = {"id": "trial", "time": "t", "label": "move"} | arguments
    with pytest.raises(ValueError, match=message):
        TSEArray.from_long(frame, **arguments)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((3, 2)), "frame is a ndarray, expected a table with names of columns"),
        ([{"trial": 1}], "frame is a list, expected a table"),
        (pl.DataFrame(TABLE).lazy(), r"frame is a LazyFrame.*pass frame.collect\(\)"),
    ],
)
def test_what_is_no_table_is_named(frame, message):
    with pytest.raises(TypeError, match=message):
        TSEArray.from_long(frame, id="trial")


def test_a_missing_feature_is_kept_for_the_estimator_to_name():
    frame = changed(x=pd.array([0.3, 1.1, None, 1.2, 0.2], dtype="Float32"))
    X = TSEArray.from_long(frame, id="trial", time="t", features=["x"])
    assert np.isnan(X[0][0, 0])
    assert X.frame_dtype == np.float32


def test_the_parts_of_a_long_table_belong_together():
    long = read_long(pd.DataFrame(TABLE), "trial", "t", ["x"], None)
    assert long.ids.tolist() == ["b", "a"]
    assert long.offsets.tolist() == [0, 3, 5]
    assert long.labels is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_columns_of_features_become_their_names(kind):
    frame = KINDS[kind](TABLE)
    X, _ = TSEArray.from_long(frame, id="trial", time="t", label="move")
    assert X.feature_names == ("x", "y")
    X = TSEArray.from_long(frame, id="trial", features=["y", "x", "t"])
    assert X.feature_names == ("y", "x", "t")


def test_columns_that_are_numbers_give_no_names():
    frame = pd.DataFrame({"id": [0, 0], 0: [1.0, 2.0], "x": [3.0, 4.0]})
    assert TSEArray.from_long(frame, id="id").feature_names is None
    assert TSEArray.from_long(frame, id="id", features=["x"]).feature_names == ("x",)
