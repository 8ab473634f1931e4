"""Arrow files, and import of folders of arrays."""

import os
import pickle
import sys
from operator import attrgetter
from unittest import mock

import joblib
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

from skdejavid import TSEArray, TSEStore, interchange
from skdejavid.interchange import import_sequences, read_arrow, write_arrow

IDS = ["a", "b/ü", ""]


def make(dtype=np.float32, *, has_spans=False):
    offsets = np.array([0, 3, 4, 8])
    values = np.arange(16.0).reshape(8, 2).astype(dtype)
    return TSEArray.from_packed(values, offsets, values * 0.5 if has_spans else None)


def assert_same(mine, theirs):
    assert mine.frame_dtype == theirs.frame_dtype
    np.testing.assert_array_equal(mine.offsets, theirs.offsets)
    np.testing.assert_array_equal(mine.frames, theirs.frames)
    assert (mine.spans is None) == (theirs.spans is None)
    if mine.spans is not None:
        np.testing.assert_array_equal(mine.spans, theirs.spans)


@pytest.mark.parametrize("labels", [None, [2, 0, -5], ["x", "y", "x"]])
@pytest.mark.parametrize("ids", [None, IDS])
@pytest.mark.parametrize("has_spans", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_written_as_arrow_is_read(dtype, has_spans, ids, labels, tmp_path):
    X = make(dtype, has_spans=has_spans)
    write_arrow(X, tmp_path / "x.arrow", ids, labels)
    found, found_ids, found_labels = read_arrow(str(tmp_path / "x.arrow"))
    assert_same(found, X)
    assert found_ids == ids
    assert (found_labels is None) == (labels is None)
    if labels is not None:
        assert found_labels.tolist() == labels
        assert found_labels.shape == (3,)
    assert os.listdir(tmp_path) == ["x.arrow"]


def test_others_can_read_the_columns(tmp_path):
    write_arrow(make(has_spans=True), tmp_path / "x.arrow", IDS, [1, 2, 3])
    table = pa.ipc.open_file(tmp_path / "x.arrow").read_all()
    assert table.schema.types == [
        pa.large_list(pa.list_(pa.float32(), 2)),
        pa.string(),
        pa.int64(),
        pa.large_list(pa.list_(pa.float64(), 2)),
    ]
    assert table.column_names == ["sequence", "id", "label", "spans"]
    assert table.column("sequence").to_pylist() == [x.tolist() for x in make()]


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=10),
    data=st.data(),
    bytes_per_batch=st.integers(1, 100),
)
def test_any_selection_is_written_in_batches_of_bounded_size(
    lengths, data, bytes_per_batch, tmp_path_factory
):
    path = tmp_path_factory.mktemp("batches") / "x.arrow"
    X = TSEArray([np.full((n, 2), i, np.float32) for i, n in enumerate(lengths)])
    order = data.draw(st.lists(st.sampled_from(range(len(X))), min_size=1, max_size=12))
    part = X[order]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interchange, "_BYTES_PER_BATCH", bytes_per_batch)
        write_arrow(part, path, ids=list(map(str, order)), labels=order)
    found, ids, labels = read_arrow(path)
    assert_same(found, part)
    assert ids == list(map(str, order))
    assert labels.tolist() == order
    reader = pa.ipc.open_file(path)
    batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    if part.packed() is part:
        assert len(batches) == 1
    longest = max(lengths) * 8
    for batch in batches:
        assert batch.num_rows > 0
        n_numbers = len(batch.column("sequence").flatten().flatten())
        assert n_numbers * 4 < bytes_per_batch + longest or len(batches) == 1


@pytest.mark.slow
def test_an_arrow_file_is_mapped_and_shared_with_workers(tmp_path):
    path = tmp_path / "x.arrow"
    write_arrow(make(np.float64, has_spans=True), path, IDS)
    X = read_arrow(path)[0]
    assert isinstance(X.frames, np.memmap)
    assert not X.frames.flags.writeable
    [name] = joblib.Parallel(n_jobs=2, max_nbytes=0)(
        [joblib.delayed(attrgetter("frames.filename"))(X)]
    )
    assert os.fspath(name) == str(path)


def test_a_memory_map_is_written_as_it_lies(tmp_path):
    np.save(tmp_path / "x.npy", make().frames)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    write_arrow(TSEArray.from_packed(mapped, make().offsets), tmp_path / "x.arrow")
    assert_same(read_arrow(tmp_path / "x.arrow")[0], make())


