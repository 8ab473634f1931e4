import io
import struct
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_files import (
    CROPPED,
    MATRICES,
    QUIET,
    matrix_of,
    picture_frames,
    with_clap,
    with_pixel_crop,
    write,
    write_odd_file,
)
from videos import iterate_frames

from skdejavid.video.cropping import Cropper, Cropping, read_cropping
from skdejavid.video.decoding import ToRGB, decode, read_clock

LOSSLESS = {"pixels": "yuv444p", "options": {"qp": "0", "bf": "2"}}


def frames_of(path):
    return np.stack(list(iterate_frames(path)))


def cropping_of(path, content):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return read_cropping(io.BytesIO(content), len(content), stream, 0)


@pytest.fixture(scope="module")
def mp4(tmp_path_factory):
    path = tmp_path_factory.mktemp("mp4") / "a.mp4"
    write(path, "libx264", picture_frames(5), **LOSSLESS)
    return path


@pytest.fixture(scope="module")
def mkv(tmp_path_factory):
    path = tmp_path_factory.mktemp("mkv") / "a.mkv"
    write(path, "libx264", picture_frames(5), **LOSSLESS)
    return path


@pytest.mark.fault(122)
@pytest.mark.parametrize("codec", ["x264", "x265"])
def test_columns_that_a_stream_hides_are_not_shown(codec, tmp_path):
    shown, whole = frames_of(write_odd_file(f"{codec} crop", tmp_path)), tmp_path / "whole.ts"
    write(whole, f"lib{codec}", options=QUIET)
    rows, columns = CROPPED
    expected = frames_of(whole)[:, rows, columns]
    assert shown.shape == expected.shape == (20, 32, 40, 3)
    # Colors at the border are interpolated differently.
    np.testing.assert_array_equal(shown[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2])


@pytest.mark.fault(122)
def test_the_part_that_an_mp4_file_shows_is_shown(mp4, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(with_clap(mp4.read_bytes(), 40, 30, 4, -3))
    np.testing.assert_array_equal(frames_of(path), frames_of(mp4)[:, 6:36, 16:56])
    assert len(read_clock(path).starts) == 5


@pytest.mark.fault(122)
def test_the_part_that_a_matroska_file_shows_is_shown(mkv, tmp_path):
    path = tmp_path / "a.mkv"
    path.write_bytes(with_pixel_crop(mkv.read_bytes(), 16, 6, 8, 12))
    np.testing.assert_array_equal(frames_of(path), frames_of(mkv)[:, 6:36, 16:56])


@pytest.mark.fault(122)
def test_frames_are_cropped_before_they_are_stretched_and_turned(tmp_path):
    path = tmp_path / "a.mp4"
    turned = matrix_of(*MATRICES["quarter turn"])
    write(path, "libx264", picture_frames(3), aspect=Fraction(2), matrix=turned, **LOSSLESS)
    whole = frames_of(path)
    assert whole.shape == (3, 128, 48, 3)
    path.write_bytes(with_clap(path.read_bytes(), 32, 48, -16, 0))
    shown = frames_of(path)
    assert shown.shape == (3, 64, 48, 3)
    # Stored columns 0 to 31 are the upper half of what is shown; borders are scaled differently.
    np.testing.assert_array_equal(shown[:, 2:-4], whole[:, 2:60])


@pytest.mark.fault(122)
def test_a_cropped_file_is_scaled_as_its_part_would_be(mp4, tmp_path):
    path, part = tmp_path / "a.mp4", tmp_path / "part.mp4"
    path.write_bytes(with_clap(mp4.read_bytes(), 40, 30, 4, -3))
    write(part, "libx264", picture_frames(5)[:, 6:36, 16:56], **LOSSLESS)
    scaled, expected = (np.stack(list(map(ToRGB(20), decode(of_file)))) for of_file in (path, part))
    assert scaled.shape == expected.shape == (5, 20, 27, 3)
    assert np.abs(scaled.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (40, 30, Cropping(12, 9, 12, 9)),
        (41, 29, Cropping(11, 9, 12, 10)),
        (64, 48, None),
        (66, 30, None),
    ],
)
def test_half_pixels_are_cut_off(width, height, expected, mp4):
    """As by the ffmpeg command, whose centers of odd parts are between two pixels."""
    assert cropping_of(mp4, with_clap(mp4.read_bytes(), width, height, 0, 0)) == expected


@pytest.mark.fault(122)
def test_many_small_units_are_not_all_looked_at(mkv, mp4):
    video = with_pixel_crop(mkv.read_bytes(), 16, 6, 8, 12)
    start = video.index(b"\xb0\x81\x40")
    junk = bytes([0xEC, 0x80]) * 2_000_000
    size = (len(junk) + video[start - 1] - 0x80 + (1 << 56)).to_bytes(8, "big")
    content = video[: start - 1] + size + junk + video[start:]
    began = time.process_time()
    cropping_of(mkv, content)
    small = box_of(b"free") * 2_000_000
    cropping_of(mp4, box_of(b"moov", small))
    assert time.process_time() - began < 2  # all of them take over five seconds


def box_of(kind, content=b""):
    return struct.pack(">I4s", 8 + len(content), kind) + content


def test_a_file_that_hides_all_of_a_frame_is_refused():
    frame = av.VideoFrame.from_ndarray(picture_frames(1)[0], format="rgb24")
    message = r"60 \+ 4 columns and 0 \+ 0 rows are not shown of frames with 64 x 48 pixels"
    with pytest.raises(ValueError, match=message):
        Cropper(Cropping(60, 0, 4, 0))(frame)


def test_frames_that_change_their_size_are_cropped_each():
    crop = Cropper(Cropping(3, 2, 1, 0))
    for height, width in ((48, 64), (20, 30), (48, 64)):
        pixels = picture_frames(1, height, width)[0]
        cropped = crop(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
        np.testing.assert_array_equal(cropped.to_ndarray(), pixels[2:, 3:-1])


def test_most_files_are_shown_as_they_are(mp4, mkv):
    for path in (mp4, mkv):
        assert cropping_of(path, path.read_bytes()) is None


@pytest.mark.slow
@given(numbers=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=8, max_size=8))
def test_the_part_of_an_mp4_file_is_inside_of_its_frames(numbers, mp4):
    content = with_clap(mp4.read_bytes(), 40, 30, 4, -3)
    at = content.index(b"clap") + 4
    content = content[:at] + struct.pack(">8i", *numbers) + content[at + 32 :]
    left, top, right, bottom = cropping_of(mp4, content) or Cropping(0, 0, 0, 0)
    assert min(left, top, right, bottom) >= 0
    assert left + right < 64
    assert top + bottom < 48


@pytest.mark.parametrize("n_bytes", range(0, 2000, 37))
def test_what_is_cut_crops_nothing_or_the_same(n_bytes, mp4, mkv):
    whole = {
        mp4: with_clap(mp4.read_bytes(), 40, 30, 4, -3),
        mkv: with_pixel_crop(mkv.read_bytes(), 16, 6, 8, 12),
    }
    for path, content in whole.items():
        assert cropping_of(path, content) == Cropping(16, 6, 8, 12)
        assert cropping_of(path, content[:n_bytes]) in (None, Cropping(16, 6, 8, 12))
