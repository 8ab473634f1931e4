"""
Your own encoder: from video files to classes
=============================================

An *encoder* turns pictures or short clips into vectors, the *embeddings*. Any torch
module can be one. This example trains a very small one, lets it slide over video files,
explains the windows in a picture, and classifies the resulting sequences.

To run it, ``pip install "skdejavid[plot,video]"``.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import DejaVidClassifier, TSEExtractor, TSEStore
from skdejavid.datasets import EVENTS, make_event_frames, make_order_videos, write_video

torch.manual_seed(0)
torch.set_num_threads(1)  # so that the numbers are the same each time
folder = tempfile.TemporaryDirectory()

# %%
# Videos that differ only in the order of events
# ----------------------------------------------
#
# Each generated video shows a disc, a square and a cross, one after the other. Its
# class is their order, one of six. Colors, positions, sizes and durations are random.
# The videos are written with H.264 at 25 frames per second.

videos, y = make_order_videos(90, random_state=1)
paths = [Path(folder.name, f"{i:03}.mp4") for i in range(len(videos))]
for path, frames in zip(paths, videos, strict=True):
    write_video(path, frames)

print(f"{len(paths)} files of {min(map(len, videos))} to {max(map(len, videos))} frames")

# %%
# An encoder
# ----------
#
# Usually the encoder comes from somewhere else, trained on much data. Here a small
# convolutional network learns what a single frame shows: nothing, a disc, a square or a
# cross. It never sees a video. It returns its embedding (32 numbers) and the logits of
# the four events.


class FrameEncoder(torch.nn.Module):
    """Images (n, 3, height, width) to embeddings (n, 32) and logits (n, 4)."""

    def __init__(self):
        super().__init__()
        layers = []
        for n_in, n_out in [(3, 16), (16, 32), (32, 32)]:
            convolution = torch.nn.Conv2d(n_in, n_out, kernel_size=3, stride=2, padding=1)
            layers += [convolution, torch.nn.BatchNorm2d(n_out), torch.nn.ReLU()]
        self.body = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1))
        self.head = torch.nn.Linear(32, len(EVENTS))

    def forward(self, images):
        embeddings = self.body(images).flatten(1)
        return embeddings, self.head(embeddings)


frames, events = make_event_frames(1200, random_state=0)
images = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
events = torch.from_numpy(events)
encoder = FrameEncoder()
optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
for _ in range(8):
    for batch in torch.randperm(len(images)).split(50):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(encoder(images[batch])[1], events[batch]).backward()
        optimizer.step()

new_frames, new_events = make_event_frames(400, random_state=1)
with torch.no_grad():
    logits = encoder.eval()(torch.from_numpy(new_frames).permute(0, 3, 1, 2) / 255)[1]
print(f"accuracy for new single frames: {(logits.argmax(1).numpy() == new_events).mean():.2f}")

# %%
# Windows
# -------
#
# ``TSEExtractor`` slides a *window* over each video. Of each window it takes
# ``clip_length`` frames, evenly spaced, and encodes them; one window gives one frame of
# the sequence. With ``layout="BCHW"`` the encoder takes single images, and the
# embeddings of a window are averaged. Here a window lasts 0.4 s, and the next one
# starts 0.2 s later.

extractor = TSEExtractor(
    encoder,
    layout="BCHW",
    width="0.4s",
    stride="0.2s",
    clip_length=4,
    frame_size=64,
    store=Path(folder.name, "store"),
)
X = extractor.fit_transform(paths)
print(X)

# %%
# ``spans`` has begin and end of each window in seconds. The picture shows every fourth
# frame of one video; below it a bar for each window; and below that the last four
# features of the sequence, the logits, with one column per window. One can read in them
# what happens.

n_windows = len(X[0])
spans = X.spans[:n_windows]
shown = videos[0][::4]

figure, (top, middle, bottom) = plt.subplots(
    3, 1, figsize=(9, 6), height_ratios=[1, 2, 2], layout="constrained", sharex=True
)
duration = len(videos[0]) / 25
top.imshow(np.hstack(shown), extent=(0, 4 * len(shown) / 25, 0, 1), aspect="auto")
top.set(yticks=[], title="frames of a video")
middle.barh(np.arange(n_windows), spans[:, 1] - spans[:, 0], left=spans[:, 0], height=0.6)
middle.set(ylabel="window", ylim=(n_windows, -1), title="windows of 0.4 s every 0.2 s")
middle.locator_params(axis="y", integer=True)
centers = spans.mean(axis=1)
edges = np.append(centers - 0.1, centers[-1] + 0.1)
bottom.pcolormesh(edges, np.arange(5), X[0][:, -4:].T, cmap="viridis")
bottom.set(
    xlabel="time (s)", yticks=np.arange(4) + 0.5, yticklabels=EVENTS, title="logits of the windows"
)
bottom.invert_yaxis()
bottom.set_xlim(0, duration)
plt.show()

# %%
# Classify the sequences
# ----------------------
#
# The first 60 videos are for training. The baseline averages the embeddings of a video,
# which is the usual way to use an encoder; it cannot see the order.

train, test = np.arange(60), np.arange(60, 90)
averages = np.stack([x.mean(axis=0) for x in X])
baseline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
baseline.fit(averages[train], y[train])
clf = DejaVidClassifier(random_state=0).fit(X[train], y[train])

print("test accuracy (chance: 0.17)")
print(f"  average over time, logistic regression  {baseline.score(averages[test], y[test]):.2f}")
print(f"  DejaVidClassifier                       {clf.score(X[test], y[test]):.2f}")

# %%
# The data were made for this difference. Where a single frame shows the class, averages
# can be as good: try them first.
#
# The store
# ---------
#
# Encoding is the slow part, so the extractor has written its results to a folder, and
# does not encode a video twice, even in another process. As a proof, the videos are
# deleted here; their sequences are still there.

for path in paths:
    path.unlink()

again = extractor.transform(paths)
print("the same sequences:", np.array_equal(again.frames, X.frames))
print("complete:", TSEStore(Path(folder.name, "store")).is_complete)

folder.cleanup()
