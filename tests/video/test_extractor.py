import errno
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import av
import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_do_not_raise_errors_in_init_or_set_params
from videos import numbered

from skdejavid import (
    DejaVidClassifier,
    TSEArray,
    TSEExtractor,
    TSEStore,
    VideoDecodeError,
    find_videos,
)
from skdejavid.datasets import make_order_videos, write_video
from skdejavid.files import identity
from skdejavid.video import opening, pipeline, settings
from skdejavid.video.clips import ClipSpec
from skdejavid.video.decoding import ToRGB
from skdejavid.video.transfers import Transfers
from skdejavid.video.windows import FrameClock


def mean_color(clips):
    return clips.mean(dim=(2, 3, 4))


def plan_of(video, **windows):
    windows = {"one_by_one": False, "shorter_side": None, "crop": None, **windows}
    return ClipSpec(**windows).plan(FrameClock.without_time(len(video)))


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
    assert X.frames.dtype == np.float32
    for sequence, video in zip(X, videos, strict=True):
        plan = plan_of(video, **recipe)
        expected = [
            video[window].mean(axis=(0, 1, 2)) / 255
            for window in plan.clip_frames[plan.window_clips[:, 0, 0]]
        ]
        np.testing.assert_allclose(sequence, expected, rtol=1e-5)
    spans = np.concatenate([plan_of(video, **recipe).spans for video in videos])
    np.testing.assert_array_equal(X.spans, spans)


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
    np.testing.assert_allclose(from_files.frames, extractor.transform(arrays).frames, atol=0.03)
    np.testing.assert_array_equal(
        from_files.frames, extractor.transform([str(path) for path in paths]).frames
    )
    np.testing.assert_array_equal(
        from_files.frames, extractor.transform(np.array(paths, dtype=str)).frames
    )


def test_videos_of_differing_sizes_share_no_batch(rng):
    videos = [rng.integers(0, 256, size=(4, *size, 3), dtype=np.uint8) for size in ((6, 8), (9, 7))]
    extractor = TSEExtractor(mean_color, width=2, stride=2, clip_length=None, frame_size=None)
    together = extractor.fit_transform(videos)
    alone = np.concatenate([extractor.transform([video]).frames for video in videos])
    np.testing.assert_array_equal(together.frames, alone)


def test_a_module_is_used_for_inference_and_left_as_it_was(videos):
    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = torch.nn.Dropout(0.9)
            self.head = torch.nn.Linear(3, 2)

        def forward(self, clips):
            assert not self.training
            assert not torch.is_grad_enabled()
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


@pytest.mark.fault(74)
def test_an_encoder_that_cannot_be_pickled_is_shared_by_threads(videos):
    def encoder(clips):
        return clips.mean(dim=(2, 3, 4))

    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(encoder)
    alone, together = (
        TSEExtractor(encoder, frame_size=8, n_jobs=n_jobs).transform(videos) for n_jobs in (1, 4)
    )
    np.testing.assert_array_equal(together.frames, alone.frames)


def test_it_needs_no_fitting_and_pickles(videos, tmp_path):
    extractor = TSEExtractor(torch.nn.Flatten(), frame_size=8, clip_length=2)
    expected = extractor.transform(videos)
    joblib.dump(extractor, tmp_path / "extractor.joblib")
    loaded = joblib.load(tmp_path / "extractor.joblib")
    for same in (loaded, loaded.fit(videos)):
        np.testing.assert_array_equal(same.transform(videos).frames, expected.frames)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("clip.mp4", TypeError, r"X is a single path, expected a list .* \['clip.mp4'\]"),
        ([], ValueError, r"0 sample\(s\)"),
        (np.zeros((4, 6, 8, 3), np.uint8), ValueError, r"X is a single video .* pass \[X\]"),
        (pd.DataFrame({"path": ["a.mp4"]}), TypeError, "X is a DataFrame, .* pass one column"),
        ([3], TypeError, r"X\[0\] is of type int, expected the path of a video or an array"),
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


@pytest.mark.fault(72)
def test_embeddings_that_are_not_finite_are_refused_with_the_video(videos):
    def encoder(clips):
        embeddings = mean_color(clips)
        embeddings[-1] = torch.nan
        return embeddings

    plan = plan_of(videos[2], width=1 / 5, stride=1 / 40, clip_length=16)
    window = int(np.argmax(plan.window_clips[:, 0, 0] == len(plan.clip_frames) - 1))
    message = rf"NaN or infinity for window {window} of X\[2\] \(an array\)"
    with pytest.raises(ValueError, match=message):
        TSEExtractor(encoder, frame_size=None, batch_size=1000).transform(videos)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("width", None),
        ("stride", [1]),
        ("clip_length", 0),
        ("layout", "THWC"),
        ("frame_size", 0),
        ("batch_size", 0),
        ("encoder", 3),
        ("features", "all"),
        ("autocast", "float32"),
        ("on_error", "ignore"),
        ("n_jobs", 1.5),
        ("store", 3),
    ],
)
def test_parameters_are_checked_when_used_and_not_before(parameter, value, videos):
    extractor = TSEExtractor(**{"encoder": mean_color, parameter: value})
    with pytest.raises(ValueError, match=f"The '{parameter}' parameter of TSEExtractor must"):
        extractor.fit(videos)
    with pytest.raises(ValueError, match=f"The '{parameter}' parameter of TSEExtractor must"):
        extractor.transform(videos)


