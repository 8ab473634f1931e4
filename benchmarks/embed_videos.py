"""Write embeddings of labeled videos to a file for `evaluate.py`.

    python benchmarks/embed_videos.py path/to/videos encoder.py:load weights.pt target.npz

The folder contains ``labels.csv`` with the columns path, label and split. Videos with split "train"
form the training set, all others the test set. The function of the Python file is called with the
file of weights and returns the encoder: a module that takes images in [-1, 1], (batch, 3, height,
width), and returns their embeddings, or a tuple whose first item they are.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from skdejavid import TSEExtractor
from skdejavid.video.named_code import call_named


def main():
    """Encode every second frame of every video."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("encoder")
    parser.add_argument("weights")
    parser.add_argument("target", type=Path)
    parser.add_argument("--stride", type=int, default=2)
    arguments = parser.parse_args()

    extractor = TSEExtractor(
        call_named(arguments.encoder, arguments.weights),
        features="embedding",
        width=1,
        stride=arguments.stride,
        clip_length=1,
        layout="BCHW",
        mean=0.5,
        std=0.5,
        batch_size=32,
        verbose=1,
    )
    with (arguments.videos / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    arrays = {}
    for part in ("train", "test"):
        chosen = [row for row in rows if (row["split"] == "train") == (part == "train")]
        X = extractor.fit_transform([arguments.videos / row["path"] for row in chosen])
        arrays[f"values_{part}"], arrays[f"offsets_{part}"] = X.frames, X.offsets
        arrays[f"y_{part}"] = np.array([row["label"] for row in chosen])
    np.savez(arguments.target, **arrays)


if __name__ == "__main__":
    main()
