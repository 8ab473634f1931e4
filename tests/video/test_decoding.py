import struct

import av
import numpy as np
import pytest
import torch
from odd_files import write
from videos import (
    CODECS,
    count_frames,
    iterate_frames,
    numbered,
    numbers_of,
    write_at,
    write_numbered,
)

from skdejavid import VideoDecodeError
from skdejavid.datasets import write_video
from skdejavid.video import decoding
from skdejavid.video.decoding import (
    ToRGB,
    crop_center,
    decode,
    read_clock,
    scaled_size,
)


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("n_frames", [1, 2, 100])
def test_frame_i_is_frame_i(kind, n_frames, tmp_path):
    path = write_numbered(tmp_path / "numbered", n_frames, kind)
    frames = list(iterate_frames(path))
    assert [numbers_of(frame) for frame in frames] == list(range(n_frames))
    assert count_frames(path) == n_frames
    assert frames[0].shape == (64, 64, 3)
    assert frames[0].dtype == np.uint8


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("n_frames", [1, 2, 100])
def test_packets_tell_the_times_of_the_frames(kind, n_frames, tmp_path):
    path = write_numbered(tmp_path / "numbered", n_frames, kind)
    clock = read_clock(path)
    np.testing.assert_allclose(clock.starts, np.arange(n_frames) / 25, atol=2e-3)
    assert clock.end == pytest.approx(n_frames / 25, abs=2e-3)
    assert clock.is_exact
    decoded = read_clock(path, by_decoding=True)
    np.testing.assert_allclose(decoded.starts, clock.starts, atol=1e-9)
    assert decoded.end == pytest.approx(clock.end)
    assert not decoded.is_exact


@pytest.mark.fault(66)
def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4"):
        list(iterate_frames(tmp_path / "nowhere.mp4"))


@pytest.mark.fault(67)
@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 100], ids=["empty", "text"])
def test_a_file_that_is_no_video_is_named(content, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoDecodeError, match=r"broken\.mp4"):
        list(iterate_frames(path))


@pytest.mark.fault(67)
@pytest.mark.parametrize(
    ("suffix", "codec", "cut"),
    [("mp4", "libx264", "index"), ("avi", "mpeg4", "half"), ("avi", "mjpeg", "half")],
)
def test_a_file_truncated_is_an_error_and_not_a_shorter_video(suffix, codec, cut, tmp_path):
    path = tmp_path / f"cut.{suffix}"
    write_video(path, numbered(100), codec=codec)
    content = path.read_bytes()
    path.write_bytes(content[: {"index": -2000, "half": len(content) // 2}[cut]])
    with pytest.raises(VideoDecodeError, match=rf"cut\.{suffix}"):
        count_frames(path)


@pytest.mark.fault(67)
def test_a_damaged_frame_is_an_error_and_not_a_gray_picture(tmp_path):
    path = tmp_path / "damaged.avi"
    write_video(path, numbered(100), codec="mpeg4")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(bytes(content))
    with pytest.raises(VideoDecodeError, match=r"damaged\.avi"):
        count_frames(path)


@pytest.mark.fault(69)
@pytest.mark.parametrize(
    ("name", "codec", "message"),
    [
        ("sound.m4a", "aac", r"sound\.m4a: no video stream"),
        (
            "sound.wav",
            "pcm_s16le",
            r"sound\.wav is of another format, expected a video in one file",
        ),
    ],
)
def test_sound_alone_is_no_video(name, codec, message, tmp_path):
    import av

    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), layout="mono", format="s16"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoDecodeError, match=message):
        count_frames(path)


def test_it_is_an_os_error():
    assert issubclass(VideoDecodeError, OSError)


@pytest.mark.fault(70)
@pytest.mark.parametrize(
    ("suffix", "codec"), [("avi", "mpeg4"), ("mp4", "libx264"), ("mkv", "libx264")]
)
def test_frames_at_irregular_times_are_all_there(suffix, codec, tmp_path):
    """Such an AVI file declares more frames than it has."""
    path = tmp_path / f"irregular.{suffix}"
    times = [0, 1, 2, 3, 10, 11, 12, 30, 31, 32]
    write_at(path, codec, times)
    assert [numbers_of(frame) for frame in iterate_frames(path)] == list(range(10))
    np.testing.assert_allclose(read_clock(path).starts, np.array(times) / 25, atol=2e-3)


def test_a_video_trimmed_without_encoding_it_anew_is_whole(tmp_path):
    """An edit list hides its first frames, but the container counts them."""
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
    numbers = [numbers_of(frame) for frame in iterate_frames(trimmed)]
    assert numbers == list(range(25, 100))
    np.testing.assert_allclose(read_clock(trimmed).starts, np.arange(75) / 25)


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


@pytest.mark.fault(70)
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


@pytest.mark.fault(70)
def test_a_file_whose_packets_have_no_time_is_timed_by_its_frames(tmp_path):
    path = tmp_path / "raw.h264"  # nothing but the codec's own bits
    write_video(path, numbered(30), options={"bf": "2"})
    clock = read_clock(path)
    assert len(clock.starts) == 30
    assert (np.diff(clock.starts) > 0).all()
    assert not clock.is_exact


def test_errors_tell_how_far_reading_came(tmp_path):
    path = tmp_path / "cut.avi"
    write_video(path, numbered(100), codec="mjpeg")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoDecodeError) as caught:
        count_frames(path)
    assert 40 <= caught.value.frame <= 60
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoDecodeError, match=r"text\.mp4"):
        read_clock(tmp_path / "text.mp4")


