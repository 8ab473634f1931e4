"""Classify short videos whose classes differ only in the order of events.

Each video shows a disc, a square and a cross, one after the other; its class is their order. An
encoder is trained on single frames to recognize the shapes, and is then frozen. Its embeddings
averaged over time contain almost no information on the classes; as sequences they do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import AlignmentDisplay, DejaVidClassifier, TSEArray, TSEExtractor
from skdejavid.compat.optional import import_optional
from skdejavid.datasets import EVENTS, make_event_frames, make_order_videos, write_video
from skdejavid.demo.pictures import save_picture

if TYPE_CHECKING:
    import torch
else:
    import_optional("av", "demo", "The demonstration with videos")
    torch = import_optional("torch", "demo", "The demonstration with videos")

__all__ = ["classify_videos"]


def classify_videos(folder: Path, n_train: int = 120, n_test: int = 60) -> Path | None:
    """Print the accuracies, and return the path of a picture in a folder.

    Returns
    -------
    Path or None
        The picture; None without matplotlib.
    """
    print("Videos: in which order do a disc, a square and a cross appear?")
    with _step("training a small encoder to recognize them in single frames"), _one_thread():
        encoder = _train_encoder()
    videos = folder.resolve() / "videos"
    with _step(f"writing {n_train + n_test} H.264 videos to {videos}"):
        paths, y = _write_videos(videos, n_train + n_test)
    with _step("encoding them"), _one_thread():
        extractor = TSEExtractor(
            encoder, layout="BCHW", clip_length=4, frame_size=64, batch_size=32
        )
        X = extractor.fit_transform(paths)
    print(f"  {X}, of {len(set(y))} orders")
    _compare(X, y, n_train)
    return save_picture(folder / "video_alignment.png", lambda: _display_logits(X, y, n_train))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: more would only wait for each other, the network is so small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _step(what: str) -> Iterator[None]:
    """Print what is done, and afterwards how long it took."""
    begin = time.perf_counter()
    print(f"  {what} ...", end="", flush=True)
    yield
    print(f" {time.perf_counter() - begin:.1f} s", flush=True)


def _compare(X: TSEArray, y: NDArray[Any], n_train: int) -> None:
    """Print the test accuracies of averages and of sequences."""
    train, test = np.split(np.arange(len(y)), [n_train])
    means = np.stack([x.mean(axis=0) for x in X])
    averaged = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    score = averaged.fit(means[train], y[train]).score(means[test], y[test])
    print("test accuracy")
    print(f"  {score:.4f}  embeddings averaged over time + logistic regression", flush=True)
    begin = time.perf_counter()
    clf = DejaVidClassifier(random_state=0).fit(X[train], y[train])
    score = clf.score(X[test], y[test])
    seconds = time.perf_counter() - begin
    print(f"  {score:.4f}  DejaVidClassifier(random_state=0), {seconds:.1f} s", flush=True)


def _display_logits(X: TSEArray, y: NDArray[Any], n_train: int) -> AlignmentDisplay:
    """Align a test video by what the encoder takes its frames for, which people can read."""
    logits = TSEArray([x[:, -len(EVENTS) :] for x in X], feature_names=EVENTS)
    clf = DejaVidClassifier(differences=None, random_state=0).fit(logits[:n_train], y[:n_train])
    return AlignmentDisplay.from_estimator(clf, logits[n_train])


class _FrameEncoder(torch.nn.Module):
    """A small convolutional network: pictures to (embedding, logits)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for n_in, n_out in [(3, 16), (16, 32), (32, 64)]:
            convolution = torch.nn.Conv2d(n_in, n_out, kernel_size=3, stride=2, padding=1)
            layers += [convolution, torch.nn.BatchNorm2d(n_out), torch.nn.ReLU()]
        self.body = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        self.head = torch.nn.Linear(64, len(EVENTS))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (n, 64) and logits (n, 4) of images (n, 3, height, width) in [0, 1]."""
        embeddings = self.body(images)
        return embeddings, self.head(embeddings)


def _train_encoder(n_epochs: int = 10) -> _FrameEncoder:
    """Return an encoder that classifies what a single frame shows."""
    torch.manual_seed(0)
    frames, y = make_event_frames(2000, random_state=0)
    images, labels = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255, torch.from_numpy(y)
    encoder = _FrameEncoder()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    for _ in range(n_epochs):
        for batch in torch.randperm(len(images)).split(50):
            _, logits = encoder(images[batch])
            loss = torch.nn.functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return encoder


def _write_videos(folder: Path, n_videos: int) -> tuple[list[Path], NDArray[np.int64]]:
    """Write H.264 files; return their paths and classes."""
    folder.mkdir(parents=True, exist_ok=True)
    videos, y = make_order_videos(n_videos, random_state=1)
    paths = [folder / f"{i:03}.mp4" for i in range(n_videos)]
    for path, frames in zip(paths, videos, strict=True):
        write_video(path, frames, codec="libx264")
    return paths, y
