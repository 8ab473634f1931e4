"""The public methods of a store; test_writer.py tests crashes."""

import json
import os
import re
import shutil
import threading
from operator import attrgetter
from pathlib import Path

import joblib
import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from traced_memory import traced_memory

from skdejavid import TSEArray, TSEStore
from skdejavid.files import atomic
from skdejavid.files.identity import FileIdentity
from skdejavid.store import manifest
from skdejavid.store import writer as writer_module
from skdejavid.store.shards import Failure


def frames(i):
    return np.random.default_rng(i).normal(size=(1 + i % 4, 3)).astype(np.float32)


def spans(i):
    begins = np.arange(len(frames(i))) + 100.0 * i
    return np.stack([begins, begins + 1], axis=1)


def fill(store, shard=0, numbers=range(5), *, positions=True):
    with store.write(shard) as writer:
        for i in numbers:
            writer.append(f"id {i}", frames(i), spans(i), 10 * i, i if positions else None)
    return TSEStore(store.path)


@pytest.fixture
def store(tmp_path):
    return fill(TSEStore.create(tmp_path / "store", fingerprint={"encoder": "x"}))


@pytest.fixture
def sharded(tmp_path):
    """Return a store of seven sequences, dealt to three shards in turn."""
    store = TSEStore.create(tmp_path / "sharded", n_shards=3)
    for shard in (2, 0, 1):
        store = fill(store, shard, range(shard, 7, 3))
    return store


def assert_holds(X, numbers):
    assert isinstance(X, TSEArray)
    assert len(X) == len(numbers)
    for k, i in enumerate(numbers):
        np.testing.assert_array_equal(X[k], frames(i))
        np.testing.assert_array_equal(X[k : k + 1].spans, spans(i))


def test_a_store_is_what_was_written(store):
    assert store.ids == [f"id {i}" for i in range(5)]
    assert (len(store), store.n_features, store.dtype, store.n_shards) == (5, 3, "float32", 1)
    assert store.is_complete
    assert store.fingerprint == {"encoder": "x"}
    assert store.failures == []
    assert store.labels is None
    assert "id 3" in store
    assert "id 5" not in store
    assert [store.n_bytes(id) for id in store.ids] == [0, 10, 20, 30, 40]
    assert repr(store) == (
        f"TSEStore({store.path!r}, n_sequences=5, n_features=3, dtype=float32, complete)"
    )
    store.verify()
    assert_holds(store.sequences(), range(5))


@pytest.fixture(scope="module")
def whole_and_halves(tmp_path_factory):
    stores = []
    for n_shards in (1, 2):
        store = TSEStore.create(tmp_path_factory.mktemp("ids") / "store", n_shards=n_shards)
        for shard in range(n_shards):
            fill(store, shard, range(shard, 5, n_shards))
        stores.append(store)
    return stores


