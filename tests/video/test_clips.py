from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from videos import CODECS, iterate_frames, numbered, numbers_of, write_at, write_numbered

from skdejavid import VideoDecodeError
from skdejavid.datasets import write_video
from skdejavid.video import clips
from skdejavid.video.clips import ClipSpec, read_frames
from skdejavid.video.decoding import read_clock
from skdejavid.video.geometry import geometry_of
from skdejavid.video.opening import RefusedVideoError
from skdejavid.video.torch_processors import make_video_processor
from skdejavid.video.windows import ClipCutter, FrameClock, WindowPlan

PLAIN = ClipSpec(
    width=4, stride=2, clip_length=None, one_by_one=False, shorter_side=None, crop=None
)
LENGTHS = st.one_of(
    st.integers(1, 40),
    st.integers(1, 40).map(lambda parts: 1 / parts),
    st.integers(1, 200).map(lambda hundredths: f"{hundredths / 100}s"),
)
SPECS = st.builds(
    ClipSpec,
    width=st.one_of(LENGTHS, st.lists(LENGTHS, min_size=1, max_size=3)),
    stride=LENGTHS,
    clip_length=st.integers(1, 8),
    one_by_one=st.booleans(),
    shorter_side=st.sampled_from([None, 32]),
    crop=st.none(),
)


def plan_and_clips(video, spec):
    """Return the last plan, and the clips that follow it."""
    for item in read_frames(video, spec):
        if isinstance(item, WindowPlan):
            plan, cutter, found = item, ClipCutter(item.clip_frames), []
        else:
            found += cutter.add(item.number, np.moveaxis(item.pixels, 0, -1))
    return plan, [np.stack(clip) for clip in found]


@pytest.fixture(scope="module", params=[*CODECS, "irregular times"])
def numbered_video(request, tmp_path_factory):
    """Path of a numbered video, and its number of frames."""
    path = tmp_path_factory.mktemp("numbered") / "numbered"
    if request.param == "irregular times":
        times = np.cumsum(np.random.default_rng(0).integers(1, 9, size=60))
        write_at(path.with_suffix(".mp4"), "libx264", times.tolist())
        return str(path.with_suffix(".mp4")), 60
    return str(write_numbered(path, 75, request.param)), 75


@pytest.mark.parametrize("kind", ["file", "array"])
@pytest.mark.parametrize("has_geometry", [False, True])
def test_each_frame_of_a_clip_is_converted_once_and_no_other(
    kind, has_geometry, tmp_path, monkeypatch
):
    path = str(write_numbered(tmp_path / "numbered", 60, "h264 with B-frames"))
    video = path if kind == "file" else np.stack(list(iterate_frames(path)))
    converted, scaled = [], []
    convert, scale = clips.ToRGB.__call__, clips._scale
    monkeypatch.setattr(
        clips.ToRGB, "__call__", lambda self, frame: converted.append(1) or convert(self, frame)
    )
    monkeypatch.setattr(clips, "_scale", lambda *given: scaled.append(1) or scale(*given))

    def geometry(frame):
        scaled.append(1)
        return frame[::2, ::2].transpose(2, 0, 1)

    spec = replace(PLAIN, width=(9, 20), stride=5, clip_length=3, shorter_side=32, crop=32)
    plan, *frames = read_frames(video, replace(spec, geometry=geometry if has_geometry else None))
    used = np.unique(plan.clip_frames)
    assert [frame.number for frame in frames] == used.tolist()
    assert len(used) < min(60, plan.clip_frames.size)
    assert len(converted) == (len(used) if kind == "file" else 0)
    assert len(scaled) == (len(used) if kind == "array" or has_geometry else 0)
    for frame in frames:
        assert frame.pixels.shape == (3, 32, 32)
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.flags.c_contiguous


def test_frames_after_the_last_clip_are_read_as_well(tmp_path, monkeypatch):
    """Otherwise an error in the rest of a file would go unnoticed."""
    path = write_numbered(tmp_path / "numbered", 30, "mpeg4")

    def decode_part(path, **options):
        yield from islice(clips_decode(path, **options), 20)
        raise VideoDecodeError(f"{path}: broken", 20)

    clips_decode = clips.decode
    monkeypatch.setattr(clips, "decode", decode_part)
    read = read_frames(str(path), replace(PLAIN, width=2, stride=100))
    next(read)
    assert [next(read).number, next(read).number] == [0, 1]
    with pytest.raises(VideoDecodeError, match=r"numbered\.avi: broken"):
        next(read)


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=SPECS)
def test_every_window_gets_exactly_its_frames(numbered_video, spec):
    path, n_frames = numbered_video
    plan, found = plan_and_clips(path, spec)
    clock = read_clock(path, by_decoding=True)
    assert len(clock.starts) == n_frames
    expected = spec.plan(clock)
    np.testing.assert_array_equal(plan.clip_frames, expected.clip_frames)
    np.testing.assert_array_equal(plan.window_clips, expected.window_clips)
    np.testing.assert_allclose(plan.spans, expected.spans, atol=1e-9)
    np.testing.assert_array_equal([numbers_of(clip) for clip in found], expected.clip_frames)