@pytest.mark.slow
def test_without_torch_it_says_what_to_install_once_torch_is_needed(tmp_path):
    code = """
import pickle, sys

class NoTorch:  # None in sys.modules would be mistaken for a module by SciPy
    def find_spec(name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoTorch)
import numpy as np
from sklearn.base import clone
from skdejavid import TSEExtractor
from skdejavid.video import clips, pipeline

extractor = clone(TSEExtractor(len, store="store", encoder_id="len"))
assert extractor.encoder is len
assert "encoder_id" in repr(pickle.loads(pickle.dumps(extractor)))
videos = [np.zeros((4, 8, 8, 3), np.uint8)]
methods = [extractor.fit, extractor.transform, extractor.fit_transform, extractor.extract]
methods += [clone(extractor).set_params(store=None).transform]
methods += [lambda X: extractor.encoder_fingerprint()]
for method in methods:
    try:
        method(videos)
    except ImportError as error:
        print(error)
"""
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
    message = "TSEExtractor needs torch, which is not installed: pip install 'skdejavid[video]'"
    assert printed.splitlines() == [message] * 6
    assert not list(tmp_path.iterdir())


def test_scikit_learns_check_of_the_constructor():
    check_do_not_raise_errors_in_init_or_set_params("TSEExtractor", TSEExtractor(mean_color))


def test_ids_are_those_of_the_store(videos, tmp_path):
    extractor = TSEExtractor(mean_color, frame_size=8, store=tmp_path / "s", encoder_id="mean")
    ids = [f"video {i}" for i in range(len(videos))]
    X = extractor.transform(videos, ids=ids)
    store = TSEStore(tmp_path / "s")
    assert sorted(store.ids) == sorted(ids)
    np.testing.assert_array_equal(X.frames, store.sequences(ids).frames)


def test_ids_without_a_store_are_refused_with_the_remedy(videos):
    with pytest.raises(ValueError, match=r"but the parameter store is None: set it to the folder"):
        TSEExtractor(mean_color, frame_size=8).transform(videos, ids=["a"] * len(videos))


def test_the_first_line_says_what_is_done(videos, tmp_path, capsys):
    settings = {"frame_size": 8, "width": 4, "stride": 2, "clip_length": 2, "verbose": 1}
    stored = {"store": tmp_path / "s", "encoder_id": "mean"}
    extractor = TSEExtractor(mean_color, **settings, **stored)
    extractor.transform(videos)
    first = capsys.readouterr().err.splitlines()[0]
    assert first == (
        f"encoding {len(videos)} video(s) with mean_color: windows of width 4, stride 2, 2 "
        f"frame(s) each, layout BCTHW, batch_size 8, store {tmp_path / 's'}"
    )
    extractor.transform(videos)
    shown = capsys.readouterr().err
    assert shown == f"the store {tmp_path / 's'} has all {len(videos)} video(s)\n"


def test_the_first_line_names_the_device_of_a_module(videos, capsys):
    TSEExtractor(
        torch.nn.Flatten(), frame_size=8, clip_length=1, device="cpu", verbose=1
    ).transform(videos[:1])
    assert "encoding 1 video(s) with Flatten on cpu: windows of" in capsys.readouterr().err


def test_progress_is_shown_only_when_asked_for(videos, capsys):
    TSEExtractor(mean_color, frame_size=8).transform(videos)
    assert capsys.readouterr() == ("", "")
    TSEExtractor(mean_color, frame_size=8, verbose=1).transform(videos)
    shown = capsys.readouterr().err
    assert "videos" in shown
    assert re.search(r"\d windows/s, waits for decoding \d+%, encoder \d+%", shown)


def test_embeddings_of_another_width_are_refused_with_the_video(rng):
    videos = [rng.integers(0, 256, size=(4, *size, 3), dtype=np.uint8) for size in ((4, 4), (6, 6))]
    extractor = TSEExtractor(torch.nn.Flatten(), frame_size=None, clip_length=1)
    with pytest.raises(ValueError, match=r"108 features for X\[1\] \(an array\), but 48 before"):
        extractor.transform(videos)


def test_windows_of_differing_length_are_refused_before_any_work(videos):
    extractor = TSEExtractor(mean_color, width=0.2, clip_length=None)
    with pytest.raises(ValueError, match="clip_length must be set if width is a fraction"):
        extractor.fit(videos)


@pytest.mark.fault(72)
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


def test_windows_that_mean_nothing_are_refused_before_any_work(videos):
    for windows in ({"width": 0}, {"width": 1.5}, {"stride": 0.0}, {"width": "1"}, {"stride": "s"}):
        (name,) = windows
        with pytest.raises(ValueError, match=name):
            TSEExtractor(mean_color, **windows).fit(videos)
    with pytest.raises(ValueError, match=r"X\[1\] \(an array\) has no timestamps"):
        TSEExtractor(mean_color, width="1s").transform(["a.mp4", videos[0]])


@pytest.mark.parametrize("size", [(8, 16), (8, 8, 8), (0, 0), (8.5, 8), "8"])
def test_sizes_of_frames_that_mean_nothing_are_refused(size, videos):
    with pytest.raises(ValueError, match="frame_size"):
        TSEExtractor(mean_color, frame_size=size).fit(videos)


def test_a_pair_scales_to_one_size_and_crops_to_another(videos):
    shapes = []

    def encoder(clips):
        shapes.append(tuple(clips.shape))
        return mean_color(clips)

    TSEExtractor(encoder, frame_size=(10, 6), width=2, stride=2, clip_length=None).transform(videos)
    assert {shape[1:] for shape in shapes} == {(3, 2, 6, 6)}


def test_parallel_windows_are_joined_frame_by_frame(videos):
    """The paper's settings for Something-Something V2."""
    widths = (2, 5, 1.0)
    options = {"stride": 1, "clip_length": 3, "frame_size": None}
    X = TSEExtractor(mean_color, width=widths, **options).transform(videos)
    assert X.lengths.tolist() == [len(video) for video in videos]
    assert X.n_features == 9
    for sequence, video in zip(X, videos, strict=True):
        plan = plan_of(video, width=widths, stride=1, clip_length=3)
        for k in range(3):
            shown = plan.clip_frames[plan.window_clips[:, k, 0]]
            expected = video[shown].mean(axis=(1, 2, 3)) / 255
            np.testing.assert_allclose(sequence[:, 3 * k : 3 * k + 3], expected, rtol=1e-5)