def test_anything_that_holds_sequences_is_written(tmp_path):
    write_arrow([np.ones((2, 3)), np.zeros((1, 3))], tmp_path / "x.arrow")
    assert_same(read_arrow(tmp_path / "x.arrow")[0], TSEArray([np.ones((2, 3)), np.zeros((1, 3))]))


def lists(sequences, kind):
    return pa.array(sequences, pa.large_list(pa.list_(kind, 2)))


def write_table(path, options=None, **columns):
    table = pa.table(columns)
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=options) as writer,
    ):
        writer.write_table(table)


SEQUENCES = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]], [[7.0, 8.0]]]


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (lists(SEQUENCES, pa.float16()), np.float32),
        (lists(SEQUENCES, pa.float32()), np.float32),
        (pa.array(SEQUENCES, pa.list_(pa.list_(pa.float64(), 2))), np.float64),
        (pa.array(SEQUENCES, pa.list_(pa.list_(pa.float32()))), np.float32),
        (lists(SEQUENCES, pa.float64()).cast(pa.large_list(pa.list_(pa.int8(), 2))), np.float64),
        (lists([[[0.0, 0.0]], *SEQUENCES, [[9.0, 9.0]]], pa.float32())[1:4], np.float32),
        (
            pa.chunked_array(
                [lists(SEQUENCES[:1], pa.float64()), lists(SEQUENCES, pa.float64())[1:]]
            ),
            np.float64,
        ),
    ],
)
def test_files_that_others_wrote_are_read(column, dtype, compression, tmp_path):
    options = pa.ipc.IpcWriteOptions(compression=compression)
    write_table(tmp_path / "x.arrow", options, sequence=column, more=[1, 2, 3])
    X, ids, labels = read_arrow(tmp_path / "x.arrow")
    assert_same(X, TSEArray([np.array(x, dtype) for x in SEQUENCES]))
    assert ids is labels is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1]}, r"has no column 'sequence', only \['x'\]"),
        ({"sequence": [1.0, 2.0]}, "column 'sequence' is of type double, expected lists of lists"),
        ({"sequence": [[1.0], [2.0]]}, r"is of type list<.*double>, expected lists of lists"),
        ({"sequence": [[["a"]], [["b"]]]}, "is of type list<.*list<.*string>>, expected"),
        ({"sequence": [[[1.0]], [[2.0, 3.0]]]}, "sequence 1 has a frame of 2 features, but"),
        ({"sequence": lists([[[1, 2]], None], pa.float32())}, "sequence 1 is missing"),
        ({"sequence": lists([[[1, 2], None]], pa.float32())}, "sequence 0 has a frame that is mis"),
        ({"sequence": lists([[[1, 2]], []], pa.float32())}, r"sequence 1 would have 0 frame\(s\)"),
        (
            {"sequence": lists([[[1, 2]]], pa.float32()), "spans": [1.0]},
            "column 'spans' is of type double",
        ),
        (
            {
                "sequence": lists([[[1, 2]]], pa.float32()),
                "spans": lists([[[1, 2], [3, 4]]], pa.float64()),
            },
            "column 'spans' must have one span for each frame",
        ),
    ],
)
def test_other_tables_are_refused_and_named(columns, message, tmp_path):
    write_table(tmp_path / "x.arrow", **columns)
    with pytest.raises(ValueError, match=rf"x\.arrow.*{message}"):
        read_arrow(tmp_path / "x.arrow")


@pytest.mark.fault(96, 115)
@pytest.mark.parametrize("number", [pa.float32(), pa.int64()])
def test_numbers_that_a_file_lacks_become_nan(number, tmp_path):
    write_table(tmp_path / "x.arrow", sequence=lists([[[1, None]], [[3, 4], [None, 6]]], number))
    X, _, _ = read_arrow(tmp_path / "x.arrow")
    assert X.lengths.tolist() == [1, 2]
    np.testing.assert_array_equal(X.frames, [[1, np.nan], [3, 4], [np.nan, 6]])


