"""Inputs that cannot be read as sequences, and their errors; test_array.py has those that can."""

from collections import OrderedDict
from pathlib import Path

import awkward as ak
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import cross_val_predict
from sklearn.utils import _safe_indexing

from skdejavid import DejaVidClassifier, TSEArray, check_sequences, dtw_distances

GOOD = np.zeros((4, 3))
F32 = GOOD.astype(np.float32)


def as_objects(items):
    objects = np.empty(len(items), dtype=object)
    objects[:] = items
    return objects


class Stream:
    """A collection that can only be iterated over, like an iterable data set of torch."""

    def __iter__(self):
        return iter([GOOD])


class Table:
    """A table like a data set of Hugging Face: rows by number, columns by name, and a shape."""

    def __init__(self, **columns):
        self.columns = columns
        self.column_names = list(columns)
        self.shape = (len(next(iter(columns.values()))), len(columns))

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns[key]
        return {name: column[key] for name, column in self.columns.items()}


def fault(number, X, message):
    """Return an input with its error message, marked with the number of the listed fault."""
    return pytest.param(X, message, marks=pytest.mark.fault(number))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        fault(5, [], r"Found array with 0 sample\(s\)"),
        fault(5, np.zeros((0, 3)), r"Found array with 0 sample\(s\)"),
        fault(5, np.zeros((0, 5, 3)), r"Found array with 0 sample\(s\)"),
        fault(3, [GOOD, np.zeros((0, 3))], r"X\[1\] has 0 timestep\(s\) \(shape=\(0, 3\)\)"),
        fault(3, np.zeros((2, 0, 3)), r"X\[0\] has 0 timestep\(s\)"),
        fault(4, [GOOD, np.zeros((4, 0))], r"X\[1\] has 0 feature\(s\) \(shape=\(4, 0\)\)"),
        fault(
            4,
            np.zeros((5, 0)),
            r"0 feature\(s\) \(shape=\(5, 0\)\) while a minimum of",
        ),
        fault(6, [GOOD, np.zeros((2, 5))], r"X\[1\] has 5 features, but X\[0\] has 3"),
        fault(8, [np.zeros((3, 7)), np.zeros((3, 9))], r"look\s+transposed.*TSEArray.from_aeon"),
        fault(11, [GOOD, np.zeros(3)], r"X\[1\]: expected 2-D .*got 1-D .*x\[:, None\]"),
        fault(11, [np.zeros(3), np.zeros(3)], r"X\[0\]: expected 2-D .*x\[:, None\]"),
        fault(12, [np.zeros((2, 8, 8, 3))], r"X\[0\]: expected 2-D .*got 4-D .*TSEExtractor"),
        fault(12, np.zeros((2, 5, 8, 8)), "Found array with dim 4.*TSEExtractor"),
        fault(9, np.zeros(5), "(?s)Expected 2D array, got 1D .*Reshape your data"),
        fault(9, [1.0, 2.0], "(?s)Expected 2D array, got 1D .*Reshape your data"),
        fault(1, [GOOD, GOOD + np.nan], r"Input X\[1\] contains NaN, first at frame 0, feature 0"),
        fault(
            2,
            [GOOD + np.inf],
            r"X\[0\] contains infinity .* large for dtype\('float64'\)",
        ),
        fault(11, [[1, 2, 3], [1, 2]], r"X\[1\] has 2 number\(s\), but X\[0\] has 3.*x\[:, None\]"),
        fault(14, [[1, 2], [3j, 4]], r"Complex data not supported: X\[1\]"),
        fault(6, [GOOD, [[1, 2, 3], [4]]], r"X\[1\] is not an array .* frames differ in length"),
        fault(1, np.full((2, 3), np.nan), r"Input X\[0\] contains NaN"),
        fault(14, [GOOD.astype(complex)], r"Complex data not supported: X\[0\]"),
        fault(14, np.zeros((2, 3), dtype=complex), "Complex data not supported"),
        fault(14, np.zeros((2, 4, 3), dtype=complex), "Complex data not supported"),
        fault(15, [GOOD, np.full((4, 3), "a")], r"X\[1\] cannot be read as numbers"),
        fault(16, np.ma.masked_array(np.zeros((2, 4, 3))), "X is a masked array"),
        fault(16, [np.ma.masked_array(GOOD)], r"X\[0\] is a masked array"),
        fault(1, [GOOD, GOOD.astype(np.float32) + np.nan], r"Input X\[1\] contains NaN"),
        fault(1, np.full((2, 4, 3), np.nan), r"Input X\[0\] contains NaN"),
        fault(2, [GOOD, F32 - np.inf], r"X\[1\] contains infinity .* too large for dtype"),
        fault(2, [F32 + np.inf], r"X\[0\] contains infinity .* large for dtype\('float32'\)"),
        fault(2, np.full((2, 3), np.inf), r"X\[0\] contains infinity"),
        fault(2, [np.full((2, 3), np.longdouble("1e4000"))], r"X\[0\] contains infinity"),
        fault(2, np.full((2, 3, 1), np.longdouble("1e4000")), r"X\[0\] contains infinity or a"),
        fault(2, [GOOD, [[10**400]]], r"X\[1\] contains a value too large for dtype"),
        fault(3, [GOOD, []], r"X\[1\]: expected 2-D .*shape \(0,\)"),
        fault(4, np.zeros((2, 5, 0)), r"X\[0\] has 0 feature\(s\) \(shape=\(5, 0\)\)"),
        fault(5, (), r"Found array with 0 sample\(s\)"),
        fault(5, pd.Series([], dtype=object), r"Found array with 0 sample\(s\)"),
        fault(8, as_objects([np.zeros((3, 7)), np.zeros((3, 9))]), "look transposed"),
        fault(8, [torch.zeros(3, 7), torch.zeros(3, 9)], "look transposed"),
        fault(8, [GOOD.T.tolist(), np.ones((3, 9)).tolist()], "look transposed"),
        fault(11, as_objects([np.zeros(3), np.zeros(4)]), r"X\[0\]: expected 2-D .*got 1-D"),
        fault(12, torch.zeros(2, 3, 8, 8, 3), "Found array with dim 5.*TSEExtractor"),
        fault(14, [GOOD, torch.zeros(2, 3, dtype=torch.complex64)], r"not supported: X\[1\]"),
        fault(15, [GOOD, [["a", "b", "c"]]], r"X\[1\] cannot be read as numbers: could not conv"),
        fault(15, [GOOD.astype("M8[s]")], r"X\[0\] cannot be read as numbers: .* datetime64"),
        fault(16, [GOOD, np.ma.masked_invalid(GOOD)], r"X\[1\] is a masked array"),
    ],
)
def test_bad_values_are_named(X, message):
    with pytest.raises(ValueError, match=message):
        check_sequences(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (None, "X is a NoneType. Expected a list of arrays"),
        (7, "X is a int. Expected a list of arrays"),
        fault(13, scipy.sparse.csr_array(np.eye(3)), "Sparse data was passed, but dense data is"),
        fault(13, [scipy.sparse.csr_array(np.eye(3))], r"X\[0\] is sparse, but dense data is req"),
        fault(13, torch.eye(3).to_sparse(), r"Sparse data was passed.*X\.to_dense\(\)"),
        fault(13, [torch.eye(3).to_sparse()], r"Sparse data was passed.*to_dense\(\)"),
        fault(15, "clip.mp4", "X is a str, not sequences. To read videos, use TSEExtractor"),
        fault(15, Path("clip.mp4"), "X is a PosixPath, not sequences. .* use TSEExtractor"),
        fault(15, ["a.mp4", "b.mp4"], r"X\[0\] is a str, expected an array .*TSEExtractor"),
        fault(15, np.array(["a.mp4", "b.mp4"]), r"X\[0\] is a str_, expected .*TSEExtractor"),
        fault(15, [GOOD, Path("b.mp4")], r"X\[1\] is a PosixPath, expected .*TSEExtractor"),
        fault(15, pd.DataFrame({"x": ["a.mp4"]}), r"X\[0\] is a str, expected .*TSEExtractor"),
        fault(15, pa.array(["a.mp4"]), r"X\[0\] is a str, expected .*TSEExtractor"),
        fault(15, [GOOD, np.full((4, 3), {}, dtype=object)], r"X\[1\] cannot be read as numbers"),
        fault(15, np.full((4, 3), {}, dtype=object), "argument must be a string or a .*number"),
        fault(17, OrderedDict({0: GOOD}), r"X is a OrderedDict.*Pass list\(X.values\(\)\)"),
        fault(17, (x for x in [GOOD]), r"X is a generator.*pass list\(X\)"),
        fault(17, {1, 2}, r"X is a set.*pass list\(X\)"),
        fault(17, Stream(), r"X is a Stream, which can only be iterated over: pass list\(X\)"),
        fault(17, map(np.asarray, [GOOD]), r"X is a map, .*pass list\(X\)"),
        fault(
            17,
            torch.nn.utils.rnn.pack_sequence([torch.zeros(4, 3), torch.zeros(2, 3)]),
            r"X is a PackedSequence.*unpack_sequence\(X\)",
        ),
        (
            pa.table({"x": [[[1.0]]], "y": [0]}),
            r"X is a Table with the columns \['x', 'y'\]: pass .* X\['x'\]",
        ),
        (
            Table(x=[GOOD], y=[0]),
            r"X is a Table with the columns \['x', 'y'\]: .*from_long\(X, id=",
        ),
    ],
)
def test_bad_types_are_named(X, message):
    with pytest.raises(TypeError, match=message):
        check_sequences(X)