def test_an_encoder_of_images_sees_each_frame_once(videos):
    n_images = []

    def encoder(images):
        n_images.append(len(images))
        return images.mean(dim=(2, 3))

    options = {"width": 6, "stride": 2, "clip_length": 3, "frame_size": None}
    X = TSEExtractor(encoder, layout="BCHW", batch_size=4, **options).transform(videos)
    seen = [
        np.unique(plan_of(v, width=6, stride=2, clip_length=3).clip_frames).size for v in videos
    ]
    assert sum(n_images) == sum(seen)
    assert max(n_images) == 4
    expected = TSEExtractor(mean_color, layout="BCTHW", **options).transform(videos)
    np.testing.assert_allclose(X.frames, expected.frames, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_results_do_not_depend_on_jobs(n_jobs, tmp_path):
    arrays, _ = make_order_videos(5, random_state=0)
    for i, frames in enumerate(arrays):
        write_video(tmp_path / f"{i}.mp4", frames)
    paths = sorted(tmp_path.glob("*.mp4"))
    options = {"frame_size": 32, "width": (4, 16), "stride": 2, "clip_length": 4}
    expected = TSEExtractor(mean_color, **options).transform(paths)
    X = TSEExtractor(mean_color, n_jobs=n_jobs, **options).transform(paths)
    np.testing.assert_array_equal(X.frames, expected.frames)


def test_features_have_names_and_no_container_is_forced_on_them(videos):
    extractor = TSEExtractor(mean_color, frame_size=None)
    with pytest.raises(NotFittedError):
        extractor.get_feature_names_out()
    with config_context(transform_output="pandas"):
        X = extractor.set_output(transform="pandas").fit_transform(videos)
    assert isinstance(X, TSEArray)
    assert extractor.get_feature_names_out().tolist() == [f"tseextractor{k}" for k in range(3)]


@pytest.fixture
def files(tmp_path):
    """Six numbered videos, of which the third and the fifth are broken."""
    paths = [tmp_path / f"{i}.mp4" for i in range(6)]
    for i, path in enumerate(paths):
        write_video(path, numbered(10 + i))
    paths[2].write_bytes(b"nothing")
    content = paths[4].read_bytes()
    paths[4].write_bytes(content[: len(content) // 2])
    return paths


@pytest.mark.parametrize("has_store", [False, True])
def test_broken_videos_are_left_out_and_reported(has_store, files, tmp_path):
    store = tmp_path / "store" if has_store else None
    extractor = TSEExtractor(
        mean_color, frame_size=8, on_error="skip", store=store, encoder_id="mean color"
    )
    X = extractor.transform(files)
    assert extractor.kept_.tolist() == [0, 1, 3, 5]
    assert [failure.id for failure in extractor.failures_] == [str(files[2]), str(files[4])]
    assert all(failure.cause for failure in extractor.failures_)
    alone = TSEExtractor(mean_color, frame_size=8).transform([files[i] for i in extractor.kept_])
    np.testing.assert_allclose(X.frames, alone.frames, rtol=1e-6)
    with pytest.warns(
        UserWarning, match=r"2 videos are left out, see failures_: X\[[24]\] \("
    ) as told:
        TSEExtractor(mean_color, frame_size=8, on_error="warn").transform(files)
    (warning,) = told
    assert warning.filename == __file__  # the line that called the extractor
    with pytest.raises(VideoDecodeError, match=r"2\.mp4"):
        extractor.set_params(on_error="raise").transform(files)


def test_nothing_left_is_an_error(files):
    extractor = TSEExtractor(mean_color, on_error="skip")
    with pytest.raises(ValueError, match=r"be encoded; the first error: .*2\.mp4"):
        extractor.transform([files[2]])


class Counting(torch.nn.Module):
    """Encoder of mean colors that counts the clips of all its instances."""

    seen = 0

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, clips):
        type(self).seen += len(clips)
        return self.factor * clips.mean(dim=(2, 3, 4))


@pytest.fixture
def counting():
    Counting.seen = 0
    return Counting()


def test_a_store_is_filled_once(counting, files, tmp_path):
    paths = [files[i] for i in (0, 1, 3, 5)]
    options = {"frame_size": 8, "batch_size": 5}
    expected = TSEExtractor(counting, **options).transform(paths)
    n_seen, Counting.seen = Counting.seen, 0
    extractor = TSEExtractor(counting, store=tmp_path / "store", **options)
    for _ in range(2):
        X = extractor.transform(paths)
        assert Counting.seen == n_seen
        np.testing.assert_array_equal(X.frames, expected.frames)
        np.testing.assert_array_equal(X.spans, expected.spans)
    assert isinstance(X.frames, np.memmap)
    some = clone(extractor).transform([paths[2], paths[0], paths[2]])
    assert Counting.seen == n_seen
    for sequence, k in zip(some, (2, 0, 2), strict=True):
        np.testing.assert_array_equal(sequence, expected[k])
    extractor.transform([np.zeros((5, 12, 12, 3), np.uint8)])
    assert n_seen < Counting.seen <= n_seen + 33
    assert len(TSEStore(tmp_path / "store")) == 5


@pytest.mark.parametrize("call", ["fit", "transform", "extract", "store"])
def test_each_call_loads_the_encoder_once(call, counting, videos, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(settings, "load_encoder", lambda name: loaded.append(name) or counting)
    store = tmp_path / "store" if call in ("extract", "store") else None
    extractor = TSEExtractor("a name", frame_size=8, store=store)
    getattr(extractor, "transform" if call == "store" else call)(videos)
    assert loaded == ["a name"]


def test_a_grid_search_encodes_each_video_once(counting, tmp_path):
    arrays, y = make_order_videos(24, size=16, random_state=0)
    y = y % 2
    extractor = TSEExtractor(counting, frame_size=16, store=tmp_path / "store")
    once = TSEExtractor(counting, frame_size=16).transform(arrays)
    n_seen, Counting.seen = Counting.seen, 0
    pipeline = make_pipeline(extractor, DejaVidClassifier(n_epochs=1, random_state=0))
    grid = {"dejavidclassifier__n_timesteps": [2, 4]}
    X = np.empty(24, dtype=object)
    X[:] = arrays
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert Counting.seen == n_seen
    assert search.best_estimator_[0].encoder is counting
    np.testing.assert_array_equal(search.best_estimator_[0].transform(arrays).frames, once.frames)


def test_searching_for_windows_takes_a_store_for_each(counting, videos, tmp_path):
    extractor = TSEExtractor(counting, frame_size=8, store=str(tmp_path / "{fingerprint}"))
    for stride in (2, 3, 2):
        extractor.set_params(width=4, stride=stride).transform(videos)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"width": 3}, "width"),
        ({"clip_length": 3}, "clip_length"),
        ({"frame_size": 9}, "frame_size"),
        ({"mean": [0.1, 0.2, 0.3]}, "mean"),
        ({"store_dtype": "float16"}, "dtype"),
        ({"encoder": Counting().requires_grad_(False).double()}, "encoder"),
    ],
)
def test_a_store_of_another_encoder_or_other_windows_is_refused(
    parameters, field, videos, tmp_path
):
    extractor = TSEExtractor(Counting(), frame_size=8, store=tmp_path / "store")
    extractor.transform(videos)
    with pytest.raises(ValueError, match=field):
        extractor.set_params(**parameters).transform(videos)


