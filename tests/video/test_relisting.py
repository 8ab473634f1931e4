import numpy as np
import pytest

from skdejavid import TSEStore
from skdejavid.video.listing import Listing
from skdejavid.video.relisting import update_labels

CONTENTS = {"run/1": "x", "run/2": "y", "walk/3": "z", "walk/1": "x", "old/4": None}


@pytest.fixture
def store(tmp_path):
    """A store whose second sequence from the end comes from the same content as the first."""
    store = TSEStore.create(tmp_path / "store")
    with store.write() as writer:
        for id, content in CONTENTS.items():
            writer.append(id, np.ones((2, 2)), content_hash=content)
    return TSEStore(store.path)


def listing(*ids, labels=True):
    labels = [id.partition("/")[0] for id in ids] if labels else None
    return Listing(list(ids), list(ids), labels, [])


@pytest.mark.fault(136)
def test_a_list_that_is_the_same_says_nothing(store):
    ids = [id for id in CONTENTS if id != "walk/1"]
    assert "'walk/1'" in "".join(update_labels(store, listing(*ids)))  # is in the store
    assert list(store.labels_by_id) == ids
    with store.write() as writer:
        writer.append("run/5", np.ones((2, 2)), content_hash="5")
    store = TSEStore(store.path)
    notes = update_labels(store, listing(*ids, "run/5", "not read"))
    assert len(notes) == 1  # of what is in the store and not in the list
    assert store.labels_by_id == {id: id.partition("/")[0] for id in [*ids, "run/5"]}


@pytest.mark.fault(136)
def test_videos_that_are_gone_lose_their_labels_and_are_named(store):
    update_labels(store, listing(*CONTENTS))
    assert store.labels.tolist() == [id.partition("/")[0] for id in CONTENTS]
    notes = update_labels(store, listing("run/2", "walk/3", "walk/1"))
    assert notes == [
        "listed by another name, and fit uses only that: 1 video(s): 'run/1', now 'walk/1'",
        "no longer listed, and fit leaves them out: 1 video(s): 'old/4'",
    ]
    assert store.labels_by_id == {"run/2": "run", "walk/3": "walk", "walk/1": "walk"}
    with pytest.raises(ValueError, match=r"none for 'run/1'.*labels_by_id contains those"):
        _ = store.labels
    assert store.ids == list(CONTENTS)
    update_labels(store, listing(*CONTENTS))  # they are listed again
    assert list(store.labels_by_id) == list(CONTENTS)


@pytest.mark.fault(136)
def test_labels_that_changed_are_named(store):
    update_labels(store, listing(*CONTENTS))
    changed = listing(*CONTENTS)
    changed.labels[1] = "jog"
    notes = update_labels(store, changed)
    assert notes[0] == "label changed: 1 video(s): 'run/2' from 'run' to 'jog'"
    assert notes[1:] == ["the same content: 1 video(s): 'run/1' (run) = 'walk/1' (walk)"]
    assert store.labels_by_id["run/2"] == "jog"


@pytest.mark.fault(136)
def test_lists_can_be_added_to_each_other(store):
    update_labels(store, listing("run/1", "run/2"))
    assert update_labels(store, listing("walk/3", "not read"), add=True) == []
    assert store.labels_by_id == {"run/1": "run", "run/2": "run", "walk/3": "walk"}


@pytest.mark.fault(136)
def test_without_labels_only_those_of_videos_that_are_gone_change(store):
    notes = update_labels(store, listing("run/1", labels=False))
    assert "4 video(s)" not in notes[0]
    assert store.labels is None
    update_labels(store, listing(*CONTENTS))
    update_labels(store, listing("run/2", "walk/3", labels=False))
    assert store.labels_by_id == {"run/2": "run", "walk/3": "walk"}


def test_of_many_videos_the_first_are_named(tmp_path):
    store = TSEStore.create(tmp_path / "store")
    with store.write() as writer:
        for i in range(9):
            writer.append(f"{i}", np.ones((2, 2)))
    (note,) = update_labels(TSEStore(store.path), listing("8"))
    assert note.endswith("8 video(s): '0', '1', '2', '3', '4', and 3 more")