@pytest.mark.fault(1, 2)
def test_an_infinity_is_found_at_its_place():
    X = [np.zeros((4, 3)), np.zeros((5, 3), dtype=np.float32), np.zeros((2, 3))]
    X[1][3, 2] = -np.inf
    with pytest.raises(ValueError, match=r"X\[1\] contains infinity .* at frame 3, feature 2"):
        check_sequences(X)


def test_finite_values_whose_sum_overflows_are_fine():
    X = check_sequences([np.full((4, 3), 3e38, dtype=np.float32)])
    assert X.frames.dtype == np.float32


@pytest.mark.fault(15)
@pytest.mark.parametrize("container", [list, tuple, pd.Series])
@pytest.mark.parametrize(("item", "kind"), [(None, "NoneType"), ({"a": 1}, "dict")])
@pytest.mark.parametrize("place", [0, 1])
def test_items_that_are_no_arrays_are_named_wherever_they_are(container, item, kind, place):
    items = [GOOD, GOOD]
    items[place] = item
    with pytest.raises(TypeError, match=rf"X\[{place}\] is a {kind}, expected an array"):
        check_sequences(container(items))


@pytest.mark.fault(18)
def test_tensors_of_any_class_are_read():
    class Marked(torch.Tensor):
        """A subclass of tensors, as torchvision has them."""

    plain = torch.arange(6.0).reshape(2, 3)
    for tensor in (plain.as_subclass(Marked), plain.clone().requires_grad_()):
        for X in ([tensor], [list(tensor)]):
            np.testing.assert_array_equal(check_sequences(X)[0], plain)
    np.testing.assert_array_equal(check_sequences([plain.bfloat16().as_subclass(Marked)])[0], plain)