def test_a_file_that_was_changed_is_noticed(counting, files, tmp_path):
    extractor = TSEExtractor(counting, frame_size=8, store=tmp_path / "store")
    X = extractor.transform(files[:2])
    write_video(files[1], numbered(30))
    with pytest.raises(ValueError, match=r"X\[0\] \(.*1\.mp4\) has .* bytes, but had"):
        extractor.transform(files[1:2])
    files[0].unlink()  # stored sequences do not need their videos
    np.testing.assert_array_equal(extractor.transform(files[:1]).frames, X[0])


def test_failures_are_remembered_until_the_file_changes(counting, files, tmp_path):
    extractor = TSEExtractor(counting, frame_size=8, store=tmp_path / "store", on_error="skip")
    extractor.transform(files)
    n_seen = Counting.seen
    extractor.transform(files)
    assert Counting.seen == n_seen
    assert len(extractor.failures_) == 2
    write_video(files[2], numbered(12))
    assert len(extractor.transform(files)) == 5
    assert [Path(failure.id).name for failure in extractor.failures_] == ["4.mp4"]


def write_raw(path, value, modified=10**9, n_frames=5):
    """Write a video whose size does not depend on its content."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr24"
        for _ in range(n_frames):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), value, np.uint8), "bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    os.utime(path, (modified, modified))


@pytest.fixture
def raw(tmp_path):
    """Two videos of the same size, and an extractor with a store."""
    paths = [tmp_path / "a.avi", tmp_path / "b.avi"]
    for path, value in zip(paths, (50, 200), strict=True):
        write_raw(path, value)
    assert paths[0].stat().st_size == paths[1].stat().st_size
    options = {"width": 1, "stride": 1, "clip_length": 1, "frame_size": 8, "on_error": "skip"}
    extractor = TSEExtractor(mean_color, encoder_id="x", store=tmp_path / "store", **options)
    return *paths, extractor


def brightness(X):
    return [round(float(x[0].mean()) * 255) for x in X]


@pytest.mark.fault(131)
def test_another_video_of_the_same_size_is_noticed(raw):
    first, _, extractor = raw
    assert brightness(extractor.transform([first])) == [50]
    write_raw(first, 50, modified=10**9 + 5)  # copied
    assert brightness(extractor.transform([first])) == [50]
    write_raw(first, 200, modified=10**9 + 5)
    with pytest.raises(ValueError, match=r"a\.avi\) has another content than when it was encoded"):
        extractor.transform([first])
    write_raw(first, 200)  # same time
    assert brightness(extractor.transform([first])) == [50]
    with pytest.raises(ValueError, match="another content"):
        extractor.set_params(check_content=True).transform([first])


@pytest.mark.fault(131)
def test_a_video_that_was_just_written_and_replaced_is_noticed(raw):
    first, second, extractor = raw
    os.utime(first)
    extractor.transform([first])
    os.replace(second, first)
    os.utime(first)
    with pytest.raises(ValueError, match="another content"):
        extractor.transform([first])


@pytest.mark.fault(131)
def test_a_download_whose_space_was_allocated_beforehand_is_tried_again(raw):
    path, whole, extractor = raw
    path.write_bytes(bytes(whole.stat().st_size))
    assert brightness(extractor.transform([path, whole])) == [200]
    assert [failure.id for failure in extractor.failures_] == [str(path)]
    path.write_bytes(whole.read_bytes())
    assert brightness(extractor.transform([path, whole])) == [200, 200]
    assert extractor.failures_ == []


@pytest.mark.fault(131)
@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.EIO, errno.ESTALE])
def test_errors_that_pass_are_reported_and_not_remembered(code, raw, monkeypatch):
    path, other, extractor = raw
    real = opening.open_regular_file

    def fail(name):
        if os.fspath(name) == str(path):
            raise OSError(code, os.strerror(code), str(path))
        return real(name)

    monkeypatch.setattr(opening, "open_regular_file", fail)
    assert brightness(extractor.transform([path, other])) == [200]
    assert [failure.id for failure in extractor.failures_] == [str(path)]
    assert os.strerror(code) in extractor.failures_[0].cause
    monkeypatch.undo()
    assert brightness(extractor.transform([path, other])) == [50, 200]


@pytest.mark.fault(131)
def test_what_parameters_refuse_others_may_allow(raw):
    path, other, extractor = raw
    write_raw(other, 99, n_frames=3)
    extractor.set_params(width=4, stride=4, clip_length=4, short="raise")
    assert len(extractor.transform([path, other])) == 1
    assert len(extractor.set_params(short="pad").transform([path, other])) == 2


@pytest.mark.fault(131)
def test_a_video_that_changes_while_it_is_read_is_no_sequence(raw, monkeypatch):
    path, other, extractor = raw
    real = pipeline.read_frames

    def read(video, spec, n_threads):
        yield from real(video, spec, n_threads=n_threads)
        if video == str(path):
            write_raw(path, 77, modified=10**9 + 1)

    monkeypatch.setattr(pipeline, "read_frames", read)
    for store in (extractor.store, None):
        extractor.set_params(store=store)
        write_raw(path, 50)
        assert brightness(extractor.transform([path, other])) == [200]
        assert "changed while it was read" in extractor.failures_[0].cause
    monkeypatch.undo()
    extractor.set_params(store=store)
    assert brightness(extractor.transform([path, other])) == [77, 200]


@pytest.mark.fault(131)
def test_an_interrupted_video_that_was_replaced_begins_anew(raw):
    """Its partial sequence belongs to the content that it had."""
    path, _, extractor = raw

    def encode(clips):
        n_calls.append(1)
        if len(n_calls) == 3:
            raise KeyboardInterrupt
        return mean_color(clips)

    n_calls = []
    extractor.set_params(encoder=encode, batch_size=1, n_jobs=1)
    with pytest.raises(KeyboardInterrupt):
        extractor.transform([path])
    write_raw(path, 200, modified=10**9 + 1)
    X = extractor.transform([path])
    assert [round(float(row.mean()) * 255) for row in X[0]] == [200] * 5


@pytest.fixture
def arrays(tmp_path):
    """Two arrays of one shape, and an extractor with a store."""
    videos = [np.full((5, 8, 8, 3), value, np.uint8) for value in (50, 200)]
    options = {"width": 1, "stride": 1, "clip_length": 1, "frame_size": 8, "n_jobs": 1}
    return *videos, TSEExtractor(mean_color, encoder_id="x", store=tmp_path / "store", **options)


@pytest.mark.fault(131)
@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 4, 16), (6, 8, 8)])
def test_another_array_under_an_id_of_the_store_is_an_error(shape, arrays, tmp_path):
    first, _, extractor = arrays
    other = np.full((*shape, 3), 50 if shape == (5, 4, 16) else 200, np.uint8)
    extractor.extract([first], ids=["a"])
    mapped = np.memmap(tmp_path / "frames", np.uint8, "w+", shape=first.shape)
    mapped[:] = first
    for same in (first, np.asfortranarray(first), mapped, torch.from_numpy(first)):
        assert brightness(extractor.extract([same], ids=["a"]).sequences(["a"])) == [50]
    message = r"X\[0\] \(an array\) has .* the array is another\..* another id .* than 'a'"
    for videos, ids in (([other], ["a"]), ([other, first], ["a", "b"])):
        with pytest.raises(ValueError, match=message):
            extractor.extract(videos, ids=ids)
    assert TSEStore(extractor.store).ids == ["a"]


@pytest.mark.fault(131)
def test_an_array_and_a_file_under_one_id_are_two_videos(arrays, raw):
    path, array, extractor = raw[0], *arrays[1:]
    store = extractor.extract([array, path], ids=["array", "file"])
    assert brightness(store.sequences(["array", "file"])) == [200, 50]
    with pytest.raises(ValueError, match=r"\) is a file, but an array was encoded: it is another"):
        extractor.extract([path], ids=["array"])
    with pytest.raises(ValueError, match=r"\) is a file, but an array was encoded: it is another"):
        extractor.extract(["nowhere.mp4"], ids=["array"])
    with pytest.raises(ValueError, match=r"\) is an array, but a file was encoded: it is another"):
        extractor.extract([array], ids=["file"])


def interrupt_third_call(extractor, video, ids):
    """Extract a video until its encoder is called for the third time; return its list of calls."""
    n_calls = []

    def encode(clips):
        n_calls.append(1)
        if len(n_calls) == 3:
            raise KeyboardInterrupt
        return mean_color(clips)

    extractor.set_params(encoder=encode, batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        extractor.extract([video], ids=ids)
    return n_calls


@pytest.mark.fault(131)
@pytest.mark.parametrize("kinds", ["arrays", "array, then file", "file, then array"])
@pytest.mark.parametrize("ids", [None, ["a"]])
def test_an_interrupted_video_is_not_resumed_with_another(ids, kinds, arrays, raw):
    first, second, extractor = arrays
    if kinds == "array, then file":
        second = raw[1]
    elif kinds == "file, then array":
        first = raw[0]
    n_calls = interrupt_third_call(extractor, first, ids=ids)
    X = extractor.extract([second], ids=ids).sequences()
    assert [round(float(row.mean()) * 255) for row in X[0]] == [200] * 5
    assert len(n_calls) == 3 + 5


@pytest.mark.fault(131)
def test_an_interrupted_array_is_resumed_with_itself(arrays):
    first, _, extractor = arrays
    n_calls = interrupt_third_call(extractor, first, ids=["a"])
    assert brightness(extractor.extract([first.copy()], ids=["a"]).sequences()) == [50]
    assert len(n_calls) == 3 + 3


@pytest.mark.fault(131)
def test_a_failed_array_is_tried_again_if_it_is_another(arrays):
    first, second, extractor = arrays
    n_calls = []

    def encode(clips):
        n_calls.append(1)
        values = mean_color(clips)
        return values if float(values.max()) > 0.5 else values * np.nan

    extractor.set_params(encoder=encode, on_error="skip", batch_size=8)
    for _ in range(2):
        assert len(extractor.extract([first], ids=["a"])) == 0
        assert [failure.id for failure in extractor.failures_] == ["a"]
        assert len(n_calls) == 1
    assert brightness(extractor.extract([second], ids=["a"]).sequences()) == [200]
    assert extractor.failures_ == []


@pytest.mark.fault(131)
def test_arrays_of_a_store_are_compared_with_those_that_were_encoded(arrays):
    first, second, extractor = arrays
    store = extractor.extract([first, second], ids=["a", "b"])
    assert store.verify(extractor, {"a": first, "b": second}).not_compared == {}
    found = store.verify(extractor, {"a": first, "b": first})
    assert (found.ids, list(found.not_compared)) == (["a"], ["b"])
    assert "another array than the one that was encoded" in found.not_compared["b"]
    with pytest.raises(ValueError, match=r"none of the videos can be .* a \(it is another array"):
        store.verify(extractor, {"a": second})


@pytest.mark.fault(131)
@pytest.mark.parametrize("policy", ["skip", "warn", "raise"])
def test_a_stored_file_that_cannot_be_read_for_comparison_is_an_error_of_that_video(
    policy, raw, monkeypatch
):
    path, other, extractor = raw
    extractor.transform([path, other])
    os.utime(path)
    real = identity.open_regular_file

    def fail(name):
        if os.fspath(name) == str(path):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(name)

    monkeypatch.setattr(identity, "open_regular_file", fail)
    extractor.set_params(on_error=policy)
    if policy == "raise":
        with pytest.raises(PermissionError, match=r"a\.avi"):
            extractor.transform([path, other])
        return
    told = pytest.warns(UserWarning, match=r"a\.avi is left out: .* cannot be compared with")
    with told if policy == "warn" else nullcontext():
        assert brightness(extractor.transform([path, other])) == [200]
    assert extractor.kept_.tolist() == [1]
    assert [failure.id for failure in extractor.failures_] == [str(path)]
    monkeypatch.undo()
    assert brightness(extractor.transform([path, other])) == [50, 200]


@pytest.mark.fault(131)
def test_a_failure_of_another_shard_is_not_tried_again(counting, files, tmp_path):
    extractor = TSEExtractor(
        counting, frame_size=8, store=tmp_path / "store", on_error="skip", n_jobs=1
    )

    class Broken(Nothing):
        seen = 0

    extractor.set_params(encoder=Broken(), encoder_id="x")
    extractor.extract(files[:2], shard=(1, 2))
    n_seen = Broken.seen
    assert not TSEStore(extractor.store).is_complete
    with pytest.raises(ValueError, match="NaN or infinity"):
        extractor.transform(files[1:2])
    assert Broken.seen == n_seen > 0
    extractor.set_params(encoder=counting, retry_failures=True)
    assert len(extractor.transform(files[1:2])) == 1  # into the first shard
    assert extractor.failures_ == []
    assert TSEStore(extractor.store).failures == []


@pytest.mark.fault(131)
def test_failures_are_tried_again_if_asked_for(counting, files, tmp_path):
    options = {"frame_size": 8, "store": tmp_path / "store", "on_error": "skip"}
    extractor = TSEExtractor(Nothing(), **options)
    with pytest.raises(ValueError, match="NaN or infinity"):
        extractor.transform(files[:2])
    n_seen = Nothing.seen
    with pytest.raises(ValueError, match="NaN or infinity"):
        extractor.transform(files[:2])
    assert Nothing.seen == n_seen
    with pytest.raises(ValueError, match="NaN or infinity"):
        extractor.set_params(retry_failures=True).transform(files[:2])
    assert Nothing.seen == 2 * n_seen


class Nothing(torch.nn.Module):
    """Encoder of NaN that counts clips."""

    seen = 0

    def forward(self, clips):
        type(self).seen += len(clips)
        return clips.mean(dim=(2, 3, 4)) * np.nan


def test_a_store_is_compared_with_its_videos(counting, files, tmp_path):
    extractor = TSEExtractor(counting, frame_size=8, store=tmp_path / "store")
    paths = [files[i] for i in (0, 1, 3, 5)]
    X = extractor.transform(paths)
    store = TSEStore(tmp_path / "store")
    assert store.fingerprint == extractor.store_fingerprint()
    found = store.verify(extractor, sample=3)
    assert len(found.ids) == 3
    assert found.largest_difference < 1e-6
    np.testing.assert_array_equal(extractor.transform(paths).frames, X.frames)
    with pytest.raises(ValueError, match="created with different settings"):
        store.verify(clone(extractor).set_params(width=3))
    files[0].unlink()
    files[1].write_bytes(files[3].read_bytes())
    found = store.verify(extractor, sample=None)
    assert found.ids == [str(files[3]), str(files[5])]
    assert list(found.not_compared) == [str(files[0]), str(files[1])]


@pytest.mark.fault(136)
def test_only_the_videos_that_are_asked_for_are_returned(counting, files, tmp_path):
    extractor = TSEExtractor(counting, frame_size=8, store=tmp_path / "store")
    whole = extractor.transform([files[0], files[1], files[3]])
    X = extractor.transform([files[3], files[0]])
    assert len(X) == 2
    np.testing.assert_array_equal(X[0], whole[2])
    assert len(extractor.extract([files[3]])) == 3  # the store has what it had


@pytest.mark.fault(65)
def test_ranks_fill_one_store(counting, files, tmp_path):
    paths = [files[i] for i in (0, 1, 3, 5)]
    extractor = TSEExtractor(counting, frame_size=8, store=tmp_path / "store")
    ids = list("abcd")
    twice = TSEExtractor(counting, frame_size=8, store=tmp_path / "twice")
    for rank in (0, 1):  # a repeated video is encoded by one rank only
        twice.extract([paths[0], paths[0], paths[1]], shard=(rank, 2))
    assert twice.extract(paths[:2]).ids == [str(paths[0]), str(paths[1])]
    assert Counting.seen == 2 * 33
    extractor.extract(paths, ids=ids, shard=(1, 2))
    with pytest.raises(ValueError, match="complete"):
        TSEStore(tmp_path / "store").sequences()
    store = extractor.extract(paths, ids=ids, shard=(0, 2))
    assert store.ids == ids
    whole = TSEExtractor(counting, frame_size=8).transform(paths)
    np.testing.assert_allclose(store.sequences().frames, whole.frames, rtol=1e-6)
    n_seen = Counting.seen
    again = extractor.extract(paths, ids=ids)  # with the existing number of shards
    assert Counting.seen == n_seen
    assert again.ids == ids
    with pytest.raises(ValueError, match="n_shards is 2 in the store, but 3 was requested"):
        extractor.extract(paths, ids=ids, shard=(0, 3))


@pytest.mark.fault(75)
def test_extracting_needs_a_store_and_ids_for_all(files, tmp_path):
    with pytest.raises(ValueError, match="extract needs the parameter store"):
        TSEExtractor(mean_color).extract(files)
    extractor = TSEExtractor(mean_color, store=tmp_path / "store")
    with pytest.raises(ValueError, match="ids has 1 items, but X has 2"):
        extractor.extract(files[:2], ids=["a"])
    with pytest.raises(ValueError, match=r"ids\[1\] .*'a'"):
        extractor.extract(files[:2], ids=["a", "a"])
    for shard in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="shard must be"):
            extractor.extract(files[:2], shard=shard)


def test_a_pickled_extractor_needs_no_store(counting, videos, tmp_path):
    extractor = TSEExtractor(counting, frame_size=8, store=tmp_path / "store")
    expected = extractor.fit_transform(videos)
    values = expected.frames.copy()
    joblib.dump(extractor, tmp_path / "extractor.joblib")
    shutil.rmtree(tmp_path / "store")
    loaded = joblib.load(tmp_path / "extractor.joblib")
    np.testing.assert_array_equal(loaded.transform(videos).frames, values)


WORK = """
import sys, torch
from skdejavid import TSEExtractor

