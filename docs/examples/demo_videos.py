"""Classify short clips whose classes differ only in the order of events.

Each clip shows a disc, a square and a cross, one after the other; its class is their order. An
encoder is trained on single frames to recognize the shapes, and is then frozen. Its embeddings
averaged over time contain almost no information on the classes; as sequences they do.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import DejaVidClassifier, TSEExtractor
from skdejavid.datasets import EVENTS, make_event_frames, make_order_videos, write_video


class FrameEncoder(torch.nn.Module):
    """A small convolutional network: images to (embedding, logits)."""

    def __init__(self):
        super().__init__()
        layers = []
        for n_in, n_out in [(3, 16), (16, 32), (32, 64)]:
            convolution = torch.nn.Conv2d(n_in, n_out, kernel_size=3, stride=2, padding=1)
            layers += [convolution, torch.nn.BatchNorm2d(n_out), torch.nn.ReLU()]
        self.body = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        self.head = torch.nn.Linear(64, len(EVENTS))

    def forward(self, images):
        """Return embeddings (n, 64) and logits (n, 4) of images (n, 3, height, width) in [0, 1]."""
        embeddings = self.body(images)
        return embeddings, self.head(embeddings)


def train_encoder(n_epochs=10):
    """Train the encoder to classify what a single frame shows."""
    torch.manual_seed(0)
    frames, y = make_event_frames(2000, random_state=0)
    images, labels = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255, torch.from_numpy(y)
    encoder = FrameEncoder()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    for _ in range(n_epochs):
        for batch in torch.randperm(len(images)).split(50):
            _, logits = encoder(images[batch])
            loss = torch.nn.functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return encoder


def write_clips(folder, n_videos):
    """Encode clips with H.264 and return their paths and classes."""
    folder.mkdir(parents=True, exist_ok=True)
    videos, y = make_order_videos(n_videos, random_state=1)
    paths = [folder / f"{i:03}.mp4" for i in range(n_videos)]
    for path, frames in zip(paths, videos, strict=True):
        write_video(path, frames, codec="libx264")
    return paths, y


def main(output, n_train, n_test):
    """Run the demonstration; the clips go to the folder `output`."""
    encoder = train_encoder()
    paths, y = write_clips(output / "clips", n_train + n_test)
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    print(
        f"order of events: {len(paths)} H.264 clips ({megabytes:.1f} MB) of {len(set(y))} classes"
    )

    begin = time.perf_counter()
    extractor = TSEExtractor(encoder, layout="BCHW", clip_length=4, frame_size=64, batch_size=32)
    X = extractor.fit_transform(paths)
    print(f"  {X}, extracted in {time.perf_counter() - begin:.1f} s")

    train, test = np.split(np.arange(len(y)), [n_train])
    means = np.stack([x.mean(axis=0) for x in X])
    averaged = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    begin = time.perf_counter()
    clf = DejaVidClassifier(random_state=0).fit(X[train], y[train])
    seconds = time.perf_counter() - begin
    print("test accuracy")
    score = averaged.fit(means[train], y[train]).score(means[test], y[test])
    print(f"  {score:.4f}  the encoder averaged over time + logistic regression")
    print(f"  {clf.score(X[test], y[test]):.4f}  DejaVidClassifier(), fitted in {seconds:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    parser.add_argument("--n-train", type=int, default=240)
    parser.add_argument("--n-test", type=int, default=120)
    arguments = parser.parse_args()
    main(arguments.output, arguments.n_train, arguments.n_test)