@pytest.mark.parametrize("n_threads", [0, 1, 2])
def test_frames_do_not_depend_on_threads(n_threads, tmp_path):
    path = write_numbered(tmp_path / "numbered", 40, "h264 with B-frames")
    frames = list(map(ToRGB(n_threads=n_threads), decode(path, n_threads=n_threads)))
    np.testing.assert_array_equal(frames, list(iterate_frames(path)))


@pytest.mark.parametrize("size", [(64, 64), (50, 96), (120, 66)])
def test_scaled_frames_look_like_frames_scaled_afterwards(size, rng, tmp_path):
    coarse = rng.integers(0, 256, size=(3, 4, 4, 3))
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(coarse).permute(0, 3, 1, 2).float(), size=size, mode="bicubic"
    )
    frames = smooth.clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    path = tmp_path / "smooth.mkv"
    write_video(path, frames, codec="ffv1")
    for frame in decode(path):
        scaled, whole = ToRGB(32)(frame), ToRGB()(frame)
        assert whole.shape == (*size, 3)
        assert scaled.shape == (*scaled_size(size, 32), 3)
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(whole.copy()).permute(2, 0, 1)[None].float(),
            size=scaled.shape[:2],
            mode="bilinear",
            antialias=True,
        )[0].permute(1, 2, 0)
        assert np.abs(scaled - expected.numpy()).mean() < 3


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (33, 57), (16, 300), (8, 8)])
@pytest.mark.parametrize("shorter_side", [8, 16, 64])
def test_the_shorter_side_gets_its_size(size, shorter_side):
    height, width = scaled_size(size, shorter_side)
    assert min(height, width) == shorter_side
    assert abs(width / height - size[1] / size[0]) <= 0.5 * max(size) / min(size) / shorter_side + (
        0.5 / shorter_side
    )


