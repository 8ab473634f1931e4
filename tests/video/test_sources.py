from pathlib import Path

import numpy as np
import pytest

from skdejavid.files.identity import FileIdentity, hash_of_array, identify
from skdejavid.video.sources import (
    as_sources,
    as_video,
    check_has_clock,
    is_same,
    other_video_error,
    with_content_ids,
    with_ids,
)


@pytest.fixture
def sources(tmp_path, rng):
    """A file, an array, and a file that does not exist."""
    (tmp_path / "a.mp4").write_bytes(b"12345")
    video = rng.integers(0, 256, size=(3, 4, 4, 3), dtype=np.uint8)
    return as_sources([tmp_path / "a.mp4", video, "nowhere.mp4"])


def test_videos_have_names_positions_and_sizes(sources):
    file, array, missing = sources
    assert Path(file.video).name == "a.mp4"
    assert file.id == file.video
    assert file.name == f"X[0] ({file.video})"
    assert array.name == "X[1] (an array)"
    assert [source.position for source in sources] == [0, 1, 2]
    assert [source.n_bytes for source in sources] == [5, 144, None]
    assert missing.id == "nowhere.mp4"


def test_arrays_are_identified_by_their_content(sources):
    array = sources[1].video
    changed = array.copy()
    changed[2, 3, 3, 2] += 1
    videos = [array, array.copy(), np.asfortranarray(array), changed, array.reshape(3, 2, 8, 3)]
    ids = [source.id for source in with_content_ids(as_sources(videos))]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids)) == 3
    assert with_content_ids(sources)[0] == sources[0]


@pytest.mark.fault(75)
def test_other_names_must_be_one_for_each(sources):
    assert [source.id for source in with_ids(sources, ["x", "y", "z"])] == ["x", "y", "z"]
    assert with_ids(sources, None) == with_content_ids(sources)
    with pytest.raises(ValueError, match="ids has 2 items, but X has 3"):
        with_ids(sources, ["x", "y"])
    with pytest.raises(
        ValueError, match=r"^ids must differ, but ids\[0\] and ids\[2\] are both 'x'"
    ):
        with_ids(sources, ["x", "y", "x"])
    message = r"^ids must be strings, .* but ids\[1\] is 3, of type int$"
    with pytest.raises(ValueError, match=message):
        with_ids(sources, ["x", 3, "y"])


def test_frames_of_a_video_are_taken_as_they_are(rng):
    frames = rng.integers(0, 256, size=(2, 4, 6, 3), dtype=np.uint8)
    assert as_video(frames, "frames") is frames
    np.testing.assert_array_equal(as_video(memoryview(frames), "frames"), frames)
    for wrong in (frames[0], frames[..., :2], frames[:0], frames.astype(np.int16), [[1, 2]]):
        with pytest.raises(ValueError, match=r"frames must be a uint8 array \(n_frames, height,"):
            as_video(wrong, "frames")


def test_a_file_of_another_size_is_another(sources):
    file, _, missing = sources
    assert is_same(file, FileIdentity(5))
    assert not is_same(file, FileIdentity(6))
    for recorded in (FileIdentity(), FileIdentity(6), FileIdentity(6, 1, "hash")):
        assert is_same(missing, recorded)
    error = other_video_error([file], lambda id: FileIdentity(6))
    assert str(error).startswith(f"{file.name} has 5 bytes, but had 6 when it was encoded: the fi")


@pytest.mark.fault(131)
def test_a_file_of_another_content_is_another(sources):
    file = sources[0]
    recorded = identify(file.video)
    assert is_same(file, recorded)
    with open(file.video, "wb") as opened:
        opened.write(b"54321")
    assert not is_same(file, recorded)
    assert str(other_video_error([file, file], lambda id: recorded)) == (
        f"{file.name} has another content than when it was encoded: the file was changed. 1 more "
        f"were changed too. Use another store, or another id for this video than {file.id!r}."
    )


RECORDED = {
    "file": FileIdentity(5, 1, "0123"),
    "nothing": FileIdentity(),
    "smaller": FileIdentity(6, None, "array-0"),
    "array": FileIdentity(144, None, "array-0"),
}


@pytest.mark.fault(131)
@pytest.mark.parametrize(
    ("source", "recorded", "message"),
    [
        (1, "array", "has another content than when it was encoded: the array is another."),
        (1, "smaller", "has 144 bytes, but had 6 when it was encoded: the array is another."),
        (1, "file", "is an array, but a file was encoded: it is another video."),
        (1, "nothing", "may be another video than was encoded: the store does not record what"),
        (0, "array", "is a file, but an array was encoded: it is another video."),
        (0, "nothing", "may be another video than was encoded: the store does not record what"),
        (2, "array", "is a file, but an array was encoded: it is another video."),
    ],
)
def test_another_video_than_was_recorded_is_described(source, recorded, message, sources):
    source = sources[source]._replace(id="an id")
    assert not is_same(source, RECORDED[recorded])
    error = str(other_video_error([source], lambda id: RECORDED[recorded]))
    assert error.startswith(f"{source.name} {message}")
    assert error.endswith("Use another store, or another id for this video than 'an id'.")


@pytest.mark.fault(131)
def test_an_array_is_the_same_if_its_content_is(sources):
    array = sources[1]
    (copy,) = with_content_ids(as_sources([array.video.copy(order="F")]))
    recorded = FileIdentity(array.n_bytes, None, array.hash_of_array())
    assert is_same(copy, recorded)
    assert is_same(copy._replace(id="a"), recorded)
    assert is_same(copy, FileIdentity())  # its id says what it is
    array.video[0, 0, 0, 0] += 1
    (changed,) = as_sources([array.video])
    assert not is_same(changed, recorded)


def test_an_array_is_read_once_for_all_that_its_hash_is_needed_for(rng, monkeypatch):
    n_read = []

    def count(array, proceed):
        n_read.append(1)
        return hash_of_array(array, proceed)

    monkeypatch.setattr("skdejavid.video.sources.hash_of_array", count)
    sources = as_sources([rng.integers(0, 256, size=(3, 4, 4, 3), dtype=np.uint8)])
    assert n_read == []
    (source,) = with_ids(sources, None)
    for _ in range(2):
        assert is_same(source, FileIdentity(144, None, source.id))
    assert n_read == [1]


def test_arrays_have_no_clock(sources):
    check_has_clock(sources[::2])
    with pytest.raises(ValueError, match=r"X\[1\] \(an array\) has no timestamps"):
        check_has_clock(sources)
