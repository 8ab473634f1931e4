import os

import numpy as np
import pytest

from skdejavid import TSEStore
from skdejavid.files.identity import identify
from skdejavid.store import Failure
from skdejavid.video.sources import Source
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
        writer.append("array", np.ones((2, 2)))
        writer.fail("b", "broken", None, *identify(files[1]))
        writer.fail("bad array", "NaN")
    return TSEStore(store.path)


def missing(store, sources, check_content=False, retry_failures=False):
    options = {"check_content": check_content, "retry_failures": retry_failures}
    found = missing_from(store, sources, **options)
    with store.write() as writer:
        assert missing_from(writer, sources, **options) == found
    return [source.id for source in found]


@pytest.mark.fault(131)
def test_failures_are_tried_again_if_the_file_changes_or_if_asked_for(store, files):
    arrays = [Source(VIDEO, id, id, 0, None) for id in ("array", "bad array", "new array")]
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


def test_failures_are_those_of_the_store_and_those_that_may_pass(store, files):
    passing = [Failure("c", None, "not allowed", 5), Failure("b", None, "network", 5)]
    found = failures_of(store, [source_of(path) for path in files[::-1]], passing)
    assert [(failure.id, failure.cause) for failure in found] == [
        ("c", "not allowed"),
        ("b", "network"),
    ]
    assert failures_of(store, [source_of(files[1])], [])[0].cause == "broken"


def test_stores_of_other_settings_have_other_folders_if_asked_for(tmp_path):
    made_by = {"a": 1}
    pattern = str(tmp_path / "x-{fingerprint}")
    first = open_store(pattern, "float32", made_by, None)
    assert open_store(pattern, "float32", dict(made_by), None).path == first.path
    assert open_store(pattern, "float32", {"a": 2}, None).path != first.path
    assert (first.n_shards, first.fingerprint) == (1, made_by)
    with pytest.raises(ValueError, match=r"fingerprint\['a'\]"):
        open_store(first.path, "float32", {"a": 2}, None)
    shared = open_store(str(tmp_path / "shared"), "float32", made_by, 3)
    assert open_store(shared.path, "float32", made_by, None).n_shards == 3
