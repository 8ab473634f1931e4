import io

import pytest
from odd_files import FILES, picture_frames, write, write_odd_file

from skdejavid.video import units
from skdejavid.video.units import is_cut

UNITS = ["mp4 fragments", "mkv", "avi", "wmv", "flv", "ogv", "ivf", "gif", "apng", "mjpeg"]


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The bytes of a file of each format that consists of units."""
    folder = tmp_path_factory.mktemp("units")
    return {name: write_odd_file(name, folder).read_bytes() for name in UNITS}


@pytest.mark.parametrize("name", FILES)
def test_whole_files_are_not_cut(name, tmp_path):
    path = write_odd_file(name, tmp_path)
    with path.open("rb") as file:
        assert not is_cut(file, path.stat().st_size)


@pytest.mark.fault(123)
@pytest.mark.parametrize("name", UNITS)
def test_a_file_that_ends_inside_of_its_frames_is_cut(name, contents):
    content = contents[name]
    # The first bytes of a unit do not say how large it is.
    n_unclear = 32
    for size in range(len(content) * 7 // 10, len(content) * 9 // 10, 101):
        ends = range(size, size + n_unclear)
        assert any(is_cut(io.BytesIO(content[:end]), end) for end in ends)


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("junk", [b"\0" * 40, b"\n"])
def test_what_is_appended_to_a_file_does_not_cut_it(name, junk, contents):
    content = contents[name] + junk
    if name != "ivf":  # whose frames have no mark of their beginning
        assert not is_cut(io.BytesIO(content), len(content))


@pytest.mark.parametrize("name", ["mp4", "mov jpeg", "mxf", "ts", "nut", "y4m", "dv", "h264"])
def test_a_file_without_units_or_with_an_index_at_its_end_is_left_to_ffmpeg(name, tmp_path):
    content = write_odd_file(name, tmp_path).read_bytes()
    assert not is_cut(io.BytesIO(content), len(content))


def test_a_recording_that_was_stopped_has_no_sizes(tmp_path):
    path = write_odd_file("mkv live", tmp_path)
    content = path.read_bytes()
    for size in range(len(content) // 2, len(content), 97):
        assert not is_cut(io.BytesIO(content[:size]), size)


def test_an_index_that_is_cut_is_no_frame(tmp_path):
    for suffix, codec in (("mkv", "libx264"), ("avi", "mpeg4")):
        path = tmp_path / f"a.{suffix}"
        write(path, codec, picture_frames(20))
        content = path.read_bytes()[:-10]
        assert not is_cut(io.BytesIO(content), len(content))


@pytest.mark.parametrize("name", UNITS)
def test_any_bytes_are_read(name, contents, rng):
    for _ in range(300):
        content = contents[name][: rng.integers(60)] + rng.bytes(rng.integers(400))
        assert is_cut(io.BytesIO(content), len(content)) in (True, False)


def test_a_file_of_countless_units_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr(units, "_MOST_UNITS", 10)
    pages = (b"OggS" + bytes(23)) * 11
    assert not is_cut(io.BytesIO(pages + b"OggS" + bytes(22) + b"\5"), 12 * 27)
    monkeypatch.setattr(units, "_MOST_UNITS", 12)
    assert is_cut(io.BytesIO(pages + b"OggS" + bytes(22) + b"\5"), 12 * 27)
    gif = b"GIF89a" + bytes(7) + b"\x21\xfe" + b"\1a" * 20
    monkeypatch.setattr(units, "_MOST_UNITS", 10)
    assert not is_cut(io.BytesIO(gif), len(gif))
    monkeypatch.setattr(units, "_MOST_UNITS", 30)
    assert is_cut(io.BytesIO(gif), len(gif))
