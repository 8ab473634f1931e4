import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from skdejavid import TSEStore
from skdejavid.store.renewal import renew_if_empty

BEFORE, NOW = {"layout": "BCTHW", "width": 0.2}, {"layout": "BCHW", "width": 8}


@pytest.fixture
def store(tmp_path):
    return TSEStore.create(tmp_path / "store", fingerprint=BEFORE)


def renewed(store, dtype="float32", n_shards=None, fingerprint=NOW):
    renew_if_empty(store._folder, dtype, fingerprint, n_shards)
    return TSEStore(store.path)


def fail_in_the_first_batch(store, shard=0):
    with pytest.raises(RuntimeError, match="layout"), store.write(shard):
        raise RuntimeError("layout")


def test_a_store_without_content_gets_other_settings(store):
    fail_in_the_first_batch(store)
    found = renewed(store, "float64")
    assert (found.fingerprint, found.dtype, found.n_shards) == (NOW, "float64", 1)
    with found.write() as writer:
        writer.append("a", np.ones((2, 3)))
    assert found.sequences().frames.dtype == "float64"


def test_other_settings_may_have_other_shards(tmp_path):
    store = TSEStore.create(tmp_path / "store", fingerprint=BEFORE, n_shards=3)
    with store.write(1):
        pass  # complete, without sequences
    assert renewed(store, fingerprint=BEFORE).n_shards == 3
    found = renewed(store, n_shards=2)
    assert found.n_shards == 2
    assert not any(files.is_complete for files in found._shards)
    assert renewed(store, fingerprint=BEFORE).n_shards == 1


def append(store):
    with store.write() as writer:
        writer.append("a", np.ones((2, 3)))


def fail(store):
    with store.write() as writer:
        writer.fail("a", "broken")


def commit_and_stop(store):
    with suppress(KeyboardInterrupt), store.write() as writer:
        writer.append("a", np.ones((2, 3)))
        writer.commit()
        raise KeyboardInterrupt


def stop_within_a_sequence(store):
    with suppress(KeyboardInterrupt), store.write() as writer:
        writer.write_partial("a", np.ones((2, 3)))
        writer.commit()
        raise KeyboardInterrupt


def set_labels(store):
    store.set_labels({"a": "walk"}, replace=True)


@pytest.mark.parametrize(
    "fill", [append, fail, commit_and_stop, stop_within_a_sequence, set_labels]
)
def test_what_was_stored_keeps_its_settings(fill, store):
    fill(store)
    before = {path.name: path.read_bytes() for path in store._folder.iterdir()}
    assert renewed(store).fingerprint == BEFORE
    assert {path.name: path.read_bytes() for path in store._folder.iterdir()} == before


def test_a_store_that_is_being_written_keeps_its_settings(store):
    with store.write() as writer:
        assert renewed(store).fingerprint == BEFORE
        writer.append("a", np.ones((2, 3)))
    assert TSEStore(store.path).ids == ["a"]
    assert renewed(store).fingerprint == BEFORE


def test_a_writer_of_the_settings_before_writes_nothing(store):
    """It may have waited for a lock while the settings changed."""
    late = store.write()
    append(renewed(store, "float64"))
    with pytest.raises(ValueError, match="store has other settings meanwhile: open it again"):
        late.__enter__()
    np.testing.assert_array_equal(TSEStore(store.path).sequences()[0], np.ones((2, 3)))


def test_many_may_renew_a_store_at_once(store):
    def write(shard):
        found = renewed(store, n_shards=4)
        with found.write(shard) as writer:
            writer.append(f"{shard}", np.full((2, 3), shard), position=shard)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = TSEStore(store.path)
    assert (found.ids, found.is_complete) == (["0", "1", "2", "3"], True)
    assert json.loads((found._folder / "manifest.json").read_text())["fingerprint"] == NOW
