"""
A Hugging Face encoder: what does it see?
=========================================

``TSEExtractor`` takes the name or the folder of a Hugging Face model, and prepares
frames as the processor that is stored with the model says. This example makes a tiny
VideoMAE with random weights, so that nothing is downloaded; with a real one only the
name changes. It then shows the pixels that the encoder gets, and measures what they are
worth.

To run it, ``pip install "skdejavid[plot,transformers,video]"``.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import (
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessorPil,
)
from transformers.utils.logging import disable_progress_bar

from skdejavid import DejaVidClassifier, TSEExtractor
from skdejavid.datasets import write_video
from skdejavid.video.contact_sheet import contact_sheet

torch.manual_seed(0)
torch.set_num_threads(1)  # so that the numbers are the same each time
disable_progress_bar()
folder = tempfile.TemporaryDirectory()

# %%
# A model in a folder
# -------------------
#
# ``save_pretrained`` writes the files that a model on the hub has too: settings,
# weights, and the settings of the processor.

model_folder = Path(folder.name, "tiny-videomae")
config = VideoMAEConfig(
    image_size=32,
    patch_size=16,
    num_frames=8,
    hidden_size=24,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_labels=5,
)
VideoMAEForVideoClassification(config).save_pretrained(model_folder)
VideoMAEImageProcessorPil(
    size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
).save_pretrained(model_folder)

for file in sorted(model_folder.iterdir()):
    print(file.name)

# %%
# Videos
# ------
#
# The videos are generated: a disc moves more or less to the left, to the right, up or
# down, with random color, size, speed and background.

DIRECTIONS = {"down": 90, "left": 180, "right": 0, "up": 270}  # degrees


def moving_disc(degrees, rng):
    """Return 25 to 50 frames of a disc that moves through the picture."""
    angle = np.radians(degrees + rng.uniform(-44, 44))
    way = rng.uniform(0.15, 0.3) * np.array([np.cos(angle), np.sin(angle)])
    center = rng.uniform(0.4, 0.6, size=2)
    color, background = rng.uniform(150, 255, size=3), rng.uniform(0, 90, size=3)
    radius = rng.uniform(0.1, 0.2)
    y, x = (np.mgrid[:64, :64] + 0.5) / 64
    frames = []
    for progress in np.linspace(-1, 1, rng.integers(25, 51)):
        at = center + progress * way
        is_disc = (x - at[0]) ** 2 + (y - at[1]) ** 2 < radius**2
        frame = np.where(is_disc[:, :, None], color, background) + rng.normal(0, 8, (64, 64, 3))
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    return np.stack(frames)


rng = np.random.default_rng(0)
y = np.repeat(list(DIRECTIONS), 22)
paths = [Path(folder.name, f"{i:03}.mp4") for i in range(len(y))]
for path, name in zip(paths, y, strict=True):
    write_video(path, moving_disc(DIRECTIONS[name], rng))

# %%
# Encode them
# -----------
#
# The folder, or a name such as ``"MCG-NJU/videomae-base-finetuned-kinetics"``, is all
# that the extractor needs: it takes the length of clips from the model, and size, mean
# and deviation from its processor. Without other parameters, 33 windows slide over each
# video, whatever its length.

extractor = TSEExtractor(model_folder)
X = extractor.fit_transform(paths)
print(X)

# %%
# Each frame of a sequence has the embedding (24 numbers) and the logits (5) of one
# window.
#
# Look at it
# ----------
#
# A contact sheet shows for some windows the frames as a player shows them, and below
# each of them the pixels that the encoder gets. Frames must be in order, upright and in
# the right colors. Here one sees that 32 x 32 pixels are few, but enough for the disc.
# ``skdejavid extract video.mp4 --encoder NAME --check sheet.png`` writes the same
# picture.

sheet = contact_sheet(extractor, paths[0], n_windows=3)
figure = plt.figure(figsize=(9, 9 * sheet.height / sheet.width), dpi=150)
ax = figure.add_axes((0, 0, 1, 1))
ax.imshow(sheet)
ax.axis("off")
plt.show()

# %%
# What is it worth?
# -----------------
#
# This encoder has never been trained, so its embeddings are random functions of the
# pixels, and the accuracies say nothing about VideoMAE. A clip of 8 frames contains
# motion, so even these embeddings have something of the direction. Their average over
# time keeps little of it; their sequence keeps it:

is_train = np.arange(len(y)) % 22 < 12
averages = np.stack([x.mean(axis=0) for x in X])
baseline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
baseline.fit(averages[is_train], y[is_train])
clf = DejaVidClassifier(random_state=0).fit(X[is_train], y[is_train])

print(f"test accuracy for {(~is_train).sum()} videos (chance: 0.25)")
for name, score in {
    "average over time, logistic regression": baseline.score(averages[~is_train], y[~is_train]),
    "DejaVidClassifier": clf.score(X[~is_train], y[~is_train]),
}.items():
    print(f"  {name:39} {score:.2f}")

folder.cleanup()