class Slow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 4, 5)
    def forward(self, images):
        with open(sys.argv[2], "a") as log:
            log.write(f"{len(images)}\\n")
        return self.layer(images).mean(dim=(2, 3)).relu()

def make(store):
    return TSEExtractor(
        Slow(), layout="BCHW", width=(4, 8, 1.0), stride=1, clip_length=4, frame_size=48,
        batch_size=3, store=store, encoder_id="slow",
    )

if __name__ == "__main__":
    make(sys.argv[1]).transform(sys.argv[3:])
"""


@pytest.mark.slow
@pytest.mark.fault(59)
def test_killed_at_any_moment_it_goes_on_as_if_nothing_had_happened(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    arrays, _ = make_order_videos(6, size=48, random_state=0)
    paths = [str(tmp_path / f"{i}.mp4") for i in range(6)]
    for path, frames in zip(paths, arrays, strict=True):
        write_video(path, frames)

    def start(name):
        command = [sys.executable, tmp_path / "work.py", tmp_path / name, tmp_path / f"{name}.log"]
        return subprocess.Popen([*command, *paths], stderr=subprocess.PIPE, text=True)

    def n_encoded(name):
        log = tmp_path / f"{name}.log"
        return sum(map(int, log.read_text().split())) if log.exists() else 0

    process = start("whole")
    _, printed = process.communicate()
    assert process.returncode == 0, printed
    whole = TSEStore(tmp_path / "whole")
    rng = np.random.default_rng(0)
    n_kills = 0
    goals = np.sort(rng.integers(0, n_encoded("whole"), size=5))
    for goal in goals:
        process = start("killed")
        while process.poll() is None and n_encoded("killed") < goal:
            time.sleep(0.001)
        n_kills += process.poll() is None
        process.kill()
        process.communicate()
    process = start("killed")
    _, printed = process.communicate()
    assert process.returncode == 0, printed
    assert n_kills >= 3
    killed = TSEStore(tmp_path / "killed")
    assert killed.ids == whole.ids == paths
    np.testing.assert_array_equal(killed.sequences().frames, whole.sequences().frames)
    np.testing.assert_array_equal(killed.sequences().spans, whole.sequences().spans)
    assert n_encoded("killed") <= n_encoded("whole") + 3 * n_kills  # unfinished batches


@pytest.mark.slow
@pytest.mark.parametrize("error", ["RuntimeError", "KeyboardInterrupt"])
def test_an_error_of_the_encoder_ends_the_process(error, tmp_path):
    """Threads that read ahead must not keep the process alive."""
    code = f"""
