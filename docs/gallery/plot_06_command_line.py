"""
From a folder of videos to predictions, on the command line
===========================================================

The command ``skdejavid`` needs a folder of videos, with one subfolder per class, and an
encoder. It writes the embeddings to a store and the model to a file, and predicts the
classes of new videos. The commands on this page are run as they are printed. What they
write to standard output is shown; progress bars go to standard error and are not.

To run it, ``pip install "skdejavid[cli,plot]" pandas``.
"""

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import TSEStore
from skdejavid.datasets import write_video

# sphinx_gallery_thumbnail_number = 2

folder = tempfile.TemporaryDirectory()
root = Path(folder.name)


def run(command):
    """Run a command line in the folder, and print it with its output."""
    print(f"$ {command}")
    arguments = [sys.executable, "-m", *shlex.split(command)]
    done = subprocess.run(arguments, cwd=root, check=True, text=True, capture_output=True)
    print(done.stdout)


# %%
# A folder of videos
# ------------------
#
# The videos are generated: a disc moves more or less to the left, to the right, up or
# down, with random color, size, speed and background. Each direction is a subfolder.
# Both directions of an axis visit the same places, so a single frame does not show the
# class.

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
for part, n_videos in {"train": 6, "new": 10}.items():
    for name, degrees in DIRECTIONS.items():
        (root / part / name).mkdir(parents=True)
        for i in range(n_videos):
            write_video(root / part / name / f"{i:02}.mp4", moving_disc(degrees, rng))

examples = [moving_disc(degrees, np.random.default_rng(1)) for degrees in DIRECTIONS.values()]
figure, axes = plt.subplots(4, 6, figsize=(7, 5), layout="constrained")
for row, name, video in zip(axes, DIRECTIONS, examples, strict=True):
    for ax, at in zip(row, np.linspace(0, len(video) - 1, 6).astype(int), strict=True):
        ax.imshow(video[at])
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)
figure.suptitle("six moments of one video of each class")
plt.show()

# %%
# An encoder
# ----------
#
# ``--encoder`` is the name of a Hugging Face model, or a function in a file of yours
# that returns a torch module. This one shrinks each frame to 8 x 8 gray pixels. It is
# meant for discs, and for nothing else.

ENCODER = """\
import torch


class Thumbnail(torch.nn.Module):
    def forward(self, images):
        gray = images.mean(dim=1, keepdim=True)
        return torch.nn.functional.adaptive_avg_pool2d(gray, 8).flatten(1)


def load():
    return Thumbnail()
"""
with open(root / "encoder.py", "w") as file:
    file.write(ENCODER)

# %%
# Extract, fit, evaluate
# ----------------------
#
# ``extract`` encodes all videos below the folder into a store. Repeated after an
# interruption, it resumes. ``--layout BCHW`` says that the encoder takes single images.

run(
    "skdejavid extract train -o store --encoder encoder.py:load"
    " --layout BCHW --frame-size 64 --clip-length 4"
)

# %%
# ``fit`` takes the labels from the names of the subfolders:

run("skdejavid fit store -o model.safetensors")

# %%
# Predict new videos
# ------------------
#
# The model file contains the settings of the extraction, so that new videos are encoded
# in the same way. Only the encoder has to be named again.

run(
    "skdejavid predict model.safetensors new --encoder encoder.py:load"
    " --probabilities -o predictions.csv"
)
predictions = pd.read_csv(root / "predictions.csv")
print(predictions.iloc[::8, :3].round(2).to_string(index=False))

# %%
# Where the new videos have labels too, ``extract`` and ``evaluate`` measure the model:

run(
    "skdejavid extract new -o new_store --encoder encoder.py:load"
    " --layout BCHW --frame-size 64 --clip-length 4"
)
run("skdejavid evaluate model.safetensors new_store")

# %%
# A store can also be read in Python, here for a baseline: a logistic regression of the
# average embedding of each video. An average can show along which axis the disc moved,
# but not in which direction.

stores = [TSEStore(root / name) for name in ("store", "new_store")]
averages, labels = zip(
    *[(np.stack([x.mean(axis=0) for x in store.sequences()]), store.labels) for store in stores],
    strict=True,
)
baseline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
accuracy = baseline.fit(averages[0], labels[0]).score(averages[1], labels[1])
print(f"accuracy of the averages: {accuracy:.2f} (chance: 0.25)")

# %%
# Look at the predictions
# -----------------------
#
# On the left the confusion matrix, on the right the probability of each class for each
# new video. The probabilities show how sure the model is; a row with two bright cells
# is a video to look at.

true = [Path(path).parent.name for path in predictions.iloc[:, 0]]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
ConfusionMatrixDisplay.from_predictions(
    true, predictions["label"], ax=left, cmap="Blues", colorbar=False
)
left.set(xlabel="predicted direction", ylabel="direction", title="new videos")
columns = [f"probability of {name}" for name in DIRECTIONS]
probabilities = predictions[columns].to_numpy()
image = right.imshow(probabilities, aspect="auto", vmin=0, vmax=1)
right.set(xlabel="class", ylabel="video, sorted by class", title="probabilities")
right.set_xticks(range(4), DIRECTIONS)
figure.colorbar(image, label="probability")
plt.show()

folder.cleanup()
