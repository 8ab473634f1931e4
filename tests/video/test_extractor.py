import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_do_not_raise_errors_in_init_or_set_params

from skdejavid import TSEArray, TSEExtractor, VideoDecodeError
from skdejavid.datasets import make_order_videos, write_video
from skdejavid.video.windows import window_frames


def mean_color(clips):
    return clips.mean(dim=(2, 3, 4))


@pytest.fixture
def videos(rng):
    """Arrays of 7, 40 and 2 frames, 12 high, 16 wide."""
    return [rng.integers(0, 256, size=(n, 12, 16, 3), dtype=np.uint8) for n in (7, 40, 2)]


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
@pytest.mark.parametrize(
    "recipe",
    [
        {"width": 4, "stride": 2, "clip_length": None},
        {"width": 10, "stride": 3, "clip_length": 2},
        {"width": 1 / 5, "stride": 1 / 40, "clip_length": 3},
        {"width": 1.0, "stride": 1.0, "clip_length": 5},
    ],
)
def test_each_window_of_each_video_is_encoded_in_order(recipe, batch_size, videos):
    extractor = TSEExtractor(mean_color, frame_size=None, batch_size=batch_size, **recipe)
    X = extractor.fit_transform(videos)
    assert isinstance(X, TSEArray)
    assert X.values.dtype == np.float32
    for sequence, video in zip(X, videos, strict=True):
        shown = window_frames(len(video), **recipe)
        expected = [video[window].mean(axis=(0, 1, 2)) / 255 for window in shown]
        np.testing.assert_allclose(sequence, expected, rtol=1e-5)


def test_the_defaults_are_the_papers_recipe_for_kinetics(videos):
    X = TSEExtractor(mean_color, frame_size=8).fit_transform(videos)
    assert X.lengths.tolist() == [33, 33, 33]


def test_files_give_what_their_frames_give(tmp_path):
    arrays, _ = make_order_videos(3, random_state=0)
    paths = [tmp_path / f"{i}.mp4" for i in range(3)]
    for path, frames in zip(paths, arrays, strict=True):
        write_video(path, frames)
    extractor = TSEExtractor(mean_color, frame_size=32)
    from_files = extractor.fit_transform(paths)
    assert from_files.lengths.tolist() == [33, 33, 33]
    np.testing.assert_allclose(from_files.values, extractor.transform(arrays).values, atol=0.03)
    np.testing.assert_array_equal(
        from_files.values, extractor.transform([str(path) for path in paths]).values
    )
    np.testing.assert_array_equal(
        from_files.values, extractor.transform(np.array(paths, dtype=str)).values
    )


def test_videos_of_differing_sizes_share_no_batch(rng):
    videos = [rng.integers(0, 256, size=(4, *size, 3), dtype=np.uint8) for size in ((6, 8), (9, 7))]
    extractor = TSEExtractor(mean_color, width=2, stride=2, clip_length=None, frame_size=None)
    together = extractor.fit_transform(videos)
    alone = np.concatenate([extractor.transform([video]).values for video in videos])
    np.testing.assert_array_equal(together.values, alone)


def test_a_module_is_used_for_inference_and_left_as_it_was(videos):
    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = torch.nn.Dropout(0.9)
            self.head = torch.nn.Linear(3, 2)

        def forward(self, clips):
            assert not self.training
            assert torch.is_inference_mode_enabled()
            embedding = self.drop(clips.mean(dim=(2, 3, 4)))
            return embedding, self.head(embedding)

    encoder = Encoder()
    X = TSEExtractor(encoder, frame_size=None).fit_transform(videos)
    assert X.n_features == 5
    assert encoder.training
    assert encoder.drop.training
    assert encoder.head.weight.grad is None


def test_cloning_shares_the_encoder():
    encoder = torch.nn.Linear(2, 2)
    extractor = TSEExtractor(encoder, width=3, mean=[0.1, 0.2, 0.3])
    twin = clone(extractor)
    assert twin is not extractor
    assert twin.encoder is encoder
    assert twin.get_params() == extractor.get_params()


