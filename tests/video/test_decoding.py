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
