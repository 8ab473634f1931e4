import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid.files import identity
from skdejavid.files.identity import (
    FileIdentity,
    hash_of_array,
    identify,
    is_hash_of_array,
    is_same_file,
    status_of,
)

OLD, LATER = 10**18, 10**18 + 1  # nanoseconds since 1970


@pytest.fixture
def file(tmp_path):
    """A file that was written long ago."""
    path = tmp_path / "a.bin"
    write(path, b"content")
    return path


def write(path, content, modified_ns=OLD):
    path.write_bytes(content)
    os.utime(path, ns=(modified_ns, modified_ns))


def test_a_file_is_identified_by_size_time_and_content(file, tmp_path):
    found = identify(file)
    assert found[:2] == status_of(file)[:2] == (7, OLD)
    write(tmp_path / "copy", b"content", LATER)
    write(tmp_path / "other", b"Content")
    assert identify(tmp_path / "copy").content_hash == found.content_hash
    assert identify(tmp_path / "other").content_hash != found.content_hash
    assert status_of(file).content_hash is None
    for path in (tmp_path / "nowhere", "a\0b"):
        assert status_of(path) == FileIdentity()


@pytest.mark.fault(131)
def test_the_time_of_a_file_that_was_just_written_is_not_trusted(tmp_path):
    """It may be written to again within one tick of the clock of its file system."""
    path = tmp_path / "a"
    path.write_bytes(b"a")
    recorded = identify(path)
    assert recorded.modified_ns is None
    write(path, b"b", path.stat().st_mtime_ns)
    assert not is_same_file(path, recorded)


def test_reading_stops_when_it_is_told_to(file):
    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        identify(file, stop)


@pytest.mark.fault(131)
@pytest.mark.parametrize(
    ("content", "modified_ns", "is_same", "is_same_content"),
    [
        (b"content", OLD, True, True),
        (b"content", LATER, True, True),
        (b"Content", LATER, False, False),
        (b"Content", OLD, True, False),
        (b"contents", OLD, False, False),
    ],
)
def test_size_then_time_then_content_decide(content, modified_ns, is_same, is_same_content, file):
    recorded = identify(file)
    for _ in range(2):
        write(file, content, modified_ns)
        assert is_same_file(file, recorded) == is_same
        assert is_same_file(file, recorded, check_content=True) == is_same_content


def test_what_was_not_recorded_does_not_count(file):
    for recorded in (FileIdentity(), FileIdentity(7), FileIdentity(7, LATER)):
        assert is_same_file(file, recorded, check_content=True)
    assert not is_same_file(file, FileIdentity(8))
    file.unlink()
    assert is_same_file(file, FileIdentity(8, 1, "other"))


def test_a_copied_file_is_read_once_in_a_process(file, monkeypatch):
    recorded = identify(file)._replace(modified_ns=LATER)
    n_read = []
    monkeypatch.setattr(identity, "_TICK_NS", -(10**18))  # as if it had been written long ago
    monkeypatch.setattr(identity, "identify", lambda path: n_read.append(1) or identify(path))
    for _ in range(3):
        assert is_same_file(file, recorded)
    assert len(n_read) == 1
    write(file, b"Content")
    assert not is_same_file(file, recorded)


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_files_of_other_bytes_are_others(before, after):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        write(path, before)
        recorded = identify(path)
        write(path, after, LATER)
        assert is_same_file(path, recorded) == (before == after)


@pytest.mark.fault(131)
def test_arrays_are_told_apart_by_dtype_shape_and_numbers(rng):
    array = rng.integers(0, 256, size=(3, 4, 2), dtype=np.uint8)
    mirrored = np.ascontiguousarray(array[:, ::-1])[:, ::-1]
    assert len({hash_of_array(same) for same in (array, np.asfortranarray(array), mirrored)}) == 1
    others = [array + 1, array.view(np.int8), array.reshape(3, 2, 4), array[:, ::-1], array[:2]]
    assert len({hash_of_array(other) for other in (array, *others)}) == 6


@pytest.mark.fault(131)
def test_hashes_of_arrays_stay_those_of_existing_stores():
    frames = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
    assert hash_of_array(frames) == "array-6bd500cf16413020cafd6a23cd70c709"


@pytest.mark.fault(131)
def test_no_file_is_an_array(file):
    recorded = FileIdentity(7, OLD, hash_of_array(np.zeros(7, np.uint8)))
    assert is_hash_of_array(recorded.content_hash)
    for content_hash in (None, identify(file).content_hash):
        assert not is_hash_of_array(content_hash)
    assert not is_same_file(file, recorded)
    file.unlink()
    assert not is_same_file(file, recorded)


def test_reading_an_array_stops_when_it_is_told_to():
    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        hash_of_array(np.zeros((2, 2), np.uint8), stop)
