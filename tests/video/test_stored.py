import errno
import os

import numpy as np
import pytest

from skdejavid import TSEStore
from skdejavid.files import identity
from skdejavid.files.identity import identify
from skdejavid.store import Failure
from skdejavid.video.sources import Source, as_sources
from skdejavid.video.stored import failures_of, missing_from, open_store

VIDEO = np.zeros((1, 2, 2, 3), np.uint8)


def source_of(path, position=0):
    return Source(str(path), path.name, f"X[{position}]", position, path.stat().st_size)


@pytest.fixture
def files(tmp_path):
    """Four files that were written long ago."""
    paths = [tmp_path / name for name in "abcd"]
    for path in paths:
        path.write_bytes(path.name.encode() * 5)
        os.utime(path, (10**9, 10**9))
    return paths


@pytest.fixture
def store(files, tmp_path):
    """A store of the first file and of an array, with failures of the second and of an array."""
    store = TSEStore.create(tmp_path / "store")
    with store.write() as writer:
        n_bytes, *more = identify(files[0])
        writer.append("a", np.ones((2, 2)), None, n_bytes, None, *more)
        (array,) = as_sources([VIDEO])
        content = array.hash_of_array()
        writer.append("array", np.ones((2, 2)), n_bytes=12, content_hash=content)
        writer.fail("b", "broken", None, *identify(files[1]))
        writer.fail("bad array", "NaN", None, 12, None, content)
    return TSEStore(store.path)


def missing(store, sources, check_content=False, retry_failures=False, may_leave_out=False):
    options = {
        "check_content": check_content,
        "retry_failures": retry_failures,
        "may_leave_out": may_leave_out,
    }
    found = missing_from(store, sources, **options)
    with store.write() as writer:
        assert missing_from(writer, sources, **options) == found
    ids = [source.id for source in found.sources]
    return (ids, found.unreadable) if may_leave_out else ids


def arrays_of(*ids, video=VIDEO):
    return [as_sources([video])[0]._replace(id=id) for id in ids]


@pytest.mark.fault(131)
def test_failures_are_tried_again_if_the_file_changes_or_if_asked_for(store, files):
    arrays = arrays_of("array", "bad array", "new array")
    sources = [*map(source_of, files), *arrays]
    new = ["c", "d", "new array"]
    assert missing(store, sources) == new
    assert missing(store, sources, check_content=True) == new
    assert missing(store, sources, retry_failures=True) == ["b", "c", "d", "bad array", "new array"]
    os.utime(files[1])
    assert missing(store, sources) == new
    files[1].write_bytes(b"BBBBB")
    assert missing(store, sources) == ["b", *new]
    files[1].write_bytes(b"longer")
    assert missing(store, list(map(source_of, files))) == ["b", "c", "d"]


@pytest.mark.fault(131)
def test_a_changed_file_of_a_sequence_is_an_error(store, files):
    files[0].write_bytes(b"AAAAA")
    with pytest.raises(ValueError, match=r"X\[0\] has another content than when it was encoded"):
        missing(store, [source_of(files[0])])
    os.utime(files[0], (10**9, 10**9))
    assert missing(store, [source_of(files[0])]) == []
    with pytest.raises(ValueError, match="another content"):
        missing(store, [source_of(files[0])], check_content=True)


@pytest.mark.fault(131)
def test_another_array_or_file_under_an_id_of_the_store_is_an_error(store, files):
    other = VIDEO + 1
    for sources in (
        arrays_of("array", video=other),
        arrays_of("a"),
        [source_of(files[2])._replace(id="array")],
    ):
        id = sources[0].id
        with pytest.raises(ValueError, match=rf"X\[0\].* another id for this video than '{id}'"):
            missing(store, sources)
    assert missing(store, arrays_of("bad array", video=other)) == ["bad array"]
    assert missing(store, [source_of(files[2])._replace(id="bad array")]) == ["bad array"]


