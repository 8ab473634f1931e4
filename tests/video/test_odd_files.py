"""Every window of every odd file equals the reference, and pictures are shown as made by hand."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_files import FILES, MATRICES, matrix_of, picture_frames, write, write_odd_file
from reference_frames import compare_windows, iterate_reference
from videos import iterate_frames

from skdejavid.video.decoding import read_clock


@pytest.mark.fault(121, 122, 123)
@pytest.mark.parametrize("name", FILES)
def test_every_window_of_every_odd_file_equals_the_reference(name, tmp_path):
    n_windows, n_wrong = compare_windows(write_odd_file(name, tmp_path))
    assert n_windows > 30
    assert n_wrong == 0


@pytest.mark.fault(123)
@pytest.mark.parametrize("name", FILES)
def test_packets_and_frames_of_every_odd_file_tell_the_same_times(name, tmp_path):
    path = write_odd_file(name, tmp_path)
    by_packets, by_frames = read_clock(path), read_clock(path, by_decoding=True)
    np.testing.assert_allclose(by_packets.starts, by_frames.starts, atol=1e-9)
    assert by_packets.end == pytest.approx(by_frames.end, abs=1e-9)


@pytest.mark.fault(122)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from([("mp4", "libx264"), ("mov", "mpeg4"), ("mkv", "libx264")]),
    matrix=st.sampled_from(sorted(MATRICES)),
    aspect=st.fractions(Fraction(1, 4), 4, max_denominator=20),
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    n_frames=st.integers(1, 12),
    n_b_frames=st.integers(0, 3),
    n_threads=st.integers(1, 3),
)
def test_orientation_aspect_and_size_together_equal_the_reference(
    kind, matrix, aspect, size, n_frames, n_b_frames, n_threads, tmp_path
):
    height, width = (2 * side for side in size)
    path = tmp_path / f"a.{kind[0]}"
    write(
        path,
        kind[1],
        picture_frames(n_frames, height, width),
        aspect=aspect,
        matrix=matrix_of(*MATRICES[matrix]),
        options={"bf": str(n_b_frames)},
    )
    n_windows, n_wrong = compare_windows(path, [(2, 1, 2), ("0.08s", "0.04s", 2)])
    assert n_windows >= 2
    assert n_wrong == 0


@pytest.mark.fault(122)
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(
    ("name", "corner", "neighbor"),
    [
        # Where players show what is stored at the top left (white) and at the top right (red).
        ("upright", "top left", "top right"),
        ("mirrored", "top right", "top left"),
        ("upside down", "bottom left", "bottom right"),
        ("half turn", "bottom right", "bottom left"),
        ("quarter turn", "top right", "bottom right"),
        ("three quarter turns", "bottom left", "top left"),
        ("transposed", "top left", "bottom left"),
        ("transposed and half turn", "bottom right", "top right"),
    ],
)
def test_corners_are_where_players_show_them(name, corner, neighbor, suffix, tmp_path):
    frames = np.zeros((2, 48, 64, 3), np.uint8)
    frames[:, :24, :32] = 255
    frames[:, :24, 32:, 0] = 255
    codec = "libx264" if suffix != "mov" else "mjpeg"
    path = tmp_path / f"a.{suffix}"
    write(path, codec, frames, matrix=matrix_of(*MATRICES[name]))
    shown = next(iterate_frames(path))
    height, width = shown.shape[:2]
    assert (height, width) == ((64, 48) if "quarter" in name or "trans" in name else (48, 64))
    parts = {
        f"{row} {column}": shown[y, x].tolist()
        for row, y in (("top", height // 4), ("bottom", height * 3 // 4))
        for column, x in (("left", width // 4), ("right", width * 3 // 4))
    }
    assert min(parts.pop(corner)) > 200
    red = parts.pop(neighbor)
    assert red[0] > 200
    assert max(red[1:]) < 60
    assert np.max(list(parts.values())) < 60


@pytest.mark.fault(122)
@pytest.mark.parametrize("turn", ["upright", "quarter turn"])
@pytest.mark.parametrize(
    ("aspect", "shown_size"),
    [
        (Fraction(2), (64, 128)),
        (Fraction(1, 2), (128, 64)),
        (Fraction(16, 11), (64, 93)),
        (Fraction(10, 11), (70, 64)),
    ],
)
def test_a_circle_is_shown_as_a_circle(aspect, shown_size, turn, tmp_path):
    # A circle of radius 28 where pixels are square, as it is stored.
    y, x = np.mgrid[:64, :64] - 31.5
    inside = (x * float(max(aspect, 1))) ** 2 + (y / float(min(aspect, 1))) ** 2 < 28**2
    frames = np.repeat(np.where(inside, 255, 0).astype(np.uint8)[None, ..., None], 3, axis=3)
    path = tmp_path / "circle.mp4"
    write(path, "libx264", frames, aspect=aspect, matrix=matrix_of(*MATRICES[turn]))
    shown = next(iterate_frames(path))
    assert shown.shape[:2] == (shown_size if turn == "upright" else shown_size[::-1])
    rows, columns = np.nonzero(shown[..., 0] > 127)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=2)
    assert np.ptp(rows) == pytest.approx(55, abs=2)


def test_the_reference_tells_frames_apart(tmp_path):
    path = write_odd_file("mp4 quarter turn", tmp_path)
    frames = np.stack([frame for frame, *_ in iterate_reference(path)])
    assert frames.shape == (20, 64, 48, 3)
    differences = np.abs(np.diff(frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert differences.min() > 30
    expected = np.rot90(picture_frames(20), -1, axes=(1, 2))
    assert np.abs(frames.astype(int) - expected).mean() < 8


@pytest.mark.parametrize("name", FILES)
def test_odd_files_are_of_the_kind_that_they_are_named_for(name, tmp_path):
    path = write_odd_file(name, tmp_path)
    with av.open(str(path)) as container:
        assert container.streams.video
        if "pixels" in name.split():
            assert container.streams.video[0].sample_aspect_ratio not in (None, 1)