import numpy as np
from skdejavid import TSEExtractor

def broken(images):
    raise {error}("on purpose")

videos = [np.zeros((3000, 128, 128, 3), np.uint8)] * 4  # more than may wait
windows = dict(width=1, stride=1, clip_length=1, frame_size=None)
TSEExtractor(broken, layout="BCHW", n_jobs=2, **windows).transform(videos)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode != 0
    assert f"{error}: on purpose" in done.stderr


@pytest.mark.fault(68, 71)
@pytest.mark.parametrize("parameters", [{"short": "raise"}, {"max_pixels": 32 * 48}])
def test_videos_that_parameters_refuse_are_errors_or_left_out(parameters):
    videos = [np.zeros((6, 32, 48, 3), np.uint8), np.zeros((4, 33, 48, 3), np.uint8)]
    extractor = TSEExtractor(
        lambda clips: clips.mean(dim=(2, 3, 4)), width=5, stride=1, clip_length=None, **parameters
    )
    with pytest.raises(ValueError, match=r"X\[1\]|the video"):
        extractor.transform(videos)
    extractor.set_params(on_error="skip")
    assert len(extractor.transform(videos)) == 1
    assert extractor.kept_.tolist() == [0]
    assert "shorter" in extractor.failures_[0].cause or "pixels" in extractor.failures_[0].cause


