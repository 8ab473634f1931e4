from fractions import Fraction

import pytest
from odd_files import FILES, QUIET, Writer, picture_frames, write, write_odd_file
from videos import count_frames

from skdejavid import VideoDecodeError

DECLARED = [
    *("mkv", "webm vp9", "webm vp8 hidden", "avi", "avi jpeg", "flv", "flv h264", "wmv", "ogv"),
    *("gif", "apng", "ivf", "mxf", "mp4", "mp4 fragments", "long sound", "long sound wmv", "mjpeg"),
]
UNDECLARED = ["ts", "m2ts", "mpg", "nut", "dv", "h264", "hevc", "m2v", "mkv live"]


@pytest.mark.fault(123)
@pytest.mark.parametrize("name", DECLARED)
@pytest.mark.parametrize("share", [0.35, 0.5, 0.7])
def test_a_file_that_says_where_it_ends_is_not_a_shorter_video(name, share, tmp_path):
    path = write_odd_file(name, tmp_path)
    assert count_frames(path) == 20
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(VideoDecodeError, match=path.name):
        count_frames(path)


@pytest.mark.fault(123)
@pytest.mark.parametrize("name", ["mkv", "webm vp9", "ogv", "gif"])
def test_the_message_says_that_the_end_is_missing(name, tmp_path):
    path = write_odd_file(name, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoDecodeError, match="truncated, the file ends inside of its frames"):
        count_frames(path)


@pytest.mark.fault(123)
def test_a_file_that_ends_between_two_frames_is_held_to_its_duration(tmp_path):
    path = tmp_path / "a.mkv"
    with Writer(path, options={"cluster_time_limit": "200"}) as writer:
        writer.video("mpeg4", picture_frames(30))
    content = path.read_bytes()
    start = content.rindex(b"\x1f\x43\xb6\x75")
    path.write_bytes(content[: content.rindex(b"\x1f\x43\xb6\x75", 0, start)])
    with pytest.raises(VideoDecodeError, match=r"truncated, 0\.\d\d s of 1\.20 s are missing"):
        count_frames(path)


@pytest.mark.fault(123)
@pytest.mark.parametrize("name", UNDECLARED)
def test_a_part_of_a_file_that_declares_nothing_is_a_shorter_video_or_an_error(name, tmp_path):
    path = write_odd_file(name, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    try:
        n_frames = count_frames(path)
    except VideoDecodeError as error:
        n_frames = error.frame
        is_truncated = "truncated" in str(error)
    else:
        is_truncated = False
    assert 0 < n_frames < 20
    assert not is_truncated


@pytest.mark.fault(123)
@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "libx264"), ("asf", "wmv2"), ("flv", "flv1")]
)
@pytest.mark.parametrize("seconds", [0.3, 3])
def test_sound_may_be_shorter_or_longer_than_the_frames(suffix, codec, seconds, tmp_path):
    path = tmp_path / f"a.{suffix}"
    with Writer(path) as writer:
        writer.video(codec, picture_frames(20))
        if suffix == "flv":
            flv_sound(writer, seconds)
        else:
            writer.sound(seconds)
    assert count_frames(path) == 20


def flv_sound(writer, seconds):
    """Encode sound of a kind that Flash video has."""
    import av
    import numpy as np

    stream = writer.container.add_stream("pcm_s16le", rate=44100, layout="mono")
    packets = []
    for number in range(int(seconds * 10)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 44100, number * 4410
        packets += stream.encode(frame)
    writer._later.append(packets)


@pytest.mark.fault(123)
@pytest.mark.parametrize("name", FILES)
def test_whole_files_raise_no_alarm(name, tmp_path):
    assert count_frames(write_odd_file(name, tmp_path)) > 0


def test_pauses_are_no_missing_frames(tmp_path):
    path = tmp_path / "a.mkv"
    write(path, "libx264", times=[0, 1, 500, 501], unit=Fraction(1, 25), frames=picture_frames(4))
    assert count_frames(path) == 4


def test_a_recording_without_a_duration_is_whole(tmp_path):
    path = tmp_path / "a.mkv"
    with Writer(path, options={"live": "1"}) as writer:
        writer.video("libx264", picture_frames(20), options=QUIET)
    assert count_frames(path) == 20


@pytest.mark.fault(123)
def test_an_avi_file_in_small_units_is_whole(tmp_path):
    path = tmp_path / "a.avi"
    times = {"times": range(0, 480, 24), "unit": Fraction(1, 600)}
    write(path, "libx264", options={"bf": "3"}, **times)
    assert count_frames(path) == 20
    content = path.read_bytes()
    path.write_bytes(content + bytes(range(256)) * 20)
    assert count_frames(path) == 20


@pytest.mark.fault(123)
def test_an_avi_file_that_was_written_to_a_pipe_is_whole(tmp_path):
    path = tmp_path / "a.avi"
    write(path, "mpeg4")
    content = bytearray(path.read_bytes())
    length = content.index(b"strh") + 8 + 32
    assert int.from_bytes(content[length : length + 4], "little") == 20
    content[length : length + 4] = (2**30).to_bytes(4, "little")
    path.write_bytes(content)
    assert count_frames(path) == 20
