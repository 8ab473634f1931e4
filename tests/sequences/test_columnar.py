"""Columns of lists: slices, several chunks, and each kind of list type."""

import sys

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid import TSEArray
from skdejavid.sequences.columnar import (
    arrow_column,
    check_arrow,
    is_awkward,
    rows_of_arrow,
    rows_of_awkward,
    rows_to_arrow,
    rows_to_awkward,
)

SEQUENCES = st.lists(st.integers(1, 5), min_size=1, max_size=8).map(
    lambda lengths: [(np.arange(n * 2.0).reshape(n, 2) + 100 * i) for i, n in enumerate(lengths)]
)
KINDS = [
    pa.list_(pa.list_(pa.float64())),
    pa.list_(pa.list_(pa.float64(), 2)),
    pa.large_list(pa.large_list(pa.float64())),
    pa.large_list(pa.list_(pa.float32(), 2)),
    pa.list_(pa.list_(pa.float16())),
    pa.list_(pa.list_(pa.int16(), 2)),
]


def assert_rows(rows, sequences):
    values, offsets = rows
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [0, *np.cumsum([len(x) for x in sequences])]
    np.testing.assert_array_equal(values, np.concatenate(sequences))


@given(SEQUENCES, st.sampled_from(KINDS), st.data())
def test_any_part_of_a_column_of_any_kind_of_lists_is_read(sequences, kind, data):
    column = pa.array([x.astype(int).tolist() for x in sequences], kind)
    begin = data.draw(st.integers(0, len(column) - 1))
    end = data.draw(st.integers(begin + 1, len(column)))
    part = column[begin:end]
    assert_rows(rows_of_arrow(part, "X"), sequences[begin:end])
    chunks = pa.chunked_array([column, part, column[:0]])
    assert_rows(rows_of_arrow(chunks, "X"), sequences + sequences[begin:end])
    order = data.draw(st.permutations(range(len(column))))
    assert_rows(rows_of_arrow(column.take(pa.array(order)), "X"), [sequences[i] for i in order])


@pytest.mark.slow
@given(SEQUENCES, st.data())
def test_any_part_of_an_awkward_array_is_read(sequences, data):
    order = data.draw(st.lists(st.sampled_from(range(len(sequences))), min_size=1, max_size=9))
    for X in (ak.Array(sequences), ak.Array([x.tolist() for x in sequences])):
        assert_rows(rows_of_awkward(X[order], "X"), [sequences[i] for i in order])
        assert_rows(rows_of_awkward(X[::-1], "X"), sequences[::-1])
        assert_rows(rows_of_awkward(X[:, :1], "X"), [x[:1] for x in sequences])


def test_a_float_column_in_one_piece_shares_its_memory():
    values, offsets = np.arange(8.0).reshape(4, 2), np.array([0, 1, 4])
    column = rows_to_arrow(values, offsets)
    assert column.type == pa.large_list(pa.list_(pa.float64(), 2))
    found, found_offsets = rows_of_arrow(column, "X")
    assert np.shares_memory(found, values)
    assert found_offsets.tolist() == [0, 1, 4]
    X = rows_to_awkward(values, offsets)
    assert str(X.type) == "2 * var * 2 * float64"
    assert np.shares_memory(ak.to_numpy(X[1]), values)


def test_columns_of_fixed_size_lists_are_sequences_of_equal_length():
    array = np.arange(12.0).reshape(2, 3, 2)
    column = pa.array(array.tolist(), pa.list_(pa.list_(pa.float64(), 2), 3))
    assert_rows(rows_of_arrow(column, "X"), list(array))
    assert_rows(rows_of_arrow(column[1:], "X"), list(array[1:]))
    assert_rows(rows_of_awkward(ak.Array(array), "X"), list(array))


GOOD = [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([GOOD, GOOD, None], r"A: sequence 2 is missing \(null\): remove it, and its label"),
        ([GOOD, [[1.0, 2.0], None]], r"A: sequence 1 has a frame that is missing \(null\): remove"),
        ([GOOD * 3, [[1.0, 2.0], [1.0]]], "A: sequence 1 has a frame of 1 features, but"),
        ([GOOD, GOOD, [[1.0, 2.0, 3.0]]], "A: sequence 2 has a frame of 3 features"),
    ],
)
def test_what_is_missing_or_ragged_is_named(items, message):
    column = pa.array(items, pa.list_(pa.list_(pa.float64())))
    chunks = pa.chunked_array([column[:1], column[1:]])
    for read, X in ((rows_of_arrow, column), (rows_of_arrow, chunks), (rows_of_awkward, items)):
        with pytest.raises(ValueError, match=message):
            read(ak.Array(X) if X is items else X, "A")