@pytest.mark.fault(77, 78, 79, 107)
def test_whatever_stands_for_a_video_is_left_out_and_reported(tmp_path):
    good = tmp_path / "12:30:05.mp4"
    write_video(good, np.zeros((30, 32, 48, 3), np.uint8))
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{good}'\n")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    huge = np.zeros((1, 5000, 5000, 3), np.uint8)
    write_video(tmp_path / "huge.mp4", huge, options={"preset": "ultrafast"})
    causes = {
        "list.mp4": "a list of files",
        "pipe.mp4": "a named pipe",
        "folder.mp4": "find_videos",
        "huge.mp4": "too large for a file",
        "a\0b.mp4": "null byte",
        "nowhere.mp4": "No such file",
    }
    X = [good, *(str(tmp_path / name) for name in causes), str(good)]
    extractor = TSEExtractor(mean_color, on_error="skip", frame_size=32)
    assert len(extractor.transform(X)) == 2
    assert extractor.kept_.tolist() == [0, len(X) - 1]
    assert len(extractor.failures_) == len(causes)
    for failure, cause in zip(extractor.failures_, causes.values(), strict=True):
        assert cause in failure.cause
    for path in X[1:-1]:
        with pytest.raises((OSError, ValueError)):
            TSEExtractor(mean_color, frame_size=32).transform([path])


