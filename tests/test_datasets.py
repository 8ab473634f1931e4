import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from videos import iterate_frames

from skdejavid.datasets import (
    EVENTS,
    make_event_frames,
    make_order_sequences,
    make_order_videos,
    write_video,
)


def test_sequences_have_the_documented_sizes():
    X, y = make_order_sequences(100, n_features=5, random_state=0)
    assert X.shape == (100,)
    assert X.n_features == 5
    assert X.frames.dtype == np.float32
    assert X.lengths.min() >= 3 * 4 + 4 * 1
    assert X.lengths.max() <= 3 * 10 + 4 * 3
    assert np.bincount(y).tolist() == [17, 17, 17, 17, 16, 16]


def test_only_the_order_of_events_tells_the_classes_apart():
    """A linear model on averages over time is left guessing among six classes."""
    X, y = make_order_sequences(600, random_state=0)
    means = np.stack([x.mean(axis=0) for x in X])
    assert LogisticRegression().fit(means[:400], y[:400]).score(means[400:], y[400:]) < 0.3


def test_events_come_in_the_order_of_the_class():
    X, y = make_order_sequences(6, n_features=3, noise=0.0, random_state=0)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    for x, label in zip(X, y, strict=True):
        starts = [np.flatnonzero(x[:, feature])[0] for feature in range(3)]
        assert tuple(np.argsort(starts)) == orders[label]


def test_videos_have_the_documented_sizes():
    videos, y = make_order_videos(7, size=32, random_state=0)
    assert len(videos) == len(y) == 7
    assert set(y) == set(range(6))
    for video in videos:
        assert video.dtype == np.uint8
        assert video.shape[1:] == (32, 32, 3)
        assert 3 * 8 + 4 <= len(video) <= 3 * 20 + 4 * 7


def test_frames_show_what_their_label_says():
    frames, y = make_event_frames(80, size=32, random_state=0)
    assert frames.shape == (80, 32, 32, 3)
    assert np.bincount(y).tolist() == [20] * len(EVENTS)
    bright = (frames.max(axis=3) > 135).mean(axis=(1, 2))
    assert bright[y == 0].max() < bright[y != 0].min()
    cross, square = (bright[y == EVENTS.index(name)].mean() for name in ("cross", "square"))
    assert cross < square


@pytest.mark.parametrize(
    "make", [make_order_sequences, make_order_videos, make_event_frames], ids=lambda f: f.__name__
)
def test_the_seed_decides(make):
    def drawn(seed):
        X, y = make(6, random_state=seed)
        return np.concatenate(list(X)), y

    for one, same in zip(drawn(3), drawn(3), strict=True):
        np.testing.assert_array_equal(one, same)
    assert drawn(3)[0].shape != drawn(4)[0].shape or (drawn(3)[0] != drawn(4)[0]).any()


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("avi", "mpeg4")])
def test_a_written_video_is_read_back(suffix, codec, tmp_path):
    videos, _ = make_order_videos(1, random_state=0)
    write_video(tmp_path / f"clip.{suffix}", videos[0], codec=codec)
    frames = np.stack(list(iterate_frames(tmp_path / f"clip.{suffix}")))
    assert frames.shape == videos[0].shape
    assert np.abs(frames.astype(float) - videos[0]).mean() < 12


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), "without an empty axis"),
        (np.zeros((2, 8, 8), np.uint8), r"frames must be a uint8 array .* got uint8 of shape"),
        (np.zeros((2, 8, 8, 3)), "got float64"),
        (np.zeros((2, 7, 8, 3), np.uint8), r"height and width .* must be even, got \(7, 8\)"),
    ],
)
def test_what_is_no_video_is_not_written(frames, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "a.mp4", frames)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path: folder .*nowhere does not exist"):
        write_video(tmp_path / "nowhere" / "a.mp4", np.zeros((1, 8, 8, 3), np.uint8))