@pytest.mark.fault(96, 115)
@pytest.mark.parametrize(
    "number", [pa.float64(), pa.float32(), pa.float16(), pa.int64(), pa.int8()]
)
@pytest.mark.parametrize("make", [pa.list_, pa.large_list, lambda kind: pa.list_(kind, 2)])
def test_numbers_that_are_missing_become_nan(number, make):
    items = [[[1, 2], [3, 4]], [[5, None], [None, 8]], [[9, 10]]]
    expected = [[1, 2], [3, 4], [5, np.nan], [np.nan, 8], [9, 10]]
    column = pa.array(items, pa.list_(make(number)))
    for X in (column, pa.chunked_array([column[:1], column[1:]])):
        values, offsets = rows_of_arrow(X, "A")
        np.testing.assert_array_equal(values, expected)
        assert offsets.tolist() == [0, 2, 4, 5]
        found = TSEArray(X)
        np.testing.assert_array_equal(found.frames, expected)
        is_narrow = number in (pa.float32(), pa.float16())
        assert found.frame_dtype == (np.float32 if is_narrow else np.float64)
    values, offsets = rows_of_arrow(column[1:2], "A")
    np.testing.assert_array_equal(values, expected[2:4])


@pytest.mark.fault(96, 115)
@pytest.mark.parametrize("none", [None, np.nan])
def test_numbers_that_awkward_arrays_lack_become_nan(none):
    for items in ([[[1.0, 2.0]], [[none, 4.0], [5.0, none]]], [[[1, 2]], [[none, 4], [5, none]]]):
        values, offsets = rows_of_awkward(ak.Array(items), "A")
        np.testing.assert_array_equal(values, [[1, 2], [np.nan, 4], [5, np.nan]])
        assert offsets.tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        ([1.0], pa.float64()),
        ([[1.0]], pa.list_(pa.float64())),
        ([[["a"]]], pa.list_(pa.list_(pa.string()))),
        ([[[[1.0]]]], pa.list_(pa.list_(pa.list_(pa.float64())))),
    ],
)
def test_columns_of_anything_else_are_refused(items, kind):
    with pytest.raises(ValueError, match=r"A is of type .*, expected lists of lists of numbers"):
        rows_of_arrow(pa.array(items, kind), "A")


def test_columns_without_items_or_frames_are_refused():
    empty = pa.array([], KINDS[0])
    for column in (empty, pa.chunked_array([], KINDS[0]), pa.chunked_array([empty])):
        with pytest.raises(ValueError, match="A has no sequences"):
            rows_of_arrow(column, "A")
    with pytest.raises(ValueError, match=r"A: sequence 0 has 0 frame\(s\)"):
        rows_of_arrow(pa.array([[], []], KINDS[0]), "A")
    with pytest.raises(ValueError, match=r"A: sequence 0 has 0 frame\(s\)"):
        rows_of_awkward(ak.Array([GOOD])[:, :0], "A")


@pytest.mark.parametrize("items", [[1.0], [[1.0]], [[[[1.0]]]]])
def test_awkward_arrays_of_other_axes_are_refused(items):
    with pytest.raises(ValueError, match=r"A is of type .*, expected three axes"):
        rows_of_awkward(ak.Array(items), "A")


class Exporting:
    """An object that exports a column to pyarrow, as those of polars do."""

    def __init__(self, column):
        self.column = column


class ExportingArray(Exporting):
    def __arrow_c_array__(self, requested_schema=None):
        return self.column.__arrow_c_array__(requested_schema)


class ExportingStream(Exporting):
    def __arrow_c_stream__(self, requested_schema=None):
        return pa.chunked_array([self.column]).__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_columns_of_other_libraries_are_recognized(kind):
    column = pa.array([[[1, 2]], [[3, 4], [5, 6]]], kind)
    for X in (column, pa.chunked_array([column]), ExportingArray(column), ExportingStream(column)):
        assert arrow_column(X).to_pylist() == column.to_pylist()


@pytest.mark.parametrize("items", [[1.0], [[1.0]], ["a"]])
def test_other_columns_are_left_to_others(items):
    for X in (pa.array(items), ExportingStream(pa.array(items)), items, np.array(items)):
        assert arrow_column(X) is None


def test_awkward_is_not_imported_to_be_recognized(monkeypatch):
    X = ak.Array([[GOOD]])
    assert is_awkward(X)
    assert not is_awkward([GOOD])
    monkeypatch.delitem(sys.modules, "awkward")
    assert not is_awkward([GOOD])
    assert "awkward" not in sys.modules