@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_the_shortest_videos_are_whole(n_frames, tmp_path):
    path = write_numbered(tmp_path / "short", n_frames, "h264 with B-frames")
    for spec in (PLAIN, replace(PLAIN, width=(2, 1.0), clip_length=3), replace(PLAIN, width=8)):
        plan, found = plan_and_clips(str(path), spec)
        np.testing.assert_array_equal([numbers_of(clip) for clip in found], plan.clip_frames)
        assert plan.clip_frames.max() == n_frames - 1


@pytest.mark.parametrize("group", [1000, 12])
def test_a_thousand_frames_between_key_frames(group, tmp_path):
    path = tmp_path / "long.mp4"
    options = {"g": str(group), "preset": "ultrafast", "sc_threshold": "0"}
    write_video(path, numbered(1000), options=options)
    spec = replace(PLAIN, width=1 / 5, stride=1 / 40, clip_length=16)
    plan, found = plan_and_clips(str(path), spec)
    assert len(plan.window_clips) == 33
    np.testing.assert_array_equal([numbers_of(clip) for clip in found], plan.clip_frames)


@pytest.mark.parametrize("wrong", ["fewer", "more", "none", "at other times"])
def test_packets_that_announce_other_frames_are_not_believed(wrong, tmp_path, monkeypatch):
    path = str(write_numbered(tmp_path / "numbered", 40, "mpeg4"))
    right = read_clock(path)
    clocks = {
        "fewer": FrameClock(right.starts[:-7], right.end),
        "more": FrameClock(np.append(right.starts, right.end), right.end + 0.04),
        "none": FrameClock(right.starts[:0], 0.0),
        "at other times": FrameClock(right.starts * 2, right.end * 2),
    }

    def read_wrongly(path, *, by_decoding=False, max_pixels=None):
        return read_clock(path, by_decoding=True) if by_decoding else clocks[wrong]

    monkeypatch.setattr(clips, "read_clock", read_wrongly)
    spec = replace(PLAIN, width="0.4s", stride="0.2s", clip_length=3)
    plan, found = plan_and_clips(path, spec)
    np.testing.assert_array_equal(plan.clip_frames, spec.plan(right).clip_frames)
    np.testing.assert_array_equal([numbers_of(clip) for clip in found], plan.clip_frames)


def test_a_file_that_never_decodes_the_same_is_broken(tmp_path, monkeypatch):
    path = str(write_numbered(tmp_path / "numbered", 10, "mpeg4"))
    monkeypatch.setattr(
        clips,
        "read_clock",
        lambda path, by_decoding=False, max_pixels=None: FrameClock.without_time(9),
    )
    with pytest.raises(VideoDecodeError, match="decoding it again gives different frames"):
        list(read_frames(path, PLAIN))


def test_frames_with_wrong_times_matter_only_to_windows_in_seconds(tmp_path, monkeypatch):
    """AVI files with B-frames have wrong times; decoding them twice would take twice as long."""
    path = str(write_numbered(tmp_path / "numbered", 10, "mpeg4"))
    right = read_clock(path)
    late = FrameClock(right.starts + (right.starts > 0.1), right.end + 1)
    monkeypatch.setattr(clips, "read_clock", lambda path, by_decoding=False, max_pixels=None: late)
    plan, found = plan_and_clips(path, PLAIN)
    np.testing.assert_array_equal([numbers_of(clip) for clip in found], plan.clip_frames)