@given(numbers=st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_sequences_come_in_the_order_of_the_ids(numbers, whole_and_halves):
    for store in whole_and_halves:
        assert_holds(store.sequences([f"id {i}" for i in numbers]), numbers)


def test_one_shard_is_read_as_a_memory_map(store):
    X = store.sequences()
    assert isinstance(X.frames, np.memmap)
    assert isinstance(X.spans, np.memmap)
    part = store.sequences(["id 4", "id 1"])
    assert isinstance(part.view().values, np.memmap)
    assert not X.frames.flags.writeable


@pytest.mark.slow
def test_workers_map_the_same_file(store):
    [name] = joblib.Parallel(n_jobs=2, max_nbytes=0)(
        [joblib.delayed(attrgetter("frames.filename"))(store.sequences())]
    )
    assert os.fspath(name) == os.path.join(store.path, "values-00000.npy")


@pytest.mark.parametrize(("dtype", "read_as"), [("float64", "float64"), ("float16", "float32")])
def test_the_type_on_disk_is_that_of_the_store(dtype, read_as, tmp_path):
    store = fill(TSEStore.create(tmp_path / "store", dtype=dtype))
    assert np.load(tmp_path / "store" / "values-00000.npy").dtype == dtype
    X = store.sequences()
    assert X.frame_dtype == read_as
    np.testing.assert_array_equal(X[3], frames(3).astype(dtype))
    np.testing.assert_array_equal(X[3:4].spans, spans(3))
    assert X.shape == (5,)


def test_several_shards_are_read_in_the_order_of_positions(sharded):
    assert sharded.ids == [f"id {i}" for i in range(7)]
    assert_holds(sharded.sequences(), range(7))
    sharded.verify()


def test_positions_may_have_gaps_and_be_the_same(tmp_path):
    """Some inputs fail, which leaves gaps; a list that is encoded later starts again from 0."""
    store = TSEStore.create(tmp_path / "store", n_shards=2)
    for shard, items in [(1, [("b", 1), ("d", 5), ("y", 1)]), (0, [("a", 0), ("c", 4), ("x", 0)])]:
        with store.write(shard) as writer:
            for id, position in items:
                writer.append(id, frames(1), position=position)
    assert TSEStore(store.path).ids == ["a", "x", "b", "y", "c", "d"]


def test_without_positions_shards_are_taken_in_turn(tmp_path):
    store = TSEStore.create(tmp_path / "store", n_shards=2)
    for shard in (0, 1):
        fill(store, shard, range(shard, 5, 2), positions=False)
    assert TSEStore(store.path).ids == [f"id {i}" for i in range(5)]


def test_a_sequence_in_two_shards_counts_once(tmp_path):
    """Two ranks that work at the same time may both write a sequence."""
    store = TSEStore.create(tmp_path / "store", n_shards=2)
    with store.write(0) as first, store.write(1) as second:
        for k, writer in enumerate((first, second)):
            writer.append("x", np.full((2, 3), k), position=1 - k)
            writer.append(f"own {k}", np.full((1, 3), 10 + k), position=2 + k)
    store = TSEStore(store.path)
    assert store.ids == ["x", "own 0", "own 1"]
    assert len(store) == 3
    np.testing.assert_array_equal(store.sequences().frames[:, 0], [1, 1, 10, 11])


@pytest.mark.parametrize(
    ("rows", "times", "message"),
    [
        (np.ones((2, 4)), np.ones((2, 2)), r"n_features differs among the shards of .*: \[3, 4\]"),
        (np.ones((2, 3)), None, r"has_spans differs among the shards of .*: \[True, False\]"),
    ],
)
def test_shards_that_do_not_fit_together_are_refused(rows, times, message, tmp_path):
    store = TSEStore.create(tmp_path / "store", n_shards=2)
    with store.write(0) as first, store.write(1) as second:
        first.append("x", frames(3), spans(3))
        second.append("y", rows, times)
    store = TSEStore(store.path)
    for read in (store.sequences, store.consolidate):
        with pytest.raises(ValueError, match=message):
            read()


def test_a_store_is_complete_when_all_shards_are(tmp_path):
    store = fill(TSEStore.create(tmp_path / "store", n_shards=2), 1, [1, 3])
    assert not store.is_complete
    assert repr(store).endswith("incomplete)")
    with pytest.raises(ValueError, match=r"the store .* is incomplete: .*allow_incomplete=True"):
        store.sequences()
    assert_holds(store.sequences(allow_incomplete=True), [1, 3])
    assert_holds(store.sequences(["id 3"]), [3])
    with pytest.raises(ValueError, match="is incomplete, its shards cannot be joined"):
        store.consolidate()
    store = fill(store, 0, [2])
    assert store.is_complete
    assert_holds(store.sequences(), [1, 2, 3])


@pytest.mark.fault(59)
def test_of_an_incomplete_store_what_was_committed_can_be_taken(store):
    writer = store.write()
    writer.__enter__()
    writer.append("id 9", frames(9), spans(9))
    writer.commit()
    writer.append("id 10", frames(10), spans(10))
    assert_holds(store.sequences(allow_incomplete=True), [0, 1, 2, 3, 4, 9])
    assert_holds(store.sequences(["id 9", "id 0"], allow_incomplete=True), [9, 0])
    assert len(TSEStore(store.path)) == 5
    assert_holds(store.sequences(store.ids), range(5))
    writer.__exit__(None, None, None)
    assert len(store) == 5
    assert_holds(TSEStore(store.path).sequences(), [0, 1, 2, 3, 4, 9, 10])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["id 1", "id 7"], r"ids\[1\]: the store .* has no sequence 'id 7'"),
        ([3], r"ids\[0\]: the store .* has no sequence 3"),
        ([], "has no sequences"),
    ],
)
def test_ids_that_are_not_there_are_named(ids, message, store):
    with pytest.raises(ValueError, match=message):
        store.sequences(ids)


def test_creating_again_opens_what_is_there(store):
    again = TSEStore.create(store.path, fingerprint={"encoder": "x"})
    assert again.ids == store.ids


def test_differences_begin_with_the_encoder_and_end_with_fingerprints(tmp_path):
    made_by = {"procedure": 2, "width": 0.2, "encoder": f"Net-{'0' * 16}", "stride": 0.1}
    TSEStore.create(tmp_path / "store", fingerprint=made_by)
    other = {**made_by, "encoder": f"Net-{'1' * 16}", "width": 0.5, "stride": 0.1}
    with pytest.raises(ValueError, match="different settings") as caught:
        TSEStore.create(tmp_path / "store", fingerprint=other)
    _, _, differences = str(caught.value).partition("different settings: ")
    assert differences.split(". ")[0] == (
        "encoder is a Net as in the store, but with other weights, attributes or code (its "
        f"fingerprint is 'Net-{'0' * 16}' in the store, and now 'Net-{'1' * 16}'); width is 0.2 in "
        "the store, but 0.5 was requested"
    )