class OnDevice(torch.Tensor):
    """A tensor like one on a GPU, which must be copied to the CPU before NumPy can read it."""

    n_copies = 0

    def cpu(self):
        OnDevice.n_copies += 1
        return self.as_subclass(torch.Tensor)

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy


@pytest.mark.fault(18)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_are_detached_copied_once_and_widened(dtype):
    plain = torch.arange(12.0).reshape(2, 2, 3)
    for tensor in (plain.to(dtype), plain.to(dtype, copy=True).requires_grad_()):
        OnDevice.n_copies = 0
        X = check_sequences(tensor.as_subclass(OnDevice))
        assert OnDevice.n_copies == 1
        Y = check_sequences([x.as_subclass(OnDevice) for x in tensor])
        assert OnDevice.n_copies == 3
        for found in (X, Y, check_sequences(tensor), check_sequences(list(tensor))):
            np.testing.assert_array_equal(list(found), plain)
            assert found.frame_dtype == (np.float64 if dtype == torch.float64 else np.float32)


@pytest.mark.slow
@pytest.mark.fault(17)
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
def test_nested_tensors_are_unbound(layout):
    sequences = [torch.arange(n * 2.0).reshape(n, 2) for n in (3, 1, 4)]
    for sequence in sequences:
        sequence.requires_grad_()
    X = check_sequences(torch.nested.nested_tensor(sequences, layout=layout))
    for mine, theirs in zip(X, sequences, strict=True):
        np.testing.assert_array_equal(mine, theirs.detach())


