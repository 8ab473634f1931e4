import itertools

import av
import numpy as np
import pytest
from odd_files import COVER, DEFAULT, LARGE, NONE, ONE_PICTURE, SMALL, Writer, write
from videos import count_frames, iterate_frames

from skdejavid import VideoDecodeError
from skdejavid.video.opening import open_video
from skdejavid.video.streams import best_stream, has_unclear_streams, single_pictures

KINDS = av.stream.Disposition


def write_streams(path, streams, *, sound=0):
    """Write streams, each (codec, frames, disposition)."""
    with Writer(path) as writer:
        if sound:
            writer.sound(sound)
        for codec, frames, disposition in streams:
            writer.video(codec, frames, disposition=disposition)


def is_film(path, frames):
    """Return whether these frames are shown."""
    shown = np.stack(list(iterate_frames(path)))
    return shown.shape == frames.shape and np.abs(shown.astype(int) - frames).mean() < 25


@pytest.mark.fault(121)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_picture_that_is_marked_is_never_the_film(suffix, order, tmp_path):
    path = tmp_path / f"a.{suffix}"
    streams = [("mjpeg", ONE_PICTURE, COVER), ("libx264", LARGE, DEFAULT)][::order]
    write_streams(path, streams)
    assert is_film(path, LARGE)


@pytest.mark.fault(121)
@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "libx264"), ("mov", "libx264"), ("asf", "wmv2")]
)
@pytest.mark.parametrize("sound", [0, 1])
@pytest.mark.parametrize("order", [1, -1])
def test_a_single_picture_is_not_the_film_even_by_default(suffix, codec, sound, order, tmp_path):
    path = tmp_path / f"a.{suffix}"
    streams = [("mjpeg", ONE_PICTURE, DEFAULT), (codec, LARGE, NONE)][::order]
    write_streams(path, streams, sound=sound)
    assert is_film(path, LARGE)


@pytest.mark.fault(121)
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_default_flag_decides_and_then_the_size(suffix, order, tmp_path):
    for film, flags in ((LARGE, (NONE, DEFAULT)), (SMALL, (DEFAULT, NONE))):
        path = tmp_path / f"flag{len(film)}.{suffix}"
        streams = [("libx264", SMALL, flags[0]), ("libx264", LARGE, flags[1])][::order]
        write_streams(path, streams)
        assert is_film(path, film)
    path = tmp_path / f"both.{suffix}"
    write_streams(path, [("libx264", SMALL, DEFAULT), ("libx264", LARGE, DEFAULT)][::order])
    assert is_film(path, LARGE)


@pytest.mark.fault(121)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_sound_with_a_cover_is_no_video(suffix, tmp_path):
    path = tmp_path / f"song.{suffix}"
    write_streams(path, [("mjpeg", ONE_PICTURE, COVER)], sound=1)
    with pytest.raises(VideoDecodeError, match=r"song\.\w+: contains only a cover picture"):
        count_frames(path)


@pytest.mark.fault(121)
def test_sound_with_a_picture_that_is_not_marked_is_no_video(tmp_path):
    path = tmp_path / "song.mkv"
    write_streams(path, [("mjpeg", ONE_PICTURE, DEFAULT)], sound=1)
    with pytest.raises(VideoDecodeError, match=r"song\.mkv: contains only a cover picture"):
        count_frames(path)


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "mjpeg"), ("gif", "gif"), ("mov", "png")])
def test_a_film_of_one_picture_is_one_if_it_is_all_there_is(suffix, codec, tmp_path):
    path = tmp_path / f"a.{suffix}"
    write(path, codec, ONE_PICTURE)
    assert count_frames(path) == 1


@pytest.mark.parametrize("suffix", ["mkv", "avi", "mov"])
def test_jpegs_with_sound_are_a_film(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    write_streams(path, [("mjpeg", LARGE, DEFAULT)], sound=1)
    assert is_film(path, LARGE)


def test_two_films_of_one_frame_are_no_pictures(tmp_path):
    path = tmp_path / "a.mkv"
    write_streams(path, [("libx264", SMALL[:1], DEFAULT), ("libx264", LARGE[:1], DEFAULT)])
    assert is_film(path, LARGE[:1])


class Stream:
    """A stand-in for a stream, for what PyAV does not write."""

    def __init__(self, index, size=(64, 48), mark=0, codec="h264", n_frames=9):
        self.index, self.disposition, self.frames = index, KINDS(mark), n_frames
        self.codec_context = None if codec is None else Codec(codec, *size)


class Codec:
    def __init__(self, name, width, height):
        self.name, self.width, self.height = name, width, height


class Container:
    def __init__(self, *streams):
        self.streams = Streams(streams)


class Streams(tuple):
    @property
    def video(self):
        return tuple(self)


@pytest.mark.fault(121)
@pytest.mark.parametrize("mark", [KINDS.attached_pic, KINDS.timed_thumbnails, KINDS.still_image])
def test_every_mark_of_a_picture_excludes_a_stream(mark):
    container = Container(Stream(0, (999, 999), mark | KINDS.default), Stream(1))
    assert best_stream(container).index == 1
    assert best_stream(Container(Stream(0, mark=mark))) is None


@pytest.mark.fault(121)
@pytest.mark.parametrize("mark", [KINDS.dependent, KINDS.visual_impaired, KINDS.hearing_impaired])
def test_streams_for_other_purposes_come_last(mark):
    streams = [Stream(0, (999, 999), mark | KINDS.default), Stream(1, (8, 8))]
    for order in itertools.permutations(streams):
        assert best_stream(Container(*order)).index == 1
    assert best_stream(Container(streams[0])).index == 0


@pytest.mark.fault(121)
def test_a_preview_does_not_replace_a_film_that_cannot_be_decoded():
    container = Container(Stream(0, (64, 48)), Stream(1, codec=None))
    assert best_stream(container).index == 1


def test_of_equal_streams_the_first_is_the_film():
    assert best_stream(Container(Stream(0), Stream(1))).index == 0
    assert best_stream(Container()) is None


def test_packets_are_read_only_if_a_stream_may_be_a_picture(tmp_path):
    ordinary, unclear = tmp_path / "a.mkv", tmp_path / "b.mkv"
    write(ordinary, "libx264")
    write_streams(unclear, [("mjpeg", ONE_PICTURE, NONE), ("libx264", LARGE, DEFAULT)])
    with av.open(str(ordinary)) as container:
        assert not has_unclear_streams(container)
        assert single_pictures(container) == frozenset()
    with av.open(str(unclear)) as container:
        assert has_unclear_streams(container)
        assert single_pictures(container) == {0}
    with open_video(unclear) as video:
        assert video.stream.index == 1
        assert sum(packet.size > 0 for packet in video.packets()) == 20