def test_what_json_cannot_tell_apart_is_the_same(tmp_path):
    for widths in [(1, 2), [1, 2]]:
        store = TSEStore.create(tmp_path / "store", fingerprint={"widths": widths})
    assert store.fingerprint == {"widths": [1, 2]}


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        ({"dtype": "float64"}, ["dtype is 'float32' in the store, but 'float64' was requested"]),
        ({"n_shards": 2}, ["n_shards is 1 in the store, but 2 was requested"]),
        (
            {"fingerprint": {"encoder": "y", "dtype": None}, "n_shards": 2},
            [
                "different settings: encoder is 'x' in the store, but 'y' was requested",
                r"fingerprint\['dtype'\] is not set in the store, but None was requested",
                "n_shards is 1 in the store, but 2 was requested",
            ],
        ),
        (
            {"fingerprint": None},
            [r"encoder is 'x' .* but not set was requested"],
        ),
    ],
)
def test_a_store_that_was_made_otherwise_is_refused(settings, messages, store):
    with pytest.raises(ValueError, match="was created with different settings") as error:
        TSEStore.create(store.path, **({"fingerprint": {"encoder": "x"}} | settings))
    for message in messages:
        error.match(message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "int8"}, "dtype must be one of .*, got 'int8'"),
        ({"n_shards": 0}, "n_shards must be at least 1 and at most 10000, got 0"),
        ({"n_shards": 10**9}, "n_shards must be at least 1 and at most 10000, got 10"),
        ({"fingerprint": {"mean": np.nan}}, "not JSON compliant"),
    ],
)
def test_settings_of_no_store_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        TSEStore.create(tmp_path / "store", **settings)
    assert not (tmp_path / "store").exists()


def test_a_folder_of_other_things_is_no_place_for_a_store(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="is not a store, and not empty"):
        TSEStore.create(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"is not a store: .*manifest.json is missing"):
        TSEStore(tmp_path)


def test_many_may_create_a_store_at_once(tmp_path):
    """All get the same store, even if some already write to it."""
    path = tmp_path / "store"
    start = threading.Barrier(8)
    made = []

    def work(shard):
        start.wait()
        store = TSEStore.create(path, n_shards=8, fingerprint={"x": 1})
        with store.write(shard) as writer:
            writer.append(f"id {shard}", frames(3), position=shard)
        made.append(store)

    threads = [threading.Thread(target=work, args=(shard,)) for shard in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert TSEStore(path).ids == [f"id {shard}" for shard in range(8)]


def test_a_store_that_another_made_meanwhile_is_opened_or_refused(tmp_path, monkeypatch):
    real = manifest.write_once

    def late(path, content):
        real(path, json.dumps(json.loads(content) | {"dtype": "float16"}).encode())
        real(path, content)

    monkeypatch.setattr(manifest, "write_once", late)
    message = "dtype is 'float16' in the store, but 'float32' was requested"
    with pytest.raises(ValueError, match=message):
        TSEStore.create(tmp_path / "store")
    assert TSEStore.create(tmp_path / "store", dtype="float16").dtype == "float16"


@pytest.mark.fault(58)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "zarr"}, "is not the manifest of a store"),
        ({"version": 2}, "version is 2, but this package reads 1"),
        ({"dtype": "object"}, "dtype is 'object', expected one of"),
        ({"dtype": ["float32"]}, r"dtype is \['float32'\], expected one of"),
        ({"fingerprint": 7}, "fingerprint is 7, expected an object"),
        ({"shards": ["../../etc"]}, r"shards is \['\.\./\.\./etc'\], expected a list of at most"),
        ({"shards": [0, 0]}, r"shards is \[0, 0\], expected"),
        ({"shards": [True]}, r"shards is \[True\], expected"),
        ({"shards": []}, r"shards is \[\], expected"),
        ({"shards": [-1]}, r"shards is \[-1\], expected"),
        ({"shards": [10**12]}, r"shards is \[1000000000000\], expected .* from 0 to 99999"),
        (
            {"shards": list(range(10_001))},
            r"shards is \[0, 1, .*, expected a list of at most 10000",
        ),
    ],
)
def test_a_manifest_that_is_none_is_refused_and_named(change, message, store):
    manifest = os.path.join(store.path, "manifest.json")
    with open(manifest) as file:
        content = json.load(file)
    with open(manifest, "w") as file:
        json.dump(content | change, file)
    with pytest.raises(ValueError, match=rf"manifest.json.*{message}"):
        TSEStore(store.path)


