import math
import weakref
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traced_memory import traced_memory

from skdejavid.video.windows import (
    ClipCutter,
    FrameClock,
    bytes_of_plan,
    check_windows,
    most_frames_at_once,
    plan_windows,
)

FRACTIONS = st.integers(1, 40).map(lambda parts: 1 / parts)
LENGTHS = st.one_of(st.integers(1, 40), FRACTIONS)
SECONDS = st.integers(1, 300).map(lambda hundredths: f"{hundredths / 100}s")
N_FRAMES = st.integers(1, 120)


@st.composite
def clocks(draw):
    """Draw frames at irregular times, multiples of 1/100 s."""
    gaps = draw(st.lists(st.integers(1, 30), min_size=1, max_size=60))
    edges = np.append(0, np.cumsum(gaps)) / 100
    return FrameClock(edges[:-1], float(edges[-1]))


def counted(n_frames):
    return FrameClock.without_time(n_frames)


def shown_by(plan):
    """Return the frame numbers of each window, (n_windows, n_widths, frames per window)."""
    n_windows, n_widths, _ = plan.window_clips.shape
    return plan.clip_frames[plan.window_clips].reshape(n_windows, n_widths, -1)


def of_one_width(*arguments, **options):
    return shown_by(plan_windows(*arguments, **options))[:, 0]


def middles(begin, window, clip_length, last):
    """Return the frames in the middles of equal parts, in exact arithmetic."""
    parts = [Fraction(2 * k + 1, 2 * clip_length) for k in range(clip_length)]
    return [min(math.floor(begin + part * window), last) for part in parts]


@given(st.integers(1, 2000))
def test_the_papers_recipe_gives_33_windows_for_any_length(n_frames):
    shown = of_one_width(counted(n_frames), 1 / 5, 1 / 40, clip_length=16)
    expected = [
        middles(Fraction(n_frames * k, 40), Fraction(n_frames, 5), 16, n_frames - 1)
        for k in range(33)
    ]
    np.testing.assert_array_equal(shown, expected)


@given(N_FRAMES, st.integers(1, 40), st.integers(1, 40))
def test_windows_of_whole_frames_are_the_plain_sliding_window(n_frames, width, stride):
    starts = list(range(0, n_frames - width + 1, stride)) or [0]
    expected = [[min(start + k, n_frames - 1) for k in range(width)] for start in starts]
    np.testing.assert_array_equal(of_one_width(counted(n_frames), width, stride), expected)


