import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from clips_of import read_clips
from hypothesis import given
from hypothesis import strategies as st
from odd_files import FAST, MATRICES, ONE, ONE_GROUP, Writer, matrix_of, picture_frames, write
from videos import count_frames, iterate_frames

from skdejavid.video.clips import ClipSpec
from skdejavid.video.decoding import ToRGB, decode
from skdejavid.video.display import Display
from skdejavid.video.opening import RefusedVideoError


@given(
    height=st.integers(1, 2000),
    width=st.integers(1, 2000),
    aspect=st.fractions(Fraction(1, 16), 16, max_denominator=100),
)
def test_one_side_grows_and_none_shrinks(height, width, aspect):
    shown_height, shown_width = Display(aspect).stretched(height, width)
    assert shown_height >= height
    assert shown_width >= width
    assert height == shown_height or width == shown_width
    shown = Fraction(shown_width, shown_height)
    assert shown * height / width == pytest.approx(float(aspect), rel=1 / min(height, width))
    turned = Display(aspect, is_transposed=True).shown(height, width)
    assert turned == (shown_width, shown_height)


def test_square_pixels_keep_frames_as_they_are():
    pixels = picture_frames(1)[0]
    assert Display().shown(48, 64) == (48, 64)
    assert Display().orient(pixels) is pixels


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("is_upside_down", [False, True])
def test_oriented_pixels_are_contiguous(is_transposed, is_mirrored, is_upside_down):
    display = Display(Fraction(1), is_transposed, is_mirrored, is_upside_down)
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    shown = display.orient(pixels)
    assert shown.flags.c_contiguous  # torch has no negative strides
    expected = pixels.transpose(1, 0, 2) if is_transposed else pixels
    expected = np.fliplr(expected) if is_mirrored else expected
    np.testing.assert_array_equal(shown, np.flipud(expected) if is_upside_down else expected)


@pytest.mark.fault(122)
@pytest.mark.parametrize("scale", [0.5, 2, 0.9999, 1.0001])
def test_a_matrix_may_scale(scale, tmp_path):
    path = tmp_path / "a.mkv"
    a, b, c, d = MATRICES["mirrored"]
    write(path, "ffv1", matrix=matrix_of(a * scale, b, c, d * scale), pixels="bgr0")
    frame = next(iterate_frames(path))
    np.testing.assert_array_equal(frame, picture_frames(1)[0, :, ::-1])