@pytest.mark.fault(60)
@pytest.mark.parametrize("name", ["values-00000.npy", "spans-00000.npy"])
def test_a_file_that_shrank_is_not_mapped(name, store):
    """Reading a memory map beyond the end of its file would kill the process."""
    os.truncate(os.path.join(store.path, name), 150)
    with pytest.raises(ValueError, match=f"{name} is damaged: it has 150 bytes, expected"):
        TSEStore(store.path).sequences()


@pytest.mark.fault(58)
@pytest.mark.parametrize(
    "name", ["manifest.json", "values-00000.npy", "spans-00000.npy", "shard-00000.json"]
)
def test_links_out_of_a_store_are_not_followed(name, store, tmp_path):
    path = os.path.join(store.path, name)
    shutil.move(path, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(ValueError, match=f"{name} is a symbolic link"):
        TSEStore(store.path).sequences()


@pytest.mark.fault(60)
def test_damage_is_found_by_verifying(store):
    path = os.path.join(store.path, "values-00000.npy")
    with open(path, "r+b") as file:
        file.seek(140)
        file.write(b"\0")
    store.sequences()
    with pytest.raises(ValueError, match=r"values-00000.npy is damaged: the checksum of its rows"):
        store.verify()


def test_verifying_shows_how_much_of_the_files_is_read(store, capsys):
    store.verify()
    assert capsys.readouterr().err == ""
    store.verify(verbose=1)
    frames = store.sequences().frames
    n_bytes = frames.nbytes + 16 * len(frames)  # each row has a span
    shown = capsys.readouterr().err
    assert re.search(rf"reading: 100%.* {n_bytes}/{n_bytes} ", shown.replace(".00", "")), shown


@pytest.mark.parametrize(
    "labels",
    [["a", "b", "a", "c", "b"], [3, -1, 3, 2**40, 0], np.array([1, 2, 3, 4, 5], np.uint8)],
)
def test_labels_are_kept_as_given(labels, store):
    for given_labels in (labels, dict(zip(store.ids[::-1], labels[::-1], strict=True))):
        store.set_labels(given_labels)
        found = TSEStore(store.path).labels
        assert found.tolist() == list(labels)
        assert found.dtype.kind == np.asarray(labels).dtype.kind.replace("u", "i")


def test_labels_are_added_to_those_of_others(store):
    store.set_labels({"id 1": "b"})
    with pytest.raises(ValueError, match="has labels, but none for 'id 0'"):
        _ = store.labels
    store.set_labels({id: "a" for id in store.ids if id != "id 1"})
    assert store.labels.tolist() == ["a", "b", "a", "a", "a"]
    store.set_labels({"id 4": "c"})
    assert store.labels.tolist() == ["a", "b", "a", "a", "c"]


@pytest.mark.fault(87)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"id 9": "a"}, "labels: the store has no sequence 'id 9'"),
        (["a", "b"], "labels has 2 items, but the store has 5 sequences"),
        ({"id 0": 1.5}, r"the label of 'id 0' must be a string or an integer, got 1\.5"),
        ({"id 0": True}, "the label of 'id 0' must be a string or an integer, got True"),
        ({"id 0": None}, "must be a string or an integer, got None"),
        ({"id 0": 2**70}, "the label of 'id 0' is too large"),
        ({"id 0": 1, "id 1": "a"}, "labels must all be strings or all be integers"),
        ({"id 0": 7}, "labels must all be strings or all be integers"),
        (["a", "b", 1, 2, 3], "labels must all be strings or all be integers"),
        (["a", "b", "c\0", "c", "d"], r"the label of 'id 2' is 'c\\x00': NumPy cuts null char"),
        ({"id 0": "a\0"}, r"the label of 'id 0' is 'a\\x00': NumPy cuts null char"),
    ],
)
def test_labels_that_are_none_are_refused_and_change_nothing(labels, message, store):
    store.set_labels(list("abcde"))
    with pytest.raises(ValueError, match=message):
        store.set_labels(labels)
    assert store.labels.tolist() == list("abcde")


@pytest.mark.parametrize("content", ["[]", "{", '{"id 0": [1]}', '{"id 0": 1, "id 1": "a"}'])
def test_damaged_labels_are_named(content, store):
    with open(os.path.join(store.path, "labels.json"), "w") as file:
        file.write(content)
    with pytest.raises(ValueError, match=r"labels.json is damaged"):
        _ = store.labels