@pytest.mark.fault(131)
def test_what_nothing_was_recorded_of_is_not_guessed(tmp_path, files):
    content_id = as_sources([VIDEO])[0].hash_of_array()
    store = TSEStore.create(tmp_path / "old")
    with store.write() as writer:
        for id in ("array", content_id):
            writer.append(id, np.ones((2, 2)))
        writer.fail("bad array", "NaN")
    store = TSEStore(store.path)
    assert missing(store, arrays_of(content_id, "bad array")) == ["bad array"]
    for source in (*arrays_of("array"), source_of(files[0])._replace(id="array")):
        with pytest.raises(ValueError, match="the store does not record what it was"):
            missing(store, [source])


@pytest.mark.fault(131)
def test_a_file_that_cannot_be_compared_is_an_error_or_left_out(store, files, monkeypatch):
    for path in files[:2]:
        os.utime(path)

    def fail(path):
        raise PermissionError(errno.EACCES, "not allowed", os.fspath(path))

    monkeypatch.setattr(identity, "open_regular_file", fail)
    sources = list(map(source_of, files))
    ids, unreadable = missing(store, sources, may_leave_out=True)
    assert ids == ["b", "c", "d"]  # reading b tells what is wrong with it
    assert [(failure.id, failure.n_bytes) for failure in unreadable] == [("a", 5)]
    assert "cannot be compared with the one that was encoded: [Errno 13]" in unreadable[0].cause
    with pytest.raises(PermissionError):
        missing(store, sources)
    assert missing(store, sources[1:]) == ["b", "c", "d"]


def test_failures_are_those_of_the_store_and_those_that_may_pass(store, files):
    passing = [Failure("c", None, "not allowed", 5), Failure("b", None, "network", 5)]
    found = failures_of(store, [source_of(path) for path in files[::-1]], passing)
    assert [(failure.id, failure.cause) for failure in found] == [
        ("c", "not allowed"),
        ("b", "network"),
    ]
    assert failures_of(store, [source_of(files[1])], [])[0].cause == "broken"


def append_one(store):
    with store.write() as writer:
        writer.append("a", np.ones((2, 2)))


def test_a_store_without_content_gets_the_settings_of_the_next_extraction(tmp_path):
    path = str(tmp_path / "store")
    processor = {"processor": {"class": "P", "size": [8, 8], "pixels": "a"}}
    for made_by in ({"a": 1} | processor, {"a": 1}, {"a": 2}):
        assert open_store(path, "float32", made_by, None).fingerprint == made_by
    assert open_store(path, "float16", {"a": 2}, 2).n_shards == 2
    append_one(open_store(path, "float16", {"a": 2}, 2))
    with pytest.raises(ValueError, match="n_shards is 2 in the store, but 1 was requested"):
        open_store(path, "float16", {"a": 2}, 1)


def test_stores_of_other_settings_have_other_folders_if_asked_for(tmp_path):
    made_by = {"a": 1}
    pattern = str(tmp_path / "x-{fingerprint}")
    first = open_store(pattern, "float32", made_by, None)
    assert open_store(pattern, "float32", dict(made_by), None).path == first.path
    assert open_store(pattern, "float32", {"a": 2}, None).path != first.path
    assert (first.n_shards, first.fingerprint) == (1, made_by)
    append_one(first)
    with pytest.raises(ValueError, match=r"settings: a is 1 in the store"):
        open_store(first.path, "float32", {"a": 2}, None)
    before, now = ({"class": "P", "size": [8, 8], "pixels": pixels} for pixels in "ab")
    scaled = open_store(str(tmp_path / "scaled"), "float32", made_by | {"processor": before}, None)
    append_one(scaled)
    with pytest.raises(ValueError, match=r"store .*scaled was made with other frames: .* machine"):
        open_store(scaled.path, "float32", made_by | {"processor": now}, None)
    with pytest.raises(ValueError, match=r"settings: a is 1.*; processor is"):
        open_store(scaled.path, "float32", {"a": 2, "processor": now}, None)
    shared = open_store(str(tmp_path / "shared"), "float32", made_by, 3)
    assert open_store(shared.path, "float32", made_by, None).n_shards == 3