def misaligned(array):
    memory = np.zeros(array.nbytes + 1, dtype=np.uint8)[1:]
    view = memory.view(array.dtype).reshape(array.shape)
    view[:] = array
    assert not view.flags.aligned
    return view


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "read-only": read_only,
    "Fortran order": np.asfortranarray,
    "negative strides": lambda array: array[::-1, ::-1].copy()[::-1, ::-1],
    "every other": lambda array: np.repeat(np.repeat(array, 2, axis=0), 3, axis=1)[::2, ::3],
    "misaligned": misaligned,
    "byte-swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "misaligned and byte-swapped": lambda a: misaligned(a.astype(a.dtype.newbyteorder())),
}


def memory_map(array, folder):
    path = folder / str(len(list(folder.iterdir())))
    path.write_bytes(b"?" + array.astype(array.dtype.newbyteorder()).tobytes())
    return np.memmap(path, array.dtype.newbyteorder(), mode="r", offset=1, shape=array.shape)


@pytest.mark.filterwarnings("ignore:X is a 2-D array, and each")
@pytest.mark.fault(19)
@pytest.mark.parametrize("layout", [*LAYOUTS, "memory map"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_the_layout_in_memory_changes_neither_the_answer_nor_the_data(layout, dtype, tmp_path, rng):
    array = rng.integers(-9, 9, (4, 5, 3)).astype(dtype)
    expected = dtw_distances(list(array), array[:2])
    as_laid_out = LAYOUTS.get(layout, lambda x: memory_map(x, tmp_path))
    for X in (as_laid_out(array), [as_laid_out(x) for x in array]):
        before = [x.tobytes() for x in X]
        np.testing.assert_array_equal(list(check_sequences(X)), array)
        np.testing.assert_array_equal(dtw_distances(X, array[:2]), expected)
        assert [x.tobytes() for x in X] == before
    table = as_laid_out(array[:, 0])
    before = table.tobytes()
    np.testing.assert_array_equal(check_sequences(table).frames, array[:, 0])
    assert table.tobytes() == before


class MapStyle:
    """A collection with only a length and items, like a data set of torch."""

    columns = ("not", "those of a table")

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


# scikit-learn slices each of them in its own way, so each is sliced, then read.
CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "object array": as_objects,
    "TSEArray": TSEArray,
    "tensors": lambda items: [torch.from_numpy(x) for x in items],
    "tensors of grad": lambda items: [torch.from_numpy(x).requires_grad_() for x in items],
    "nested lists": lambda items: [x.tolist() for x in items],
    "data frames": lambda items: [pd.DataFrame(x) for x in items],
    "map-style data set": MapStyle,
    "column of a table": lambda items: Table(x=items, y=range(len(items)))["x"],
    "Series": lambda items: pd.Series(items, index=np.arange(len(items))[::-1]),
    "Series of lists": lambda items: pd.Series([x.tolist() for x in items]),
    "Series of Arrow": lambda items: pd.Series(
        [x.tolist() for x in items], dtype=pd.ArrowDtype(pa.list_(pa.list_(pa.float64())))
    ),
    "one column": lambda items: pd.DataFrame({"x": items}, index=np.arange(len(items)) + 7),
    "read from Parquet": lambda items: pa.table({"x": [x.tolist() for x in items]}).to_pandas(),
    "Arrow": lambda items: pa.array([x.tolist() for x in items]),
    "Arrow, fixed size": lambda items: TSEArray(items).to_arrow(),
    "Arrow, chunks": lambda items: pa.chunked_array(
        [[x.tolist() for x in items[:1]], [x.tolist() for x in items[1:]]],
        type=pa.list_(pa.list_(pa.float64())),
    ),
    "scalars of Arrow": lambda items: list(pa.array([x.tolist() for x in items])),
    "awkward": lambda items: ak.Array([x.tolist() for x in items]),
    "awkward, regular": lambda items: TSEArray(items).to_awkward(),
}


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=6), data=st.data())
def test_every_container_is_read_whole_and_as_scikit_learn_slices_it(container, lengths, data):
    items = [np.arange(n * 2.0).reshape(n, 2) + 100 * i for i, n in enumerate(lengths)]
    X = CONTAINERS[container](items)
    assert_holds(check_sequences(X), items)
    assert_holds(TSEArray(X), items)
    indices = st.lists(st.sampled_from(range(len(items))), min_size=1, max_size=6)
    key = np.array(data.draw(indices))
    assert_holds(check_sequences(_safe_indexing(X, key)), [items[i] for i in key])


