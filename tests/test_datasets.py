import importlib.resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from videos import iterate_frames

from skdejavid.datasets import (
    EVENTS,
    load_japanese_vowels,
    make_event_frames,
    make_event_sequences,
    make_order_sequences,
    make_order_videos,
    write_video,
)


@pytest.mark.parametrize(("part", "first"), [("train", 0), ("test", 2)])
def test_japanese_vowels_are_those_of_aeon(part, first):
    """In their order, and to the last of the six decimals that the published files have."""
    from aeon.datasets import load_japanese_vowels as load_of_aeon

    X, y = load_japanese_vowels()[first : first + 2]
    expected, labels = load_of_aeon(part)
    assert y.tolist() == [int(label) for label in labels]
    assert [x.shape for x in X] == [x.T.shape for x in expected]
    assert {x.dtype for x in X} == {np.dtype(np.float32)}
    for x, of_aeon in zip(X, expected, strict=True):
        printed = [f"{value:.6f}" for value in x.ravel().tolist()]
        assert printed == [f"{value:.6f}" for value in of_aeon.T.ravel().tolist()]


def test_japanese_vowels_can_be_changed_without_changing_the_next_ones():
    load_japanese_vowels()[0][0][:] = 0
    X_train, y_train, _, _ = load_japanese_vowels()
    assert X_train[0][0, 0] == np.float32(1.860936)
    assert np.bincount(y_train).tolist() == [0] + [30] * 9


def test_japanese_vowels_are_small_and_have_their_license_beside_them():
    folder = importlib.resources.files("skdejavid") / "data"
    assert len((folder / "japanese_vowels.npz").read_bytes()) <= 500_000
    license = (folder / "japanese_vowels.LICENSE.txt").read_text()
    assert "CC BY 4.0" in license
    assert "Kudo" in license


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


def test_event_sequences_have_the_documented_sizes():
    X, y = make_event_sequences(203, n_classes=3, n_features=5, lengths=(16, 20), random_state=0)
    assert X.n_features == 5
    assert X.frames.dtype == np.float32
    assert set(X.lengths) == set(range(16, 21))
    assert np.bincount(y).tolist() == [68, 68, 67]
    assert (np.diff(y) != 0).sum() > 100


@given(st.lists(st.floats(1, 20), min_size=2, max_size=6).map(np.array), st.integers(0, 50))
def test_classes_are_as_frequent_as_their_weights(weights, n_more):
    shares = weights / weights.sum()
    n_sequences = int(1 / shares.min()) + 1 + n_more
    kwargs = {"n_classes": len(weights), "weights": weights, "lengths": (16, 16)}
    _, y = make_event_sequences(n_sequences, **kwargs, random_state=0)
    counts = np.bincount(y)
    assert counts.sum() == n_sequences
    assert (np.abs(counts - n_sequences * shares) < 1 + 1e-6).all()


def test_whole_shares_are_exact():
    for weights in ([1000, 20], [1000 / 1020, 20 / 1020]):
        _, y = make_event_sequences(1020, weights=weights, random_state=0)
        assert np.bincount(y).tolist() == [1000, 20]


def test_the_event_of_each_class_is_in_its_features_at_any_time():
    X, y = make_event_sequences(300, n_classes=3, n_features=7, noise=0.0, random_state=0)
    begins = []
    for x, label in zip(X, y, strict=True):
        event = np.flatnonzero(x.any(axis=1))
        assert 8 <= len(event) <= 16
        assert (np.diff(event) == 1).all()
        assert (x[event] == (np.arange(7) % 3 == label)).all()
        begins.append(event[0] / (len(x) - len(event)))
    assert (np.histogram(begins, 5, (0, 1))[0] > 40).all()


@pytest.mark.fault(110)
def test_narrow_numbers_of_frames_do_not_overflow():
    lengths = (np.int8(100), np.int8(127))
    X, y = make_event_sequences(np.uint8(9), lengths=lengths, random_state=np.uint8(200))
    expected, labels = make_event_sequences(9, lengths=(100, 127), random_state=200)
    np.testing.assert_array_equal(X.frames, expected.frames)
    np.testing.assert_array_equal(y, labels)
    assert max(X.lengths) > 110


