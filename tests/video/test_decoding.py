import struct
from fractions import Fraction

import numpy as np
import pytest

from skdejavid import VideoDecodeError
from skdejavid.datasets import write_video
from skdejavid.video.decoding import count_frames, iterate_frames


def numbered(n_frames, size=64):
    """Frames that carry their own number: eight black or white bars, lossless to any codec."""
    bits = (np.arange(n_frames)[:, None] >> np.arange(8)) & 1
    bars = np.repeat(bits * 255, size // 8, axis=1).astype(np.uint8)
    return np.broadcast_to(bars[:, None, :, None], (n_frames, size, size, 3)).copy()


def number_of(frame):
    bits = frame[:, 4::8].mean(axis=(0, 2)) > 127
    return int(bits @ (1 << np.arange(8)))


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mp4", "libx264", {"bf": "3"}),  # B-frames: decoded in another order than shown
        ("mkv", "libx264", {"g": "1000"}),
        ("avi", "mpeg4", {}),
        ("webm", "libvpx-vp9", {}),
        ("mkv", "mjpeg", {}),
    ],
)
@pytest.mark.parametrize("n_frames", [1, 2, 100])
def test_frame_i_is_frame_i(suffix, codec, options, n_frames, tmp_path):
    path = tmp_path / f"numbered.{suffix}"
    write_video(path, numbered(n_frames), codec=codec, options=options)
    frames = list(iterate_frames(path))
    assert [number_of(frame) for frame in frames] == list(range(n_frames))
    assert count_frames(path) == n_frames
    assert frames[0].shape == (64, 64, 3)
    assert frames[0].dtype == np.uint8


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4"):
        list(iterate_frames(tmp_path / "nowhere.mp4"))


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 100], ids=["empty", "text"])
def test_a_file_that_is_no_video_is_named(content, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoDecodeError, match=r"broken\.mp4"):
        list(iterate_frames(path))


@pytest.mark.parametrize(
    ("suffix", "codec", "cut"),
    [("mp4", "libx264", "index"), ("avi", "mpeg4", "half"), ("avi", "mjpeg", "half")],
)
def test_a_file_cut_short_is_an_error_and_not_a_shorter_video(suffix, codec, cut, tmp_path):
    path = tmp_path / f"cut.{suffix}"
    write_video(path, numbered(100), codec=codec)
    content = path.read_bytes()
    path.write_bytes(content[: {"index": -2000, "half": len(content) // 2}[cut]])
    with pytest.raises(VideoDecodeError, match=rf"cut\.{suffix}"):
        count_frames(path)


def test_a_damaged_frame_is_an_error_and_not_a_gray_picture(tmp_path):
    path = tmp_path / "damaged.avi"
    write_video(path, numbered(100), codec="mpeg4")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(bytes(content))
    with pytest.raises(VideoDecodeError, match=r"damaged\.avi"):
        count_frames(path)


def test_sound_alone_is_no_video(tmp_path):
    import av

    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoDecodeError, match=r"sound\.wav: no video stream"):
        count_frames(path)


def test_it_is_an_os_error():
    assert issubclass(VideoDecodeError, OSError)


def write_at(path, codec, times):
    """Numbered frames shown at the given times, in 1/25 s."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for frame, time in zip(numbered(len(times)), times, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("suffix", "codec"), [("avi", "mpeg4"), ("mp4", "libx264"), ("mkv", "libx264")]
)
def test_frames_at_irregular_times_are_all_there(suffix, codec, tmp_path):
    """An AVI then declares more frames than it has."""
    path = tmp_path / f"irregular.{suffix}"
    write_at(path, codec, [0, 1, 2, 3, 10, 11, 12, 30, 31, 32])
    assert [number_of(frame) for frame in iterate_frames(path)] == list(range(10))


def test_a_video_trimmed_without_encoding_it_anew_is_whole(tmp_path):
    """Its first frames are only hidden, by an edit list, and its container counts them."""
    import av

    write_video(tmp_path / "full.mp4", numbered(100), options={"g": "50", "bf": "0"})
    full, trimmed = str(tmp_path / "full.mp4"), str(tmp_path / "trimmed.mp4")
    with av.open(full) as source, av.open(trimmed, "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.pts -= int(1 / stream.time_base)  # 25 frames
                packet.dts -= int(1 / stream.time_base)
                packet.stream = copy
                target.mux(packet)
    numbers = [number_of(frame) for frame in iterate_frames(trimmed)]
    assert numbers == list(range(25, 100))


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "mpeg4"), ("mp4", "libx264")])
def test_metadata_in_another_encoding_does_no_harm(suffix, codec, tmp_path):
    import av

    path = tmp_path / f"titled.{suffix}"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "QcafeQ"
        stream = container.add_stream(codec, rate=25)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        for frame in numbered(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    assert b"QcafeQ" in content
    path.write_bytes(content.replace(b"QcafeQ", b"Qcaf\xe9Q"))
    assert count_frames(path) == 3


@pytest.mark.parametrize(
    ("matrix", "quarter_turns"),
    [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1), ((1, 0, 0, 1), 0)],
)
def test_the_rotation_that_a_file_asks_for_is_applied(matrix, quarter_turns, tmp_path):
    frames = np.zeros((2, 32, 48, 3), np.uint8)
    frames[:, :16, :16] = 255  # top left
    path = tmp_path / "turned.mp4"
    write_video(path, frames)
    content = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    place = content.find(b"tkhd") + 4 + 40  # the matrix of the track header
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(content))
    shown = next(iterate_frames(path))
    expected = np.rot90(frames[0], quarter_turns)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 8