@pytest.mark.parametrize("shard", [-1, 1, 7])
def test_a_shard_that_is_not_there_cannot_be_written(shard, store):
    with pytest.raises(ValueError, match=f"shard must be from 0 to 0, got {shard}"):
        store.write(shard)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_joined_shards_hold_the_same(dtype, tmp_path):
    store = TSEStore.create(tmp_path / "store", n_shards=3, dtype=dtype)
    for shard in range(3):
        fill(store, shard, range(shard, 7, 3))
    with store.write(1) as writer:
        writer.fail("broken", "no stream", 2, 7)
    store = TSEStore(store.path)
    store.set_labels(list("abcdefg"))
    old = store.sequences()
    before = old.packed()
    store.consolidate()
    for joined in (store, TSEStore(store.path)):
        assert joined.n_shards == 1
        assert joined.is_complete
        assert joined.ids == [f"id {i}" for i in range(7)]
        assert [joined.n_bytes(id) for id in joined.ids] == [10 * i for i in range(7)]
        assert joined.labels.tolist() == list("abcdefg")
        assert [failure.id for failure in joined.failures] == ["broken"]
        np.testing.assert_array_equal(joined.sequences().frames, before.frames)
        np.testing.assert_array_equal(joined.sequences().spans, before.spans)
        joined.verify()
    assert isinstance(store.sequences().frames, np.memmap) == (dtype == "float32")
    assert {int(name[-9:-4]) for name in os.listdir(store.path) if name.endswith(".npy")} == {3}
    np.testing.assert_array_equal(np.load(f"{store.path}/offsets-00003.npy"), before.offsets)
    store.consolidate()
    assert fill(store, 0, [9]).ids == [*(f"id {i}" for i in range(7)), "id 9"]


def test_dying_while_joining_leaves_the_old_or_the_new(sharded, tmp_path, monkeypatch):
    before = sharded.sequences()
    copies = []

    def before_each(function):
        def step(*arguments, **keywords):
            target = tmp_path / "copies" / str(len(copies))
            shutil.copytree(sharded.path, target)
            copies.append(target)
            return function(*arguments, **keywords)

        return step

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace", "unlink"):
            patch.setattr(os, name, before_each(getattr(os, name)))
        TSEStore(sharded.path).consolidate()
    assert {TSEStore(copy).n_shards for copy in copies} == {1, 3}
    names = sorted(os.listdir(sharded.path))
    for copy in copies:
        store = TSEStore(copy)
        np.testing.assert_array_equal(store.sequences().frames, before.frames)
        store.consolidate()
        np.testing.assert_array_equal(TSEStore(copy).sequences().frames, before.frames)
        assert sorted(os.listdir(copy)) == names


@pytest.mark.fault(79)
def test_shards_with_the_largest_numbers_can_be_joined(store, tmp_path):
    path = tmp_path / "other"
    sharded = TSEStore.create(path, n_shards=2)
    for shard in range(2):
        fill(sharded, shard, range(shard, 7, 2))
    for name in os.listdir(path):
        if "-00001" in name:
            os.rename(path / name, path / name.replace("-00001", "-99999"))
    content = json.loads((path / "manifest.json").read_text()) | {"shards": [0, 99_999]}
    (path / "manifest.json").write_text(json.dumps(content))
    before = TSEStore(path).sequences()
    TSEStore(path).consolidate()
    joined = TSEStore(path)
    assert joined.n_shards == 1
    np.testing.assert_array_equal(joined.sequences().frames, before.frames)
    joined.verify()
    numbers = {name[-9:-4] for name in os.listdir(path) if name.endswith(".npy")}
    assert numbers == {"00001"}


@pytest.mark.fault(79)
@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda store: store.write("0"), "shard must be from 0 to 0, got '0'"),
        (lambda store: store.write(0.0), r"shard must be from 0 to 0, got 0\.0"),
        (lambda store: store.write(None), "shard must be from 0 to 0, got None"),
        (lambda store: store.write(True), "shard must be from 0 to 0, got True"),
        (lambda store: store.sequences(5), "ids must be a list of strings, got 5"),
        (lambda store: store.sequences("id 0"), "ids must be a list of strings, got 'id 0'"),
        (lambda store: store.sequences([[]]), r"ids\[0\]: the store .* has no sequence \[\]"),
        (lambda store: store.sequences(["id 0", 3]), r"ids\[1\]: the store .* has no sequence 3"),
        (lambda store: TSEStore.create(store.path, n_shards="1"), "n_shards must be .*, got '1'"),
        (lambda store: TSEStore.create(store.path, n_shards=1.5), r"n_shards must be .* 1\.5"),
        (lambda store: TSEStore.create(store.path, n_shards=True), "n_shards must be .* True"),
        (lambda store: TSEStore.create(store.path, fingerprint=3), "fingerprint must be a mapping"),
        (
            lambda store: TSEStore.create(store.path, fingerprint={"a": {1, 2}}),
            "fingerprint must contain only what JSON can store",
        ),
        (
            lambda store: TSEStore.create(store.path, fingerprint={"a": nested(100_000)}),
            "fingerprint must contain only what JSON can store: .*recursion",
        ),
    ],
)
def test_arguments_of_wrong_types_are_named(use, message, store):
    with pytest.raises(ValueError, match=message):
        use(store)
    assert store.write(np.int64(0)) is not None
    assert len(store.sequences(iter(["id 0"]))) == 1


