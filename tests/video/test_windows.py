import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid.video.windows import cut_clips, window_frames

LENGTHS = st.one_of(st.integers(1, 40), st.floats(0.01, 1.0))


@given(st.integers(1, 2000))
def test_the_papers_recipe_gives_33_windows_for_any_length(n_frames):
    shown = window_frames(n_frames, 1 / 5, 1 / 40, clip_length=16)
    assert shown.shape == (33, 16)
    for k, window in enumerate(shown):
        assert n_frames * k / 40 - 1 < window[0]
        assert window[-1] < n_frames * (k / 40 + 1 / 5)


def test_the_papers_recipe_on_300_frames_is_what_it_says():
    shown = window_frames(300, 1 / 5, 1 / 40, clip_length=60)
    for k, window in enumerate(shown):
        np.testing.assert_array_equal(window, np.floor(k * 7.5 + np.arange(60) + 0.5))


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 40))
def test_windows_of_whole_frames_are_the_plain_sliding_window(n_frames, width, stride):
    shown = window_frames(n_frames, width, stride)
    starts = list(range(0, n_frames - width + 1, stride)) or [0]
    expected = [[min(start + k, n_frames - 1) for k in range(width)] for start in starts]
    np.testing.assert_array_equal(shown, expected)


@given(st.integers(1, 500), LENGTHS, LENGTHS, st.integers(1, 20))
def test_every_frame_shown_exists_and_time_never_runs_back(n_frames, width, stride, clip_length):
    shown = window_frames(n_frames, width, stride, clip_length)
    assert shown.dtype == np.int64
    assert shown.shape[1] == clip_length
    assert shown.min() >= 0
    assert shown.max() < n_frames
    assert (np.diff(shown, axis=0) >= 0).all()
    assert (np.diff(shown, axis=1) >= 0).all()


def test_frames_shown_are_the_middles_of_equal_parts():
    assert window_frames(16, 16, 16, clip_length=4).tolist() == [[2, 6, 10, 14]]
    assert window_frames(9, 9, 1, clip_length=1).tolist() == [[4]]


def test_a_short_video_repeats_its_last_frame():
    assert window_frames(3, 5, 2).tolist() == [[0, 1, 2, 2, 2]]


def test_fractions_need_a_clip_length():
    with pytest.raises(ValueError, match="clip_length is needed where width is a fraction"):
        window_frames(100, 0.2, 1)


@given(st.integers(1, 60), LENGTHS, LENGTHS, st.integers(1, 6))
def test_clips_hold_the_frames_shown(n_frames, width, stride, clip_length):
    frames = np.arange(n_frames, dtype=np.uint8).reshape(-1, 1, 1, 1)
    shown = window_frames(n_frames, width, stride, clip_length)
    clips = list(cut_clips(iter(frames), shown))
    np.testing.assert_array_equal(np.stack(clips)[..., 0, 0, 0], shown)


def test_each_frame_shown_is_prepared_once_and_no_other():
    shown = window_frames(30, 6, 3, clip_length=2)
    prepared = []

    def prepare(frame):
        prepared.append(int(frame[0, 0, 0]))
        return frame

    frames = np.arange(30, dtype=np.uint8).reshape(-1, 1, 1, 1)
    list(cut_clips(frames, shown, prepare))
    assert prepared == sorted(set(shown.ravel().tolist()))


def test_no_more_frames_are_held_than_a_window_spans():
    import weakref

    class Frame(np.ndarray):
        pass

    alive = weakref.WeakValueDictionary()

    def frames():
        for number in range(200):
            frame = np.full((1, 1, 1), number, dtype=np.uint8).view(Frame)
            alive[number] = frame
            yield frame

    for _ in cut_clips(frames(), window_frames(200, 8, 2)):
        assert len(alive) <= 8 + 1