def test_files_that_are_no_arrow_are_refused_and_named(tmp_path):
    write_arrow(make(), tmp_path / "whole.arrow")
    whole = (tmp_path / "whole.arrow").read_bytes()
    for content in (b"", b"text", whole[:-1], whole[: len(whole) // 2], whole[100:]):
        (tmp_path / "x.arrow").write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.arrow is not an Arrow IPC file, or is damaged"):
            read_arrow(tmp_path / "x.arrow")
    with pytest.raises(FileNotFoundError, match="none"):
        read_arrow(tmp_path / "none")


@pytest.mark.fault(79)
@pytest.mark.parametrize("name", ["sequence", "id", "label", "spans"])
def test_a_column_that_is_there_twice_is_refused_and_named(name, tmp_path):
    column = pa.array(lists(SEQUENCES, pa.float32()))
    table = pa.Table.from_arrays([column] * 3, names=["sequence", name, name])
    with pa.ipc.new_file(tmp_path / "x.arrow", table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match=rf"x\.arrow has [23] columns '{name}', expected one"):
        read_arrow(tmp_path / "x.arrow")


@pytest.mark.fault(79)
def test_a_file_that_grows_out_of_proportion_is_refused_before_it_grows(tmp_path):
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2**24 + 2**20, np.float32)), 1)
    column = pa.ListArray.from_arrays(pa.array([0, len(zeros)], pa.int32()), zeros)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    write_table(tmp_path / "x.arrow", options, sequence=column)
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)  # begins to measure
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(ValueError, match=r"x\.arrow .* claim to be 71303176 when decompressed"):
            read_arrow(tmp_path / "x.arrow")
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < 2**20
    write_table(tmp_path / "x.arrow", sequence=column)
    assert read_arrow(tmp_path / "x.arrow")[0].lengths.tolist() == [2**24 + 2**20]