@pytest.mark.fault(35)
def test_columns_of_more_than_two_to_the_31_numbers():
    """The zeros take no memory, since nothing writes or copies them."""
    values = np.zeros((2**20 + 64, 2048), np.float32)
    values[-1, -1] = 7.0
    offsets = np.array([0, 5, len(values) - 2, len(values)])
    for read, make in ((rows_of_arrow, rows_to_arrow), (rows_of_awkward, rows_to_awkward)):
        found, found_offsets = read(make(values, offsets), "X")
        assert np.shares_memory(found, values)
        assert found[-1, -1] == 7.0
        assert found_offsets.tolist() == offsets.tolist()


NUMBERS = pa.array(np.arange(4.0))
FRAMES = pa.FixedSizeListArray.from_arrays(NUMBERS, 2)
FAR = [0, 1_000_000_000, 2]


def lists(offsets, items, make=pa.ListArray, kind=None):
    return make.from_arrays(pa.array(offsets, kind or pa.int32()), items)


LIES = {
    "list": lambda: lists(FAR, FRAMES),
    "negative": lambda: lists([0, -1_000_000_000, 2], FRAMES),
    "large list": lambda: lists([0, 2**60, 2], FRAMES, pa.LargeListArray, pa.int64()),
    "slice": lambda: lists(FAR, FRAMES)[:1],
    "chunks": lambda: pa.chunked_array([lists([0, 2], FRAMES), lists(FAR, FRAMES)]),
    "inner": lambda: lists([0, 2], lists([*FAR[:2], 4], NUMBERS)),
    "view": lambda: pa.ListViewArray.from_arrays(
        pa.array([0, 0], pa.int32()), pa.array([1_000_000_000, 2], pa.int32()), FRAMES
    ),
    "exported": lambda: ExportingStream(lists(FAR, FRAMES)),
    "table": lambda: pa.table({"x": lists(FAR, FRAMES)}),
}


@pytest.mark.fault(79)
@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize(
    "read",
    [TSEArray, lambda X: TSEArray([X]), TSEArray.from_padded, TSEArray.from_tslearn],
    ids=["TSEArray", "item", "from_padded", "from_tslearn"],
)
def test_offsets_outside_of_the_memory_are_refused(name, read):
    """Pyarrow and NumPy read wherever they point to, and the process dies."""
    with pytest.raises((ValueError, TypeError)) as caught:
        read(LIES[name]())
    assert "X" in str(caught.value)


@pytest.mark.fault(79)
def test_the_damage_is_named():
    for name in set(LIES) - {"exported"}:
        with pytest.raises(ValueError, match="X is damaged: "):
            TSEArray(LIES[name]())
        if name != "table":
            with pytest.raises(ValueError, match="C is damaged: "):
                check_arrow(LIES[name](), "C")


@pytest.mark.fault(79)
def test_lists_that_overlap_do_not_multiply():
    n = 10**6
    frames = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * n)), 2)
    column = pa.ListViewArray.from_arrays(
        pa.array(np.zeros(n, np.int32)), pa.array(np.full(n, n, np.int32)), frames
    )
    with pytest.raises(ValueError, match="X has lists that overlap in memory: cast it"):
        TSEArray(column)


def test_list_views_are_read_in_their_order():
    column = pa.ListViewArray.from_arrays(
        pa.array([1, 0], pa.int32()), pa.array([1, 1], pa.int32()), FRAMES
    )
    assert_rows(rows_of_arrow(column, "X"), [[[2.0, 3.0]], [[0.0, 1.0]]])
    assert_rows(rows_of_arrow(column[1:], "X"), [[[0.0, 1.0]]])


def awkward_lists(offsets):
    frames = ak.contents.NumpyArray(np.arange(8.0).reshape(4, 2))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(np.array(offsets)), frames))


@pytest.mark.fault(79)
@pytest.mark.parametrize("offsets", [[0, 10**9], [0, 10**9, 2], [-5, 2], [3, 1, 2]])
def test_offsets_of_awkward_arrays_are_checked(offsets):
    for read in (TSEArray, TSEArray.from_awkward, TSEArray.from_padded):
        with pytest.raises(ValueError, match="X is damaged: "):
            read(awkward_lists(offsets))


@pytest.mark.fault(79)
def test_lists_of_awkward_arrays_that_overlap_do_not_multiply():
    n = 10**5
    frames = ak.contents.NumpyArray(np.zeros((n, 2)))
    starts, stops = np.zeros(n, np.int64), np.full(n, n, np.int64)
    lists = ak.contents.ListArray(ak.index.Index64(starts), ak.index.Index64(stops), frames)
    with pytest.raises(ValueError, match=r"items in .* bytes, as its lists overlap in memory"):
        TSEArray(ak.Array(lists))
