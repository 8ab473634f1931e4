import decimal
import sys

import awkward as ak
import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.base import BaseEstimator

from skdejavid import DejaVidClassifier, Interpolate, TSEArray, check_sequences
from skdejavid.sequences.tables import (
    as_native,
    as_plain,
    column_names,
    columns_that_are_no_numbers,
    feature_names_of,
    is_missing,
    numbers_of,
    only_column,
    plain_labels,
    plain_weights,
    to_numbers,
    usable_names,
)

TABLE = {"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.0]}
TURNED = {"b": TABLE["b"], "a": TABLE["a"]}


class Interchange:
    """A table with nothing but the interchange protocol of data frames."""

    def __init__(self, table):
        self._frame = pd.DataFrame(table)

    def __dataframe__(self, *arguments, **options):
        return self._frame.__dataframe__(*arguments, **options)


class Stream:
    """A table with nothing but Arrow's C interface, like a relation of DuckDB."""

    def __init__(self, table):
        self._table = pa.table(table)
        self.columns = list(table)

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


KINDS = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "Arrow": pa.table,
    "record batch": lambda table: pa.table(table).to_batches()[0],
    "Hugging Face": datasets.Dataset.from_dict,
    "Hugging Face, selected": lambda table: datasets.Dataset.from_dict(
        {name: [7.0, *column] for name, column in table.items()}
    ).select([1, 2, 3]),
    "Arrow's interface": Stream,
}
needs_no_warning = pytest.mark.filterwarnings("ignore:The DataFrame Interchange Protocol")
rows_are_meant = pytest.mark.filterwarnings("ignore:X is a 2-D array, and each")


@pytest.mark.fault(111)
@pytest.mark.parametrize("kind", KINDS)
def test_tables_in_a_list_are_sequences_with_names(kind):
    make = KINDS[kind]
    estimator = BaseEstimator()
    X = check_sequences([make(TABLE), make(TABLE)], estimator=estimator)
    np.testing.assert_array_equal(X[1], np.transpose(list(TABLE.values())))
    assert X.lengths.tolist() == [3, 3]
    assert estimator.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match=r"X\[1\] has the columns \['b', 'a'\], but X\[0\] has"):
        TSEArray([make(TABLE), make(TURNED)])
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        check_sequences([make(TURNED)], estimator=estimator, reset=False)


@rows_are_meant
@pytest.mark.fault(111)
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_alone_is_sequences_of_one_frame_with_names(kind):
    estimator = BaseEstimator()
    X = check_sequences(KINDS[kind](TABLE), estimator=estimator)
    assert X.lengths.tolist() == [1, 1, 1]
    assert X.frames.tolist() == [[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]]
    assert estimator.feature_names_in_.tolist() == ["a", "b"]


@needs_no_warning
def test_the_interchange_protocol_of_data_frames_is_read():
    X = check_sequences([Interchange(TABLE)], estimator=(estimator := BaseEstimator()))
    np.testing.assert_array_equal(X[0], np.transpose(list(TABLE.values())))
    assert estimator.feature_names_in_.tolist() == ["a", "b"]


@pytest.mark.fault(111)
@pytest.mark.parametrize(
    "make", [pd.Series, np.array, pl.Series, pa.array, lambda x: pa.chunked_array([x]), bytearray]
)
@pytest.mark.parametrize("lengths", [(3, 3), (3, 2)])
def test_items_with_one_axis_are_refused_whatever_their_library(make, lengths):
    with pytest.raises(ValueError, match=r"X\[0\]: expected 2-D .*univariate series as x\[:, None"):
        TSEArray([make([1, 2, 3][:n]) for n in lengths])


NESTED = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]]


@pytest.mark.fault(138)
@pytest.mark.parametrize(
    "make",
    [
        lambda items: pl.DataFrame({"x": items}),
        lambda items: pl.DataFrame({"x": items}, schema={"x": pl.List(pl.Array(pl.Float64, 2))}),
        lambda items: pa.table({"x": items}),
        lambda items: pa.table({"x": items}).to_batches()[0],
        lambda items: datasets.Dataset.from_dict({"x": items}),
        lambda items: datasets.Dataset.from_dict({"x": items, "y": [0] * len(items)})["x"],
        lambda items: datasets.Dataset.from_dict({"x": items}).with_format("numpy")["x"],
        lambda items: datasets.Dataset.from_dict({"x": [[[9.0]], *items]}).select([1, 2])["x"],
        lambda items: pd.DataFrame({"x": [np.array(item) for item in items]}),
    ],
)
def test_the_only_column_of_a_table_is_its_sequences(make):
    found = TSEArray(make(NESTED))
    assert [x.tolist() for x in found] == NESTED
    assert [x.tolist() for x in check_sequences(make(NESTED), estimator=BaseEstimator())] == NESTED