@pytest.mark.fault(122)
@pytest.mark.parametrize(
    "matrix", [(0, 0, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0)], ids=["zero", "a line", "another"]
)
def test_a_matrix_that_shows_nothing_is_ignored_as_players_do(matrix, tmp_path):
    path = tmp_path / "a.mp4"
    write(path, "libx264", matrix=matrix_of(*MATRICES["mirrored"]))
    content = bytearray(path.read_bytes())
    place = content.find(b"tkhd") + 44
    a, b, c, d = (number * ONE for number in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    frame = next(iterate_frames(path))
    assert np.abs(frame.astype(int) - picture_frames(1)[0]).mean() < 8


@pytest.mark.fault(122)
@pytest.mark.parametrize("degrees", [45, 10, 88, -135])
def test_other_angles_than_quarter_turns_are_refused(degrees, tmp_path):
    path = tmp_path / "a.mp4"
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    write(path, "libx264", matrix=matrix_of(cosine, sine, -sine, cosine))
    with pytest.raises(RefusedVideoError, match=r"a\.mp4: the file says that its frames are to be"):
        count_frames(path)


@pytest.mark.fault(122)
def test_an_angle_that_is_almost_a_quarter_turn_is_one(tmp_path):
    path = tmp_path / "a.mp4"
    cosine, sine = np.cos(np.radians(89.5)), np.sin(np.radians(89.5))
    write(path, "libx264", matrix=matrix_of(cosine, sine, -sine, cosine))
    assert next(iterate_frames(path)).shape == (64, 48, 3)


@pytest.mark.fault(122)
@pytest.mark.parametrize("aspect", [Fraction(1, 1_000_000), Fraction(1_000_000), Fraction(17)])
@pytest.mark.parametrize("max_pixels", [None, 2**26])
def test_absurd_pixels_are_refused_before_anything_is_allocated(aspect, max_pixels, tmp_path):
    path = tmp_path / "a.mp4"
    write(path, "libvpx-vp9", aspect=Fraction(4, 3), options=FAST)
    content = path.read_bytes()
    pasp = struct.pack(">I4sII", 16, b"pasp", 4, 3)
    assert pasp in content
    shape = struct.pack(">I4sII", 16, b"pasp", aspect.numerator, aspect.denominator)
    path.write_bytes(content.replace(pasp, shape))
    with pytest.raises(RefusedVideoError, match=r"a\.mp4: the file says that its pixels are "):
        list(decode(path, max_pixels=max_pixels))


@pytest.mark.fault(122)
@pytest.mark.parametrize("shape", [(0, 1), (1, 0), (0, 0)])
def test_pixels_of_unknown_shape_are_square(shape, tmp_path):
    path = tmp_path / "a.mp4"
    write(path, "libvpx-vp9", aspect=Fraction(4, 3), options=FAST)
    content = path.read_bytes()
    pasp = struct.pack(">I4sII", 16, b"pasp", 4, 3)
    assert pasp in content
    path.write_bytes(content.replace(pasp, struct.pack(">I4sII", 16, b"pasp", *shape)))
    assert next(iterate_frames(path)).shape == (48, 64, 3)


@pytest.mark.fault(122)
def test_what_shown_frames_cost_is_checked(tmp_path):
    path = tmp_path / "a.mp4"
    write(path, "libx264", aspect=Fraction(15))
    with pytest.raises(RefusedVideoError, match=r"frames have 960 x 48 pixels, more than max_pix"):
        list(decode(path, max_pixels=64 * 48))
    spec = ClipSpec(1, 1, 1, one_by_one=False, shorter_side=24, crop=24, max_pixels=2**26)
    clips = list(read_clips(str(path), spec))[1:]
    assert [clip.shape for clip in clips] == [(1, 3, 24, 24)] * 20


@pytest.mark.fault(122)
@pytest.mark.parametrize("turn", ["upright", "quarter turn"])
def test_the_shorter_side_is_that_of_the_shown_frame(turn, tmp_path):
    path = tmp_path / "a.mp4"
    write(path, "libx264", aspect=Fraction(4, 1), matrix=matrix_of(*MATRICES[turn]))
    decoded = next(decode(path))
    shown = ToRGB(24)(decoded)
    assert (decoded.height, decoded.width) == ((48, 256) if turn == "upright" else (256, 48))
    assert shown.shape == ((24, 128, 3) if turn == "upright" else (128, 24, 3))


@pytest.mark.fault(122)
def test_orientation_inside_of_a_stream_lasts_until_the_next_key_frame(tmp_path):
    path = tmp_path / "a.ts"
    bitstream = "h264_metadata=rotate=90:display_orientation=insert"
    write(path, "libx264", options=ONE_GROUP, bitstream=bitstream)
    shown = np.stack(list(iterate_frames(path)))
    assert shown.shape == (20, 64, 48, 3)
    expected = np.rot90(picture_frames(20), 1, axes=(1, 2))
    assert np.abs(shown.astype(int) - expected).mean() < 8


@pytest.mark.fault(122)
def test_the_shape_of_pixels_may_change_at_a_joint(tmp_path):
    """As in broadcasts, where a film in 4:3 follows news in 16:9."""
    content = b""
    for seed, aspect in enumerate([Fraction(16, 11), Fraction(12, 11), Fraction(16, 11)]):
        path = tmp_path / f"{seed}.mpg"
        write(path, "mpeg2video", picture_frames(9, seed=seed), aspect=aspect, options={"bf": "2"})
        content += path.read_bytes()
    path.write_bytes(content)
    for n_threads in (1, 3):
        widths = [decoded.width for decoded in decode(path, n_threads=n_threads)]
        wide, narrow = widths[0], widths[9]
        assert wide > narrow + 5
        assert widths == [wide] * 9 + [narrow] * 9 + [wide] * 9


@pytest.mark.fault(122)
@pytest.mark.parametrize(("tag", "degrees"), [(1, 0), (3, 180), (6, -90), (8, 90)])
def test_cameras_that_turn_jpegs_by_exif_are_followed(tag, degrees, tmp_path):
    """PyAV cannot list the data of such frames."""
    path = tmp_path / "a.mjpeg"
    write(path, "mjpeg", picture_frames(1))
    content = path.read_bytes()
    tags = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, tag, 0, 0)
    exif = b"Exif\0\0" + tags
    header = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    path.write_bytes((content[:2] + header + content[2:]) * 3)
    with av.open(str(path)) as container, pytest.raises(ValueError, match="is not a valid Type"):
        len(next(container.decode(video=0)).side_data)
    shown = list(iterate_frames(path))
    assert len(shown) == 3
    expected = np.rot90(picture_frames(1)[0], degrees // 90)
    for frame in shown:
        assert frame.shape == expected.shape
        assert np.abs(frame.astype(int) - expected).mean() < 8


def test_sound_beside_frames_changes_nothing(tmp_path):
    path = tmp_path / "a.mp4"
    with Writer(path) as writer:
        writer.video("libx264", picture_frames(5), matrix=matrix_of(*MATRICES["half turn"]))
        writer.sound(1)
    shown = np.stack(list(iterate_frames(path)))
    assert np.abs(shown.astype(int) - picture_frames(5)[:, ::-1, ::-1]).mean() < 8
