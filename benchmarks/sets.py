"""Labeled ragged data sets: those that everybody has, and those in a folder."""

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
    """Sequences to learn from, and those to be judged by; values are float32."""

    X_train: TSEArray
    y_train: np.ndarray
    X_test: TSEArray
    y_test: np.ndarray

    def fold(self, number, n_folds):
        """One of the splits of the training part, for choices that must not see the test part."""
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
        train, test = list(folds.split(self.y_train, self.y_train))[number]
        X, y = self.X_train, self.y_train
        return LabeledSet(X[train], y[train], X[test], y[test])


def names(folder=None):
    """What `load` takes: files ``<name>.npz`` of the folder, or else what is bundled."""
    if folder is None:
        return [*BUNDLED, GENERATED]
    return sorted(path.stem for path in folder.glob("*.npz"))


def load(name, folder=None):
    """A set by its name.

    Files hold ``values_train``, ``offsets_train`` and ``y_train``, and the same with ``_test``.
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
    """A number that tells data of the same name apart."""
    X_train, y_train, X_test, y_test = load(name, folder)
    checksum = 0
    for array in (X_train.values, X_train.offsets, X_test.values, X_test.offsets):
        checksum = zlib.crc32(array, checksum)
    return zlib.crc32(repr([y_train.tolist(), y_test.tolist()]).encode(), checksum)