def assert_holds(X, items):
    assert len(X) == len(items)
    assert X.frame_dtype == np.float64
    for mine, theirs in zip(X, items, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_goes_through_cross_validation(container, rng):
    items = [rng.standard_normal((n, 2)) + 4.0 * (i % 2) for i, n in enumerate([3, 1, 2, 4] * 3)]
    y = np.arange(12) % 2
    clf = DejaVidClassifier(n_epochs=1, n_timesteps=2, random_state=0)
    expected = cross_val_predict(clf, items, y, cv=3, method="decision_function")
    X = CONTAINERS[container](items)
    found = cross_val_predict(clf, X, y, cv=3, method="decision_function")
    np.testing.assert_array_equal(found, expected)
    assert ((found > 0) == y).all()


@pytest.mark.filterwarnings("ignore:X is a 2-D array, and each")
def test_tables_of_numbers_alone_are_sequences_of_one_frame():
    table = pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    for X in (table, table.to_pandas(), ak.Array([[1.0, 3.0], [2.0, 4.0]])):
        assert [x.tolist() for x in check_sequences(X)] == [[[1.0, 3.0]], [[2.0, 4.0]]]


@pytest.mark.fault(11)
def test_univariate_series_of_columns_get_the_hint():
    rows = [[1.0, 2.0], [3.0]]
    for X in (pa.array(rows), ak.Array(rows), pd.Series(map(np.array, rows)), rows):
        with pytest.raises(ValueError, match=r"Write a univariate series as x\[:, None\]"):
            check_sequences(X)


@pytest.mark.fault(3)
def test_empty_sequences_of_columns_are_named():
    items = [[[1.0]], []]
    for X in (pa.array(items), ak.Array(items)):
        with pytest.raises(ValueError, match=r"X\[1\] has 0 timestep\(s\) \(shape=\(0, 1\)\)"):
            check_sequences(X)


@pytest.mark.fault(8)
@given(
    n_channels=st.integers(1, 5),
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=6).filter(lambda x: len(set(x)) > 1),
)
def test_lists_with_time_last_are_refused_and_read_by_from_aeon(n_channels, lengths):
    """Series of one length in their first axis and of different lengths in the second."""
    series = [np.full((n_channels, n), float(i)) for i, n in enumerate(lengths)]
    for X in (series, as_objects(series), [torch.from_numpy(x) for x in series]):
        with pytest.raises(ValueError, match=r"look transposed, .*Use TSEArray\.from_aeon\(X\)"):
            check_sequences(X)
        assert TSEArray.from_aeon(X).lengths.tolist() == lengths
    assert_holds(check_sequences([x.T for x in series]), [x.T for x in series])


@pytest.mark.fault(6)
def test_differing_features_that_are_no_transposition_name_both_numbers():
    X = [np.zeros((4, 3)), np.zeros((5, 3)), np.zeros((4, 2))]
    with pytest.raises(ValueError, match=r"X\[2\] has 2 features, but X\[0\] has 3"):
        check_sequences(X)


def largest_part(array):
    """Return the larger of the first items along the first two axes."""
    return max(array[0], array[:, 0], key=lambda part: part.nbytes)