def nested(n_levels):
    value = []
    for _ in range(n_levels):
        value = [value]
    return value


def test_who_waited_for_a_shard_that_was_joined_is_told(sharded):
    stale = TSEStore(sharded.path)
    waiting = stale.write(1)
    sharded.consolidate()
    with pytest.raises(
        ValueError, match=r"shards of .* were joined meanwhile: open the store again"
    ):
        waiting.__enter__()
    stale.consolidate()
    assert stale.n_shards == 1
    with stale.write() as writer:
        assert len(writer.ids) == 7


def test_joining_waits_for_writers(sharded):
    writer = sharded.write(2)
    writer.__enter__()
    writer.append("id 8", frames(8), spans(8), position=8)
    joining = threading.Thread(target=TSEStore(sharded.path).consolidate)
    joining.start()
    joining.join(0.2)
    assert joining.is_alive()
    writer.__exit__(None, None, None)
    joining.join()
    assert_holds(TSEStore(sharded.path).sequences(), [*range(7), 8])


def test_a_lock_that_is_a_link_is_refused(store, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    os.symlink(outside, os.path.join(store.path, "labels.lock"))
    with pytest.raises(ValueError, match=r"labels.lock is a symbolic link"):
        store.set_labels(list("abcde"))
    assert outside.read_bytes() == b"precious"


def test_labels_are_set_by_one_after_the_other(store):
    with FileLock(os.path.join(store.path, "labels.lock")):
        setting = threading.Thread(target=store.set_labels, args=(list("abcde"),))
        setting.start()
        setting.join(0.1)
        assert setting.is_alive()
        atomic.replace_file(
            store._folder / "labels.json", lambda file: file.write(b'{"gone": "x"}')
        )
    setting.join()
    assert store.labels.tolist() == list("abcde")
    with open(os.path.join(store.path, "labels.json")) as file:
        assert json.load(file)["gone"] == "x"


GOLDEN = Path(__file__).parents[1] / "golden"


def golden_values(n_frames, start):
    return ((np.arange(n_frames * 2).reshape(n_frames, 2) + start) / 4).astype(np.float32)


def golden_spans(n_frames):
    return np.arange(2.0 * n_frames).reshape(n_frames, 2)


def append_golden(writer):
    writer.append("a", golden_values(3, 0), golden_spans(3), n_bytes=11, position=0)


def fail_golden(writer):
    writer.fail("broken", "cannot be decoded", 4, 12)


def finish_golden(writer):
    writer.append("b", golden_values(2, 10), golden_spans(2), n_bytes=13, position=2)


def assert_is_golden(store):
    assert (store.ids, store.is_complete, store.n_bytes("b")) == (["a", "b"], True, 13)
    assert store.fingerprint == {"encoder": "golden", "fps": 2}
    assert store.failures == [Failure("broken", 4, "cannot be decoded", 12)]
    X = store.sequences()
    np.testing.assert_array_equal(X[0], golden_values(3, 0))
    np.testing.assert_array_equal(X[1], golden_values(2, 10))
    np.testing.assert_array_equal(X.spans, np.concatenate([golden_spans(3), golden_spans(2)]))
    store.verify()


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@pytest.fixture
def golden(tmp_path):
    """Return a copy of the stores that the first version wrote."""
    shutil.copytree(GOLDEN, tmp_path / "golden")
    return tmp_path / "golden"


def test_a_complete_store_of_the_first_version_opens_and_verifies(golden):
    store = TSEStore(golden / "store-0.1.0-complete")
    assert_is_golden(store)
    assert store.labels.tolist() == ["x", "y"]


def test_an_interrupted_store_of_the_first_version_resumes_with_its_partial_sequence(golden):
    store = TSEStore(golden / "store-0.1.0-interrupted")
    assert not store.is_complete
    assert store.sequences(allow_incomplete=True).lengths.tolist() == [3]
    with store.write() as writer:
        assert writer.ids == ["a"]
        assert [failure.id for failure in writer.failures] == ["broken"]
        id, rows = writer.partial
        assert id == "b"
        np.testing.assert_array_equal(
            rows, np.concatenate([golden_values(1, 10), golden_values(2, 12)]), strict=True
        )
        finish_golden(writer)
    assert_is_golden(TSEStore(store.path))


def test_a_store_is_written_with_the_bytes_of_the_first_version(tmp_path):
    fingerprint = {"encoder": "golden", "fps": 2}
    complete = TSEStore.create(tmp_path / "complete", fingerprint=fingerprint)
    with complete.write() as writer:
        append_golden(writer)
        fail_golden(writer)
        finish_golden(writer)
    complete.set_labels({"a": "x", "b": "y"})
    assert contents(complete.path) == contents(GOLDEN / "store-0.1.0-complete")


def test_a_journal_is_written_with_the_bytes_of_the_first_version(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "_SECONDS_BETWEEN_SYNCS", np.inf)
    fingerprint = {"encoder": "golden", "fps": 2}
    writer = TSEStore.create(tmp_path / "begun", fingerprint=fingerprint).write()
    writer.__enter__()
    append_golden(writer)
    writer.commit()
    fail_golden(writer)
    writer.write_partial("b", golden_values(1, 10))
    writer.commit()
    writer.write_partial("b", golden_values(2, 12))
    writer.commit()
    writer.append("not committed", golden_values(2, 50), np.zeros((2, 2)))
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert contents(tmp_path / "begun") == contents(GOLDEN / "store-0.1.0-interrupted")


@pytest.mark.fault(108)
@pytest.mark.parametrize("dtype", [">i4", ">u2", ">U3", np.int8])
def test_labels_of_any_byte_order_are_kept(dtype, store):
    labels = np.arange(5).astype(dtype)
    store.set_labels(labels)
    assert TSEStore(store.path).labels.tolist() == labels.tolist()
    store.set_labels(list(labels))
    assert TSEStore(store.path).labels.tolist() == labels.tolist()


USES = {
    "manifest.json": lambda path: TSEStore(path),
    "labels.json": lambda path: TSEStore(path).labels,
    "labels.lock": lambda path: TSEStore(path).set_labels({"id 0": "a"}),
    "shard-00000.json": lambda path: TSEStore(path).sequences(),
    "journal-00000.jsonl": lambda path: TSEStore(path).sequences(allow_incomplete=True),
    "shard-00000.lock": lambda path: TSEStore(path).consolidate(),
    "values-00000.npy": lambda path: TSEStore(path).sequences(),
    "spans-00000.npy": lambda path: TSEStore(path).sequences(),
    "offsets-00000.npy": lambda path: TSEStore(path).verify(),
}


@pytest.mark.fault(78)
@pytest.mark.parametrize("kind", ["a named pipe", "a folder", "a symbolic link"])
@pytest.mark.parametrize(("name", "use"), USES.items(), ids=USES)
def test_what_is_no_file_of_the_store_is_refused_at_once(name, use, kind, store):
    path = Path(store.path, name)
    path.unlink(missing_ok=True)
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=f"{name} is {kind}"):
        use(store.path)