@pytest.mark.fault(138)
def test_a_column_of_a_data_set_is_read_without_objects_of_python(monkeypatch):
    features = datasets.Features({"x": datasets.List(datasets.List(datasets.Value("float32")))})
    column = datasets.Dataset.from_dict({"x": NESTED}, features=features)["x"]

    def refuse(*arguments):
        raise AssertionError("the items were read one by one")

    monkeypatch.setattr(type(column), "__getitem__", refuse)
    monkeypatch.setattr(type(column), "__iter__", refuse)
    X = TSEArray(column)
    assert [x.tolist() for x in X] == NESTED
    assert X.frame_dtype == np.float32


@pytest.mark.fault(138)
@pytest.mark.parametrize(
    ("format", "options", "dtype"),
    [
        (None, {}, np.float64),
        ("arrow", {}, np.float64),
        ("numpy", {}, np.float32),
        ("torch", {}, np.float32),
        ("torch", {"dtype": torch.float64}, np.float64),
    ],
    ids=str,
)
def test_a_column_of_a_data_set_has_the_numbers_of_its_format(format, options, dtype):
    items = [[[0.1, 2.0], [3.0, 4.0]], [[5.0, 6.0]]]
    column = datasets.Dataset.from_dict({"x": items}).with_format(format, **options)["x"]
    X = TSEArray(column)
    assert X.frame_dtype == dtype
    for x, item in zip(X, items, strict=True):
        np.testing.assert_array_equal(x, np.array(item, dtype))


HOLES = [[[1.0, 2.0], [None, 4.0], [5.0, 6.0]], [[7.0, 8.0], [9.0, 10.0]]]


@pytest.mark.fault(96, 115)
@pytest.mark.parametrize(
    "make",
    [
        lambda items: pl.DataFrame({"x": items}),
        lambda items: pl.DataFrame({"x": items})["x"],
        lambda items: pl.Series(items, dtype=pl.List(pl.Array(pl.Float32, 2))),
        lambda items: pa.table({"x": items}),
        lambda items: pa.array(items),
        lambda items: datasets.Dataset.from_dict({"x": items}),
        lambda items: datasets.Dataset.from_dict({"x": items})["x"],
        lambda items: pd.Series(items),
        ak.Array,
        list,
    ],
)
def test_a_number_that_a_column_of_lists_lacks_has_a_place_and_can_be_filled_in(make):
    with pytest.raises(ValueError, match=r"X\[0\] contains NaN, first at frame 1, feature 0"):
        check_sequences(make(HOLES))
    found = Interpolate().fit_transform(make(HOLES))
    assert found.frames.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]


def test_the_function_that_transforms_a_data_set_is_called():
    data = datasets.Dataset.from_dict({"x": NESTED})
    data.set_transform(lambda batch: {"x": [2 * np.array(item) for item in batch["x"]]})
    assert [x.tolist() for x in TSEArray(data["x"])] == [(2 * np.array(x)).tolist() for x in NESTED]


@pytest.mark.fault(115)
@pytest.mark.parametrize(
    "dtype", ["float64", "Float64", "Int64", "boolean", "double[pyarrow]", "int8[pyarrow]", object]
)
def test_what_is_missing_in_a_table_has_a_place(dtype):
    good = pd.DataFrame({"a": [1, 0, 1], "b": [1, 0, 1]}).astype(dtype)
    bad = good.copy().astype(object)
    bad.iloc[2, 1] = pd.NA if dtype != "float64" else np.nan
    bad = bad.astype(dtype)
    for X in ([good, bad], TSEArray.from_sktime(pd.concat([good, bad], keys=[0, 1]))):
        with pytest.raises(ValueError, match=r"X\[1\] contains NaN, first at frame 2, feature 1"):
            check_sequences(X)
    assert check_sequences([good, good]).frames.tolist() == [[1, 1], [0, 0], [1, 1]] * 2


@rows_are_meant
@pytest.mark.fault(115)
@pytest.mark.parametrize("missing", [pd.NA, None, np.nan, pd.NaT])
@pytest.mark.parametrize(
    "convert", [np.array, lambda x: x, lambda x: pd.DataFrame(x, dtype=object), pl.DataFrame]
)
def test_what_is_missing_in_objects_has_a_place(missing, convert):
    if convert is pl.DataFrame and missing is not None:
        return  # polars has one way to be missing
    rows = convert([[1.0, 2.0], [3.0, missing]])
    if convert is pl.DataFrame:
        rows = pl.DataFrame([[1.0, 3.0], [2.0, missing]])
    with pytest.raises(ValueError, match=r"X\[1\] contains NaN, first at frame 0, feature 1"):
        check_sequences(rows)
    with pytest.raises(ValueError, match=r"X\[0\] contains NaN, first at frame 1, feature 1"):
        check_sequences([rows])