@pytest.mark.fault(107)
def test_a_folder_instead_of_a_list_is_answered_with_how_to_list_it(tmp_path):
    for folder in (tmp_path, str(tmp_path)):
        with pytest.raises(TypeError, match=r"expected a list of videos: pass find_videos\("):
            TSEExtractor(mean_color).transform(folder)
    with pytest.raises(TypeError, match=r"pass \['a.mp4'\]"):
        TSEExtractor(mean_color).transform("a.mp4")
    with pytest.raises(TypeError, match="X is a single path"):
        TSEExtractor(mean_color).transform("a\0.mp4")
    write_video(tmp_path / "a.mp4", np.zeros((9, 32, 48, 3), np.uint8))
    assert len(TSEExtractor(mean_color).transform(find_videos(tmp_path))) == 1


@pytest.mark.fault(92)
@pytest.mark.parametrize("n_calls", [0, 1, 5])
def test_an_interrupt_leaves_no_thread_and_a_store_that_goes_on(n_calls, tmp_path):
    """The signal arrives in the main thread while others decode."""
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.mp4")
        frames = np.random.default_rng(number).integers(0, 256, (60, 32, 48, 3), dtype=np.uint8)
        write_video(paths[-1], frames)
    calls = []

    def encode(clips):
        calls.append(len(clips))
        if len(calls) == n_calls + 1:
            signal.raise_signal(signal.SIGINT)
        return clips.mean(dim=(2, 3, 4))

    settings = {"frame_size": 32, "batch_size": 7, "n_jobs": 3, "encoder_id": "mean"}
    expected = TSEExtractor(mean_color, **settings).transform(paths)
    extractor = TSEExtractor(encode, store=tmp_path / "store", **settings)
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        extractor.transform(paths)
    assert set(threading.enumerate()) == before
    resumed = extractor.transform(paths)
    np.testing.assert_array_equal(resumed.frames, expected.frames)
    np.testing.assert_array_equal(resumed.spans, expected.spans)
    assert sum(calls) < 2 * 33 * 6


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    code = """
import os, sys
from pathlib import Path
from skdejavid import TSEExtractor
from skdejavid.video import pipeline
from skdejavid.video.progress import Progress

pipeline._BYTES_AHEAD = 2**22  # how much is read ahead depends on what else the machine does
pipeline._BYTES_BETWEEN_RETURNS = 2**23
counted = []

def count(self, count_video=Progress.count_video):
    count_video(self)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    counted.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)

Progress.count_video = count
encoder = lambda clips: clips.mean(dim=(2, 3, 4))
TSEExtractor(encoder, frame_size=96, n_jobs=2).transform(sys.argv[1:] * 100)
print(len(counted), max(counted[50:100]), max(counted[450:]))
"""
    paths = [tmp_path / f"{i}.mp4" for i in range(5)]
    for i, path in enumerate(paths):
        write_video(path, numbered(20 + i, size=96))
    printed = subprocess.check_output(
        [sys.executable, "-P", "-c", code, *paths], cwd=tmp_path, text=True
    )
    n_files, after_100, after_500 = map(float, printed.split())
    assert n_files == 500
    # The frames of the files in between have 400 x 22 x 27 kB = 243 MB.
    assert after_500 < after_100 + 30, printed


def test_the_encoder_gets_each_frame_from_one_conversion(files, monkeypatch):
    """Windows of 16 frames share them."""
    converted, uploaded = [], []
    convert, upload = ToRGB.__call__, Transfers.upload
    monkeypatch.setattr(
        ToRGB, "__call__", lambda self, frame: converted.append(1) or convert(self, frame)
    )
    monkeypatch.setattr(
        Transfers, "upload", lambda self, frame: uploaded.append(1) or upload(self, frame)
    )
    X = TSEExtractor(mean_color, frame_size=8, width=8, stride=1).transform(files[:2])
    assert X.lengths.tolist() == [3, 4]
    assert len(converted) == len(uploaded) == 10 + 11