def test_names_of_files_need_not_be_text(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/x\xff.arrow")
    write_arrow(make(), path)
    assert_same(read_arrow(path)[0], make())
    with pytest.raises(ValueError, match="is the name of a folder, expected that of a file"):
        write_arrow(make(), f"{tmp_path}/x/")


@pytest.mark.fault(79)
def test_an_arrow_file_whose_names_cannot_be_decoded_is_damaged(tmp_path):
    path = tmp_path / "x.arrow"
    write_arrow(make(), path, IDS)
    path.write_bytes(path.read_bytes().replace(b"sequence", b"\x80equence"))
    with pytest.raises(ValueError, match=r"x\.arrow is not an Arrow IPC file, or is damaged"):
        read_arrow(path)


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_an_arrow_file_with_a_wrong_byte_gives_sequences_or_a_value_error(
    place, value, tmp_path_factory
):
    path = tmp_path_factory.mktemp("wrong") / "x.arrow"
    write_arrow(make(), path, IDS)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = value
    path.write_bytes(content)
    try:
        X, _, _ = read_arrow(path)
    except ValueError as error:
        assert "x.arrow" in str(error)  # noqa: PT017
    else:
        assert X.frames.nbytes <= len(content)


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        (["a"], None, "ids has 1 items, but there are 3 sequences"),
        ("abc", None, "ids must be strings, one for each sequence"),
        ([1, 2, 3], None, "ids must be strings"),
        (None, [1, 2], "labels has 2 items, but there are 3 sequences"),
        (None, [1.5, 2, 3], "labels must all be strings or all be integers"),
        (None, [True, False, True], "labels must all be strings or all be integers"),
    ],
)
def test_ids_and_labels_of_other_numbers_or_kinds_are_refused(ids, labels, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_arrow(make(), tmp_path / "x.arrow", ids, labels)
    assert not os.listdir(tmp_path)


def test_a_file_stays_if_writing_another_in_its_place_fails(tmp_path):
    write_arrow(make(), tmp_path / "x.arrow")
    with (
        mock.patch("skdejavid.interchange.rows_to_arrow", side_effect=OSError("No space left")),
        pytest.raises(OSError, match="No space left"),
    ):
        write_arrow(make(np.float64), tmp_path / "x.arrow")
    assert_same(read_arrow(tmp_path / "x.arrow")[0], make())
    assert os.listdir(tmp_path) == ["x.arrow"]


def test_the_extra_that_brings_arrow_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for use in (lambda: write_arrow(make(), tmp_path / "x"), lambda: read_arrow(tmp_path / "x")):
        with pytest.raises(ImportError, match=r"needs pyarrow.*'skdejavid\[arrow\]'"):
            use()


def arrays(n_frames=3):
    return np.arange(2.0 * n_frames).reshape(n_frames, 2)


@pytest.fixture
def folder(tmp_path):
    """One file of each kind, and others."""
    source = tmp_path / "features"
    for name in ("run/deep", "walk"):
        (source / name).mkdir(parents=True)
    np.save(source / "run" / "b.npy", arrays(1))
    np.savez(source / "run" / "a.npz", arrays(2))
    np.savez_compressed(source / "walk" / "c.npz", features=arrays(3))
    torch.save(torch.from_numpy(arrays(4)).T.contiguous().T, source / "walk" / "d.pt")
    torch.save(torch.from_numpy(arrays(5)).half(), source / "walk" / "D.PTH")
    torch.save({"x": torch.from_numpy(arrays(6)).bfloat16()}, source / "run" / "deep" / "e.pt")
    save_file({"x": torch.from_numpy(arrays(7)).bfloat16()}, source / "walk" / "f.safetensors")
    (source / "readme.txt").write_text("not a sequence")
    (source / "walk" / "x.npy.part").write_bytes(b"")
    return source


NAMES = [
    "run/a.npz",
    "run/b.npy",
    "run/deep/e.pt",
    "walk/D.PTH",
    "walk/c.npz",
    "walk/d.pt",
    "walk/f.safetensors",
]
LENGTHS = [2, 1, 6, 5, 3, 4, 7]


def test_a_folder_of_arrays_becomes_a_store(folder, tmp_path):
    store = import_sequences(folder, tmp_path / "store", labels="folders")
    assert store.ids == NAMES
    assert store.is_complete
    assert store.labels.tolist() == [name.partition("/")[0] for name in NAMES]
    for x, n_frames in zip(store.sequences(), LENGTHS, strict=True):
        np.testing.assert_array_equal(x, arrays(n_frames))
    assert store.dtype == "float32"
    sizes = [(folder / name).stat().st_size for name in NAMES]
    assert [store.n_bytes(name) for name in NAMES] == sizes
    assert store.sequences().spans is None


def test_numbers_keep_the_precision_that_is_asked_for(tmp_path):
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features" / "a.npy", arrays() / 3)
    store = import_sequences(tmp_path / "features", tmp_path / "store", dtype="float64")
    np.testing.assert_array_equal(store.sequences().frames, arrays() / 3)


def test_labels_may_be_given(folder, tmp_path):
    labels = {name: i for i, name in enumerate(NAMES)}
    store = import_sequences(folder, tmp_path / "store", labels=labels | {"other": 7})
    assert store.labels.tolist() == list(range(7))
    assert import_sequences(folder, tmp_path / "plain").labels is None


def test_importing_goes_on_where_it_stopped(folder, tmp_path):
    broken = folder / "walk" / "c.npz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:50])
    with pytest.raises(ValueError, match=r"walk/c\.npz"):
        import_sequences(folder, tmp_path / "store")
    assert not TSEStore(tmp_path / "store").is_complete
    broken.write_bytes(whole)
    with mock.patch.object(interchange, "read_array", wraps=interchange.read_array) as read:
        store = import_sequences(folder, tmp_path / "store")
    assert [call.args[0].name for call in read.call_args_list] == ["c.npz", "d.pt", "f.safetensors"]
    whole = import_sequences(folder, tmp_path / "undisturbed")
    assert store.ids == whole.ids
    np.testing.assert_array_equal(store.sequences().frames, whole.sequences().frames)


def test_importing_again_reads_what_is_new(folder, tmp_path):
    import_sequences(folder, folder / "store")  # inside the folder, but not imported into itself
    np.save(folder / "new.npy", arrays())
    with mock.patch.object(interchange, "read_array", wraps=interchange.read_array) as read:
        store = import_sequences(folder, folder / "store")
    assert [call.args[0].name for call in read.call_args_list] == ["new.npy"]
    assert store.ids == [*NAMES, "new.npy"]


def test_a_file_that_was_changed_is_refused(folder, tmp_path):
    import_sequences(folder, tmp_path / "store")
    np.save(folder / "run" / "b.npy", arrays(9))
    with pytest.raises(ValueError, match=r"b\.npy has 272 bytes, but had 144 when it was imported"):
        import_sequences(folder, tmp_path / "store")


@pytest.mark.fault(131)
def test_another_array_of_the_same_shape_is_refused(folder, tmp_path):
    store = import_sequences(folder, tmp_path / "store")
    path = folder / "run" / "b.npy"
    values = np.load(path)
    np.save(path, values)  # the same once more
    assert import_sequences(folder, tmp_path / "store").ids == store.ids
    np.save(path, values + 1)
    with pytest.raises(ValueError, match=r"b\.npy has another content than when it was imported"):
        import_sequences(folder, tmp_path / "store")


def test_an_array_among_several_is_chosen_by_key(tmp_path):
    (tmp_path / "features").mkdir()
    several = {"x": arrays(2), "y": arrays(3)}
    np.savez(tmp_path / "features" / "a.npz", **several)
    torch.save(
        {name: torch.from_numpy(array) for name, array in several.items()},
        tmp_path / "features" / "b.pt",
    )
    save_numpy(several, tmp_path / "features" / "c.safetensors")
    store = import_sequences(tmp_path / "features", tmp_path / "store", key="y")
    assert store.sequences().lengths.tolist() == [3, 3, 3]
    with pytest.raises(ValueError, match=r"a\.npz contains several arrays, .* key: x, y"):
        import_sequences(tmp_path / "features", tmp_path / "other")
    with pytest.raises(ValueError, match=r"a\.npz contains no array 'z', only x, y"):
        import_sequences(tmp_path / "features", tmp_path / "another", key="z")
    message = "key is 'y' in the store, but 'x' was requested"
    with pytest.raises(ValueError, match=message):
        import_sequences(tmp_path / "features", tmp_path / "store", key="x")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def save_objects(path, victim):
    np.save(path, np.array([Evil(victim)], dtype=object))


def save_npz_of_objects(path, victim):
    with path.open("wb") as file:
        np.savez(file, x=np.array([Evil(victim)], dtype=object))


def save_pickle(path, victim):
    path.write_bytes(pickle.dumps(Evil(victim)))


def save_old_pickle(path, victim):
    path.write_bytes(pickle.dumps(Evil(victim), protocol=0))


def save_with_torch(path, victim):
    torch.save(Evil(victim), path)


def save_with_old_torch(path, victim):
    torch.save(Evil(victim), path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("save", "message"),
    [
        (save_objects, "cannot be read: its items are object, expected numbers"),
        (save_npz_of_objects, "cannot be read: its items are object, expected numbers"),
        (save_pickle, "is a pickle, or was written by torch"),
        (save_old_pickle, "is not a file of NumPy, torch or safetensors"),
        (save_with_torch, r"it refers to posix\.mkdir, and only|header too large"),  # by the suffix
        (save_with_old_torch, "is a pickle, or was written by torch"),
    ],
)
def test_nothing_is_unpickled_whatever_a_file_is_named(save, message, suffix, tmp_path):
    (tmp_path / "features").mkdir()
    path, victim = tmp_path / "features" / f"x{suffix}", tmp_path / "victim"
    save(tmp_path / "x.npy", str(victim))  # NumPy appends .npy to any other suffix
    (tmp_path / "x.npy").replace(path)
    with pytest.raises(ValueError, match=rf"x{suffix}.*{message}"):
        import_sequences(tmp_path / "features", tmp_path / "store")
    assert not victim.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones(3), r"x\.npy: 'x\.npy': values must be .* \(n_frames, n_features\)"),
        (np.ones((2, 3, 4)), r"values must be a non-empty numeric array .* of shape \(2, 3, 4\)"),
        (np.array([["a", "b"]]), "its items are <U1, expected numbers"),
        (np.array([[1.0, 1.0], [np.nan, 1.0]]), r"'x\.npy' contains NaN, .* first in frame 1"),
        (np.ones((2, 5)), r"x\.npy: 'x\.npy' has 5 features, but .* have 2"),
        (b"", "is not a file of NumPy, torch or safetensors"),
        (b"\x93NUMPY", r"x\.npy cannot be read"),
        (b"\x93NUMPY\x01\x00v\x00" + b"x" * 118, r"x\.npy cannot be read"),
        (b"PK\x03\x04", r"x\.npy is damaged"),
    ],
)
def test_files_that_hold_no_sequence_are_named(content, message, tmp_path):
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features" / "a.npy", arrays())
    path = tmp_path / "features" / "x.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(ValueError, match=message):
        import_sequences(tmp_path / "features", tmp_path / "store")


def test_an_array_that_says_to_be_huge_is_refused(tmp_path):
    (tmp_path / "features").mkdir()
    path = tmp_path / "features" / "x.npy"
    np.save(path, arrays())
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(3, 2), }" + b" " * 20, b"(3000000000000000000, 2), }  "))
    assert path.read_bytes() != content
    with pytest.raises(ValueError, match=r"x\.npy cannot be read"):
        import_sequences(tmp_path / "features", tmp_path / "store")


def test_folders_that_are_none_are_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder .*none does not exist"):
        import_sequences(tmp_path / "none", tmp_path / "store")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError,
        match=r"folder .*empty contains no file with suffix \.npy \.npz \.pt \.pth \.saf",
    ):
        import_sequences(tmp_path / "empty", tmp_path / "store")
    np.save(folder / "top.npy", arrays())
    for labels, message in [
        ("files", "labels must be 'folders' or a mapping of ids, got 'files'"),
        ("folders", r"top\.npy is not in one"),
        ({"top.npy": 1}, r"labels has no entry for 'run/a\.npz'"),
    ]:
        with pytest.raises(ValueError, match=message):
            import_sequences(folder, tmp_path / "store", labels=labels)
    assert not (tmp_path / "store").exists()
