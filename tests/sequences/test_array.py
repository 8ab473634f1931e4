import copy
import pickle
from pathlib import Path
from unittest import mock

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils import _safe_indexing

from skdejavid import DejaVidClassifier, TSEArray, check_sequences
from skdejavid.sequences import array as sequences_module

GOLDEN = Path(__file__).parents[1] / "golden"
SEQUENCES = st.lists(st.integers(1, 6), min_size=1, max_size=8).map(
    lambda lengths: [np.arange(n * 2.0).reshape(n, 2) + 100.0 * i for i, n in enumerate(lengths)]
)


def assert_holds(X, sequences):
    assert isinstance(X, TSEArray)
    assert X.shape == (len(sequences),)
    assert len(X) == X.size == len(sequences)
    for mine, theirs in zip(X, sequences, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def as_objects(sequences):
    objects = np.empty(len(sequences), dtype=object)
    objects[:] = sequences
    return objects


class SequenceLike:
    """A collection with only a length and items, like a map-style data set of torch."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        as_objects,
        TSEArray,
        SequenceLike,
        lambda items: pd.Series(items, index=range(10, 10 + len(items))),
        lambda items: [x.tolist() for x in items],
        lambda items: [pd.DataFrame(x) for x in items],
        lambda items: [torch.from_numpy(x).requires_grad_() for x in items],
        lambda items: torch.nested.nested_tensor([torch.from_numpy(x) for x in items]),
        lambda items: [np.asfortranarray(x) for x in items],
        lambda items: [x[::-1].copy()[::-1] for x in items],
        lambda items: [x.astype(">f8") for x in items],
        lambda items: [x.astype(object) for x in items],
        lambda items: [x.astype(int) for x in items],
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
def test_every_container_gives_the_same_sequences(convert):
    sequences = [np.arange(n * 2.0).reshape(n, 2) + i for i, n in enumerate([3, 1, 4])]
    X = convert(sequences)
    assert_holds(TSEArray(X), sequences)
    assert_holds(check_sequences(X), sequences)
    assert check_sequences(X).frames.dtype == np.float64


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy, lambda x: x.astype(object)])
def test_three_dimensional_data_is_sequences_of_equal_length(convert, rng):
    array = rng.standard_normal((4, 5, 2))
    assert_holds(check_sequences(convert(array)), list(array))


@pytest.mark.filterwarnings("ignore:X is a 2-D array, and each")
@pytest.mark.fault(10)
@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy, pd.DataFrame, np.ndarray.tolist])
def test_two_dimensional_data_is_sequences_of_one_frame(convert, rng):
    array = rng.standard_normal((4, 5))
    for X in (check_sequences(convert(array)), TSEArray(convert(array))):
        assert_holds(X, list(array[:, None, :]))


@pytest.mark.filterwarnings("ignore:X is a 2-D array, and each")
@pytest.mark.parametrize(
    ("given_dtype", "kept_dtype"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.longdouble, np.float64),
        (np.int8, np.float64),
        (np.bool_, np.float64),
    ],
)
def test_narrow_floats_become_float32_and_everything_else_float64(given_dtype, kept_dtype):
    ones = np.ones((3, 2), dtype=given_dtype)
    for X in ([ones], np.stack([ones]), ones):
        assert TSEArray(X).frames.dtype == kept_dtype
        assert check_sequences(X).frames.dtype == kept_dtype
        assert (TSEArray(X).frames == 1).all()


@pytest.mark.fault(18)
def test_bfloat16_tensors_are_widened():
    X = check_sequences([torch.full((2, 3), 1.5, dtype=torch.bfloat16)])
    assert X.frames.dtype == np.float32
    assert (X.frames == 1.5).all()


def test_one_wide_sequence_widens_all():
    X = TSEArray([np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float64)])
    assert X.frames.dtype == np.float64


def keys(n):
    """Draw any key that selects some of n sequences."""
    mask = st.lists(st.booleans(), min_size=n, max_size=n).map(lambda m: np.array(m, dtype=bool))
    if n == 0:
        return st.one_of(st.slices(0), mask)
    indices = st.lists(st.integers(-n, n - 1), max_size=6)
    as_array = indices.map(lambda key: np.array(key, dtype=np.intp))
    return st.one_of(st.slices(n), indices, as_array, mask)


@given(SEQUENCES, st.data())
def test_slicing_is_that_of_an_object_array(sequences, data):
    X, expected = TSEArray(sequences), as_objects(sequences)
    key = data.draw(keys(len(sequences)))
    for form in (key, (key, Ellipsis), (key,), (Ellipsis, key)):
        assert_holds(X[form], expected[key])
    assert_holds(X[...], expected)


@given(SEQUENCES, st.data())
def test_an_integer_gives_a_view_of_one_sequence(sequences, data):
    X = TSEArray(sequences)
    index = data.draw(st.integers(-len(X), len(X) - 1))
    for key in (index, np.int32(index), np.array(index), (index, ...)):
        assert np.shares_memory(X[key], X.frames)
        np.testing.assert_array_equal(X[key], sequences[index])


def test_a_contiguous_slice_copies_nothing(ragged):
    X = TSEArray(ragged[0])
    for selection in (X[2:7], X[[2, 3, 4, 5, 6]], X[::3][1:2], X[::-1][5:6]):
        assert np.shares_memory(selection.frames, X.frames)
        assert selection.frames is selection.frames
        assert selection.packed() is selection
    assert X[2:7].offsets[0] == 0


@given(SEQUENCES, st.data())
def test_slices_of_slices_are_views_of_the_first(sequences, data):
    X = Y = TSEArray(sequences)
    expected = as_objects(sequences)
    for _ in range(3):
        key = data.draw(keys(len(Y)))
        Y, expected = Y[key], expected[key]
        assert_holds(Y, expected)
        for mine in Y:
            assert np.shares_memory(mine, X.frames)
        assert_is_view(Y.view(), expected)


def assert_is_view(view, expected):
    for start, length, theirs in zip(view.starts, view.lengths, expected, strict=True):
        np.testing.assert_array_equal(view.values[start : start + length], theirs)


@given(SEQUENCES, st.data(), st.integers(1, 9))
def test_values_of_a_selection_are_its_frames_one_after_the_other(sequences, data, n_numbers):
    key = data.draw(keys(len(sequences)))
    X = TSEArray(sequences)[key]
    expected = np.concatenate([np.empty((0, 2)), *as_objects(sequences)[key]])
    np.testing.assert_array_equal(X.frames, expected)
    assert X.offsets.tolist() == [0, *np.cumsum([len(x) for x in X])]
    assert (X.total_frames, X.n_features, X.frame_dtype) == (len(expected), 2, np.float64)
    assert X.nbytes == X.frames.nbytes + X.offsets.nbytes
    with mock.patch.object(sequences_module, "_NUMBERS_PER_CHUNK", n_numbers):
        chunks = list(X.chunks())
        np.testing.assert_array_equal(X.astype(np.float32).frames, expected.astype(np.float32))
    assert [rows.start for rows, _ in chunks] == [0, *(rows.stop for rows, _ in chunks)][:-1]
    assert sum(len(frames) for _, frames in chunks) == len(expected)
    for rows, frames in chunks:
        np.testing.assert_array_equal(frames, expected[rows])
        assert frames.size <= max(n_numbers, 2)


def test_a_packed_copy_has_memory_of_its_own(ragged):
    X = TSEArray(ragged[0])
    scattered = X[[5, 1]]
    for values in (scattered.frames, scattered.packed().frames):
        assert not np.shares_memory(values, X.frames)
    assert_holds(scattered.packed(), [ragged[0][5], ragged[0][1]])
    assert X.packed() is X


def test_where_sequences_lie_cannot_be_changed(ragged):
    for X in (TSEArray(ragged[0]), TSEArray(ragged[0])[::2]):
        for array in (X.offsets, X.view().starts, X.view().lengths):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1
        X.lengths[:] = 0
        assert (X.lengths > 0).all()


@pytest.mark.parametrize("key", [12, -13, np.int64(99), [0, 12], (0, 1), True, "a", 1.5, [[0]]])
def test_keys_that_fit_no_sequence_raise_index_errors(key, ragged):
    with pytest.raises(IndexError):
        TSEArray(ragged[0])[key]


def test_scikit_learn_slices_it(ragged):
    X = TSEArray(ragged[0])
    for key in ([3, 1], np.array([3, 1]), np.arange(12) % 4 == 1, slice(1, 9, 3)):
        assert_holds(_safe_indexing(X, key), list(as_objects(ragged[0])[key]))


def test_as_an_array_it_is_one_of_objects(ragged):
    X = TSEArray(ragged[0])
    objects = np.asarray(X)
    assert objects.dtype == X.dtype == object
    assert objects.shape == X.shape
    assert objects.ndim == X.ndim == 1
    np.testing.assert_array_equal(objects[4], ragged[0][4])
    with pytest.raises(ValueError, match="can only be converted to an array of dtype object"):
        np.asarray(X, dtype=float)
    with pytest.raises(ValueError, match="without a copy"):
        X.__array__(copy=False)  # as np.asarray(X, copy=False) calls it since NumPy 2


@pytest.mark.parametrize(
    "round_trip", [lambda X: pickle.loads(pickle.dumps(X)), copy.copy, copy.deepcopy]
)
def test_it_survives_pickling_and_copying(round_trip, ragged):
    X = TSEArray(ragged[0])
    assert_holds(round_trip(X), ragged[0])
    assert_holds(round_trip(X[3:5]), ragged[0][3:5])


def test_pickles_of_the_first_version_load():
    X = pickle.loads((GOLDEN / "sequences-0.1.0.pickle").read_bytes())
    lengths = range(3, 15)
    expected = np.random.default_rng(0).standard_normal((sum(lengths), 2)).astype(np.float32)
    assert type(X) is TSEArray
    assert X.lengths.tolist() == list(lengths)
    assert X.spans is None
    assert X.feature_names is None
    np.testing.assert_array_equal(X.frames, expected, strict=True)


def test_pickles_name_a_path_that_does_not_depend_on_files(ragged):
    pickled = pickle.dumps(TSEArray(ragged[0]))
    assert b"skdejavid.sequences\x94" in pickled
    assert b"skdejavid.sequences." not in pickled


@pytest.mark.parametrize("key", [slice(10, 12), [700, 3], slice(0, 1000, 400)], ids=str)
def test_a_pickled_slice_does_not_carry_the_rest(key, rng):
    array = rng.standard_normal((1000, 5, 2))
    X = TSEArray(array)[key]
    assert len(pickle.dumps(X)) < 2000
    assert_holds(X, list(array[key]))


def test_a_shallow_copy_is_a_view_and_a_deep_one_is_not(ragged):
    X = TSEArray(ragged[0])
    selection = X[::2]
    assert np.shares_memory(copy.copy(selection)[1], X[2])
    assert not np.shares_memory(copy.deepcopy(selection)[1], X[2])


@pytest.fixture
def mapped(tmp_path, rng):
    """Return 600 sequences of 5 frames in a memory map, and the path of its file."""
    path = tmp_path / "frames.npy"
    np.save(path, rng.standard_normal((3000, 4)))
    return TSEArray.from_packed(np.load(path, mmap_mode="r"), np.arange(0, 3001, 5)), path


def test_a_memory_map_stays_one(mapped):
    X, path = mapped
    for Y in (X, X[100:300], X[[3, 4, 5]], check_sequences(X), X.astype(np.float64), TSEArray(X)):
        assert isinstance(Y.frames, np.memmap)
        assert Y.frames.filename == path
    assert isinstance(X[[5, 3]].view().values, np.memmap)
    assert not isinstance(X[[5, 3]].frames, np.memmap)


def test_what_has_to_be_converted_is_no_memory_map_any_more(tmp_path):
    np.save(tmp_path / "wide.npy", np.arange(12).reshape(4, 3))
    X = TSEArray.from_packed(np.load(tmp_path / "wide.npy", mmap_mode="r"), [0, 4])
    assert type(X.frames) is np.ndarray
    assert X.frame_dtype == np.float64


def test_a_pickle_of_a_memory_map_needs_no_file(mapped):
    X, path = mapped
    expected = X.frames.copy()
    pickled = pickle.dumps(X)
    path.write_bytes(b"")
    np.testing.assert_array_equal(pickle.loads(pickled).frames, expected)
    assert type(pickle.loads(pickled).frames) is np.ndarray


@pytest.mark.slow
def test_parallel_workers_open_the_memory_map_or_share_one_that_is_written_once(mapped):
    def look(X):  # a local function, so that it is sent to the workers by value
        values = X.view().values
        return getattr(values, "filename", None), float(values.sum())

    X, path = mapped
    in_memory = TSEArray(list(X))
    parallel = joblib.Parallel(n_jobs=2, max_nbytes=1000)
    for Y in (X, X[100:300], X[::2], in_memory, in_memory[::2]):
        names, totals = zip(*parallel(joblib.delayed(look)(Y) for _ in range(3)), strict=True)
        assert names[0] is not None
        assert len(set(names)) == 1
        assert (str(names[0]) == str(path)) == (Y is X or len(Y) == 200)
        np.testing.assert_allclose(totals, Y.frames.sum())


def with_spans(sequences):
    """Return sequences of two features whose spans are equal to their values."""
    values = np.concatenate(sequences)
    offsets = np.cumsum([0, *map(len, sequences)])
    return TSEArray.from_packed(values, offsets, spans=values)


@given(SEQUENCES, st.data())
def test_spans_stay_with_their_frames(sequences, data):
    X = with_spans(sequences)
    for _ in range(2):
        X = X[data.draw(keys(len(X)))]
        np.testing.assert_array_equal(X.spans, X.frames)
        assert X.nbytes == X.frames.nbytes + X.offsets.nbytes + X.spans.nbytes
        for Y in (
            TSEArray(X),
            X.packed(),
            X.astype(np.float32),
            copy.copy(X),
            copy.deepcopy(X),
            pickle.loads(pickle.dumps(X)),
            check_sequences(X) if len(X) else X,
        ):
            np.testing.assert_array_equal(Y.spans, X.frames)
            assert Y.spans.dtype == np.float64


def test_spans_are_optional_and_not_copied(ragged):
    X = TSEArray(ragged[0])
    assert X.spans is None
    assert X[::2].spans is None
    spans = np.zeros((78, 2))
    assert TSEArray.from_packed(X.frames, X.offsets, spans).spans is spans
    listed = TSEArray.from_packed(np.zeros((2, 1)), [0, 2], [[0, 1], [1, 2]])
    np.testing.assert_array_equal(listed.spans, [[0.0, 1.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (np.zeros((6, 2)), r"a begin and an end for each frame, \(7, 2\), got shape \(6, 2\)"),
        (np.zeros((7, 3)), r"got shape \(7, 3\)"),
        (np.zeros(7), r"got shape \(7,\)"),
        (np.zeros((7, 2), dtype=complex), "Complex data not supported: spans"),
        (np.full((7, 2), "a"), "spans cannot be read as numbers"),
    ],
)
def test_spans_that_are_not_two_numbers_for_each_frame_are_refused(spans, message):
    with pytest.raises(ValueError, match=message):
        TSEArray.from_packed(np.zeros((7, 2)), [0, 3, 7], spans=spans)


def test_learning_from_a_selection_is_learning_from_its_copy_without_making_one(ragged):
    X, y = TSEArray(ragged[0] * 3), np.tile(ragged[1], 3)
    selected = np.random.default_rng(0).permutation(36)[:30]
    model = DejaVidClassifier(
        n_timesteps=3, n_epochs=2, early_stopping=True, validation_fraction=0.2, random_state=0
    )
    expected = copy.copy(model).fit(X[selected].packed(), y[selected])
    parts = expected.transform(X[selected].packed())
    weight = np.ones(30)

    def refuse(rows):
        raise AssertionError("packed")

    with mock.patch.object(sequences_module, "_packed", refuse):
        fitted = copy.copy(model).fit(X[selected], y[selected], weight)
        np.testing.assert_array_equal(fitted.transform(X[selected]), parts)
    np.testing.assert_array_equal(fitted.centroids_, expected.centroids_)
    np.testing.assert_array_equal(fitted.log_weights_, expected.log_weights_)


@pytest.mark.fault(35)
def test_learning_from_data_beyond_two_to_the_31_numbers(tmp_path, rng):
    """The file is sparse: only its beginning and end are written and read."""
    n_rows, n_features = 2**20 + 64, 2048
    with (tmp_path / "frames").open("wb") as file:
        file.truncate(n_rows * n_features * 4)
    frames = np.memmap(tmp_path / "frames", np.float32, mode="r+", shape=(n_rows, n_features))
    lengths = rng.integers(1, 6, 24)
    parts = [rng.standard_normal((n, n_features), np.float32) for n in lengths]
    offsets = np.cumsum([0, *lengths[:12], n_rows - lengths.sum(), *lengths[12:]])
    for begin, part in zip(np.delete(offsets[:-1], 12), parts, strict=True):
        frames[begin : begin + len(part)] = part
    X = TSEArray.from_packed(frames, offsets)[np.delete(np.arange(25), 12)]
    assert X.view().starts[-1] * n_features > 2**31
    y = np.arange(24) % 2
    model = DejaVidClassifier(n_epochs=2, n_timesteps=3, random_state=0)
    far, near = copy.copy(model).fit(X, y), copy.copy(model).fit(parts, y)
    np.testing.assert_array_equal(far.centroids_, near.centroids_)
    np.testing.assert_array_equal(far.log_weights_, near.log_weights_)
    np.testing.assert_array_equal(far.transform(X), near.transform(parts))


def test_joblib_maps_its_memory(tmp_path, rng):
    X = TSEArray(rng.standard_normal((300, 5, 2)))
    joblib.dump(X, tmp_path / "x.joblib")
    mapped = joblib.load(tmp_path / "x.joblib", mmap_mode="r")
    assert isinstance(mapped.frames, np.memmap)
    assert_holds(check_sequences(mapped)[7:9], list(X[7:9]))


@pytest.mark.filterwarnings("ignore:X is a 2-D array, and each")
@pytest.mark.fault(19)
def test_checking_copies_nothing_that_fits_and_changes_nothing(rng):
    for array in (rng.standard_normal((4, 5, 2)), rng.standard_normal((4, 5))):
        array.flags.writeable = False
        before = array.copy()
        X = check_sequences(array)
        assert np.shares_memory(X.frames, array)
        np.testing.assert_array_equal(array, before)
    packed = TSEArray(rng.standard_normal((4, 5, 2)))
    assert np.shares_memory(check_sequences(packed).frames, packed.frames)


def test_a_packed_array_is_wrapped_without_a_copy(rng):
    values = rng.standard_normal((7, 2))
    X = TSEArray.from_packed(values, [0, 3, 7])
    assert np.shares_memory(X.frames, values)
    assert_holds(X, [values[:3], values[3:]])
    assert X.offsets.dtype == np.int64


@pytest.mark.fault(140)
def test_values_is_no_attribute_and_the_error_names_frames():
    X = TSEArray([np.zeros((5, 3)), np.ones((2, 3))])
    assert not hasattr(X, "values")
    with pytest.raises(AttributeError, match="no attribute 'values': 'frames' are all frames"):
        _ = X.values
    with pytest.raises(AttributeError, match=r"no attribute 'value'$"):
        _ = X.value
    with pytest.raises(TypeError, match="unexpected keyword argument 'values'"):
        TSEArray.from_packed(values=np.zeros((7, 3)), offsets=[0, 7])
    assert TSEArray.from_packed(frames=np.zeros((7, 3)), offsets=[0, 7]).frames.shape == (7, 3)


@pytest.mark.fault(140)
@pytest.mark.parametrize("lengths", [(4, 4), (4, 2)])
def test_conversion_to_numbers_names_the_array_of_three_axes(lengths):
    """Whatever the lengths are: the number of axes must not depend on the data."""
    X = TSEArray([np.ones((n, 2)) for n in lengths])
    with pytest.raises(ValueError, match=r"got dtype float64: use to_padded\(\) for a 3-D array"):
        np.asarray(X, float)
    assert X.to_padded().shape == (2, 4, 2)


@pytest.mark.parametrize(
    ("values", "offsets", "message"),
    [
        (np.zeros(7), [0, 7], "frames must be 2-D"),
        (np.zeros((7, 2)), [0, 3, 6], "end with len\\(frames\\) = 7, got 0 and 6"),
        (np.zeros((7, 2)), [1, 7], "begin with 0"),
        (np.zeros((7, 2)), [0, 3, 3, 7], r"sequence 1 would have 0 frame"),
        (np.zeros((7, 2)), [0, 5, 3, 7], r"sequence 1 would have -2 frame"),
        (np.zeros((7, 2)), [0.0, 7.0], "1-D integer array"),
        (np.zeros((7, 2)), [[0, 7]], "1-D integer array"),
        (np.zeros((7, 2)), np.array([], dtype=int), "1-D integer array"),
        (np.zeros((7, 2), dtype=complex), [0, 7], "Complex data not supported"),
    ],
)
def test_offsets_that_do_not_divide_the_values_are_refused(values, offsets, message):
    with pytest.raises(ValueError, match=message):
        TSEArray.from_packed(values, offsets)


# Each would pass if differences, or the conversion to int64, were allowed to overflow.
WRAPPING_OFFSETS = [
    np.array([0, 2**63 - 1, -2, 7]),
    np.array([0, 2**63 - 1, -(2**63), 7]),
    np.array([0, 3, 2**64 - 1, 7], dtype=np.uint64),
    np.array([0, 2**63 + 3, 7], dtype=np.uint64),
    np.array([0, 2**64 - 5, 7], dtype=np.uint64),
    np.array([0, 2**31 - 1, -2, 7], dtype=np.int32),
    np.array([0, 200, 7], dtype=np.uint8),
    np.array([0, 100, -100, 7], dtype=np.int8),
]


@pytest.mark.fault(88)
@pytest.mark.parametrize("offsets", WRAPPING_OFFSETS, ids=lambda array: f"{array}")
def test_offsets_near_the_ends_of_their_type_are_refused(offsets):
    message = "offsets must be strictly increasing: sequence . would have -"
    with pytest.raises(ValueError, match=message):
        TSEArray.from_packed(np.zeros((7, 2)), offsets)
    state = TSEArray.from_packed(np.zeros((7, 2)), [0, 7]).__getstate__()
    with pytest.raises(ValueError, match=message):
        TSEArray.__new__(TSEArray).__setstate__(state | {"offsets": offsets})


@pytest.mark.fault(88)
@pytest.mark.parametrize("dtype", ["uint64", ">i8", "int8", "uint16"])
def test_offsets_of_every_integer_type_divide_the_frames(dtype):
    X = TSEArray.from_packed(np.zeros((7, 2)), np.array([0, 3, 7]).astype(dtype))
    assert X.lengths.tolist() == [3, 4]
    assert X.offsets.dtype == np.int64
    assert X.offsets.dtype.isnative


@pytest.mark.fault(88, 89)
def test_offsets_are_copied():
    offsets = np.array([0, 3, 7])
    X = TSEArray.from_packed(np.zeros((7, 2)), offsets)
    offsets[:] = 2**62
    assert X.lengths.tolist() == [3, 4]


def test_a_view_selects_without_copying(ragged):
    X = TSEArray(ragged[0])
    values, starts, lengths = X.view(np.array([7, 0]))
    assert values is X.frames
    for i, start, length in zip([7, 0], starts, lengths, strict=True):
        np.testing.assert_array_equal(values[start : start + length], ragged[0][i])
    assert (X.view().lengths == X.lengths).all()


def test_astype_shares_memory_when_nothing_changes(ragged):
    X = TSEArray(ragged[0])
    assert np.shares_memory(X.astype(np.float64).frames, X.frames)
    assert X.astype("float32").frames.dtype == np.float32
    with pytest.raises(ValueError, match="float32 or float64, got float16"):
        X.astype(np.float16)


def test_its_representation_tells_the_sizes(ragged):
    X = TSEArray(ragged[0])
    assert repr(X) == "TSEArray(n_sequences=12, n_frames=1..12, n_features=3, dtype=float64)"
    assert repr(X[[]]) == "TSEArray(n_sequences=0, n_frames=0, n_features=3, dtype=float64)"
    named = TSEArray(X[:1], feature_names=["a", "b", "c"])
    assert repr(named).endswith("n_features=3, dtype=float64, feature_names=('a', 'b', 'c'))")
    many = TSEArray(np.zeros((1, 1, 5)), feature_names=list("abcde"))
    assert repr(many).endswith("feature_names=('a', 'b', 'c', ...))")
    assert X.n_features == 3
    assert X.nbytes == X.frames.nbytes + X.offsets.nbytes


def test_a_data_frame_with_one_column_of_arrays_is_its_sequences(ragged):
    X, _ = ragged
    column = pd.Series(X, index=range(5, 5 + len(X)), name="frames")
    assert_holds(TSEArray(column.to_frame()), X)


@pytest.mark.fault(4)
def test_packed_values_without_features_are_refused():
    with pytest.raises(ValueError, match=r"n_features >= 1\), got shape \(3, 0\)"):
        TSEArray.from_packed(np.zeros((3, 0)), [0, 3])


def test_data_frames_must_agree_in_their_columns():
    frames = [pd.DataFrame(np.eye(2), columns=list("ab")) for _ in range(3)]
    with pytest.raises(ValueError, match=r"X\[2\] has the columns \['b', 'a'\], but X\[0\] has"):
        TSEArray([*frames[:2], frames[2][["b", "a"]]])


NAMES = ("left", "right")


@given(SEQUENCES, st.data())
def test_names_of_features_stay_with_whatever_is_made_of_a_container(sequences, data):
    X = TSEArray(sequences, feature_names=NAMES)
    key = data.draw(keys(len(sequences)))
    for made in (
        X,
        X[key],
        X[key][::-1],
        copy.deepcopy(X[key]),
        pickle.loads(pickle.dumps(X[key])),
    ):
        for again in (made, TSEArray(made), made.packed(), made.astype("float32"), copy.copy(made)):
            assert again.feature_names == NAMES
    plain = TSEArray(sequences)
    assert plain[key].feature_names is None
    np.testing.assert_array_equal(X.frames, plain.frames)
    assert X.nbytes == plain.nbytes


@pytest.mark.parametrize(
    "names",
    [list(NAMES), np.array(NAMES), pd.Index(NAMES), iter(NAMES)],
    ids=lambda names: type(names),
)
def test_names_are_plain_strings_whatever_held_them(names):
    X = TSEArray.from_packed(np.zeros((3, 2)), [0, 1, 3], feature_names=names)
    assert X.feature_names == NAMES
    assert {type(name) for name in X.feature_names} == {str}
    assert X[1:].spans is None


def test_given_names_replace_those_that_there_were_and_change_nothing_else():
    X = TSEArray([pd.DataFrame(np.eye(2), columns=["a", "b"])])
    assert X.feature_names == ("a", "b")
    renamed = TSEArray(X, feature_names=NAMES)
    assert (X.feature_names, renamed.feature_names) == (("a", "b"), NAMES)
    assert np.shares_memory(X.frames, renamed.frames)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], r"has 1 name\(s\), but the sequences have 2 feature\(s\)"),
        (["a", "b", "c"], r"has 3 name\(s\)"),
        (["a", "a"], "contains 'a' twice"),
        (["a", 1], r"feature_names\[1\] must be a str, got 1"),
        ("ab", "must be a list of str, got 'ab'"),
        ({"a", "b"}, "must be a list of str, got {"),
        (2, "must be a list of str, got 2"),
    ],
)
def test_names_that_do_not_name_each_feature_are_refused(names, message):
    for make in (
        lambda: TSEArray([np.eye(2)], feature_names=names),
        lambda: TSEArray.from_packed(np.eye(2), [0, 2], feature_names=names),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("columns", [[0, 1], ["a", 1], [("a", "b"), ("a", "c")]], ids=str)
def test_columns_that_are_no_strings_are_no_names(columns):
    frames = [pd.DataFrame(np.eye(2))]
    frames[0].columns = pd.Index(columns, tupleize_cols=False)
    assert TSEArray(frames).feature_names is None


def test_names_reach_workers_and_files_of_joblib(tmp_path):
    X = TSEArray(np.zeros((3, 4, 2)), feature_names=NAMES)
    joblib.dump(X, tmp_path / "x")
    assert joblib.load(tmp_path / "x", mmap_mode="r").feature_names == NAMES
    assert _safe_indexing(X, [2, 0]).feature_names == NAMES