@pytest.mark.fault(84)
def test_a_link_to_nothing_is_not_written_through(store, tmp_path):
    os.symlink(tmp_path / "outside", os.path.join(store.path, "labels.json"))
    for use in (lambda: store.set_labels({"id 0": "a"}), lambda: store.labels):
        with pytest.raises(ValueError, match=r"labels\.json is a symbolic link"):
            use()
    assert not (tmp_path / "outside").exists()


@pytest.mark.fault(79)
@pytest.mark.parametrize(
    "shards",
    ["[" + ",".join(map(str, range(300_000))) + "]", "[" + "[]," * 700_000 + "0]", "[99999]"],
)
def test_a_manifest_takes_memory_in_proportion_to_its_size(shards, store):
    path = Path(store.path, "manifest.json")
    content = path.read_text()
    small = json.dumps(json.loads(content) | {"shards": "X"}).replace('"X"', shards)
    path.write_text(small)
    with traced_memory() as traced:
        if len(shards) > 10:
            with pytest.raises(
                ValueError, match=r"manifest.json is damaged: it has more than 1048576"
            ):
                TSEStore(store.path)
        else:
            # Removes the files of all shards with smaller numbers.
            TSEStore(store.path).consolidate()
    assert traced.peak < 20 * len(small) + 2**24


@pytest.mark.fault(79)
def test_a_manifest_that_could_not_be_read_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="fingerprint is too large: the manifest of the store"):
        TSEStore.create(tmp_path / "store", fingerprint={"a": "x" * 2**20})
    assert not (tmp_path / "store").exists()
    TSEStore.create(tmp_path / "store", n_shards=10_000)
    assert TSEStore(tmp_path / "store").n_shards == 10_000