def test_missing_values_of_polars_and_arrow_have_a_place():
    for frame in (pl.DataFrame({"a": [1, None]}), pa.table({"a": [1, None]})):
        with pytest.raises(ValueError, match=r"X\[0\] contains NaN, first at frame 1, feature 0"):
            check_sequences([frame])


LARGE = [2**53, 2**53 + 1, 2**53]


@pytest.mark.fault(115)
@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (pd.Series(LARGE, dtype="Int64"), LARGE),
        (pd.Series(LARGE, dtype="UInt64"), LARGE),
        (pd.Series(LARGE, dtype="int64[pyarrow]"), LARGE),
        (pd.Series(LARGE, dtype="category"), LARGE),
        (pd.array(LARGE, dtype="Int64"), LARGE),
        (pd.DataFrame({"y": pd.array(LARGE, dtype="Int64")}), [[item] for item in LARGE]),
        (pa.array(LARGE), LARGE),
        (pa.chunked_array([LARGE[:1], LARGE[1:]]), LARGE),
        (pl.Series(LARGE), LARGE),
        (pd.Series(["a", "b"], dtype="string"), ["a", "b"]),
        (pd.Series(["a", "b"], dtype="string[pyarrow]"), ["a", "b"]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pl.Series(["a", "b"], dtype=pl.Categorical), ["a", "b"]),
        (pd.Series([True, False], dtype="boolean"), [True, False]),
        (pd.Series([True, False], dtype="bool[pyarrow]"), [True, False]),
        (np.array(LARGE), LARGE),
    ],
    ids=lambda y: str(getattr(y, "dtype", type(y))),
)
def test_labels_keep_their_kind(y, expected):
    found = plain_labels(y)
    assert isinstance(found, np.ndarray)
    assert found.tolist() == expected
    assert {type(item) for item in found.ravel().tolist()} == {type(np.ravel(expected).tolist()[0])}


def test_labels_that_numpy_reads_are_left_alone():
    for y in ([1, 2], ("a", "b"), np.array([1.0])):
        assert plain_labels(y) is y


@pytest.mark.fault(115)
@pytest.mark.parametrize("dtype", ["Int64", "UInt64", "int64[pyarrow]"])
def test_a_classifier_tells_large_labels_apart(dtype):
    X = [np.full((3, 2), float(i % 2)) for i in range(6)]
    y = pd.Series([2**53, 2**53 + 1] * 3, dtype=dtype)
    clf = DejaVidClassifier(n_epochs=2, random_state=0).fit(X, y)
    assert clf.classes_.tolist() == [2**53, 2**53 + 1]
    assert clf.predict(X).tolist() == y.tolist()
    assert clf.score(X, y) == 1.0
    assert clf.score(X, y[::-1]) == 0.0


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series([1, None], dtype="Int64"), [1.0, np.nan]),
        (pd.Series([True, None], dtype="boolean"), [True, None]),
        (pd.Series(["a", None], dtype="string"), ["a", None]),
        (pd.Series(["a", None], dtype="category"), ["a", None]),
        (pd.Series([1.0, None], dtype="Sparse[float]"), [1.0, np.nan]),
        (pa.array([1, None]), [1.0, np.nan]),
        (pa.array(["a", None]), ["a", None]),
        (pl.Series(["a", None]), ["a", None]),
        (pd.Series(pd.to_datetime(["2020-01-01"]).tz_localize("UTC")), [np.datetime64("2020")]),
    ],
    ids=str,
)
def test_a_plain_array_tells_what_is_missing(column, expected):
    found = as_plain(column)
    missing = [item is None or item != item for item in expected]
    assert is_missing(found).tolist() == missing
    kept = [item for item, gone in zip(expected, missing, strict=True) if not gone]
    assert (found[~np.array(missing)] == kept).all()


@pytest.mark.fault(79)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pa.nulls(3), "is of type null"),
        (
            lambda: pa.RunEndEncodedArray.from_arrays([2**31 - 1], [1.0]),
            "is of type run_end_encoded",
        ),
        (lambda: pa.array([{"a": 1}]), "is of type struct"),
        (lambda: pa.array([[1.0]]), "is of type list"),
        (
            lambda: pa.StringArray.from_buffers(
                2, pa.py_buffer(np.array([0, 2**30, 1], np.int32)), pa.py_buffer(b"a")
            ),
            "is damaged",
        ),
    ],
    ids=["nulls", "run ends", "struct", "list", "text"],
)
def test_columns_that_claim_more_than_they_store_are_refused(make, message):
    with pytest.raises(ValueError, match=f"C {message}"):
        as_plain(make(), "C")