@pytest.mark.fault(79)
@pytest.mark.parametrize("shape", [(2**40, 3), (2**40, 2, 3), (2, 2**40, 1), (2, 2, 2**40)])
def test_arrays_that_repeat_a_few_numbers_are_not_copied_without_end(shape):
    claim = np.broadcast_to(np.float64(1), shape)
    for read, X in (
        (check_sequences, claim),
        (
            check_sequences,
            [claim if claim.ndim == 2 else largest_part(claim)],
        ),
        (check_sequences, [[claim]]),
        (TSEArray.from_padded, claim),
        (TSEArray.from_padded, [claim]),
        (TSEArray.from_aeon, [claim]),
        (check_sequences, torch.ones(1).expand(*shape)),
    ):
        with pytest.raises(ValueError, match=r"X.* of shape .* repeats [48] bytes"):
            read(X)


def test_arrays_that_repeat_a_little_are_read():
    windows = np.lib.stride_tricks.sliding_window_view(np.arange(20.0), 5)[:, :, None]
    assert TSEArray(windows).lengths.tolist() == [5] * 16
    assert TSEArray([np.broadcast_to(np.arange(3.0), (4, 3))])[0].tolist() == [[0, 1, 2]] * 4


@pytest.mark.fault(79)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("offsets", [[0, 2, 40], [0, 5, 4], [0, -1, 4]])
def test_offsets_of_nested_tensors_are_checked(offsets):
    frames = torch.arange(8.0).reshape(4, 2)
    nested = torch.nested.nested_tensor_from_jagged(frames, torch.tensor(offsets))
    with pytest.raises(ValueError, match="X is a nested tensor that is damaged"):
        TSEArray(nested)


@pytest.mark.fault(117)
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            pd.DataFrame({"id": ["a", "b"], "x": [1.0, 2.0]}),
            r"column 'id' of X cannot be read as numbers: .*TSEArray.from_long\(X, id=",
        ),
        (
            pd.DataFrame({"u": [pd.Series([1.0, 2.0])] * 2, "v": [pd.Series([1.0, 2.0])] * 2}),
            r"column 'u' of X cannot be read as numbers: .*TSEArray.from_sktime\(X\)",
        ),
        (pd.Series([1.0, 2.0]), r"(?s)Reshape your data.*passed as \[x\[:, None\]\].*from_long"),
        ([1.0, 2.0], r"(?s)Reshape your data.*passed as \[x\[:, None\]\].*from_long"),
        (pd.DataFrame(index=[0, 1]), r"X is a table with 0 feature\(s\)"),
    ],
)
def test_what_has_a_reader_of_its_own_names_it(X, message):
    with pytest.raises(ValueError, match=message):
        check_sequences(X)


@pytest.mark.fault(117)
def test_tables_of_others_with_text_name_the_reader():
    table = pa.table({"id": ["a"], "x": [1.0]})
    with pytest.raises(TypeError, match=r"X is a Table with the columns .*from_long\(X, id=\.\.\."):
        check_sequences(table)


@pytest.mark.fault(138)
@pytest.mark.parametrize("call", [TSEArray, check_sequences, TSEArray.from_padded])
def test_a_packed_sequence_of_torch_is_named(call):
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.ones(2, 2)])
    with pytest.raises(TypeError, match=r"PackedSequence, .*torch.nn.utils.rnn.unpack_sequence\(X"):
        call(packed)
    assert TSEArray(torch.nn.utils.rnn.unpack_sequence(packed)).lengths.tolist() == [3, 2]


@pytest.mark.fault(115)
@pytest.mark.parametrize("dtype", ["m8[s]", "M8[ns]"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (1, 2, 3)])
def test_times_and_durations_are_no_numbers(shape, dtype):
    X = np.arange(6).reshape(shape).astype(dtype)
    with pytest.raises(ValueError, match=r"X cannot be read as numbers: it has dtype"):
        TSEArray(X)
    with pytest.raises(ValueError, match=r"X cannot be read as numbers: it has dtype"):
        TSEArray([[X.flat[0]]])


@pytest.mark.parametrize("container", [np.array, list])
def test_text_that_is_no_number_names_its_place(container):
    for X in ([[b"1", b"x"]], [["1", "x"]]):
        with pytest.raises(ValueError, match=r"^X cannot be read as numbers: could not convert"):
            TSEArray(container(X))
        with pytest.raises(ValueError, match=r"^X\[0\] cannot be read as numbers: could not"):
            TSEArray([container(X)])