@pytest.mark.fault(80)
@pytest.mark.parametrize("name", ["dtype", "fingerprint", "shards", "format", "version"])
@pytest.mark.parametrize("depth", [300, 900, 980, 995, 10_000])
def test_a_manifest_that_is_nested_too_deeply_is_refused(name, depth, store):
    path = Path(store.path, "manifest.json")
    text = json.dumps(json.loads(path.read_text()) | {name: "X"})
    path.write_text(text.replace('"X"', "[" * depth + "]" * depth))
    with pytest.raises(ValueError, match=r"manifest\.json"):
        TSEStore(store.path)


@pytest.mark.fault(85)
def test_labels_on_a_full_disk_stay_as_they_were(store, monkeypatch):
    store.set_labels(list("abcde"))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left on device: .*labels\.json"):
            store.set_labels(list("vwxyz"))
    assert TSEStore(store.path).labels.tolist() == list("abcde")
    assert not [name for name in os.listdir(store.path) if name.endswith(".tmp")]


@pytest.mark.fault(131)
def test_what_identifies_files_survives_crashes_completion_and_joining(tmp_path):
    expected = {
        "a": FileIdentity(3, 10**18, "aa"),
        "b": FileIdentity(4, None, "bb"),
        "c": FileIdentity(5, -1, None),  # written before 1970
        "d": FileIdentity(6),
        "e": FileIdentity(),
    }
    failed = FileIdentity(5, 5, "old")
    store = TSEStore.create(tmp_path / "store", n_shards=2)
    writer = store.write(0)
    writer.__enter__()
    for id in "abd":
        n_bytes, modified_ns, content_hash = expected[id]
        writer.append(id, np.ones((2, 2)), None, n_bytes, None, modified_ns, content_hash)
    writer.fail("c", "broken", None, 5, -1)
    writer.fail("p", "an old failure", None, *failed)
    writer.fail("x", "may pass", None, 5, 5, "x", may_pass=True)
    writer.write_partial("p", np.ones((1, 2)), "pp")
    writer.commit()
    assert [failure.id for failure in writer.passing_failures] == ["x"]
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)  # as after a crash
    with store.write(0) as writer:
        assert {id: writer.file(id) for id in "abcd"} == {id: expected[id] for id in "abcd"}
        # A failure is that of the input it was recorded with, whatever is tried now.
        assert (writer.file("p"), writer.partial_content) == (failed, "pp")
        writer.append("p", np.ones((2, 2)), content_hash="new")
        assert [failure.id for failure in writer.failures] == ["c"]
    with store.write(1) as writer:
        writer.append("e", np.ones((2, 2)))
        assert writer.file("a") == expected["a"]  # of the other shard
    expected["p"] = FileIdentity(content_hash="new")
    store = TSEStore(store.path)
    assert {id: store.file(id) for id in expected} == expected
    store.consolidate()
    assert {id: store.file(id) for id in expected} == expected
    assert store.file("unknown") == FileIdentity()


@pytest.mark.fault(131)
def test_failures_are_those_of_all_shards_without_a_sequence_in_any(tmp_path):
    store = TSEStore.create(tmp_path / "store", n_shards=2)
    with store.write(1) as writer:
        for id in "abc":
            writer.fail(id, "broken", None, 3, None, id)
    with store.write(0) as writer:
        assert [failure.id for failure in writer.failures] == ["a", "b", "c"]
        assert writer.file("b") == FileIdentity(3, None, "b")
        writer.append("b", np.ones((2, 2)), None, 4, None, None, "new")
        writer.fail("c", "still broken", None, 3, None, "c")
        assert [failure.id for failure in writer.failures] == ["a", "c"]
        assert writer.file("b") == FileIdentity(4, None, "new")
    store = TSEStore(store.path)
    assert sorted(failure.id for failure in store.failures) == ["a", "c"]
    store.consolidate()
    assert sorted(failure.id for failure in store.failures) == ["a", "c"]
    assert store.file("b") == FileIdentity(4, None, "new")


@pytest.mark.fault(131)
@pytest.mark.parametrize(
    "files",
    [
        3,
        None,
        [["a"]],
        [["a", 1, 2, 3]],
        [["a", -1, 2, "x"]],
        [[7, 1, 2, "x"]],
        [["a", 1, "2", "x"]],
    ],
)
def test_damaged_identities_are_found(files, tmp_path):
    store = TSEStore.create(tmp_path / "store")
    with store.write() as writer:
        writer.append("a", np.ones((2, 2)))
    path = tmp_path / "store" / "shard-00000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": files}))
    with pytest.raises(ValueError, match=r"shard-00000\.json is damaged"):
        _ = TSEStore(store.path).ids
