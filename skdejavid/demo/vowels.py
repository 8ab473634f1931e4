"""Classify JapaneseVowels: 640 sequences of differing length, spoken by nine men.

The test accuracy of DejaVidClassifier with default parameters is compared with that of two
baselines, and one alignment is drawn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import AlignmentDisplay, DejaVidClassifier, Framewise, TSEArray, dtw_distances
from skdejavid.datasets import load_japanese_vowels
from skdejavid.demo.pictures import save_picture

__all__ = ["classify_vowels"]

_Data: TypeAlias = tuple[TSEArray, NDArray[Any], TSEArray, NDArray[Any]]


def classify_vowels(folder: Path, seeds: Sequence[int] = (0, 1, 2)) -> Path | None:
    """Print the accuracies, and return the path of a picture in a folder.

    Returns
    -------
    Path or None
        The picture; None without matplotlib.
    """
    X_train, y_train, X_test, y_test = load_japanese_vowels()
    data = TSEArray(X_train), y_train, TSEArray(X_test), y_test
    print("JapaneseVowels: which of nine men says two vowels?")
    print(f"  training {data[0]}")
    print(f"  test     {data[2]}")
    print("test accuracy")
    _report("mean over time + logistic regression", _score_means, data)
    _report("1-nearest neighbor with DTW", _score_nearest_neighbor, data)
    for seed in seeds:
        clf = DejaVidClassifier(random_state=seed)
        _report(f"DejaVidClassifier(random_state={seed})", _scorer(clf), data)
    return save_picture(
        folder / "alignment.png", lambda: AlignmentDisplay.from_estimator(clf, X_test[0])
    )


def _report(name: str, score: Callable[..., float], data: _Data) -> None:
    begin = time.perf_counter()
    accuracy = score(*data)
    seconds = time.perf_counter() - begin
    print(f"  {accuracy:.4f}  {name}, {seconds:.1f} s", flush=True)


def _scorer(clf: DejaVidClassifier) -> Callable[..., float]:
    """Return a function that fits a classifier and returns its test accuracy."""

    def score(
        X_train: TSEArray, y_train: NDArray[Any], X_test: TSEArray, y_test: NDArray[Any]
    ) -> float:
        return clf.fit(X_train, y_train).score(X_test, y_test)

    return score


def _score_means(
    X_train: TSEArray, y_train: NDArray[Any], X_test: TSEArray, y_test: NDArray[Any]
) -> float:
    """Return the accuracy of logistic regression on the mean over time."""
    train, test = (np.stack([x.mean(axis=0) for x in X]) for X in (X_train, X_test))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return model.fit(train, y_train).score(test, y_test)


def _score_nearest_neighbor(
    X_train: TSEArray, y_train: NDArray[Any], X_test: TSEArray, y_test: NDArray[Any]
) -> float:
    """Return the accuracy of the nearest neighbor by unweighted DTW on standardized features."""
    scaler = Framewise(StandardScaler()).fit(X_train)
    train, test = scaler.transform(X_train), scaler.transform(X_test)
    between, to_train = (
        np.hstack([dtw_distances(X, x[None]) for x in train]) for X in (train, test)
    )
    model = KNeighborsClassifier(n_neighbors=1, metric="precomputed")
    return model.fit(between, y_train).score(to_train, y_test)
