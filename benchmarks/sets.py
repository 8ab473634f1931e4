"""Labeled ragged data sets: bundled with aeon, generated, or in a folder."""

import zlib
from typing import NamedTuple

import numpy as np
from aeon import datasets
from sklearn.model_selection import StratifiedKFold

from skdejavid import TSEArray
from skdejavid.datasets import make_order_sequences

BUNDLED = {
    "BasicMotions": datasets.load_basic_motions,
    "GunPoint": datasets.load_gunpoint,
    "JapaneseVowels": datasets.load_japanese_vowels,
}
GENERATED = "OrderOfEvents"


class LabeledSet(NamedTuple):
    """Training and test sequences, float32, with their labels."""

    X_train: TSEArray
    y_train: np.ndarray
    X_test: TSEArray
    y_test: np.ndarray

    def fold(self, number, n_folds):
        """Return one split of the training part, for model selection without the test part."""
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
        train, test = list(folds.split(self.y_train, self.y_train))[number]
        X, y = self.X_train, self.y_train
        return LabeledSet(X[train], y[train], X[test], y[test])


def names(folder=None):
    """Return the names that `load` accepts: files ``<name>.npz`` of a folder, or bundled sets."""
    if folder is None:
        return [*BUNDLED, GENERATED]
    return sorted(path.stem for path in folder.glob("*.npz"))


def load(name, folder=None):
    """Load a set by its name.

    Files contain ``values_train``, ``offsets_train`` and ``y_train``, and the same with ``_test``.
    """
    if folder is not None:
        with np.load(folder / f"{name}.npz") as data:
            parts = [
                (
                    TSEArray.from_packed(data[f"values_{part}"], data[f"offsets_{part}"]),
                    data[f"y_{part}"],
                )
                for part in ("train", "test")
            ]
    elif name == GENERATED:
        parts = [make_order_sequences(n, random_state=i) for i, n in enumerate((90, 300))]
    else:
        loaded = (BUNDLED[name](part) for part in ("train", "test"))
        parts = [(TSEArray.from_aeon(X), y) for X, y in loaded]
    (X_train, y_train), (X_test, y_test) = parts
    return LabeledSet(X_train.astype(np.float32), y_train, X_test.astype(np.float32), y_test)


def fingerprint(name, folder=None):
    """Return a checksum that distinguishes different data of the same name."""
    X_train, y_train, X_test, y_test = load(name, folder)
    checksum = 0
    for array in (X_train.frames, X_train.offsets, X_test.frames, X_test.offsets):
        checksum = zlib.crc32(array, checksum)
    return zlib.crc32(repr([y_train.tolist(), y_test.tolist()]).encode(), checksum)
