import datetime

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
        (changed(), {"label": None}, "column 'move' of frame cannot be read as numbers: .* a str"),
        (changed(x=list("abcde")), {}, "column 'x' of frame cannot be read as numbers"),
        (changed(x=[[1.0]] * 5), {}, "column 'x' of frame cannot .*: it contains a list"),
        (changed(t=[1, 1, 2, 2, 2]), {}, "two rows have the id b and the time 2: .*pivot"),
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
