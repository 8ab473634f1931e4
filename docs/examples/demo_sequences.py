"""Classify JapaneseVowels: 640 ragged sequences of 12 features, spoken by 9 men.

Prints the test accuracy of DejaVidClassifier with default parameters and of two baselines, and
saves a picture of one alignment and its weights.
"""

import argparse
import time
import warnings
from pathlib import Path

import matplotlib
import numpy as np
from aeon.datasets import load_japanese_vowels
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import top_k_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdejavid import AlignmentDisplay, DejaVidClassifier, TSEArray

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="h5py not installed")
    from tslearn.neighbors import KNeighborsTimeSeriesClassifier
    from tslearn.utils import to_time_series_dataset


def accuracy_of_means(X_train, y_train, X_test, y_test):
    """Return the accuracy of logistic regression on the mean over time."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    train, test = (np.stack([x.mean(axis=0) for x in X]) for X in (X_train, X_test))
    return model.fit(train, y_train).score(test, y_test)


def accuracy_of_nearest_neighbor(X_train, y_train, X_test, y_test):
    """Return the accuracy of 1-nearest-neighbor with tslearn's DTW on standardized features."""
    scaler = StandardScaler().fit(X_train.frames)
    train, test = (
        to_time_series_dataset([scaler.transform(x) for x in X]) for X in (X_train, X_test)
    )
    return KNeighborsTimeSeriesClassifier(n_neighbors=1).fit(train, y_train).score(test, y_test)


def main(output, seeds):
    """Run the demonstration and save its picture in the folder `output`."""
    (X_train, y_train), (X_test, y_test) = (
        (TSEArray.from_aeon(X), y) for X, y in map(load_japanese_vowels, ("train", "test"))
    )
    print("JapaneseVowels")
    print(f"  training {X_train}")
    print(f"  test     {X_test}")
    print("test accuracy")
    for name, baseline in {
        "mean over time + logistic regression": accuracy_of_means,
        "1-nearest-neighbor DTW (tslearn)": accuracy_of_nearest_neighbor,
    }.items():
        print(f"  {baseline(X_train, y_train, X_test, y_test):.4f}  {name}")
    for seed in seeds:
        begin = time.perf_counter()
        clf = DejaVidClassifier(random_state=seed).fit(X_train, y_train)
        seconds = time.perf_counter() - begin
        top_2 = top_k_accuracy_score(y_test, clf.decision_function(X_test), k=2)
        print(
            f"  {clf.score(X_test, y_test):.4f}  DejaVidClassifier(random_state={seed}), "
            f"top-2 {top_2:.4f}, fitted in {seconds:.1f} s"
        )

    output.mkdir(parents=True, exist_ok=True)
    picture = output / "alignment.png"
    AlignmentDisplay.from_estimator(clf, X_test[0]).figure_.savefig(picture, dpi=120)
    print(f"picture of one alignment and its weights: {picture}")


if __name__ == "__main__":
    matplotlib.use("Agg")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    main(arguments.output, arguments.seeds)
