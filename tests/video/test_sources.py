from pathlib import Path

import numpy as np
import pytest

from skdejavid.files.identity import FileIdentity, identify
from skdejavid.video.sources import (
    as_sources,
    as_video,
    check_has_clock,
    check_same_files,
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
    assert [source.n_bytes for source in sources] == [5, None, None]
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
    for ids in (["x", "y", "x"], ["x", "y", 3]):
        with pytest.raises(ValueError, match=r"ids\[2\] must be a string that no other video has"):
            with_ids(sources, ids)


def test_frames_of_a_video_are_taken_as_they_are(rng):
    frames = rng.integers(0, 256, size=(2, 4, 6, 3), dtype=np.uint8)
    assert as_video(frames, "frames") is frames
    np.testing.assert_array_equal(as_video(memoryview(frames), "frames"), frames)
    for wrong in (frames[0], frames[..., :2], frames[:0], frames.astype(np.int16), [[1, 2]]):
        with pytest.raises(ValueError, match=r"frames must be a uint8 array \(n_frames, height,"):
            as_video(wrong, "frames")


def test_a_file_of_another_size_is_another(sources):
    for n_bytes in ([5, 5, 7], [None, 7, None]):
        recorded = dict(zip([source.id for source in sources], n_bytes, strict=True))
        check_same_files(sources, lambda id, known=recorded: FileIdentity(known[id]))
    with pytest.raises(ValueError, match=r"X\[0\] \(.*a\.mp4\) has 5 bytes, but had 6"):
        check_same_files(sources, lambda id: FileIdentity(6))


@pytest.mark.fault(131)
def test_a_file_of_another_content_is_another(sources):
    recorded = {source.id: identify(source.video) for source in sources[:1]}
    check_same_files(sources[:1], recorded.get)
    with open(sources[0].video, "wb") as file:
        file.write(b"54321")
    with pytest.raises(ValueError, match=r"a\.mp4\) has another content than when it was encoded"):
        check_same_files([sources[0], sources[0]], recorded.get)
    with pytest.raises(ValueError, match=r"was changed\. 1 more were changed too\. Use another"):
        check_same_files([sources[0], sources[0]], recorded.get)


def test_arrays_have_no_clock(sources):
    check_has_clock(sources[::2])
    with pytest.raises(ValueError, match=r"X\[1\] \(an array\) has no timestamps"):
        check_has_clock(sources)