def test_the_center_is_cropped(rng):
    frame = rng.integers(0, 256, size=(9, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop_center(frame, 7), frame[1:8, 2:9])
    np.testing.assert_array_equal(crop_center(frame, 10), frame[:, 1:11])


@pytest.mark.fault(70)
@pytest.mark.parametrize(
    ("codec", "pixel_format", "size"),
    [
        ("libx264", "yuv420p10le", (64, 64)),  # 10 bits
        ("libx264", "yuv444p", (65, 67)),  # odd
        ("ffv1", "gray", (64, 64)),
        ("ffv1", "yuva420p", (64, 64)),  # transparent
        ("mjpeg", "yuvj422p", (64, 64)),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(codec, pixel_format, size, tmp_path):
    import av

    frames = np.zeros((3, *size, 3), np.uint8)
    frames[:, :, size[1] // 2 :] = 200
    path = tmp_path / "pixels.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = pixel_format
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    shown = list(iterate_frames(path))
    assert [frame.shape for frame in shown] == [(*size, 3)] * 3
    assert np.abs(np.stack(shown).astype(int) - frames).mean() < 6
    for frame in decode(path):
        half = ToRGB(32)(frame).astype(int)
        assert abs(half[:, :12].mean()) < 12
        assert abs(half[:, -12:].mean() - 200) < 12


@pytest.mark.slow
@pytest.mark.fault(79)
@pytest.mark.parametrize(
    ("codec", "pixels", "options"),
    [
        ("libx265", "yuv420p10le", {"preset": "ultrafast", "x265-params": "log-level=none"}),
        ("libx264", "yuv444p", {"preset": "ultrafast"}),
        ("libx264", "yuv420p10le", {"preset": "ultrafast"}),
    ],
)
def test_a_short_video_in_4k_is_read_whatever_its_colors(codec, pixels, options, tmp_path):
    """A static recording of a screen has few bytes, and is as usual as any."""
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 4096, 2304, pixels
        frame = av.VideoFrame.from_ndarray(np.full((2304, 4096, 3), 30, np.uint8), format="rgb24")
        for _ in range(3):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert path.stat().st_size < 100_000
    assert len(list(decode(path, max_pixels=2**26))) == 3


@pytest.mark.fault(123)
@pytest.mark.parametrize("rate", [12, 30, 50])
def test_frames_without_times_follow_those_before(rate, tmp_path):
    path = tmp_path / "a.mpg"
    write(path, "libx264", file_format="vob", rate=rate, options={"bf": "3"})
    with av.open(str(path)) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert 1 < times.count(None) < 20  # some have one
    clock = read_clock(path)
    np.testing.assert_allclose(clock.starts, np.arange(20) / rate, atol=1e-4)
    assert clock.end == pytest.approx(20 / rate, abs=1e-4)


NAN = float("nan")


@pytest.mark.fault(123)
@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([NAN] * 4, [0, 1, 2, 3]),
        ([0, NAN, NAN, 3], [0, 1, 2, 3]),
        ([NAN, NAN, 5, NAN], [3, 4, 5, 6]),
        ([0, NAN, NAN, 2, NAN, NAN, NAN, 7], range(8)),  # a guess, too early
        ([0, NAN, NAN, 4, NAN, 5], range(6)),  # a guess, too late
        ([0, NAN, NAN, 4, NAN, 4], [0, 1, 2, 4, 4, 4]),  # nothing fits: as told
        ([0, NAN, 50, NAN, NAN, 53], [0, 1, 50, 51, 52, 53]),  # a pause
        ([0, NAN, NAN, NAN, 2, 3, 4], [0, 0.5, 1, 1.5, 2, 3, 4]),  # faster for a while
    ],
)
def test_starts_that_are_not_told_are_between_those_that_are(times, expected, monkeypatch):
    frames = [(0.04 * time, 0.04) for time in times]
    monkeypatch.setattr(decoding, "_decoded_times", lambda *_: iter(frames))
    clock = read_clock("a.mpg", by_decoding=True)
    np.testing.assert_allclose(clock.starts, 0.04 * (np.array(expected) - expected[0]), atol=1e-9)


@pytest.mark.parametrize(("suffix", "codec"), [("h264", "libx264"), ("m2v", "mpeg2video")])
def test_bare_streams_have_the_rate_that_they_declare(suffix, codec, tmp_path):
    path = tmp_path / f"a.{suffix}"
    write(path, codec, rate=50, options={"bf": "2"})
    clock = read_clock(path)
    np.testing.assert_allclose(clock.starts, np.arange(20) / 50, atol=1e-9)
    assert clock.end == pytest.approx(20 / 50)