def test_arrays_are_cut_as_files_are(tmp_path):
    path = tmp_path / "lossless.mkv"
    write_video(path, numbered(30), codec="ffv1")
    frames = np.stack(list(iterate_frames(path)))
    spec = replace(PLAIN, width=(6, 0.5), clip_length=3)
    of_file, of_array = (plan_and_clips(video, spec) for video in (str(path), frames))
    np.testing.assert_array_equal(of_file[0].clip_frames, of_array[0].clip_frames)
    np.testing.assert_array_equal(of_file[1], of_array[1])
    np.testing.assert_allclose(of_file[0].spans * 25, of_array[0].spans, atol=0.03)


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (40, 40), (33, 57), (16, 300)])
@pytest.mark.parametrize(("shorter_side", "crop"), [(16, 16), (40, 40), (64, 64), (48, 40)])
def test_frames_of_arrays_become_centered_squares(size, shorter_side, crop):
    frame = np.zeros((*size, 3), dtype=np.uint8)
    frame[size[0] // 2 :] += 100  # halves stay halves only if the crop is centered
    frame[:, size[1] // 2 :] += 100
    frame.flags.writeable = False
    spec = replace(PLAIN, width=1, stride=1, shorter_side=shorter_side, crop=crop)
    _, (clip,) = plan_and_clips(frame[None], spec)
    assert clip.shape == (1, crop, crop, 3)
    assert clip.dtype == np.uint8
    assert np.moveaxis(clip, -1, 1).flags.c_contiguous
    corners = clip[0, [2, 2, -3, -3], [2, -3, 2, -3], 0]
    np.testing.assert_array_equal(corners, [0, 100, 100, 200])
    assert abs(float(clip.mean()) - 100) < 8


def test_frames_of_the_right_size_are_only_cropped(rng):
    video = rng.integers(0, 256, size=(1, 8, 12, 3), dtype=np.uint8)
    spec = replace(PLAIN, width=1, shorter_side=8, crop=6)
    _, (clip,) = plan_and_clips(video, spec)
    np.testing.assert_array_equal(clip, video[:, 1:7, 3:9])


def test_frames_of_files_are_scaled_and_cropped(tmp_path):
    frames = np.zeros((3, 48, 96, 3), np.uint8)
    frames[:, :, 48:] = 200
    write_video(tmp_path / "wide.mp4", frames)
    spec = replace(PLAIN, width=1, stride=1, shorter_side=32, crop=24)
    _, found = plan_and_clips(str(tmp_path / "wide.mp4"), spec)
    assert [clip.shape for clip in found] == [(1, 24, 24, 3)] * 3
    for clip in found:
        assert clip[0, :, :10].mean() < 8
        assert abs(clip[0, :, -10:].mean() - 200) < 8


@pytest.mark.fault(70)
def test_frames_of_differing_sizes_are_refused_with_the_file(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", np.zeros((2, 32, 32, 3), np.uint8))
    sizes = iter([(8, 8, 3), (8, 10, 3)] * 2)
    monkeypatch.setattr(
        clips.ToRGB, "__call__", lambda self, frame: np.zeros(next(sizes), np.uint8)
    )
    with pytest.raises(VideoDecodeError, match=r"a\.mp4: frames have different sizes .*frame_size"):
        list(read_frames(str(tmp_path / "a.mp4"), PLAIN))
    cropped = replace(PLAIN, shorter_side=8, crop=8)
    assert len(list(read_frames(str(tmp_path / "a.mp4"), cropped))) == 1 + 2


@pytest.mark.parametrize(("shorter_side", "crop"), [(None, 8), (8, 9)])
def test_a_crop_larger_than_the_frame_is_refused(shorter_side, crop):
    with pytest.raises(ValueError, match=r"frame_size: .* cannot be cropped to"):
        replace(PLAIN, shorter_side=shorter_side, crop=crop).check()


@pytest.mark.parametrize(
    ("width", "stride", "needs_clock"),
    [(4, 2, False), ("1s", 2, True), (4, "1s", True), ((4, "1s"), 1, True), ((4, 1.0), 1, False)],
)
def test_only_seconds_need_a_clock(width, stride, needs_clock):
    assert replace(PLAIN, width=width, stride=stride).needs_clock == needs_clock


@pytest.mark.fault(68)
@pytest.mark.parametrize(
    ("width", "is_short"),
    [(5, False), (6, True), ("0.2s", False), ("0.21s", True), (1.0, False), ((2, 6), True)],
)
def test_videos_shorter_than_a_window_are_padded_or_refused(width, is_short, tmp_path):
    path = write_numbered(tmp_path / "a", 5, "h264 with B-frames")
    spec = replace(PLAIN, width=width, stride=1, clip_length=3)
    plan = next(read_frames(path, spec))
    assert plan.is_short == is_short
    assert plan.clip_frames.max() == 4
    strict = replace(spec, short="raise")
    if not is_short:
        assert next(read_frames(path, strict)).clip_frames.tolist() == plan.clip_frames.tolist()
        return
    with pytest.raises(RefusedVideoError, match=r"a\.mp4: 5 frame\(s\), 0\.20 s, which is shorter"):
        next(read_frames(path, strict))
    if not isinstance(width, str):  # arrays have no clock
        with pytest.raises(RefusedVideoError, match=r"5 frame\(s\).* shorter than a window"):
            next(read_frames(np.zeros((5, 8, 8, 3), np.uint8), strict))


@pytest.mark.fault(71)
def test_frames_of_too_many_pixels_are_refused_before_any_is_decoded(tmp_path, monkeypatch):
    path = write_numbered(tmp_path / "a", 9, "h264 with B-frames")
    height, width = next(iterate_frames(path)).shape[:2]
    enough = replace(PLAIN, max_pixels=height * width)
    assert len(list(read_frames(path, enough))) > 1
    strict = replace(PLAIN, max_pixels=height * width - 1)
    message = f"a.mp4: frames have {width} x {height} pixels, more than max_pixels="
    monkeypatch.setattr(clips, "ToRGB", lambda *arguments, **options: pytest.fail)
    with pytest.raises(RefusedVideoError, match=message):
        list(read_frames(path, strict))
    with pytest.raises(RefusedVideoError, match="the video: frames have 9 x 8 pixels"):
        next(read_frames(np.zeros((5, 8, 9, 3), np.uint8), replace(PLAIN, max_pixels=71)))


@pytest.mark.fault(79)
@pytest.mark.parametrize("spec", [replace(PLAIN, stride="0.5s"), replace(PLAIN, width="1s")])
def test_a_gap_of_years_between_two_frames_is_refused_before_windows_are_made(spec, tmp_path):
    path = tmp_path / "gap.mkv"
    write_at(path, "libx264", [0, 1, 2, 25 * 86400 * 20])
    strict = replace(spec, width="1s", stride="0.5s", clip_length=2)
    message = r"gap\.mkv: the windows of 1\.728e\+06 s would take .* MB, .*: use a larger stride"
    with pytest.raises(RefusedVideoError, match=message):
        next(read_frames(str(path), strict))
    assert len(next(read_frames(str(path), replace(strict, width=0.5, stride=0.25))).spans) <= 4


@pytest.mark.fault(79)
def test_a_small_file_of_huge_frames_is_refused_before_any_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "huge.mp4"
    frames = np.zeros((1, 5000, 5000, 3), np.uint8)
    write_video(path, frames, options={"preset": "ultrafast"})
    monkeypatch.setattr(clips, "ToRGB", lambda *arguments, **options: pytest.fail)
    spec = replace(PLAIN, shorter_side=32, crop=32, max_pixels=2**26)
    message = r"huge\.mp4: frames of 5000 x 5000 pixels are too large for a file of"
    with pytest.raises(RefusedVideoError, match=message):
        list(read_frames(str(path), spec))


@pytest.mark.fault(79)
def test_a_small_file_of_huge_frames_is_read_by_those_who_trust_it(tmp_path):
    path = tmp_path / "huge.mp4"
    write_video(path, np.zeros((1, 5000, 5000, 3), np.uint8), options={"preset": "ultrafast"})
    spec = replace(PLAIN, shorter_side=32, crop=32, max_pixels=None)
    _, frame = read_frames(str(path), spec)
    assert frame.pixels.shape == (3, 32, 32)


@pytest.mark.fault(79)
def test_a_narrow_frame_is_not_scaled_to_gigabytes(tmp_path):
    path = tmp_path / "narrow.mp4"
    write_video(path, np.zeros((2, 8192, 16, 3), np.uint8), options={"preset": "ultrafast"})
    spec = replace(PLAIN, shorter_side=256, crop=256, max_pixels=2**26)
    message = r"narrow\.mp4: a frame of 256 x 131072 pixels would take 302 MB"
    with pytest.raises(RefusedVideoError, match=message):
        list(read_frames(str(path), spec))
    narrow = np.zeros((2, 16384, 16, 3), np.uint8)
    with pytest.raises(RefusedVideoError, match=r"the video: a frame of 256 x 262144 pixels"):
        next(read_frames(narrow, spec))


@pytest.mark.fault(79)
def test_frames_that_are_kept_for_windows_cost_no_more_than_allowed(tmp_path, monkeypatch):
    path = str(write_numbered(tmp_path / "numbered", 40, "h264 with B-frames"))
    spec = replace(PLAIN, width=30, stride=1, max_pixels=2**26)
    assert len(list(read_frames(path, spec))) == 1 + 40
    monkeypatch.setattr(clips, "bytes_for", lambda n_bytes: 10**5)
    monkeypatch.setattr(ClipSpec, "plan", lambda self, clock, name, n_bytes: PLAN)
    message = r"60 frames of 64 x 64 pixels, for overlapping windows, would take .*: set frame_size"
    with pytest.raises(RefusedVideoError, match=message):
        list(read_frames(path, spec))


PLAN = WindowPlan(np.arange(30)[None], np.zeros((1, 1, 1), np.int64), np.zeros((1, 1, 2)), False)


# --- frames that a processor prepares -----------------------------------------------------------


def squashing(side=32):
    return geometry_of(transformers.ViTImageProcessorPil(size={"height": side, "width": side}))


@pytest.mark.parametrize(
    "view", [lambda x: x[..., ::-1], lambda x: x[:, ::-1], lambda x: x[:, :, ::-1]]
)
def test_arrays_that_are_views_are_prepared_as_their_copies(view, rng):
    """As users turn BGR into RGB, and mirror videos."""
    video = view(rng.integers(0, 256, size=(3, 40, 48, 3), dtype=np.uint8))
    settings = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    geometry = geometry_of(make_video_processor(settings, "videomae"))
    spec = replace(PLAIN, width=1, stride=1, shorter_side=32, crop=32, geometry=geometry)
    _, found = plan_and_clips(video, spec)
    _, expected = plan_and_clips(video.copy(), spec)
    np.testing.assert_array_equal(found, expected)
    assert found[0].shape == (1, 32, 32, 3)


class Failing:
    def __call__(self, frame):
        raise ValueError("it fails")

    def scaled_size(self, size):
        return size


def test_a_frame_that_a_processor_refuses_is_refused_with_its_video(tmp_path):
    path = write_numbered(tmp_path / "numbered", 5, "mpeg4")
    spec = replace(PLAIN, width=1, geometry=Failing())
    with pytest.raises(RefusedVideoError, match=r"numbered\.avi: a frame of .* pixels: it fails"):
        list(read_frames(str(path), spec))
    with pytest.raises(RefusedVideoError, match="the video: a frame of 48 x 40 pixels: it fails"):
        list(read_frames(np.zeros((3, 40, 48, 3), np.uint8), spec))


@pytest.mark.parametrize("is_array", [True, False])
def test_a_narrow_frame_costs_what_its_processor_makes_of_it(is_array, tmp_path):
    """One that squashes frames makes nothing long of it; one that crops 32 of 256 pixels does."""
    video = np.zeros((2, 8192, 16, 3), np.uint8)
    if is_array:
        video = np.repeat(video, 2, axis=1)
    else:
        write_video(tmp_path / "a.mp4", video, options={"preset": "ultrafast"})
        video = str(tmp_path / "a.mp4")
    spec = replace(PLAIN, width=1, stride=1, max_pixels=2**26, shorter_side=256, crop=256)
    frame = list(read_frames(video, replace(spec, geometry=squashing(256))))[1]
    assert frame.pixels.shape == (3, 256, 256)
    cropping = transformers.CLIPImageProcessorPil(size={"shortest_edge": 256}, crop_size=32)
    spec = replace(spec, shorter_side=32, crop=32, geometry=geometry_of(cropping))
    with pytest.raises(RefusedVideoError, match=r"a frame of 256 x \d{6} pixels would take"):
        list(read_frames(video, spec))


def test_frames_are_prepared_without_further_threads(rng):
    """As many readers as cores would start as many threads of torch each."""
    seen = []

    class Spy(Failing):
        def __call__(self, frame):
            seen.append(torch.get_num_threads())
            return frame.transpose(2, 0, 1)

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        list(read_frames(np.zeros((4, 8, 8, 3), np.uint8), replace(PLAIN, geometry=Spy())))
        assert seen == [1] * 4
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("width", "clip_length", "expected"), [(4, None, 4), ((6,), None, 6), (0.5, 3, 3)]
)
def test_the_number_of_frames_of_a_clip_is_that_of_its_plan(width, clip_length, expected):
    spec = replace(PLAIN, width=width, clip_length=clip_length)
    assert spec.n_frames == expected
    assert spec.plan(FrameClock.without_time(20)).clip_frames.shape[1] == expected