@given(N_FRAMES, st.integers(1, 70), st.integers(1, 20), st.integers(1, 20))
def test_each_of_parallel_windows_is_centered_or_moved_inside(n_frames, width, stride, clip_length):
    """The paper's settings for Something-Something V2 have four widths and stride 1."""
    plan = plan_windows(counted(n_frames), (width, 1.0), stride, clip_length)
    shown = shown_by(plan)
    assert len(shown) == math.ceil(n_frames / stride)
    for row, (window, whole) in enumerate(shown):
        begin = min(max(row * stride - width // 2, 0), max(n_frames - width, 0))
        assert window.tolist() == middles(Fraction(begin), width, clip_length, n_frames - 1)
        assert whole.tolist() == middles(Fraction(0), n_frames, clip_length, n_frames - 1)


def test_the_papers_recipe_for_something_something_gives_a_row_per_frame():
    plan = plan_windows(counted(40), (16, 32, 64, 1.0), 1, 16)
    assert plan.window_clips.shape == (40, 4, 1)
    # 25 of width 16, 9 of 32, one of 64 and one of all: no window is encoded twice.
    assert plan.clip_frames.shape == (36, 16)
    assert len({tuple(clip) for clip in plan.clip_frames.tolist()}) == 36
    np.testing.assert_array_equal(plan.spans[[0, 20, 39]], [[0, 16], [12, 28], [24, 40]])


@pytest.mark.slow
@given(clocks(), SECONDS, SECONDS, st.integers(1, 6))
def test_windows_in_seconds_show_what_is_on_screen(clock, width, stride, clip_length):
    shown = of_one_width(clock, width, stride, clip_length)
    window, step = Fraction(width[:-1]), Fraction(stride[:-1])
    begins = [Fraction(round(begin * 100), 100) for begin in clock.starts]
    end = Fraction(round(clock.end * 100), 100)
    starts = [k * step for k in range(10_000) if k * step + window <= end] or [Fraction(0)]
    for row, start in zip(shown, starts, strict=True):
        for frame, part in zip(row, range(clip_length), strict=True):
            moment = start + window * Fraction(2 * part + 1, 2 * clip_length)
            assert frame == max(i for i, begin in enumerate(begins) if begin <= moment)


@given(clocks(), st.one_of(LENGTHS, SECONDS), st.one_of(LENGTHS, SECONDS), st.integers(1, 9))
def test_every_frame_shown_exists_and_time_never_runs_back(clock, width, stride, clip_length):
    for widths in (width, (width, 3, 0.5, "0.4s")):
        plan = plan_windows(clock, widths, stride, clip_length)
        shown = shown_by(plan)
        assert shown.shape[2] == clip_length
        assert shown.min() >= 0
        assert shown.max() < len(clock.starts)
        assert (np.diff(shown, axis=0) >= 0).all()
        assert (np.diff(shown, axis=2) >= 0).all()
        assert (np.diff(plan.clip_frames[:, -1]) >= 0).all()
        assert (plan.spans[:, 0] <= plan.spans[:, 1]).all()
        assert plan.spans.min() >= 0
        assert plan.spans.max() <= clock.end


@given(clocks(), LENGTHS, LENGTHS, st.integers(1, 9))
def test_what_a_window_shows_lies_in_its_span(clock, width, stride, clip_length):
    plan = plan_windows(clock, width, stride, clip_length)
    ends = np.append(clock.starts[1:], clock.end)
    for frames, (begin, end) in zip(shown_by(plan)[:, 0], plan.spans, strict=True):
        assert ends[frames[0]] > begin - 1e-9
        assert clock.starts[frames[-1]] < end + 1e-9


def test_spans_follow_the_clock():
    clock = FrameClock(np.array([0.0, 0.1, 0.2, 1.2]), 1.3)
    plan = plan_windows(clock, 2, 1)
    np.testing.assert_allclose(plan.spans, [[0, 0.2], [0.1, 1.2], [0.2, 1.3]])
    np.testing.assert_allclose(plan_windows(clock, 9, 1).spans, [[0, 1.3]])
    np.testing.assert_allclose(plan_windows(clock, "0.5s", "0.5s", 1).spans, [[0, 0.5], [0.5, 1]])


@given(N_FRAMES, LENGTHS, LENGTHS, st.integers(1, 5))
def test_frames_one_by_one_are_averaged_inside_of_each_window(n_frames, width, stride, clip_length):
    """Image encoders see each frame once."""
    recipe = (width, 7), stride, clip_length
    one_by_one = plan_windows(counted(n_frames), *recipe, one_by_one=True)
    together = plan_windows(counted(n_frames), *recipe)
    assert one_by_one.clip_frames.shape[1] == 1
    assert len(np.unique(one_by_one.clip_frames)) == len(one_by_one.clip_frames)
    of_frames = np.cos(np.arange(2.0 * n_frames)).reshape(n_frames, 2)
    joined = one_by_one.join(of_frames[one_by_one.clip_frames[:, 0]])
    np.testing.assert_allclose(joined, together.join(of_frames[together.clip_frames].mean(axis=1)))
    np.testing.assert_array_equal(one_by_one.spans, together.spans)


def test_joined_rows_hold_the_widths_one_after_the_other():
    plan = plan_windows(counted(4), (1, 1.0), 2, 1)
    embeddings = plan.clip_frames + np.array([[0.0, 100.0]])
    np.testing.assert_array_equal(plan.join(embeddings), [[0, 100, 2, 102], [2, 102, 2, 102]])


def test_frames_shown_are_the_middles_of_equal_parts():
    assert of_one_width(counted(16), 16, 16, clip_length=4).tolist() == [[2, 6, 10, 14]]
    assert of_one_width(counted(9), 9, 1, clip_length=1).tolist() == [[4]]


def test_a_short_video_repeats_its_last_frame():
    assert of_one_width(counted(3), 5, 2).tolist() == [[0, 1, 2, 2, 2]]
    assert shown_by(plan_windows(counted(2), (4, 1.0), 1, 4)).tolist() == [
        [[0, 1, 1, 1], [0, 0, 1, 1]],
        [[0, 1, 1, 1], [0, 0, 1, 1]],
    ]


@pytest.mark.parametrize(
    ("width", "stride", "clip_length", "message"),
    [
        (0.2, 1, None, "clip_length must be set if width is a fraction"),
        ("1s", 1, None, "clip_length must be set"),
        ((16, 32), 1, None, "clip_length must be set"),
        (0, 1, 4, "width must be at least 1 frame, got 0"),
        (4, 0, 4, "stride must be at least 1 frame, got 0"),
        (1.5, 1, 4, r"width as a fraction of the video must lie in \(0, 1\], got 1.5"),
        (4, 0.0, 4, r"stride as a fraction .* got 0.0"),
        (4, math.nan, 4, r"stride as a fraction .* got nan"),
        ("2", 1, 4, r"width must be .*frames \(16\), a .* \(0.2\) or .* \('1.5s'\), got '2'"),
        ("-1s", 1, 4, "width must be .* or a positive number of sec"),
        ("infs", 1, 4, "width must be .* or a positive number of sec"),
        (4, "ones", 4, "stride must be .* or a positive number of sec.* got 'ones'"),
        (True, 1, 4, "width must be an int, a float or a string"),
        (4, None, 4, "stride must be an int, a float or a string"),
        ([], 1, 4, "width must contain at least one length"),
        ([4, 0], 1, 4, "width must be at least 1 frame"),
    ],
)
def test_lengths_that_mean_nothing_are_refused(width, stride, clip_length, message):
    with pytest.raises(ValueError, match=message):
        check_windows(width, stride, clip_length)
    with pytest.raises(ValueError, match=message):
        plan_windows(counted(10), width, stride, clip_length)


def test_numbers_of_numpy_are_lengths():
    expected = of_one_width(counted(50), 0.5, 3, 4)
    widths = np.float64(0.5), np.float32(0.5)
    for width in widths:
        shown = of_one_width(counted(50), width, np.int32(3), 4)
        np.testing.assert_array_equal(shown, expected)
    both = plan_windows(counted(50), np.array([4, 8]), 3, 4)
    assert both.window_clips.shape == (17, 2, 1)


@given(N_FRAMES, LENGTHS, LENGTHS, st.integers(1, 6), st.integers(0, 200))
def test_clips_hold_the_frames_shown(n_frames, width, stride, clip_length, n_done):
    """The first clips may be left out."""
    shown = plan_windows(counted(n_frames), (width, 5, 1.0), stride, clip_length).clip_frames
    shown = shown[min(n_done, len(shown)) :]
    cutter = ClipCutter(shown)
    clips = []
    for number in range(n_frames):
        assert cutter.needs(number) == (number in shown)
        if cutter.needs(number):
            clips += cutter.add(number, number)
    np.testing.assert_array_equal(np.reshape(clips, shown.shape), shown)


def most_frames_alive(n_frames, shown):
    class Frame:
        pass

    alive = weakref.WeakSet()
    cutter = ClipCutter(shown)
    most = 0
    for number in range(n_frames):
        if cutter.needs(number):
            frame = Frame()
            alive.add(frame)
            cutter.add(number, frame)
            del frame
            most = max(most, len(alive))
    assert not alive
    return most


def test_no_more_frames_are_held_than_a_window_spans():
    assert most_frames_alive(200, plan_windows(counted(200), 8, 2).clip_frames) <= 8


def test_a_window_of_the_whole_video_holds_no_more_than_it_shows():
    shown = plan_windows(counted(2000), (8, 1.0), 1, 8).clip_frames
    assert most_frames_alive(2000, shown) <= 8 + 8


@pytest.mark.fault(79)
@pytest.mark.parametrize("width", ["1s", ("1s", "3s"), 4, 0.5])
@pytest.mark.parametrize("stride", ["0.3s", 1, 0.01])
def test_the_bytes_of_a_plan_are_known_before(width, stride):
    """The peak of planning, measured, is at most what was computed."""
    starts = np.sort(np.random.default_rng(0).uniform(0, 3000, 9000))
    starts[0] = 0
    clock = FrameClock(starts, 3000.1)
    computed = bytes_of_plan(clock, width, stride, 8)
    with traced_memory() as traced:
        plan = plan_windows(clock, width, stride, 8)
    assert traced.peak <= computed + 2**20
    assert len(plan.window_clips) * 16 < computed


@pytest.mark.fault(79)
def test_years_between_two_frames_cost_what_they_are_said_to_cost():
    clock = FrameClock(np.array([0.0, 1e11]), 1e11)
    assert bytes_of_plan(clock, "1s", "0.5s", 4) > 1e12
    assert bytes_of_plan(clock, "1s", "1e-300s", 4) > 1e18
    assert bytes_of_plan(clock, 0.5, 0.5, 4) < 1e4


@pytest.mark.fault(79)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(1, 4))
def test_frames_kept_at_once_are_counted(numbers, clip_length):
    clips = np.sort(np.resize(numbers, (len(numbers), clip_length)), axis=1)
    clips = clips[np.lexsort((clips[:, 0], clips[:, -1]))]
    last_use = {n: int(clip[-1]) for clip in clips for n in clip.tolist()}
    held = [sum(n <= now <= last_use[n] for n in last_use) for now in range(31)]
    assert most_frames_at_once(clips) == max(held) + clip_length


def test_a_long_pause_is_one_clip_however_many_windows_it_has():
    clock = FrameClock(np.array([0.0, 1.0, 1e5]), 1e5 + 1)
    plan = plan_windows(clock, "1s", "0.1s", 2)
    assert len(plan.window_clips) == 10**6 + 1
    assert len(plan.clip_frames) < 10
    np.testing.assert_array_equal(plan.clip_frames[plan.window_clips[500_000, 0]], [[1, 1]])