def test_numbers_are_told_from_everything_else():
    numbers = np.array([decimal.Decimal("0.5"), 2, None, True], dtype=object)
    np.testing.assert_array_equal(to_numbers(numbers, "C"), [0.5, 2.0, np.nan, 1.0])
    for wrong in (["1"], [b"1"], [1j], [[1]], [np.ones(2)], [object()], [10**400]):
        array = np.empty(1, dtype=object)
        array[0] = wrong[0]
        with pytest.raises(ValueError, match="C c"):
            to_numbers(array, "C")
    for array in (np.array(["1"]), np.array(["2020"], dtype="M8[D]"), np.array([1j])):
        with pytest.raises(ValueError, match="C cannot be read as numbers: it has dtype"):
            to_numbers(array, "C")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_numbers_of_a_table_keep_the_widest_type(dtype):
    frame = pd.DataFrame({"a": np.ones(2, dtype), "b": np.zeros(2, dtype), "c": ["x", "y"]})
    found = numbers_of(frame, "X", ["b", "a"])
    assert found.dtype == dtype
    assert found.tolist() == [[0, 1], [0, 1]]
    assert columns_that_are_no_numbers(frame) == ["c"]


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"X\[0\] has two columns that are named 'a'"):
        TSEArray([pd.DataFrame(np.eye(2), columns=["a", "a"])])


@pytest.mark.parametrize("X", [None, 1, "a", [TABLE], np.eye(2), pd.Series([1.0]), pa.array([1])])
def test_what_is_no_table_is_none(X):
    assert as_native(X) is None
    assert column_names(X) is None
    assert only_column(X) is None


def test_no_library_is_imported_to_recognize_its_tables(monkeypatch):
    for name in ("polars", "pyarrow", "datasets", "datasets.arrow_dataset", "pandas"):
        monkeypatch.delitem(sys.modules, name)
    assert as_native(object()) is None
    assert TSEArray([np.ones((2, 3))]).shape == (1,)
    assert not {"polars", "pyarrow", "datasets"} & set(sys.modules)


def nothing_but_ones(n):
    ones = [1.0] * n
    yield from (
        ones,
        tuple(ones),
        range(1, 2),
        np.ones(n),
        np.ones(n, bool),
        [decimal.Decimal(1)] * n,
    )
    yield from (pd.Series([1] * n, dtype="Int64"), pl.Series(ones), pa.array(ones))
    yield from (torch.ones(n).bfloat16(), torch.ones(n, requires_grad=True))


@pytest.mark.fault(30)
def test_weights_of_any_library_are_numbers():
    for weights in nothing_but_ones(1):
        found = plain_weights(weights)
        assert found.dtype.kind in "fiub"
        assert found.astype(float).tolist() == [1.0], type(weights)
    assert plain_weights(None) is None
    assert plain_weights(2) == 2


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    "weights",
    [
        ["1", "2"],
        [b"1", b"2"],
        np.array(["1", 2], dtype=object),
        pd.Series(["1", "2"], dtype="string"),
        pl.Series(["1", "2"]),
        pa.array(["1", "2"]),
        np.array(["1", "2"], dtype=np.dtypes.StringDType()),
        np.ones(2, dtype="m8[s]"),
        np.ones(2, dtype="M8[s]"),
        np.ones(2, dtype=complex),
        "2",
    ],
    ids=lambda weights: type(weights).__name__,
)
def test_weights_that_are_no_numbers_are_refused(weights):
    with pytest.raises(ValueError, match=r"^sample_weight cannot be read as numbers: it"):
        plain_weights(weights)


@pytest.mark.fault(30)
def test_masked_weights_are_refused():
    with pytest.raises(ValueError, match="sample_weight is a masked array"):
        plain_weights(np.ma.array([1.0, 2.0], mask=[True, False]))


def test_names_of_features_are_strings_that_differ():
    assert usable_names(["a", "b"]) == ("a", "b")
    assert usable_names(np.array(["a"], dtype=object)) == ("a",)
    for names in ([], ["a", 1], ["a", "a"], [None]):
        assert usable_names(names) is None
    assert feature_names_of(pd.DataFrame(TABLE)) == ("a", "b")
    assert feature_names_of(np.zeros((2, 2))) is None