@pytest.mark.fault(116)
@pytest.mark.parametrize("make", [make_order_sequences, make_event_sequences])
def test_noise_that_vanishes_in_float32_is_no_error(make):
    with np.errstate(all="raise"):
        X, _ = make(6, noise=1e-42, random_state=0)
        loud, _ = make(6, noise=1e30, random_state=0)
    assert set(np.unique(np.round(X.frames, 20))) == {0.0, 1.0}
    assert np.isfinite(loud.frames).all()


@pytest.mark.parametrize("make", [make_order_sequences, make_event_sequences])
@pytest.mark.parametrize(
    "changes",
    [
        *({"noise": value} for value in (np.nan, np.inf, -1.0, 1e31, "loud", None, True)),
        *({"n_sequences": value} for value in (10.7, 0, -3, "5", None, True)),
        *({"n_features": value} for value in (6.0, 1, 10**400)),
        *({"random_state": value} for value in (0.5, -1, "a")),
    ],
    ids=lambda changes: str(changes)[:30],
)
def test_arguments_of_sequences_that_cannot_be_are_named(make, changes):
    with pytest.raises(
        ValueError, match=f"The '{next(iter(changes))}' parameter of {make.__name__}"
    ):
        make(**{"n_sequences": 5} | changes)


@pytest.mark.parametrize("make", [make_order_videos, make_event_frames])
@pytest.mark.parametrize("changes", [{"size": 0}, {"size": 8.0}, {"random_state": 0.5}], ids=str)
def test_arguments_of_videos_that_cannot_be_are_named(make, changes):
    with pytest.raises(
        ValueError, match=f"The '{next(iter(changes))}' parameter of {make.__name__}"
    ):
        make(2, **changes)
    with pytest.raises(ValueError, match=rf"The 'n_\w+' parameter of {make.__name__}"):
        make(2.0)


@pytest.mark.parametrize("fps", [0, 25.0, "25", True])
def test_a_frame_rate_that_cannot_be_is_named(fps, tmp_path):
    with pytest.raises(ValueError, match="The 'fps' parameter of write_video"):
        write_video(tmp_path / "a.mp4", np.zeros((2, 8, 8, 3), np.uint8), fps=fps)
    assert not list(tmp_path.iterdir())


def test_weights_of_any_size_are_shares():
    for weights in ([3e307, 1e307, 1e307], [3e-300, 1e-300, 1e-300], np.array([3, 1, 1], np.int8)):
        with np.errstate(all="raise"):
            _, y = make_event_sequences(50, n_classes=3, weights=weights, random_state=0)
        assert np.bincount(y).tolist() == [30, 10, 10]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_classes": 2.0}, "The 'n_classes' parameter of make_event_sequences"),
        ({"lengths": 50}, "The 'lengths' parameter of make_event_sequences"),
        ({"lengths": (20.0, 30)}, r"lengths must be two .* ints"),
        ({"lengths": (20, 30, 40)}, r"lengths must be two .* ints"),
        ({"lengths": (20,)}, r"lengths must be two .* ints"),
        ({"lengths": "ab"}, "The 'lengths' parameter of make_event_sequences"),
        ({"lengths": (np.nan, 40)}, r"lengths must be two .* ints"),
        ({"weights": ["a", "b"]}, "weights must be a list of finite numbers of more than 0"),
        ({"weights": [[1, 2], [3]]}, "weights must be a list of finite numbers of more than 0"),
        ({"n_classes": 1}, "The 'n_classes' parameter of make_event_sequences"),
        ({"n_classes": 7}, "n_classes must be at most n_features=6, got 7"),
        ({"lengths": (15, 20)}, r"lengths must be .* at least 16, got \(15, 20\)"),
        ({"lengths": (30, 20)}, "lengths must be two increasing ints"),
        ({"weights": [1, 2, 3]}, "weights must have n_classes=2 numbers, got 3"),
        ({"weights": [1, 0]}, "weights must be a list of finite numbers of more than 0"),
        ({"weights": [1, np.nan]}, "weights must be a list of finite numbers of more than 0"),
        ({"weights": 0.5}, "The 'weights' parameter of make_event_sequences"),
        ({"weights": [1, 1e-3]}, "n_sequences=10 is too small for a sequence of class 1"),
    ],
)
def test_event_sequences_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_event_sequences(10, **changes)


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
    "make",
    [make_order_sequences, make_event_sequences, make_order_videos, make_event_frames],
    ids=lambda f: f.__name__,
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