def test_it_needs_no_fitting_and_pickles(videos, tmp_path):
    extractor = TSEExtractor(torch.nn.Flatten(), frame_size=8, clip_length=2)
    expected = extractor.transform(videos)
    joblib.dump(extractor, tmp_path / "extractor.joblib")
    loaded = joblib.load(tmp_path / "extractor.joblib")
    for same in (loaded, loaded.fit(videos)):
        np.testing.assert_array_equal(same.transform(videos).values, expected.values)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("clip.mp4", TypeError, r"X is a single path, expected a list .* \['clip.mp4'\]"),
        ([], ValueError, r"0 sample\(s\)"),
        (np.zeros((4, 6, 8, 3), np.uint8), ValueError, r"X is a single video .* pass \[X\]"),
        (pd.DataFrame({"path": ["a.mp4"]}), TypeError, "X is a DataFrame, .* pass one column"),
        ([3], TypeError, r"X\[0\] is a int, expected the path of a video or an array"),
        ([np.zeros((4, 6, 8, 3))], ValueError, r"X\[0\] must be a uint8 array .* got float64"),
        ([np.zeros((4, 6, 8), np.uint8)], ValueError, r"X\[0\] .* got uint8 of shape \(4, 6, 8\)"),
        ([np.zeros((0, 6, 8, 3), np.uint8)], ValueError, r"X\[0\] .* without an empty axis"),
        (["nowhere.mp4"], FileNotFoundError, "nowhere.mp4"),
    ],
)
def test_what_is_no_video_is_named(X, error, message):
    with pytest.raises(error, match=message):
        TSEExtractor(mean_color).transform(X)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    with pytest.raises(VideoDecodeError, match=r"broken\.mp4"):
        TSEExtractor(mean_color).transform([tmp_path / "broken.mp4"])


def test_embeddings_that_are_not_finite_are_refused_with_the_video(videos):
    def encoder(clips):
        embeddings = mean_color(clips)
        embeddings[-1] = torch.nan
        return embeddings

    with pytest.raises(ValueError, match=r"NaN or infinity for window 32 of X\[2\] \(an array\)"):
        TSEExtractor(encoder, frame_size=None, batch_size=1000).transform(videos)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("width", 0),
        ("width", 1.5),
        ("stride", 0.0),
        ("clip_length", 0),
        ("layout", "THWC"),
        ("frame_size", 0),
        ("batch_size", 0),
        ("encoder", "a string"),
    ],
)
def test_parameters_are_checked_when_used_and_not_before(parameter, value, videos):
    extractor = TSEExtractor(**{"encoder": mean_color, parameter: value})
    with pytest.raises(ValueError, match=f"The '{parameter}' parameter of TSEExtractor must"):
        extractor.fit(videos)
    with pytest.raises(ValueError, match=f"The '{parameter}' parameter of TSEExtractor must"):
        extractor.transform(videos)


def test_scikit_learns_check_of_the_constructor():
    check_do_not_raise_errors_in_init_or_set_params("TSEExtractor", TSEExtractor(mean_color))


def test_progress_is_shown_only_when_asked_for(videos, capsys):
    TSEExtractor(mean_color, frame_size=8).transform(videos)
    assert capsys.readouterr() == ("", "")
    TSEExtractor(mean_color, frame_size=8, verbose=1).transform(videos)
    assert "videos" in capsys.readouterr().err


def test_embeddings_of_another_width_are_refused_with_the_video(rng):
    videos = [rng.integers(0, 256, size=(4, *size, 3), dtype=np.uint8) for size in ((4, 4), (6, 6))]
    extractor = TSEExtractor(torch.nn.Flatten(), frame_size=None, clip_length=1)
    with pytest.raises(ValueError, match=r"108 features for X\[1\] \(an array\), but 48 before"):
        extractor.transform(videos)


def test_windows_of_differing_length_are_refused_before_any_work(videos):
    extractor = TSEExtractor(mean_color, width=0.2, clip_length=None)
    with pytest.raises(ValueError, match="clip_length is needed where width is a fraction"):
        extractor.fit(videos)


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_the_window_with_a_bad_embedding_is_counted_inside_of_its_video(batch_size, rng):
    videos = [np.zeros((6, 4, 4, 3), np.uint8) for _ in range(3)]
    videos[1][4:] = 255
    extractor = TSEExtractor(
        lambda clips: mean_color(clips).log(),  # minus infinity where all is black
        **{"width": 2, "stride": 2, "clip_length": None, "frame_size": None},
        batch_size=batch_size,
    )
    videos[0][:] = 9
    with pytest.raises(ValueError, match=r"infinity for window 0 of X\[1\]"):
        extractor.transform(videos)


def test_frames_of_differing_sizes_are_refused_with_the_file(tmp_path, monkeypatch):
    frames = [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)]
    monkeypatch.setattr("skdejavid.video.extractor.count_frames", lambda path: 2)
    monkeypatch.setattr("skdejavid.video.extractor.decode", lambda path: frames)
    monkeypatch.setattr("skdejavid.video.extractor.to_rgb", lambda frame: frame)
    whole = {"width": 2, "stride": 2, "clip_length": None}
    with pytest.raises(VideoDecodeError, match=r"a\.mp4: frames of differing sizes .*frame_size"):
        TSEExtractor(mean_color, frame_size=None, **whole).transform(["a.mp4"])
    X = TSEExtractor(mean_color, frame_size=4, **whole).transform(["a.mp4"])
    assert X.lengths.tolist() == [1]
